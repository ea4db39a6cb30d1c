//! `METHOD SP target SP HTTP/1.x CRLF` and nothing else (RFC 9112 §3).

use super::super::case::{Case, Genuine, bad};
use crate::harness::event::{HOST, TARGET};

pub fn cases(scheme: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let other = if scheme == "http" { "https" } else { "http" };
    for (what, line) in [
        ("a space in the target", "POST /a b HTTP/1.1"),
        ("two spaces before the target", "POST  /a HTTP/1.1"),
        ("two spaces behind the target", "POST /a  HTTP/1.1"),
        ("a space at the end of the request line", "POST /a HTTP/1.1 "),
        ("a space before the method", " POST /a HTTP/1.1"),
        ("a tab in place of a space", "POST\t/a HTTP/1.1"),
        ("a vertical tab in place of a space", "POST\u{b}/a HTTP/1.1"),
        ("no version", "POST /a"),
        ("no target", "POST HTTP/1.1"),
        ("only a method", "POST"),
        ("HTTP/0.9", "POST /a HTTP/0.9"),
        ("HTTP/2.0", "POST /a HTTP/2.0"),
        ("HTTP/1.2", "POST /a HTTP/1.2"),
        ("HTTP/1.2.3", "POST /a HTTP/1.2.3"),
        ("HTTP/1.1 with a leading zero", "POST /a HTTP/01.1"),
        ("HTTP/1", "POST /a HTTP/1"),
        ("another protocol", "POST /a XTTP/1.1"),
        ("the protocol in lower case", "POST /a http/1.1"),
        ("a control character in the target", "POST /a\u{1}b HTTP/1.1"),
        ("DEL in the target", "POST /a\u{7f}b HTTP/1.1"),
        ("NUL in the target", "POST /a\0 HTTP/1.1"),
        ("a bare carriage return in the target", "POST /a\rb HTTP/1.1"),
        ("a bare line feed in the target", "POST /a\nb HTTP/1.1"),
        ("a character beyond ASCII in the target", "POST /\u{e9} HTTP/1.1"),
        ("a fragment", "POST /a#b HTTP/1.1"),
        ("a quotation mark in the target", "POST /a\" HTTP/1.1"),
        ("angle brackets in the target", "POST /<a> HTTP/1.1"),
        ("a target without a leading slash", "POST a HTTP/1.1"),
        ("a query alone", "POST ?a HTTP/1.1"),
        ("a backslash in place of the slash", "POST \\a HTTP/1.1"),
        ("an absolute target of another host", "POST SCHEME://other.example/a HTTP/1.1"),
        ("an absolute target of another port", "POST SCHEME://hooks.example.com:81/a HTTP/1.1"),
        ("an absolute target with user info", "POST SCHEME://u@hooks.example.com/a HTTP/1.1"),
        ("an absolute target without a host", "POST SCHEME:///a HTTP/1.1"),
        ("an absolute target of another scheme", "POST ftp://hooks.example.com/a HTTP/1.1"),
        ("an absolute target of the scheme that the connection has not", "POST OTHER://hooks.example.com/a HTTP/1.1"),
        ("an absolute target with one slash", "POST SCHEME:/hooks.example.com/a HTTP/1.1"),
        ("an authority as target", "POST hooks.example.com:80 HTTP/1.1"),
        ("an asterisk as target", "POST * HTTP/1.1"),
        ("a method with a parenthesis", "PO(ST /a HTTP/1.1"),
        ("a method with a colon", "POST: /a HTTP/1.1"),
        ("a method beyond ASCII", "P\u{d6}ST /a HTTP/1.1"),
    ] {
        let line = line.replace("SCHEME", scheme).replace("OTHER", other);
        cases.push(bad(what, Genuine::new().line(&line)));
    }
    let genuine = Genuine::new();
    let old = genuine.line(&format!("POST {TARGET} HTTP/1.0"));
    cases.push(Case::new("HTTP/1.0").send(old).accepted(&genuine).closed());
    let genuine = Genuine::new();
    let kept = genuine.framed(&format!("{}Connection: keep-alive\r\n", genuine.length()), &genuine.body);
    let kept = kept.replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(Case::new("HTTP/1.0 that asks for keep-alive").send(kept).accepted(&genuine));
    for (what, target) in [
        ("a query", "/a?b=c&d=%20"),
        ("an empty query", "/a?"),
        ("slashes", "//a//"),
        ("dot segments", "/a/../b/./c"),
        ("a broken escape", "/a%zz"),
        ("an escaped NUL", "/a%00"),
        ("what is in no URI and harmless", "/a|b{c}^[d]\\e'"),
        ("another URL in the query", "/a?u=http://other.example/"),
    ] {
        let genuine = Genuine::new();
        let bytes = genuine.line(&format!("POST {target} HTTP/1.1"));
        let what = format!("{what} in the target, forwarded as sent");
        cases.push(Case::new(what).send(bytes).accepted_at(target, &genuine.body));
    }
    cases.extend(absolute(scheme));
    let empty_line = format!("\r\n{}", Genuine::new().with(""));
    cases.push(bad("an empty line before the request line", empty_line));
    cases.push(bad("a bare line feed before the request line", format!("\n{}", Genuine::new().with(""))));
    let genuine = Genuine::new();
    let ahead = format!("{}\r\n", genuine.with(""));
    cases.push(Case::new("an empty line behind the body").send(ahead).accepted(&genuine).refused(400, "bad_request"));
    cases.push(bad("a line feed alone at the end of the request line", {
        Genuine::new().with("").replacen(" HTTP/1.1\r\n", " HTTP/1.1\n", 1)
    }));
    cases
}

/// RFC 9112 §3.2.2: accepted where it says what Host says, and gone from then on.
fn absolute(scheme: &str) -> impl Iterator<Item = Case> {
    let targets = [
        ("an absolute target", format!("{scheme}://{HOST}/a?b"), "/a?b"),
        ("an absolute target in capitals", format!("{scheme}://{HOST}/A").to_uppercase(), "/A"),
        ("an absolute target without a path", format!("{scheme}://{HOST}"), "/"),
        ("an absolute target with a query alone", format!("{scheme}://{HOST}?a/b"), "/?a/b"),
    ];
    targets.into_iter().map(|(what, target, origin)| {
        let genuine = Genuine::new();
        let bytes = genuine.line(&format!("POST {target} HTTP/1.1"));
        Case::new(format!("{what} of this host, forwarded in origin-form"))
            .send(bytes)
            .accepted_at(origin, &genuine.body)
    })
}
