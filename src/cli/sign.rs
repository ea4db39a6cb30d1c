//! `hookward sign`: the two header lines that Telnyx would send with a body.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ed25519_dalek::SigningKey;

use super::output::{FAILED, USAGE, fail, finish};
use super::secret_key;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Secret;
use crate::gate::signature;

/// Print the two header lines that Telnyx would send with a body
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: sign a body and post exactly those bytes
  hookward sign --secret-key @test.key --body event.json > headers.txt
  curl -H @headers.txt -H 'Content-Type: application/json' --data-binary @event.json http://127.0.0.1:8080/")]
pub struct Args {
    /// Key to sign with: base64 or hex of the 32-byte seed, or @FILE
    #[arg(long, value_name = "KEY", value_parser = secret_key::argument)]
    secret_key: Secret,
    /// Unix time to sign, seconds [default: now]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=9_999_999_999_999))]
    timestamp: Option<i64>,
    /// File that holds the body; - reads it from stdin. Every byte is signed, a last newline too
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
}

/// Prints the two header lines.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let key = match secret_key::read(&args.secret_key) {
        Ok(key) => key,
        Err(error) => return fail(USAGE, &error),
    };
    let body = match read_body(&args.body) {
        Ok(body) => body,
        Err(error) => return fail(FAILED, &format!("the body cannot be read from {}: {error}", args.body.display())),
    };
    let timestamp_s = args.timestamp.unwrap_or_else(|| SystemClock::new().unix_ms().div_euclid(1000));
    finish(&header_lines(&key, timestamp_s, &body), ExitCode::SUCCESS)
}

fn read_body(path: &Path) -> std::io::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path);
    }
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body)?;
    Ok(body)
}

fn header_lines(key: &SigningKey, timestamp_s: i64, body: &[u8]) -> String {
    let signature = signature::sign(key, timestamp_s, body);
    format!("Telnyx-Signature-Ed25519: {signature}\nTelnyx-Timestamp: {timestamp_s}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, signed_message};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn the_lines_carry_the_headers_that_are_verified() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let text = header_lines(&key, 1_700_000_000, b"body\n");
        let lines: Vec<_> = text.lines().map(|line| line.split_once(": ").unwrap()).collect();
        assert_eq!(lines[0].0.to_lowercase(), SIGNATURE_HEADER);
        assert_eq!(lines[1].0.to_lowercase(), TIMESTAMP_HEADER);
        let signature = ed25519_dalek::Signature::from_slice(&STANDARD.decode(lines[0].1).unwrap()).unwrap();
        let message = signed_message(lines[1].1.as_bytes(), b"body\n");
        assert!(key.verifying_key().verify_strict(&message, &signature).is_ok());
    }

    #[test]
    fn a_file_is_signed_as_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xef\xbb\xbf{}\r\n\0").unwrap();
        assert_eq!(read_body(file.path()).unwrap(), b"\xef\xbb\xbf{}\r\n\0");
        assert!(read_body(Path::new("/does/not/exist")).is_err());
    }
}
