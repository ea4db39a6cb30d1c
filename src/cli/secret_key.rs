//! The secret key of `--secret-key`: a test key, given as it is or as `@file`.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use thiserror::Error;

use crate::config::Secret;
use crate::gate::keys::decode_hex;

/// Why a text is not a usable secret key. Never repeats the text.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SecretKeyError {
    /// The file of `@file` cannot be read.
    #[error("the secret key's file {path} cannot be read: {problem}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// Nothing there.
    #[error("the secret key is empty; `hookward keygen` makes one")]
    Empty,
    /// A Telnyx API key.
    #[error("the secret key is a Telnyx API key, which signs nothing; `hookward keygen` makes a test key")]
    ApiKey,
    /// PEM.
    #[error("the secret key is PEM; expected base64 of the 32-byte seed, as `hookward keygen` prints it")]
    Pem,
    /// Neither base64 nor hex.
    #[error("the secret key is neither base64 nor hex; a file is given as @FILE")]
    NotEncoded,
    /// Decoded, but neither a seed nor seed and public key.
    #[error("the secret key decodes to {0} bytes; expected the 32-byte seed, or 64 bytes of seed and public key")]
    Length(usize),
    /// 64 bytes whose halves do not belong together.
    #[error("the secret key's second half is not the public key of its first; is it a signature?")]
    NotAPair,
}

/// The argument as typed, kept from being shown: clap repeats a value that its parser refuses, so
/// this one refuses nothing and [`read`] judges later.
///
/// # Errors
/// None.
pub fn argument(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret(text.to_owned()))
}

/// Reads the key itself, or `@file`.
///
/// # Errors
/// See [`SecretKeyError`].
pub fn read(argument: &Secret) -> Result<SigningKey, SecretKeyError> {
    let Some(path) = argument.0.strip_prefix('@') else {
        return parse(&argument.0);
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| SecretKeyError::File { path: path.to_owned(), problem: error.to_string() })?;
    parse(&text)
}

/// Reads base64 (padded or not) or hex of the 32-byte seed, or of the 64 bytes that libsodium calls
/// the secret key: seed, then public key. White space and quotes around it are dropped.
///
/// # Errors
/// See [`SecretKeyError`].
pub fn parse(text: &str) -> Result<SigningKey, SecretKeyError> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    if text.is_empty() {
        return Err(SecretKeyError::Empty);
    }
    if text.starts_with("KEY") && !text.ends_with('=') {
        return Err(SecretKeyError::ApiKey);
    }
    if text.starts_with("-----BEGIN ") {
        return Err(SecretKeyError::Pem);
    }
    let bytes = decode(text).ok_or(SecretKeyError::NotEncoded)?;
    let key = match bytes.first_chunk::<SECRET_KEY_LENGTH>() {
        Some(seed) if matches!(bytes.len(), 32 | 64) => SigningKey::from_bytes(seed),
        _ => return Err(SecretKeyError::Length(bytes.len())),
    };
    let public = &bytes[SECRET_KEY_LENGTH..];
    if !public.is_empty() && public != key.verifying_key().as_bytes() {
        return Err(SecretKeyError::NotAPair);
    }
    Ok(key)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    // Hex first: 64 hex digits are also valid base64, of 48 bytes.
    if matches!(text.len(), 64 | 128) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return decode_hex(text);
    }
    STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_in_every_form() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = STANDARD.encode(key.as_bytes());
        for form in [
            base64.clone(),
            base64.trim_end_matches('=').to_owned(),
            format!("  \"{base64}\"\n"),
            hex,
            STANDARD.encode(key.to_keypair_bytes()),
        ] {
            assert_eq!(parse(&form).unwrap().as_bytes(), key.as_bytes(), "{form}");
        }
    }

    #[test]
    fn a_file_may_hold_the_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{}\n", STANDARD.encode([7; 32]))).unwrap();
        let argument = Secret(format!("@{}", file.path().display()));
        assert_eq!(read(&argument).unwrap().as_bytes(), &[7; 32]);
        let missing = read(&Secret("@/does/not/exist".to_owned())).unwrap_err();
        assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
    }

    #[test]
    fn every_mistake_has_its_own_message_and_none_repeats_the_key() {
        let cases = [
            (String::new(), SecretKeyError::Empty),
            (" \n".to_owned(), SecretKeyError::Empty),
            ("KEY0123456789_abcdefgh".to_owned(), SecretKeyError::ApiKey),
            ("-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----".to_owned(), SecretKeyError::Pem),
            ("not a key at all".to_owned(), SecretKeyError::NotEncoded),
            (STANDARD.encode([1; 31]), SecretKeyError::Length(31)),
            (STANDARD.encode([1; 64]), SecretKeyError::NotAPair),
        ];
        for (text, error) in cases {
            assert_eq!(parse(&text).unwrap_err(), error);
            assert!(text.trim().len() < 8 || !error.to_string().contains(text.trim()), "{error}");
        }
        assert!(!format!("{:?}", argument("secret").unwrap()).contains("secret"));
    }
}
