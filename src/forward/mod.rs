//! Deliveries to the apps behind hookward: at least once, from memory right after the commit, from
//! the buffer when it waited there.
//!
//! Each route is a lane with a task of its own, so that one app that is down does not stand in
//! another's way. What a lane does next is decided by pure code ([`lane`], [`scheduler`]); this is
//! the shell around it: memory, the committer, tasks, time.

pub mod backoff;
pub mod breaker;
mod connect_probe;
pub mod headers;
pub mod hold;
pub mod kind;
pub mod lane;
pub mod latency;
pub mod loop_watch;
pub mod order;
pub mod order_key;
pub mod rate;
pub mod refusal;
pub mod refusal_watch;
pub mod scheduler;
pub mod secret_key;
pub mod shares;
pub mod sign;
pub mod signal;
pub mod tally;
pub mod tls_watch;
pub mod upstream;
pub mod waiting;
pub mod waits;
pub mod window;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

use crate::buffer::committer::{Committer, Handover};
use crate::buffer::event::{Attempt, Claimed, Outcome, Seq, Settlement};
use crate::buffer::pause::Pause;
use crate::buffer::{ClaimLimit, Claims};
use crate::clock::{Clock, RunClock, RunMs};
use crate::metrics::Metrics;
use backoff::Retry;
use connect_probe::ConnectProbe;
use scheduler::{Class, LaneId, Slot};
use signal::Signal;
use upstream::{Upstream, Verdict};
use waits::{Stops, Wait};

/// Bytes of events that wait in memory for their first attempt; the others wait in the buffer.
const MEMORY_MAX_BYTES: usize = 16 << 20;
/// Bytes that an event costs in memory besides head and body.
const EVENT_OVERHEAD_BYTES: usize = 512;
/// New events that wait in memory for each attempt that their app bears at once: it may take so
/// many times its latency, twice, until their turn comes. Beyond, they wait in the buffer.
const FRESH_PER_ATTEMPT: usize = 8;
/// New events that may wait in memory whatever the app bears.
const FRESH_MIN: usize = 64;
/// Longest a lane sleeps without looking into the buffer.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Shortest sleep, so that rounding down to milliseconds cannot spin.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// Wait before an attempt that panicked is repeated.
const AFTER_PANIC: Duration = Duration::from_secs(60);
/// How long an operator's question waits for a lane.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Least time between two complaints that events went their way without order.
const TELL_UNORDERED_EVERY: Duration = Duration::from_secs(60);

/// Events that wait in memory, by route. The committer's side of a lane.
pub struct Lanes {
    lanes: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    waiting_bytes: AtomicUsize,
    made: AtomicU64,
}

/// What a lane is handed.
#[derive(Default)]
struct Inbox {
    /// New events.
    events: VecDeque<Claimed>,
    /// Events of which somebody asks whether they wait for others of their key. Operators ask, a few at a time.
    questions: Vec<(Vec<Seq>, oneshot::Sender<HashSet<Seq>>)>,
}

#[derive(Default)]
struct Queue {
    inbox: Mutex<Inbox>,
    /// Events in memory that have not been tried yet, those that the lane has taken over included.
    waiting: AtomicUsize,
    /// Attempts that are not settled.
    under_way: Mutex<Vec<Seq>>,
    /// The lane has nothing to do before then; zero while it has.
    rests_until: AtomicI64,
    /// Where the events go; while there is nothing, they wait.
    upstream: ArcSwapOption<Upstream>,
    /// An operator has stopped it.
    pause: ArcSwapOption<Pause>,
    /// Something may be due in the buffer that the lane does not know of.
    look: AtomicBool,
    changed: Arc<Notify>,
}

