//! Telnyx's signature: Ed25519 over `{timestamp}|{raw body}`, in two headers.
//!
//! Source: Telnyx, "Webhook signing" (developers.telnyx.com, webhooks). Verified with
//! `verify_strict`, which accepts what the official Python and PHP SDKs (libsodium) accept; the
//! plain verification of RFC 8032 implementations can be forged under low-order keys.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{SIGNATURE_LENGTH, Signature, Signer as _, SigningKey};
use http::HeaderMap;

use super::allowlist::Admitted;
use super::delivery::Delivery;
use super::keys::NamedKey;
use super::{Enforcement, Reports};
use crate::rejection::Rejection;

/// Carries the signature, base64 of 64 bytes.
pub const SIGNATURE_HEADER: &str = "telnyx-signature-ed25519";
/// Carries the time of signing, whole Unix seconds.
pub const TIMESTAMP_HEADER: &str = "telnyx-timestamp";

/// Longest timestamp that is looked at: 13 digits are milliseconds, which the tolerance refuses.
const TIMESTAMP_MAX_DIGITS: usize = 13;
/// Length of the base64 of 64 bytes.
const SIGNATURE_BASE64_CHARS: usize = 88;

/// The two headers, well formed and not believed.
#[derive(Debug, Clone)]
pub struct Claim {
    timestamp: String,
    signature: Option<Signature>,
}

/// An admitted sender whose header says when and how it signed; only now is the body read.
#[derive(Debug)]
pub struct Claimed {
    claim: Option<Claim>,
}

impl Claimed {
    pub(super) fn into_claim(self) -> Option<Claim> {
        self.claim
    }

    #[cfg(test)]
    pub(super) fn nothing_for_test() -> Self {
        Claimed { claim: None }
    }
}

/// A body that a configured key has signed together with its timestamp (or that was let pass, with
/// a note in the reports).
#[derive(Debug)]
pub struct Signed {
    body: Bytes,
    timestamp_s: Option<i64>,
    key: Option<Arc<str>>,
}

impl Signed {
    /// The signed time, Unix seconds, if there is one.
    pub(super) fn timestamp_s(&self) -> Option<i64> {
        self.timestamp_s
    }

    /// The name of the key that signed it.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The body, and the name of the key that signed it.
    pub(super) fn into_parts(self) -> (Bytes, Option<Arc<str>>) {
        (self.body, self.key)
    }
}

/// The keys of a route. Every key is tried: during a rotation two sign, and nothing on the wire
/// says which.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// At least one, at most eight.
    pub keys: Vec<NamedKey>,
    /// What happens to what no key has signed.
    pub signature: Enforcement,
    /// What happens to a request without a usable timestamp.
    pub timestamp: Enforcement,
}

impl Verifier {
    /// Judges the syntax of the two headers, before the body is read.
    ///
    /// # Errors
    /// [`Rejection::BadRequest`] where a header comes twice (first-value getters hide this), and
    /// the `signature_…` and `timestamp_…` reasons for missing and malformed ones.
    pub fn claim(
        &self,
        _admitted: &Admitted,
        headers: &HeaderMap,
        reports: &mut Reports,
    ) -> Result<Claimed, Rejection> {
        let signature = single(headers, SIGNATURE_HEADER)?;
        let timestamp = single(headers, TIMESTAMP_HEADER)?;
        let signature = match parse_signature(signature) {
            Ok(signature) => Some(signature),
            Err(rejection) => {
                self.signature.apply(rejection, reports)?;
                None
            }
        };
        let timestamp = match parse_timestamp(timestamp) {
            Ok(timestamp) => timestamp.to_owned(),
            Err(rejection) => {
                // Without a timestamp there is nothing that could have been signed, so either
                // check refuses; a note stands for both.
                self.signature.apply(rejection, &mut Reports::default())?;
                self.timestamp.apply(rejection, reports)?;
                return Ok(Claimed { claim: None });
            }
        };
        Ok(Claimed { claim: Some(Claim { timestamp, signature }) })
    }

    /// Tries every key over timestamp and body.
    ///
    /// # Errors
    /// [`Rejection::SignatureMismatch`] if none has signed it.
    pub fn verify(&self, delivery: Delivery, reports: &mut Reports) -> Result<Signed, Rejection> {
        let (claim, body) = delivery.into_parts();
        let Some(Claim { timestamp, signature }) = claim else {
            return Ok(Signed { body, timestamp_s: None, key: None });
        };
        let timestamp_s = timestamp.parse().ok();
        let Some(signature) = signature else {
            return Ok(Signed { body, timestamp_s, key: None });
        };
        let message = signed_message(timestamp.as_bytes(), &body);
        let key = signer(&self.keys, &message, &signature);
        if key.is_none() {
            self.signature.apply(Rejection::SignatureMismatch, reports)?;
        }
        Ok(Signed { body, timestamp_s, key: key.map(|named| named.name.clone()) })
    }
}

