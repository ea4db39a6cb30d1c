//! Pairs: a first request that two parsers could end at different places, and in what one of them
//! would take for its body or for the next request, a genuine event that must not arrive.

use super::super::case::{Case, Genuine, bad, smuggled};
use crate::harness::event::{HOST, TARGET};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let hidden = smuggled;
    let pair = |lines: &str, behind: &str| Genuine::new().framed(lines, behind);

    cases.push(bad("CL.TE", {
        let behind = format!("0\r\n\r\n{}", hidden());
        pair(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", behind.len()), &behind)
    }));
    cases.push(bad("TE.CL", {
        let inner = hidden();
        let behind = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        pair("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &behind)
    }));
    for (what, lines) in [
        ("TE.TE with a second, unknown coding", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
        ("TE.TE with a space before the colon", "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with a tab in the value", "Transfer-Encoding:\tx\tchunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with a folded value", "Transfer-Encoding: x\r\n chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE behind a bare line feed", "X: x\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE behind a bare carriage return", "X: x\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with NUL", "Transfer-Encoding: chunked\0\r\nContent-Length: 4\r\n"),
        ("TE.TE with a line end of its own", "Transfer-Encoding:\n chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with a control character", "Transfer-Encoding: \u{1}chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with a no-break space", "Transfer-Encoding:\u{a0}chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with a quoted coding", "Transfer-Encoding: \"chunked\"\r\nContent-Length: 4\r\n"),
        ("TE.TE with two codings", "Transfer-Encoding: identity, chunked\r\nContent-Length: 4\r\n"),
        ("TE.TE with an underscore", "Transfer_Encoding: chunked\r\nContent-Length: 4\r\n"),
        ("CL.CL, short first", "Content-Length: 4\r\nContent-Length: 400\r\n"),
        ("CL.CL, long first", "Content-Length: 400\r\nContent-Length: 4\r\n"),
        ("CL.CL as a list", "Content-Length: 4, 400\r\n"),
        ("CL.CL with an underscore", "Content-Length: 4\r\nContent_Length: 400\r\n"),
        ("CL with a sign", "Content-Length: +4\r\n"),
        ("CL folded", "Content-Length: 4\r\n 00\r\n"),
        ("CL with a bare carriage return", "Content-Length: 4\r00\r\n"),
    ] {
        let inner = hidden();
        cases.push(bad(what, pair(lines, &format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()))));
    }
    // CL.0: a front that takes the length for none would see two requests; there is one.
    cases.push({
        let body = hidden();
        let outer = Genuine { body };
        Case::new("CL.0: a whole request as a signed body").send(outer.with("")).accepted_at(TARGET, &outer.body)
    });
    // 0.CL and pauses: no length at all means no body, and what follows is a request of its own.
    cases.push({
        let inner = Genuine::new();
        let outer = format!("GET {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n\r\n{}", inner.with(""));
        let case = Case::new("a GET without a length and an event behind it").send(outer);
        case.refused(405, "method_not_allowed").accepted(&inner)
    });
    cases.push({
        let inner = hidden();
        let outer = format!("GET {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        Case::new("a GET whose body is a request").send(outer).refused(405, "method_not_allowed")
    });
    cases.push({
        let inner = hidden();
        let outer = format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        Case::new("an unsigned POST whose body is a request").send(outer).refused(403, "signature_missing")
    });
    cases.push({
        let inner = hidden();
        let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        let outer = format!("PUT {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        Case::new("a PUT whose chunk is a request").send(outer).refused(405, "method_not_allowed")
    });
    cases.push({
        let forged = Genuine { body: hidden() };
        let lines = forged.with("");
        let bytes = lines.replacen("Telnyx-Timestamp: 1", "Telnyx-Timestamp: 2", 1);
        Case::new("a forged POST whose body is a request").send(bytes).refused(403, "signature_mismatch").usable()
    });
    cases.push(bad("a header that ends twice", {
        let inner = Genuine::new();
        inner.with("").replacen("\r\n\r\n", "\r\n\n\r\n", 1)
    }));
    cases.push(bad("a Content-Length of 0 that hides chunks", {
        let genuine = Genuine::new();
        genuine.framed("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", &genuine.chunk())
    }));
    cases.push({
        let genuine = Genuine::new();
        let short = genuine.framed(&format!("Content-Length: {}\r\n", genuine.body.len() - 1), &genuine.body);
        let case = Case::new("a body longer than its length").send(short);
        case.refused(403, "signature_mismatch").refused(400, "bad_request")
    });
    cases.push({
        let (first, second) = (Genuine::new(), Genuine::new());
        let chunked = first.chunks(&format!("{}0\r\n\r\n{}", first.chunk(), second.with("")));
        Case::new("an event behind the end of chunks").send(chunked).accepted(&first).accepted(&second)
    });
    cases
}
