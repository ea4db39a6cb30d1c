//! `hookward keygen`: an Ed25519 test key pair, in Telnyx's form.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};

use super::output::{FAILED, fail, finish};

/// Make an Ed25519 test key pair, in Telnyx's form
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: a key pair to test with
  hookward keygen --json > pair.json
  jq -r .secret pair.json > test.key
  hookward run --public-key \"$(jq -r .public pair.json)\" --upstream http://127.0.0.1:3000 --ip-allowlist off
  hookward send http://127.0.0.1:8080/ --secret-key @test.key")]
pub struct Args {
    /// Print {"public": …, "secret": …} instead of two lines
    #[arg(long)]
    json: bool,
}

/// Makes a key pair and prints it: the public key as Telnyx's portal shows one, the secret key as
/// `sign` and `send` take it.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    match generate() {
        Ok(key) => finish(&render(&key, &args), ExitCode::SUCCESS),
        Err(error) => fail(FAILED, &format!("the system gives no random bytes: {error}")),
    }
}

/// A fresh key from the system's random source.
///
/// # Errors
/// When the system has none.
pub(super) fn generate() -> Result<SigningKey, getrandom::Error> {
    let mut seed = [0; SECRET_KEY_LENGTH];
    getrandom::fill(&mut seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

fn render(key: &SigningKey, args: &Args) -> String {
    let public = STANDARD.encode(key.verifying_key().as_bytes());
    let secret = STANDARD.encode(key.as_bytes());
    if args.json {
        return format!("{}\n", serde_json::json!({ "public": public, "secret": secret }));
    }
    format!("public: {public}\nsecret: {secret}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::secret_key;
    use crate::gate::keys::parse_public_key;

    #[test]
    fn both_halves_can_be_read_back_and_belong_together() {
        let key = generate().unwrap();
        let json: serde_json::Value = serde_json::from_str(&render(&key, &Args { json: true })).unwrap();
        let public = parse_public_key(json["public"].as_str().unwrap()).unwrap();
        let secret = secret_key::parse(json["secret"].as_str().unwrap()).unwrap();
        assert_eq!(secret.verifying_key(), public);

        let text = render(&key, &Args { json: false });
        let lines: Vec<_> = text.lines().map(|line| line.split_once(": ").unwrap()).collect();
        assert_eq!(lines[0], ("public", json["public"].as_str().unwrap()));
        assert_eq!(lines[1], ("secret", json["secret"].as_str().unwrap()));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(generate().unwrap().as_bytes(), generate().unwrap().as_bytes());
    }
}
