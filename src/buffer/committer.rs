//! Group commit: many waiters, one thread that owns the engine, one sync for all who wait.
//!
//! There is no artificial delay: while a group commits, the next one forms. Completions ride along
//! with the next group; when nothing arrives they are written after 100 ms of quiet.

#[path = "committer/operator.rs"]
mod operator;

use std::collections::HashSet;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio::sync::{Semaphore, oneshot, watch};

use super::event::{Claimed, DeliveryId, Event, EventHead, Fingerprint, HandedOut, NewEvent, Seq, Settlement};
use super::sync::{
    AtomicBool, AtomicU8, AtomicU64, Mutex, Ordering, Receiver, RecvTimeoutError, Sender, channel, thread, timeout,
};
use super::{Append, Appended, Buffer, BufferError, ClaimLimit, Claims, Recovery, Stats, Work};
use crate::clock::{Clock, RunClock, RunMs};
use crate::faults::failpoint;
use crate::gate::identity::{DedupeKey, Facts, Identified};
use crate::metrics::Metrics;
use crate::rejection::Rejection;
use operator::Request;
pub use operator::{DeskError, Page, REPAIRS_MAX};

/// Bytes that may wait for a commit.
const QUEUE_MAX_BYTES: u64 = 8 << 20;
/// Events of one group at most.
const GROUP_MAX_EVENTS: usize = 256;
/// Events of a group from which on events come faster than they can be committed one by one.
const CROWDED_GROUP: usize = 4;
/// Bytes of one group at most; one event is taken whatever its size.
const GROUP_MAX_BYTES: u64 = 4 << 20;
/// How long an event may wait for its commit to begin: the sender gives up after 2 s.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// How long a begun commit may take before the sender is told that it failed.
const COMMIT_WITHIN: Duration = Duration::from_millis(750);
/// Quiet after which completions are written without an append to ride on: the thread finds them within
/// [`MAINTAIN_EVERY`], and writes them as much later.
const SETTLE_WITHIN: Duration = Duration::from_millis(100);
/// Completions that are written at once, however busy it is.
const SETTLE_MAX: usize = 2_000;
/// Time between slices of housekeeping while events come.
const MAINTAIN_EVERY: Duration = Duration::from_millis(50);
/// Quiet after which housekeeping may do what would delay a commit; also its rhythm then.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Proof that an event is durable at the engine's level. Made here only, after the commit.
#[derive(Debug)]
pub struct Stored {
    seq: Seq,
}

impl Stored {
    /// Its place in the buffer.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

/// The two ways to a 2xx. Both carry the proof: a repeat of an event whose group is being committed
/// has waited for that commit.
#[derive(Debug)]
pub enum Accepted {
    /// Stored by this request.
    New(Stored),
    /// An equal one had been stored.
    Duplicate(Stored),
}

/// How a verified request came: what the event keeps besides its body.
#[derive(Debug)]
pub struct Receipt {
    /// UUIDv7 that this event will have.
    pub delivery_id: DeliveryId,
    /// Wall clock.
    pub received_unix_ms: i64,
    /// The route that took it.
    pub route: Arc<str>,
    /// Method, as received.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: Bytes,
    /// What goes to the app.
    pub headers: Vec<(Bytes, Bytes)>,
}

impl Receipt {
    /// The event that came so, and its key among duplicates.
    pub fn event(self, identified: Identified) -> (Event, Option<DedupeKey>) {
        let Identified { body, key, skew_s: _, facts, dedupe, no_key: _ } = identified;
        let Receipt { delivery_id, received_unix_ms, route, method, target, headers } = self;
        let head = EventHead { method, target, headers, key };
        let Facts { event_id, event_type, provider_attempt: _ } = facts;
        (Event { delivery_id, received_unix_ms, route, event_id, event_type, head, body, replay: false }, dedupe)
    }
}

/// Who forwards events from memory right after their commit.
pub trait Handover: Send + Sync {
    /// Whether there is room in memory for an event of this route; reserves it if so.
    fn reserve(&self, route: &str, bytes: usize) -> bool;
    /// Gives reserved room back.
    fn release(&self, bytes: usize);
    /// Takes a committed event whose room is reserved.
    fn take(&self, claimed: Claimed);
    /// Events of this route wait in the buffer.
    fn wake(&self, route: &str);
    /// Events that had been taken wait again: when they are due may have changed for any route.
    fn wake_all(&self);
}

/// Whether the buffer takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Good,
    /// Not until it has been opened again, which is tried; why.
    Failed(String),
    /// Never again: its thread has ended in a panic.
    Gone,
}

