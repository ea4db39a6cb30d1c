//! One attempt at an app, and what its answer means (contract: any 2xx is delivered; 408, 425, 429,
//! 5xx and no answer come again until `max_age`; 3xx and other 4xx a few times; then dead).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backoff::{Retry, retry_after};
use super::breaker::{Change, State};
use super::headers::for_attempt;
use super::hold::Asks;
use super::loop_watch::LoopWatch;
use super::scheduler::{LaneId, Scheduler, Slot, Wake};
use super::sign::Signer;
use super::signal::Signal;
use crate::buffer::event::{Claimed, Event, Outcome, Seq};
use crate::client::{Client, ClientError, Destination, ExchangeError, Over, Reply, Timeouts};
use crate::clock::RunMs;
use crate::rejection::Rejection;

/// How long an unused connection is kept: below the 5 s after which Node closes one, the shortest
/// of the common app servers.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// Age from which an app's own SDK refuses the original signature (300 s), less a margin.
const SDK_TOLERANCE: Duration = Duration::from_secs(240);
/// Said beside a refusal of what hookward has signed,
const SIGNED_ANEW: &str = "it was signed anew: does the app verify with what `hookward pubkey` prints?";
/// and of what it never signs.
const UNSIGNED: &str = "the event is unverified (a check in report mode), so it was not signed";

/// Said of an event that has come back to hookward.
const LEADS_BACK: &str =
    "the upstream leads back to hookward (508 loop_detected): set upstream.url to the app's own address";

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

/// An app, with its connections and the scheduler of its attempts.
pub struct Upstream {
    client: Client,
    host: Option<String>,
    signer: Option<Arc<Signer>>,
    max_concurrency: usize,
    turns: Mutex<Turns>,
    /// As the scheduler said last: the app is not tried, or only by probes.
    is_stopped: AtomicBool,
    /// As the scheduler said last: it is tried by probes.
    takes_probes: AtomicBool,
}

struct Turns {
    scheduler: Scheduler,
    loops: LoopWatch,
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
    /// Whether its address leads back to hookward.
    pub leads_back: bool,
}

