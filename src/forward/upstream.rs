//! One attempt at an app, and what its answer means (contract: any 2xx is delivered; 408, 425, 429,
//! 5xx and no answer come again until `max_age`; 3xx and other 4xx a few times; then dead).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backoff::{Retry, retry_after};
use super::breaker::{Change, State};
use super::client::{Client, Destination, ExchangeError, Over, Reply, Timeouts};
use super::headers::for_attempt;
use super::scheduler::{LaneId, Scheduler, Slot, Wake};
use super::signal::Signal;
use crate::buffer::event::{Claimed, Event, Outcome};
use crate::clock::RunMs;

/// How long an unused connection is kept: below the 5 s after which Node closes one, the shortest
/// of the common app servers.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// Age from which an app's own SDK refuses the original signature (300 s), less a margin.
const SDK_TOLERANCE: Duration = Duration::from_secs(240);

/// Where an app is and how it is treated.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Where it is.
    pub destination: Destination,
    /// The `Host` that it is sent; the sender's otherwise.
    pub host: Option<String>,
    /// To connect.
    pub connect_timeout: Duration,
    /// Total of one attempt.
    pub timeout: Duration,
    /// Attempts under way at once.
    pub max_concurrency: usize,
}

/// An app, with its connections and the scheduler of its attempts.
pub struct Upstream {
    client: Client,
    host: Option<String>,
    max_concurrency: usize,
    turns: Mutex<Turns>,
    /// As the scheduler said last: the app is not tried, or only by probes.
    is_stopped: AtomicBool,
}

struct Turns {
    scheduler: Scheduler,
    /// How to wake the lanes that go here.
    lanes: Vec<(LaneId, Arc<Notify>)>,
}

impl Turns {
    fn wake(&self, wake: Wake) {
        let concerned = |id: LaneId| match wake {
            Wake::None => false,
            Wake::One(lane) => lane == id,
            Wake::All => true,
        };
        self.lanes.iter().filter(|(id, _)| concerned(*id)).for_each(|(_, changed)| changed.notify_one());
    }
}

/// How an app is doing, for status and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Whether it is tried.
    pub state: State,
    /// Attempts that may be under way at once.
    pub concurrency: usize,
    /// How long it still wants to be left alone (`Retry-After`).
    pub held_for: Option<Duration>,
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
            max_concurrency: settings.max_concurrency,
            turns: Mutex::new(Turns { scheduler: Scheduler::new(settings.max_concurrency), lanes: Vec::new() }),
            is_stopped: AtomicBool::new(false),
        })
    }

    /// Attempts that may be under way at once, at most.
    pub fn max_concurrency(&self) -> usize {
        self.max_concurrency
    }

    /// A lane goes here from now on; `changed` wakes it.
    pub fn join(&self, lane: LaneId, changed: &Arc<Notify>) {
        self.turns.lock().lanes.push((lane, changed.clone()));
        changed.notify_one();
    }

    /// A lane goes elsewhere from now on.
    pub fn leave(&self, lane: LaneId) {
        let mut turns = self.turns.lock();
        turns.lanes.retain(|(id, _)| *id != lane);
        turns.scheduler.forget_lane(lane);
        // What it wanted may have been in another's way.
        turns.wake(Wake::All);
    }

    /// Asks the scheduler.
    pub fn schedule<T>(&self, now: RunMs, ask: impl FnOnce(&mut Scheduler) -> T) -> T {
        let mut turns = self.turns.lock();
        let answer = ask(&mut turns.scheduler);
        self.is_stopped.store(turns.scheduler.is_stopped(now), Ordering::Release);
        answer
    }

    /// Wakes a lane whose turn it is.
    pub fn wake(&self, lane: LaneId) {
        self.turns.lock().wake(Wake::One(lane));
    }

    /// Whether the app is not tried now, or only by probes: then events wait in the buffer.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// How the app is doing.
    pub fn condition(&self, now: RunMs) -> Condition {
        let scheduler = &self.turns.lock().scheduler;
        Condition {
            state: scheduler.state(),
            concurrency: scheduler.limit(),
            held_for: scheduler.held(now).map(|until| until.since(now)),
        }
    }

    /// Brings a slot back: what the attempt told about the app.
    pub fn end(&self, slot: &Slot, signal: Signal, hold: Option<Duration>, latency: Duration, now: RunMs) {
        let mut turns = self.turns.lock();
        let is_held = hold.is_some_and(|hold| turns.scheduler.hold(hold, now));
        let ended = turns.scheduler.end(slot, signal, latency, now);
        self.is_stopped.store(turns.scheduler.is_stopped(now), Ordering::Release);
        turns.wake(if is_held { Wake::All } else { ended.wake });
        drop(turns);
        self.log(ended.change, hold.filter(|_| is_held));
    }

    fn log(&self, change: Option<Change>, hold: Option<Duration>) {
        let upstream = self.client.destination();
        match change {
            Some(Change::Opened(why)) => tracing::warn!(
                %upstream,
                why,
                "the app is not tried any more but by one event now and then; the others wait, uncharged"
            ),
            Some(Change::Closed(after)) => tracing::info!(
                %upstream,
                after_s = after.as_secs(),
                "the app takes events again: what has waited is delivered, slowly at first"
            ),
            None => {}
        }
        if let Some(hold) = hold {
            tracing::info!(%upstream, for_s = hold.as_secs(), "the app asks to be left alone (Retry-After)");
        }
    }

    /// For exchanges that are no attempts of stored events: modes that pass the app's answer on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The `Host` that it is sent; the sender's otherwise.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Sends an event; `attempts` counts every send. An idle connection that the app had closed is
    /// no answer of the app, so the event is sent once more at once, as the next attempt.
    pub async fn attempt(&self, event: &Event, attempts: &mut u32, now_unix_ms: i64) -> Answer {
        let mut sent = self.send(Over::Pool, event, attempts).await;
        if let Err(ExchangeError::Stale) = sent {
            sent = self.send(Over::Fresh, event, attempts).await;
        }
        match sent {
            Ok(reply) => Answer::of_reply(&reply, event, now_unix_ms),
            Err(error) => Answer::of_failure(error),
        }
    }

    async fn send(&self, over: Over, event: &Event, attempts: &mut u32) -> Result<Reply, ExchangeError> {
        *attempts += 1;
        let headers = for_attempt(event, *attempts, self.host.as_deref());
        let method = event.head.method.parse().unwrap_or(http::Method::POST);
        self.client.exchange_once(over, &method, &event.head.target, &headers, &event.body).await
    }
}