/// Opens an engine again after it has failed. Gets the events that are handed out, which it must
/// not hand out once more.
pub type Reopen = Box<dyn FnMut(&[HandedOut]) -> Result<Box<dyn Buffer>, String> + Send>;

/// Wait before a failed engine is first opened again; doubles up to the next.
const REOPEN_BASE: Duration = Duration::from_millis(100);
/// Longest wait between two tries to open it: a disk that heals is taken up again within it.
const REOPEN_MAX: Duration = Duration::from_secs(5);

enum Message {
    Append {
        event: NewEvent,
        room: Room,
        ticket: Arc<Ticket>,
        answer: oneshot::Sender<Result<Accepted, Rejection>>,
    },
    /// There are completions, and the thread would not look for them by itself.
    Completions,
    Claim {
        route: Arc<str>,
        limit: ClaimLimit,
        answer: oneshot::Sender<Claims>,
    },
    Routes(Vec<Arc<str>>),
    Operator(Request),
    Close {
        answer: oneshot::Sender<()>,
    },
}

/// Decides once whether a waiting event goes into a group or its waiter gives up.
struct Ticket(AtomicU8);

impl Ticket {
    const QUEUED: u8 = 0;
    const BEGUN: u8 = 1;
    const ABANDONED: u8 = 2;

    fn new() -> Self {
        Ticket(AtomicU8::new(Self::QUEUED))
    }

