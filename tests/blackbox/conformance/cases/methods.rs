//! A verifying route takes POST; everything else is refused before its body is asked for.

use super::super::case::{Case, Genuine};
use crate::harness::event::{HOST, TARGET};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let bare = |line: &str| format!("{line}\r\nHost: {HOST}\r\n\r\n");
    for method in ["GET", "OPTIONS", "DELETE", "TRACE", "PATCH", "PROPFIND", "post", "X-POST"] {
        let bytes = bare(&format!("{method} {TARGET} HTTP/1.1"));
        let case = Case::new(format!("{method} without a body")).send(bytes);
        cases.push(case.refused(405, "method_not_allowed").usable());
    }
    let signed = Genuine::new().line(&format!("PUT {TARGET} HTTP/1.1"));
    cases.push(Case::new("PUT with a signed body").send(signed).refused(405, "method_not_allowed"));
    let head = bare(&format!("HEAD {TARGET} HTTP/1.1"));
    cases.push(Case::new("HEAD").send(head).bodiless(405));
    let bad = |what: &str, line: &str| Case::new(what).send(bare(line)).refused(400, "bad_request");
    cases.push(bad("CONNECT with an authority", &format!("CONNECT {HOST}:443 HTTP/1.1")));
    cases.push(bad("OPTIONS with an asterisk", "OPTIONS * HTTP/1.1"));
    cases.push(bad("CONNECT with a path", &format!("CONNECT {TARGET} HTTP/1.1")));
    cases.push(bad("CONNECT in lower case", &format!("connect {TARGET} HTTP/1.1")));
    cases
}
