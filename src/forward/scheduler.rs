//! Who may try an app now: its breaker, its window, its wish to be left alone, and the turns of the
//! lanes that go there. Pure: time is handed in, and whoever has to be woken is told.
//!
//! Half of the window is kept for first attempts of new events, which so never wait behind a
//! backlog; retries and backlog have the other half. Within a half, lanes take turns.

use std::time::Duration;

use super::breaker::{Breaker, Change, Leave, State};
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
    /// The first attempt of a new event.
    pub fresh: bool,
    /// An attempt of what has waited.
    pub backlog: bool,
}

impl Wants {
    fn class(self, class: Class) -> bool {
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
    period: u32,
    begun: Begun,
}

/// The answer to a lane that asks.
#[derive(Debug)]
pub enum Turn {
    /// It may begin an attempt of the slot's class.
    Yours(Slot),
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

/// One app's scheduler.
#[derive(Debug)]
pub struct Scheduler {
    breaker: Breaker,
    window: Window,
    held_until: RunMs,
    fresh: usize,
    backlog: usize,
    /// Whose turn it was last, where both halves want.
    last: Class,
    /// In the order of their turns.
    lanes: Vec<(LaneId, Wants)>,
}

impl Scheduler {
    /// For an app that bears at most so many attempts at once.
    pub fn new(max_concurrency: usize) -> Scheduler {
        Scheduler {
            breaker: Breaker::new(),
            window: Window::new(max_concurrency),
            held_until: RunMs(0),
            fresh: 0,
            backlog: 0,
            last: Class::Backlog,
            lanes: Vec::new(),
        }
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
        (self.held_until > now).then_some(self.held_until)
    }

    /// Whether the app is not tried now, or only by probes.
    pub fn is_stopped(&self, now: RunMs) -> bool {
        self.breaker.state() != State::Closed || self.held(now).is_some()
    }

    /// Whether an event could be tried now, and if not, when that is worth asking again.
    pub fn leave(&self, now: RunMs) -> Leave {
        match self.held(now) {
            Some(until) => Leave::NotBefore(until),
            None => self.breaker.leave(now),
        }
    }

    /// The app asks to be left alone for so long. Returns whether that is news.
    pub fn hold(&mut self, wait: Duration, now: RunMs) -> bool {
        let news = self.held(now).is_none() && !wait.is_zero();
        self.held_until = self.held_until.max(now.plus(wait));
        news
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
            Some((next, class)) if next == lane => Turn::Yours(self.begin(next, class)),
            next => Turn::Wait { until: None, instead: next.map(|(next, _)| next) },
        }
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
        let before = self.breaker.state();
        let change = self.breaker.end(signal, slot.period, now);
        self.window.end(signal, slot.begun, latency);
        if let Some(Change::Closed(_)) = change {
            self.window.restart();
        }
        let wake = match self.next(now) {
            _ if before != State::Closed || change.is_some() => Wake::All,
            Some((lane, _)) => Wake::One(lane),
            None => Wake::None,
        };
        Ended { wake, change }
    }

    /// Whose turn it is to begin what, if there is room.
    fn next(&self, now: RunMs) -> Option<(LaneId, Class)> {
        let class = match self.leave(now) {
            Leave::NotBefore(_) | Leave::AfterProbe => return None,
            // The oldest first: it has waited longest.
            Leave::Probe if self.anybody_wants(Class::Backlog) => Class::Backlog,
            Leave::Probe => Class::Fresh,
            Leave::Free => self.next_class()?,
        };
        let (lane, _) = self.lanes.iter().find(|(_, wants)| wants.class(class))?;
        Some((*lane, class))
    }

    fn next_class(&self) -> Option<Class> {
        let limit = self.window.limit();
        if self.fresh + self.backlog >= limit {
            return None;
        }
        let backlog = self.anybody_wants(Class::Backlog) && self.backlog < (limit / 2).max(1);
        match (self.anybody_wants(Class::Fresh), backlog) {
            (false, false) => None,
            (true, false) => Some(Class::Fresh),
            (false, true) => Some(Class::Backlog),
            (true, true) if self.fresh < self.backlog => Some(Class::Fresh),
            (true, true) if self.fresh > self.backlog => Some(Class::Backlog),
            (true, true) => Some(match self.last {
                Class::Fresh => Class::Backlog,
                Class::Backlog => Class::Fresh,
            }),
        }
    }