    fn turn(&self, into: u8) -> bool {
        self.0.compare_exchange(Self::QUEUED, into, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Room in the queue. Given back with the message that holds it, whichever way that goes.
struct Room {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Room {
    fn reserve(shared: &Arc<Shared>, bytes: u64) -> Option<Room> {
        let queued = shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let room = Room { shared: shared.clone(), bytes };
        (queued <= QUEUE_MAX_BYTES).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.queued_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct Shared {
    queued_bytes: AtomicU64,
    stats: watch::Sender<Stats>,
    health: watch::Sender<Health>,
    fingerprint_key: [u8; 16],
    /// Requests of operators go one at a time, so that a commit waits for one slice at most.
    desk: Semaphore,
    /// Events that an operator has thrown away while they were handed out. Each leaves the set when
    /// it is settled, so there are no more of them than are handed out.
    withdrawn: Mutex<HashSet<Seq>>,
    /// What has become of events, until the thread takes it. Not in the queue, where each would wake the
    /// thread: they have time until the next commit. Bounded by the events that are handed out.
    completions: Mutex<Vec<Settlement>>,
    /// Whether the thread looks for completions by itself soon.
    is_watchful: AtomicBool,
}

/// Handle on the thread that owns the engine. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    messages: Sender<Message>,
    shared: Arc<Shared>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        engine: Box<dyn Buffer>,
        reopen: Reopen,
        recovery: &Recovery,
        handover: Arc<dyn Handover>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Committer, thread::JoinHandle<()>)> {
        let (messages, inbox) = channel();
        let run_base = recovery.run_base;
        let now = RunClock { clock: &*clock, base: run_base }.now();
        let shared = Arc::new(Shared {
            queued_bytes: AtomicU64::new(0),
            stats: watch::Sender::new(engine.stats(now)),
            health: watch::Sender::new(Health::Good),
            fingerprint_key: recovery.fingerprint_key,
            desk: Semaphore::new(1),
            withdrawn: Mutex::default(),
            completions: Mutex::default(),
            is_watchful: AtomicBool::new(false),
        });
        let owner = Owner {
            engine: Some(engine),
            reopen,
            failure: None,
            inbox,
            shared: shared.clone(),
            handover,
            clock,
            run_base,
            metrics,
            routes: Vec::new(),
            settlements: Vec::new(),
            settling_since: None,
            last_append: now,
            last_group: 0,
            maintain_at: now,
        };
        let thread = thread::Builder::new().name("hookward-buffer".to_owned()).spawn(move || owner.run())?;
        Ok((Committer { messages, shared }, thread))
    }

    /// Makes a verified event durable, or finds that an equal one is. Dropping the future loses
    /// nothing: an event that was handed over is stored all the same.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] if too much waits or the commit has not begun within 1 s (then it
    /// is certainly not stored), [`Rejection::BufferFull`], [`Rejection::BufferFailed`] (then the
    /// outcome is unknown).
    pub async fn store(&self, identified: Identified, receipt: Receipt) -> Result<Accepted, Rejection> {
        let event = self.new_event(identified, receipt);
        let room = Room::reserve(&self.shared, event.stored_bytes()).ok_or(Rejection::Overloaded)?;
        let ticket = Arc::new(Ticket::new());
        let (answer, mut waiter) = oneshot::channel();
        let message = Message::Append { event, room, ticket: ticket.clone(), answer };
        if self.messages.send(message).is_err() {
            return Err(Rejection::BufferFailed);
        }
        let answer = match timeout(BEGIN_WITHIN, &mut waiter).await {
            Ok(answer) => answer,
            Err(_) if ticket.turn(Ticket::ABANDONED) => return Err(Rejection::Overloaded),
            Err(_) => match timeout(COMMIT_WITHIN, waiter).await {
                Ok(answer) => answer,
                Err(_) => return Err(Rejection::BufferFailed),
            },
        };
        answer.unwrap_or(Err(Rejection::BufferFailed))
    }

    fn new_event(&self, identified: Identified, receipt: Receipt) -> NewEvent {
        let (event, dedupe) = receipt.event(identified);
        NewEvent::new(event, dedupe.map(|key| (self.fingerprint(&key), key.scope.window)))
    }

    pub(super) fn fingerprint(&self, key: &DedupeKey) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_key(&self.shared.fingerprint_key);
        hasher.write_u64(key.scope.scope.len() as u64);
        hasher.write(key.scope.scope.as_bytes());
        hasher.write(key.id.as_bytes());
        Fingerprint(hasher.finish128().as_bytes())
    }

    /// Reports what became of a claimed event. Written with the next commit.
    pub fn settle(&self, settlement: Settlement) {
        let gathered = {
            let mut completions = self.shared.completions.lock();
            completions.push(settlement);
            completions.len()
        };
        // The order matters: the thread says that it is not watchful, and then looks once more.
        let is_watched = self.shared.is_watchful.load(Ordering::SeqCst);
        if gathered == SETTLE_MAX || (gathered == 1 && !is_watched) {
            // A thread that has ended is an engine that has failed: the event stays pending.
            let _ = self.messages.send(Message::Completions);
        }
    }

    /// These routes take events from now on, and share the room.
    pub fn share_among(&self, routes: Vec<Arc<str>>) {
        let _ = self.messages.send(Message::Routes(routes));
    }

    /// Takes events of a route that are due.
    pub async fn claim(&self, route: Arc<str>, limit: ClaimLimit) -> Claims {
        let (answer, waiter) = oneshot::channel();
        let _ = self.messages.send(Message::Claim { route, limit, answer });
        waiter.await.unwrap_or_default()
    }

    /// Writes everything that waits and ends the thread.
    pub async fn close(&self) {
        let (answer, waiter) = oneshot::channel();
        if self.messages.send(Message::Close { answer }).is_ok() {
            let _ = waiter.await;
        }
    }

    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes.load(Ordering::SeqCst)
    }

    /// Counts as of the last commit; changes can be awaited.
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.shared.stats.subscribe()
    }

    /// Whether the buffer takes events; changes can be awaited.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }
}

/// An event that waits for its commit.
struct Waiting {
    answer: oneshot::Sender<Result<Accepted, Rejection>>,
    reserved: Option<usize>,
}

/// An engine that has failed.
struct Failure {
    /// Events that it had handed out.
    handed_out: Vec<HandedOut>,
    /// Why it is not open, as told last; the same is not told again at every try.
    told: String,
    /// When it is opened again.
    reopen_at: RunMs,
    /// The wait after that, if it fails.
    wait: Duration,
}

/// The thread's side.
struct Owner {
    /// Nothing after a failure, until it is opened again.
    engine: Option<Box<dyn Buffer>>,
    reopen: Reopen,
    failure: Option<Failure>,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    handover: Arc<dyn Handover>,
    clock: Arc<dyn Clock>,
    run_base: RunMs,
    metrics: Arc<Metrics>,
    /// Routes that take events.
    routes: Vec<Arc<str>>,
    settlements: Vec<Settlement>,
    settling_since: Option<RunMs>,
    last_append: RunMs,
    /// Events of the last group.
    last_group: usize,
    maintain_at: RunMs,
}

/// What one turn of the loop has gathered.
#[derive(Default)]
struct Gathered {
    appends: Vec<Append>,
    waiting: Vec<Waiting>,
    bytes: u64,
    claims: Vec<(Arc<str>, ClaimLimit, oneshot::Sender<Claims>)>,
    requests: Vec<Request>,
    close: Option<oneshot::Sender<()>>,
}

impl Owner {
    fn run(mut self) {
        let _watchman = Watchman { shared: self.shared.clone(), metrics: self.metrics.clone() };
        loop {
            let Some(gathered) = self.gather() else {
                return self.close();
            };
            let Gathered { appends, waiting, claims, requests, close, .. } = gathered;
            let now = self.now();
            self.reopen_when_due(now);
            // A repair acts on events as they stand: what has become of them is written first.
            let repairs = requests.iter().any(Request::changes);
            if !appends.is_empty() || self.settling_is_due(now) || repairs || close.is_some() {
                self.commit(appends, waiting, now);
            }
            for (route, limit, answer) in claims {
                let _ = answer.send(self.claim(&route, limit));
            }
            for request in requests {
                self.serve(request);
            }
            if now >= self.maintain_at || self.engine.as_ref().is_some_and(|engine| engine.is_pressed()) {
                self.maintain(now);
            }
            self.publish_stats(now);
            if let Some(answer) = close {
                self.close();
                let _ = answer.send(());
                return;
            }
        }
    }

