//! HTTP/1.1 only: no upgrade, no HTTP/2, and what is not HTTP at all.

use super::super::case::{Case, Genuine, bad, good};
use crate::harness::event::HOST;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    cases.push(bad("the preface of HTTP/2", preface));
    cases.push(bad("the preface of HTTP/2 with SETTINGS", format!("{preface}\0\0\0\u{4}\0\0\0\0\0")));
    let genuine = Genuine::new();
    cases.push(
        Case::new("an event, then the preface of HTTP/2")
            .send(format!("{}{preface}", genuine.with("")))
            .accepted(&genuine)
            .refused(400, "bad_request"),
    );
    for (what, lines) in [
        (
            "an upgrade to h2c, which is ignored",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        ),
        (
            "an upgrade to WebSocket, which is ignored",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n",
        ),
        ("an upgrade to TLS, which is ignored", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"),
    ] {
        let genuine = Genuine::new();
        cases.push(good(what, &genuine, genuine.with(lines)));
    }
    cases.push(bad("a TLS ClientHello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{7c}\u{3}\u{3}"));
    cases.push(bad("SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n"));
    cases.push(bad("SOCKS 5", "\u{5}\u{1}\0"));
    cases.push(bad("PROXY where none is expected", {
        format!("PROXY TCP4 192.76.120.200 127.0.0.1 1 2\r\n{}", Genuine::new().with(""))
    }));
    cases.push(bad("PROXY v2 where none is expected", "\r\n\r\n\0\r\nQUIT\n\u{21}\u{11}\0\u{c}"));
    cases.push(bad("HTTP/0.9", "GET /\r\n\r\n"));
    cases.push(bad("an answer in place of a request", format!("HTTP/1.1 200 OK\r\nHost: {HOST}\r\n\r\n")));
    cases.push(bad("an empty line alone", "\r\n"));
    cases
}
