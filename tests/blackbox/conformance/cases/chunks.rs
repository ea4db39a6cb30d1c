//! The chunked coding, character by character (RFC 9112 §7.1).

use super::super::case::{Case, Genuine, bad, good, smuggled};

pub fn cases() -> Vec<Case> {
    let mut cases = sound();
    for (what, frame) in [
        ("an empty size line in place of the last chunk", "CHUNK\r\n\r\n"),
        ("an empty size line before the first chunk", "\r\nCHUNK0\r\n\r\n"),
        ("a size that is no number", "x\r\nBODY\r\n0\r\n\r\n"),
        ("a negative size", "-SIZE\r\nBODY\r\n0\r\n\r\n"),
        ("a size with a sign", "+SIZE\r\nBODY\r\n0\r\n\r\n"),
        ("a size with 0x", "0xSIZE\r\nBODY\r\n0\r\n\r\n"),
        ("a size with an underscore", "0_SIZE\r\nBODY\r\n0\r\n\r\n"),
        ("a size in quotes", "\"SIZE\"\r\nBODY\r\n0\r\n\r\n"),
        ("a size of 2^64 + 5", "10000000000000005\r\nBODY\r\n0\r\n\r\n"),
        ("a size of 2^64 - 1", "ffffffffffffffff\r\nBODY\r\n0\r\n\r\n"),
        ("a size of 2^63", "8000000000000000\r\nBODY\r\n0\r\n\r\n"),
        ("a size of twenty zeros", "00000000000000000000\r\n\r\n"),
        ("a space before the size", " SIZE\r\nBODY\r\n0\r\n\r\n"),
        ("a space behind the size", "SIZE \r\nBODY\r\n0\r\n\r\n"),
        ("a tab behind the size", "SIZE\t\r\nBODY\r\n0\r\n\r\n"),
        ("a space before an extension", "SIZE ;a\r\nBODY\r\n0\r\n\r\n"),
        ("a space within an extension", "SIZE;a =b\r\nBODY\r\n0\r\n\r\n"),
        ("an extension without a name", "SIZE;\r\nBODY\r\n0\r\n\r\n"),
        ("an extension without its value", "SIZE;a=\r\nBODY\r\n0\r\n\r\n"),
        ("an extension with an open quote", "SIZE;a=\"b\r\nBODY\r\n0\r\n\r\n"),
        ("an extension with a control character", "SIZE;a=\u{1}\r\nBODY\r\n0\r\n\r\n"),
        ("an extension with NUL", "SIZE;a\0\r\nBODY\r\n0\r\n\r\n"),
        ("an extension with a bare carriage return", "SIZE;a\rb\r\nBODY\r\n0\r\n\r\n"),
        ("an extension with a bare line feed", "SIZE;a\nb\r\nBODY\r\n0\r\n\r\n"),
        ("a size line with a bare line feed", "SIZE\nBODY\r\n0\r\n\r\n"),
        ("a size line with two carriage returns", "SIZE\r\r\nBODY\r\n0\r\n\r\n"),
        ("data longer than its size", "1\r\nBODY\r\n0\r\n\r\n"),
        ("data with a bare line feed behind it", "SIZE\r\nBODY\n0\r\n\r\n"),
        ("data with a bare carriage return behind it", "SIZE\r\nBODY\r0\r\n\r\n"),
        ("data with nothing behind it", "SIZE\r\nBODY0\r\n\r\n"),
        ("only bare line feeds in chunks", "SIZE\nBODY\n0\n\n"),
        ("a last chunk with a bare line feed", "CHUNK0\n\r\n"),
        ("a bare line feed behind the last chunk", "CHUNK0\r\n\n"),
        ("a trailer without a colon", "CHUNK0\r\nX\r\n\r\n"),
        ("a trailer with a space before its colon", "CHUNK0\r\nX : 1\r\n\r\n"),
        ("a folded trailer", "CHUNK0\r\nX: 1\r\n 2\r\n\r\n"),
        ("a trailer with a bare line feed", "CHUNK0\r\nX: 1\nY: 2\r\n\r\n"),
        ("a trailer with NUL", "CHUNK0\r\nX: \0\r\n\r\n"),
        ("Content-Length as trailer", "CHUNK0\r\nContent-Length: 5\r\n\r\n"),
        ("Transfer-Encoding as trailer", "CHUNK0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("Host as trailer", "CHUNK0\r\nHost: other.example\r\n\r\n"),
        ("a request in place of a trailer", "CHUNK0\r\nGET / HTTP/1.1\r\n\r\n"),
        ("no chunks but the body itself", "BODY"),
    ] {
        let genuine = Genuine::new();
        cases.push(bad(what, genuine.chunks(&fill(frame, &genuine))));
    }
    let hidden = Genuine::new().chunks(&format!("\r\n\r\n{}", smuggled()));
    cases.push(bad("an empty size line that hides a request", hidden));
    let endless = Genuine::new().chunks(&format!("5;{}", "a".repeat(2000)));
    cases.push(bad("an extension without end", endless));
    let endless = Genuine::new().chunks(&format!("0\r\nX: {}", "a".repeat(2000)));
    cases.push(bad("a trailer without end", endless));
    let many = Genuine::new().chunks(&format!("1;{}\r\nx\r\n", "a".repeat(900)).repeat(10));
    cases.push(bad("more extensions than 8 KiB", many));
    let many = Genuine::new().chunks(&format!("0\r\n{}", format!("X: {}\r\n", "a".repeat(900)).repeat(10)));
    cases.push(bad("more trailers than 8 KiB", many));
    let genuine = Genuine::new();
    let cut = genuine.chunks(&genuine.chunk());
    cases
        .push(Case::new("a body cut off before its last chunk").send(cut).end_of_sending().refused(400, "bad_request"));
    let cut = Genuine::new().chunks("ff\r\nhello");
    cases.push(Case::new("a body cut off in a chunk").send(cut).end_of_sending().refused(400, "bad_request"));
    let cut = genuine.chunks(&format!("{}0\r\n", genuine.chunk()));
    cases.push(Case::new("a body cut off in its last line end").send(cut).end_of_sending().refused(400, "bad_request"));
    cases
}

fn fill(frame: &str, genuine: &Genuine) -> String {
    let size = format!("{:x}", genuine.body.len());
    frame.replace("CHUNK", &genuine.chunk()).replace("SIZE", &size).replace("BODY", &genuine.body)
}

fn sound() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, frame) in [
        ("a size in capitals with leading zeros", "000SIZE\r\nBODY\r\n0\r\n\r\n"),
        ("a last chunk of several zeros", "CHUNK000\r\n\r\n"),
        ("extensions of every kind", "SIZE;a;b=c;d=\"e \\\"f\";g\r\nBODY\r\n0;h=i\r\n\r\n"),
        ("trailers, which are dropped", "CHUNK0\r\nX-Checksum: 1\r\nTelnyx-Timestamp: 1\r\n\r\n"),
    ] {
        let genuine = Genuine::new();
        let frame =
            if what.contains("capitals") { fill(frame, &genuine).to_uppercase() } else { fill(frame, &genuine) };
        let frame = frame.replace(&genuine.body.to_uppercase(), &genuine.body);
        cases.push(good(what, &genuine, genuine.chunks(&frame)));
    }
    let genuine = Genuine::new();
    let bytes: String = genuine.body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    cases.push(good("chunks of one byte", &genuine, genuine.chunks(&format!("{bytes}0\r\n\r\n"))));
    let genuine = Genuine { body: format!("\r\n0\r\n\r\n{}", Genuine::new().body) };
    let frame = format!("{}0\r\n\r\n", genuine.chunk());
    cases.push(good("data that looks like the end", &genuine, genuine.chunks(&frame)));
    let genuine = Genuine::new();
    let wire = genuine.chunks(&format!("{}0\r\n\r\n", genuine.chunk()));
    for behind_header in [0, 1, 2, 3, 20] {
        let split = wire.find("\r\n\r\n").unwrap() + 4 + behind_header;
        let genuine = Genuine::new();
        let wire = genuine.chunks(&format!("{}0\r\n\r\n", genuine.chunk()));
        let case = Case::new(format!("chunks that come in two pieces, {behind_header} bytes behind the header"));
        cases.push(case.send(&wire[..split]).pause().send(&wire[split..]).accepted(&genuine));
    }
    for left in 1..=5 {
        let genuine = Genuine::new();
        let wire = genuine.chunks(&format!("{}0\r\n\r\n", genuine.chunk()));
        let split = wire.len() - left;
        let case = Case::new(format!("chunks whose last {left} bytes come later"));
        cases.push(case.send(&wire[..split]).pause().send(&wire[split..]).accepted(&genuine));
    }
    cases
}
