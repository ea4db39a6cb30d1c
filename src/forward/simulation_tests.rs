//! The scheduler in a simulated world: lanes, buffer, committer and app on a virtual clock, with
//! outages, slow phases, a busy app, poison and restarts, all from one seed. A world is over within
//! milliseconds.
//!
//! `HOOKWARD_SIM_SEEDS=5000` runs more seeds, `HOOKWARD_SIM_SEED=17` one of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::backoff::Retry;
use super::breaker::{ConnectEnd, State};
use super::hold::Asks;
use super::lane::{Lane, Step};
use super::order_key::Ordering;
use super::rate::Bound;
use super::scheduler::{Class, LaneId, Limits, Scheduler, Slot, Wake};
use super::signal::Signal;
use super::upstream::Verdict;
use crate::buffer::event::tests::event;
use crate::buffer::event::{Claimed, Event, Outcome, Seq};
use crate::buffer::{ClaimLimit, Claims};
use crate::clock::{RunMs, duration_ms};

/// Worlds with order, and as many without.
const SEEDS: u64 = 110;
/// Virtual time by which everything has to be settled, after the app is well for good.
const SETTLED_WITHIN_MS: i64 = 30 * 60_000;
/// Steps of one lane at one instant, beyond which it spins.
const STEPS_MAX: usize = 20_000;
/// An event that comes while the app is well is tried within this time.
const FIRST_ATTEMPT_WITHIN_MS: i64 = 1_000;
/// Time after the app is well for good until that holds: probes, slow start.
const RECOVERED_AFTER_MS: i64 = 12_000;

/// What the app does for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Refuses connections.
    Down,
    /// Never answers.
    Hangs,
    Slow,
    /// Answers 429 or 503, at times with a wish in milliseconds.
    Busy,
    /// Half of the answers are 500.
    Flaky,
    /// All answers are 500.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Poison {
    No,
    /// Always 400.
    Refused,
    /// Always 500.
    Fails,
}

/// What the handler of one type of events does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Handler {
    Well,
    /// Takes so many milliseconds, and succeeds.
    Slow(f64),
    /// Always 500.
    Broken,
    /// Never answers.
    Hangs,
}

#[derive(Debug)]
struct Settings {
    lanes: usize,
    max_concurrency: usize,
    rate: Option<Bound>,
    ordering: Option<Ordering>,
    latency_ms: f64,
    workers: usize,
    /// From when on it is in which mood; the last is `Well`.
    moods: Vec<(i64, Mood)>,
    /// Times at which everything is restarted.
    restarts: Vec<i64>,
    /// When each event comes, in order.
    arrivals: Vec<i64>,
    keys: usize,
    poison_share: f64,
    /// Handlers that are not well, and their shares of the events.
    handlers: Vec<(f64, Handler)>,
    /// From then on the app answers 404 to what was stored before.
    stale_before: i64,
}

impl Settings {
    fn random(in_order: bool, rng: &mut Rng) -> Settings {
        let ordering = in_order.then(|| Ordering {
            key: "/data/payload/id".to_owned(),
            max_block: Duration::from_millis([0, 500, 5_000, 30_000][rng.usize(..4)]),
            reorder_window: Duration::from_millis([0, 0, 200, 2_000][rng.usize(..4)]),
        });
        let mut moods = vec![(0, Mood::Well)];
        let mut at = 0;
        for _ in 0..rng.usize(..6) {
            at += rng.i64(200..10_000);
            let mood = [Mood::Down, Mood::Hangs, Mood::Slow, Mood::Busy, Mood::Flaky, Mood::Well][rng.usize(..6)];
            moods.push((at, mood));
        }
        at += rng.i64(200..20_000);
        moods.push((at, Mood::Well));
        let latency_ms = rng.f64() * 30.0 + 0.5;
        let workers = rng.usize(2..24);
        let max_concurrency = rng.usize(2..40);
        // A quarter of what it could bear: half of what the half could that is kept for new events.
        let most_per_s = workers.min(max_concurrency) as f64 / latency_ms * 1000.0 / 4.0;
        let gap_ms = (1000.0 / most_per_s.min(40.0)).max(1.0);
        let end = at + RECOVERED_AFTER_MS + 2_000;
        let mut arrivals = Vec::new();
        let mut time = 0.0;
        while time < end as f64 {
            arrivals.push(whole(time));
            time += gap_ms * rng.f64() * 2.0;
        }
        Settings {
            lanes: rng.usize(1..4),
            max_concurrency,
            rate: None,
            ordering,
            latency_ms,
            workers,
            moods,
            restarts: (0..rng.usize(..3)).map(|_| rng.i64(0..at.max(1))).collect(),
            arrivals,
            keys: rng.usize(1..200),
            poison_share: 0.01,
            handlers: Vec::new(),
            stale_before: 0,
        }
    }