/// What came of an attempt: for the event, and for the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For the event.
    pub verdict: Verdict,
    /// What it says about the app.
    pub signal: Signal,
    /// How long the app wants to be left alone.
    pub hold: Option<Duration>,
}

impl Answer {
    fn of_reply(reply: &Reply, event: &Event, now_unix_ms: i64) -> Answer {
        let age = Duration::from_millis(u64::try_from(now_unix_ms - event.received_unix_ms).unwrap_or(0));
        let retry_after = || {
            let value = reply.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
            retry_after(value, now_unix_ms)
        };
        let hold = if matches!(reply.status, 429 | 503) { retry_after() } else { None };
        let verdict = Verdict::of_status(reply.status, age);
        let signal = match (&verdict, reply.status) {
            (Verdict::Delivered, _) => Signal::Good,
            (Verdict::ClientError(_), _) => Signal::Refused,
            (Verdict::Later(_), 429 | 503) => Signal::Busy,
            (Verdict::Later(_), _) => Signal::Failed,
        };
        Answer { verdict, signal, hold }
    }

    fn of_failure(error: ExchangeError) -> Answer {
        let signal = match error {
            ExchangeError::Resolve | ExchangeError::Connect | ExchangeError::ConnectTimeout => Signal::Unreachable,
            ExchangeError::Timeout => Signal::Timeout,
            ExchangeError::Broken | ExchangeError::Stale => Signal::Failed,
        };
        Answer { verdict: Verdict::Later(error.to_string()), signal, hold: None }
    }
}

