//! Deadlines are total: a byte now and then gains nothing (see `SHORT_DEADLINES`).

use super::super::case::{Case, Genuine};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let late_header = |what: &str, bytes: &str| Case::new(what).send(bytes).refused(408, "header_timeout");
    let whole = || Genuine::new().with("");
    let head_of = |wire: &str| wire[..wire.find("\r\n\r\n").unwrap() + 4].to_owned();
    let wire = whole();
    let head = head_of(&wire);
    cases.push(late_header("one byte of a header and no more", &head[..1]));
    cases.push(late_header("a method and no more", &head[..4]));
    cases.push(late_header("half a header and no more", &head[..head.len() / 2]));
    cases.push(late_header("a header without its last byte", &head[..head.len() - 1]));
    cases.push(late_header("a header without its empty line", &head[..head.len() - 2]));
    let drip = |what: &str, pause_ms: u64| Case::new(what).drip(&head, pause_ms).refused(408, "header_timeout");
    cases.push(drip("a header byte by byte, one in 5 ms", 5));
    cases.push(drip("a header byte by byte, one in 400 ms", 400));

    let late_body = |what: &str, bytes: &str| Case::new(what).send(bytes).refused(408, "body_timeout");
    cases.push(late_body("a header without its body", &head));
    cases.push(late_body("a body without its last byte", &wire[..wire.len() - 1]));
    let genuine = Genuine::new();
    let chunked = genuine.chunks(&format!("{}0\r\n\r\n", genuine.chunk()));
    let chunked_head = head_of(&chunked);
    cases.push(late_body("a header without its chunks", &chunked_head));
    cases.push(late_body("chunks without the last byte", &chunked[..chunked.len() - 1]));
    cases.push(late_body("chunks without the last line", &chunked[..chunked.len() - 2]));
    cases.push(late_body("chunks without the last chunk", &chunked[..chunked.len() - 5]));
    cases.push(late_body("half a chunk size", &format!("{chunked_head}1")));
    cases.push(late_body("a chunk size without its line feed", &format!("{chunked_head}1f\r")));
    let slow = Genuine::of_bytes(400);
    let drip =
        |what: &str, head: &str, body: String| Case::new(what).send(head).drip(body, 5).refused(408, "body_timeout");
    let plain = slow.with("");
    cases.push(drip("a body byte by byte, one in 5 ms", &head_of(&plain), slow.body.clone()));
    let ones: String = slow.body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    cases.push(drip("chunks of one byte, one byte in 5 ms", &head_of(&slow.chunks("")), ones));
    let extension = format!("5;{}", "a".repeat(400));
    cases.push(drip("an extension byte by byte, one in 5 ms", &head_of(&slow.chunks("")), extension));
    let trailer = format!("{}0\r\nX: {}", slow.chunk(), "a".repeat(400));
    let at = trailer.len() - 400;
    let case = Case::new("a trailer byte by byte, one in 5 ms").send(slow.chunks(&trailer[..at]));
    cases.push(case.drip(&trailer[at..], 5).refused(408, "body_timeout"));

    cases.push(Case::new("nothing at all"));
    let genuine = Genuine::new();
    cases.push(Case::new("an event and then nothing").send(genuine.with("")).accepted(&genuine).closed());
    let genuine = Genuine::new();
    let half = &head[..20];
    let case = Case::new("an event and then half a header").send(format!("{}{half}", genuine.with("")));
    cases.push(case.accepted(&genuine).refused(408, "header_timeout"));
    cases.push(Case::new("half a header, then the end of sending").send(half).end_of_sending());
    cases.push(Case::new("nothing, then the end of sending").end_of_sending());
    let case = Case::new("half a body, then the end of sending").send(&wire[..wire.len() - 5]);
    cases.push(case.end_of_sending().refused(400, "bad_request"));
    let genuine = Genuine::new();
    let case = Case::new("an event, then the end of sending").send(genuine.with("")).end_of_sending();
    cases.push(case.accepted(&genuine).closed());
    let genuine = Genuine::new();
    let quick = genuine.with("");
    cases.push(Case::new("an event byte by byte without a pause").drip(quick, 0).accepted(&genuine));
    cases
}