    fn limits(&self) -> Limits {
        Limits { max_concurrency: self.max_concurrency, rate: self.rate }
    }

    fn mood(&self, now: i64) -> Mood {
        self.moods.iter().rev().find(|(from, _)| *from <= now).map_or(Mood::Well, |(_, mood)| *mood)
    }

    fn well_for_good_from(&self) -> i64 {
        self.moods.last().map_or(0, |(from, _)| *from)
    }
}

/// What happens at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival(usize),
    Commit,
    Claim(usize, usize, bool),
    ClaimAnswer(usize),
    AttemptEnd(u64),
    /// A connect without an event, of this run and period.
    ConnectEnd(u64, u32),
    Tick(usize),
    Restart,
}

/// An event as the world knows it.
struct Row {
    event: Arc<Event>,
    lane: usize,
    /// `None` has no place.
    key: Option<usize>,
    rank_us: i64,
    stored_at: i64,
    poison: Poison,
    handler: Handler,
    due: RunMs,
    attempts: u32,
    client_errors: u32,
    is_settled: bool,
    deliveries: u32,
    cut_off: u32,
    first_attempt: Option<i64>,
    first_failure: Option<i64>,
    /// Stored while the app was well and tried freely.
    is_fresh: bool,
}

/// The buffer's side of a lane, as `buffer/sqlite/lanes.rs` does it.
#[derive(Default)]
struct Store {
    ready: VecDeque<Seq>,
    retries: BinaryHeap<Reverse<(RunMs, Seq)>>,
    retry_was_last: bool,
}

struct Attempt {
    lane: usize,
    claimed: Claimed,
    slot: Slot,
    begun: i64,
    signal: Signal,
    hold: Option<Duration>,
    verdict: Verdict,
    was_probe: bool,
}

#[allow(clippy::cast_possible_truncation, reason = "milliseconds of a simulated hour")]
fn whole(ms: f64) -> i64 {
    ms as i64
}

struct World {
    settings: Settings,
    rng: Rng,
    now: i64,
    happenings: BinaryHeap<Reverse<(i64, u64, Happening)>>,
    happened: u64,
    scheduler: Scheduler,
    lanes: Vec<Lane>,
    stores: Vec<Store>,
    fresh: Vec<VecDeque<Claimed>>,
    waiting: Vec<usize>,
    woken: Vec<bool>,
    ticks: Vec<Option<i64>>,
    /// Answers to claims that are on their way.
    claims: Vec<Option<Claims>>,
    rows: BTreeMap<Seq, Row>,
    /// What is not settled, by lane and key.
    unsettled: HashMap<(usize, Option<usize>), BTreeSet<Seq>>,
    left: usize,
    handed_out: HashSet<Seq>,
    settlements: Vec<(Seq, Outcome, u32)>,
    attempts: HashMap<u64, Attempt>,
    lane_of: HashMap<LaneId, usize>,
    retry: Retry,
    /// The run of the process: what belongs to an earlier one is void.
    run: u64,
    highest_in_flight: usize,
    /// What the app has wished for.
    held_until: i64,
    /// When an attempt began, what it will come to, and how long that takes.
    tried: Vec<(i64, Signal, f64)>,
    /// When each connect without an event was begun.
    connects: Vec<i64>,
    /// So many of the first events are answered 500.
    broken_until: usize,
    /// It is over then, whatever is left.
    ends_at: Option<i64>,
}

