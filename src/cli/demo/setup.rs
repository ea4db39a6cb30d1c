//! The demo's configuration: the defaults, on loopback, in a temporary directory.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;

use crate::config::reader::problem::Problems;
use crate::config::resolve::{Overrides, Resolved, SourceFile, resolve};

/// File of the scratch directory with the key that signs the demo's traffic.
pub(super) const SECRET_KEY_FILE: &str = "secret.key";
/// Small, so that a body that is too large is quickly sent.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;

/// One route for everything, in front of the app. Loopback is a trusted proxy, so that the demo's
/// traffic can claim an address in `X-Forwarded-For`, and the allowlist has something to judge.
///
/// # Errors
/// None that is known: the text is the program's own.
pub(super) fn config(
    data_dir: &Path,
    public_port: u16,
    app: SocketAddr,
    key: VerifyingKey,
) -> Result<Resolved, Problems> {
    let text = format!(
        "
listen: [{{ address: '127.0.0.1:{public_port}' }}]
admin: {{ address: '127.0.0.1:0' }}
data_dir: '{data_dir}'
client_ip: {{ trusted_proxies: [127.0.0.1] }}
upstream: {{ url: 'http://{app}' }}
routes: [{{ name: demo, keys: [{{ name: demo, value: '{key}' }}], max_body: {MAX_BODY_BYTES} }}]
buffer: {{ max_bytes: 64MiB, require: process, dedupe_entries: 100000 }}
# Quick, so that a retry can be watched.
delivery: {{ retry: {{ base: 100ms, max: 5s }} }}
shutdown: {{ drain: 5s }}
log: {{ level: warn, format: text }}
threads: 2
",
        data_dir = data_dir.display().to_string().replace('\'', "''"),
        key = STANDARD.encode(key.as_bytes()),
    );
    resolve(Some(&SourceFile { name: "demo".to_owned(), text }), &Overrides::default(), &|_| None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::allowlist::{Allowlist, PRESETS};
    use std::net::IpAddr;

    #[test]
    fn the_list_is_the_default_preset_and_holds_the_address_that_the_demo_claims() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let config = config(Path::new("/no'where"), 0, "127.0.0.1:1".parse().unwrap(), key).unwrap().config;
        assert_eq!(config.data_dir, Path::new("/no'where"));
        let Allowlist::Only { nets, .. } = &config.routes[0].checks().unwrap().allowlist else { panic!() };
        assert_eq!((PRESETS[0].name, nets.as_slice().len()), ("telnyx", PRESETS[0].ranges.len()));
        let claimed: IpAddr = super::super::TELNYX_ADDRESS.parse().unwrap();
        assert!(nets.contains(claimed));
    }
}