    fn now(&self) -> RunMs {
        RunClock { clock: &*self.clock, base: self.run_base }.now()
    }

    fn publish_stats(&self, now: RunMs) {
        // Those of a failed one stay as they were.
        let Some(stats) = self.engine.as_ref().map(|engine| engine.stats(now)) else { return };
        self.shared.stats.send_if_modified(|shown| {
            let changed = *shown != stats;
            *shown = stats;
            changed
        });
    }

    /// Works on the engine, if there is one. A failure is noted, and what it was given counts as
    /// unknown.
    fn on_engine<T>(&mut self, work: impl FnOnce(&mut dyn Buffer) -> Result<T, BufferError>) -> Result<T, BufferError> {
        let Some(engine) = &mut self.engine else {
            return Err(BufferError::Failed("it has failed and is being opened again".to_owned()));
        };
        let done = work(&mut **engine);
        match &done {
            Ok(_) => {}
            Err(BufferError::DiskFull) => self.metrics.buffer_errors_full.inc(),
            Err(BufferError::Failed(why) | BufferError::Damaged(why)) => self.fail(why),
        }
        done
    }

    fn fail(&mut self, why: &str) {
        let now = self.now();
        self.publish_stats(now);
        self.metrics.buffer_errors_failed.inc();
        self.metrics.buffer_failed.set(1);
        tracing::error!(error = why, "the buffer failed; nothing is acknowledged until it has been opened again");
        self.shared.health.send_replace(Health::Failed(why.to_owned()));
        let handed_out = self.engine.take().map(Buffer::abandon).unwrap_or_default();
        let (told, reopen_at) = (why.to_owned(), now.plus(REOPEN_BASE));
        self.failure = Some(Failure { handed_out, told, reopen_at, wait: REOPEN_BASE });
    }

    fn reopen_when_due(&mut self, now: RunMs) {
        let Some(failure) = self.failure.as_mut().filter(|failure| now >= failure.reopen_at) else { return };
        match (self.reopen)(&failure.handed_out) {
            Ok(mut engine) => {
                engine.share_among(&self.routes);
                self.engine = Some(engine);
                self.failure = None;
                tracing::info!("the buffer has been opened again and takes events");
                self.publish_stats(now);
                self.metrics.buffer_failed.set(0);
                self.shared.health.send_replace(Health::Good);
                self.settling_since = (!self.settlements.is_empty()).then_some(now);
                self.handover.wake_all();
            }
            Err(why) => {
                if failure.told != why {
                    tracing::warn!(error = %why, "the buffer cannot be opened again yet");
                    failure.told = why;
                }
                failure.wait = (failure.wait * 2).min(REOPEN_MAX);
                failure.reopen_at = now.plus(failure.wait);
            }
        }
    }

