//! Where a message ends: one Content-Length, or a single `chunked`, never both (RFC 9112 §6).

use super::super::case::{Case, Genuine, bad, good};

const TE: &str = "Transfer-Encoding";

pub fn cases() -> Vec<Case> {
    let mut cases = both();
    cases.extend(codings());
    cases.extend(lengths());
    let genuine = Genuine::new();
    cases.push(good("a Content-Length", &genuine, genuine.with("")));
    let genuine = Genuine::new();
    cases.push(good("a chunked body", &genuine, genuine.chunks(&format!("{}0\r\n\r\n", genuine.chunk()))));
    let genuine = Genuine::new();
    let capitals = genuine.framed("TRANSFER-ENCODING:\tCHUNKED \r\n", &format!("{}0\r\n\r\n", genuine.chunk()));
    cases.push(good("a chunked body in capitals", &genuine, capitals));
    let genuine = Genuine::new();
    let zeros = genuine.framed(&format!("Content-Length: 000{}\r\n", genuine.body.len()), &genuine.body);
    cases.push(bad("a Content-Length with leading zeros", zeros));
    let empty = Genuine { body: String::new() };
    cases.push(Case::new("a POST without any framing").send(empty.framed("", "")).accepted(&empty));
    cases.push(good("a Content-Length of 0", &empty, empty.with("")));
    cases.push(good("an empty chunked body", &empty, empty.chunks("0\r\n\r\n")));
    cases
}

fn both() -> Vec<Case> {
    let framed = |framing: &str| {
        let genuine = Genuine::new();
        let framing = framing.replace("LENGTH", &genuine.body.len().to_string());
        genuine.framed(&framing, &format!("{}0\r\n\r\n", genuine.chunk()))
    };
    let mut cases = vec![
        bad("Content-Length, then Transfer-Encoding", framed(&format!("Content-Length: LENGTH\r\n{TE}: chunked\r\n"))),
        bad("Transfer-Encoding, then Content-Length", framed(&format!("{TE}: chunked\r\nContent-Length: LENGTH\r\n"))),
        bad("Transfer-Encoding and a Content-Length of 0", framed(&format!("{TE}: chunked\r\nContent-Length: 0\r\n"))),
        bad("Content-Length and an unknown coding", framed(&format!("Content-Length: LENGTH\r\n{TE}: xchunked\r\n"))),
        bad("Content-Length and an empty coding", framed(&format!("Content-Length: LENGTH\r\n{TE}: \r\n"))),
        bad("Content-Length and identity", framed(&format!("Content-Length: LENGTH\r\n{TE}: identity\r\n"))),
        bad(
            "Content-Length and Transfer-Encoding with a space before its colon",
            framed(&format!("Content-Length: LENGTH\r\n{TE} : chunked\r\n")),
        ),
        bad(
            "Content-Length and a folded Transfer-Encoding",
            framed(&format!("Content-Length: LENGTH\r\n{TE}:\r\n chunked\r\n")),
        ),
        bad("Content-Length and Transfer_Encoding", framed("Content-Length: LENGTH\r\nTransfer_Encoding: chunked\r\n")),
        bad("Transfer-Encoding and Content_Length", framed(&format!("{TE}: chunked\r\nContent_Length: LENGTH\r\n"))),
    ];
    let old = framed(&format!("Content-Length: LENGTH\r\n{TE}: chunked\r\n")).replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(bad("both in HTTP/1.0", old));
    cases
}

fn codings() -> Vec<Case> {
    let framed = |framing: &str| {
        let genuine = Genuine::new();
        genuine.framed(framing, &format!("{}0\r\n\r\n", genuine.chunk()))
    };
    let codings = [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "gzip",
        "chunked;x=1",
        "\"chunked\"",
        "'chunked'",
        ",chunked",
        "chunked,",
        "",
        "x",
        "xchunked",
        "chunkedx",
        "chunked\u{b}",
        "\u{b}chunked",
        "chun\u{7f}ked",
        "chünked",
        "c hunked",
    ];
    let mut cases: Vec<_> = codings
        .iter()
        .map(|coding| {
            let what = format!("the transfer coding `{}`", coding.escape_default());
            bad(what, framed(&format!("{TE}: {coding}\r\n")))
        })
        .collect();
    cases.push(bad("two chunked lines", framed(&format!("{TE}: chunked\r\n{TE}: chunked\r\n"))));
    cases.push(bad("chunked and identity lines", framed(&format!("{TE}: chunked\r\n{TE}: identity\r\n"))));
    cases.push(bad("an empty and a chunked line", framed(&format!("{TE}:\r\n{TE}: chunked\r\n"))));
    let old = framed(&format!("{TE}: chunked\r\n")).replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(bad("a chunked body in HTTP/1.0", old));
    cases
}

fn lengths() -> Vec<Case> {
    let values = [
        "+5",
        "-5",
        "0x5",
        "5.0",
        "5e0",
        "5 5",
        "5,5",
        "5,6",
        "",
        "five",
        "5;",
        "\"5\"",
        "5_0",
        "99999999999999999999999",
        "５",
        "5\u{b}",
    ];
    let mut cases: Vec<_> = values
        .iter()
        .map(|value| {
            let what = format!("the Content-Length `{}`", value.escape_default());
            bad(what, Genuine::new().framed(&format!("Content-Length: {value}\r\n"), "hello"))
        })
        .collect();
    let two = |first: usize, second: usize| {
        let genuine = Genuine::new();
        let length = genuine.body.len();
        let lines = format!("Content-Length: {}\r\nContent-Length: {}\r\n", length + first, length + second);
        genuine.framed(&lines, &genuine.body)
    };
    cases.push(bad("the same Content-Length twice", two(0, 0)));
    cases.push(bad("two Content-Lengths, the first right", two(0, 1)));
    cases.push(bad("two Content-Lengths, the second right", two(1, 0)));
    cases.push(bad(
        "a space before the colon of Content-Length",
        Genuine::new().framed("Content-Length : 5\r\n", "hello"),
    ));
    let two_pow_64 = Genuine::new().framed("Content-Length: 18446744073709551616\r\n", "hello");
    cases.push(bad("a Content-Length of 2^64", two_pow_64));
    cases
}
