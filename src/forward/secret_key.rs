//! Ed25519 secret keys, in every form people paste them. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::gate::keys::decode_hex;

/// DER of a PKCS#8 key of Ed25519 (RFC 8410 §7, RFC 5958), but for the two bytes that differ, a
/// length and the version; the 32 bytes of the seed follow, and in version 2 its public key.
const PKCS8_PREFIX: [Option<u8>; 16] = [
    Some(0x30),
    None,
    Some(0x02),
    Some(0x01),
    None,
    Some(0x30),
    Some(0x05),
    Some(0x06),
    Some(0x03),
    Some(0x2b),
    Some(0x65),
    Some(0x70),
    Some(0x04),
    Some(0x22),
    Some(0x04),
    Some(0x20),
];

/// Why a text is not a usable secret key. Never repeats the text.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SecretKeyError {
    /// Nothing there.
    #[error("is empty; `hookward keygen` makes one")]
    Empty,
    /// A Telnyx API key.
    #[error("is a Telnyx API key, which signs nothing; `hookward keygen` makes a key")]
    ApiKey,
    /// Neither base64, hex nor PEM.
    #[error("is neither base64, hex nor PEM; give the 32-byte seed in base64, as `hookward keygen` prints it")]
    NotEncoded,
    /// Decoded, but neither a seed nor seed and public key.
    #[error("decodes to {0} bytes; expected the 32-byte seed, or 64 bytes of seed and public key")]
    Length(usize),
    /// PEM or DER of another kind of key.
    #[error(
        "is a key of another kind (RSA, EC, a public key, or one with a passphrase); expected an Ed25519 secret key, `hookward keygen` makes one"
    )]
    OtherKind,
    /// 64 bytes whose halves do not belong together.
    #[error("is 64 bytes whose second half is not the public key of the first; is it a signature?")]
    NotAPair,
}

/// Reads base64 (padded or not) or hex of the 32-byte seed, or of the 64 bytes that libsodium calls
/// the secret key: seed, then public key; or PKCS#8, as PEM or base64 of its DER. White space and
/// quotes around it are dropped.
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
    let bytes = Zeroizing::new(decode(text)?);
    let seed = match seed_of_pkcs8(&bytes) {
        Some(seed) => return Ok(SigningKey::from_bytes(seed)),
        None if matches!(bytes.len(), 32 | 64) => bytes.first_chunk::<SECRET_KEY_LENGTH>(),
        None if bytes.first() == Some(&0x30) => return Err(SecretKeyError::OtherKind),
        None => None,
    };
    let key = SigningKey::from_bytes(seed.ok_or(SecretKeyError::Length(bytes.len()))?);
    let public = &bytes[SECRET_KEY_LENGTH..];
    if !public.is_empty() && public != key.verifying_key().as_bytes() {
        return Err(SecretKeyError::NotAPair);
    }
    Ok(key)
}

fn seed_of_pkcs8(der: &[u8]) -> Option<&[u8; SECRET_KEY_LENGTH]> {
    let (prefix, rest) = der.split_at_checked(PKCS8_PREFIX.len())?;
    let fits =
        prefix.iter().zip(PKCS8_PREFIX).all(|(byte, expected)| expected.is_none_or(|expected| *byte == expected));
    let whole = usize::from(prefix[1]) == der.len() - 2;
    if fits && whole { rest.first_chunk() } else { None }
}

fn decode(text: &str) -> Result<Vec<u8>, SecretKeyError> {
    if let Some(pem) = text.strip_prefix("-----BEGIN ") {
        let pem = pem.strip_prefix("PRIVATE KEY-----").ok_or(SecretKeyError::OtherKind)?;
        let (inner, _) = pem.split_once("-----END PRIVATE KEY-----").ok_or(SecretKeyError::NotEncoded)?;
        // A PEM in an environment variable often has its line ends written as backslash n.
        let inner: Zeroizing<String> = Zeroizing::new(inner.replace("\\n", "").split_whitespace().collect());
        return STANDARD.decode(&*inner).map_err(|_| SecretKeyError::NotEncoded);
    }
    // Hex first: 64 hex digits are also valid base64, of 48 bytes.
    if matches!(text.len(), 64 | 128) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return decode_hex(text).ok_or(SecretKeyError::NotEncoded);
    }
    decode_base64(text).ok_or(SecretKeyError::NotEncoded)
}

/// Bytes of base64 in its standard alphabet, padded or not.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `openssl genpkey -algorithm ed25519`, and the public key that openssl gives for it. For tests only.
    const OPENSSL_PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDv9oZenYCLB9D94LWZwY6TzhrnMuNH7bK8fij2DQFZ/\n-----END PRIVATE KEY-----\n";
    const OPENSSL_PUBLIC: &str = "ge69KBBO//1kSxqop6R34ihOgompL8h4rsDDITQoCWY=";

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
    fn what_openssl_writes_is_read() {
        let inner: String = OPENSSL_PEM.lines().filter(|line| !line.starts_with("-----")).collect();
        for form in [OPENSSL_PEM.to_owned(), OPENSSL_PEM.replace('\n', "\\n"), inner.clone()] {
            let key = parse(&form).unwrap();
            assert_eq!(STANDARD.encode(key.verifying_key().as_bytes()), OPENSSL_PUBLIC, "{form}");
        }
        let mut der = STANDARD.decode(inner).unwrap();
        der.push(0);
        assert_eq!(parse(&STANDARD.encode(&der)).unwrap_err(), SecretKeyError::OtherKind, "a byte too many");
        der.truncate(30);
        assert_eq!(parse(&STANDARD.encode(&der)).unwrap_err(), SecretKeyError::OtherKind, "cut off");
    }

    #[test]
    fn every_mistake_has_its_own_message_and_none_repeats_the_key() {
        let public_pem = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----".to_owned();
        let cases = [
            (String::new(), SecretKeyError::Empty),
            (" \n".to_owned(), SecretKeyError::Empty),
            ("KEY0123456789_abcdefgh".to_owned(), SecretKeyError::ApiKey),
            (public_pem, SecretKeyError::OtherKind),
            ("-----BEGIN PRIVATE KEY-----\nMC4CAQAw".to_owned(), SecretKeyError::NotEncoded),
            ("not a key at all".to_owned(), SecretKeyError::NotEncoded),
            (STANDARD.encode([1; 31]), SecretKeyError::Length(31)),
            (STANDARD.encode([1; 64]), SecretKeyError::NotAPair),
        ];
        for (text, error) in cases {
            assert_eq!(parse(&text).unwrap_err(), error);
            assert!(text.trim().len() < 8 || !error.to_string().contains(text.trim()), "{error}");
        }
    }
}
