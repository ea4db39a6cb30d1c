//! Who the sender is: the socket's peer, or whom trusted proxies name.

mod chain;

use std::net::IpAddr;

pub use self::chain::ClientIpHeader;
use super::networks::Networks;
use crate::rejection::Rejection;
use http::HeaderMap;

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

/// Who may name the client, and how.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    /// Addresses of proxies.
    pub nets: Networks,
    /// Whether peers over a unix socket are trusted.
    pub unix: bool,
    /// Where they name the client.
    pub header: ClientIpHeader,
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
        self.nets.contains(ip)
    }

    /// The client's address: the peer itself, or, when the peer is trusted, the rightmost address in
    /// all lines of the header that is not a trusted proxy's. What stands further left was written
    /// by somebody untrusted and never decides.
    ///
    /// # Errors
    /// [`Rejection::ClientIpUndetermined`] when a trusted peer names nobody, or names something
    /// that is not an address before an untrusted address is found, or only trusted ones; when the
    /// header is malformed or beyond its bounds.
    pub fn client_addr(&self, peer: Peer, headers: &HeaderMap) -> Result<ClientAddr, Rejection> {
        if !self.trusts(peer) {
            return match peer {
                Peer::Ip(ip) => Ok(ClientAddr(ip.to_canonical())),
                Peer::Unix => Err(Rejection::ClientIpUndetermined),
            };
        }
        let chain = self.header.chain(headers).ok_or(Rejection::ClientIpUndetermined)?;
        for entry in chain.into_iter().rev() {
            let ip = entry.ok_or(Rejection::ClientIpUndetermined)?;
            if !self.contains(ip) {
                return Ok(ClientAddr(ip));
            }
        }
        Err(Rejection::ClientIpUndetermined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(nets: &[&str]) -> TrustedProxies {
        TrustedProxies {
            nets: nets.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap()).collect(),
            ..TrustedProxies::default()
        }
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
    fn every_header_is_walked_alike() {
        let trusted = |header: &str| TrustedProxies {
            header: ClientIpHeader::parse(header).unwrap(),
            ..proxies(&["10.0.0.0/8"])
        };
        let ask = |header: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header, value.parse().unwrap());
            // What another header says counts for nothing.
            headers.append(
                if header == "x-forwarded-for" { "forwarded" } else { "x-forwarded-for" },
                "6.6.6.6".parse().unwrap(),
            );
            let client = trusted(header).client_addr(Peer::Ip("10.0.0.1".parse().unwrap()), &headers);
            client.ok().map(|client| client.ip().to_string())
        };
        let telnyx = Some("192.76.120.200".to_owned());
        assert_eq!(ask("x-forwarded-for", "6.6.6.6, 192.76.120.200, 10.1.1.1"), telnyx);
        assert_eq!(ask("forwarded", "for=6.6.6.6, for=192.76.120.200, for=10.1.1.1;proto=https"), telnyx);
        assert_eq!(ask("forwarded", "for=6.6.6.6, for=unknown, for=10.1.1.1"), None);
        assert_eq!(ask("forwarded", "for=6.6.6.6, for=_hidden"), None);
        assert_eq!(ask("forwarded", "for=unknown, for=192.76.120.200"), telnyx, "what is further left does not decide");
        assert_eq!(ask("cf-connecting-ip", "192.76.120.200"), telnyx);
        assert_eq!(ask("cf-connecting-ip", "10.1.1.1"), None, "a proxy is not a client");
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
        let trusted = TrustedProxies { unix: true, ..TrustedProxies::default() };
        assert_eq!(trusted.client_addr(Peer::Unix, &headers).unwrap().ip().to_string(), "1.2.3.4");
        assert!(TrustedProxies::default().client_addr(Peer::Unix, &headers).is_err());
    }
}