impl World {
    fn new(seed: u64, settings: Settings) -> World {
        let mut world = World {
            rng: Rng::with_seed(seed),
            now: 0,
            happenings: BinaryHeap::new(),
            happened: 0,
            scheduler: Scheduler::new(settings.limits()),
            lanes: Vec::new(),
            stores: (0..settings.lanes).map(|_| Store::default()).collect(),
            fresh: vec![VecDeque::new(); settings.lanes],
            waiting: vec![0; settings.lanes],
            woken: vec![true; settings.lanes],
            ticks: vec![None; settings.lanes],
            claims: (0..settings.lanes).map(|_| None).collect(),
            rows: BTreeMap::new(),
            unsettled: HashMap::new(),
            left: settings.arrivals.len(),
            handed_out: HashSet::new(),
            settlements: Vec::new(),
            attempts: HashMap::new(),
            lane_of: HashMap::new(),
            retry: Retry {
                base: Duration::from_millis(200),
                max: Duration::from_secs(30),
                max_age: Duration::from_secs(300),
                client_errors: 3,
            },
            run: 0,
            highest_in_flight: 0,
            held_until: 0,
            tried: Vec::new(),
            connects: Vec::new(),
            broken_until: 0,
            ends_at: None,
            settings,
        };
        for index in 0..world.settings.arrivals.len() {
            world.at(world.settings.arrivals[index], Happening::Arrival(index));
        }
        for index in 0..world.settings.restarts.len() {
            world.at(world.settings.restarts[index], Happening::Restart);
        }
        world.start_lanes();
        world
    }

    fn at(&mut self, time: i64, happening: Happening) {
        self.happened += 1;
        self.happenings.push(Reverse((time, self.happened, happening)));
    }

    fn start_lanes(&mut self) {
        self.run += 1;
        self.scheduler = Scheduler::new(self.settings.limits());
        self.held_until = 0;
        self.lane_of.clear();
        self.lanes.clear();
        for lane in 0..self.settings.lanes {
            let id = LaneId(self.run * 100 + lane as u64);
            self.lane_of.insert(id, lane);
            self.lanes.push(Lane::new(id, self.settings.ordering.as_ref()));
            self.ticks[lane] = None;
            self.wake(lane);
        }
    }

    /// Runs until everything is settled.
    fn run(mut self) -> World {
        let deadline = self.settings.well_for_good_from() + SETTLED_WITHIN_MS;
        loop {
            self.run_lanes();
            if self.left == 0 {
                return self;
            }
            if self.ends_at.is_some_and(|end| self.now > end) {
                return self;
            }
            let Some(Reverse((time, _, happening))) = self.happenings.pop() else {
                let left =
                    self.rows.iter().find(|(_, row)| !row.is_settled).map(|(seq, row)| (*seq, row.lane, row.key));
                panic!("at {} ms nothing goes on, and {left:?} is left", self.now);
            };
            assert!(time <= deadline, "{:?} starve", self.rows.values().filter(|row| !row.is_settled).count());
            self.now = self.now.max(time);
            match happening {
                Happening::Arrival(index) => self.arrive(index),
                Happening::Commit => self.commit(),
                Happening::Claim(lane, limit, untried_first) => self.claim(lane, limit, untried_first),
                Happening::ClaimAnswer(lane) => {
                    if let Some(Claims { events, next_due }) = self.claims[lane].take() {
                        self.lanes[lane].claimed(events, next_due);
                        self.wake(lane);
                    }
                }
                Happening::AttemptEnd(id) => self.end_attempt(id),
                Happening::ConnectEnd(run, period) if run == self.run => {
                    let is_reached = self.settings.mood(self.now) != Mood::Down;
                    let end = if is_reached { ConnectEnd::Reached } else { ConnectEnd::Failed };
                    self.scheduler.end_connect(end, period, RunMs(self.now));
                    self.woken.fill(true);
                }
                Happening::ConnectEnd(..) => {}
                Happening::Tick(lane) => {
                    // Only the newest counts, as with a sleep that is begun anew.
                    if self.ticks[lane].is_some_and(|at| at <= self.now) {
                        self.ticks[lane] = None;
                        self.wake(lane);
                    }
                }
                Happening::Restart => self.restart(),
            }
        }
    }