    fn anybody_wants(&self, class: Class) -> bool {
        self.lanes.iter().any(|(_, wants)| wants.class(class))
    }

    fn begin(&mut self, lane: LaneId, class: Class) -> Slot {
        match class {
            Class::Fresh => self.fresh += 1,
            Class::Backlog => self.backlog += 1,
        }
        self.last = class;
        // Its next turn is after everybody else's.
        if let Some(place) = self.lanes.iter().position(|(id, _)| *id == lane) {
            self.lanes[place..].rotate_left(1);
        }
        let begun = self.window.begin(self.fresh + self.backlog);
        Slot { class, period: self.breaker.begin(), begun }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LaneId = LaneId(1);
    const B: LaneId = LaneId(2);
    const FRESH: Wants = Wants { fresh: true, backlog: false };
    const BACKLOG: Wants = Wants { fresh: false, backlog: true };
    const BOTH: Wants = Wants { fresh: true, backlog: true };
    const QUICK: Duration = Duration::from_millis(5);

    fn take(scheduler: &mut Scheduler, lane: LaneId, wants: Wants) -> Option<Slot> {
        match scheduler.ask(lane, wants, RunMs(0)) {
            Turn::Yours(slot) => Some(slot),
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
        let mut scheduler = Scheduler::new(16);
        let backlog = take_all(&mut scheduler, A, BACKLOG);
        assert_eq!((scheduler.limit(), backlog.len()), (8, 4));
        assert_eq!(take_all(&mut scheduler, A, FRESH).len(), 4, "there is room for what is new");
        let mut scheduler = Scheduler::new(16);
        assert_eq!(take_all(&mut scheduler, A, FRESH).len(), 8);
    }

    #[test]
    fn where_both_want_they_share() {
        let mut scheduler = Scheduler::new(16);
        let slots = take_all(&mut scheduler, A, BOTH);
        assert_eq!((count(&slots, Class::Fresh), count(&slots, Class::Backlog)), (4, 4));
    }

    #[test]
    fn in_a_window_of_one_they_take_turns() {
        let mut scheduler = Scheduler::new(1);
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
        let mut scheduler = Scheduler::new(2);
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
        let mut scheduler = Scheduler::new(2);
        let slot = take(&mut scheduler, A, FRESH).unwrap();
        scheduler.ask(B, FRESH, RunMs(0));
        scheduler.forget_lane(B);
        scheduler.end(&slot, Signal::Good, QUICK, RunMs(0));
        assert!(take(&mut scheduler, A, FRESH).is_some());
    }

    #[test]
    fn while_open_one_probe_is_under_way_and_everybody_learns_how_it_ended() {
        let mut scheduler = Scheduler::new(16);
        let slots = take_all(&mut scheduler, A, BOTH);
        let mut ends = slots.iter().map(|slot| scheduler.end(slot, Signal::Unreachable, QUICK, RunMs(0)));
        assert!(ends.any(|ended| ended.change.is_some() && ended.wake == Wake::All));
        assert_eq!(ends.count(), 3, "the others ended too");
        assert!(scheduler.is_stopped(RunMs(0)));
        let Turn::Wait { until, .. } = scheduler.ask(A, BOTH, RunMs(249)) else { panic!() };
        assert_eq!(until, Some(RunMs(250)));
        let Turn::Yours(probe) = scheduler.ask(A, BOTH, RunMs(250)) else { panic!() };
        assert_eq!(probe.class, Class::Backlog);
        assert!(matches!(scheduler.ask(A, BOTH, RunMs(250)), Turn::Wait { .. }));
        let ended = scheduler.end(&probe, Signal::Good, QUICK, RunMs(260));
        assert!(matches!(ended, Ended { wake: Wake::All, change: Some(Change::Closed(_)) }));
        assert_eq!((scheduler.limit(), scheduler.state()), (1, State::Closed));
    }

    #[test]
    fn while_the_app_wants_to_be_left_alone_nothing_begins_and_the_longest_wish_counts() {
        let mut scheduler = Scheduler::new(4);
        assert!(scheduler.hold(Duration::from_secs(2), RunMs(0)));
        assert!(!scheduler.hold(Duration::from_secs(1), RunMs(10)));
        let Turn::Wait { until, .. } = scheduler.ask(A, FRESH, RunMs(1999)) else { panic!() };
        assert_eq!(until, Some(RunMs(2000)));
        assert!(matches!(scheduler.ask(A, FRESH, RunMs(2000)), Turn::Yours(_)));
    }
}
