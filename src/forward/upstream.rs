//! One attempt at an app, and what its answer means (contract: any 2xx is delivered; 408, 425, 429,
//! 5xx and no answer come again until `max_age`; 3xx and other 4xx a few times; then dead).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backoff::{Retry, retry_after};
use super::breaker::{Change, ConnectEnd, Leave, Since, State};
use super::headers::{Address, Forwarded, for_attempt};
use super::hold::Asks;
use super::loop_watch::LoopWatch;
use super::refusal::{self, Refusal, Signing};
use super::refusal_watch::{RefusalWatch, Refused};
use super::scheduler::{LaneId, Limits, Scheduler, Slot, Wake};
use super::sign::Signer;
use super::signal::Signal;
use super::tls_watch::TlsWatch;
use super::waits::Stops;
use crate::buffer::event::{Claimed, Event, Outcome, Seq};
use crate::client::tls::TlsFailure;
use crate::client::{Client, ClientError, Destination, ExchangeError, Lifetime, Over, Reply, Timeouts};
use crate::clock::RunMs;
use crate::rejection::Rejection;

/// How long an unused connection is kept if the app does not say how long it does: below the 2 s of gunicorn, the
/// shortest of the common app servers. Node says its 5 s.
const IDLE_CONNECTION: Duration = Duration::from_millis(1500);

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
    /// Which forwarding headers it is sent.
    pub forwarded: Forwarded,
    /// Signs what it is sent.
    pub signer: Option<Arc<Signer>>,
    /// To connect.
    pub connect_timeout: Duration,
    /// Total of one attempt.
    pub timeout: Duration,
    /// Bounds of the use of each connection.
    pub lifetime: Lifetime,
    /// Bounds of what it is given.
    pub limits: Limits,
}

/// An app, with its connections and the scheduler of its attempts.
pub struct Upstream {
    client: Client,
    host: Option<String>,
    forwarded: Forwarded,
    signer: Option<Arc<Signer>>,
    max_concurrency: AtomicUsize,
    tls: TlsWatch,
    turns: Mutex<Turns>,
    /// As the scheduler said last: the app is not tried, or only by probes.
    is_stopped: AtomicBool,
    /// As the scheduler said last: it is tried by probes.
    takes_probes: AtomicBool,
    /// Whether it has taken an event that hookward has signed.
    has_taken_signed: AtomicBool,
    /// Whether `refusals` holds anything, so that an event which is taken costs no lock.
    refuses_some: AtomicBool,
    refusals: Mutex<RefusalWatch>,
}

struct Turns {
    scheduler: Scheduler,
    /// What the configuration gives it at most,
    configured: Limits,
    /// and what is in force: an operator may have set something else.
    limits: Limits,
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

/// The start of an operator's change of limits.
#[derive(Debug, Clone, Copy)]
pub enum Base {
    /// Those in force.
    InForce,
    /// Those of the configuration.
    Configured,
}

/// How an app is doing, for status and metrics.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Whether it is tried.
    pub state: State,
    /// Since when it is not tried, if it is not, and why.
    pub open_since: Option<Since>,
    /// When it is tried next, if not at once.
    pub not_before: Option<RunMs>,
    /// Attempts that may be under way at once, now.
    pub concurrency: usize,
    /// Bounds of what it is given.
    pub limits: Limits,
    /// True of limits that an operator has set.
    pub limits_are_set: bool,
    /// Attempts that are.
    pub in_flight: usize,
    /// Until when it wants to be left alone (`Retry-After`).
    pub held_until: Option<RunMs>,
    /// When its rate allows the next attempt, if not now.
    pub rate_until: Option<RunMs>,
    /// Whether its address leads back to hookward.
    pub leads_back: bool,
    /// Why TLS does not come about.
    pub tls_failure: Option<Arc<TlsFailure>>,
}

impl Condition {
    /// What keeps all events from it.
    pub fn stops(&self, now: RunMs) -> Stops {
        Stops {
            held_until: self.held_until,
            probe_at: self.open_since.map(|_| self.not_before.unwrap_or(now)),
            rate_until: self.rate_until,
            ..Stops::default()
        }
    }
}

