//! Source addresses: who may send at all.

use std::net::IpAddr;

use ipnet::IpNet;

use super::networks::Networks;
use super::peer::ClientAddr;
use super::{Enforcement, Reports};
use crate::rejection::Rejection;

/// A named set of the ranges that Telnyx has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What stands in the configuration.
    pub name: &'static str,
    /// The ranges, IPv4 only: Telnyx has published no others.
    pub ranges: &'static [&'static str],
}

/// The presets. Sources: Telnyx's messaging webhook page (the /27), its 2025 whitelisting article
/// (the eight /29 and the pools). A real capture of 2023 came from 192.76.120.139, which the /27
/// does not hold, so the union is the default.
pub const PRESETS: [Preset; 3] = [
    Preset {
        name: "telnyx",
        ranges: &["192.76.120.128/26", "192.76.120.192/27", "185.246.41.0/26", "103.115.244.0/26"],
    },
    Preset { name: "telnyx-messaging", ranges: &["192.76.120.192/27"] },
    Preset {
        name: "telnyx-regional",
        ranges: &[
            "192.76.120.128/29",
            "192.76.120.136/29",
            "192.76.120.144/29",
            "185.246.41.0/29",
            "185.246.41.8/29",
            "185.246.41.16/29",
            "103.115.244.0/29",
            "103.115.244.8/29",
        ],
    },
];

/// A preset's name, a CIDR or a single address.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_source(text: &str) -> Result<Vec<IpNet>, String> {
    if let Some(preset) = PRESETS.iter().find(|preset| preset.name == text) {
        return preset.ranges.iter().map(|range| parse_net(range)).collect();
    }
    Ok(vec![parse_net(text)?])
}

/// A CIDR such as `10.0.0.0/8`, or a single address; IPv4-mapped IPv6 becomes IPv4.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| {
            format!("`{text}` is neither an address, a CIDR such as 203.0.113.0/24, nor a preset (telnyx, telnyx-messaging, telnyx-regional)")
        })?),
    };
    if net.trunc() != net {
        return Err(format!("`{text}` has bits set behind its prefix; did you mean {}?", net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
    {
        return IpNet::new(IpAddr::V4(v4), prefix).map_err(|error| error.to_string());
    }
    Ok(net)
}

/// Which addresses may send.
#[derive(Debug, Clone)]
pub enum Allowlist {
    /// Only these.
    Only {
        /// The ranges, never empty.
        nets: Networks,
        /// What happens to the others.
        mode: Enforcement,
    },
    /// Anyone: `mode: off`, which must be written.
    Off,
}

/// A sender whose address has been judged: only now are its header and body looked at.
#[derive(Debug)]
pub struct Admitted {
    client: Option<ClientAddr>,
}

impl Admitted {
    /// The sender's address; `None` where an undecidable one was let pass.
    pub fn client(&self) -> Option<ClientAddr> {
        self.client
    }
}

impl Allowlist {
    /// The only addresses that are let pass; `None` where any is.
    pub fn enforced(&self) -> Option<&Networks> {
        match self {
            Allowlist::Only { nets, mode: Enforcement::Enforce } => Some(nets),
            Allowlist::Only { mode: Enforcement::Report, .. } | Allowlist::Off => None,
        }
    }

    /// Judges the sender's address. Takes the undecided too, since `report` and `off` let it pass.
    ///
    /// # Errors
    /// [`Rejection::IpDenied`], or the reason why no address could be found.
    pub fn admit(&self, client: Result<ClientAddr, Rejection>, reports: &mut Reports) -> Result<Admitted, Rejection> {
        let Allowlist::Only { nets, mode } = self else {
            return Ok(Admitted { client: client.ok() });
        };
        match client {
            Ok(client) if nets.contains(client.ip()) => {}
            Ok(_) => mode.apply(Rejection::IpDenied, reports)?,
            Err(rejection) => mode.apply(rejection, reports)?,
        }
        Ok(Admitted { client: client.ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::peer::{Peer, TrustedProxies};
    use http::HeaderMap;

    fn client(ip: &str) -> Result<ClientAddr, Rejection> {
        TrustedProxies::default().client_addr(Peer::Ip(ip.parse().unwrap()), &HeaderMap::new())
    }

    fn only(source: &str, mode: Enforcement) -> Allowlist {
        Allowlist::Only { nets: parse_source(source).unwrap().into(), mode }
    }

    fn admits(source: &str, ip: &str) -> bool {
        only(source, Enforcement::Enforce).admit(client(ip), &mut Reports::default()).is_ok()
    }

    #[test]
    fn each_preset_ends_where_telnyx_says() {
        let cases = [
            ("telnyx-messaging", "192.76.120.191", false),
            ("telnyx-messaging", "192.76.120.192", true),
            ("telnyx-messaging", "192.76.120.223", true),
            ("telnyx-messaging", "192.76.120.224", false),
            ("telnyx-regional", "192.76.120.139", true),
            ("telnyx-regional", "192.76.120.152", false),
            ("telnyx-regional", "103.115.244.15", true),
            ("telnyx-regional", "103.115.244.16", false),
            ("telnyx", "192.76.120.127", false),
            ("telnyx", "192.76.120.128", true),
            ("telnyx", "192.76.120.139", true),
            ("telnyx", "192.76.120.223", true),
            ("telnyx", "192.76.120.224", false),
            ("telnyx", "185.246.41.63", true),
            ("telnyx", "185.246.41.64", false),
            ("telnyx", "103.115.244.63", true),
        ];
        for (preset, ip, admitted) in cases {
            assert_eq!(admits(preset, ip), admitted, "{preset} {ip}");
        }
    }

    #[test]
    fn the_default_preset_holds_the_other_two() {
        let all = parse_source("telnyx").unwrap();
        for preset in &PRESETS[1..] {
            for range in parse_source(preset.name).unwrap() {
                assert!(all.iter().any(|net| net.contains(&range)), "{range}");
            }
        }
    }

    #[test]
    fn mapped_addresses_match_as_ipv4_on_either_side() {
        assert!(admits("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(admits("::ffff:192.0.2.0/120", "192.0.2.9"));
        assert!(admits("2001:db8::/32", "2001:db8::7"));
        assert!(!admits("192.0.2.0/24", "2001:db8::7"));
    }

    #[test]
    fn a_source_that_means_nothing_says_what_would() {
        assert!(parse_source("telnix").unwrap_err().contains("telnyx-messaging"));
        assert!(parse_source("10.0.0.1/8").unwrap_err().contains("did you mean 10.0.0.0/8"));
        assert_eq!(parse_source("10.0.0.1").unwrap()[0].to_string(), "10.0.0.1/32");
    }

    #[test]
    fn report_lets_the_wrong_and_the_undecided_pass_with_a_note() {
        let list = only("192.0.2.0/24", Enforcement::Report);
        let mut reports = Reports::default();
        assert!(list.admit(client("6.6.6.6"), &mut reports).is_ok());
        let undecided = list.admit(Err(Rejection::ClientIpUndetermined), &mut reports).unwrap();
        assert!(undecided.client().is_none());
        assert_eq!(reports.iter().collect::<Vec<_>>(), [Rejection::IpDenied, Rejection::ClientIpUndetermined]);
    }

    #[test]
    fn off_admits_anyone_without_a_note() {
        let mut reports = Reports::default();
        assert!(Allowlist::Off.admit(Err(Rejection::ClientIpUndetermined), &mut reports).is_ok());
        assert!(reports.is_empty());
    }
}
