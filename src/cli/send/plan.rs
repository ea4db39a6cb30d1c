//! What is sent and what must come back: pure, no I/O.

use fastrand::Rng;
use http::StatusCode;

use crate::client::{ExchangeError, Reply};
use crate::rejection::Rejection;

/// What `--scenario` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Every event once; accepted
    Ok,
    /// Every event twice, at once or one after the other; accepted, then known as a duplicate
    Duplicate,
    /// The two events of a message (whatever --event says), the later one first; both accepted
    OutOfOrder,
    /// Signed by another key; refused
    BadSignature,
    /// Signed more than five minutes ago; refused
    Stale,
    /// Signed more than five minutes ahead; refused
    Future,
    /// Signed, then written anew with other white space, as a hop that parses bodies does; refused
    RewrittenJson,
    /// All of these but out-of-order, shuffled
    Mixed,
}

/// What is done with one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Delivered once.
    Ok,
    /// Two copies on the way at the same time.
    DuplicateTogether,
    /// Delivered once more after it was answered, as after an answer that was lost.
    DuplicateAfter,
    /// message.finalized, and when that was answered, the message.sent that happened before it.
    OutOfOrder,
    /// Signed by a key that nobody trusts.
    BadSignature,
    /// Signed too long ago.
    Stale,
    /// Signed too far ahead.
    Future,
    /// Other bytes of the same JSON than were signed.
    RewrittenJson,
}

impl Scenario {
    /// The cases of so many events, in the order in which they are sent.
    pub fn plan(self, count: usize, random: &mut Rng) -> Vec<Case> {
        let cycle: &[Case] = match self {
            Scenario::Ok => &[Case::Ok],
            Scenario::Duplicate => &[Case::DuplicateTogether, Case::DuplicateAfter],
            Scenario::OutOfOrder => &[Case::OutOfOrder],
            Scenario::BadSignature => &[Case::BadSignature],
            Scenario::Stale => &[Case::Stale],
            Scenario::Future => &[Case::Future],
            Scenario::RewrittenJson => &[Case::RewrittenJson],
            Scenario::Mixed => &[
                Case::Ok,
                Case::DuplicateTogether,
                Case::BadSignature,
                Case::Stale,
                Case::Future,
                Case::RewrittenJson,
                Case::Ok,
                Case::DuplicateAfter,
                Case::BadSignature,
                Case::Stale,
                Case::Future,
                Case::RewrittenJson,
            ],
        };
        let mut cases: Vec<_> = cycle.iter().copied().cycle().take(count).collect();
        if self == Scenario::Mixed {
            random.shuffle(&mut cases);
        }
        cases
    }
}

impl Case {
    /// The name of its scenario.
    pub fn name(self) -> &'static str {
        match self {
            Case::Ok => "ok",
            Case::DuplicateTogether | Case::DuplicateAfter => "duplicate",
            Case::OutOfOrder => "out-of-order",
            Case::BadSignature => "bad-signature",
            Case::Stale => "stale",
            Case::Future => "future",
            Case::RewrittenJson => "rewritten-json",
        }
    }

    /// What must come back, one for each copy.
    pub fn expected(self) -> &'static [Expected] {
        match self {
            Case::Ok => &[Expected::Accepted],
            Case::DuplicateTogether | Case::DuplicateAfter => &[Expected::Accepted, Expected::Duplicate],
            Case::OutOfOrder => &[Expected::Accepted, Expected::Accepted],
            Case::BadSignature | Case::RewrittenJson => &[Expected::Refused(Rejection::SignatureMismatch)],
            Case::Stale => &[Expected::Refused(Rejection::TimestampStale { skew_s: 0 })],
            Case::Future => &[Expected::Refused(Rejection::TimestampFuture { skew_s: 0 })],
        }
    }

    /// Whether a refusal is worth another attempt; what is meant to be refused is sent once.
    pub fn is_retried(self) -> bool {
        self.expected()[0] == Expected::Accepted
    }

    /// The time to sign at. Beyond the tolerance of 300 s by some seconds, since a request that
    /// takes a second to arrive is a second less ahead by then.
    pub fn timestamp_s(self, now_s: i64, random: &mut Rng) -> i64 {
        match self {
            Case::Stale => now_s - random.i64(301..=3600),
            Case::Future => now_s + random.i64(330..=3600),
            _ => now_s,
        }
    }
}

