//! The signature under which an app gets its events, made anew for every attempt. Pure.
//!
//! An app whose own SDK verifies refuses what is older than 300 s, and an event may wait for days.
//! So hookward, which has verified it once, signs it again with a key of its own. What has not been
//! verified is never signed, and loses the headers that could be taken for a signature: it must not
//! look genuine to an app that trusts this key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::secret_key::{self, SecretKeyError};
use crate::buffer::event::Event;
use crate::gate::identity::as_header_value;
use crate::gate::signature::{self, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// The headers of Standard Webhooks ("Webhook headers").
const WEBHOOK_ID: &str = "webhook-id";
const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// How keys of Standard Webhooks are told apart ("Signature scheme", secret serialization).
const SYMMETRIC_PREFIX: &str = "whsec_";
const SECRET_KEY_PREFIX: &str = "whsk_";
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// Bytes of a symmetric secret (same place: at least 192 bits, at most 512).
const SYMMETRIC_MIN_BYTES: usize = 24;
const SYMMETRIC_MAX_BYTES: usize = 64;

/// Whose headers an app's SDK looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Telnyx's two headers: hookward stands in Telnyx's place.
    Telnyx,
    /// Standard Webhooks 1.0.0, beside what Telnyx sent.
    StandardWebhooks,
}

impl Scheme {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Telnyx => "telnyx",
            Scheme::StandardWebhooks => "standard-webhooks",
        }
    }

    /// Whether a header is its own, so that a sender's copy never stands beside ours. With
    /// underscores too, which CGI-like interfaces read as hyphens.
    fn owns(self, name: &str) -> bool {
        let own: &[&str] = match self {
            Scheme::Telnyx => &[SIGNATURE_HEADER, TIMESTAMP_HEADER],
            Scheme::StandardWebhooks => &[WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE],
        };
        let is_alike = |(own, byte)| own == byte || (own == b'-' && byte == b'_');
        own.iter().any(|own| own.len() == name.len() && own.bytes().zip(name.bytes()).all(is_alike))
    }

    /// The scheme that a key says it is for by its prefix.
    pub fn of_key(text: &str) -> Scheme {
        let text = unquoted(text);
        let is_standard = [SYMMETRIC_PREFIX, SECRET_KEY_PREFIX, PUBLIC_KEY_PREFIX].iter().any(|p| text.starts_with(p));
        if is_standard { Scheme::StandardWebhooks } else { Scheme::Telnyx }
    }
}

/// Why a text is not a key of a scheme. Never repeats the text.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SignKeyError {
    /// Not an Ed25519 key.
    #[error(transparent)]
    Ed25519(#[from] SecretKeyError),
    /// A key of Standard Webhooks for the scheme `telnyx`.
    #[error("is a secret of Standard Webhooks; write `scheme: standard-webhooks`, or a key of `hookward keygen`")]
    OtherScheme,
    /// No prefix of Standard Webhooks.
    #[error(
        "begins with neither whsec_ nor whsk_; write whsec_ and the output of `openssl rand -base64 32`, or whsk_ and the secret of `hookward keygen`"
    )]
    NoPrefix,
    /// `whpk_…`.
    #[error("is a public key (whpk_), which signs nothing; write the secret key, whsk_…")]
    PublicKey,
    /// A symmetric secret that is not base64.
    #[error("is not base64 behind whsec_; write whsec_ and the output of `openssl rand -base64 32`")]
    NotBase64,
    /// A symmetric secret of another size than the standard's.
    #[error(
        "decodes to {0} bytes, the standard asks for 24 to 64; write whsec_ and the output of `openssl rand -base64 32`"
    )]
    Length(usize),
}

/// Signs what goes to an app. Equal if the keys are; never shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer(Key);

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Telnyx(SigningKey),
    /// Standard Webhooks v1a.
    Asymmetric(SigningKey),
    /// Standard Webhooks v1.
    Symmetric(HmacKey),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, [redacted])", self.scheme().name())
    }
}

