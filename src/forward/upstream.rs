//! One attempt at an app, and what its answer means (contract: any 2xx is delivered; 408, 425, 429,
//! 5xx and no answer come again until `max_age`; 3xx and other 4xx a few times; then dead).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::backoff::{Retry, retry_after};
use super::client::{Client, Destination, ExchangeError, Over, Reply, Timeouts};
use super::headers::for_attempt;
use super::sign::Signer;
use crate::buffer::event::{Claimed, Event, Outcome};
use crate::clock::RunMs;

/// How long an unused connection is kept: below the 5 s after which Node closes one, the shortest
/// of the common app servers.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// Age from which an app's own SDK refuses the original signature (300 s), less a margin.
const SDK_TOLERANCE: Duration = Duration::from_secs(240);
/// Said beside a refusal of what hookward has signed,
const SIGNED_ANEW: &str = "it was signed anew: does the app verify with what `hookward pubkey` prints?";
/// and of what it never signs.
const UNSIGNED: &str = "the event is unverified (a check in report mode), so it was not signed";

/// Where an app is and how it is treated.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Where it is.
    pub destination: Destination,
    /// The `Host` that it is sent; the sender's otherwise.
    pub host: Option<String>,
    /// Signs what it is sent.
    pub signer: Option<Arc<Signer>>,
    /// To connect.
    pub connect_timeout: Duration,
    /// Total of one attempt.
    pub timeout: Duration,
    /// Attempts under way at once.
    pub max_concurrency: usize,
}

/// An app, with its connections and its bound on concurrency.
pub struct Upstream {
    client: Client,
    host: Option<String>,
    signer: Option<Arc<Signer>>,
    max_concurrency: usize,
    permits: Arc<Semaphore>,
    /// The app asked to be left alone until then (`Retry-After`).
    hold_until: Mutex<Option<Instant>>,
}

impl Upstream {
    /// No connection is made yet.
    ///
    /// # Errors
    /// See [`Client::new`].
    pub fn new(settings: UpstreamSettings) -> Result<Upstream, super::client::ClientError> {
        let timeouts = Timeouts { connect: settings.connect_timeout, total: settings.timeout, idle: IDLE_CONNECTION };
        Ok(Upstream {
            client: Client::new(settings.destination, timeouts)?,
            host: settings.host,
            signer: settings.signer,
            max_concurrency: settings.max_concurrency,
            permits: Arc::new(Semaphore::new(settings.max_concurrency)),
            hold_until: Mutex::new(None),
        })
    }

    /// Attempts that may be under way at once.
    pub fn max_concurrency(&self) -> usize {
        self.max_concurrency
    }

    /// One permit per attempt under way.
    pub fn permits(&self) -> Arc<Semaphore> {
        self.permits.clone()
    }