impl Queue {
    fn look_into_buffer(&self) {
        self.look.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    fn is_paused(&self) -> bool {
        self.pause.load().is_some()
    }

    /// Whether a new event may wait in memory: not so many that their turn would not come soon, and
    /// while its app is not tried only as a probe.
    fn takes_fresh(&self) -> bool {
        !self.is_paused()
            && self.upstream.load().as_ref().is_some_and(|upstream| {
                let most = match upstream.is_stopped() {
                    true if upstream.takes_probes() => lane::PROBES_MAX,
                    true => 0,
                    false => (upstream.max_concurrency() * FRESH_PER_ATTEMPT).max(FRESH_MIN),
                };
                self.waiting.load(Ordering::Acquire) < most
            })
    }

    /// Which of these events wait for others of their key.
    async fn behind(&self, events: Vec<Seq>) -> HashSet<Seq> {
        let (answer, told) = oneshot::channel();
        self.inbox.lock().questions.push((events, answer));
        self.changed.notify_one();
        // A lane that has ended does not answer.
        tokio::time::timeout(ANSWER_WITHIN, told).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// What all its events wait for.
    fn stops(&self, now: RunMs) -> Stops {
        let pause = self.pause.load().as_ref().map(|pause| pause.until);
        match &*self.upstream.load() {
            Some(upstream) => Stops { pause, ..upstream.condition(now).stops(now) },
            None => Stops { pause, has_no_upstream: true, ..Stops::default() },
        }
    }

    /// Whether nothing in memory could be tried now.
    fn rests(&self) -> bool {
        let is_stopped =
            self.is_paused() || self.upstream.load().as_ref().is_some_and(|upstream| upstream.is_stopped());
        is_stopped || self.waiting.load(Ordering::Acquire) == 0
    }
}

impl Lanes {
    /// Nothing waits.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> Arc<Lanes> {
        Arc::new(Lanes { lanes: Mutex::default(), waiting_bytes: AtomicUsize::new(0), made: AtomicU64::new(0) })
    }

    fn queue(&self, route: &str) -> Option<Arc<Queue>> {
        self.lanes.lock().get(route).cloned()
    }

    fn new_id(&self) -> LaneId {
        LaneId(self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// An event leaves memory.
    fn release_event(&self, queue: &Queue, claimed: &Claimed) {
        queue.waiting.fetch_sub(1, Ordering::AcqRel);
        self.release(claimed.event.body.len() + claimed.event.head.encoded_len());
    }
}

impl Handover for Lanes {
    fn reserve(&self, route: &str, bytes: usize) -> bool {
        if !self.queue(route).is_some_and(|queue| queue.takes_fresh()) {
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
            queue.waiting.fetch_add(1, Ordering::AcqRel);
            queue.inbox.lock().events.push_back(claimed);
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

/// Where the events of a route go.
#[derive(Default)]
pub struct Standing {
    /// The app, if there is one.
    pub upstream: Option<Arc<Upstream>>,
    /// The pause, if an operator has stopped it.
    pub pause: Option<Arc<Pause>>,
}

/// What every lane needs.
pub struct Forwarder {
    /// The committer's side.
    pub lanes: Arc<Lanes>,
    /// Where events come from and settlements go.
    pub committer: Committer,
    /// When to try again.
    pub retry: Retry,
    /// How events are put in order, if they are.
    pub ordering: Option<order_key::Ordering>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What earlier runs have added up to.
    pub run_base: RunMs,
    /// Routes that an earlier run has left paused.
    pub paused_before: Vec<(Arc<str>, Pause)>,
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
        if let Some(queue) = self.lanes.queue(route) {
            queue.upstream.store(upstream);
            queue.look_into_buffer();
            return None;
        }
        let queue = Queue { upstream: ArcSwapOption::new(upstream), ..Queue::default() };
        let found = self.paused_before.iter().find(|(paused, _)| paused == route);
        queue.pause.store(found.map(|(_, pause)| Arc::new(pause.clone())));
        let queue = Arc::new(queue);
        self.lanes.lanes.lock().insert(route.clone(), queue.clone());
        let runner = Runner {
            forwarder: self.clone(),
            route: route.clone(),
            queue,
            lane: lane::Lane::new(self.lanes.new_id(), self.ordering.as_ref()),
            upstream: None,
            attempts: JoinSet::new(),
            under_way: HashMap::new(),
            told_unordered: None,
        };
        Some(Lane { task: tokio::spawn(runner.run(stop.clone())) })
    }

    /// How a route stands; `None` if it has no lane.
    pub fn standing(&self, route: &str) -> Option<Standing> {
        let queue = self.lanes.queue(route)?;
        Some(Standing { upstream: queue.upstream.load_full(), pause: queue.pause.load_full() })
    }

    /// Stops the deliveries of a route that has a lane, attempts under way excepted.
    pub fn pause(&self, route: &str, pause: Pause) {
        if let Some(queue) = self.lanes.queue(route) {
            queue.pause.store(Some(Arc::new(pause)));
            queue.changed.notify_one();
        }
    }

    /// Ends the pause of a route, and lets its app be tried at once: it ends the app's wish to be left alone too.
    pub fn resume(&self, route: &str) {
        if let Some(queue) = self.lanes.queue(route) {
            queue.pause.store(None);
            queue.look_into_buffer();
            if let Some(upstream) = &*queue.upstream.load() {
                upstream.resume(self.now());
            }
        }
    }

    /// What each of these pending events of a route waits for, which is due then; `None` of one that is being sent.
    pub async fn waits(&self, route: &str, events: &[(Seq, RunMs)]) -> Vec<Option<Wait>> {
        let Some(queue) = self.lanes.queue(route) else { return vec![None; events.len()] };
        let behind = match self.ordering {
            Some(_) => queue.behind(events.iter().map(|(seq, _)| *seq).collect()).await,
            None => HashSet::new(),
        };
        let now = self.now();
        let stops = queue.stops(now);
        let under_way = queue.under_way.lock();
        let wait =
            |(seq, due): &(Seq, RunMs)| (!under_way.contains(seq)).then(|| stops.wait(*due, behind.contains(seq), now));
        events.iter().map(wait).collect()
    }

    /// Whether nothing is under way and nothing can be delivered before this much time has passed.
    pub fn rests_for(&self, time: Duration) -> bool {
        let until = self.now().plus(time).0;
        let rests = |queue: &Arc<Queue>| {
            queue.rests() && queue.under_way.lock().is_empty() && queue.rests_until.load(Ordering::Acquire) > until
        };
        self.lanes.lanes.lock().values().all(rests)
    }

    /// The running time now.
    pub fn now(&self) -> RunMs {
        RunClock { clock: &*self.clock, base: self.run_base }.now()
    }
}

/// An attempt under way. Whatever happens to it, its slot goes back and the event is settled:
/// dropped in a panic or at the end, it comes again later.
struct UnderWay {
    forwarder: Arc<Forwarder>,
    queue: Arc<Queue>,
    upstream: Arc<Upstream>,
    slot: Option<Slot>,
    claimed: Claimed,
    attempts: u32,
    begun_us: i64,
    is_settled: bool,
}

impl UnderWay {
    /// Sends the event; returns when it is due again, if it is.
    async fn run(mut self) -> (Seq, Option<RunMs>) {
        let seq = self.claimed.seq;
        if self.forwarder.committer.is_withdrawn(seq) {
            // An operator has thrown it away while it waited here.
            self.settle(Outcome::Released, None);
            return (seq, None);
        }
        let UnderWay { forwarder, upstream, slot, claimed, attempts, begun_us, .. } = &mut self;
        let metrics = forwarder.metrics.route(&claimed.event.route);
        let answer = upstream.attempt(&claimed.event, attempts, forwarder.clock.unix_ms()).await;
        let took = Duration::from_micros(u64::try_from(forwarder.clock.uptime_us() - *begun_us).unwrap_or(0));
        let now = forwarder.now();
        if let Some(slot) = slot.take() {
            upstream.end(&slot, answer.signal, answer.wish(seq), took, now);
        }
        upstream.note_answer(claimed, &answer, now);
        let outcome = answer.verdict.clone().outcome(claimed, *attempts, &forwarder.retry, now, fastrand::f64());
        let outcome = outcome.not_before(answer.event_wait().map(|wait| now.plus(wait)));
        let mut due = None;
        match &outcome {
            Outcome::Delivered => metrics.delivered.inc(),
            Outcome::Dead { .. } => metrics.dead.inc(),
            Outcome::Released | Outcome::PutBack { .. } => {}
            Outcome::RetryAt { due: at, .. } => {
                metrics.retried.inc();
                due = Some(*at);
            }
        }
        metrics.unfinished_answers.inc_by(u64::from(answer.is_unfinished));
        metrics.delivery_duration_s.observe(took.as_secs_f64());
        if outcome == Outcome::Delivered {
            metrics.end_to_end_s.observe(now.since(claimed.stored_at).as_secs_f64());
        }
        if answer.signal == Signal::Loop {
            metrics.loops.inc();
        }
        log_attempt(claimed, *attempts, &answer.verdict, &outcome);
        self.settle(outcome, answer.status);
        (seq, due)
    }

    fn settle(&mut self, outcome: Outcome, status: Option<u16>) {
        self.is_settled = true;
        let clock = &self.forwarder.clock;
        let duration_ms = (clock.uptime_us() - self.begun_us) / 1000;
        let last = Some(Attempt { ended_unix_ms: clock.unix_ms(), status, duration_ms });
        let (event, attempts) = (self.claimed.handed_out(), self.attempts);
        self.forwarder.committer.settle(Settlement { event, outcome, attempts, last });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.forwarder.now();
        if let Some(slot) = self.slot.take() {
            self.upstream.end(&slot, Signal::Cut, None, Duration::ZERO, now);
        }
        if !self.is_settled {
            let due = now.plus(if std::thread::panicking() { AFTER_PANIC } else { Duration::ZERO });
            // Being cut off does not undo the refusals before.
            let client_errors = self.claimed.client_errors;
            let error = "the attempt was cut off".to_owned();
            self.settle(Outcome::RetryAt { due, client_errors, error }, None);
        }
        let mut under_way = self.queue.under_way.lock();
        if let Some(place) = under_way.iter().position(|seq| *seq == self.claimed.seq) {
            under_way.swap_remove(place);
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

type Claiming = Pin<Box<dyn Future<Output = Claims> + Send>>;

/// The task of a lane.
struct Runner {
    forwarder: Arc<Forwarder>,
    route: Arc<str>,
    queue: Arc<Queue>,
    lane: lane::Lane,
    /// The app that it goes to.
    upstream: Option<Arc<Upstream>>,
    attempts: JoinSet<(Seq, Option<RunMs>)>,
    /// Which attempt is which, where the lane has to know how they end.
    under_way: HashMap<Id, Seq>,
    told_unordered: Option<RunMs>,
}

impl Runner {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut claiming: Option<Claiming> = None;
        loop {
            self.queue.rests_until.store(0, Ordering::Release);
            self.follow_upstream();
            self.follow_pause();
            self.look_into_inbox();
            if self.queue.look.swap(false, Ordering::AcqRel) {
                self.lane.look_into_buffer();
            }
            let until = self.advance(&mut claiming);
            let now = self.forwarder.now();
            let wait = until.map_or(LOOK_EVERY, |until| until.since(now).min(LOOK_EVERY));
            if claiming.is_none() {
                self.queue.rests_until.store(until.map_or(i64::MAX, |until| until.0), Ordering::Release);
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                claims = answer(&mut claiming) => {
                    claiming = None;
                    // What is due at once but was not handed out now is asked for again.
                    self.lane.claimed(claims.events, claims.next_due);
                }
                Some(ended) = self.attempts.join_next_with_id(), if self.lane.is_ordered() => self.note_end(ended),
                () = self.queue.changed.notified() => {}
                () = tokio::time::sleep(wait.max(MIN_SLEEP)) => {
                    if until.is_none_or(|until| until.since(now) > LOOK_EVERY) {
                        self.lane.look_into_buffer();
                    }
                }
            }
            while let Some(ended) = self.attempts.try_join_next_with_id() {
                self.note_end(ended);
            }
        }
        self.end().await;
    }

    /// The time to end in order is over: what is cut off is settled as to be tried again, the rest
    /// stays as it was.
    async fn end(mut self) {
        self.attempts.shutdown().await;
        self.look_into_inbox();
        for (claimed, class) in self.lane.drain() {
            self.put_back(&claimed, class, Outcome::Released);
        }
    }

    /// Does what there is to do now; returns when there is more, if time alone brings it.
    fn advance(&mut self, claiming: &mut Option<Claiming>) -> Option<RunMs> {
        let upstream = self.upstream.clone()?;
        loop {
            let now = self.forwarder.now();
            match upstream.schedule(now, |scheduler| self.lane.step(scheduler, now)) {
                lane::Step::Begin(claimed, slot) => self.begin(&upstream, claimed, slot),
                lane::Step::Connect(period) => {
                    let probe = ConnectProbe::new(self.forwarder.clone(), upstream.clone(), period);
                    tokio::spawn(Box::pin(probe.run()));
                }
                lane::Step::Claim(limit) => *claiming = Some(self.claim(limit)),
                lane::Step::PutBack(claimed, class, due) => self.put_back(&claimed, class, Outcome::PutBack { due }),
                lane::Step::Rest { until, wake } => {
                    if let Some(other) = wake {
                        upstream.wake(other);
                    }
                    self.tell_unordered(now);
                    return until;
                }
            }
        }
    }

    /// Goes where the configuration says.
    fn follow_upstream(&mut self) {
        let set = self.queue.upstream.load();
        let same = match (&self.upstream, &*set) {
            (Some(known), Some(set)) => Arc::ptr_eq(known, set),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        if let Some(left) = self.upstream.take() {
            left.leave(self.lane.id());
        }
        if let Some(joined) = &*set {
            joined.join(self.lane.id(), &self.queue.changed);
            joined.schedule(self.forwarder.now(), |scheduler| self.lane.join(scheduler));
            self.upstream = Some(joined.clone());
        }
    }

    fn look_into_inbox(&mut self) {
        let mut inbox = self.queue.inbox.lock();
        self.lane.add_fresh(&mut inbox.events);
        for (events, answer) in inbox.questions.drain(..) {
            // Whoever asked may be gone.
            let _ = answer.send(events.into_iter().filter(|seq| self.lane.is_behind(*seq)).collect());
        }
    }

    /// Stands still for as long as an operator wants.
    fn follow_pause(&mut self) {
        let known = self.queue.pause.load();
        let Some(pause) = &*known else { return self.lane.pause(None) };
        self.lane.pause(Some(pause.until.unwrap_or(RunMs(i64::MAX))));
        // Unless it has been paused again meanwhile, which wakes the lane.
        let is_over = pause.is_over(self.forwarder.now());
        if is_over && Guard::into_inner(self.queue.pause.compare_and_swap(&*known, None)) == *known {
            tracing::info!(route = %self.route, "the pause is over: deliveries of the route go on");
        }
    }

    fn begin(&mut self, upstream: &Arc<Upstream>, claimed: Claimed, slot: Slot) {
        if slot.class == Class::Fresh {
            self.forwarder.lanes.release_event(&self.queue, &claimed);
        }
        self.queue.under_way.lock().push(claimed.seq);
        let (seq, attempts) = (claimed.seq, claimed.attempts);
        let attempt = UnderWay {
            forwarder: self.forwarder.clone(),
            queue: self.queue.clone(),
            upstream: upstream.clone(),
            slot: Some(slot),
            claimed,
            attempts,
            begun_us: self.forwarder.clock.uptime_us(),
            is_settled: false,
        };
        // Boxed: a task moves its future several times before and after it runs.
        let task = self.attempts.spawn(Box::pin(attempt.run()));
        if self.lane.is_ordered() {
            self.under_way.insert(task.id(), seq);
        }
    }

    fn claim(&self, limit: ClaimLimit) -> Claiming {
        let (committer, route) = (self.forwarder.committer.clone(), self.route.clone());
        Box::pin(async move { committer.claim(route, limit).await })
    }

    /// Untried, so it stays as it was.
    fn put_back(&self, claimed: &Claimed, class: Class, outcome: Outcome) {
        if class == Class::Fresh {
            self.forwarder.lanes.release_event(&self.queue, claimed);
        }
        let (event, attempts) = (claimed.handed_out(), claimed.attempts);
        self.forwarder.committer.settle(Settlement { event, outcome, attempts, last: None });
    }

    fn note_end(&mut self, ended: Result<(Id, (Seq, Option<RunMs>)), JoinError>) {
        let now = self.forwarder.now();
        match ended {
            Ok((id, (seq, retry))) => {
                self.under_way.remove(&id);
                self.lane.ended(seq, retry, now);
            }
            Err(error) => {
                tracing::error!(route = %self.route, "an attempt panicked; its event is tried again later");
                if let Some(seq) = self.under_way.remove(&error.id()) {
                    self.lane.ended(seq, Some(now.plus(AFTER_PANIC)), now);
                }
            }
        }
    }

    fn tell_unordered(&mut self, now: RunMs) {
        let events = self.lane.take_unordered();
        if events > 0 && self.told_unordered.is_none_or(|told| now.since(told) >= TELL_UNORDERED_EVERY) {
            self.told_unordered = Some(now);
            tracing::warn!(
                route = %self.route,
                most = order::EVENTS_MAX,
                "more events wait for others of their key than can be kept in order; these go as they come"
            );
        }
    }
}

/// The answer to a claim under way, if there is one.
async fn answer(claiming: &mut Option<Claiming>) -> Claims {
    match claiming {
        Some(claiming) => claiming.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulation;