impl Signer {
    /// Reads a key: of `telnyx` an Ed25519 secret key in any form that [`secret_key::parse`] takes,
    /// of `standard-webhooks` `whsec_` and base64 of 24 to 64 bytes, or `whsk_` and an Ed25519
    /// secret key. White space and quotes around it are dropped.
    ///
    /// # Errors
    /// See [`SignKeyError`].
    pub fn parse(scheme: Scheme, text: &str) -> Result<Signer, SignKeyError> {
        let text = unquoted(text);
        let key = match scheme {
            Scheme::Telnyx if Scheme::of_key(text) == Scheme::StandardWebhooks => {
                return Err(SignKeyError::OtherScheme);
            }
            Scheme::Telnyx => Key::Telnyx(secret_key::parse(text)?),
            Scheme::StandardWebhooks => {
                match (text.strip_prefix(SYMMETRIC_PREFIX), text.strip_prefix(SECRET_KEY_PREFIX)) {
                    (Some(secret), _) => Key::Symmetric(HmacKey::parse(secret)?),
                    (_, Some(secret)) => Key::Asymmetric(secret_key::parse(secret)?),
                    _ if text.starts_with(PUBLIC_KEY_PREFIX) => return Err(SignKeyError::PublicKey),
                    _ => return Err(SignKeyError::NoPrefix),
                }
            }
        };
        Ok(Signer(key))
    }

    /// Which headers it makes.
    pub fn scheme(&self) -> Scheme {
        match self.0 {
            Key::Telnyx(_) => Scheme::Telnyx,
            Key::Asymmetric(_) | Key::Symmetric(_) => Scheme::StandardWebhooks,
        }
    }

    /// What the app verifies with, in the form its SDK takes; `None` if that is the secret itself.
    pub fn public_key(&self) -> Option<String> {
        let base64 = |key: &SigningKey| STANDARD.encode(key.verifying_key().as_bytes());
        match &self.0 {
            Key::Telnyx(key) => Some(base64(key)),
            Key::Asymmetric(key) => Some(format!("{PUBLIC_KEY_PREFIX}{}", base64(key))),
            Key::Symmetric(_) => None,
        }
    }

    /// The key that verifies, by itself.
    pub fn verifying_key(&self) -> Option<VerifyingKey> {
        match &self.0 {
            Key::Telnyx(key) | Key::Asymmetric(key) => Some(key.verifying_key()),
            Key::Symmetric(_) => None,
        }
    }

    /// Puts the signature of an attempt among its headers, in place of whatever the sender put
    /// there; of an event that is not verified, only takes that away.
    pub fn sign(&self, event: &Event, now_unix_ms: i64, headers: &mut Vec<(HeaderName, HeaderValue)>) {
        let scheme = self.scheme();
        headers.retain(|(name, _)| !scheme.owns(name.as_str()));
        if !event.is_verified() {
            return;
        }
        let timestamp_s = now_unix_ms.div_euclid(1000);
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.push((HeaderName::from_static(name), value));
            }
        };
        match &self.0 {
            Key::Telnyx(key) => {
                put(SIGNATURE_HEADER, &signature::sign(key, timestamp_s, &event.body));
                put(TIMESTAMP_HEADER, &timestamp_s.to_string());
            }
            Key::Asymmetric(_) | Key::Symmetric(_) => {
                let id = webhook_id(event);
                put(WEBHOOK_ID, &id);
                put(WEBHOOK_TIMESTAMP, &timestamp_s.to_string());
                put(WEBHOOK_SIGNATURE, &self.webhook_signature(&id, timestamp_s, &event.body));
            }
        }
    }

    /// `{id}.{timestamp}.{body}` under the key, with the version that tells how (Standard Webhooks,
    /// "Signature scheme").
    fn webhook_signature(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let message = [format!("{id}.{timestamp_s}.").as_bytes(), body].concat();
        match &self.0 {
            Key::Telnyx(key) | Key::Asymmetric(key) => {
                format!("v1a,{}", STANDARD.encode(key.sign(&message).to_bytes()))
            }
            Key::Symmetric(key) => format!("v1,{}", STANDARD.encode(key.mac(&message))),
        }
    }
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'')
}

/// What an app tells repeats by. The standard asks for an id of the event, which stays the same
/// however often it is sent: the sender's own, so that its repeats are seen as such even where each
/// is a delivery of its own (mode `proxy`, `dedupe: off`, beyond the window). Where there is none,
/// or one with a full stop, by which the signed text could be read in two ways: the delivery's.
fn webhook_id(event: &Event) -> String {
    let usable = |id: &&str| as_header_value(id).is_some() && !id.contains('.');
    event.event_id.as_deref().filter(usable).map_or_else(|| event.delivery_id.to_string(), str::to_owned)
}

/// A symmetric secret as HMAC-SHA256 takes it: padded with zeros to one block (RFC 2104 §2).
#[derive(Clone, PartialEq, Eq)]
struct HmacKey([u8; SYMMETRIC_MAX_BYTES]);

