//! `hookward pubkey`: what an app needs to verify hookward's own signature.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::output::{FAILED, USAGE, complain, fail, finish};
use super::{BAD_CONFIG, ConfigArgs, secret_key};
use crate::config::{Config, End, Handling, Route, Secret, Signer};
use crate::forward::sign::Scheme;
use crate::gate::keys::spki_der;

/// Print the public key of the key that signs towards the app
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: what the app behind hookward, and not hookward itself, gets as its TELNYX_PUBLIC_KEY
  hookward pubkey --config hookward.yaml
  hookward pubkey --secret-key @app.key
  hookward pubkey --format pem > app.pem

One key is printed alone, several each with the names of their routes. No newline follows the one key
where a file or another program gets it: several of Telnyx's SDKs refuse a key with one at its end.
A PEM text ends with its newline. A symmetric secret
(whsec_) has no public key: the app is given the secret itself, and the exit code is 1 if there is no
other.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Of this key instead of the configuration's: as in `upstream.sign.key`, or @FILE
    #[arg(long, value_name = "KEY", value_parser = secret_key::argument)]
    secret_key: Option<Secret>,
    /// How the key is written
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// Print {"keys": [{"scheme", "public_key", "routes"}]} instead of lines
    #[arg(long)]
    json: bool,
}

/// How a public key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// As SDKs take it: base64 of the 32 bytes; for Standard Webhooks with `whpk_` before it
    Raw,
    /// Base64 of the X.509 form (SubjectPublicKeyInfo, DER), which Java and .NET read
    Spki,
    /// The X.509 form in PEM, which OpenSSL reads
    Pem,
}

/// Prints the keys: 0, or 1 where no public key is to be had, 78 on a bad configuration.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let keys = match &args.secret_key {
        Some(key) => match signer_of(key) {
            Ok(signer) => vec![AppKey { signer: Arc::new(signer), routes: Vec::new() }],
            Err(problem) => return fail(USAGE, &problem),
        },
        None => match args.config.resolve() {
            Ok(resolved) => keys_of(&resolved.config),
            Err(problems) => {
                complain(&problems);
                return ExitCode::from(BAD_CONFIG);
            }
        },
    };
    let has_public = keys.iter().any(|key| key.signer.public_key().is_some());
    let code = if has_public { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    if args.json {
        return finish(&format!("{}\n", as_json(&keys, args.format)), code);
    }
    if keys.is_empty() {
        return fail(FAILED, &"nothing is signed towards an app: no route of mode ack or proxy has `upstream.sign`");
    }
    if !has_public {
        return fail(FAILED, &format!("no public key: {SYMMETRIC}"));
    }
    finish(&as_text(&keys, args.format, std::io::stdout().is_terminal()), code)
}

const SYMMETRIC: &str = "the secret is symmetric (whsec_), so the app verifies with the same secret";

/// A key and whose events it signs.
struct AppKey {
    signer: Arc<Signer>,
    routes: Vec<Arc<str>>,
}

impl AppKey {
    /// The public key, if it has one.
    fn public(&self, format: Format) -> Option<String> {
        let spki = || Some(STANDARD.encode(spki_der(&self.signer.verifying_key()?)));
        match format {
            Format::Raw => self.signer.public_key(),
            Format::Spki => spki(),
            Format::Pem => Some(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", spki()?)),
        }
    }
}

fn signer_of(argument: &Secret) -> Result<Signer, String> {
    let text = secret_key::text(argument).map_err(|error| error.to_string())?;
    Signer::parse(Scheme::of_key(&text.0), &text.0).map_err(|error| format!("the secret key {error}"))
}

/// The keys that sign, in the order of the routes.
fn keys_of(config: &Config) -> Vec<AppKey> {
    let mut keys: Vec<AppKey> = Vec::new();
    for route in &config.routes {
        let Some(signer) = signer_for(route) else { continue };
        match keys.iter_mut().find(|key| key.signer == *signer) {
            Some(key) => key.routes.push(route.name.clone()),
            None => keys.push(AppKey { signer: signer.clone(), routes: vec![route.name.clone()] }),
        }
    }
    keys
}

/// What signs the events of a route; nothing where they are not verified or not sent on.
fn signer_for(route: &Route) -> Option<&Arc<Signer>> {
    match &route.handling {
        Handling::Verified(_, End::Ack { upstream, .. } | End::Proxy(upstream)) => upstream.signer.as_ref(),
        Handling::Verified(_, End::Verify) | Handling::Passed(_) => None,
    }
}

/// One key alone, ready to be a file or an environment variable.
fn as_text(keys: &[AppKey], format: Format, is_terminal: bool) -> String {
    let shown = |key: &AppKey| key.public(format).unwrap_or_else(|| SYMMETRIC.to_owned());
    match keys {
        [key] if format == Format::Pem || is_terminal => format!("{}\n", shown(key)),
        [key] => shown(key),
        keys => {
            let gap = if format == Format::Pem { "\n" } else { " " };
            keys.iter().map(|key| format!("{}:{gap}{}\n", key.routes.join(", "), shown(key))).collect()
        }
    }
}

fn as_json(keys: &[AppKey], format: Format) -> serde_json::Value {
    let shown = |key: &AppKey| {
        let routes: Vec<&str> = key.routes.iter().map(|route| &**route).collect();
        json!({ "scheme": key.signer.scheme().name(), "public_key": key.public(format), "routes": routes })
    };
    json!({ "keys": keys.iter().map(shown).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_follows_one_key_only_where_a_person_reads_it() {
        let key = |route: &str| AppKey {
            signer: Arc::new(Signer::parse(Scheme::Telnyx, &STANDARD.encode([9; 32])).unwrap()),
            routes: vec![route.into()],
        };
        let text = |format, is_terminal| as_text(&[key("a")], format, is_terminal);
        for format in [Format::Raw, Format::Spki] {
            assert_eq!(text(format, true), format!("{}\n", text(format, false)));
            assert!(!text(format, false).contains('\n'));
        }
        assert_eq!(text(Format::Pem, true), text(Format::Pem, false));
        assert!(text(Format::Pem, false).ends_with("-----END PUBLIC KEY-----\n"));
        let several = as_text(&[key("a"), key("b")], Format::Spki, false);
        assert!(several.ends_with('\n') && several.lines().all(|line| line.contains(": MCow")), "{several}");
    }
}