    fn wake(&mut self, lane: usize) {
        self.woken[lane] = true;
    }

    fn wake_as(&mut self, wake: Wake) {
        match wake {
            Wake::None => {}
            Wake::One(id) => {
                if let Some(lane) = self.lane_of.get(&id).copied() {
                    self.wake(lane);
                }
            }
            Wake::All => self.woken.fill(true),
        }
    }

    fn arrive(&mut self, index: usize) {
        let poison = match self.rng.f64() {
            p if p >= self.settings.poison_share => Poison::No,
            p if p < self.settings.poison_share / 2.0 => Poison::Refused,
            _ => Poison::Fails,
        };
        let (handler, event_type) = self.handler();
        let handler = if index < self.broken_until { Handler::Broken } else { handler };
        let lane = self.rng.usize(..self.settings.lanes);
        let key = (self.rng.u8(..10) > 0).then(|| self.rng.usize(..self.settings.keys));
        // Some come out of order by up to a second.
        let occurred_ms = self.now - self.rng.i64(0..1_000);
        let key_text = key.map_or("null".to_owned(), |key| format!("\"k{key}\""));
        let body = format!(
            r#"{{"data":{{"occurred_at":"{}","payload":{{"id":{key_text}}}}}}}"#,
            crate::clock::rfc3339_ms(occurred_ms.max(0))
        );
        let mut event = event("e", body.as_bytes());
        event.route = format!("lane{lane}").into();
        event.event_type = Some(event_type);
        let by_time = self.settings.ordering.as_ref().is_some_and(|ordering| !ordering.reorder_window.is_zero());
        let seq = Seq(index as i64 + 1);
        let is_well = self.settings.mood(self.now) == Mood::Well
            && self.now >= self.settings.well_for_good_from() + RECOVERED_AFTER_MS;
        self.unsettled.entry((lane, key)).or_default().insert(seq);
        self.rows.insert(
            seq,
            Row {
                event: Arc::new(event),
                lane,
                key,
                rank_us: if by_time { occurred_ms.max(0) * 1000 } else { 0 },
                stored_at: self.now,
                poison,
                handler,
                due: RunMs(0),
                attempts: 0,
                client_errors: 0,
                is_settled: false,
                deliveries: 0,
                cut_off: 0,
                first_attempt: None,
                first_failure: None,
                is_fresh: is_well,
            },
        );
        let most = (self.settings.max_concurrency * super::FRESH_PER_ATTEMPT).max(super::FRESH_MIN);
        let most = match self.scheduler.is_stopped(RunMs(self.now)) {
            true if self.scheduler.takes_probes(RunMs(self.now)) => super::lane::PROBES_MAX,
            true => 0,
            false => most,
        };
        let reserved = self.waiting[lane] < most;
        let may_overtake = self.settings.ordering.is_none() || self.stores[lane].ready.is_empty();
        self.commit();
        if reserved && may_overtake {
            self.handed_out.insert(seq);
            self.waiting[lane] += 1;
            let claimed = self.claimed(seq);
            self.fresh[lane].push_back(claimed);
        } else {
            self.stores[lane].ready.push_back(seq);
            self.lanes[lane].look_into_buffer();
        }
        self.wake(lane);
    }

