//! The demo's configuration: the defaults, on loopback, in a temporary directory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use http::Method;

use crate::config::{
    Admin, Buffer, ClientIpLog, Config, Dedupe, Delivery, Destination, Durability, Limits, ListenAddress, Listener,
    Log, LogFormat, PathPattern, Retry, Route, Shutdown, Upstream,
};
use crate::gate::Enforcement;
use crate::gate::allowlist::{Allowlist, PRESETS};
use crate::gate::keys::NamedKey;
use crate::gate::peer::TrustedProxies;
use crate::gate::timestamp::Tolerance;

/// File of the scratch directory with the key that signs the demo's traffic.
pub(super) const SECRET_KEY_FILE: &str = "secret.key";
/// Small, so that a body that is too large is quickly sent.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;

const HOUR: Duration = Duration::from_secs(3600);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One route for everything, in front of the app. Loopback is a trusted proxy, so that the demo's
/// traffic can claim an address in `X-Forwarded-For`, and the allowlist has something to judge.
pub(super) fn config(data_dir: &Path, public_port: u16, app: SocketAddr, key: VerifyingKey) -> Config {
    let upstream = Arc::new(Upstream {
        destination: Destination::Tcp { host: app.ip().to_string(), port: app.port(), tls: None },
        host: None,
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(15),
        max_concurrency: 32,
    });
    Config {
        listen: vec![Listener::plain(ListenAddress::Tcp(SocketAddr::new(LOOPBACK, public_port)))],
        admin: Admin { address: SocketAddr::new(LOOPBACK, 0), token: None },
        data_dir: data_dir.to_owned(),
        trusted_proxies: TrustedProxies { nets: vec![LOOPBACK.into()], ..TrustedProxies::default() },
        routes: vec![route(key, upstream.clone())],
        default_upstream: Some(upstream),
        limits: Limits {
            connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            header_bytes: 32 * 1024,
            header_count: 100,
            uri_bytes: 8 * 1024,
            idle_timeout: Duration::from_secs(75),
        },
        buffer: Buffer { max_bytes: 64 * 1024 * 1024, require: Durability::Process, dedupe_entries: 100_000 },
        delivery: Delivery {
            // Quick, so that a retry can be watched.
            retry: Retry {
                base: Duration::from_millis(100),
                max: Duration::from_secs(5),
                max_age: 72 * HOUR,
                client_errors: 8,
            },
            dead_letter_keep: 336 * HOUR,
            delivered_keep: Duration::ZERO,
        },
        shutdown: Shutdown { delay: Duration::ZERO, drain: Duration::from_secs(5) },
        log: Log {
            client_ip: ClientIpLog::Full,
            level: tracing::Level::WARN,
            format: LogFormat::Text,
            accepted_per_s: 100,
        },
        threads: 2,
    }
}

fn route(key: VerifyingKey, upstream: Arc<Upstream>) -> Route {
    let tolerance = Duration::from_secs(300);
    Route {
        name: "demo".into(),
        path: PathPattern::Prefix("/".to_owned()),
        methods: vec![Method::POST],
        keys: vec![NamedKey { name: "demo".into(), key }],
        allowlist: Allowlist::Only { nets: telnyx_ranges(), mode: Enforcement::Enforce },
        signature: Enforcement::Enforce,
        tolerance: Tolerance { past: tolerance, future: tolerance, mode: Enforcement::Enforce },
        max_body_bytes: MAX_BODY_BYTES,
        dedupe: Some(Dedupe { window: 24 * HOUR, scope: "demo".into() }),
        upstream,
    }
}

/// The default preset.
fn telnyx_ranges() -> Vec<ipnet::IpNet> {
    PRESETS[0].ranges.iter().filter_map(|range| range.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_default_preset_and_holds_the_address_that_the_demo_claims() {
        assert_eq!(PRESETS[0].name, "telnyx");
        assert_eq!(telnyx_ranges().len(), PRESETS[0].ranges.len());
        let claimed: IpAddr = super::super::TELNYX_ADDRESS.parse().unwrap();
        assert!(telnyx_ranges().iter().any(|range| range.contains(&claimed)));
    }

    #[test]
    fn everything_is_on_loopback() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let config = config(Path::new("/nowhere"), 0, "127.0.0.1:1".parse().unwrap(), key);
        let is_loopback =
            |address: &ListenAddress| matches!(address, ListenAddress::Tcp(address) if address.ip().is_loopback());
        assert!(config.listen.iter().all(|listener| is_loopback(&listener.address)));
        assert!(config.admin.address.ip().is_loopback());
    }
}
