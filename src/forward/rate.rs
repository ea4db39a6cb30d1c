//! How many events an app is sent within a time, at most: a token bucket. Pure: time is handed in.

use std::fmt;
use std::num::NonZeroU32;

use crate::clock::RunMs;

/// Most events of a unit of time.
const EVENTS_MAX: u32 = 1_000_000;
/// Most events at once after a rest.
pub const BURST_MAX: u32 = 1_000_000;
/// Units of time, and their milliseconds.
const UNITS: [(&str, u64); 2] = [("/s", 1_000), ("/min", 60_000)];

/// So many events a second or a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    events: NonZeroU32,
    per_ms: u64,
}

impl Rate {
    /// Reads `50/s` or `600/min`; anything else, zero, or more than a million is none.
    pub fn parse(text: &str) -> Option<Rate> {
        let number = |(unit, per_ms)| {
            let digits = text.strip_suffix(unit)?.trim();
            // `parse` would take a sign too.
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            Some((digits.parse().ok().filter(|_| is_number)?, per_ms))
        };
        let (events, per_ms) = UNITS.into_iter().find_map(number)?;
        NonZeroU32::new(events).filter(|events| events.get() <= EVENTS_MAX).map(|events| Rate { events, per_ms })
    }

    /// The range of what can be read.
    pub fn expected() -> String {
        format!("a rate from 1/min to {EVENTS_MAX}/s, such as 50/s or 600/min")
    }

    /// Events of one second, at least one.
    pub fn of_a_second(self) -> NonZeroU32 {
        let events = u64::from(self.events.get()) * 1_000 / self.per_ms;
        u32::try_from(events).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, per_ms)| *per_ms == self.per_ms).map_or("", |(unit, _)| unit);
        write!(f, "{}{unit}", self.events)
    }
}

/// A rate, and how many events may go at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// On average.
    pub rate: Rate,
    /// At once.
    pub burst: NonZeroU32,
}

/// Fills at the rate; each event takes a token out. Counted in events times milliseconds, so that nothing is
/// rounded.
#[derive(Debug)]
pub struct Bucket {
    bound: Option<Bound>,
    level: u64,
    filled_at: RunMs,
}

impl Bucket {
    /// Full.
    pub fn new(bound: Option<Bound>) -> Bucket {
        let mut bucket = Bucket { bound: None, level: 0, filled_at: RunMs(0) };
        bucket.set(bound);
        bucket
    }

    /// Another bound from now on. What has come together stays, within it; one that was off begins full.
    pub fn set(&mut self, bound: Option<Bound>) {
        let Some(new) = bound else {
            self.bound = None;
            return;
        };
        let full = capacity(new);
        self.level = match self.bound {
            Some(old) => (self.level / old.rate.per_ms * new.rate.per_ms).min(full),
            None => full,
        };
        self.bound = bound;
    }

    /// When the next event may go, if not now.
    pub fn not_before(&self, now: RunMs) -> Option<RunMs> {
        let Bound { rate, .. } = self.bound?;
        let missing = rate.per_ms.saturating_sub(self.level_at(now));
        let wait_ms = i64::try_from(missing.div_ceil(u64::from(rate.events.get()))).unwrap_or(i64::MAX);
        (wait_ms > 0).then_some(RunMs(now.0.saturating_add(wait_ms)))
    }

    /// An event goes.
    pub fn take(&mut self, now: RunMs) {
        let Some(Bound { rate, .. }) = self.bound else { return };
        self.level = self.level_at(now).saturating_sub(rate.per_ms);
        self.filled_at = now;
    }

    /// An event that went has not reached the app: its token is there again.
    pub fn give_back(&mut self, now: RunMs) {
        let Some(bound) = self.bound else { return };
        self.level = self.level_at(now).saturating_add(bound.rate.per_ms).min(capacity(bound));
        self.filled_at = now;
    }

    fn level_at(&self, now: RunMs) -> u64 {
        let Some(bound) = self.bound else { return 0 };
        let passed_ms = u64::try_from(now.0 - self.filled_at.0).unwrap_or(0);
        let filled = passed_ms.saturating_mul(u64::from(bound.rate.events.get()));
        self.level.saturating_add(filled).min(capacity(bound))
    }
}

/// The burst, and what comes together within the millisecond in which it is full.
fn capacity(bound: Bound) -> u64 {
    u64::from(bound.burst.get()) * bound.rate.per_ms + u64::from(bound.rate.events.get()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(rate: &str, burst: u32) -> Option<Bound> {
        Some(Bound { rate: Rate::parse(rate).unwrap(), burst: NonZeroU32::new(burst).unwrap() })
    }

    /// When each of so many events goes that are all there at the start.
    fn times(bucket: &mut Bucket, events: usize, from: i64) -> Vec<i64> {
        let mut now = RunMs(from);
        let mut next = || {
            now = bucket.not_before(now).unwrap_or(now);
            bucket.take(now);
            now.0
        };
        (0..events).map(|_| next()).collect()
    }

    #[test]
    fn a_rate_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["50/s", "600/min", "1/min", "1000000/s"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Rate::parse("5 /s").unwrap().to_string(), "5/s");
        for text in ["", "50", "0/s", "-1/s", "+5/s", "1000001/s", "1.5/s", "50/h", "/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
        let a_second = |text| Rate::parse(text).unwrap().of_a_second().get();
        assert_eq!((a_second("50/s"), a_second("600/min"), a_second("1/min")), (50, 10, 1));
    }

    #[test]
    fn a_burst_goes_at_once_and_then_one_after_the_other_at_the_rate() {
        let mut bucket = Bucket::new(bound("10/s", 3));
        assert_eq!(times(&mut bucket, 6, 1_000), [1_000, 1_000, 1_000, 1_100, 1_200, 1_300]);
        assert_eq!(times(&mut bucket, 4, 60_000), [60_000, 60_000, 60_000, 60_100], "no more after a long rest");
        let mut bucket = Bucket::new(bound("7/s", 1));
        assert_eq!(times(&mut bucket, 71, 0)[70], 10_000, "seven a second to the millisecond");
        let mut bucket = Bucket::new(bound("6/min", 1));
        assert_eq!(times(&mut bucket, 3, 0), [0, 10_000, 20_000]);
    }

    #[test]
    fn an_event_that_did_not_reach_the_app_takes_nothing_from_the_rate() {
        let mut bucket = Bucket::new(bound("1/min", 1));
        for now in [0, 10, 20] {
            assert_eq!(bucket.not_before(RunMs(now)), None);
            bucket.take(RunMs(now));
            assert!(bucket.not_before(RunMs(now)).is_some());
            bucket.give_back(RunMs(now));
        }
        assert_eq!(times(&mut bucket, 2, 20), [20, 60_020], "never more than the burst");
    }

    #[test]
    fn without_a_bound_everything_goes_at_once() {
        assert_eq!(times(&mut Bucket::new(None), 3, 5), [5, 5, 5]);
    }

    #[test]
    fn a_bound_that_changes_keeps_what_has_come_together_within_the_new_one() {
        let mut bucket = Bucket::new(bound("1/s", 10));
        bucket.set(bound("60/min", 2));
        assert_eq!(times(&mut bucket, 3, 0), [0, 0, 1_000]);
        bucket.set(None);
        assert_eq!(bucket.not_before(RunMs(1_000)), None);
        bucket.set(bound("1/s", 1));
        assert_eq!(times(&mut bucket, 2, 1_000), [1_000, 2_000]);
    }
}
