//! Sets of addresses: a look-up costs the same for four networks as for thousands.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks, as disjoint ranges in order beside the list that was configured.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    configured: Vec<IpNet>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl From<Vec<IpNet>> for Networks {
    fn from(configured: Vec<IpNet>) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in &configured {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Networks { configured, v4: disjoint(v4), v6: disjoint(v6) }
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Networks {
        Vec::from_iter(nets).into()
    }
}

impl Networks {
    /// Whether one of them holds this address. IPv4 addresses and IPv6 ones that stand for them are not
    /// the same here.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => is_in(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => is_in(&self.v6, ip.to_bits()),
        }
    }

    /// As they are configured.
    pub fn as_slice(&self) -> &[IpNet] {
        &self.configured
    }
}

/// Each range without what an earlier one holds already.
fn disjoint<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    // Networks lie within each other or apart, so one that is not within the last begins after its end.
    ranges.dedup_by(|(_, last), (_, end)| *last <= *end);
    ranges
}

/// Whether a range holds this address: only the last that begins at it or before it can.
fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let begun = ranges.partition_point(|(first, _)| *first <= address);
    begun.checked_sub(1).is_some_and(|index| address <= ranges[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn networks(nets: &[&str]) -> Networks {
        nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn each_network_ends_where_it_says() {
        let nets = networks(&["192.0.2.0/25", "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128"]);
        for (ip, is_in) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.0.2.127", true),
            ("192.0.2.128", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(nets.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
        let all = networks(&["0.0.0.0/0", "::/0"]);
        assert!(["0.0.0.0", "255.255.255.255", "::", "ffff::1"].iter().all(|ip| all.contains(ip.parse().unwrap())));
    }

    /// Few bits in few places, so that networks touch, overlap and hold the addresses.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0..64u32, prop::sample::select(vec![0, 8, 24]))
                .prop_map(|(bits, at)| Ipv4Addr::from_bits(bits << at).into()),
            (0..64u128, prop::sample::select(vec![0, 60, 120]))
                .prop_map(|(bits, at)| Ipv6Addr::from_bits(bits << at).into()),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_look_at_each_network(
            nets in prop::collection::vec((address(), 0..=128u8), 0..40),
            asked in prop::collection::vec(address(), 1..40),
        ) {
            let net = |(ip, prefix): (IpAddr, u8)| {
                let most = if ip.is_ipv4() { 32 } else { 128 };
                IpNet::new(ip, prefix % (most + 1)).unwrap().trunc()
            };
            let nets: Vec<IpNet> = nets.into_iter().map(net).collect();
            let networks = Networks::from(nets.clone());
            for ip in asked {
                prop_assert_eq!(networks.contains(ip), nets.iter().any(|net| net.contains(&ip)), "{} {:?}", ip, nets);
            }
        }
    }
}
