//! Looks for the message that was signed among those that known mistakes make of it. Its cost is
//! bounded by a [`Budget`], whatever the request.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::ControlFlow;
use std::sync::Arc;

use ed25519_dalek::Signature;
use http::HeaderMap;

use super::cause::Cause;
use super::headers::{lenient_signature, signature_candidate, timestamp_candidate, timestamps};
use super::variants::variants;
use crate::gate::keys::NamedKey;
use crate::gate::signature::{signed_message, signer};

/// What a search may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Longest body whose variants are tried, and longest variant.
    pub body_max_bytes: usize,
    /// Checks of a signature with a key: some 30 µs each, and 2 ns for every byte of the body.
    pub checks_max: usize,
}

impl Budget {
    /// For a person who waits: for 1 MiB 0.1 s, some seconds at worst (8 keys, every escape there is).
    pub const COMMAND: Budget = Budget { body_max_bytes: 1024 * 1024, checks_max: 512 };
    /// For a log line: for an event of 1.5 KB 1.5 ms, about 15 ms at worst.
    pub const LIVE: Budget = Budget { body_max_bytes: 16 * 1024, checks_max: 96 };
}

/// A message that a key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key's name.
    pub key: Arc<str>,
    /// The time that was signed, Unix seconds.
    pub timestamp_s: Option<i64>,
    /// What has happened to it, in the order of the request.
    pub causes: Vec<Cause>,
}

/// What came of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The message that was signed, if it was among those tried.
    pub found: Option<Found>,
    /// Messages that were tried.
    pub tried: usize,
}

/// Tries the request as it came and in every known variant, the likely ones first, with every key.
pub fn search(headers: &HeaderMap, body: &[u8], keys: &[NamedKey], budget: Budget) -> Outcome {
    let (Some(signature), Some(timestamp)) = (signature_candidate(headers), timestamp_candidate(headers)) else {
        return Outcome::default();
    };
    let Some((decoded, form)) = lenient_signature(signature.value) else { return Outcome::default() };
    if body.len() > budget.body_max_bytes {
        return Outcome::default();
    }
    let header_causes: Vec<Cause> = [signature.renamed, timestamp.renamed, form].into_iter().flatten().collect();
    let mut trials = Trials { keys, signature: &decoded, checks_left: budget.checks_max, seen: HashSet::new() };
    let found = match trials.all(timestamp.value, body, budget.body_max_bytes) {
        ControlFlow::Break(found) => found,
        ControlFlow::Continue(()) => None,
    };
    let found = found.map(|found| Found { causes: [header_causes, found.causes].concat(), ..found });
    Outcome { found, tried: trials.seen.len() }
}

/// Messages tried against one signature.
struct Trials<'t> {
    keys: &'t [NamedKey],
    signature: &'t Signature,
    checks_left: usize,
    /// Hashes of what was tried: checking costs far more than hashing, and variants repeat.
    seen: HashSet<u64>,
}

/// Ends with the message that was signed, or without one when the budget is spent.
type Trial = ControlFlow<Option<Found>>;

