//! Whether an app is tried at all. Pure: time is handed in.
//!
//! Closed, everybody may try. Five connects in a row that fail, or attempts that fail whatever their
//! kind (`shares.rs`), open it. While nobody listens, connects without an event look whether somebody
//! does, each second; then one event at a time is tried, further and further apart, until the app
//! judges one: with a 2xx, or with an answer that finds fault with the event, since an app that judges is
//! up. What waits meanwhile is charged nothing. An event is tried now and then all the same: what an app
//! that is gone for good never takes has to come to its end.

use std::time::Duration;

use super::signal::Signal;
use crate::clock::RunMs;

/// Connects that fail one after the other before the app counts as down.
const CONNECT_FAILURES: u32 = 5;
/// Time from opening to the first probe; doubles with each probe that fails.
const PROBE_FIRST: Duration = Duration::from_millis(250);
/// Longest time between connects: an app that listens again is to be noticed within it.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Longest time between events that are tried.
const EVENT_MAX: Duration = Duration::from_secs(5);

/// Where a breaker stands, as shown to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The app is tried.
    Closed,
    /// One event is being tried.
    HalfOpen,
    /// The app is not tried until the next probe.
    Open,
}

impl State {
    /// As in the status.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::HalfOpen => "half_open",
            State::Open => "open",
        }
    }

    /// As in the metric `upstream_state`.
    pub fn code(self) -> i64 {
        match self {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        }
    }
}

/// Whether an event may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// As many as there is room for.
    Free,
    /// One, as a probe.
    Probe,
    /// None before somebody has connected; that may be tried now.
    Connect,
    /// None before then.
    NotBefore(RunMs),
    /// None before the probe under way has ended.
    AfterProbe,
}

/// A change that an operator wants to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The app is not tried any more; why.
    Opened(&'static str),
    /// It is tried again, after this long.
    Closed(Duration),
}

/// How a connect without an event has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectEnd {
    /// Somebody listens.
    Reached,
    /// Nobody does.
    Failed,
    /// It was cut off by us, which says nothing.
    Cut,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { outage: Outage, probe_at: RunMs },
    Probing { outage: Outage, begun: RunMs },
}

/// The time in which the app is not tried but by probes.
#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Since,
    /// What the next probe is, or the one under way.
    by: Probe,
    /// The wait before it.
    wait: Duration,
    /// When an event is tried though nobody listens.
    event_at: RunMs,
}

/// What finds out whether an app is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// A connect without an event, as long as nobody listens.
    Connect,
    /// An event, of an app that listens.
    Event,
}

impl Probe {
    /// After an attempt that ended so.
    fn after(signal: Signal) -> Probe {
        if signal == Signal::Unreachable { Probe::Connect } else { Probe::Event }
    }

    /// The wait after the one that has failed last.
    fn wait_after(self, wait: Duration) -> Duration {
        let most = match self {
            Probe::Connect => CONNECT_MAX,
            Probe::Event => EVENT_MAX,
        };
        wait.saturating_mul(2).min(most)
    }
}

/// Since when an app is not tried, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// When.
    pub at: RunMs,
    /// Why.
    pub why: &'static str,
}

/// The breaker of one app.
#[derive(Debug)]
pub struct Breaker {
    phase: Phase,
    /// Goes up with every change, so that what was begun before it does not count after it.
    period: u32,
    connect_failures: u32,
}

