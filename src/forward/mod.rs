//! Deliveries to the apps behind hookward: at least once, from memory right after the commit, from
//! the buffer when it waited there.
//!
//! Each route is a lane with a task of its own, so that one app that is down does not stand in
//! another's way. A lane takes an event, waits for a permit of its upstream, and lets an attempt
//! run; what became of it goes to the committer.

pub mod backoff;
pub mod client;
pub mod headers;
pub mod secret_key;
pub mod sign;
pub mod upstream;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::buffer::ClaimLimit;
use crate::buffer::committer::{Committer, Handover};
use crate::buffer::event::{Attempt, Claimed, Outcome, Seq, Settlement};
use crate::clock::{Clock, RunClock, RunMs, duration_ms};
use crate::metrics::Metrics;
use backoff::Retry;
use upstream::{Upstream, Verdict};

/// Bytes of events that wait in memory for their first attempt; the others wait in the buffer.
const MEMORY_MAX_BYTES: usize = 16 << 20;
/// Bytes that an event costs in memory besides head and body.
const EVENT_OVERHEAD_BYTES: usize = 512;
/// What a lane takes from the buffer at once.
const CLAIM: ClaimLimit = ClaimLimit { events: 64, bytes: 4 << 20 };
/// Longest a lane sleeps without looking into the buffer.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Shortest sleep, so that rounding down to milliseconds cannot spin.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// Wait before an attempt that panicked is repeated.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// Events that wait in memory, by route. The committer's side of a lane.
pub struct Lanes {
    lanes: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    waiting_bytes: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    events: Mutex<VecDeque<Claimed>>,
    /// Where the events go; while there is nothing, they wait.
    upstream: ArcSwapOption<Upstream>,
    /// Something may be due in the buffer that the lane does not know of.
    look: AtomicBool,
    changed: Notify,
}

impl Queue {
    fn look_into_buffer(&self) {
        self.look.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

impl Lanes {
    /// Nothing waits.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> Arc<Lanes> {
        Arc::new(Lanes { lanes: Mutex::default(), waiting_bytes: AtomicUsize::new(0) })
    }

    fn queue(&self, route: &str) -> Option<Arc<Queue>> {
        self.lanes.lock().get(route).cloned()
    }

    fn release_event(&self, claimed: &Claimed) {
        self.release(claimed.event.body.len() + claimed.event.head.encoded_len());
    }
}

impl Handover for Lanes {
    fn reserve(&self, route: &str, bytes: usize) -> bool {
        if self.queue(route).is_none() {
            return false;
        }
        let bytes = bytes + EVENT_OVERHEAD_BYTES;
        let fits = self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= MEMORY_MAX_BYTES;
        if !fits {
            self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        fits
    }

    fn release(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes + EVENT_OVERHEAD_BYTES, Ordering::AcqRel);
    }

    fn take(&self, claimed: Claimed) {
        if let Some(queue) = self.queue(&claimed.event.route) {
            queue.events.lock().push_back(claimed);
            queue.changed.notify_one();
        }
    }

    fn wake(&self, route: &str) {
        if let Some(queue) = self.queue(route) {
            queue.look_into_buffer();
        }
    }