impl Trials<'_> {
    fn all(&mut self, timestamp: &[u8], body: &[u8], max_bytes: usize) -> Trial {
        for (text, cause) in timestamps(timestamp) {
            self.one(&signed_message(&text, body), &text, cause.into_iter().collect())?;
        }
        self.one(&[timestamp, b".", body].concat(), timestamp, vec![Cause::DotSeparator])?;
        self.one(&[timestamp, body].concat(), timestamp, vec![Cause::NoSeparator])?;
        self.one(body, timestamp, vec![Cause::BodyOnly])?;
        for variant in variants(body, max_bytes) {
            self.one(&signed_message(timestamp, &variant.body), timestamp, variant.causes)?;
        }
        ControlFlow::Continue(())
    }

    fn one(&mut self, message: &[u8], timestamp: &[u8], causes: Vec<Cause>) -> Trial {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let hash = hasher.finish();
        if self.seen.contains(&hash) {
            return ControlFlow::Continue(());
        }
        let Some(checks_left) = self.checks_left.checked_sub(self.keys.len()) else {
            return ControlFlow::Break(None);
        };
        self.checks_left = checks_left;
        self.seen.insert(hash);
        let Some(key) = signer(self.keys, message, self.signature) else { return ControlFlow::Continue(()) };
        let timestamp_s = std::str::from_utf8(timestamp).ok().and_then(|text| text.parse().ok());
        ControlFlow::Break(Some(Found { key: key.name.clone(), timestamp_s, causes }))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::explain::json_text::Layout;
    use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use ed25519_dalek::{Signer as _, SigningKey};

    pub(crate) const SIGNED_AT: &str = "1700000000";
    pub(crate) const SIGNED: &str = "{\n  \"data\": {\n    \"id\": \"e1\",\n    \"text\": \"Grüße\"\n  }\n}";

    pub(crate) fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    pub(crate) fn named(name: &str, seed: u8) -> NamedKey {
        NamedKey { name: name.into(), key: key(seed).verifying_key() }
    }

    pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    /// Base64 of the signature of this message by the key of seed 7.
    pub(crate) fn signature_of(message: &str) -> String {
        STANDARD.encode(key(7).sign(message.as_bytes()).to_bytes())
    }

    fn causes(lines: &[(&str, &str)], body: &str) -> Option<Vec<Cause>> {
        let keys = [named("other", 8), named("current", 7)];
        let outcome = search(&headers(lines), body.as_bytes(), &keys, Budget::COMMAND);
        let found = outcome.found?;
        assert_eq!(&*found.key, "current");
        Some(found.causes)
    }

    /// The causes found where this message was signed and this timestamp and body came.
    fn between(signed: &str, timestamp: &str, body: &str) -> Option<Vec<Cause>> {
        causes(&[(SIGNATURE_HEADER, &signature_of(signed)), (TIMESTAMP_HEADER, timestamp)], body)
    }

    #[test]
    fn what_happened_between_signing_and_arriving_is_found() {
        let genuine = format!("{SIGNED_AT}|{SIGNED}");
        let compact = r#"{"data":{"id":"e1","text":"Grüße"}}"#;
        assert_eq!(between(&genuine, SIGNED_AT, SIGNED), Some(vec![]));
        assert_eq!(between(&genuine, SIGNED_AT, compact), Some(vec![Cause::JsonLayout(Layout::TwoSpaces)]));
        assert_eq!(between(&genuine, SIGNED_AT, &format!("{SIGNED}\n")), Some(vec![Cause::NewlineAdded]));
        assert_eq!(between(&genuine, "1700000000123", SIGNED), Some(vec![Cause::TimestampMilliseconds]));
        assert_eq!(between(&genuine, "1700000000.0", SIGNED), Some(vec![Cause::TimestampRewritten]));
        let in_ms = format!("{SIGNED_AT}000|{SIGNED}");
        assert_eq!(between(&in_ms, SIGNED_AT, SIGNED), Some(vec![Cause::TimestampWasMilliseconds]));
        for (signed, cause) in [
            (format!("{SIGNED_AT}.{SIGNED}"), Cause::DotSeparator),
            (format!("{SIGNED_AT}{SIGNED}"), Cause::NoSeparator),
            (SIGNED.to_owned(), Cause::BodyOnly),
        ] {
            assert_eq!(between(&signed, SIGNED_AT, SIGNED), Some(vec![cause]));
        }
        assert_eq!(between(&genuine, SIGNED_AT, "{\"data\":{\"id\":\"e2\"}}"), None);
        assert_eq!(between(&genuine, "1700000001", SIGNED), None);
    }

    #[test]
    fn names_and_forms_of_the_headers_are_found_together_with_the_body() {
        let signature = key(7).sign(format!("{SIGNED_AT}|{SIGNED}").as_bytes()).to_bytes();
        let url_safe = URL_SAFE_NO_PAD.encode(signature);
        let lines = [("x-telnyx-signature-ed25519", url_safe.as_str()), ("telnyx_timestamp", SIGNED_AT)];
        let expected = [Cause::SignatureRenamed, Cause::TimestampRenamed, Cause::SignatureUrlSafe, Cause::NewlineAdded];
        assert_eq!(causes(&lines, &format!("{SIGNED}\n")).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn a_search_ends_with_its_budget() {
        let lines = [(SIGNATURE_HEADER, signature_of("something else")), (TIMESTAMP_HEADER, SIGNED_AT.to_owned())];
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = r#"{"a":"\u00e9é\/ /"}"#;
        let keys: Vec<_> = (0..8).map(|seed| named("k", 100 + seed)).collect();
        let tried = |keys: &[NamedKey], budget| search(&headers(&lines), body.as_bytes(), keys, budget).tried;
        let budget = |checks_max| Budget { body_max_bytes: 100, checks_max };
        assert_eq!(tried(&keys, budget(96)), 12);
        assert_eq!(tried(&keys[..1], budget(12)), 12);
        assert_eq!(tried(&keys, budget(7)), 0);
        assert!((30..100).contains(&tried(&keys[..1], Budget::COMMAND)));
        assert_eq!(tried(&keys, Budget { body_max_bytes: body.len() - 1, checks_max: 96 }), 0);
    }
}