/// What a scenario wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// 200, and stored.
    Accepted,
    /// 200, known already.
    Duplicate,
    /// This refusal.
    Refused(Rejection),
}

impl Expected {
    /// Status and word, as [`Seen::label`] writes it.
    pub fn label(self) -> String {
        match self {
            Expected::Accepted => "200 accepted".to_owned(),
            Expected::Duplicate => "200 duplicate".to_owned(),
            Expected::Refused(rejection) => format!("{} {}", rejection.status(), rejection.reason()),
        }
    }

    /// Whether this answer is the one. After a retry a duplicate is as good as accepted: an attempt
    /// whose answer was lost or late may have been stored.
    pub fn is_met_by(self, seen: &Seen, was_retried: bool) -> bool {
        match (self, seen) {
            (Expected::Accepted, Seen::Duplicate { status: 200 }) => was_retried,
            _ => self.label() == seen.label(),
        }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// 2xx that does not speak of a duplicate.
    Accepted {
        /// The status.
        status: u16,
    },
    /// 2xx with `{"status":"duplicate"}`.
    Duplicate {
        /// The status.
        status: u16,
    },
    /// Any other status.
    Refused {
        /// The status.
        status: u16,
        /// `error` of the answer's JSON, if it is one of hookward's form.
        reason: Option<String>,
    },
    /// Nothing in time.
    NoAnswer(ExchangeError),
}

/// Longest reason that is taken from an answer.
const REASON_MAX_CHARS: usize = 40;

impl From<Result<Reply, ExchangeError>> for Seen {
    fn from(result: Result<Reply, ExchangeError>) -> Seen {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return Seen::NoAnswer(error),
        };
        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let status = reply.status;
        if !StatusCode::from_u16(status).is_ok_and(|status| status.is_success()) {
            let is_reason = |text: &&str| {
                (1..=REASON_MAX_CHARS).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            };
            return Seen::Refused { status, reason: json["error"].as_str().filter(is_reason).map(str::to_owned) };
        }
        if json["status"] == "duplicate" { Seen::Duplicate { status } } else { Seen::Accepted { status } }
    }
}

impl Seen {
    /// Whether Telnyx would be content: any 2xx.
    pub fn is_success(&self) -> bool {
        matches!(self, Seen::Accepted { .. } | Seen::Duplicate { .. })
    }

