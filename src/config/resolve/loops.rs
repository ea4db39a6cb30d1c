//! Upstreams that are a public listener of the same configuration: events would come back.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::{Destination, ListenAddress, Listener, Upstream};

/// Warns of each upstream that a public listener takes the connections of.
pub(super) fn judge<'u>(
    listeners: &[Listener],
    upstreams: impl Iterator<Item = &'u Upstream>,
    warnings: &mut Vec<String>,
) {
    let back = |upstream: &Upstream| {
        let listener = listeners.iter().find(|listener| is_reached(&listener.address, &upstream.destination))?;
        Some(format!(
            "upstream: {} is the public listener {} of this configuration, so events would come back and be refused (508 loop_detected); name the app's own address",
            upstream.destination, listener.address
        ))
    };
    warnings.extend(upstreams.filter_map(back).collect::<BTreeSet<_>>());
}

/// Whether connections to the destination end at the listener, as far as the two texts say.
fn is_reached(listener: &ListenAddress, destination: &Destination) -> bool {
    match (listener, destination) {
        (ListenAddress::Unix(socket), Destination::Unix(path)) => socket == path,
        (ListenAddress::Tcp(socket), Destination::Tcp { host, port, .. }) => {
            let Some(target) = address_of(host) else { return false };
            let own = socket.ip().to_canonical();
            let is_own = own == target || (target.is_loopback() && own.is_unspecified());
            // Both loopback addresses are the same place to `localhost`.
            let is_local = host.eq_ignore_ascii_case("localhost") && own.is_loopback();
            socket.port() == *port && *port != 0 && (is_own || is_local)
        }
        _ => false,
    }
}

/// The address that a host surely has; names of others are known at run time only.
fn address_of(host: &str) -> Option<IpAddr> {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if host.eq_ignore_ascii_case("localhost") {
        return Some(LOOPBACK);
    }
    let address = host.parse::<IpAddr>().ok()?.to_canonical();
    // Connecting to the unspecified address is connecting to this machine.
    Some(if address.is_unspecified() { LOOPBACK } else { address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_listener_where_the_texts_say_so_and_not_where_a_port_is_just_the_same() {
        let cases = [
            ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("0.0.0.0:8080", "http://127.0.0.1:8080", true),
            ("0.0.0.0:8080", "http://localhost:8080", true),
            ("[::]:8080", "https://LocalHost:8080", true),
            ("[::]:8080", "http://[::1]:8080", true),
            ("[::1]:8080", "http://localhost:8080", true),
            ("127.0.0.1:8080", "http://0.0.0.0:8080", true),
            ("0.0.0.0:80", "http://127.0.0.1", true),
            ("10.0.0.5:8080", "http://10.0.0.5:8080", true),
            ("10.0.0.5:8080", "http://[::ffff:10.0.0.5]:8080", true),
            ("unix:/run/in.sock", "unix:/run/in.sock", true),
            ("0.0.0.0:8080", "http://app:8080", false),
            ("0.0.0.0:8080", "http://10.0.0.5:8080", false),
            ("10.0.0.5:8080", "http://127.0.0.1:8080", false),
            ("127.0.0.1:8080", "http://127.0.0.1:8081", false),
            ("127.0.0.1:0", "http://127.0.0.1:8080", false),
            ("unix:/run/in.sock", "unix:/run/app.sock", false),
            ("unix:/run/in.sock", "http://127.0.0.1:8080", false),
        ];
        for (listener, url, is_own) in cases {
            let listener = match listener.strip_prefix("unix:") {
                Some(path) => ListenAddress::Unix(path.into()),
                None => ListenAddress::Tcp(listener.parse().unwrap()),
            };
            assert_eq!(is_reached(&listener, &Destination::parse(url).unwrap()), is_own, "{listener} {url}");
        }
    }
}
