//! Requests that two parsers could read differently: 400, closed, and nothing comes through.

use super::harness::event::{HOST, TARGET};
use super::harness::*;

/// A genuine request's header lines, to be put into a frame of the test's own.
fn genuine_lines(body: &str) -> String {
    let now = now_s();
    let signature = ::hookward::gate::signature::sign(&event::telnyx_key(), now, body.as_bytes());
    format!("Content-Type: application/json\r\nTelnyx-Signature-Ed25519: {signature}\r\nTelnyx-Timestamp: {now}\r\n")
}

/// A genuine request with these framing lines and this frame of a body.
fn framed(framing: &str, body: &str, frame: &str) -> String {
    format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n{}{framing}\r\n{frame}", genuine_lines(body))
}

/// A genuine request with this request line and Host line.
fn headed(request_line: &str, host: &str) -> String {
    format!("{request_line}\r\n{host}{}Content-Length: 5\r\n\r\nhello", genuine_lines("hello"))
}

fn all_are_bad_requests(cases: &[(&str, String)]) {
    let (sink, hookward) = pair();
    for (what, bytes) in cases {
        let mut wire = hookward.connect();
        wire.send(bytes);
        let answer = wire.answer_or_end().unwrap_or_else(|| panic!("{what}: closed without an answer"));
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert_refused(&answer, 400, "bad_request");
        assert_eq!(String::from_utf8_lossy(&wire.end_or_reset()), "", "{what}: the connection ends");
    }
    let count = cases.len() as f64;
    hookward.await_metric("hookward_rejections_total", &[("reason", "bad_request")], count);
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn the_frames_used_here_are_accepted_when_nothing_is_wrong_with_them() {
    let (sink, hookward) = pair();
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for bytes in [
        framed("Content-Length: 5\r\n", "hello", "hello"),
        framed("Transfer-Encoding: chunked\r\n", "hello", chunks),
        headed(&format!("POST {TARGET} HTTP/1.1"), &format!("Host: {HOST}\r\n")),
    ] {
        let mut wire = hookward.connect();
        wire.send(bytes);
        assert_eq!(wire.answer().status, 200);
    }
    assert_eq!(sink.wait_for(3).len(), 3);
}

#[test]
fn a_length_beside_a_transfer_coding_is_a_bad_request() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let te = "Transfer-Encoding";
    all_are_bad_requests(&[
        ("length, then coding", framed(&format!("Content-Length: 5\r\n{te}: chunked\r\n"), "hello", chunks)),
        ("coding, then length", framed(&format!("{te}: chunked\r\nContent-Length: 15\r\n"), "hello", chunks)),
        ("length 0", framed(&format!("{te}: chunked\r\nContent-Length: 0\r\n"), "hello", chunks)),
        ("with an unknown coding", framed(&format!("Content-Length: 5\r\n{te}: xchunked\r\n"), "hello", "hello")),
        ("with an empty coding", framed(&format!("Content-Length: 5\r\n{te}: \r\n"), "hello", "hello")),
        ("space before the colon", framed(&format!("Content-Length: 5\r\n{te} : chunked\r\n"), "hello", chunks)),
    ]);
}

#[test]
fn any_other_transfer_coding_than_chunked_is_a_bad_request() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let codings = [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "gzip",
        "chunked;x=1",
        "\"chunked\"",
        "chunked, identity",
        ",chunked",
        "",
        "x",
    ];
    let mut cases: Vec<_> = codings
        .iter()
        .map(|coding| (*coding, framed(&format!("Transfer-Encoding: {coding}\r\n"), "hello", chunks)))
        .collect();
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    cases.push(("two lines", framed(twice, "hello", chunks)));
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    cases.push(("two different lines", framed(twice, "hello", chunks)));
    let old = framed("Transfer-Encoding: chunked\r\n", "hello", chunks).replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(("chunks in HTTP/1.0", old));
    all_are_bad_requests(&cases);
}

#[test]
fn a_content_length_that_is_not_one_number_is_a_bad_request() {
    let values = ["+5", "-5", "0x5", "5.0", "5 5", "5,6", "", "five", "5;", "99999999999999999999999", "５"];
    let mut cases: Vec<_> = values
        .iter()
        .map(|value| (*value, framed(&format!("Content-Length: {value}\r\n"), "hello", "hello")))
        .collect();
    let two = "Content-Length: 5\r\nContent-Length: 6\r\n";
    cases.push(("two different lines", framed(two, "hello", "hello!")));
    cases.push(("space before the colon", framed("Content-Length : 5\r\n", "hello", "hello")));
    all_are_bad_requests(&cases);
}

