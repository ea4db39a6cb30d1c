//! How the attempts of one kind ended within the last seconds. Pure.

use crate::clock::RunMs;

/// Seconds over which attempts are counted.
const RECENT_S: usize = 10;

/// Attempts, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub all: u32,
    /// Those that failed.
    pub failed: u32,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.all += other.all;
        self.failed += other.failed;
    }

    fn is_mostly_failed(self) -> bool {
        self.failed * 2 >= self.all
    }
}

/// Attempts by the second in which they ended.
#[derive(Debug, Default)]
pub struct Tally {
    /// First attempts and later ones, of the second that is this index modulo the length.
    seconds: [[Count; 2]; RECENT_S],
    newest_s: i64,
}

impl Tally {
    /// Counts an attempt.
    pub fn count(&mut self, is_first: bool, failed: bool, now: RunMs) {
        self.pass(now);
        let count = &mut self.seconds[index(self.newest_s)][usize::from(is_first)];
        count.add(Count { all: 1, failed: u32::from(failed) });
    }

    /// All of the last seconds.
    pub fn sum(&mut self, now: RunMs) -> Count {
        let [again, first] = self.sums(now);
        let mut sum = first;
        sum.add(again);
        sum
    }

    /// Whether half of them failed, and half of the first attempts among them too: retries of what
    /// has failed before do not outvote what is new.
    pub fn is_failing(&mut self, now: RunMs) -> bool {
        let [_, first] = self.sums(now);
        let all = self.sum(now);
        all.all > 0 && all.is_mostly_failed() && first.is_mostly_failed()
    }

    /// Whether any ended within the last seconds, and most of them well.
    pub fn is_well(&mut self, now: RunMs) -> bool {
        self.sum(now).all > 0 && !self.is_failing(now)
    }

    fn sums(&mut self, now: RunMs) -> [Count; 2] {
        self.pass(now);
        let mut sums = [Count::default(); 2];
        for second in &self.seconds {
            sums[0].add(second[0]);
            sums[1].add(second[1]);
        }
        sums
    }

    fn pass(&mut self, now: RunMs) {
        let now_s = now.0 / 1000;
        let passed = usize::try_from(now_s - self.newest_s).unwrap_or(0).min(RECENT_S);
        for step in 0..passed {
            let second = now_s - i64::try_from(step).unwrap_or(0);
            self.seconds[index(second)] = Default::default();
        }
        self.newest_s = self.newest_s.max(now_s);
    }
}

fn index(second: i64) -> usize {
    usize::try_from(second).unwrap_or(0) % RECENT_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_ten_seconds_does_not_count() {
        let mut tally = Tally::default();
        for _ in 0..5 {
            tally.count(true, true, RunMs(999));
        }
        assert!(tally.is_failing(RunMs(9_999)));
        assert_eq!(tally.sum(RunMs(10_000)), Count::default());
        tally.count(true, false, RunMs(10_000));
        assert!(tally.is_well(RunMs(19_999)) && !tally.is_well(RunMs(20_000)));
    }

    #[test]
    fn retries_do_not_outvote_first_attempts() {
        let mut tally = Tally::default();
        for _ in 0..30 {
            tally.count(false, true, RunMs(0));
        }
        assert!(tally.is_failing(RunMs(0)), "nothing else was tried");
        tally.count(true, false, RunMs(0));
        assert!(tally.is_well(RunMs(0)));
        for _ in 0..2 {
            tally.count(true, true, RunMs(0));
        }
        assert!(tally.is_failing(RunMs(0)));
    }
}