    /// Status and word: `200 accepted`, `403 signature_mismatch`, `no answer: …`.
    pub fn label(&self) -> String {
        match self {
            Seen::Accepted { status } => format!("{status} accepted"),
            Seen::Duplicate { status } => format!("{status} duplicate"),
            Seen::Refused { status, reason: Some(reason) } => format!("{status} {reason}"),
            Seen::Refused { status, reason: None } => status.to_string(),
            Seen::NoAnswer(error) => format!("no answer: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    pub(in crate::cli) fn seen(status: u16, body: &'static str) -> Seen {
        Seen::from(Ok(Reply {
            status,
            retry_after: None,
            date: None,
            body: Bytes::from_static(body.as_bytes()),
            has_ended: true,
        }))
    }

    #[test]
    fn every_scenario_expects_what_the_contract_says() {
        let labels = |scenario: Scenario| -> Vec<Vec<String>> {
            let cases = scenario.plan(2, &mut Rng::with_seed(1));
            cases.iter().map(|case| case.expected().iter().map(|expected| expected.label()).collect()).collect()
        };
        assert_eq!(labels(Scenario::Ok), [["200 accepted"], ["200 accepted"]]);
        assert_eq!(labels(Scenario::Duplicate), [["200 accepted", "200 duplicate"], ["200 accepted", "200 duplicate"]]);
        assert_eq!(labels(Scenario::OutOfOrder), [["200 accepted", "200 accepted"], ["200 accepted", "200 accepted"]]);
        assert_eq!(labels(Scenario::BadSignature), [["403 signature_mismatch"], ["403 signature_mismatch"]]);
        assert_eq!(labels(Scenario::RewrittenJson), [["403 signature_mismatch"], ["403 signature_mismatch"]]);
        assert_eq!(labels(Scenario::Stale), [["403 timestamp_stale"], ["403 timestamp_stale"]]);
        assert_eq!(labels(Scenario::Future), [["403 timestamp_future"], ["403 timestamp_future"]]);
    }

    #[test]
    fn a_mix_holds_every_case_in_equal_parts_and_is_shuffled() {
        let cases = Scenario::Mixed.plan(120, &mut Rng::with_seed(1));
        for name in ["ok", "duplicate", "bad-signature", "stale", "future", "rewritten-json"] {
            assert_eq!(cases.iter().filter(|case| case.name() == name).count(), 20, "{name}");
        }
        assert_ne!(cases, Scenario::Mixed.plan(120, &mut Rng::with_seed(2)));
    }

    #[test]
    fn only_what_should_be_accepted_is_retried() {
        let retried: Vec<_> =
            Scenario::Mixed.plan(5, &mut Rng::with_seed(1)).into_iter().filter(|case| case.is_retried()).collect();
        assert_eq!(retried.len(), 2);
        assert!(retried.iter().all(|case| matches!(case, Case::Ok | Case::DuplicateTogether)));
    }

    #[test]
    fn stale_and_future_timestamps_are_beyond_the_tolerance() {
        let mut random = Rng::with_seed(1);
        for _ in 0..1000 {
            assert!(Case::Stale.timestamp_s(10_000, &mut random) <= 10_000 - 301);
            assert!(Case::Future.timestamp_s(10_000, &mut random) >= 10_000 + 301);
            assert_eq!(Case::Ok.timestamp_s(10_000, &mut random), 10_000);
        }
    }

    #[test]
    fn an_answer_is_read_by_its_status_first() {
        assert_eq!(seen(200, r#"{"status":"accepted","event_id":"x"}"#).label(), "200 accepted");
        assert_eq!(seen(200, r#"{"status":"duplicate"}"#).label(), "200 duplicate");
        assert_eq!(seen(204, "").label(), "204 accepted");
        assert_eq!(seen(403, r#"{"error":"signature_mismatch"}"#).label(), "403 signature_mismatch");
        assert_eq!(seen(503, r#"{"status":"duplicate"}"#).label(), "503");
        assert_eq!(seen(502, "<html>").label(), "502");
        assert_eq!(seen(400, r#"{"error":"Some <b>text</b>"}"#).label(), "400");
        assert!(!seen(301, "").is_success());
        assert!(!Seen::NoAnswer(ExchangeError::Timeout).is_success());
    }

    #[test]
    fn a_duplicate_counts_as_accepted_after_a_retry_only() {
        let duplicate = seen(200, r#"{"status":"duplicate"}"#);
        assert!(!Expected::Accepted.is_met_by(&duplicate, false));
        assert!(Expected::Accepted.is_met_by(&duplicate, true));
        assert!(Expected::Duplicate.is_met_by(&duplicate, false));
        assert!(!Expected::Duplicate.is_met_by(&seen(200, "{}"), true));
        assert!(
            !Expected::Refused(Rejection::SignatureMismatch).is_met_by(&seen(403, r#"{"error":"ip_denied"}"#), false)
        );
    }
}