    /// Whose event comes next.
    fn handler(&mut self) -> (Handler, String) {
        // Not drawn where all are well, so that a seed is the same world as ever.
        let mut left = if self.settings.handlers.is_empty() { 1.0 } else { self.rng.f64() };
        for (place, (share, handler)) in self.settings.handlers.iter().enumerate() {
            left -= share;
            if left < 0.0 {
                return (*handler, format!("type{place}"));
            }
        }
        (Handler::Well, "well".to_owned())
    }

    fn claimed(&self, seq: Seq) -> Claimed {
        let row = &self.rows[&seq];
        Claimed {
            seq,
            event: row.event.clone(),
            attempts: row.attempts,
            client_errors: row.client_errors,
            stored_at: RunMs(row.stored_at),
            tried_since: RunMs(row.stored_at),
            due: row.due,
        }
    }

    fn settle(&mut self, seq: Seq, outcome: Outcome, attempts: u32) {
        if self.settlements.is_empty() {
            let within = self.rng.i64(1..=100);
            self.at(self.now + within, Happening::Commit);
        }
        self.settlements.push((seq, outcome, attempts));
    }

    fn commit(&mut self) {
        let mut waits_again = false;
        for (seq, outcome, attempts) in std::mem::take(&mut self.settlements) {
            assert!(self.handed_out.remove(&seq), "{seq:?} was not handed out");
            let Some(row) = self.rows.get_mut(&seq) else { panic!("{seq:?}") };
            assert!(!row.is_settled, "{seq:?} left a settled state");
            let due = match outcome {
                Outcome::Delivered | Outcome::Dead { .. } => {
                    row.is_settled = true;
                    self.left -= 1;
                    if let Some(unsettled) = self.unsettled.get_mut(&(row.lane, row.key)) {
                        unsettled.remove(&seq);
                    }
                    continue;
                }
                Outcome::RetryAt { due, client_errors, .. } => {
                    (row.due, row.attempts, row.client_errors) = (due, attempts, client_errors);
                    due
                }
                Outcome::Released => RunMs(0),
                Outcome::PutBack { due } => due,
            };
            waits_again = true;
            self.stores[row.lane].retries.push(Reverse((due, seq)));
        }
        if waits_again {
            for lane in 0..self.settings.lanes {
                self.lanes[lane].look_into_buffer();
                self.wake(lane);
            }
        }
    }

    fn claim(&mut self, lane: usize, limit: usize, untried_first: bool) {
        let in_order = self.settings.ordering.is_some();
        let store = &mut self.stores[lane];
        let mut taken = Vec::new();
        while taken.len() < limit {
            let next_due = store.retries.peek().map(|Reverse((due, _))| due.0);
            let is_due = next_due.is_some_and(|due| due <= self.now);
            let takes_turns = if untried_first { next_due == Some(0) } else { !store.retry_was_last };
            store.retry_was_last = is_due && (in_order || takes_turns || store.ready.is_empty());
            let next = match store.retry_was_last {
                true => store.retries.pop().map(|Reverse((_, seq))| seq),
                false => store.ready.pop_front(),
            };
            let Some(seq) = next else { break };
            taken.push(seq);
        }
        let next_due = match (store.ready.is_empty(), store.retries.peek()) {
            (false, _) => Some(RunMs(0)),
            (true, next) => next.map(|Reverse((due, _))| *due),
        };
        for seq in &taken {
            assert!(self.handed_out.insert(*seq), "{seq:?} is handed out twice");
        }
        let events = taken.into_iter().map(|seq| self.claimed(seq)).collect();
        self.claims[lane] = Some(Claims { events, next_due });
        let takes = self.rng.i64(0..3);
        self.at(self.now + takes, Happening::ClaimAnswer(lane));
    }

