//! Why a request was refused: the verdict of the gates, and a search for the known causes. Pure;
//! `hookward explain` prints it, and the log line of a live refusal carries its cheap part.

pub mod cause;
pub mod headers;
pub mod input;
pub mod json_text;
pub mod live;
pub mod search;
mod shape;
mod variants;
pub mod verdict;

use self::cause::Cause;
use self::headers::{header_cause, signature_candidate};
use self::search::{Budget, Found, search};
use self::shape::is_webhook;
use self::verdict::{Capture, Verified, judge};
use crate::rejection::Rejection;

/// What is to be said of a captured request.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What a live request would have got.
    pub verdict: Result<Verified, Rejection>,
    /// What led to it, as far as more is known than [`Rejection::hint`] says.
    pub causes: Vec<Cause>,
    /// What was signed, where a request that was changed on its way could be traced back to it.
    pub genuine: Option<Found>,
    /// Messages that were tried for that.
    pub tried: usize,
    /// Whether the body was too long to try any.
    pub too_long_to_search: bool,
}

/// A request that may be the one in question, with the layers that were opened to find it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The request.
    pub capture: Capture,
    /// Layers around it.
    pub layers: usize,
}

/// Explains the first candidate that verifies; where none does, the one that looks most like a webhook:
/// a signature beside it, a body such as Telnyx sends, found deepest within the file. With its index.
pub fn explain_best(candidates: &[Candidate]) -> Option<(usize, Explanation)> {
    let verified = candidates.iter().position(|candidate| judge(&candidate.capture).is_ok());
    let likeness = |index: &usize| {
        let Candidate { capture, layers } = &candidates[*index];
        (signature_candidate(&capture.headers).is_some(), is_webhook(&capture.body), *layers)
    };
    // The first of the best: `max_by_key` would take the last.
    let index = verified.or_else(|| (0..candidates.len()).rev().max_by_key(likeness))?;
    Some((index, explain(&candidates[index].capture)))
}

/// Judges a capture, and looks for what led to a refusal.
pub fn explain(capture: &Capture) -> Explanation {
    let verdict = judge(capture);
    let mut explanation =
        Explanation { verdict, causes: Vec::new(), genuine: None, tried: 0, too_long_to_search: false };
    match explanation.verdict {
        Ok(_) => {}
        Err(rejection @ (Rejection::TimestampStale { .. } | Rejection::TimestampFuture { .. })) => {
            let clock = if rejection.skew_s().is_some_and(|skew_s| skew_s > 0) { Cause::Old } else { Cause::Ahead };
            explanation.causes.push(header_cause(&capture.headers, rejection).unwrap_or(clock));
        }
        Err(rejection) => find_causes(capture, rejection, &mut explanation),
    }
    explanation
}

fn find_causes(capture: &Capture, rejection: Rejection, explanation: &mut Explanation) {
    let outcome = search(&capture.headers, &capture.body, &capture.keys, Budget::COMMAND);
    explanation.tried = outcome.tried;
    explanation.too_long_to_search = capture.body.len() > Budget::COMMAND.body_max_bytes;
    let found = outcome.found.iter().flat_map(|found| &found.causes);
    explanation.causes.extend(found);
    if explanation.causes.is_empty() {
        let unknown = if is_webhook(&capture.body) { Cause::Unknown } else { Cause::NotUnderstood };
        let unknown = (rejection == Rejection::SignatureMismatch).then_some(unknown);
        explanation.causes.extend(header_cause(&capture.headers, rejection).or(unknown));
    }
    explanation.genuine = outcome.found;
}