impl Upstream {
    /// No connection is made yet.
    ///
    /// # Errors
    /// See [`Client::new`].
    pub fn new(settings: UpstreamSettings) -> Result<Upstream, ClientError> {
        let timeouts = Timeouts { connect: settings.connect_timeout, total: settings.timeout, idle: IDLE_CONNECTION };
        Ok(Upstream {
            client: Client::with_lifetime(settings.destination, timeouts, settings.lifetime)?,
            host: settings.host,
            forwarded: settings.forwarded,
            signer: settings.signer,
            max_concurrency: AtomicUsize::new(settings.limits.max_concurrency),
            tls: TlsWatch::default(),
            turns: Mutex::new(Turns {
                scheduler: Scheduler::new(settings.limits),
                configured: settings.limits,
                limits: settings.limits,
                loops: LoopWatch::default(),
                lanes: Vec::new(),
            }),
            is_stopped: AtomicBool::new(false),
            takes_probes: AtomicBool::new(false),
            has_taken_signed: AtomicBool::new(false),
            refuses_some: AtomicBool::new(false),
            refusals: Mutex::default(),
        })
    }

    /// Attempts that may be under way at once, at most.
    pub fn max_concurrency(&self) -> usize {
        self.max_concurrency.load(Ordering::Relaxed)
    }

    /// The configuration gives it so much at most. Where that is news, an operator's limits are over.
    pub fn configure(&self, limits: Limits) {
        let mut turns = self.turns.lock();
        if turns.configured != limits {
            turns.configured = limits;
            self.put_in_force(&mut turns, limits);
        }
    }

    /// An operator changes its limits, until the next start or until the configuration changes them.
    pub fn set_limits(&self, base: Base, change: impl FnOnce(Limits) -> Limits) -> Limits {
        let mut turns = self.turns.lock();
        let limits = change(match base {
            Base::InForce => turns.limits,
            Base::Configured => turns.configured,
        });
        self.put_in_force(&mut turns, limits);
        limits
    }

    /// The limits that an operator has set, if they are not the configured ones.
    pub fn operators_limits(&self) -> Option<Limits> {
        let turns = self.turns.lock();
        Some(turns.limits).filter(|limits| *limits != turns.configured)
    }

    fn put_in_force(&self, turns: &mut Turns, limits: Limits) {
        turns.limits = limits;
        turns.scheduler.set_limits(limits);
        self.max_concurrency.store(limits.max_concurrency, Ordering::Relaxed);
        turns.wake(Wake::All);
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
        let Turns { scheduler, loops, configured, limits, .. } = &*self.turns.lock();
        Condition {
            state: scheduler.state(),
            open_since: scheduler.open_since(),
            not_before: match scheduler.leave(now) {
                Leave::NotBefore(at) => Some(at),
                _ => None,
            },
            concurrency: scheduler.limit(),
            limits: *limits,
            limits_are_set: limits != configured,
            in_flight: scheduler.in_flight(),
            held_until: scheduler.held(now),
            rate_until: scheduler.rate_allows_at(now),
            leads_back: loops.leads_back(),
            tls_failure: self.tls.failure(),
        }
    }

    /// Where it is, as an operator knows it.
    pub fn destination(&self) -> &Destination {
        self.client.destination()
    }

    /// An operator wants the app to be tried at once.
    pub fn resume(&self, now: RunMs) {
        let mut turns = self.turns.lock();
        turns.scheduler.resume(now);
        self.note_stop(&turns.scheduler, now);
        turns.wake(Wake::All);
    }