/// The first of the keys that has signed this message. Every check of a signature is this one.
pub fn signer<'k>(keys: &'k [NamedKey], message: &[u8], signature: &Signature) -> Option<&'k NamedKey> {
    keys.iter().find(|named| named.key.verify_strict(message, signature).is_ok())
}

/// `{timestamp}|{raw body}`: what is signed.
pub fn signed_message(timestamp: &[u8], body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(timestamp.len() + 1 + body.len());
    message.extend_from_slice(timestamp);
    message.push(b'|');
    message.extend_from_slice(body);
    message
}

/// What Telnyx puts into the signature header for this body at this time.
pub fn sign(key: &SigningKey, timestamp_s: i64, body: &[u8]) -> String {
    STANDARD.encode(key.sign(&signed_message(timestamp_s.to_string().as_bytes(), body)).to_bytes())
}

fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Rejection> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::as_bytes);
    if values.next().is_some() || first.is_some_and(|value| value.contains(&b',')) {
        return Err(Rejection::BadRequest);
    }
    Ok(first)
}

/// Reads the signature header: standard alphabet, padded, zero trailing bits, 64 bytes; nothing
/// else, so that one signature has one form.
///
/// # Errors
/// [`Rejection::SignatureMissing`], [`Rejection::SignatureMalformed`].
pub fn parse_signature(value: Option<&[u8]>) -> Result<Signature, Rejection> {
    let value = value.filter(|value| !value.is_empty()).ok_or(Rejection::SignatureMissing)?;
    if value.len() != SIGNATURE_BASE64_CHARS {
        return Err(Rejection::SignatureMalformed);
    }
    let mut bytes = [0; SIGNATURE_LENGTH + 2];
    match STANDARD.decode_slice(value, &mut bytes) {
        Ok(SIGNATURE_LENGTH) => {
            Signature::from_slice(&bytes[..SIGNATURE_LENGTH]).map_err(|_| Rejection::SignatureMalformed)
        }
        _ => Err(Rejection::SignatureMalformed),
    }
}

