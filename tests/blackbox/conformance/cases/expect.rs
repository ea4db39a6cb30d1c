//! `Expect: 100-continue` is answered once only the body is left to judge (RFC 9110 §10.1.1).

use super::super::case::{Case, Genuine};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for expect in ["100-continue", "100-Continue"] {
        let genuine = Genuine::new();
        let head = genuine.framed(&format!("{}Expect: {expect}\r\n", genuine.length()), "");
        let case = Case::new(format!("Expect: {expect}, body after 100")).send(head).continues();
        cases.push(case.send(&genuine.body).accepted(&genuine));
    }
    let genuine = Genuine::new();
    let head = genuine.framed("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "");
    let case = Case::new("Expect with chunks after 100").send(head).continues();
    cases.push(case.send(format!("{}0\r\n\r\n", genuine.chunk())).accepted(&genuine));
    let head = Genuine::new().framed("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "");
    let case = Case::new("Expect with broken chunks after 100").send(head).continues();
    cases.push(case.send("\r\n\r\n").refused(400, "bad_request"));
    let genuine = Genuine::new();
    let eager = genuine.with("Expect: 100-continue\r\n");
    cases.push(Case::new("Expect, body at once").send(eager).continues().accepted(&genuine));
    let empty = Genuine { body: String::new() };
    cases.push(Case::new("Expect without a body").send(empty.with("Expect: 100-continue\r\n")).accepted(&empty));
    let genuine = Genuine::new();
    let old = genuine.with("Expect: 100-continue\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(Case::new("Expect in HTTP/1.0, which is ignored").send(old).accepted(&genuine).closed());
    let genuine = Genuine::new();
    let other = genuine.with("Expect: x\r\n");
    cases.push(Case::new("another Expect, which is ignored").send(other).accepted(&genuine));

    let head = |lines: &str| Genuine::new().framed(&format!("{lines}Expect: 100-continue\r\n"), "");
    let never = |what: &str, bytes: String, status, reason| Case::new(what).send(bytes).refused(status, reason);
    let large = head("Content-Length: 1048577\r\n");
    cases.push(never("Expect with a body that is too large", large, 413, "body_too_large"));
    let ordinary = head("Content-Length: 5\r\n");
    let unsigned = ordinary.replace("Telnyx-Signature-Ed25519", "X");
    cases.push(never("Expect without a signature", unsigned, 403, "signature_missing"));
    let undated = ordinary.replace("Telnyx-Timestamp", "X");
    cases.push(never("Expect without a timestamp", undated, 403, "timestamp_missing"));
    let get = ordinary.replacen("POST", "GET", 1);
    cases.push(never("Expect with GET", get, 405, "method_not_allowed"));
    let twice = head("Content-Length: 5\r\nTelnyx-Timestamp: 1\r\n");
    cases.push(never("Expect with two timestamps", twice, 400, "bad_request"));
    let both = head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    cases.push(never("Expect with two framings", both, 400, "bad_request"));
    cases
}
