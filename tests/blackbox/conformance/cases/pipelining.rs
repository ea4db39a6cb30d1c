//! Requests sent ahead are answered one by one, in their order (RFC 9112 §9.3.2).

use super::super::case::{Case, Genuine};
use crate::harness::event::{HOST, TARGET};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let events = |count: usize| (0..count).map(|_| Genuine::new()).collect::<Vec<_>>();
    let chunked = |genuine: &Genuine| genuine.chunks(&format!("{}0\r\n\r\n", genuine.chunk()));

    let five = events(5);
    let wire: String = five.iter().map(|genuine| genuine.with("")).collect();
    cases.push(five.iter().fold(Case::new("five events at once").send(wire), Case::accepted));
    let five = events(5);
    let wire: String = five.iter().map(chunked).collect();
    cases.push(five.iter().fold(Case::new("five chunked events at once").send(wire), Case::accepted));
    let four = events(4);
    let wire: String = four.iter().enumerate().map(|(n, g)| if n % 2 == 0 { g.with("") } else { chunked(g) }).collect();
    cases.push(four.iter().fold(Case::new("events with and without chunks in turn").send(wire), Case::accepted));
    let two = events(2);
    let wire = two[0].with("") + &two[1].with("");
    let split = two[0].with("").len() + 10;
    let case = Case::new("two events, cut within the second header").send(&wire[..split]).pause().send(&wire[split..]);
    cases.push(two.iter().fold(case, Case::accepted));
    let two = events(2);
    let wire = chunked(&two[0]) + &chunked(&two[1]);
    let split = chunked(&two[0]).len() - 1;
    let case = Case::new("two chunked events, cut within the first end").send(&wire[..split]).pause();
    cases.push(two.iter().fold(case.send(&wire[split..]), Case::accepted));

    let forged = |genuine: &Genuine| genuine.with("").replacen("Telnyx-Timestamp: 1", "Telnyx-Timestamp: 2", 1);
    let genuine = Genuine::new();
    let wire = forged(&Genuine::new()) + &genuine.with("");
    let case = Case::new("a forged event, then a genuine one").send(wire);
    cases.push(case.refused(403, "signature_mismatch").accepted(&genuine));
    let genuine = Genuine::new();
    let wire = genuine.with("") + &forged(&Genuine::new());
    let case = Case::new("a genuine event, then a forged one").send(wire).accepted(&genuine);
    cases.push(case.refused(403, "signature_mismatch").usable());
    let genuine = Genuine::new();
    let wire = format!("{}GARBAGE\r\n\r\n", genuine.with(""));
    cases.push(Case::new("an event, then garbage").send(wire).accepted(&genuine).refused(400, "bad_request"));
    let genuine = Genuine::new();
    let wire = format!("{}\0\0", chunked(&genuine));
    cases.push(Case::new("a chunked event, then NUL").send(wire).accepted(&genuine).refused(400, "bad_request"));
    let genuine = Genuine::new();
    let unsigned = format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello");
    let wire = format!("{}{unsigned}{}", genuine.with(""), Genuine::new().with(""));
    let case = Case::new("an event behind one whose body is not read").send(wire).accepted(&genuine);
    cases.push(case.refused(403, "signature_missing"));
    let genuine = Genuine::new();
    let wire = genuine.with("Connection: close\r\n") + &Genuine::new().with("");
    cases.push(Case::new("an event behind Connection: close").send(wire).accepted(&genuine).closed());
    let genuine = Genuine::new();
    let wire = genuine.with("").replacen("HTTP/1.1", "HTTP/1.0", 1) + &Genuine::new().with("");
    cases.push(Case::new("an event behind HTTP/1.0").send(wire).accepted(&genuine).closed());
    cases
}