    fn wake_all(&self) {
        for queue in self.lanes.lock().values() {
            queue.look_into_buffer();
        }
    }
}

/// What every lane needs.
pub struct Forwarder {
    /// The committer's side.
    pub lanes: Arc<Lanes>,
    /// Where events come from and settlements go.
    pub committer: Committer,
    /// When to try again.
    pub retry: Retry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What earlier runs have added up to.
    pub run_base: RunMs,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Forwarder {
    /// The routes that have a lane.
    pub fn lanes(&self) -> Vec<Arc<str>> {
        self.lanes.lanes.lock().keys().cloned().collect()
    }

    /// Lets the events of a route go to this app from now on, attempts under way excepted; without
    /// one they are held. Returns the lane if it is new.
    pub fn set_lane(
        self: &Arc<Self>,
        route: &Arc<str>,
        upstream: Option<Arc<Upstream>>,
        stop: &watch::Receiver<bool>,
    ) -> Option<Lane> {
        let limit = upstream.as_ref().map_or(0, |upstream| upstream.max_concurrency());
        self.metrics.route(route).concurrency_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Some(queue) = self.lanes.queue(route) {
            queue.upstream.store(upstream);
            queue.look_into_buffer();
            return None;
        }
        let queue = Arc::new(Queue { upstream: ArcSwapOption::new(upstream), ..Queue::default() });
        self.lanes.lanes.lock().insert(route.clone(), queue.clone());
        let runner = Runner {
            forwarder: self.clone(),
            route: route.clone(),
            queue,
            next_due: Some(RunMs(0)),
            claimed: VecDeque::new(),
            fresh_first: false,
        };
        Some(Lane { task: tokio::spawn(runner.run(stop.clone())) })
    }

    fn now(&self) -> RunMs {
        RunClock { clock: &*self.clock, base: self.run_base }.now()
    }

    /// One attempt and what becomes of the event.
    async fn deliver(self: Arc<Self>, upstream: Arc<Upstream>, claimed: Claimed, _permit: OwnedSemaphorePermit) {
        let begun_us = self.clock.uptime_us();
        let mut open = Unsettled {
            forwarder: &self,
            seq: claimed.seq,
            attempts: claimed.attempts,
            client_errors: claimed.client_errors,
            begun_us,
            settled: false,
        };
        if self.committer.is_withdrawn(claimed.seq) {
            // An operator has thrown it away while it waited here.
            return open.settle(Outcome::Released, None);
        }
        let metrics = self.metrics.route(&claimed.event.route).clone();
        let (verdict, status) = upstream.attempt(&claimed.event, &mut open.attempts, self.clock.unix_ms()).await;
        let now = self.now();
        let outcome = verdict.clone().outcome(&claimed, open.attempts, &self.retry, now, fastrand::f64());
        match &outcome {
            Outcome::Delivered => &metrics.delivered,
            Outcome::Dead { .. } => &metrics.dead,
            Outcome::RetryAt { .. } | Outcome::Released => &metrics.retried,
        }
        .inc();
        #[allow(clippy::cast_precision_loss, reason = "for histograms")]
        {
            metrics.delivery_duration_s.observe((self.clock.uptime_us() - begun_us) as f64 / 1e6);
            if outcome == Outcome::Delivered {
                metrics.end_to_end_s.observe(duration_ms(now.since(claimed.stored_at)) as f64 / 1e3);
            }
        }
        log_attempt(&claimed, open.attempts, &verdict, &outcome);
        open.settle(outcome, status);
    }
}

/// An attempt under way. Whatever happens to it, the event is settled: dropped in a panic, it comes
/// again later.
struct Unsettled<'f> {
    forwarder: &'f Forwarder,
    seq: Seq,
    attempts: u32,
    /// Refusals before this attempt, which being cut off does not undo.
    client_errors: u32,
    begun_us: i64,
    settled: bool,
}

impl Unsettled<'_> {
    fn settle(&mut self, outcome: Outcome, status: Option<u16>) {
        self.settled = true;
        let clock = &self.forwarder.clock;
        let duration_ms = (clock.uptime_us() - self.begun_us) / 1000;
        let last = Some(Attempt { ended_unix_ms: clock.unix_ms(), status, duration_ms });
        self.forwarder.committer.settle(Settlement { seq: self.seq, outcome, attempts: self.attempts, last });
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let due = self.forwarder.now().plus(if std::thread::panicking() { AFTER_PANIC } else { Duration::ZERO });
            let error = "the attempt was cut off".to_owned();
            self.settle(Outcome::RetryAt { due, client_errors: self.client_errors, error }, None);
        }
    }
}

fn log_attempt(claimed: &Claimed, attempts: u32, verdict: &Verdict, outcome: &Outcome) {
    let event = &claimed.event;
    match (verdict, outcome) {
        (Verdict::Delivered, _) => {
            tracing::debug!(route = %event.route, seq = claimed.seq.0, delivery_id = %event.delivery_id, attempts, "delivered");
        }
        (Verdict::Later(error) | Verdict::ClientError(error), Outcome::Dead { .. }) => tracing::warn!(
            route = %event.route,
            seq = claimed.seq.0,
            delivery_id = %event.delivery_id,
            event_type = event.event_type,
            attempts,
            error = %error,
            "given up: the event is a dead letter now and is kept for dead_letter.keep"
        ),
        // The first failure of an event and then each doubling: enough to see, not to flood.
        (Verdict::Later(error) | Verdict::ClientError(error), _) if attempts.is_power_of_two() => tracing::info!(
            route = %event.route,
            seq = claimed.seq.0,
            delivery_id = %event.delivery_id,
            attempts,
            error = %error,
            "not delivered yet, tried again later"
        ),
        _ => {}
    }
}

