//! Telnyx, as a receiver sees it: signs, posts, retries, goes over to the failover URL.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fastrand::Rng;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::plan::{Case, Seen};
use super::target::Target;
use crate::cli::sample::{EventType, MessageType, Sample};
use crate::clock::Clock;
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};

/// Attempts at each URL.
const ATTEMPTS_PER_URL: u32 = 3;

/// Time from the sending of a message to its last state.
const SENT_TO_FINALIZED_MS: i64 = 800;

/// How fast events are begun.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each as soon as there is room.
    Flood,
    /// So many a second, at fixed times, whatever the receiver does.
    PerSecond(f64),
}

impl Pace {
    /// When the n-th event is due.
    fn due(self, start: Instant, index: u32) -> Option<Instant> {
        match self {
            Pace::Flood => None,
            Pace::PerSecond(rate) => {
                let after = Duration::try_from_secs_f64(f64::from(index) / rate).ok()?;
                start.checked_add(after)
            }
        }
    }
}

/// One request and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// From the time it was due to the answer, or to the end of waiting for one.
    pub latency: Duration,
    /// How late it was sent.
    pub lag: Duration,
}

/// How the delivery of one copy of an event ended.
#[derive(Debug)]
pub struct Answer {
    /// The last thing that came back.
    pub seen: Seen,
    /// All attempts, at least one.
    pub exchanges: Vec<Exchange>,
}

impl Answer {
    /// Attempts after the first.
    pub fn retries(&self) -> usize {
        self.exchanges.len().saturating_sub(1)
    }
}

/// What is known of an event when it is over.
#[derive(Debug)]
pub struct Finished {
    /// What was tried.
    pub case: Case,
    /// One answer for each of [`Case::expected`].
    pub answers: Vec<Answer>,
}

/// The sender.
pub struct Player {
    /// The URL, and the failover URL if there is one.
    pub targets: Vec<Target>,
    /// Signs what is genuine.
    pub key: SigningKey,
    /// Signs what is forged.
    pub forger: SigningKey,
    /// Which events.
    pub event_type: EventType,
    /// Added to each request; one of Telnyx's own is replaced by it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Wait before the second attempt; doubles with each further one.
    pub retry_base: Duration,
    /// Requests that may be under way at once.
    pub slots: Arc<Semaphore>,
    /// The time that is signed.
    pub clock: Arc<dyn Clock>,
}

impl Player {
    /// Begins every event of the plan at its time; returns when all have begun. Blocks, since a
    /// thread sleeps to the microsecond and tokio's timer to the millisecond.
    pub fn begin_all(self: &Arc<Self>, plan: Vec<Case>, pace: Pace, finished: &mpsc::Sender<Finished>) {
        let runtime = Handle::current();
        let start = Instant::now();
        for (index, case) in (0..).zip(plan) {
            let due = pace.due(start, index);
            if let Some(due) = due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            // Never closed, so this is never an error.
            let Ok(slot) = runtime.block_on(self.slots.clone().acquire_owned()) else { return };
            let (player, finished) = (self.clone(), finished.clone());
            runtime.spawn(async move {
                let answers = player.play(case, index, due, slot).await;
                // The receiver outlives the events.
                let _ = finished.send(Finished { case, answers }).await;
            });
        }
    }

    async fn play(&self, case: Case, index: u32, due: Option<Instant>, slot: OwnedSemaphorePermit) -> Vec<Answer> {
        let message = MessageType::nth(usize::try_from(index).unwrap_or_default());
        if case == Case::OutOfOrder {
            return self.play_out_of_order(message, due, slot).await;
        }
        let sample = Sample::new(self.event_type, message, self.clock.unix_ms(), &mut Rng::new());
        let first = self.deliver(&sample, case, 1, due, Some(slot));
        match case {
            Case::DuplicateTogether => {
                let (one, other) = tokio::join!(first, self.deliver(&sample, case, 1, due, None));
                // Either may be the first to arrive.
                if matches!(one.seen, Seen::Duplicate { .. }) { vec![other, one] } else { vec![one, other] }
            }
            Case::DuplicateAfter => {
                let first = first.await;
                let again = 2 + u32::try_from(first.retries()).unwrap_or_default();
                vec![first, self.deliver(&sample, case, again, None, None).await]
            }
            _ => vec![first.await],
        }
    }

