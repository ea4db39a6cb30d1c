//! What clients do to the headers that decide.

use super::super::case::{Case, Genuine, good};
use crate::harness::event::{HOST, TARGET};

/// A genuine request, but for what `edit` makes of the header line of that name.
fn edited(name: &str, edit: impl Fn(&str, &str) -> String) -> (Genuine, String) {
    let genuine = Genuine::new();
    let whole = genuine.lines();
    let line = whole.lines().find(|line| line.starts_with(name)).unwrap();
    let (_, value) = line.split_once(": ").unwrap();
    let lines = whole.replace(line, &edit(line, value));
    let head = format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n{}{lines}\r\n", genuine.length());
    let wire = head + &genuine.body;
    (genuine, wire)
}

type Edit<'e> = &'e dyn Fn(&str, &str) -> String;

fn signature_and_timestamp() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, missing) in
        [("Telnyx-Signature-Ed25519", "signature_missing"), ("Telnyx-Timestamp", "timestamp_missing")]
    {
        let (lower, upper, alias) = (name.to_lowercase(), name.to_uppercase(), name.replace('-', "_"));
        let refused = |what: &str, edit: Edit<'_>, status, reason| {
            Case::new(format!("{name} {what}")).send(edited(name, edit).1).refused(status, reason)
        };
        let accepted = |what: &str, edit: Edit<'_>| {
            let (genuine, wire) = edited(name, edit);
            good(format!("{name} {what}"), &genuine, wire)
        };
        let twice = |line: &str, _: &str| format!("{line}\r\n{line}");
        let twice_in_lower_case = |line: &str, value: &str| format!("{line}\r\n{lower}: {value}");
        cases.extend([
            refused("twice", &twice, 400, "bad_request"),
            refused("twice, once in lower case", &twice_in_lower_case, 400, "bad_request"),
            refused("twice in one line", &|line, value| format!("{line}, {value}"), 400, "bad_request"),
            refused("with underscores", &|_, value| format!("{alias}: {value}"), 403, missing),
            refused("left empty", &|_, _| format!("{name}:"), 403, missing),
            accepted("between white space", &|_, value| format!("{name}: \t {value} \t")),
            accepted("in capitals", &|_, value| format!("{upper}:{value}")),
            accepted("behind an alias of it, which is dropped", &|line, _| format!("{alias}: 1\r\n{line}")),
        ]);
    }
    cases
}

pub fn cases() -> Vec<Case> {
    let mut cases = signature_and_timestamp();
    for (what, lines) in [
        (
            "headers of hookward's own, which are dropped",
            "hookward-verified: telnyx; key=x\r\nHookward_Event_Id: x\r\n",
        ),
        ("forwarding headers of an untrusted peer", "X-Forwarded-For: 192.76.120.200\r\nForwarded: for=1.2.3.4\r\n"),
        ("other paths in headers", "X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n"),
        ("another method in a header", "X-HTTP-Method-Override: DELETE\r\n"),
        ("a Connection that names the signature", "Connection: Telnyx-Signature-Ed25519\r\n"),
        ("a Content-Encoding, which nobody undoes", "Content-Encoding: gzip\r\n"),
        ("a Trailer", "Trailer: X\r\n"),
        ("a TE", "TE: trailers\r\n"),
    ] {
        let genuine = Genuine::new();
        cases.push(good(what, &genuine, genuine.with(lines)));
    }
    let genuine = Genuine::new();
    cases.push(good("Connection: close", &genuine, genuine.with("Connection: close\r\n")).closed());
    let genuine = Genuine::new();
    cases.push(good("Connection: CLOSE", &genuine, genuine.with("Connection: CLOSE\r\n")).closed());
    let genuine = Genuine::new();
    let listed = genuine.with("Connection: x, close\r\n");
    cases.push(good("Connection with close in a list", &genuine, listed).closed());
    let genuine = Genuine::new();
    let twice = genuine.with("Connection: x\r\nConnection: close\r\n");
    cases.push(good("Connection with close in a second line", &genuine, twice).closed());
    cases
}