    /// Each lane that was woken does what there is to do, as the shell lets it.
    fn run_lanes(&mut self) {
        while let Some(lane) = self.woken.iter().position(|woken| *woken) {
            self.woken[lane] = false;
            self.lanes[lane].add_fresh(&mut self.fresh[lane]);
            for step in 0.. {
                assert!(step < STEPS_MAX, "lane {lane} spins at {} ms", self.now);
                match self.lanes[lane].step(&mut self.scheduler, RunMs(self.now)) {
                    Step::Begin(claimed, slot) => self.begin(lane, claimed, slot),
                    Step::Connect(period) => {
                        assert!(self.held_until <= self.now, "the app wants to be left alone");
                        assert!(self.connects.last().is_none_or(|last| self.now - last >= 250), "{:?}", self.connects);
                        self.connects.push(self.now);
                        self.at(self.now + 1, Happening::ConnectEnd(self.run, period));
                    }
                    Step::Claim(ClaimLimit { events, untried_first, .. }) => {
                        let takes = self.rng.i64(0..5);
                        self.at(self.now + takes, Happening::Claim(lane, events, untried_first));
                    }
                    Step::PutBack(claimed, class, due) => {
                        self.waiting[lane] -= usize::from(class == Class::Fresh);
                        self.settle(claimed.seq, Outcome::PutBack { due }, claimed.attempts);
                    }
                    Step::Rest { until, wake } => {
                        if let Some(until) = until {
                            // As the shell: at least a millisecond.
                            let at = until.0.max(self.now + 1);
                            self.ticks[lane] = Some(at);
                            self.at(at, Happening::Tick(lane));
                        } else {
                            self.ticks[lane] = None;
                        }
                        if let Some(other) = wake {
                            self.wake_as(Wake::One(other));
                        }
                        break;
                    }
                }
            }
        }
    }

    fn begin(&mut self, lane: usize, claimed: Claimed, slot: Slot) {
        self.waiting[lane] -= usize::from(slot.class == Class::Fresh);
        self.check_begin(lane, &claimed, slot.class);
        let mood = self.settings.mood(self.now);
        let Some(row) = self.rows.get_mut(&claimed.seq) else { panic!() };
        row.first_attempt.get_or_insert(self.now);
        let crowd = ((self.attempts.len() + 1) as f64 / self.settings.workers as f64).max(1.0);
        let normal_ms = self.settings.latency_ms * crowd * (0.8 + 0.5 * self.rng.f64());
        let is_stale = self.now >= self.settings.stale_before && row.stored_at < self.settings.stale_before;
        let (took_ms, signal) = match (mood, row.poison) {
            (Mood::Down, _) => (1.0, Signal::Unreachable),
            (Mood::Hangs, _) => (2_000.0, Signal::Timeout),
            (Mood::Busy, _) => (normal_ms, Signal::Busy),
            (Mood::Broken, _) => (normal_ms, Signal::Failed),
            (Mood::Well, _) if is_stale => (normal_ms, Signal::Refused),
            (Mood::Well, _) if row.handler == Handler::Broken => (normal_ms, Signal::Failed),
            (Mood::Well, _) if row.handler == Handler::Hangs => (15_000.0, Signal::Timeout),
            (Mood::Flaky, _) if self.rng.bool() => (normal_ms, Signal::Failed),
            (_, Poison::Refused) => (normal_ms, Signal::Refused),
            (_, Poison::Fails) => (normal_ms, Signal::Failed),
            (Mood::Slow, _) => (normal_ms * 10.0, Signal::Good),
            (Mood::Well | Mood::Flaky, _) => match row.handler {
                Handler::Slow(ms) => (ms.max(normal_ms), Signal::Good),
                _ => (normal_ms, Signal::Good),
            },
        };
        self.tried.push((self.now, signal, took_ms));
        let told = "told".to_owned();
        let verdict = match signal {
            Signal::Good => Verdict::Delivered,
            Signal::Refused => Verdict::ClientError(told),
            _ => Verdict::Later(told),
        };
        let wish = signal == Signal::Busy && self.rng.u8(..4) == 0;
        let hold = wish.then(|| Duration::from_millis(self.rng.u64(0..4_000)));
        let id = self.happened;
        let was_probe = self.scheduler.state() == State::HalfOpen;
        self.at(self.now + whole(took_ms).max(1), Happening::AttemptEnd(id));
        let begun = self.now;
        self.attempts.insert(id, Attempt { lane, claimed, slot, begun, signal, hold, verdict, was_probe });
        self.highest_in_flight = self.highest_in_flight.max(self.attempts.len());
    }

