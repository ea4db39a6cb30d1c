//! The hint of a live refusal's log line: what `explain` would say, as far as it is cheap.

use std::sync::Arc;

use http::HeaderMap;

use super::cause::Cause;
use super::headers::{header_cause, lenient_signature};
use super::search::{Budget, search};
use crate::clock::Clock;
use crate::gate::keys::NamedKey;
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, signed_message, signer};
use crate::logging::LineLimit;
use crate::rejection::Rejection;

/// Searches in a second, of the whole process: forgers must not be able to buy CPU time. One is
/// enough to tell an operator what a hop does to every request.
const SEARCHES_PER_S: u32 = 1;
/// Keys of other routes that are tried.
const OTHER_KEYS_MAX: usize = 8;

/// What is known of a refused request.
#[derive(Clone, Copy)]
pub struct Refused<'r> {
    /// Why.
    pub rejection: Rejection,
    /// Its header.
    pub headers: &'r HeaderMap,
    /// Its body, if it was read.
    pub body: Option<&'r [u8]>,
    /// The keys of its route.
    pub keys: &'r [NamedKey],
}

/// The search for what was signed, behind a rate limit.
pub struct DeepHint {
    limit: LineLimit,
}

impl DeepHint {
    /// One for the process.
    pub fn new(clock: Arc<dyn Clock>) -> DeepHint {
        DeepHint { limit: LineLimit::new(SEARCHES_PER_S, clock) }
    }

    /// The hint of a refusal, where there is a better one than [`Rejection::hint`]. Header names and
    /// shapes are looked at always; for a signature that does not match, and where the rate allows,
    /// known changes of the body are tried, and the keys of other routes (`all_keys`, which may
    /// hold the route's own too). Holds nothing of the request.
    pub fn of<'k>(&self, refused: Refused<'_>, all_keys: impl Iterator<Item = &'k NamedKey>) -> Option<String> {
        let searched = match (refused.rejection, refused.body) {
            (Rejection::SignatureMismatch, Some(body)) if body.len() <= Budget::LIVE.body_max_bytes => {
                self.limit.admit().and_then(|_| deep(&refused, body, all_keys))
            }
            _ => None,
        };
        let causes = match searched {
            Some(causes) => causes,
            None => vec![header_cause(refused.headers, refused.rejection)?],
        };
        let found: Vec<_> = causes.iter().map(|cause| cause.found()).collect();
        let remedy = causes.first()?.remedy();
        Some(format!("{}; {remedy}", found.join("; ")))
    }
}

fn deep<'k>(refused: &Refused<'_>, body: &[u8], all_keys: impl Iterator<Item = &'k NamedKey>) -> Option<Vec<Cause>> {
    let found = search(refused.headers, body, refused.keys, Budget::LIVE).found;
    if let Some(causes) = found.map(|found| found.causes).filter(|causes| !causes.is_empty()) {
        return Some(causes);
    }
    let is_own = |key: &NamedKey| refused.keys.iter().any(|own| own.key == key.key);
    let others: Vec<NamedKey> = all_keys.filter(|key| !is_own(key)).take(OTHER_KEYS_MAX).cloned().collect();
    let (signature, _) = lenient_signature(refused.headers.get(SIGNATURE_HEADER)?.as_bytes())?;
    let timestamp = refused.headers.get(TIMESTAMP_HEADER)?.as_bytes();
    signer(&others, &signed_message(timestamp, body), &signature).map(|_| vec![Cause::OtherKey])
}

#[cfg(test)]
mod tests {
    use super::super::search::tests::{SIGNED, SIGNED_AT, headers, key, named, signature_of};
    use super::*;
    use crate::clock::ManualClock;
    use crate::gate::signature::sign;
    use std::time::Duration;

    fn mismatch<'r>(headers: &'r HeaderMap, body: &'r [u8], keys: &'r [NamedKey]) -> Refused<'r> {
        Refused { rejection: Rejection::SignatureMismatch, headers, body: Some(body), keys }
    }

    fn signed_headers(message: &str) -> HeaderMap {
        headers(&[(SIGNATURE_HEADER, &signature_of(message)), (TIMESTAMP_HEADER, SIGNED_AT)])
    }

    #[test]
    fn a_rewritten_body_is_told_once_a_second() {
        let clock = Arc::new(ManualClock::at_unix_s(0));
        let hints = DeepHint::new(clock.clone());
        let keys = [named("current", 7)];
        let signed = signed_headers(&format!("{SIGNED_AT}|{SIGNED}"));
        let came = r#"{"data":{"id":"e1","text":"Grüße"}}"#.as_bytes();
        let hint = || hints.of(mismatch(&signed, came, &keys), keys.iter());
        let told = hint().unwrap();
        assert!(told.contains("indented by two spaces") && told.contains("raw bytes"), "{told}");
        assert!(!told.contains("e1"), "{told}");
        assert_eq!(hint(), None, "within the same second");
        clock.advance(Duration::from_secs(1));
        assert_eq!(hint().as_deref(), Some(told.as_str()));
    }

    #[test]
    fn a_large_body_and_other_refusals_cost_no_search() {
        let clock = Arc::new(ManualClock::at_unix_s(0));
        let hints = DeepHint::new(clock);
        let keys = [named("current", 7)];
        let body = format!("{{{}}}", " ".repeat(Budget::LIVE.body_max_bytes));
        let signed = signed_headers(&format!("{SIGNED_AT}|{}", body.trim_end()));
        let with_end = format!("{body}\n");
        assert_eq!(hints.of(mismatch(&signed, with_end.as_bytes(), &keys), keys.iter()), None);
        let missing = headers(&[("x-telnyx-signature", "MARK")]);
        let refused = Refused { rejection: Rejection::SignatureMissing, headers: &missing, body: None, keys: &keys };
        let told = hints.of(refused, keys.iter()).unwrap();
        assert!(told.contains("API v1") && !told.contains("MARK"), "{told}");
        // Neither has used the one search of this second.
        let small = signed_headers(&format!("{SIGNED_AT}|{SIGNED}"));
        let with_end = format!("{SIGNED}\n");
        assert!(hints.of(mismatch(&small, with_end.as_bytes(), &keys), keys.iter()).is_some());
    }

    #[test]
    fn a_key_of_another_route_is_recognised() {
        let hints = DeepHint::new(Arc::new(ManualClock::at_unix_s(0)));
        let (own, other) = ([named("current", 7)], named("current", 9));
        let signature = sign(&key(9), 1_700_000_000, SIGNED.as_bytes());
        let signed = headers(&[(SIGNATURE_HEADER, &signature), (TIMESTAMP_HEADER, SIGNED_AT)]);
        let told = hints.of(mismatch(&signed, SIGNED.as_bytes(), &own), own.iter().chain([&other]));
        assert!(told.as_ref().is_some_and(|told| told.contains("another route")), "{told:?}");
    }
}
