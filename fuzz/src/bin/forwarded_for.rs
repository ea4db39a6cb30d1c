//! Who writes to the left of a client's address cannot change it, and no trusted proxy is a client.
#![no_main]

use std::net::IpAddr;

use hookward_fuzz::gate::peer::{Peer, TrustedProxies};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

const HEADER: &str = "x-forwarded-for";

/// Lines of the header, one for each line of the input.
fn headers(lines: &[&[u8]]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(HEADER, HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

/// More entries than a header may hold, with those that are added here: then nobody is named.
fn is_near_a_bound(input: &[u8]) -> bool {
    input.len() > 3500 || input.iter().filter(|byte| matches!(byte, b',' | b'\n')).count() > 28
}

fuzz_target!(|input: &[u8]| {
    if is_near_a_bound(input) {
        return;
    }
    let nets = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let trusted = TrustedProxies { nets: nets.into_iter().collect(), ..TrustedProxies::default() };
    let peer = Peer::Ip(IpAddr::from([10, 0, 0, 1]));
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let Some(came) = headers(&lines) else { return };
    let client = trusted.client_addr(peer, &came);
    if let Ok(client) = client {
        assert!(!trusted.trusts(Peer::Ip(client.ip())), "a trusted proxy is no client");
        assert_eq!(client.ip(), client.ip().to_canonical());
    }

    // In a line of their own and in the same one, as proxies do either.
    let (left, right) = (b"192.0.2.1, 192.76.120.200".as_slice(), b"[fd00::1]:443, ::ffff:10.0.0.2".as_slice());
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    let before = [left, b",", first].concat();
    let behind = [last, b",", right].concat();
    let forged = [[&[left], lines.as_slice()].concat(), [&[before.as_slice()], &lines[1..]].concat()];
    let nearer = [[lines.as_slice(), &[right]].concat(), [&lines[..lines.len() - 1], &[behind.as_slice()]].concat()];
    for forged in forged.iter().filter(|_| client.is_ok()) {
        assert_eq!(trusted.client_addr(peer, &headers(forged).unwrap()), client, "the left is never looked at");
    }
    for nearer in nearer {
        assert_eq!(trusted.client_addr(peer, &headers(&nearer).unwrap()), client, "trusted proxies are passed");
    }

    let stranger = Peer::Ip(IpAddr::from([198, 51, 100, 7]));
    assert_eq!(trusted.client_addr(stranger, &came).map(|client| client.ip().to_string()).unwrap(), "198.51.100.7");
});