/// Reads the timestamp header: ASCII `[1-9][0-9]{0,12}`; no sign, fraction, white space or leading
/// zero, so that the text that was signed and the number that is judged are the same.
///
/// # Errors
/// [`Rejection::TimestampMissing`], [`Rejection::TimestampMalformed`].
pub fn parse_timestamp(value: Option<&[u8]>) -> Result<&str, Rejection> {
    let value = value.filter(|value| !value.is_empty()).ok_or(Rejection::TimestampMissing)?;
    let digits = value.len() <= TIMESTAMP_MAX_DIGITS && value[0] != b'0' && value.iter().all(u8::is_ascii_digit);
    if !digits {
        return Err(Rejection::TimestampMalformed);
    }
    std::str::from_utf8(value).map_err(|_| Rejection::TimestampMalformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::allowlist::Allowlist;
    use crate::gate::delivery::tests::Pieces;
    use crate::gate::keys::parse_public_key;

    const SIGNATURE: &str = "PYq6hBF9ZQLVucPO/FF9FZLTfkZvrXSVipKkJ5mO/VuQjYYc2YYsUf8Ec2l2D9j5GREoohUhe1d9tbeXZ7CBBA==";

    fn verifier(signature: Enforcement, timestamp: Enforcement) -> Verifier {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        Verifier { keys: vec![NamedKey { name: "current".into(), key }], signature, timestamp }
    }

    fn enforcing() -> Verifier {
        verifier(Enforcement::Enforce, Enforcement::Enforce)
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn admitted() -> Admitted {
        Allowlist::Off.admit(Err(Rejection::ClientIpUndetermined), &mut Reports::default()).unwrap()
    }

    fn claim(verifier: &Verifier, lines: &[(&str, &str)]) -> Result<Claimed, Rejection> {
        verifier.claim(&admitted(), &headers(lines), &mut Reports::default())
    }

    #[test]
    fn header_syntax_has_one_reason_per_mistake() {
        let (sig, ts) = (SIGNATURE_HEADER, TIMESTAMP_HEADER);
        let hex = "ab".repeat(64);
        let unpadded = SIGNATURE.trim_end_matches('=');
        let url_safe = SIGNATURE.replace('/', "_");
        let loose_bits = SIGNATURE.replace("BBA==", "BBB==");
        let inner_space = SIGNATURE.replacen('F', " ", 1);
        let cases: Vec<(Vec<(&str, &str)>, Rejection)> = vec![
            (vec![(ts, "1700000000")], Rejection::SignatureMissing),
            (vec![(sig, ""), (ts, "1700000000")], Rejection::SignatureMissing),
            (vec![(sig, SIGNATURE)], Rejection::TimestampMissing),
            (vec![(sig, SIGNATURE), (ts, "")], Rejection::TimestampMissing),
            (vec![(sig, SIGNATURE), (sig, SIGNATURE), (ts, "1700000000")], Rejection::BadRequest),
            (vec![(sig, SIGNATURE), (ts, "1700000000"), (ts, "1700000000")], Rejection::BadRequest),
            (vec![(sig, SIGNATURE), (ts, "1700000000,1700000000")], Rejection::BadRequest),
            (vec![(sig, unpadded), (ts, "1700000000")], Rejection::SignatureMalformed),
            (vec![(sig, &url_safe), (ts, "1700000000")], Rejection::SignatureMalformed),
            (vec![(sig, &hex), (ts, "1700000000")], Rejection::SignatureMalformed),
            (vec![(sig, &loose_bits), (ts, "1700000000")], Rejection::SignatureMalformed),
            (vec![(sig, &inner_space), (ts, "1700000000")], Rejection::SignatureMalformed),
        ];
        for (lines, reason) in cases {
            assert_eq!(claim(&enforcing(), &lines).err(), Some(reason), "{lines:?}");
        }
        for bad in ["0", "01", "+1", "-1", "1.5", "1e9", "1_0", "0x1f", "17000000000000", "1700000000 x", "nan"] {
            let lines = [(sig, SIGNATURE), (ts, bad)];
            assert_eq!(claim(&enforcing(), &lines).err(), Some(Rejection::TimestampMalformed), "{bad}");
        }
        for good in ["1", "1700000000", "1700000000000"] {
            assert!(claim(&enforcing(), &[(sig, SIGNATURE), (ts, good)]).is_ok(), "{good}");
        }
    }

    async fn judged(
        verifier: &Verifier,
        lines: &[(&str, &str)],
        body: &'static str,
    ) -> (Result<Signed, Rejection>, Vec<Rejection>) {
        let mut reports = Reports::default();
        let claimed = match verifier.claim(&admitted(), &headers(lines), &mut reports) {
            Ok(claimed) => claimed,
            Err(rejection) => return (Err(rejection), reports.iter().collect()),
        };
        let delivery = Delivery::read(claimed, &mut Pieces::of(&[body]), 1000).await.unwrap();
        (verifier.verify(delivery, &mut reports), reports.iter().collect())
    }

    #[tokio::test]
    async fn any_of_the_keys_may_have_signed_and_the_name_of_that_key_is_known() {
        let (old, new) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let mut verifier = enforcing();
        verifier.keys.push(NamedKey { name: "next".into(), key: new.verifying_key() });
        for (key, name) in [(&old, "current"), (&new, "next")] {
            let signature = sign(key, 1_700_000_000, b"body");
            let (signed, _) =
                judged(&verifier, &[(SIGNATURE_HEADER, &signature), (TIMESTAMP_HEADER, "1700000000")], "body").await;
            let signed = signed.unwrap();
            assert_eq!(signed.timestamp_s(), Some(1_700_000_000));
            assert_eq!(signed.into_parts().1.as_deref(), Some(name));
        }
        let signature = sign(&SigningKey::from_bytes(&[9; 32]), 1_700_000_000, b"body");
        let (signed, _) =
            judged(&verifier, &[(SIGNATURE_HEADER, &signature), (TIMESTAMP_HEADER, "1700000000")], "body").await;
        assert_eq!(signed.err(), Some(Rejection::SignatureMismatch));
    }

    #[tokio::test]
    async fn report_passes_what_it_notes_and_an_enforced_timestamp_still_refuses() {
        let report_both = verifier(Enforcement::Report, Enforcement::Report);
        let (signed, notes) = judged(&report_both, &[], "body").await;
        assert!(signed.is_ok());
        assert_eq!(notes, [Rejection::SignatureMissing, Rejection::TimestampMissing]);

        let report_signature = verifier(Enforcement::Report, Enforcement::Enforce);
        let (refused, _) = judged(&report_signature, &[(SIGNATURE_HEADER, SIGNATURE)], "body").await;
        assert_eq!(refused.err(), Some(Rejection::TimestampMissing));
        let lines = [(SIGNATURE_HEADER, SIGNATURE), (TIMESTAMP_HEADER, "1700000000")];
        let (signed, notes) = judged(&report_signature, &lines, "other body").await;
        assert_eq!(signed.unwrap().timestamp_s(), Some(1_700_000_000));
        assert_eq!(notes, [Rejection::SignatureMismatch]);

        let report_timestamp = verifier(Enforcement::Enforce, Enforcement::Report);
        let (refused, _) = judged(&report_timestamp, &[(SIGNATURE_HEADER, SIGNATURE)], "body").await;
        assert_eq!(refused.err(), Some(Rejection::TimestampMissing), "nothing can be signed without a timestamp");
    }

    #[test]
    fn what_we_sign_is_what_telnyx_signs() {
        let seed: [u8; 32] =
            STANDARD.decode("i1xxSkIuQOY9H8laaRslIoYGTJ1NwBAFdjsQwiwJH04=").unwrap().try_into().unwrap();
        let key = SigningKey::from_bytes(&seed);
        let public = parse_public_key("jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=").unwrap();
        assert_eq!(key.verifying_key(), public);
        let signature = parse_signature(Some(sign(&key, 5, b"x").as_bytes())).unwrap();
        assert!(public.verify_strict(b"5|x", &signature).is_ok());
    }
}