    fn check_begin(&self, lane: usize, claimed: &Claimed, class: Class) {
        let (now, seq) = (self.now, claimed.seq);
        let row = &self.rows[&seq];
        assert!(!row.is_settled && self.handed_out.contains(&seq), "{seq:?} is settled");
        assert_eq!(row.lane, lane);
        assert!(row.due.0 <= now, "{seq:?} is tried at {now} and is due at {}", row.due.0);
        assert!(self.held_until <= now, "{seq:?} is tried while the app wants to be left alone");
        let others = self.attempts.len();
        match self.scheduler.state() {
            State::Closed => {
                assert!(others < self.scheduler.limit(), "{others} in a window of {}", self.scheduler.limit());
            }
            State::HalfOpen => assert!(!self.attempts.values().any(|attempt| attempt.was_probe), "two probes"),
            State::Open => panic!("tried while open, or while nobody listens"),
        }
        assert!(!self.attempts.values().any(|attempt| attempt.claimed.seq == seq), "{seq:?} twice at once");
        let backlog = self.attempts.values().filter(|attempt| attempt.slot.class == Class::Backlog).count();
        if class == Class::Backlog && self.scheduler.state() == State::Closed {
            assert!(backlog < (self.scheduler.limit() / 2).max(1), "{seq:?} takes from what is kept for new events");
        }
        if let Some(ordering) = &self.settings.ordering
            && row.key.is_some()
        {
            self.check_order(ordering, seq, row);
        }
    }

    fn check_order(&self, ordering: &Ordering, seq: Seq, row: &Row) {
        let same = |other: &Row| other.lane == row.lane && other.key == row.key;
        assert!(
            !self.attempts.values().any(|attempt| same(&self.rows[&attempt.claimed.seq])),
            "two of key {:?} at once",
            row.key
        );
        let window_ms = duration_ms(ordering.reorder_window);
        let block_ms = duration_ms(ordering.max_block);
        assert!(self.now >= row.stored_at + window_ms, "{seq:?} did not wait for earlier ones");
        for earlier in &self.unsettled[&(row.lane, row.key)] {
            let other = &self.rows[earlier];
            let goes_first = (other.rank_us, *earlier) < (row.rank_us, seq)
                && (window_ms == 0 || other.stored_at < row.stored_at + window_ms);
            let is_skipped = other.first_failure.is_some_and(|since| self.now >= since + block_ms);
            // Delivered already, and not yet committed.
            let is_over = self.settlements.iter().any(|(settled, outcome, _)| {
                settled == earlier && matches!(outcome, Outcome::Delivered | Outcome::Dead { .. })
            });
            assert!(
                !goes_first || is_skipped || is_over,
                "at {} {seq:?} goes before {earlier:?} of key {:?} (failing since {:?})",
                self.now,
                row.key,
                other.first_failure
            );
        }
    }

    fn end_attempt(&mut self, id: u64) {
        // Cut off by a restart.
        let Some(attempt) = self.attempts.remove(&id) else { return };
        let Attempt { lane, claimed, slot, begun, signal, hold, verdict, .. } = attempt;
        let now = RunMs(self.now);
        let latency = now.since(RunMs(begun));
        self.held_until = self.held_until.max(hold.map_or(0, |hold| now.plus(hold).0));
        let held = hold.is_some_and(|hold| self.scheduler.hold(Asks::App, hold, now).is_some());
        let ended = self.scheduler.end(&slot, signal, latency, now);
        self.wake_as(if held { Wake::All } else { ended.wake });
        let attempts = claimed.attempts + 1;
        let outcome = verdict.outcome(&claimed, attempts, &self.retry, now, self.rng.f64());
        if let Some(row) = self.rows.get_mut(&claimed.seq) {
            match outcome {
                Outcome::Delivered => row.deliveries += 1,
                _ => drop(row.first_failure.get_or_insert(self.now)),
            }
        }
        let retry = match outcome {
            Outcome::RetryAt { due, .. } => Some(due),
            _ => None,
        };
        self.settle(claimed.seq, outcome, attempts);
        if self.lanes[lane].is_ordered() {
            self.lanes[lane].ended(claimed.seq, retry, now);
            self.wake(lane);
        }
    }

