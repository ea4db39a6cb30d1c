//! The keys that Telnyx signs with, in every form people paste them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::VerifyingKey;
use thiserror::Error;

/// DER header of an Ed25519 `SubjectPublicKeyInfo` (RFC 8410 §4); the 32 key bytes follow.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a text is not a usable public key. Never repeats the text: it may be a secret pasted by
/// mistake.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing there.
    #[error("is empty; copy the key from the portal: Keys & Credentials > Public Key")]
    Empty,
    /// A Telnyx API key (v2 API keys start with `KEY`).
    #[error(
        "is an API key, not the public key; the public key is under Keys & Credentials > Public Key, and the API key should be revoked if this file is shared"
    )]
    ApiKey,
    /// Neither hex, base64 nor PEM.
    #[error("is neither base64, hex nor PEM; expected 44 characters of base64 from Keys & Credentials > Public Key")]
    NotEncoded,
    /// Decoded, but not 32 bytes nor a 44-byte SPKI.
    #[error(
        "decodes to {0} bytes, an Ed25519 public key has 32; was it cut off, or is it a secret key or a signature?"
    )]
    Length(usize),
    /// PEM or DER of another kind of key.
    #[error("is a key of another kind (RSA, EC, a private key or a certificate); expected an Ed25519 public key")]
    OtherKind,
    /// Not a point of the curve.
    #[error("is not a point on the Ed25519 curve: a character is wrong; copy it again")]
    OffCurve,
    /// A low-order point, under which anyone can forge.
    #[error("is a weak key (all zero or of low order) under which anybody can forge signatures; copy the real one")]
    Weak,
}

/// A key of the configuration, with the name under which metrics and headers show it.
#[derive(Debug, Clone)]
pub struct NamedKey {
    /// `name` of the configuration, or `key1`, `key2`.
    pub name: std::sync::Arc<str>,
    /// The key.
    pub key: VerifyingKey,
}

/// A public key in its X.509 form, SubjectPublicKeyInfo in DER (RFC 8410 §4).
pub fn spki_der(key: &VerifyingKey) -> [u8; 44] {
    let mut der = [0; 44];
    let (prefix, bytes) = der.split_at_mut(SPKI_PREFIX.len());
    prefix.copy_from_slice(&SPKI_PREFIX);
    bytes.copy_from_slice(key.as_bytes());
    der
}

/// Reads a public key: base64 (padded or not), 64 hex digits, base64 of SPKI DER, or PEM; white
/// space and quotes around it are dropped.
///
/// # Errors
/// Each mistake has its own [`KeyError`].
pub fn parse_public_key(text: &str) -> Result<VerifyingKey, KeyError> {
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    if trimmed.is_empty() {
        return Err(KeyError::Empty);
    }
    if trimmed.starts_with("KEY") && !trimmed.ends_with('=') {
        return Err(KeyError::ApiKey);
    }
    let bytes = decode(trimmed)?;
    let raw: [u8; 32] = match bytes.len() {
        32 => bytes.as_slice().try_into().map_err(|_| KeyError::Length(32))?,
        44 if bytes.starts_with(&SPKI_PREFIX) => {
            bytes[SPKI_PREFIX.len()..].try_into().map_err(|_| KeyError::Length(44))?
        }
        _ if bytes.first() == Some(&0x30) => return Err(KeyError::OtherKind),
        length => return Err(KeyError::Length(length)),
    };
    if raw == [0; 32] {
        return Err(KeyError::Weak);
    }
    let key = VerifyingKey::from_bytes(&raw).map_err(|_| KeyError::OffCurve)?;
    if key.is_weak() {
        return Err(KeyError::Weak);
    }
    Ok(key)
}

fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    if let Some(pem) = text.strip_prefix("-----BEGIN ") {
        let pem = pem.strip_prefix("PUBLIC KEY-----").ok_or(KeyError::OtherKind)?;
        let (inner, _) = pem.split_once("-----END PUBLIC KEY-----").ok_or(KeyError::NotEncoded)?;
        // A PEM in an environment variable often has its line ends written as backslash n.
        let inner: String = inner.replace("\\n", "").split_whitespace().collect();
        return STANDARD.decode(inner).map_err(|_| KeyError::NotEncoded);
    }
    // Hex first: 64 hex digits are also valid base64, of 48 bytes.
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return decode_hex(text).ok_or(KeyError::NotEncoded);
    }
    let inner: String = text.split_whitespace().collect();
    STANDARD.decode(&inner).or_else(|_| STANDARD_NO_PAD.decode(&inner)).map_err(|_| KeyError::NotEncoded)
}

/// Bytes of an even number of hex digits.
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |b: u8| (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const B64: &str = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";
    const HEX: &str = "8eb301a2cc07961855c765b65b0c3bd9653fc67e143298eb7ac943d26daed2ab";
    const SPKI: &str = "MCowBQYDK2VwAyEAjrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";

    #[test]
    fn every_form_that_people_paste_is_the_same_key() {
        let key = parse_public_key(B64).unwrap();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{SPKI}\n-----END PUBLIC KEY-----\n");
        let forms = [
            format!("  {B64}\n"),
            format!("\"{B64}\""),
            format!("'{B64}'\r\n"),
            B64.trim_end_matches('=').to_owned(),
            HEX.to_owned(),
            HEX.to_uppercase(),
            SPKI.to_owned(),
            pem.clone(),
            pem.replace('\n', "\\n"),
        ];
        for form in forms {
            assert_eq!(parse_public_key(&form), Ok(key), "{form:?}");
        }
    }

    #[test]
    fn every_mistake_has_its_own_message() {
        let cases = [
            ("", KeyError::Empty),
            (" \n", KeyError::Empty),
            ("\"\"", KeyError::Empty),
            ("KEY0123456789ABCDEF_abcdefgh", KeyError::ApiKey),
            ("hello, world", KeyError::NotEncoded),
            ("jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0g", KeyError::Length(31)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", KeyError::Weak),
            // The identity point, under which every message can be forged.
            ("0100000000000000000000000000000000000000000000000000000000000000", KeyError::Weak),
            // y = 2 is on no point of the curve.
            ("0200000000000000000000000000000000000000000000000000000000000000", KeyError::OffCurve),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", KeyError::OtherKind),
            ("-----BEGIN PUBLIC KEY-----\nAAAA", KeyError::NotEncoded),
            (
                "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAA\n-----END PUBLIC KEY-----",
                KeyError::OtherKind,
            ),
        ];
        let mut messages = std::collections::HashSet::new();
        for (text, error) in cases {
            assert_eq!(parse_public_key(text), Err(error), "{text:?}");
            messages.insert(error.to_string());
            assert!(text.trim().len() < 8 || !error.to_string().contains(text.trim()), "the text is not repeated");
        }
        assert_eq!(messages.len(), 7);
    }
}