impl Breaker {
    /// Closed.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> Breaker {
        Breaker { phase: Phase::Closed, period: 0, connect_failures: 0 }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Probing { outage: Outage { by: Probe::Event, .. }, .. } => State::HalfOpen,
            Phase::Open { .. } | Phase::Probing { .. } => State::Open,
        }
    }

    /// Since when the app is not tried, if it is not.
    pub fn open_since(&self) -> Option<Since> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { outage, .. } | Phase::Probing { outage, .. } => Some(outage.since),
        }
    }

    /// The next probe need not wait any longer.
    pub fn probe_now(&mut self, now: RunMs) {
        if let Phase::Open { outage, .. } = self.phase {
            self.phase = Phase::Open { outage: Outage { wait: PROBE_FIRST, ..outage }, probe_at: now };
        }
    }

    /// Whether an event may be tried now.
    pub fn leave(&self, now: RunMs) -> Leave {
        match self.phase {
            Phase::Closed => Leave::Free,
            Phase::Open { probe_at, .. } if probe_at > now => Leave::NotBefore(probe_at),
            Phase::Open { outage: Outage { by: Probe::Connect, event_at, .. }, .. } if event_at > now => Leave::Connect,
            Phase::Open { .. } => Leave::Probe,
            Phase::Probing { .. } => Leave::AfterProbe,
        }
    }

    /// An attempt begins; returns the period that it belongs to. One that begins while open is the probe.
    pub fn begin(&mut self, now: RunMs) -> u32 {
        self.begin_probe(Probe::Event, now)
    }

    /// A connect without an event begins; returns the period that it belongs to.
    pub fn begin_connect(&mut self, now: RunMs) -> u32 {
        self.begin_probe(Probe::Connect, now)
    }

    fn begin_probe(&mut self, by: Probe, now: RunMs) -> u32 {
        if let Phase::Open { outage, .. } = self.phase {
            self.phase = Phase::Probing { outage: Outage { by, ..outage }, begun: now };
        }
        self.period
    }

    /// A connect of this period has ended.
    pub fn end_connect(&mut self, end: ConnectEnd, period: u32, now: RunMs) {
        let Phase::Probing { outage, begun } = self.phase else { return };
        if outage.by != Probe::Connect || !self.is_current(period) {
            return;
        }
        let wait = match end {
            ConnectEnd::Reached => PROBE_FIRST,
            ConnectEnd::Failed => Probe::Connect.wait_after(outage.wait),
            ConnectEnd::Cut => outage.wait,
        };
        let (by, probe_at) = match end {
            // What it does with an event has yet to be seen.
            ConnectEnd::Reached => (Probe::Event, now),
            // From its begin: one that ended by its timeout has waited already.
            ConnectEnd::Failed | ConnectEnd::Cut => (Probe::Connect, begun.plus(wait)),
        };
        self.phase = Phase::Open { outage: Outage { by, wait, ..outage }, probe_at };
    }

    /// Whether what was begun in this period still counts.
    pub fn is_current(&self, period: u32) -> bool {
        period == self.period
    }

    /// An attempt of this period has ended; whether the app fails, whatever it is sent.
    pub fn end(&mut self, signal: Signal, period: u32, is_failing: bool, now: RunMs) -> Option<Change> {
        if !self.is_current(period) {
            return None;
        }
        match self.phase {
            Phase::Closed => {
                let why = self.judge(signal, is_failing)?;
                self.period += 1;
                let (since, by) = (Since { at: now, why }, Probe::after(signal));
                let outage = Outage { since, by, wait: PROBE_FIRST, event_at: now.plus(EVENT_MAX) };
                self.phase = Phase::Open { outage, probe_at: now.plus(PROBE_FIRST) };
                Some(Change::Opened(why))
            }
            Phase::Probing { outage, .. } if signal.is_answer() => {
                self.period += 1;
                self.phase = Phase::Closed;
                self.connect_failures = 0;
                Some(Change::Closed(now.since(outage.since.at)))
            }
            Phase::Probing { outage, .. } => {
                let by = Probe::after(signal);
                let wait = match signal {
                    Signal::Cut => outage.wait,
                    // Somebody may have listened a moment ago: no more than this often.
                    Signal::Unreachable => CONNECT_MAX,
                    _ => by.wait_after(outage.wait),
                };
                let outage = Outage { by, wait, event_at: now.plus(EVENT_MAX), ..outage };
                self.phase = Phase::Open { outage, probe_at: now.plus(wait) };
                None
            }
            Phase::Open { .. } => None,
        }
    }

    /// Counts an attempt; says why, if this is one failure too many.
    fn judge(&mut self, signal: Signal, is_failing: bool) -> Option<&'static str> {
        match signal {
            Signal::Cut => return None,
            Signal::Unreachable => self.connect_failures += 1,
            _ => self.connect_failures = 0,
        }
        if self.connect_failures >= CONNECT_FAILURES {
            Some("it cannot be connected to")
        } else if is_failing && !signal.is_answer() {
            Some("half of what it was sent within 10 s failed, and hardly a type of events is taken")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(breaker: &mut Breaker, signal: Signal, now: i64) -> Option<Change> {
        let period = breaker.begin(RunMs(now));
        breaker.end(signal, period, false, RunMs(now))
    }

    /// Nobody listens.
    fn unreachable_at(now: i64) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..CONNECT_FAILURES {
            ended(&mut breaker, Signal::Unreachable, now);
        }
        assert_eq!(breaker.state(), State::Open);
        breaker
    }

    /// The app fails whatever it is sent.
    fn failing_at(now: i64) -> Breaker {
        let mut breaker = Breaker::new();
        let period = breaker.begin(RunMs(now));
        assert!(breaker.end(Signal::Failed, period, true, RunMs(now)).is_some());
        breaker
    }

    fn connected(breaker: &mut Breaker, end: ConnectEnd, now: i64) {
        assert_eq!(breaker.leave(RunMs(now)), Leave::Connect);
        let period = breaker.begin_connect(RunMs(now));
        assert_eq!((breaker.state(), breaker.leave(RunMs(now))), (State::Open, Leave::AfterProbe));
        breaker.end_connect(end, period, RunMs(now));
    }

    #[test]
    fn five_connects_in_a_row_open_it_and_an_answer_between_begins_anew() {
        let mut breaker = Breaker::new();
        for signal in [Signal::Unreachable; 4].into_iter().chain([Signal::Refused]).chain([Signal::Unreachable; 4]) {
            assert_eq!(ended(&mut breaker, signal, 0), None);
        }
        assert!(matches!(ended(&mut breaker, Signal::Unreachable, 0), Some(Change::Opened(_))));
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn an_app_that_fails_whatever_it_is_sent_opens_it_and_an_answer_does_not() {
        let mut breaker = Breaker::new();
        let period = breaker.begin(RunMs(0));
        assert_eq!(breaker.end(Signal::Good, period, true, RunMs(0)), None);
        assert_eq!(breaker.end(Signal::Cut, period, true, RunMs(0)), None);
        assert!(matches!(breaker.end(Signal::Timeout, period, true, RunMs(0)), Some(Change::Opened(_))));
    }

    #[test]
    fn refusals_never_open_it() {
        let mut breaker = Breaker::new();
        for n in 0..1000 {
            assert_eq!(ended(&mut breaker, Signal::Refused, n), None);
        }
    }

    #[test]
    fn events_are_tried_one_at_a_time_at_doubling_distances_up_to_five_seconds() {
        let mut breaker = failing_at(1000);
        let mut now = 1000;
        for wait in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            assert_eq!(breaker.leave(RunMs(now)), Leave::NotBefore(RunMs(now + wait)));
            now += wait;
            assert_eq!(breaker.leave(RunMs(now)), Leave::Probe);
            let period = breaker.begin(RunMs(now));
            assert_eq!((breaker.state(), breaker.leave(RunMs(now))), (State::HalfOpen, Leave::AfterProbe));
            assert_eq!(breaker.end(Signal::Failed, period, true, RunMs(now)), None);
        }
    }

    #[test]
    fn while_nobody_listens_connects_look_for_it_each_second() {
        let mut breaker = unreachable_at(1000);
        let mut now = 1000;
        for wait in [250, 500, 1000] {
            assert_eq!(breaker.leave(RunMs(now)), Leave::NotBefore(RunMs(now + wait)));
            now += wait;
            connected(&mut breaker, ConnectEnd::Failed, now);
        }
        now += 1000;
        let period = breaker.begin_connect(RunMs(now));
        breaker.end_connect(ConnectEnd::Failed, period, RunMs(now + 1000));
        assert_eq!(breaker.leave(RunMs(now + 1000)), Leave::Connect, "one that hangs is no wait of its own");
        connected(&mut breaker, ConnectEnd::Reached, now + 1000);
        assert_eq!(breaker.leave(RunMs(now + 1000)), Leave::Probe, "an event, at once");
        let down_for = Duration::from_millis(u64::try_from(now).unwrap());
        assert_eq!(ended(&mut breaker, Signal::Good, now + 1000), Some(Change::Closed(down_for)));
    }

    #[test]
    fn while_nobody_listens_an_event_is_tried_in_the_place_of_a_connect_five_seconds_after_the_last() {
        let mut breaker = unreachable_at(0);
        let mut tried = Vec::new();
        for now in 0..20_000 {
            match breaker.leave(RunMs(now)) {
                Leave::Connect => connected(&mut breaker, ConnectEnd::Failed, now),
                Leave::Probe => {
                    assert_eq!(ended(&mut breaker, Signal::Unreachable, now), None);
                    tried.push(now);
                }
                _ => {}
            }
        }
        assert_eq!(tried, [5_750, 10_750, 15_750]);
    }

    #[test]
    fn an_app_that_listens_and_fails_gets_events_at_growing_waits_and_one_that_listens_no_more_connects() {
        let mut breaker = unreachable_at(0);
        connected(&mut breaker, ConnectEnd::Reached, 250);
        ended(&mut breaker, Signal::Failed, 250);
        assert_eq!(breaker.leave(RunMs(250)), Leave::NotBefore(RunMs(750)));
        ended(&mut breaker, Signal::Unreachable, 750);
        assert_eq!(breaker.leave(RunMs(750)), Leave::NotBefore(RunMs(1750)));
        connected(&mut breaker, ConnectEnd::Reached, 1750);
        ended(&mut breaker, Signal::Unreachable, 1750);
        assert_eq!(breaker.leave(RunMs(1750)), Leave::NotBefore(RunMs(2750)), "not twice within a second");
    }

    #[test]
    fn a_probe_that_the_app_judges_closes_it_whatever_it_finds() {
        for signal in [Signal::Good, Signal::Refused] {
            let mut breaker = failing_at(0);
            assert_eq!(ended(&mut breaker, Signal::Cut, 300), None, "that says nothing");
            assert_eq!(breaker.leave(RunMs(300)), Leave::NotBefore(RunMs(550)), "no further apart for that");
            assert_eq!(ended(&mut breaker, signal, 600), Some(Change::Closed(Duration::from_millis(600))));
            assert_eq!(breaker.leave(RunMs(600)), Leave::Free);
        }
    }

    #[test]
    fn whoever_cannot_wait_probes_at_once() {
        let mut breaker = failing_at(0);
        for now in [250, 750, 1750] {
            ended(&mut breaker, Signal::Failed, now);
        }
        assert_eq!(breaker.leave(RunMs(1800)), Leave::NotBefore(RunMs(3750)));
        breaker.probe_now(RunMs(1800));
        assert_eq!(breaker.leave(RunMs(1800)), Leave::Probe);
    }

    #[test]
    fn what_was_begun_before_a_change_does_not_count_after_it() {
        let mut breaker = Breaker::new();
        let old = breaker.begin(RunMs(0));
        for _ in 0..CONNECT_FAILURES {
            ended(&mut breaker, Signal::Unreachable, 0);
        }
        assert_eq!(breaker.end(Signal::Good, old, false, RunMs(10)), None);
        assert_eq!(breaker.state(), State::Open, "an answer from before the outage says nothing");
        connected(&mut breaker, ConnectEnd::Reached, 250);
        breaker.end_connect(ConnectEnd::Failed, old, RunMs(260));
        ended(&mut breaker, Signal::Good, 300);
        for _ in 0..100 {
            assert_eq!(breaker.end(Signal::Unreachable, old, true, RunMs(310)), None);
        }
        assert_eq!(breaker.state(), State::Closed);
    }
}