    /// Waits for something to do, then takes what has gathered, within the bounds of a group;
    /// nothing once every handle is gone.
    fn gather(&mut self) -> Option<Gathered> {
        let now = self.now();
        let mut until = self.maintain_at;
        if let Some(since) = self.settling_since {
            until = until.min(since.plus(SETTLE_WITHIN - MAINTAIN_EVERY));
        }
        if let Some(failure) = &self.failure {
            until = until.min(failure.reopen_at);
        }
        let mut gathered = Gathered::default();
        let mut message = match self.wait(until.since(now)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        if self.last_group >= CROWDED_GROUP {
            // Whoever has an event almost ready comes first where no processor is free: it makes this group
            // instead of the next one. Not while groups are small, when it would be a delay for little.
            thread::yield_now();
        }
        while let Some(next) = message.take() {
            self.take_message(next, &mut gathered);
            if gathered.appends.len() >= GROUP_MAX_EVENTS
                || gathered.bytes >= GROUP_MAX_BYTES
                || gathered.close.is_some()
            {
                break;
            }
            message = self.inbox.try_recv().ok();
        }
        // Behind the messages: whoever has settled an event and then asks finds it settled.
        self.take_completions();
        Some(gathered)
    }

    /// Waits for a message; woken for completions only if it would be long.
    fn wait(&mut self, time: Duration) -> Result<Message, RecvTimeoutError> {
        let is_watchful = time <= MAINTAIN_EVERY;
        self.shared.is_watchful.store(is_watchful, Ordering::SeqCst);
        let came_meanwhile = !is_watchful && !self.shared.completions.lock().is_empty();
        let message = match came_meanwhile {
            true => Ok(Message::Completions),
            false => self.inbox.recv_timeout(time),
        };
        // While it works it will look before it waits.
        self.shared.is_watchful.store(true, Ordering::SeqCst);
        message
    }

    fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut *self.shared.completions.lock());
        if completions.is_empty() {
            return;
        }
        completions.iter().for_each(|settlement| self.forget_withdrawn(settlement.event.seq));
        if self.settling_since.is_none() {
            self.settling_since = Some(self.now());
        }
        self.settlements.append(&mut completions);
    }

    fn take_message(&mut self, message: Message, gathered: &mut Gathered) {
        match message {
            Message::Append { event, room, ticket, answer } => {
                drop(room);
                if !ticket.turn(Ticket::BEGUN) {
                    return;
                }
                let memory = event.event.body.len() + event.head.len();
                let claim = self.handover.reserve(&event.event.route, memory);
                gathered.bytes += event.stored_bytes();
                gathered.appends.push(Append { event, claim });
                gathered.waiting.push(Waiting { answer, reserved: claim.then_some(memory) });
            }
            Message::Completions => {}
            Message::Routes(routes) => {
                if let Some(engine) = &mut self.engine {
                    engine.share_among(&routes);
                }
                self.routes = routes;
            }
            Message::Operator(request) => gathered.requests.push(request),
            Message::Claim { route, limit, answer } => gathered.claims.push((route, limit, answer)),
            Message::Close { answer } => gathered.close = Some(answer),
        }
    }

    fn settling_is_due(&self, now: RunMs) -> bool {
        self.settlements.len() >= SETTLE_MAX
            || self.settling_since.is_some_and(|since| now.since(since) >= SETTLE_WITHIN - MAINTAIN_EVERY)
    }

    fn commit(&mut self, appends: Vec<Append>, waiting: Vec<Waiting>, now: RunMs) {
        self.settling_since = None;
        if self.engine.is_none() {
            // Completions wait for the engine.
            return self.refuse(waiting, Rejection::BufferFailed);
        }
        let work = Work { appends, settlements: std::mem::take(&mut self.settlements) };
        if work.appends.is_empty() && work.settlements.is_empty() {
            return;
        }
        let begun = self.clock.uptime_us();
        let done = self.on_engine(|engine| engine.commit(&work, now));
        if !work.appends.is_empty() {
            self.last_append = now;
            self.last_group = work.appends.len();
            self.maintain_at = self.maintain_at.min(now.plus(MAINTAIN_EVERY));
            #[allow(clippy::cast_precision_loss, reason = "for a histogram")]
            {
                self.metrics.commit_duration_s.observe((self.clock.uptime_us() - begun) as f64 / 1e6);
                self.metrics.commit_events.observe(work.appends.len() as f64);
            }
        }
        match done {
            Ok(appended) => {
                // Before the answers, so that whoever got one sees its event counted.
                self.publish_stats(now);
                self.answer(work, waiting, &appended, now);
            }
            Err(BufferError::DiskFull) => {
                self.refuse(waiting, Rejection::BufferFull);
                // Nothing of it happened: the completions are tried again.
                self.settlements = work.settlements;
                self.settling_since = (!self.settlements.is_empty()).then_some(now);
            }
            Err(BufferError::Failed(_) | BufferError::Damaged(_)) => {
                self.refuse(waiting, Rejection::BufferFailed);
                // Whether or not they were written: writing them twice comes to the same.
                self.settlements = work.settlements;
            }
        }
    }