    /// As after SIGTERM: attempts are cut off, and everything is written.
    fn restart(&mut self) {
        for (_, attempt) in std::mem::take(&mut self.attempts) {
            let Attempt { claimed, .. } = attempt;
            if let Some(row) = self.rows.get_mut(&claimed.seq) {
                row.cut_off += 1;
                row.first_failure.get_or_insert(self.now);
            }
            let (due, client_errors) = (RunMs(self.now), claimed.client_errors);
            let outcome = Outcome::RetryAt { due, client_errors, error: "cut off".to_owned() };
            self.settlements.push((claimed.seq, outcome, claimed.attempts + 1));
        }
        self.commit();
        self.happenings.retain(|Reverse((_, _, happening))| {
            matches!(happening, Happening::Arrival(_) | Happening::Restart | Happening::Commit)
        });
        self.handed_out.clear();
        self.claims.iter_mut().for_each(|claims| *claims = None);
        self.fresh.iter_mut().for_each(VecDeque::clear);
        self.waiting.fill(0);
        let in_order = self.settings.ordering.is_some();
        self.stores.iter_mut().for_each(|store| *store = Store::default());
        for (seq, row) in self.rows.iter().filter(|(_, row)| !row.is_settled) {
            let store = &mut self.stores[row.lane];
            match in_order || row.due == RunMs(0) {
                true => store.ready.push_back(*seq),
                false => store.retries.push(Reverse((row.due, *seq))),
            }
        }
        self.start_lanes();
    }

    fn check_end(&self) {
        for (seq, row) in &self.rows {
            assert!(row.deliveries <= 1 + row.cut_off, "{seq:?} was delivered {} times", row.deliveries);
            match row.poison {
                Poison::No => assert!(row.deliveries >= 1, "{seq:?} was never delivered"),
                Poison::Refused | Poison::Fails => assert_eq!(row.deliveries, 0, "{seq:?}"),
            }
        }
        assert!(self.highest_in_flight <= self.settings.max_concurrency);
        if self.settings.ordering.is_none() {
            for (seq, row) in self.rows.iter().filter(|(_, row)| row.is_fresh) {
                let waited = row.first_attempt.map_or(i64::MAX, |at| at - row.stored_at);
                assert!(waited <= FIRST_ATTEMPT_WITHIN_MS, "{seq:?} waited {waited} ms for its first attempt");
            }
        }
    }
}

/// Says how to repeat it when it fails.
fn simulate(in_order: bool, seed: u64) {
    let settings = Settings::random(in_order, &mut Rng::with_seed(seed));
    let shown = format!("{settings:?}").chars().take(600).collect::<String>();
    let run = std::panic::AssertUnwindSafe(|| World::new(seed, settings).run().check_end());
    if std::panic::catch_unwind(run).is_err() {
        panic!(
            "seed {seed} failed, in the world {shown}…\nrepeat it: HOOKWARD_SIM_SEED={seed} cargo test --lib simulation"
        );
    }
}

fn simulate_all(in_order: bool) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("HOOKWARD_SIM_SEED") {
        Some(seed) => simulate(in_order, seed),
        None => (0..number("HOOKWARD_SIM_SEEDS").unwrap_or(SEEDS)).for_each(|seed| simulate(in_order, seed)),
    }
}

#[test]
fn whatever_the_app_does_nothing_starves_is_early_or_is_too_much_at_once() {
    simulate_all(false);
}

#[test]
fn whatever_the_app_does_events_of_a_key_stay_in_order() {
    simulate_all(true);
}

#[path = "worlds_tests.rs"]
mod worlds;