impl Upstream {
    /// No connection is made yet.
    ///
    /// # Errors
    /// See [`Client::new`].
    pub fn new(settings: UpstreamSettings) -> Result<Upstream, ClientError> {
        let timeouts = Timeouts { connect: settings.connect_timeout, total: settings.timeout, idle: IDLE_CONNECTION };
        Ok(Upstream {
            client: Client::new(settings.destination, timeouts)?,
            host: settings.host,
            signer: settings.signer,
            max_concurrency: settings.max_concurrency,
            turns: Mutex::new(Turns {
                scheduler: Scheduler::new(settings.max_concurrency),
                loops: LoopWatch::default(),
                lanes: Vec::new(),
            }),
            is_stopped: AtomicBool::new(false),
            takes_probes: AtomicBool::new(false),
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
        self.note_stop(&turns.scheduler, now);
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

    /// Whether a few new events are welcome as probes while it is not tried.
    pub fn takes_probes(&self) -> bool {
        self.takes_probes.load(Ordering::Acquire)
    }

    fn note_stop(&self, scheduler: &Scheduler, now: RunMs) {
        self.is_stopped.store(scheduler.is_stopped(now), Ordering::Release);
        self.takes_probes.store(scheduler.takes_probes(now), Ordering::Release);
    }

    /// How the app is doing.
    pub fn condition(&self, now: RunMs) -> Condition {
        let Turns { scheduler, loops, .. } = &*self.turns.lock();
        Condition {
            state: scheduler.state(),
            concurrency: scheduler.limit(),
            held_for: scheduler.held(now).map(|until| until.since(now)),
            leads_back: loops.leads_back(),
        }
    }

    /// Brings a slot back: what the attempt told about the app.
    pub fn end(&self, slot: &Slot, signal: Signal, hold: Option<(Asks, Duration)>, latency: Duration, now: RunMs) {
        let mut turns = self.turns.lock();
        let held = hold.and_then(|(asks, wait)| turns.scheduler.hold(asks, wait, now));
        let ended = turns.scheduler.end(slot, signal, latency, now);
        let is_loop_due = turns.loops.note(signal, now);
        self.note_stop(&turns.scheduler, now);
        turns.wake(if held.is_some() { Wake::All } else { ended.wake });
        drop(turns);
        self.log(ended.change, held, is_loop_due);
    }

    fn log(&self, change: Option<Change>, hold: Option<Duration>, is_loop_due: bool) {
        let upstream = self.client.destination();
        if is_loop_due {
            tracing::error!(%upstream, reason = Rejection::LoopDetected.reason(), "{LEADS_BACK}; its events wait");
        }
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
            tracing::warn!(
                %upstream,
                for_s = hold.as_secs(),
                "the app asks to be left alone (Retry-After): none of its routes is delivered until then"
            );
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

    /// All headers of one attempt, with the signature of this time where the app gets one.
    pub fn headers_of(&self, event: &Event, attempt: u32, now_unix_ms: i64) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = for_attempt(event, attempt, self.host());
        if let Some(signer) = &self.signer {
            signer.sign(event, now_unix_ms, &mut headers);
        }
        headers
    }

    /// Sends an event; `attempts` counts every send. An idle connection that the app had closed is
    /// no answer of the app, so the event is sent once more at once, as the next attempt.
    pub async fn attempt(&self, event: &Event, attempts: &mut u32, now_unix_ms: i64) -> Answer {
        let mut sent = self.send(Over::Pool, event, attempts, now_unix_ms).await;
        if let Err(ExchangeError::Stale) = sent {
            sent = self.send(Over::Fresh, event, attempts, now_unix_ms).await;
        }
        match sent {
            Ok(reply) => {
                let why = || why_refused(self.signer.is_some(), event, now_unix_ms);
                Answer::of_reply(&reply, why, now_unix_ms)
            }
            Err(error) => Answer::of_failure(error),
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
}

/// Whether a hookward has answered that it has had the event. The status alone does not say so:
/// web hosts answer 508 where an account is at its limits.
fn is_loop(reply: &Reply) -> bool {
    let refusal = Rejection::LoopDetected;
    reply.status == refusal.status() && reply.body == refusal.body()
}

/// Why an app may refuse an event that is genuine, as far as that can be guessed.
fn why_refused(is_signer: bool, event: &Event, now_unix_ms: i64) -> Option<String> {
    let age = Duration::from_millis(u64::try_from(now_unix_ms - event.received_unix_ms).unwrap_or(0));
    match is_signer {
        // An app that refuses hookward's own signature has another key, whatever the event's age.
        true if event.is_verified() => Some(SIGNED_ANEW.to_owned()),
        true => Some(UNSIGNED.to_owned()),
        // An app whose SDK verifies refuses what waited longer than its tolerance.
        false => (age > SDK_TOLERANCE).then(|| {
            format!(
                "the event is {} s old, and an SDK that checks Telnyx's timestamp refuses anything above 300 s",
                age.as_secs()
            )
        }),
    }
}

/// What came of an attempt: for the event, and for the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The app's status, if it answered.
    pub status: Option<u16>,
    /// For the event.
    pub verdict: Verdict,
    /// What it says about the app.
    pub signal: Signal,
    /// How long the app wants to be left alone, or with this event only.
    pub hold: Option<Duration>,
    /// Whether there was an answer whose end did not come.
    pub is_unfinished: bool,
}

impl Answer {
    /// Who is to be left alone, and for how long.
    pub fn wish(&self, seq: Seq) -> Option<(Asks, Duration)> {
        let asks = if self.status == Some(503) { Asks::App } else { Asks::About(seq) };
        Some((asks, self.hold?))
    }

    /// How long the event has to wait at least, restarts of hookward included. What holds
    /// the app ends with the process.
    pub fn event_wait(&self) -> Option<Duration> {
        self.hold.filter(|_| self.status != Some(503))
    }

    fn of_reply(reply: &Reply, why_refused: impl FnOnce() -> Option<String>, now_unix_ms: i64) -> Answer {
        let retry_after = || {
            let value = reply.retry_after.as_ref()?.to_str().ok()?;
            retry_after(value, now_unix_ms)
        };
        let hold = if matches!(reply.status, 429 | 503) { retry_after() } else { None };
        if is_loop(reply) {
            let verdict = Verdict::Later(LEADS_BACK.to_owned());
            let is_unfinished = !reply.has_ended;
            return Answer { status: Some(reply.status), verdict, signal: Signal::Loop, hold: None, is_unfinished };
        }
        let verdict = Verdict::of_status(reply.status, why_refused);
        let signal = match (&verdict, reply.status) {
            (Verdict::Delivered, _) => Signal::Good,
            (Verdict::ClientError(_), _) => Signal::Refused,
            (Verdict::Later(_), 429 | 503) => Signal::Busy,
            // Of a hop between: the app was too slow for it.
            (Verdict::Later(_), 504) => Signal::Timeout,
            (Verdict::Later(_), _) => Signal::Failed,
        };
        Answer { status: Some(reply.status), verdict, signal, hold, is_unfinished: !reply.has_ended }
    }

    fn of_failure(error: ExchangeError) -> Answer {
        let signal = match error {
            ExchangeError::Resolve | ExchangeError::Connect | ExchangeError::ConnectTimeout => Signal::Unreachable,
            ExchangeError::Timeout => Signal::Timeout,
            ExchangeError::Broken | ExchangeError::Stale => Signal::Failed,
        };
        Answer { status: None, verdict: Verdict::Later(error.to_string()), signal, hold: None, is_unfinished: false }
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
    fn of_status(status: u16, why_refused: impl FnOnce() -> Option<String>) -> Verdict {
        let told = || match http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
            Some(reason) => format!("the app answered {status} {reason}"),
            None => format!("the app answered {status}"),
        };
        match status {
            200..=299 => Verdict::Delivered,
            408 | 425 | 429 | 500.. => Verdict::Later(told()),
            400 | 401 | 403 => match why_refused() {
                Some(why) => Verdict::ClientError(format!("{}; {why}", told())),
                None => Verdict::ClientError(told()),
            },
            _ => Verdict::ClientError(told()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::event::tests::event;

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
        let (stored_at, tried_since, due) = (RunMs(0), RunMs(0), RunMs(0));
        Claimed { seq: Seq(1), event, attempts: 0, client_errors, stored_at, tried_since, due }
    }

    #[test]
    fn each_status_means_what_the_contract_says() {
        for status in [200, 201, 204, 299] {
            assert_eq!(Verdict::of_status(status, || None), Verdict::Delivered, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(Verdict::of_status(status, || None), Verdict::Later(_)), "{status}");
        }
        for status in [301, 302, 304, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(Verdict::of_status(status, || None), Verdict::ClientError(_)), "{status}");
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
        let refused = || Verdict::of_status(404, || None);
        let first = refused().outcome(&claimed(0), 9, &retry(), RunMs(0), 0.5);
        assert!(matches!(first, Outcome::RetryAt { client_errors: 1, .. }), "{first:?}");
        let second = refused().outcome(&claimed(1), 10, &retry(), RunMs(0), 0.5);
        assert_eq!(second, Outcome::Dead { error: "the app answered 404 Not Found".into() });
    }

    fn reply(status: u16, retry_after: Option<&'static str>) -> Reply {
        let retry_after = retry_after.map(HeaderValue::from_static);
        Reply { status, retry_after, body: bytes::Bytes::new(), has_ended: true }
    }

    #[test]
    fn an_app_that_refuses_our_own_signature_is_told_apart_from_one_that_finds_it_old() {
        let told = |status, event: &Event| {
            let now_unix_ms = event.received_unix_ms + 600_000;
            match Answer::of_reply(&reply(status, None), || why_refused(true, event, now_unix_ms), now_unix_ms).verdict
            {
                Verdict::ClientError(error) => error,
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
    fn an_old_event_that_is_refused_says_that_it_is_old_by_the_wall_clock() {
        let event = event("e", b"");
        let verdict = |status, now_unix_ms| {
            Answer::of_reply(&reply(status, None), || why_refused(false, &event, now_unix_ms), now_unix_ms).verdict
        };
        let told = |status, age_s: i64| match verdict(status, event.received_unix_ms + age_s * 1000) {
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
    fn a_loop_is_what_a_hookward_says_it_is_and_comes_again_later() {
        let answer = |body: &'static str| {
            let reply = Reply { body: bytes::Bytes::from_static(body.as_bytes()), ..reply(508, None) };
            Answer::of_reply(&reply, || None, 0)
        };
        let back = answer(r#"{"error":"loop_detected"}"#);
        assert_eq!((back.signal, back.verdict), (Signal::Loop, Verdict::Later(LEADS_BACK.into())));
        let host = answer("Resource Limit Is Reached");
        assert_eq!((host.signal, host.status), (Signal::Failed, Some(508)));
        assert_eq!(host.verdict, Verdict::Later("the app answered 508 Loop Detected".into()));
    }

    #[test]
    fn only_429_and_503_may_ask_to_be_left_alone() {
        let hold = |status, value| Answer::of_reply(&reply(status, Some(value)), || None, 0).hold;
        assert_eq!(hold(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(hold(503, "86400"), Some(Duration::from_secs(3600)));
        assert_eq!(hold(503, "soon"), None);
        assert_eq!(hold(500, "7"), None);
        assert_eq!(hold(200, "7"), None);
    }

    #[test]
    fn each_answer_says_something_about_the_app() {
        let of = |status| Answer::of_reply(&reply(status, None), || None, 0).signal;
        for (status, signal) in [
            (200, Signal::Good),
            (302, Signal::Refused),
            (404, Signal::Refused),
            (408, Signal::Failed),
            (425, Signal::Failed),
            (429, Signal::Busy),
            (500, Signal::Failed),
            (503, Signal::Busy),
            (504, Signal::Timeout),
        ] {
            assert_eq!(of(status), signal, "{status}");
        }
        assert_eq!(Answer::of_failure(ExchangeError::Connect).signal, Signal::Unreachable);
        assert_eq!(Answer::of_failure(ExchangeError::ConnectTimeout).signal, Signal::Unreachable);
        assert_eq!(Answer::of_failure(ExchangeError::Timeout).signal, Signal::Timeout);
        assert_eq!(Answer::of_failure(ExchangeError::Broken).signal, Signal::Failed);
    }
}