/// What an attempt came to for the event.
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
    /// What a status says of an event that was received so long ago.
    fn of_status(status: u16, age: Duration) -> Verdict {
        let told = || match http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
            Some(reason) => format!("the app answered {status} {reason}"),
            None => format!("the app answered {status}"),
        };
        match status {
            200..=299 => Verdict::Delivered,
            408 | 425 | 429 | 500.. => Verdict::Later(told()),
            // An app whose SDK verifies refuses what waited longer than its tolerance; say so where
            // that is the likely cause.
            400 | 401 | 403 if age > SDK_TOLERANCE => Verdict::ClientError(format!(
                "{}; the event is {} s old, and an SDK that checks Telnyx's timestamp refuses anything above 300 s",
                told(),
                age.as_secs()
            )),
            _ => Verdict::ClientError(told()),
        }
    }

    /// What becomes of the event after this attempt.
    pub fn outcome(self, claimed: &Claimed, attempts: u32, retry: &Retry, now: RunMs, random: f64) -> Outcome {
        let age = now.since(claimed.stored_at);
        match self {
            Verdict::Delivered => Outcome::Delivered,
            Verdict::Later(error) if age >= retry.max_age => {
                Outcome::Dead { error: format!("{error}; max_age is over") }
            }
            Verdict::Later(error) => Outcome::RetryAt {
                due: now.plus(retry.wait(attempts, random)),
                client_errors: claimed.client_errors,
                error,
            },
            Verdict::ClientError(error) => {
                let client_errors = claimed.client_errors + 1;
                match retry.client_error_wait(client_errors, random) {
                    Some(wait) if age < retry.max_age => Outcome::RetryAt { due: now.plus(wait), client_errors, error },
                    _ => Outcome::Dead { error },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::event::Seq;
    use crate::buffer::event::tests::event;

    const NEW: Duration = Duration::ZERO;

    fn retry() -> Retry {
        Retry {
            base: Duration::from_millis(500),
            max: Duration::from_secs(300),
            max_age: Duration::from_secs(3600),
            client_errors: 2,
        }
    }

    fn claimed(client_errors: u32) -> Claimed {
        let event = Arc::new(event("e", b""));
        Claimed { seq: Seq(1), event, attempts: 0, client_errors, stored_at: RunMs(0), due: RunMs(0) }
    }

    #[test]
    fn each_status_means_what_the_contract_says() {
        for status in [200, 201, 204, 299] {
            assert_eq!(Verdict::of_status(status, NEW), Verdict::Delivered, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(Verdict::of_status(status, NEW), Verdict::Later(_)), "{status}");
        }
        for status in [301, 302, 304, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(Verdict::of_status(status, NEW), Verdict::ClientError(_)), "{status}");
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
    fn client_errors_are_counted_apart_and_few() {
        let refused = || Verdict::of_status(404, NEW);
        let first = refused().outcome(&claimed(0), 9, &retry(), RunMs(0), 0.5);
        assert!(matches!(first, Outcome::RetryAt { client_errors: 1, .. }), "{first:?}");
        let second = refused().outcome(&claimed(1), 10, &retry(), RunMs(0), 0.5);
        assert_eq!(second, Outcome::Dead { error: "the app answered 404 Not Found".into() });
    }

    fn reply(status: u16, retry_after: Option<&'static str>) -> Reply {
        let value = retry_after.map(http::HeaderValue::from_static);
        let headers = value.map(|value| (http::header::RETRY_AFTER, value)).into_iter().collect();
        Reply { status, headers, body: bytes::Bytes::new() }
    }

    #[test]
    fn an_old_event_that_is_refused_says_that_it_is_old_by_the_wall_clock() {
        let event = event("e", b"");
        let told = |status, age_s: i64| match Answer::of_reply(
            &reply(status, None),
            &event,
            event.received_unix_ms + age_s * 1000,
        )
        .verdict
        {
            Verdict::ClientError(error) => error,
            other => panic!("{other:?}"),
        };
        for status in [400, 401, 403] {
            assert!(told(status, 241).contains("241 s old"));
            assert!(!told(status, 239).contains("old"));
        }
        assert!(!told(404, 241).contains("old"));
        assert!(!told(403, -3600).contains("old"), "a clock that was set back");
    }

    #[test]
    fn only_429_and_503_may_ask_to_be_left_alone() {
        let event = event("e", b"");
        let hold = |status, value| Answer::of_reply(&reply(status, Some(value)), &event, 0).hold;
        assert_eq!(hold(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(hold(503, "86400"), Some(Duration::from_secs(3600)));
        assert_eq!(hold(503, "soon"), None);
        assert_eq!(hold(500, "7"), None);
        assert_eq!(hold(200, "7"), None);
    }

    #[test]
    fn each_answer_says_something_about_the_app() {
        let event = event("e", b"");
        let of = |status| Answer::of_reply(&reply(status, None), &event, 0).signal;
        for (status, signal) in [
            (200, Signal::Good),
            (302, Signal::Refused),
            (404, Signal::Refused),
            (408, Signal::Failed),
            (425, Signal::Failed),
            (429, Signal::Busy),
            (500, Signal::Failed),
            (503, Signal::Busy),
        ] {
            assert_eq!(of(status), signal, "{status}");
        }
        assert_eq!(Answer::of_failure(ExchangeError::Connect).signal, Signal::Unreachable);
        assert_eq!(Answer::of_failure(ExchangeError::ConnectTimeout).signal, Signal::Unreachable);
        assert_eq!(Answer::of_failure(ExchangeError::Timeout).signal, Signal::Timeout);
        assert_eq!(Answer::of_failure(ExchangeError::Broken).signal, Signal::Failed);
    }
}