    /// `occurred_at` tells the truth, the order of sending does not.
    async fn play_out_of_order(
        &self,
        message: MessageType,
        due: Option<Instant>,
        slot: OwnedSemaphorePermit,
    ) -> Vec<Answer> {
        let now = self.clock.unix_ms();
        let (sent, finalized) =
            Sample::sent_and_finalized(message, now - SENT_TO_FINALIZED_MS, SENT_TO_FINALIZED_MS, &mut Rng::new());
        let first = self.deliver(&finalized, Case::OutOfOrder, 1, due, Some(slot)).await;
        vec![first, self.deliver(&sent, Case::OutOfOrder, 1, None, None).await]
    }

    /// Tries until it is answered 2xx or there is nothing left to try. `attempt` is what
    /// `meta.attempt` begins with.
    async fn deliver(
        &self,
        sample: &Sample,
        case: Case,
        mut attempt: u32,
        mut due: Option<Instant>,
        mut slot: Option<OwnedSemaphorePermit>,
    ) -> Answer {
        let tries = self.targets.iter().flat_map(|target| (0..ATTEMPTS_PER_URL).map(move |n| (target, n)));
        let mut answer: Option<Answer> = None;
        for (target, n) in tries {
            if let Some(failed) = &answer {
                if failed.seen.is_success() || !case.is_retried() {
                    break;
                }
                // The failover URL is tried at once.
                if n > 0 {
                    tokio::time::sleep(self.retry_base.saturating_mul(1 << (n - 1))).await;
                }
                due = Some(Instant::now());
                attempt += 1;
            }
            let permit = match slot.take() {
                Some(permit) => Ok(permit),
                None => self.slots.clone().acquire_owned().await,
            };
            let (seen, exchange) = self.post(target, sample, case, attempt, due).await;
            drop(permit);
            let mut exchanges = answer.map(|answer| answer.exchanges).unwrap_or_default();
            exchanges.push(exchange);
            answer = Some(Answer { seen, exchanges });
        }
        // There is always a target, so always an answer.
        answer.unwrap_or(Answer { seen: Seen::NoAnswer(crate::client::ExchangeError::Connect), exchanges: Vec::new() })
    }

    async fn post(
        &self,
        target: &Target,
        sample: &Sample,
        case: Case,
        attempt: u32,
        due: Option<Instant>,
    ) -> (Seen, Exchange) {
        let begun = Instant::now();
        let lag = due.map_or(Duration::ZERO, |due| begun.saturating_duration_since(due));
        let body = sample.body(attempt, &target.url);
        let headers = self.headers(case, &body);
        let body = if case == Case::RewrittenJson { rewritten(&body) } else { body };
        // What it takes us to sign is not the receiver's latency.
        let sent = Instant::now();
        let result = target.client.exchange(&Method::POST, &target.path, &headers, &body).await;
        (Seen::from(result), Exchange { latency: lag + sent.elapsed(), lag })
    }

    fn headers(&self, case: Case, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let now_s = self.clock.unix_ms().div_euclid(1000);
        let timestamp_s = case.timestamp_s(now_s, &mut Rng::new());
        let key = if case == Case::BadSignature { &self.forger } else { &self.key };
        let mut headers = signed_headers(key, timestamp_s, body);
        headers.retain(|(name, _)| !self.headers.iter().any(|(given, _)| given == name));
        headers.extend(self.headers.iter().cloned());
        headers
    }
}

/// The same JSON without its white space, as a hop writes it that has parsed it.
fn rewritten(body: &[u8]) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    json.to_string().into_bytes()
}

/// The headers of Telnyx's requests, the two of the signature among them.
pub fn signed_headers(key: &SigningKey, timestamp_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static("telnyx-webhooks")),
        (HeaderName::from_static(TIMESTAMP_HEADER), HeaderValue::from(timestamp_s)),
    ];
    // Base64 is always a legal header value.
    if let Ok(signature) = HeaderValue::from_str(&sign(key, timestamp_s, body)) {
        headers.push((HeaderName::from_static(SIGNATURE_HEADER), signature));
    }
    headers
}
