//! A refusal reaches a client that is still sending, and the body of a refused client is not read
//! beyond a bound.

use super::super::case::{Case, Genuine};
use crate::harness::event::{HOST, TARGET};

const MIB: usize = 1024 * 1024;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let unsigned = |framing: &str| format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n");
    for (what, bytes) in [("200 KiB", 200 * 1024), ("8 MiB", 8 * MIB)] {
        let head = unsigned(&format!("Content-Length: {bytes}\r\n"));
        let case = Case::new(format!("an unsigned body of {what}")).send(head).meanwhile(vec![b'x'; bytes]);
        cases.push(case.refused(403, "signature_missing"));
    }
    let chunks = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let head = unsigned("Transfer-Encoding: chunked\r\n");
    let case = Case::new("unsigned chunks of 8 MiB").send(head).meanwhile(chunks.repeat(128));
    cases.push(case.refused(403, "signature_missing"));
    let head = unsigned("Transfer-Encoding: chunked\r\n");
    let case = Case::new("an unsigned body that is not chunked as it says").send(head).send("x".repeat(100_000));
    cases.push(case.refused(403, "signature_missing"));
    let head = Genuine::new().framed(&format!("Content-Length: {}\r\n", 8 * MIB), "");
    let case = Case::new("a body of 8 MiB where 1 MiB is allowed").send(head).meanwhile(vec![b'x'; 8 * MIB]);
    cases.push(case.refused(413, "body_too_large"));
    let head = Genuine::new().chunks("");
    let case = Case::new("chunks of 8 MiB where 1 MiB is allowed").send(head).meanwhile(chunks.repeat(128));
    cases.push(case.refused(413, "body_too_large"));
    let head = format!("GET {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", 8 * MIB);
    let case = Case::new("a GET with a body of 8 MiB").send(head).meanwhile(vec![b'x'; 8 * MIB]);
    cases.push(case.refused(405, "method_not_allowed"));
    let head = unsigned(&format!("Content-Length: {}\r\nHost: x\r\n", 8 * MIB));
    let case = Case::new("a bad header before a body of 8 MiB").send(head).meanwhile(vec![b'x'; 8 * MIB]);
    cases.push(case.refused(400, "bad_request"));
    let case = Case::new("8 MiB that are no request").meanwhile(vec![0; 8 * MIB]);
    cases.push(case.refused(400, "bad_request"));
    let broken = Genuine::new().chunks(&format!("x\r\n{}", "x".repeat(200_000)));
    cases.push(Case::new("broken chunks before 200 KB").send(broken).refused(400, "bad_request"));
    cases
}
