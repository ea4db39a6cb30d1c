//! Who the sender is: the socket's peer, or whom trusted proxies name.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use crate::rejection::Rejection;

/// The other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Ip(IpAddr),
    /// Over a unix socket, which has no address.
    Unix,
}

/// The sender's address, an IPv4-mapped IPv6 one folded to IPv4. Made here only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(IpAddr);

impl ClientAddr {
    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// Who may name the client in `X-Forwarded-For`.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    /// Addresses of proxies.
    pub nets: Vec<IpNet>,
    /// Whether peers over a unix socket are trusted.
    pub unix: bool,
}

impl TrustedProxies {
    /// Whether this peer may name the client.
    pub fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(ip) => self.contains(ip.to_canonical()),
            Peer::Unix => self.unix,
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&ip))
    }

    /// The client's address: the peer itself, or, when the peer is trusted, the rightmost address
    /// of all `X-Forwarded-For` lines that is not a trusted proxy's. What stands further left was
    /// written by somebody untrusted and is never looked at.
    ///
    /// # Errors
    /// [`Rejection::ClientIpUndetermined`] when a trusted peer names nobody, or names something
    /// that is not an address before an untrusted address is found, or only trusted ones.
    pub fn client_addr(&self, peer: Peer, headers: &HeaderMap) -> Result<ClientAddr, Rejection> {
        if !self.trusts(peer) {
            return match peer {
                Peer::Ip(ip) => Ok(ClientAddr(ip.to_canonical())),
                Peer::Unix => Err(Rejection::ClientIpUndetermined),
            };
        }
        let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        for line in lines.iter().rev() {
            let line = line.to_str().map_err(|_| Rejection::ClientIpUndetermined)?;
            for entry in line.rsplit(',') {
                let ip = parse_forwarded_ip(entry.trim()).ok_or(Rejection::ClientIpUndetermined)?;
                if !self.contains(ip) {
                    return Ok(ClientAddr(ip));
                }
            }
        }
        Err(Rejection::ClientIpUndetermined)
    }
}

/// One entry of `X-Forwarded-For`: an address, as some proxies write it with a port
/// (`192.0.2.1:4711`, `[2001:db8::1]:4711`) or in brackets.
fn parse_forwarded_ip(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bare {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => match entry.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => entry.parse::<std::net::SocketAddr>().ok()?.ip(),
        },
    };
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(nets: &[&str]) -> TrustedProxies {
        TrustedProxies { nets: nets.iter().map(|net| net.parse().unwrap()).collect(), unix: false }
    }

    fn walk(trusted: &TrustedProxies, peer: &str, lines: &[&str]) -> Result<String, Rejection> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        trusted.client_addr(Peer::Ip(peer.parse().unwrap()), &headers).map(|client| client.ip().to_string())
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_claims() {
        let trusted = proxies(&["10.0.0.0/8"]);
        assert_eq!(walk(&trusted, "198.51.100.7", &["192.76.120.200"]).unwrap(), "198.51.100.7");
    }

    #[test]
    fn the_walk_goes_right_to_left_over_all_lines_past_trusted_proxies() {
        let trusted = proxies(&["10.0.0.0/8"]);
        let cases: &[(&[&str], &str)] = &[
            (&["192.76.120.200"], "192.76.120.200"),
            (&["6.6.6.6, 192.76.120.200"], "192.76.120.200"),
            (&["6.6.6.6, 192.76.120.200, 10.1.1.1"], "192.76.120.200"),
            (&["6.6.6.6", "192.76.120.200", "10.1.1.1,10.2.2.2"], "192.76.120.200"),
            (&["garbage, 192.76.120.200"], "192.76.120.200"),
            (&["192.76.120.200:4711"], "192.76.120.200"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.76.120.200"], "192.76.120.200"),
        ];
        for (lines, client) in cases {
            assert_eq!(walk(&trusted, "10.0.0.1", lines).unwrap(), *client, "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_decided_is_refused() {
        let trusted = proxies(&["10.0.0.0/8"]);
        let cases: &[&[&str]] = &[
            &[],
            &[""],
            &["unknown"],
            &["192.76.120.200,"],
            &["192.76.120.200, _hidden"],
            &["10.9.9.9"],
            &["1.2.3.4.5"],
        ];
        for lines in cases {
            assert_eq!(walk(&trusted, "10.0.0.1", lines), Err(Rejection::ClientIpUndetermined), "{lines:?}");
        }
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address_as_peer_too() {
        let trusted = proxies(&["10.0.0.0/8"]);
        assert_eq!(walk(&trusted, "::ffff:10.0.0.1", &["1.2.3.4"]).unwrap(), "1.2.3.4");
        assert_eq!(walk(&trusted, "::ffff:1.2.3.4", &[]).unwrap(), "1.2.3.4");
    }

    #[test]
    fn a_unix_peer_counts_only_when_trusted() {
        let headers = HeaderMap::new();
        assert!(TrustedProxies::default().client_addr(Peer::Unix, &headers).is_err());
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
        let trusted = TrustedProxies { nets: vec![], unix: true };
        assert_eq!(trusted.client_addr(Peer::Unix, &headers).unwrap().ip().to_string(), "1.2.3.4");
        assert!(TrustedProxies::default().client_addr(Peer::Unix, &headers).is_err());
    }
}
