//! `hookward pubkey`: what an app needs to verify hookward's own signature.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::output::{FAILED, USAGE, complain, fail, finish};
use super::{BAD_CONFIG, ConfigArgs, secret_key};
use crate::config::{Config, End, Handling, Route, Secret, Signer};
use crate::forward::sign::Scheme;

/// Print the public key of the key that signs towards the app
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: what the app behind hookward, and not hookward itself, gets as its TELNYX_PUBLIC_KEY
  hookward pubkey --config hookward.yaml
  hookward pubkey --secret-key @app.key

One key is printed alone, several one a line behind the names of their routes. A symmetric secret
(whsec_) has no public key: the app is given the secret itself, and the exit code is 1 if there is no
other.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Of this key instead of the configuration's: as in `upstream.sign.key`, or @FILE
    #[arg(long, value_name = "KEY", value_parser = secret_key::argument)]
    secret_key: Option<Secret>,
    /// Print {"keys": [{"scheme", "public_key", "routes"}]} instead of lines
    #[arg(long)]
    json: bool,
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
        return finish(&format!("{}\n", as_json(&keys)), code);
    }
    if keys.is_empty() {
        return fail(FAILED, &"nothing is signed towards an app: no route of mode ack or proxy has `upstream.sign`");
    }
    if !has_public {
        return fail(FAILED, &format!("no public key: {SYMMETRIC}"));
    }
    finish(&as_lines(&keys), code)
}

const SYMMETRIC: &str = "the secret is symmetric (whsec_), so the app verifies with the same secret";

/// A key and whose events it signs.
struct AppKey {
    signer: Arc<Signer>,
    routes: Vec<Arc<str>>,
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

fn as_lines(keys: &[AppKey]) -> String {
    let shown = |key: &AppKey| key.signer.public_key().unwrap_or_else(|| SYMMETRIC.to_owned());
    match keys {
        [key] => format!("{}\n", shown(key)),
        keys => keys.iter().map(|key| format!("{}: {}\n", key.routes.join(", "), shown(key))).collect(),
    }
}

fn as_json(keys: &[AppKey]) -> serde_json::Value {
    let shown = |key: &AppKey| {
        let routes: Vec<&str> = key.routes.iter().map(|route| &**route).collect();
        json!({ "scheme": key.signer.scheme().name(), "public_key": key.signer.public_key(), "routes": routes })
    };
    json!({ "keys": keys.iter().map(shown).collect::<Vec<_>>() })
}
