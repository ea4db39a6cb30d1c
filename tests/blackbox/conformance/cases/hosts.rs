//! Exactly one Host, which is a host and perhaps a port (RFC 9112 §3.2).

use super::super::case::{Case, Genuine, bad, good};
use crate::harness::event::HOST;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, host) in [
        ("no Host", String::new()),
        ("two Hosts", format!("Host: {HOST}\r\nHost: other.example\r\n")),
        ("the same Host twice", format!("Host: {HOST}\r\nHost: {HOST}\r\n")),
        ("two Hosts that differ in case", format!("Host: {HOST}\r\nhOST: {HOST}\r\n")),
        ("an empty Host", "Host: \r\n".to_owned()),
        ("an empty Host and a sound one", format!("Host: \r\nHost: {HOST}\r\n")),
        ("a space in Host", "Host: a b\r\n".to_owned()),
        ("a path in Host", "Host: a/b\r\n".to_owned()),
        ("a query in Host", "Host: a?b\r\n".to_owned()),
        ("a fragment in Host", "Host: a#b\r\n".to_owned()),
        ("user info in Host", "Host: user@a\r\n".to_owned()),
        ("a scheme in Host", "Host: http://a\r\n".to_owned()),
        ("a port that is no number", "Host: a:port\r\n".to_owned()),
        ("a port beyond 65535", "Host: a:65536\r\n".to_owned()),
        ("two ports", "Host: a:1:2\r\n".to_owned()),
        ("two hosts in one Host", "Host: a,b\r\n".to_owned()),
        ("an unclosed IPv6 address", "Host: [::1\r\n".to_owned()),
        ("a control character in Host", "Host: a\u{1}\r\n".to_owned()),
        ("a space before the colon of Host", format!("Host : {HOST}\r\n")),
        ("Host with an underscore in front", format!("_Host: {HOST}\r\n")),
    ] {
        cases.push(bad(what, Genuine::new().host(&host)));
    }
    for (what, host) in [
        ("a Host with a port", format!("Host: {HOST}:8443\r\n")),
        ("an IPv4 address as Host", "Host: 192.0.2.1\r\n".to_owned()),
        ("an IPv6 address with a port as Host", "Host: [2001:db8::1]:8080\r\n".to_owned()),
        ("a Host in capitals without a space", "HOST:HOOKS.EXAMPLE.COM\r\n".to_owned()),
        ("a Host between tabs", format!("Host:\t{HOST}\t\r\n")),
    ] {
        let genuine = Genuine::new();
        cases.push(good(what, &genuine, genuine.host(&host)));
    }
    let genuine = Genuine::new();
    let old = genuine.host("").replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(Case::new("no Host in HTTP/1.0").send(old).accepted(&genuine).closed());
    let two = Genuine::new().host(&format!("Host: {HOST}\r\nHost: {HOST}\r\n")).replacen("HTTP/1.1", "HTTP/1.0", 1);
    cases.push(bad("two Hosts in HTTP/1.0", two));
    cases
}