    /// A connect without an event has ended.
    pub fn end_connect(&self, end: ConnectEnd, period: u32, now: RunMs) {
        let mut turns = self.turns.lock();
        turns.scheduler.end_connect(end, period, now);
        self.note_stop(&turns.scheduler, now);
        turns.wake(Wake::All);
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

    /// Takes in which paths the app refuses, and says so in the log while it goes on.
    pub fn note_answer(&self, claimed: &Claimed, answer: &Answer, now: RunMs) {
        let event = &claimed.event;
        match (&answer.verdict, answer.status) {
            (Verdict::Delivered, _) => {
                self.note_taken(event.is_verified());
                if self.refuses_some.load(Ordering::Acquire) {
                    let mut refusals = self.refusals.lock();
                    refusals.note_taken(&event.head.target);
                    self.refuses_some.store(!refusals.is_empty(), Ordering::Release);
                }
            }
            (Verdict::ClientError(error) | Verdict::Later(error), Some(status)) if answer.is_refusal => {
                let mut refusals = self.refusals.lock();
                let due = refusals.note_refused(&event.head.target, status, error, now);
                self.refuses_some.store(true, Ordering::Release);
                drop(refusals);
                let Some(times) = due else { return };
                tracing::warn!(
                    upstream = %self.client.destination(),
                    route = %event.route,
                    seq = claimed.seq.0,
                    times,
                    error,
                    "the app refuses the events of a path; each is a dead letter when its attempts are used up"
                );
            }
            _ => {}
        }
    }

    /// The app has taken an event.
    fn note_taken(&self, is_verified: bool) {
        // Read first: a write would take the cache line from the other workers each time.
        if is_verified && self.signer.is_some() && !self.has_taken_signed.load(Ordering::Relaxed) {
            self.has_taken_signed.store(true, Ordering::Relaxed);
        }
    }

    /// The paths whose events it refuses, the latest first.
    pub fn refused(&self, now: RunMs) -> Vec<Refused> {
        self.refusals.lock().refused(now)
    }

    /// The signature that it finds on its events.
    fn signing(&self) -> Signing {
        match &self.signer {
            None => Signing::Senders,
            Some(_) if self.has_taken_signed.load(Ordering::Relaxed) => Signing::Taken,
            Some(_) => Signing::Untaken,
        }
    }

    /// Takes in how the app has answered a proxied event. Returns a hint where it refused it.
    pub fn note_proxied(&self, event: &Event, status: u16, now_unix_ms: i64) -> Option<String> {
        if (200..=299).contains(&status) {
            self.note_taken(event.is_verified());
            return None;
        }
        refusal::hint(Refusal { status, body: b"", date: None }, event, self.signing(), now_unix_ms)
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

    /// Notes that the app could not be asked.
    pub fn note_failure(&self, error: &ExchangeError) {
        self.tls.note_failure(self.client.destination(), error);
    }

    /// Notes that it could.
    pub fn note_reached(&self) {
        self.tls.note_reached();
    }

    /// Connects without an event; the connection waits for the next one.
    pub async fn reach(&self) -> ConnectEnd {
        match self.client.reach().await {
            Ok(()) => {
                self.note_reached();
                ConnectEnd::Reached
            }
            Err(error) => {
                self.note_failure(&error);
                ConnectEnd::Failed
            }
        }
    }

    /// Shakes hands with an app that speaks TLS, and warns if that fails; whether there is nothing more to see.
    pub async fn look_at_tls(&self) -> bool {
        if !self.client.destination().is_tls() {
            return true;
        }
        match self.client.shake_hands().await {
            Ok(()) => self.note_reached(),
            Err(error @ ExchangeError::Tls(_)) => self.note_failure(&error),
            Err(_) => return false,
        }
        true
    }

    /// For exchanges that are no attempts of stored events: modes that pass the app's answer on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The name under which it is asked.
    pub fn address(&self) -> Address<'_> {
        Address { host: self.host.as_deref(), forwarded: self.forwarded }
    }

    /// All headers of one attempt, with the signature of this time where the app gets one.
    pub fn headers_of(&self, event: &Event, attempt: u32, now_unix_ms: i64) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = for_attempt(event, attempt, self.address());
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
                self.tls.note_reached();
                let refusal = Refusal { status: reply.status, body: &reply.body, date: reply.date.as_ref() };
                let hint = || refusal::hint(refusal, event, self.signing(), now_unix_ms);
                Answer::of_reply(&reply, hint, now_unix_ms)
            }
            Err(error) => {
                self.note_failure(&error);
                Answer::of_failure(&error)
            }
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
    /// Whether the app seems to find fault with every event like this one.
    pub is_refusal: bool,
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

