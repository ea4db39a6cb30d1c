//! Whether an app is tried at all. Pure: time is handed in.
//!
//! Closed, everybody may try. Five connects in a row that fail, or half of what was tried within
//! ten seconds, open it. Then one event at a time is tried, further and further apart, until the
//! first 2xx closes it. What waits meanwhile is charged nothing.

use std::time::Duration;

use super::signal::Signal;
use crate::clock::RunMs;

/// Connects that fail one after the other before the app counts as down.
const CONNECT_FAILURES: u32 = 5;
/// Attempts within [`RECENT_S`] below which a share says nothing.
const JUDGED_MIN: u32 = 20;
/// Seconds over which failures are counted.
const RECENT_S: usize = 10;
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
    Open { since: RunMs, wait: Duration, probe_at: RunMs },
    Probing { since: RunMs, wait: Duration },
}

/// The breaker of one app.
#[derive(Debug)]
pub struct Breaker {
    phase: Phase,
    /// Goes up with every change, so that what was begun before it does not count after it.
    period: u32,
    connect_failures: u32,
    recent: Recent,
}

impl Breaker {
    /// Closed.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> Breaker {
        Breaker { phase: Phase::Closed, period: 0, connect_failures: 0, recent: Recent::default() }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::Probing { .. } => State::HalfOpen,
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

    /// An attempt of this period has ended.
    pub fn end(&mut self, signal: Signal, period: u32, now: RunMs) -> Option<Change> {
        if period != self.period {
            return None;
        }
        match self.phase {
            Phase::Closed => {
                let why = self.judge(signal, now)?;
                self.period += 1;
                self.phase = Phase::Open { since: now, wait: PROBE_FIRST, probe_at: now.plus(PROBE_FIRST) };
                Some(Change::Opened(why))
            }
            Phase::Probing { since, .. } if signal == Signal::Good => {
                self.period += 1;
                self.phase = Phase::Closed;
                self.connect_failures = 0;
                self.recent = Recent::default();
                Some(Change::Closed(now.since(since)))
            }
            Phase::Probing { since, wait } => {
                // An app that finds fault with the event is up, if not yet as it should be.
                let wait = match signal {
                    Signal::Refused | Signal::Cut => wait,
                    _ => wait.saturating_mul(2).min(PROBE_MAX),
                };
                self.phase = Phase::Open { since, wait, probe_at: now.plus(wait) };
                None
            }
            Phase::Open { .. } => None,
        }
    }

    /// Counts an attempt; says why, if this is one failure too many.
    fn judge(&mut self, signal: Signal, now: RunMs) -> Option<&'static str> {
        match signal {
            Signal::Cut => return None,
            Signal::Unreachable => self.connect_failures += 1,
            _ => self.connect_failures = 0,
        }
        self.recent.count(!signal.is_answer(), now);
        let (all, failed) = self.recent.sums();
        if self.connect_failures >= CONNECT_FAILURES {
            Some("it cannot be connected to")
        } else if all >= JUDGED_MIN && failed * 2 >= all {
            Some("half of what it was sent within 10 s failed")
        } else {
            None
        }
    }
}

/// Attempts by the second in which they ended.
#[derive(Debug, Default)]
struct Recent {
    /// All and failed ones, of the second that is this index modulo the length.
    seconds: [(u32, u32); RECENT_S],
    newest_s: i64,
}

impl Recent {
    fn count(&mut self, failed: bool, now: RunMs) {
        let now_s = now.0 / 1000;
        let passed = usize::try_from(now_s - self.newest_s).unwrap_or(0).min(RECENT_S);
        for step in 0..passed {
            let second = now_s - i64::try_from(step).unwrap_or(0);
            self.seconds[Self::index(second)] = (0, 0);
        }
        self.newest_s = self.newest_s.max(now_s);
        let (all, failures) = &mut self.seconds[Self::index(now_s)];
        *all += 1;
        *failures += u32::from(failed);
    }

    fn index(second: i64) -> usize {
        usize::try_from(second).unwrap_or(0) % RECENT_S
    }

    fn sums(&self) -> (u32, u32) {
        self.seconds.iter().fold((0, 0), |(all, failed), (a, f)| (all + a, failed + f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(breaker: &mut Breaker, signal: Signal, now: i64) -> Option<Change> {
        let period = breaker.begin();
        breaker.end(signal, period, RunMs(now))
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
    fn half_of_twenty_within_ten_seconds_opens_it_and_what_is_older_does_not_count() {
        let mut breaker = Breaker::new();
        for n in 0..19 {
            assert_eq!(ended(&mut breaker, if n % 2 == 0 { Signal::Failed } else { Signal::Good }, 0), None);
        }
        assert_eq!(ended(&mut breaker, Signal::Good, 10_000), None, "the 19 are out of the window");
        for _ in 0..9 {
            assert_eq!(ended(&mut breaker, Signal::Good, 10_000), None);
        }
        for _ in 0..9 {
            assert_eq!(ended(&mut breaker, Signal::Timeout, 19_999), None);
        }
        assert!(matches!(ended(&mut breaker, Signal::Failed, 19_999), Some(Change::Opened(_))));
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
            assert_eq!(breaker.end(Signal::Failed, period, RunMs(now)), None);
        }
    }

    #[test]
    fn the_first_2xx_of_a_probe_closes_it_and_nothing_else_does() {
        let mut breaker = opened_at(0);
        assert_eq!(ended(&mut breaker, Signal::Refused, 300), None, "up, but not yet good");
        assert_eq!(breaker.leave(RunMs(300)), Leave::NotBefore(RunMs(550)), "no further apart for that");
        assert_eq!(ended(&mut breaker, Signal::Good, 600), Some(Change::Closed(Duration::from_millis(600))));
        assert_eq!(breaker.leave(RunMs(600)), Leave::Free);
    }

    #[test]
    fn what_was_begun_before_a_change_does_not_count_after_it() {
        let mut breaker = Breaker::new();
        let old = breaker.begin();
        for _ in 0..CONNECT_FAILURES {
            ended(&mut breaker, Signal::Unreachable, 0);
        }
        assert_eq!(breaker.end(Signal::Good, old, RunMs(10)), None);
        assert_eq!(breaker.state(), State::Open, "an answer from before the outage says nothing");
        ended(&mut breaker, Signal::Good, 300);
        for _ in 0..100 {
            assert_eq!(breaker.end(Signal::Unreachable, old, RunMs(310)), None);
        }
        assert_eq!(breaker.state(), State::Closed);
    }
}
