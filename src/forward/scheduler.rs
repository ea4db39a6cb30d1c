//! Who may try an app now: its breaker, its window, its rate, its wish to be left alone, and the turns of the
//! lanes that go there. Pure: time is handed in, and whoever has to be woken is told.
//!
//! Half of the window is kept for first attempts of new events, which so never wait behind a
//! backlog; retries and backlog have the other half. Within a half, lanes take turns. Kinds of events
//! go in the order in which they came, as long as their shares last (`shares.rs`).

use std::cmp::Ordering::{Equal, Greater, Less};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::breaker::{Breaker, Change, ConnectEnd, Leave, Since, State};
use super::hold::{Asks, Hold};
use super::kind::{Kind, KindNames, Kinds};
use super::rate::{Bound, Bucket};
use super::shares::{Advice, Began, Shares};
use super::signal::Signal;
use super::window::{Begun, Window};
use crate::clock::RunMs;

/// A lane, among those that go to one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId(pub u64);

/// Which half of the window an attempt belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The first attempt of an event, from memory.
    Fresh,
    /// What has waited in the buffer.
    Backlog,
}

/// What a lane could begin at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// First attempts of new events of these kinds.
    pub fresh: Kinds,
    /// Attempts of what has waited, of these kinds.
    pub backlog: Kinds,
}

impl Wants {
    fn class(self, class: Class) -> Kinds {
        match class {
            Class::Fresh => self.fresh,
            Class::Backlog => self.backlog,
        }
    }
}

/// Leave for one attempt; to be brought back to [`Scheduler::end`].
#[derive(Debug)]
pub struct Slot {
    /// The half it is taken from.
    pub class: Class,
    /// The kind of the event.
    pub kind: Kind,
    /// Whether the event was never sent before.
    is_first: bool,
    period: u32,
    begun: Begun,
    began: Began,
}

/// The answer to a lane that asks.
#[derive(Debug)]
pub enum Turn {
    /// It may begin one attempt now.
    Yours {
        /// Of this half,
        class: Class,
        /// and of one of these kinds.
        kinds: Kinds,
    },
    /// Not now.
    Wait {
        /// When to ask again, if nothing else happens before.
        until: Option<RunMs>,
        /// Whose turn it is instead.
        instead: Option<LaneId>,
    },
}

/// Whom the end of an attempt concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Nobody.
    None,
    /// The lane whose turn it is.
    One(LaneId),
    /// Everybody: the app is tried again, or is not any more.
    All,
}

/// What the end of an attempt has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whom to wake.
    pub wake: Wake,
    /// What the breaker did.
    pub change: Option<Change>,
}

/// Attempts at once that an app may be given.
pub const CONCURRENCY: RangeInclusive<usize> = 1..=10_000;

/// Bounds of what an app is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts under way at once.
    pub max_concurrency: usize,
    /// Attempts within a time, if that is bounded.
    pub rate: Option<Bound>,
}

/// One app's scheduler.
#[derive(Debug)]
pub struct Scheduler {
    breaker: Breaker,
    window: Window,
    bucket: Bucket,
    names: KindNames,
    shares: Shares,
    hold: Hold,
    fresh: usize,
    backlog: usize,
    /// Whose turn it was last, where both halves want.
    last: Class,
    /// In the order of their turns.
    lanes: Vec<(LaneId, Wants)>,
}

impl Scheduler {
    /// For an app that bears at most so much.
    pub fn new(limits: Limits) -> Scheduler {
        let Limits { max_concurrency, rate } = limits;
        Scheduler {
            breaker: Breaker::new(),
            window: Window::new(max_concurrency),
            bucket: Bucket::new(rate),
            names: KindNames::new(),
            shares: Shares::new(max_concurrency),
            hold: Hold::new(),
            fresh: 0,
            backlog: 0,
            last: Class::Backlog,
            lanes: Vec::new(),
        }
    }

