//! Sizes and numbers, both sides of each bound (see `SMALL_LIMITS`).

use super::super::case::{Case, Genuine, good};
use crate::harness::event::{HOST, TARGET};

pub fn cases(scheme: &str) -> Vec<Case> {
    let mut cases = targets(scheme);
    cases.extend(headers());
    cases.extend(bodies());
    cases
}

fn targets(scheme: &str) -> Vec<Case> {
    let target = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    let line = |target: &str| format!("POST {target} HTTP/1.1");
    let genuine = Genuine::new();
    let fits = Case::new("a target of uri_bytes").send(genuine.line(&line(&target(256))));
    let over = |what: &str, bytes: &str| Case::new(what).send(bytes).refused(414, "uri_too_long");
    let absolute = format!("{scheme}://{HOST}{}", target(257 - scheme.len() - "://".len() - HOST.len()));
    vec![
        fits.accepted_at(&target(256), &genuine.body),
        over("a target of uri_bytes and one", &Genuine::new().line(&line(&target(257)))),
        over("an absolute target of uri_bytes and one", &Genuine::new().line(&line(&absolute))),
        over("a target of 20,000 bytes", &Genuine::new().line(&line(&target(20_000)))),
        over("a target without end", &format!("POST {}", target(257))),
        over("a query of 300 bytes", &Genuine::new().line(&line(&format!("/?{}", "x".repeat(300))))),
    ]
}

fn headers() -> Vec<Case> {
    let padded = |genuine: &Genuine, bytes: usize| {
        let bare = genuine.with("X-Pad: \r\n");
        let head = bare.len() - genuine.body.len();
        genuine.with(&format!("X-Pad: {}\r\n", "x".repeat(bytes - head)))
    };
    let over = |what: &str, bytes: String| Case::new(what).send(bytes).refused(431, "headers_too_large");
    // Host, Content-Length, Content-Type and the two of Telnyx are five.
    let fields =
        |genuine: &Genuine, more: usize| genuine.with(&(0..more).map(|n| format!("X-{n}: 1\r\n")).collect::<String>());
    let (fits, count) = (Genuine::new(), Genuine::new());
    vec![
        good("a header of header_bytes", &fits, padded(&fits, 2048)),
        over("a header of header_bytes and one", padded(&Genuine::new(), 2049)),
        over("a header of 60,000 bytes", padded(&Genuine::new(), 60_000)),
        over("a header without end", format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(2048))),
        over("a name without end", format!("POST / HTTP/1.1\r\n{}", "x".repeat(2048))),
        Case::new("a header that never ends while the answer is read")
            .send(format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n"))
            .meanwhile("X-More: 0123456789\r\n".repeat(400_000))
            .refused(431, "headers_too_large"),
        good("header_count fields", &count, fields(&count, 15)),
        over("header_count fields and one", fields(&Genuine::new(), 16)),
        over("150 short fields", fields(&Genuine::new(), 150)),
    ]
}

fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    let over = |what: &str, bytes: &[u8]| Case::new(what).send(bytes).refused(413, "body_too_large");
    let genuine = Genuine::of_bytes(4096);
    cases.push(good("a body of max_body", &genuine, genuine.with("")));
    for chunk_bytes in [1, 100, 4096] {
        let genuine = Genuine::of_bytes(4096);
        let bytes = genuine.request().chunked(chunk_bytes).bytes();
        cases.push(good(format!("a body of max_body in chunks of {chunk_bytes}"), &genuine, bytes));
        let bytes = Genuine::of_bytes(4097).request().chunked(chunk_bytes).bytes();
        cases.push(over(&format!("a body of max_body and one in chunks of {chunk_bytes}"), &bytes));
    }
    cases.push(over("a body of max_body and one", Genuine::of_bytes(4097).with("").as_bytes()));
    for length in ["4097", "4294967296", "999999999999999999", "18446744073709551615"] {
        let bytes = Genuine::new().framed(&format!("Content-Length: {length}\r\n"), "");
        cases.push(over(&format!("a declared length of {length}, before a byte of it"), bytes.as_bytes()));
    }
    let huge = Genuine::new().chunks(&format!("fffffffff\r\n{}", "x".repeat(5000)));
    cases.push(over("a chunk of 64 GiB, once it is beyond max_body", huge.as_bytes()));
    cases
}