    /// For exchanges that are no attempts of stored events: modes that pass the app's answer on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The `Host` that it is sent; the sender's otherwise.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// All headers of one attempt, with the signature of this time where the app gets one.
    pub fn headers_of(&self, event: &Event, attempt: u32, now_unix_ms: i64) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = for_attempt(event, attempt, self.host());
        if let Some(signer) = &self.signer {
            signer.sign(event, now_unix_ms, &mut headers);
        }
        headers
    }

    /// How long the app still wants to be left alone.
    pub fn held_until(&self) -> Option<Instant> {
        self.hold_until.lock().filter(|until| *until > Instant::now())
    }

    /// Sends an event; `attempts` counts every send. An idle connection that the app had closed is
    /// no answer of the app, so the event is sent once more at once, as the next attempt. Returns
    /// what it came to, and the status of the app's answer if there was one.
    pub async fn attempt(&self, event: &Event, attempts: &mut u32, now_unix_ms: i64) -> (Verdict, Option<u16>) {
        let answer = match self.send(Over::Pool, event, attempts, now_unix_ms).await {
            Err(ExchangeError::Stale) => self.send(Over::Fresh, event, attempts, now_unix_ms).await,
            done => done,
        };
        match answer {
            Ok(reply) => (self.judge(&reply, event, now_unix_ms), Some(reply.status)),
            Err(error) => (Verdict::of_failure(error), None),
        }
    }

    async fn send(
        &self,
        over: Over,
        event: &Event,
        attempts: &mut u32,
        now_unix_ms: i64,
    ) -> Result<Reply, ExchangeError> {
        *attempts += 1;
        let headers = self.headers_of(event, *attempts, now_unix_ms);
        let method = event.head.method.parse().unwrap_or(http::Method::POST);
        self.client.exchange_once(over, &method, &event.head.target, &headers, &event.body).await
    }

    fn judge(&self, reply: &Reply, event: &Event, now_unix_ms: i64) -> Verdict {
        if matches!(reply.status, 429 | 503)
            && let Some(value) = reply.headers.get(http::header::RETRY_AFTER)
            && let Some(wait) = value.to_str().ok().and_then(|value| retry_after(value, now_unix_ms))
        {
            *self.hold_until.lock() = Some(Instant::now() + wait);
        }
        match Verdict::of_status(reply.status) {
            Verdict::ClientError(error) => Verdict::ClientError(self.with_signature_hint(error, event)),
            verdict => verdict,
        }
    }

    /// An app that refuses hookward's own signature has another key, whatever the event's age.
    fn with_signature_hint(&self, error: String, event: &Event) -> String {
        match &self.signer {
            Some(_) if !is_refusal(&error) => error,
            Some(_) if event.is_verified() => format!("{error}; {SIGNED_ANEW}"),
            Some(_) => format!("{error}; {UNSIGNED}"),
            None => error,
        }
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx.
    Delivered,
    /// Again later: no answer, or one that says so. What happened.
    Later(String),
    /// The request itself is wrong for this app. What it answered.
    ClientError(String),
}

impl Verdict {
    fn of_status(status: u16) -> Verdict {
        let told = || match http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
            Some(reason) => format!("the app answered {status} {reason}"),
            None => format!("the app answered {status}"),
        };
        match status {
            200..=299 => Verdict::Delivered,
            408 | 425 | 429 | 500.. => Verdict::Later(told()),
            _ => Verdict::ClientError(told()),
        }
    }

    fn of_failure(error: ExchangeError) -> Verdict {
        Verdict::Later(error.to_string())
    }

    /// What becomes of the event after this attempt.
    pub fn outcome(self, claimed: &Claimed, attempts: u32, retry: &Retry, now: RunMs, random: f64) -> Outcome {
        let tried_for = now.since(claimed.tried_since);
        match self {
            Verdict::Delivered => Outcome::Delivered,
            Verdict::Later(error) if tried_for >= retry.max_age => {
                Outcome::Dead { error: format!("{error}; max_age is over") }
            }
            Verdict::Later(error) => Outcome::RetryAt {
                due: now.plus(retry.wait(attempts, random)),
                client_errors: claimed.client_errors,
                error,
            },
            Verdict::ClientError(error) => {
                let error = with_age_hint(error, now.since(claimed.stored_at));
                let client_errors = claimed.client_errors + 1;
                match retry.client_error_wait(client_errors, random) {
                    Some(wait) if tried_for < retry.max_age => {
                        Outcome::RetryAt { due: now.plus(wait), client_errors, error }
                    }
                    _ => Outcome::Dead { error },
                }
            }
        }
    }
}

/// Whether an answer is what an app gives to a signature that it does not believe.
fn is_refusal(error: &str) -> bool {
    ["400", "401", "403"].iter().any(|status| error.contains(status))
}