/// A running lane.
pub struct Lane {
    task: tokio::task::JoinHandle<()>,
}

impl Lane {
    /// Waits until the lane has ended: every attempt is settled.
    pub async fn ended(self) {
        let _ = self.task.await;
    }
}

/// The task of a lane.
struct Runner {
    forwarder: Arc<Forwarder>,
    route: Arc<str>,
    queue: Arc<Queue>,
    /// When the buffer has something; unknown is at once.
    next_due: Option<RunMs>,
    /// Taken from the buffer and not tried yet.
    claimed: VecDeque<Claimed>,
    /// Whose turn it is.
    fresh_first: bool,
}

impl Runner {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut attempts = JoinSet::new();
        loop {
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                next = self.next() => next,
            };
            let permit = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => { self.put_back(&next); break }
                permit = self.permit() => permit,
            };
            let (upstream, permit) = permit;
            attempts.spawn(self.forwarder.clone().deliver(upstream, next, permit));
            while let Some(ended) = attempts.try_join_next() {
                self.note_panic(&ended);
            }
        }
        // The time to end in order is over: what is cut off is settled as to be tried again.
        attempts.shutdown().await;
        for claimed in std::mem::take(&mut self.claimed) {
            self.put_back(&claimed);
        }
        let waiting = std::mem::take(&mut *self.queue.events.lock());
        for claimed in waiting {
            self.forwarder.lanes.release_event(&claimed);
            self.put_back(&claimed);
        }
    }

    fn note_panic(&self, ended: &Result<(), tokio::task::JoinError>) {
        if ended.is_err() {
            tracing::error!(route = %self.route, "an attempt panicked; its event is tried again later");
        }
    }

    /// Untried, so it stays as it was.
    fn put_back(&self, claimed: &Claimed) {
        let (seq, attempts) = (claimed.seq, claimed.attempts);
        self.forwarder.committer.settle(Settlement { seq, outcome: Outcome::Released, attempts, last: None });
    }

    /// The app in force and leave to try it.
    async fn permit(&self) -> (Arc<Upstream>, OwnedSemaphorePermit) {
        loop {
            let Some(upstream) = self.queue.upstream.load_full() else {
                self.queue.changed.notified().await;
                continue;
            };
            let Ok(permit) = upstream.permits().acquire_owned().await else { continue };
            while let Some(until) = upstream.held_until().filter(|_| self.is_in_force(&upstream)) {
                tokio::time::sleep_until(until).await;
            }
            // Another one may have been set while this one was waited for.
            if self.is_in_force(&upstream) {
                return (upstream, permit);
            }
        }
    }

    fn is_in_force(&self, upstream: &Arc<Upstream>) -> bool {
        self.queue.upstream.load().as_ref().is_some_and(|set| Arc::ptr_eq(set, upstream))
    }

    /// The next event: what waited in the buffer and what came in memory take turns, so that
    /// neither a backlog nor a storm of new events starves the other.
    async fn next(&mut self) -> Claimed {
        loop {
            self.fresh_first = !self.fresh_first;
            if self.fresh_first
                && let Some(fresh) = self.pop_fresh()
            {
                return fresh;
            }
            if let Some(claimed) = self.claimed.pop_front() {
                return claimed;
            }
            if self.queue.look.swap(false, Ordering::AcqRel) {
                self.next_due = Some(RunMs(0));
            }
            let now = self.forwarder.now();
            if self.next_due.is_some_and(|due| due <= now) {
                let claims = self.forwarder.committer.claim(self.route.clone(), CLAIM).await;
                // What is due at once but was not handed out now is asked for again after this.
                self.next_due = claims.next_due;
                self.claimed.extend(claims.events);
                if !self.claimed.is_empty() {
                    continue;
                }
            }
            if let Some(fresh) = self.pop_fresh() {
                return fresh;
            }
            let wait = self.next_due.map_or(LOOK_EVERY, |due| due.since(now).min(LOOK_EVERY));
            tokio::select! {
                () = self.queue.changed.notified() => {}
                () = tokio::time::sleep(wait.max(MIN_SLEEP)) => self.queue.look.store(true, Ordering::Release),
            }
        }
    }

    fn pop_fresh(&self) -> Option<Claimed> {
        let claimed = self.queue.events.lock().pop_front()?;
        self.forwarder.lanes.release_event(&claimed);
        Some(claimed)
    }
}