    fn of_reply(reply: &Reply, hint: impl FnOnce() -> Option<String>, now_unix_ms: i64) -> Answer {
        let retry_after = || {
            let value = reply.retry_after.as_ref()?.to_str().ok()?;
            retry_after(value, now_unix_ms)
        };
        let answer = Answer {
            status: Some(reply.status),
            verdict: Verdict::Delivered,
            signal: Signal::Good,
            hold: None,
            is_unfinished: !reply.has_ended,
            is_refusal: false,
        };
        if is_loop(reply) {
            return Answer { verdict: Verdict::Later(LEADS_BACK.to_owned()), signal: Signal::Loop, ..answer };
        }
        if matches!(reply.status, 200..=299) {
            return answer;
        }
        let hint = hint();
        let has_hint = hint.is_some();
        let verdict = Verdict::of_refusal(reply.status, hint);
        let signal = match (&verdict, reply.status) {
            (Verdict::ClientError(_), _) => Signal::Refused,
            (_, 429 | 503) => Signal::Busy,
            // Of a hop between: the app was too slow for it. 524 is Cloudflare's word for it.
            (_, 504 | 524) => Signal::Timeout,
            _ => Signal::Failed,
        };
        let hold = if signal == Signal::Busy { retry_after() } else { None };
        let is_refusal = has_hint || signal == Signal::Refused;
        Answer { verdict, signal, hold, is_refusal, ..answer }
    }

    fn of_failure(error: &ExchangeError) -> Answer {
        let signal = match error {
            ExchangeError::Resolve
            | ExchangeError::Resolver
            | ExchangeError::Connect
            | ExchangeError::Tls(_)
            | ExchangeError::ConnectTimeout => Signal::Unreachable,
            ExchangeError::Timeout => Signal::Timeout,
            ExchangeError::Broken | ExchangeError::Stale => Signal::Failed,
        };
        let verdict = Verdict::Later(error.to_string());
        Answer { status: None, verdict, signal, hold: None, is_unfinished: false, is_refusal: false }
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
    /// Of an answer that is no 2xx.
    fn of_refusal(status: u16, hint: Option<String>) -> Verdict {
        let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let parts = [Some(format!("the app answered {status}")), reason.map(|reason| format!(" {reason}"))];
        let told = parts.into_iter().chain([hint.map(|hint| format!("; {hint}"))]).flatten().collect();
        match status {
            408 | 425 | 429 | 500.. => Verdict::Later(told),
            _ => Verdict::ClientError(told),
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
        let verdict = |status| Answer::of_reply(&reply(status, None), || None, 0).verdict;
        for status in [200, 201, 204, 299] {
            assert_eq!(verdict(status), Verdict::Delivered, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(verdict(status), Verdict::Later(_)), "{status}");
        }
        for status in [301, 302, 304, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(verdict(status), Verdict::ClientError(_)), "{status}");
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
        let refused = || Verdict::of_refusal(404, None);
        let first = refused().outcome(&claimed(0), 9, &retry(), RunMs(0), 0.5);
        assert!(matches!(first, Outcome::RetryAt { client_errors: 1, .. }), "{first:?}");
        let second = refused().outcome(&claimed(1), 10, &retry(), RunMs(0), 0.5);
        assert_eq!(second, Outcome::Dead { error: "the app answered 404 Not Found".into() });
    }

    fn reply(status: u16, retry_after: Option<&'static str>) -> Reply {
        let retry_after = retry_after.map(HeaderValue::from_static);
        Reply { status, retry_after, date: None, body: bytes::Bytes::new(), has_ended: true }
    }

    #[test]
    fn a_hint_stands_after_the_status_and_makes_a_failure_a_refusal() {
        let hinted = |status| Answer::of_reply(&reply(status, None), || Some("why".into()), 0);
        let (refused, failed) = (hinted(403), hinted(500));
        assert_eq!(refused.verdict, Verdict::ClientError("the app answered 403 Forbidden; why".into()));
        assert_eq!(failed.verdict, Verdict::Later("the app answered 500 Internal Server Error; why".into()));
        assert!(refused.is_refusal && failed.is_refusal);
        let plain = |status| Answer::of_reply(&reply(status, None), || None, 0).is_refusal;
        assert!(plain(410) && !plain(500) && !plain(503) && !plain(200));
        assert!(!Answer::of_reply(&reply(200, None), || panic!("asked for nothing"), 0).is_refusal);
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
            (524, Signal::Timeout),
        ] {
            assert_eq!(of(status), signal, "{status}");
        }
        assert_eq!(Answer::of_failure(&ExchangeError::Connect).signal, Signal::Unreachable);
        assert_eq!(Answer::of_failure(&ExchangeError::ConnectTimeout).signal, Signal::Unreachable);
        assert_eq!(Answer::of_failure(&ExchangeError::Timeout).signal, Signal::Timeout);
        assert_eq!(Answer::of_failure(&ExchangeError::Broken).signal, Signal::Failed);
    }
}