/// An app whose SDK verifies refuses what waited longer than its tolerance; say so where that is
/// the likely cause.
fn with_age_hint(error: String, age: Duration) -> String {
    let is_explained = error.contains(SIGNED_ANEW) || error.contains(UNSIGNED);
    if is_refusal(&error) && !is_explained && age > SDK_TOLERANCE {
        return format!(
            "{error}; the event is {} s old, and an SDK that checks Telnyx's timestamp refuses anything above 300 s",
            age.as_secs()
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::event::Seq;
    use crate::buffer::event::tests::event;
    use crate::forward::sign::Scheme;

    fn retry() -> Retry {
        Retry {
            base: Duration::from_millis(500),
            max: Duration::from_secs(300),
            max_age: Duration::from_secs(3600),
            client_errors: 2,
        }
    }

    fn claimed(client_errors: u32) -> Claimed {
        let (stored_at, tried_since) = (RunMs(0), RunMs(0));
        Claimed { seq: Seq(1), event: Arc::new(event("e", b"")), attempts: 0, client_errors, stored_at, tried_since }
    }

    #[test]
    fn each_status_means_what_the_contract_says() {
        for status in [200, 201, 204, 299] {
            assert_eq!(Verdict::of_status(status), Verdict::Delivered, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(Verdict::of_status(status), Verdict::Later(_)), "{status}");
        }
        for status in [301, 302, 304, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(Verdict::of_status(status), Verdict::ClientError(_)), "{status}");
        }
    }

    #[test]
    fn no_answer_comes_again_until_max_age_and_is_dead_then() {
        let later = || Verdict::Later("x".into());
        let now = RunMs(1_000_000);
        let outcome = later().outcome(&claimed(0), 3, &retry(), now, 0.5);
        assert_eq!(outcome, Outcome::RetryAt { due: RunMs(1_001_000), client_errors: 0, error: "x".into() });
        assert!(matches!(later().outcome(&claimed(0), 3, &retry(), RunMs(3_600_000), 0.5), Outcome::Dead { .. }));
    }

    #[test]
    fn an_event_that_is_sent_again_has_the_whole_max_age_before_it() {
        let again = Claimed { tried_since: RunMs(3_600_000), ..claimed(0) };
        let outcome = |now| Verdict::Later("x".into()).outcome(&again, 1, &retry(), RunMs(now), 0.5);
        assert!(matches!(outcome(7_199_999), Outcome::RetryAt { .. }));
        assert!(matches!(outcome(7_200_000), Outcome::Dead { .. }));
    }

    #[test]
    fn client_errors_are_counted_apart_and_few() {
        let refused = || Verdict::of_status(404);
        let first = refused().outcome(&claimed(0), 9, &retry(), RunMs(0), 0.5);
        assert!(matches!(first, Outcome::RetryAt { client_errors: 1, .. }), "{first:?}");
        let second = refused().outcome(&claimed(1), 10, &retry(), RunMs(0), 0.5);
        assert_eq!(second, Outcome::Dead { error: "the app answered 404 Not Found".into() });
    }

    #[test]
    fn an_app_that_refuses_our_own_signature_is_told_apart_from_one_that_finds_it_old() {
        let destination = Destination::parse("http://127.0.0.1:1").unwrap();
        let seed = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
        let upstream = Upstream::new(UpstreamSettings {
            destination,
            host: None,
            signer: Some(Arc::new(Signer::parse(Scheme::Telnyx, seed).unwrap())),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            max_concurrency: 1,
        });
        let upstream = upstream.unwrap();
        let told = |status, event: &Event| {
            let reply = Reply { status, headers: http::HeaderMap::new(), body: bytes::Bytes::new() };
            match upstream.judge(&reply, event, 0).outcome(&claimed(0), 1, &retry(), RunMs(600_000), 0.5) {
                Outcome::RetryAt { error, .. } | Outcome::Dead { error } => error,
                other => panic!("{other:?}"),
            }
        };
        let mut event = event("e", b"");
        for status in [400, 401, 403] {
            assert!(told(status, &event).ends_with("does the app verify with what `hookward pubkey` prints?"));
        }
        assert_eq!(told(404, &event), "the app answered 404 Not Found");
        event.head.key = None;
        assert!(told(401, &event).ends_with("so it was not signed"));
    }

    #[test]
    fn an_old_event_that_is_refused_says_that_it_is_old() {
        let told = |status, now_s: i64| match Verdict::of_status(status).outcome(
            &claimed(0),
            1,
            &retry(),
            RunMs(now_s * 1000),
            0.5,
        ) {
            Outcome::RetryAt { error, .. } | Outcome::Dead { error } => error,
            other => panic!("{other:?}"),
        };
        assert!(told(403, 241).contains("241 s old"));
        assert!(!told(403, 239).contains("old"));
        assert!(!told(404, 241).contains("old"));
    }
}
