//! Whether an app is tried at all. Pure: time is handed in.
//!
//! Closed, everybody may try. Five connects in a row that fail, or attempts that fail whatever their
//! kind (`shares.rs`), open it. Then one event at a time is tried, further and further apart, until
//! the app judges one: with a 2xx, or with an answer that finds fault with the event, since an app
//! that judges is up. What waits meanwhile is charged nothing.

use std::time::Duration;

use super::signal::Signal;
use crate::clock::RunMs;

/// Connects that fail one after the other before the app counts as down.
const CONNECT_FAILURES: u32 = 5;
/// Time from opening to the first probe; doubles with each probe that fails.
const PROBE_FIRST: Duration = Duration::from_millis(250);
/// Longest time between probes.
const PROBE_MAX: Duration = Duration::from_secs(5);

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

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { since: Since, wait: Duration, probe_at: RunMs },
    Probing { since: Since, wait: Duration },
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
            Phase::Open { .. } => State::Open,
            Phase::Probing { .. } => State::HalfOpen,
        }
    }

    /// Since when the app is not tried, if it is not.
    pub fn open_since(&self) -> Option<Since> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { since, .. } | Phase::Probing { since, .. } => Some(since),
        }
    }

    /// The next probe need not wait any longer.
    pub fn probe_now(&mut self, now: RunMs) {
        if let Phase::Open { since, .. } = self.phase {
            self.phase = Phase::Open { since, wait: PROBE_FIRST, probe_at: now };
        }
    }

    /// Whether an event may be tried now.
    pub fn leave(&self, now: RunMs) -> Leave {
        match self.phase {
            Phase::Closed => Leave::Free,
            Phase::Open { probe_at, .. } if probe_at > now => Leave::NotBefore(probe_at),
            Phase::Open { .. } => Leave::Probe,
            Phase::Probing { .. } => Leave::AfterProbe,
        }
    }

    /// An attempt begins; returns the period that it belongs to. One that begins while open is the
    /// probe.
    pub fn begin(&mut self) -> u32 {
        if let Phase::Open { since, wait, .. } = self.phase {
            self.phase = Phase::Probing { since, wait };
        }
        self.period
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
                let since = Since { at: now, why };
                self.phase = Phase::Open { since, wait: PROBE_FIRST, probe_at: now.plus(PROBE_FIRST) };
                Some(Change::Opened(why))
            }
            Phase::Probing { since, .. } if signal.is_answer() => {
                self.period += 1;
                self.phase = Phase::Closed;
                self.connect_failures = 0;
                Some(Change::Closed(now.since(since.at)))
            }
            Phase::Probing { since, wait } => {
                let wait = match signal {
                    Signal::Cut => wait,
                    _ => wait.saturating_mul(2).min(PROBE_MAX),
                };
                self.phase = Phase::Open { since, wait, probe_at: now.plus(wait) };
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
        let period = breaker.begin();
        breaker.end(signal, period, false, RunMs(now))
    }

    fn opened_at(now: i64) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..CONNECT_FAILURES {
            ended(&mut breaker, Signal::Unreachable, now);
        }
        assert_eq!(breaker.state(), State::Open);
        breaker
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
        let period = breaker.begin();
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
    fn probes_go_one_at_a_time_at_doubling_distances_up_to_five_seconds() {
        let mut breaker = opened_at(1000);
        let mut now = 1000;
        for wait in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            assert_eq!(breaker.leave(RunMs(now)), Leave::NotBefore(RunMs(now + wait)));
            now += wait;
            assert_eq!(breaker.leave(RunMs(now)), Leave::Probe);
            let period = breaker.begin();
            assert_eq!((breaker.state(), breaker.leave(RunMs(now))), (State::HalfOpen, Leave::AfterProbe));
            assert_eq!(breaker.end(Signal::Failed, period, true, RunMs(now)), None);
        }
    }

    #[test]
    fn a_probe_that_the_app_judges_closes_it_whatever_it_finds() {
        for signal in [Signal::Good, Signal::Refused] {
            let mut breaker = opened_at(0);
            assert_eq!(ended(&mut breaker, Signal::Cut, 300), None, "that says nothing");
            assert_eq!(breaker.leave(RunMs(300)), Leave::NotBefore(RunMs(550)), "no further apart for that");
            assert_eq!(ended(&mut breaker, signal, 600), Some(Change::Closed(Duration::from_millis(600))));
            assert_eq!(breaker.leave(RunMs(600)), Leave::Free);
        }
    }

    #[test]
    fn what_was_begun_before_a_change_does_not_count_after_it() {
        let mut breaker = Breaker::new();
        let old = breaker.begin();
        for _ in 0..CONNECT_FAILURES {
            ended(&mut breaker, Signal::Unreachable, 0);
        }
        assert_eq!(breaker.end(Signal::Good, old, false, RunMs(10)), None);
        assert_eq!(breaker.state(), State::Open, "an answer from before the outage says nothing");
        ended(&mut breaker, Signal::Good, 300);
        for _ in 0..100 {
            assert_eq!(breaker.end(Signal::Unreachable, old, true, RunMs(310)), None);
        }
        assert_eq!(breaker.state(), State::Closed);
    }
}