    /// It bears more or less from now on; what is under way goes on.
    pub fn set_limits(&mut self, limits: Limits) {
        let Limits { max_concurrency, rate } = limits;
        self.window.set_max(max_concurrency);
        self.shares.set_max(max_concurrency);
        self.bucket.set(rate);
    }

    /// When its rate allows the next attempt, if not now.
    pub fn rate_allows_at(&self, now: RunMs) -> Option<RunMs> {
        self.bucket.not_before(now)
    }

    /// Where the breaker stands.
    pub fn state(&self) -> State {
        self.breaker.state()
    }

    /// Attempts that may be under way at once.
    pub fn limit(&self) -> usize {
        self.window.limit()
    }

    /// How long the app still wants to be left alone.
    pub fn held(&self, now: RunMs) -> Option<RunMs> {
        self.hold.until(now)
    }

    /// Whether the app is not tried now, or only by probes.
    pub fn is_stopped(&self, now: RunMs) -> bool {
        self.breaker.state() != State::Closed || self.held(now).is_some()
    }

    /// Whether it is tried by probes, now or soon: what is new makes the best ones.
    pub fn takes_probes(&self, now: RunMs) -> bool {
        self.breaker.state() != State::Closed && self.held(now).is_none()
    }

    /// Whether an event could be tried now, and if not, when that is worth asking again.
    pub fn leave(&self, now: RunMs) -> Leave {
        match self.held(now) {
            Some(until) => Leave::NotBefore(until),
            None => self.breaker.leave(now),
        }
    }

    /// Somebody asks to be left alone for so long. Returns for how long the app is held where that is
    /// news.
    pub fn hold(&mut self, asks: Asks, wait: Duration, now: RunMs) -> Option<Duration> {
        self.hold.ask(asks, wait, now)
    }

    /// The app is tried at once, whatever it has asked for and however long the next probe would be away.
    pub fn resume(&mut self, now: RunMs) {
        self.hold.end();
        self.breaker.probe_now(now);
    }

    /// A connect without an event begins, as [`Leave::Connect`] allows; its end goes to [`Scheduler::end_connect`].
    pub fn begin_connect(&mut self, now: RunMs) -> u32 {
        self.breaker.begin_connect(now)
    }

    /// Such a connect has ended.
    pub fn end_connect(&mut self, end: ConnectEnd, period: u32, now: RunMs) {
        self.breaker.end_connect(end, period, now);
    }

