//! `Forwarded` (RFC 7239): who writes to the left of a client's address cannot change it, no trusted
//! proxy is a client, and a list of plain addresses means what it means in `X-Forwarded-For`.
#![no_main]

use std::net::IpAddr;

use hookward_fuzz::gate::peer::{ClientIpHeader, Peer, TrustedProxies};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fn headers(name: &'static str, lines: &[Vec<u8>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line).ok()?);
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
    let by_list = TrustedProxies { nets: nets.into_iter().collect(), ..TrustedProxies::default() };
    let trusted = TrustedProxies { header: ClientIpHeader::Forwarded, ..by_list.clone() };
    let peer = Peer::Ip(IpAddr::from([10, 0, 0, 1]));
    let lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let Some(came) = headers("forwarded", &lines) else { return };
    let client = trusted.client_addr(peer, &came);
    if let Ok(client) = client {
        assert!(!trusted.trusts(Peer::Ip(client.ip())), "a trusted proxy is no client");
        let forged = [vec![b"for=192.76.120.200;proto=https".to_vec()], lines.clone()].concat();
        assert_eq!(
            trusted.client_addr(peer, &headers("forwarded", &forged).unwrap()),
            Ok(client),
            "the left is not believed"
        );
    }
    let nearer = [lines.clone(), vec![b"for=\"[fd00::1]:443\"".to_vec()]].concat();
    assert_eq!(
        trusted.client_addr(peer, &headers("forwarded", &nearer).unwrap()),
        client,
        "trusted proxies are passed"
    );

    // The same addresses as a plain list.
    let plain: Option<Vec<IpAddr>> =
        lines.iter().map(|line| std::str::from_utf8(line).ok()?.trim().parse().ok()).collect();
    if let Some(plain) = plain {
        let node = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => format!("for={ip}").into_bytes(),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\"").into_bytes(),
        };
        let nodes: Vec<_> = plain.iter().map(node).collect();
        let list: Vec<_> = plain.iter().map(|ip| ip.to_string().into_bytes()).collect();
        assert_eq!(
            trusted.client_addr(peer, &headers("forwarded", &nodes).unwrap()),
            by_list.client_addr(peer, &headers("x-forwarded-for", &list).unwrap()),
        );
    }
});