    fn answer(&mut self, work: Work, waiting: Vec<Waiting>, appended: &[Appended], now: RunMs) {
        if !waiting.is_empty() {
            failpoint("before-answer");
        }
        if work.settlements.iter().any(Settlement::waits_again) {
            self.handover.wake_all();
        }
        for ((append, waiting), appended) in work.appends.into_iter().zip(waiting).zip(appended) {
            let event = append.event.event;
            let answer = match *appended {
                Appended::Stored { seq, claimed } => {
                    match (claimed, waiting.reserved) {
                        (true, Some(_)) => {
                            let (stored_at, tried_since, due) = (now, now, RunMs(0));
                            let (attempts, client_errors) = (0, 0);
                            let claimed = Claimed { seq, event, attempts, client_errors, stored_at, tried_since, due };
                            self.handover.take(claimed);
                        }
                        (_, reserved) => {
                            if let Some(bytes) = reserved {
                                self.handover.release(bytes);
                            }
                            self.handover.wake(&event.route);
                        }
                    }
                    Ok(Accepted::New(Stored { seq }))
                }
                Appended::Duplicate { seq } => {
                    self.give_back(waiting.reserved);
                    Ok(Accepted::Duplicate(Stored { seq }))
                }
                Appended::Full => {
                    self.give_back(waiting.reserved);
                    Err(Rejection::BufferFull)
                }
            };
            // A waiter that has gone is a sender that will repeat.
            let _ = waiting.answer.send(answer);
        }
    }

    fn refuse(&self, waiting: Vec<Waiting>, rejection: Rejection) {
        for waiting in waiting {
            self.give_back(waiting.reserved);
            let _ = waiting.answer.send(Err(rejection));
        }
    }

    fn give_back(&self, reserved: Option<usize>) {
        if let Some(bytes) = reserved {
            self.handover.release(bytes);
        }
    }

    fn claim(&mut self, route: &str, limit: ClaimLimit) -> Claims {
        let now = self.now();
        self.on_engine(|engine| engine.claim(route, limit, now)).unwrap_or_else(|_| {
            // Asked again later: the disk may have room by then, or the engine be open again.
            Claims { events: vec![], next_due: Some(now.plus(IDLE_AFTER)) }
        })
    }

    fn maintain(&mut self, now: RunMs) {
        let idle = now.since(self.last_append) >= IDLE_AFTER;
        self.maintain_at = now.plus(if idle { IDLE_AFTER } else { MAINTAIN_EVERY });
        if self.engine.is_some()
            && let Ok(expired) = self.on_engine(|engine| engine.maintain(now, idle))
        {
            self.note_expired(&expired);
        }
    }

    /// Counts and tells what the keep of dead letters has ended; one line for a route and slice.
    fn note_expired(&self, expired: &[Arc<str>]) {
        let mut routes: Vec<&Arc<str>> = expired.iter().collect();
        routes.sort();
        for same in routes.chunk_by(|a, b| a == b) {
            let (route, events) = (same[0], same.len() as u64);
            self.metrics.route(route).expired.inc_by(events);
            tracing::warn!(%route, events, "events that the app never took have been dropped at the end of dead_letter.keep");
        }
    }

    fn close(&mut self) {
        let now = self.now();
        self.take_completions();
        self.commit(vec![], vec![], now);
        // Gone before anybody is told, so that whoever is told may open it.
        if let Some(mut engine) = self.engine.take()
            && let Err(error) = engine.close(now)
        {
            tracing::warn!(%error, "the buffer could not be closed cleanly; what is committed is safe");
        }
    }
}

/// Tells everybody when the thread ends in a panic, which nothing can be expected after.
struct Watchman {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Drop for Watchman {
    fn drop(&mut self) {
        if thread::panicking() {
            self.metrics.buffer_failed.set(1);
            self.shared.health.send_replace(Health::Gone);
        }
    }
}