#[cfg(test)]
mod tests {
    use super::search::tests::{SIGNED, SIGNED_AT, headers, named, signature_of};
    use super::*;
    use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};
    use bytes::Bytes;
    use std::time::Duration;

    /// A capture with these header lines, received 100 s after it was signed.
    fn capture(lines: &[(&str, &str)], body: &str) -> Capture {
        Capture {
            headers: headers(lines),
            body: Bytes::copy_from_slice(body.as_bytes()),
            keys: vec![named("key1", 8), named("key2", 7)],
            past: Duration::from_secs(300),
            future: Duration::from_secs(300),
            received_unix_ms: 1_700_000_100_000,
        }
    }

    fn genuine() -> String {
        signature_of(&format!("{SIGNED_AT}|{SIGNED}"))
    }

    #[test]
    fn a_genuine_capture_is_verified_by_the_key_that_signed_it() {
        let explanation = explain(&capture(&[(SIGNATURE_HEADER, &genuine()), (TIMESTAMP_HEADER, SIGNED_AT)], SIGNED));
        assert_eq!(explanation.verdict, Ok(Verified { key: "key2".into(), skew_s: 100 }));
        assert!(explanation.causes.is_empty() && explanation.genuine.is_none());
    }

    #[test]
    fn a_refusal_stays_a_refusal_whatever_is_found() {
        let (genuine, with_end) = (genuine(), format!("{SIGNED}\n"));
        let in_ms = signature_of(&format!("{SIGNED_AT}000|{SIGNED}"));
        let padded = format!("{genuine} ");
        let url_safe = genuine.replace('/', "_").replace('+', "-");
        let (sig, ts) = (SIGNATURE_HEADER, TIMESTAMP_HEADER);
        type Case<'c> = (&'c [(&'c str, &'c str)], &'c str, Rejection, &'c [Cause]);
        let cases: &[Case<'_>] = &[
            (&[(sig, &genuine), (ts, SIGNED_AT)], &with_end, Rejection::SignatureMismatch, &[Cause::NewlineAdded]),
            (&[(sig, &genuine), (ts, SIGNED_AT)], r#"{"data":{}}"#, Rejection::SignatureMismatch, &[Cause::Unknown]),
            (&[(sig, &genuine), (ts, SIGNED_AT)], "{}", Rejection::SignatureMismatch, &[Cause::NotUnderstood]),
            (&[(sig, &padded), (ts, SIGNED_AT)], SIGNED, Rejection::SignatureMalformed, &[Cause::SignatureWhiteSpace]),
            (&[(sig, "MARK"), (ts, SIGNED_AT)], SIGNED, Rejection::SignatureMalformed, &[]),
            (&[(ts, SIGNED_AT)], SIGNED, Rejection::SignatureMissing, &[]),
            (&[("x-telnyx-signature", "a"), (ts, SIGNED_AT)], SIGNED, Rejection::SignatureMissing, &[Cause::ApiV1]),
            (
                &[("telnyx_signature_ed25519", &url_safe), (ts, SIGNED_AT)],
                SIGNED,
                Rejection::SignatureMissing,
                &[Cause::SignatureRenamed, Cause::SignatureUrlSafe],
            ),
            (
                &[(sig, &genuine), (ts, "1700000000.0")],
                SIGNED,
                Rejection::TimestampMalformed,
                &[Cause::TimestampRewritten],
            ),
            (
                &[(sig, &genuine), (sig, &genuine), (ts, SIGNED_AT)],
                SIGNED,
                Rejection::BadRequest,
                &[Cause::HeaderTwice],
            ),
            (
                &[(sig, &in_ms), (ts, "1700000000000")],
                SIGNED,
                Rejection::TimestampFuture { skew_s: 1_700_000_100 - 1_700_000_000_000 },
                &[Cause::TimestampMilliseconds],
            ),
        ];
        for (lines, body, rejection, causes) in cases {
            let explanation = explain(&capture(lines, body));
            assert_eq!(explanation.verdict, Err(*rejection), "{lines:?}");
            assert_eq!(explanation.causes, *causes, "{lines:?}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_from_a_forgery() {
        let mut capture = capture(&[(SIGNATURE_HEADER, &genuine()), (TIMESTAMP_HEADER, SIGNED_AT)], SIGNED);
        for (received_s, rejection, cause) in [
            (1_700_000_301, Rejection::TimestampStale { skew_s: 301 }, Cause::Old),
            (1_699_999_699, Rejection::TimestampFuture { skew_s: -301 }, Cause::Ahead),
        ] {
            capture.received_unix_ms = received_s * 1000;
            let explanation = explain(&capture);
            assert_eq!((explanation.verdict, explanation.causes), (Err(rejection), vec![cause]));
        }
    }
}