impl HmacKey {
    fn parse(text: &str) -> Result<HmacKey, SignKeyError> {
        let secret = Zeroizing::new(secret_key::decode_base64(text).ok_or(SignKeyError::NotBase64)?);
        if !(SYMMETRIC_MIN_BYTES..=SYMMETRIC_MAX_BYTES).contains(&secret.len()) {
            return Err(SignKeyError::Length(secret.len()));
        }
        let mut block = [0; SYMMETRIC_MAX_BYTES];
        block[..secret.len()].copy_from_slice(&secret);
        Ok(HmacKey(block))
    }

    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new(&self.0.into());
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::Signature;
    use serde_json::Value;

    use super::*;
    use crate::buffer::event::tests::event;
    use crate::clock::{Clock as _, ManualClock};
    use crate::gate::signature::{parse_signature, parse_timestamp, signed_message};

    const RECEIVED_S: i64 = 1_700_000_000;
    const SYMMETRIC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn telnyx() -> Signer {
        Signer::parse(Scheme::Telnyx, &STANDARD.encode(key().as_bytes())).unwrap()
    }

    fn standard(text: &str) -> Signer {
        Signer::parse(Scheme::StandardWebhooks, text).unwrap()
    }

    /// The headers of an attempt at this time, with what the sender put there.
    fn signed(signer: &Signer, event: &Event, unix_ms: i64) -> Vec<(String, String)> {
        let mut headers: Vec<_> = [
            ("content-type", "application/json"),
            (SIGNATURE_HEADER, "of-telnyx"),
            (TIMESTAMP_HEADER, "1700000000"),
            (WEBHOOK_ID, "of-the-sender"),
            (WEBHOOK_TIMESTAMP, "of-the-sender"),
            (WEBHOOK_SIGNATURE, "v1,of-the-sender"),
            ("webhook_id", "of-the-sender"),
            ("webhook_signature", "v1,of-the-sender"),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into();
        signer.sign(event, unix_ms, &mut headers);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn one<'h>(headers: &'h [(String, String)], name: &str) -> &'h str {
        let mut same = headers.iter().filter(|(have, _)| have == name);
        let (Some((_, value)), None) = (same.next(), same.next()) else { panic!("not one {name} in {headers:?}") };
        value
    }

    fn names(headers: &[(String, String)]) -> Vec<&str> {
        headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// As an app's SDK judges it: 300 s either way.
    fn verifies(headers: &[(String, String)], event: &Event, now_s: i64) -> bool {
        let timestamp = parse_timestamp(Some(one(headers, TIMESTAMP_HEADER).as_bytes())).unwrap();
        let Ok(signature) = parse_signature(Some(one(headers, SIGNATURE_HEADER).as_bytes())) else { return false };
        let message = signed_message(timestamp.as_bytes(), &event.body);
        let is_genuine = key().verifying_key().verify_strict(&message, &signature).is_ok();
        is_genuine && (now_s - timestamp.parse::<i64>().unwrap()).abs() <= 300
    }

    #[test]
    fn an_event_that_waited_ten_minutes_is_as_fresh_as_its_attempt() {
        let clock = ManualClock::at_unix_s(RECEIVED_S);
        let event = event("e1", b"{\"a\": 1}");
        let first = signed(&telnyx(), &event, clock.unix_ms());
        clock.advance(Duration::from_millis(600_999));
        let now_s = clock.unix_ms() / 1000;
        let again = signed(&telnyx(), &event, clock.unix_ms());
        assert!(verifies(&first, &event, RECEIVED_S) && !verifies(&first, &event, now_s));
        assert_eq!(one(&again, TIMESTAMP_HEADER), "1700000600", "whole seconds, cut");
        assert!(verifies(&again, &event, now_s));
        let other = Event { body: b"{\"a\": 2}".as_slice().into(), ..event };
        assert!(!verifies(&again, &other, now_s), "the body is covered");
        assert_eq!(one(&again, WEBHOOK_ID), "of-the-sender", "not this scheme's");
    }

    #[test]
    fn the_published_vectors_are_what_we_sign() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/standard_webhooks.json")).unwrap();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 3);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let signer = standard(vector["secret"].as_str().or(vector["secret_key"].as_str()).unwrap());
            let mut event = event(text("webhook-id"), text("body").as_bytes());
            let timestamp_s: i64 = text("webhook-timestamp").parse().unwrap();
            let headers = signed(&signer, &event, timestamp_s * 1000);
            for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
                assert_eq!(one(&headers, name), text(name));
            }
            assert_eq!(signer.public_key().as_deref(), vector["public_key"].as_str());
            assert_eq!(one(&headers, SIGNATURE_HEADER), "of-telnyx", "stays beside it");
            assert!(!names(&headers).contains(&"webhook_id") && !names(&headers).contains(&"webhook_signature"));