#[test]
fn chunks_that_are_not_framed_as_they_must_be_are_a_bad_request() {
    let te = "Transfer-Encoding: chunked\r\n";
    let frames = [
        ("size is no number", "x\r\nhello\r\n0\r\n\r\n"),
        ("negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("hex prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("size beyond all reason", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("data longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("bare line feeds", "5\nhello\n0\n\n"),
        ("an empty size line", "5\r\nhello\r\n\r\n\r\n"),
        ("an empty size line that hides a request", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    let cases: Vec<_> = frames.iter().map(|(what, frame)| (*what, framed(te, "hello", frame))).collect();
    all_are_bad_requests(&cases);
}

#[test]
fn a_request_without_exactly_one_sound_host_is_a_bad_request() {
    let line = format!("POST {TARGET} HTTP/1.1");
    let cases = [
        ("none", String::new()),
        ("two", format!("Host: {HOST}\r\nHost: other.example\r\n")),
        ("the same twice", format!("Host: {HOST}\r\nHost: {HOST}\r\n")),
        ("empty", "Host: \r\n".to_owned()),
        ("inner space", "Host: a b\r\n".to_owned()),
        ("a path", "Host: a/b\r\n".to_owned()),
        ("user info", "Host: user@a\r\n".to_owned()),
        ("a port that is none", "Host: a:port\r\n".to_owned()),
        ("a comma", "Host: a,b\r\n".to_owned()),
    ];
    let cases: Vec<_> = cases.iter().map(|(what, host)| (*what, headed(&line, host))).collect();
    all_are_bad_requests(&cases);
}

#[test]
fn a_request_line_that_is_not_one_is_a_bad_request() {
    let host = format!("Host: {HOST}\r\n");
    let lines = [
        ("space in the target", "POST /a b HTTP/1.1"),
        ("two spaces", "POST  /a HTTP/1.1"),
        ("leading space", " POST /a HTTP/1.1"),
        ("a tab", "POST\t/a HTTP/1.1"),
        ("no version", "POST /a"),
        ("an old version", "POST /a HTTP/0.9"),
        ("a new version", "POST /a HTTP/2.0"),
        ("no such version", "POST /a HTTP/1.2.3"),
        ("another protocol", "POST /a XTTP/1.1"),
        ("lower case", "POST /a http/1.1"),
        ("a control character", "POST /a\u{1}b HTTP/1.1"),
        ("NUL", "POST /a\0 HTTP/1.1"),
        ("a fragment", "POST /a#b HTTP/1.1"),
        ("no leading slash", "POST a HTTP/1.1"),
        ("another host in the target", "POST http://other.example/a HTTP/1.1"),
        ("a method that is none", "PO(ST /a HTTP/1.1"),
    ];
    let cases: Vec<_> = lines.iter().map(|(what, line)| (*what, headed(line, &host))).collect();
    all_are_bad_requests(&cases);
}

#[test]
fn header_lines_that_are_not_ones_are_a_bad_request() {
    let line = format!("POST {TARGET} HTTP/1.1");
    let lines = [
        ("folded", "X-A: 1\r\n 2\r\n"),
        ("no colon", "X-A\r\n"),
        ("no name", ": 1\r\n"),
        ("space in the name", "X A: 1\r\n"),
        ("space before the colon", "X-A : 1\r\n"),
        ("leading space", " X-A: 1\r\n"),
        ("NUL in a value", "X-A: 1\0\r\n"),
        ("a bare carriage return", "X-A: 1\r2\r\n"),
        ("a bare line feed", "X-A: 1\nX-B: 2\r\n"),
        ("a name beyond ASCII", "X-Ä: 1\r\n"),
        ("a control character", "X-A: \u{1}\r\n"),
    ];
    let mut cases: Vec<_> =
        lines.iter().map(|(what, more)| (*what, headed(&line, &format!("Host: {HOST}\r\n{more}")))).collect();
    let good = headed(&line, &format!("Host: {HOST}\r\n"));
    cases.push(("only bare line feeds", good.replace("\r\n", "\n")));
    all_are_bad_requests(&cases);
}

#[test]
fn what_is_not_http_at_all_is_a_bad_request() {
    all_are_bad_requests(&[
        ("TLS", "\u{16}\u{3}\u{1}\0\u{ff}\u{1}\0\0\r\n\r\n".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
        (
            "PROXY",
            format!("PROXY TCP4 192.76.120.200 127.0.0.1 1 2\r\n{}", framed("Content-Length: 5\r\n", "hello", "hello")),
        ),
    ]);
}