    /// Since when the app is not tried, if it is not.
    pub fn open_since(&self) -> Option<Since> {
        self.breaker.open_since()
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> usize {
        self.fresh + self.backlog
    }

    /// A lane asks to begin an attempt. What it wants is remembered until it asks again, or leaves.
    pub fn ask(&mut self, lane: LaneId, wants: Wants, now: RunMs) -> Turn {
        match self.lanes.iter_mut().find(|(id, _)| *id == lane) {
            Some((_, wanted)) => *wanted = wants,
            None => self.lanes.push((lane, wants)),
        }
        if let Leave::NotBefore(until) = self.leave(now) {
            return Turn::Wait { until: Some(until), instead: None };
        }
        match self.next(now) {
            // Whose turn it is waits for the rate; the others are woken when the turn is theirs.
            Some((next, class, kinds)) if next == lane => match self.bucket.not_before(now) {
                None => Turn::Yours { class, kinds },
                until => Turn::Wait { until, instead: None },
            },
            next => Turn::Wait { until: None, instead: next.map(|(next, ..)| next) },
        }
    }

    /// An attempt begins, as [`Turn::Yours`] allows.
    pub fn begin(&mut self, lane: LaneId, class: Class, kind: Kind, is_first: bool, now: RunMs) -> Slot {
        match class {
            Class::Fresh => self.fresh += 1,
            Class::Backlog => self.backlog += 1,
        }
        self.last = class;
        self.bucket.take(now);
        // Its next turn is after everybody else's.
        if let Some(place) = self.lanes.iter().position(|(id, _)| *id == lane) {
            self.lanes[place..].rotate_left(1);
        }
        let begun = self.window.begin(self.fresh + self.backlog);
        let began = self.shares.begin(kind, class, now);
        Slot { class, kind, is_first, period: self.breaker.begin(now), begun, began }
    }

    /// The kind of a lane's events of this type.
    pub fn kind(&mut self, lane: LaneId, event_type: Option<&str>) -> Kind {
        self.names.kind(lane, event_type)
    }

    /// Whether this kind has more under way than its share allows, so that its events have to wait
    /// though others may begin.
    pub fn is_crowded(&self, kind: Kind, class: Class, now: RunMs) -> bool {
        self.shares.is_crowded(kind, class, self.window.limit(), now)
    }

    /// When an event of a crowded kind is to come back.
    pub fn next_turn(&mut self, kind: Kind, now: RunMs) -> RunMs {
        self.shares.next_turn(kind, self.window.limit(), now)
    }

    /// Whether a probe of each of these kinds has failed.
    pub fn have_failed(&self, kinds: Kinds) -> bool {
        kinds.iter().all(|kind| self.shares.failed_probes(kind) > 0)
    }

    /// A lane goes elsewhere.
    pub fn forget_lane(&mut self, lane: LaneId) {
        self.lanes.retain(|(id, _)| *id != lane);
    }

    /// An attempt has ended after so long.
    pub fn end(&mut self, slot: &Slot, signal: Signal, latency: Duration, now: RunMs) -> Ended {
        match slot.class {
            Class::Fresh => self.fresh -= 1,
            Class::Backlog => self.backlog -= 1,
        }
        self.shares.end(slot.kind, slot.class, now);
        match signal {
            Signal::Good => self.hold.note_taken(),
            Signal::Unreachable => self.bucket.give_back(now),
            _ => {}
        }
        let before = self.breaker.state();
        if before == State::Closed && self.breaker.is_current(slot.period) {
            self.shares.count(slot.kind, signal, slot.is_first, now);
        }
        let is_failing = before == State::Closed && !signal.is_answer() && self.shares.is_app_failing(now);
        let change = self.breaker.end(signal, slot.period, is_failing, now);
        match self.shares.judge(slot.kind, signal, slot.began, latency, now) {
            Advice::None => {}
            Advice::Answered { slowness, is_alone } => self.window.note_answer(slot.begun, slowness, is_alone),
            Advice::Less => self.window.cut_busy(slot.begun),
        }
        match change {
            Some(Change::Opened(_)) => self.shares.forget(),
            Some(Change::Closed(_)) => {
                self.shares.forget();
                self.window.restart();
            }
            None if before == State::HalfOpen && self.breaker.state() == State::Open && signal.is_about_event() => {
                self.shares.note_failed_probe(slot.kind);
            }
            None => {}
        }
        let wake = match self.next(now) {
            _ if before != State::Closed || change.is_some() => Wake::All,
            Some((lane, ..)) => Wake::One(lane),
            None => Wake::None,
        };
        Ended { wake, change }
    }

    /// Whose turn it is to begin what, if there is room.
    fn next(&self, now: RunMs) -> Option<(LaneId, Class, Kinds)> {
        match self.leave(now) {
            Leave::NotBefore(_) | Leave::AfterProbe | Leave::Connect => None,
            Leave::Probe => self.next_probe(),
            Leave::Free => self.next_free(now),
        }
    }

    /// The kind that has failed least since the breaker opened, and what is new before what has
    /// waited: an event with which the app finds fault is not to stand for all others.
    fn next_probe(&self) -> Option<(LaneId, Class, Kinds)> {
        let wanted = self.lanes.iter().flat_map(|(lane, wants)| {
            let fresh = wants.fresh.iter().map(|kind| (*lane, Class::Fresh, kind));
            fresh.chain(wants.backlog.iter().map(|kind| (*lane, Class::Backlog, kind)))
        });
        let least = wanted.min_by_key(|(_, class, kind)| (self.shares.failed_probes(*kind), *class == Class::Backlog));
        least.map(|(lane, class, kind)| (lane, class, Kinds::only(kind)))
    }

    fn next_free(&self, now: RunMs) -> Option<(LaneId, Class, Kinds)> {
        let limit = self.window.limit();
        if self.fresh + self.backlog >= limit {
            return None;
        }
        let wanted = |class| {
            self.lanes.iter().find_map(|(lane, wants)| {
                let kinds = wants.class(class).filter(|kind| self.shares.has_room(kind, class, limit, now));
                (!kinds.is_empty()).then_some((*lane, class, kinds))
            })
        };
        let fresh = wanted(Class::Fresh);
        let backlog = if self.backlog < (limit / 2).max(1) { wanted(Class::Backlog) } else { None };
        match (fresh, backlog) {
            (Some(fresh), Some(backlog)) => Some(match (self.fresh.cmp(&self.backlog), self.last) {
                (Less, _) | (Equal, Class::Backlog) => fresh,
                (Greater, _) | (Equal, Class::Fresh) => backlog,
            }),
            (fresh, backlog) => fresh.or(backlog),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// For so many at once, at any rate.
    pub(in super::super) fn scheduler_of(max_concurrency: usize) -> Scheduler {
        Scheduler::new(Limits { max_concurrency, rate: None })
    }

    const A: LaneId = LaneId(1);
    const B: LaneId = LaneId(2);
    const NONE: Kinds = Kinds::NONE;
    const ONE: Kinds = Kinds::only(Kind::OTHER);
    const FRESH: Wants = Wants { fresh: ONE, backlog: NONE };
    const BACKLOG: Wants = Wants { fresh: NONE, backlog: ONE };
    const BOTH: Wants = Wants { fresh: ONE, backlog: ONE };
    const QUICK: Duration = Duration::from_millis(5);

    fn take(scheduler: &mut Scheduler, lane: LaneId, wants: Wants) -> Option<Slot> {
        take_at(scheduler, lane, wants, RunMs(0))
    }

    fn take_at(scheduler: &mut Scheduler, lane: LaneId, wants: Wants, now: RunMs) -> Option<Slot> {
        match scheduler.ask(lane, wants, now) {
            Turn::Yours { class, kinds } => {
                Some(scheduler.begin(lane, class, kinds.iter().next()?, class == Class::Fresh, now))
            }
            Turn::Wait { .. } => None,
        }
    }

    fn take_all(scheduler: &mut Scheduler, lane: LaneId, wants: Wants) -> Vec<Slot> {
        std::iter::from_fn(|| take(scheduler, lane, wants)).collect()
    }

    fn count(slots: &[Slot], class: Class) -> usize {
        slots.iter().filter(|slot| slot.class == class).count()
    }

    #[test]
    fn a_backlog_fills_half_of_the_window_and_new_events_all_of_it() {
        let mut scheduler = scheduler_of(16);
        let backlog = take_all(&mut scheduler, A, BACKLOG);
        assert_eq!((scheduler.limit(), backlog.len()), (8, 4));
        assert_eq!(take_all(&mut scheduler, A, FRESH).len(), 4, "there is room for what is new");
        let mut scheduler = scheduler_of(16);
        assert_eq!(take_all(&mut scheduler, A, FRESH).len(), 8);
    }

    #[test]
    fn where_both_want_they_share() {
        let mut scheduler = scheduler_of(16);
        let slots = take_all(&mut scheduler, A, BOTH);
        assert_eq!((count(&slots, Class::Fresh), count(&slots, Class::Backlog)), (4, 4));
    }

    #[test]
    fn in_a_window_of_one_they_take_turns() {
        let mut scheduler = scheduler_of(1);
        let mut classes = Vec::new();
        for _ in 0..4 {
            let slot = take(&mut scheduler, A, BOTH).unwrap();
            assert!(take(&mut scheduler, A, BOTH).is_none());
            classes.push(slot.class);
            scheduler.end(&slot, Signal::Refused, QUICK, RunMs(0));
        }
        assert_eq!(classes, [Class::Fresh, Class::Backlog, Class::Fresh, Class::Backlog]);
    }

    #[test]
    fn lanes_of_one_app_take_turns_and_the_one_whose_turn_it_is_is_named() {
        let mut scheduler = scheduler_of(2);
        let first = take(&mut scheduler, A, FRESH).unwrap();
        assert!(take(&mut scheduler, A, FRESH).is_none(), "the window of one is full");
        assert!(take(&mut scheduler, B, FRESH).is_none());
        // The order in which they ask does not matter.
        let ended = scheduler.end(&first, Signal::Failed, QUICK, RunMs(0));
        let Turn::Wait { instead, .. } = scheduler.ask(B, Wants::default(), RunMs(0)) else { panic!() };
        assert_eq!((ended.wake, instead), (Wake::One(A), Some(A)), "B does not want any more");
        let second = take(&mut scheduler, A, FRESH).unwrap();
        scheduler.ask(B, FRESH, RunMs(0));
        assert_eq!(scheduler.end(&second, Signal::Failed, QUICK, RunMs(0)).wake, Wake::One(B));
        let Turn::Wait { instead, .. } = scheduler.ask(A, FRESH, RunMs(0)) else { panic!("it is the turn of B") };
        assert_eq!(instead, Some(B));
        assert!(take(&mut scheduler, B, FRESH).is_some());
    }

    #[test]
    fn a_lane_that_has_left_is_in_nobodys_way() {
        let mut scheduler = scheduler_of(2);
        let slot = take(&mut scheduler, A, FRESH).unwrap();
        scheduler.ask(B, FRESH, RunMs(0));
        scheduler.forget_lane(B);
        scheduler.end(&slot, Signal::Good, QUICK, RunMs(0));
        assert!(take(&mut scheduler, A, FRESH).is_some());
    }

    #[test]
    fn while_open_one_probe_is_under_way_and_everybody_learns_how_it_ended() {
        let mut scheduler = scheduler_of(16);
        let slots = take_all(&mut scheduler, A, BOTH);
        let mut ends = slots.iter().map(|slot| scheduler.end(slot, Signal::Unreachable, QUICK, RunMs(0)));
        assert!(ends.any(|ended| ended.change.is_some() && ended.wake == Wake::All));
        assert_eq!(ends.count(), 3, "the others ended too");
        assert!(scheduler.is_stopped(RunMs(0)));
        let Turn::Wait { until, .. } = scheduler.ask(A, BOTH, RunMs(249)) else { panic!() };
        assert_eq!(until, Some(RunMs(250)));
        assert!(take_at(&mut scheduler, A, BOTH, RunMs(250)).is_none(), "nobody listens, as far as is known");
        let period = scheduler.begin_connect(RunMs(250));
        scheduler.end_connect(ConnectEnd::Reached, period, RunMs(250));
        let probe = take_at(&mut scheduler, A, BOTH, RunMs(250)).unwrap();
        assert_eq!(probe.class, Class::Fresh, "what has not failed yet");
        assert!(matches!(scheduler.ask(A, BOTH, RunMs(250)), Turn::Wait { .. }));
        let ended = scheduler.end(&probe, Signal::Good, QUICK, RunMs(260));
        assert!(matches!(ended, Ended { wake: Wake::All, change: Some(Change::Closed(_)) }));
        assert_eq!((scheduler.limit(), scheduler.state()), (1, State::Closed));
    }

    #[test]
    fn while_the_app_wants_to_be_left_alone_nothing_begins_and_the_longest_wish_counts() {
        let mut scheduler = scheduler_of(4);
        assert!(scheduler.hold(Asks::App, Duration::from_secs(2), RunMs(0)).is_some());
        assert!(scheduler.hold(Asks::App, Duration::from_secs(1), RunMs(10)).is_none());
        let Turn::Wait { until, .. } = scheduler.ask(A, FRESH, RunMs(1999)) else { panic!() };
        assert_eq!(until, Some(RunMs(2000)));
        assert!(take_at(&mut scheduler, A, FRESH, RunMs(2000)).is_some());
    }
}