            event.body = b"other".as_slice().into();
            let other = signed(&signer, &event, timestamp_s * 1000);
            assert_ne!(one(&other, WEBHOOK_SIGNATURE), text(WEBHOOK_SIGNATURE), "the body is covered");
        }
    }

    #[test]
    fn an_event_that_is_not_verified_loses_what_could_be_taken_for_a_signature() {
        let mut event = event("e1", b"{}");
        event.head.key = None;
        let headers = signed(&telnyx(), &event, 0);
        assert!(!names(&headers).contains(&SIGNATURE_HEADER) && !names(&headers).contains(&TIMESTAMP_HEADER));
        assert_eq!(one(&headers, "content-type"), "application/json");
        let headers = signed(&standard(SYMMETRIC), &event, 0);
        assert_eq!(names(&headers), ["content-type", SIGNATURE_HEADER, TIMESTAMP_HEADER]);
    }

    #[test]
    fn repeats_have_the_id_of_the_event_and_what_has_none_that_of_the_delivery() {
        let signer = standard(SYMMETRIC);
        let id = |event: &Event| one(&signed(&signer, event, RECEIVED_S * 1000), WEBHOOK_ID).to_owned();
        let mut event = event("e1", b"{}");
        assert_eq!(id(&event), "e1");
        for unusable in [None, Some("a.b"), Some("two words"), Some("")] {
            event.event_id = unusable.map(str::to_owned);
            assert_eq!(id(&event), event.delivery_id.to_string(), "{unusable:?}");
        }
    }

    #[test]
    fn a_key_is_for_the_scheme_that_it_says() {
        let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
        let refused = |scheme, text: &str| {
            let error = Signer::parse(scheme, text).unwrap_err();
            assert!(text.len() < 8 || !error.to_string().contains(text), "{error}");
            error
        };
        let (telnyx, standard_webhooks) = (Scheme::Telnyx, Scheme::StandardWebhooks);
        for text in [SYMMETRIC.to_owned(), format!("whsk_{}", base64(&[9; 32])), format!(" whpk_{}", base64(&[9; 32]))]
        {
            assert_eq!(refused(telnyx, &text), SignKeyError::OtherScheme);
        }
        assert_eq!(refused(telnyx, &base64(&[9; 31])), SignKeyError::Ed25519(SecretKeyError::Length(31)));
        assert_eq!(refused(standard_webhooks, &base64(&[9; 32])), SignKeyError::NoPrefix);
        assert_eq!(refused(standard_webhooks, &format!("whpk_{}", base64(&[9; 32]))), SignKeyError::PublicKey);
        assert_eq!(refused(standard_webhooks, "whsec_hunter2!"), SignKeyError::NotBase64);
        let symmetric =
            |bytes: usize| Signer::parse(standard_webhooks, &format!("\"whsec_{}\"\n", base64(&vec![1; bytes])));
        for bytes in [0, 23, 65] {
            assert_eq!(symmetric(bytes).unwrap_err(), SignKeyError::Length(bytes));
        }
        for bytes in [24, 32, 64] {
            assert!(symmetric(bytes).is_ok(), "{bytes}");
        }
    }

    #[test]
    fn a_signer_is_equal_by_its_key_and_never_shows_it() {
        let asymmetric = standard(&format!("whsk_{}", STANDARD.encode(key().as_bytes())));
        assert_eq!(asymmetric.public_key().unwrap(), format!("whpk_{}", telnyx().public_key().unwrap()));
        let pair = standard(&format!("whsk_{}", STANDARD.encode(key().to_keypair_bytes())));
        assert!(pair == asymmetric && telnyx() == telnyx() && standard(SYMMETRIC) == standard(SYMMETRIC));
        assert!(asymmetric != telnyx() && asymmetric != standard(SYMMETRIC));
        let other = Signer::parse(Scheme::Telnyx, &STANDARD.encode([8; 32])).unwrap();
        assert!(other != telnyx());
        let shown = format!("{:?}", [&telnyx(), &asymmetric, &standard(SYMMETRIC)]);
        assert_eq!(
            shown,
            "[Signer(telnyx, [redacted]), Signer(standard-webhooks, [redacted]), Signer(standard-webhooks, [redacted])]"
        );
    }

    #[test]
    fn an_asymmetric_signature_verifies_under_the_public_key() {
        let signer = standard(&format!("whsk_{}", STANDARD.encode(key().as_bytes())));
        let headers = signed(&signer, &event("e1", b"{}"), RECEIVED_S * 1000);
        let signature = one(&headers, WEBHOOK_SIGNATURE).strip_prefix("v1a,").unwrap();
        let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
        assert!(key().verifying_key().verify_strict(b"e1.1700000000.{}", &signature).is_ok());
    }
}
