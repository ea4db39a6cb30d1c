//! The share of the workers' time in which signatures are checked that most likely fail. Who comes when it is used up
//! waits in turn: nobody is refused for it, unless the wait is longer than a sender's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::rejection::Rejection;

/// One quarter of the time.
const PARTS: i64 = 4;
/// Time that may be saved up while nobody needs it, so that a few at once do not wait.
const SAVED_MAX_US: i64 = 100_000;
/// Longest wait for a turn: senders give up after two seconds.
const WAIT_MAX_US: i64 = 1_000_000;
/// What a check is expected to take before the first has been timed.
const CHECK_US: i64 = 50;
/// The weight of one check in their average.
const AVERAGED_OVER: i64 = 16;

/// Time of checking against time that passes: the generic cell rate algorithm, for all workers together.
#[derive(Debug)]
pub struct CheckShare {
    /// Passing time for each microsecond of checking.
    per_check_us: f64,
    /// When the checks so far are paid for, microseconds of the caller's clock.
    paid_until_us: AtomicI64,
    /// What a check takes, averaged.
    check_us: AtomicI64,
}

/// Leave to check one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How long to wait before it.
    pub wait: Duration,
    charged_us: i64,
}

impl CheckShare {
    /// A share of the time of so many workers.
    pub fn new(workers: usize) -> CheckShare {
        #[allow(clippy::cast_precision_loss, reason = "few workers")]
        let per_check_us = PARTS as f64 / workers.max(1) as f64;
        CheckShare { per_check_us, paid_until_us: AtomicI64::new(i64::MIN / 2), check_us: AtomicI64::new(CHECK_US) }
    }

    /// The next turn.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`]: so many wait that the sender would have given up.
    pub fn turn(&self, now_us: i64) -> Result<Turn, Rejection> {
        let charged_us = self.check_us.load(Ordering::Relaxed);
        let begin = |paid_until_us: i64| paid_until_us.max(now_us - SAVED_MAX_US);
        let paid = self.paid_until_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_until_us| {
            let begin_us = begin(paid_until_us);
            (begin_us - now_us <= WAIT_MAX_US).then(|| begin_us + self.passing_us(charged_us))
        });
        let wait_us = begin(paid.map_err(|_| Rejection::Overloaded)?) - now_us;
        Ok(Turn { wait: Duration::from_micros(wait_us.try_into().unwrap_or(0)), charged_us })
    }

    /// Corrects what a turn was charged by what its check has taken.
    pub fn settle(&self, turn: Turn, took_us: i64) {
        self.paid_until_us.fetch_add(self.passing_us(took_us - turn.charged_us), Ordering::Relaxed);
        let average = |check_us: i64| Some((check_us * (AVERAGED_OVER - 1) + took_us) / AVERAGED_OVER);
        let _ = self.check_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, average);
    }

    fn passing_us(&self, check_us: i64) -> i64 {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "seconds at most")]
        let passing_us = (check_us as f64 * self.per_check_us) as i64;
        passing_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks of `took_us` each, by clients that send again as soon as they are answered; how many in a second.
    fn checks_in_a_second(workers: usize, took_us: i64, clients: usize) -> usize {
        let share = CheckShare::new(workers);
        let mut free_at_us = vec![0i64; clients];
        let mut checked = 0;
        loop {
            let next = (0..clients).min_by_key(|client| free_at_us[*client]).unwrap();
            let now_us = free_at_us[next];
            if now_us >= 1_000_000 {
                return checked;
            }
            let turn = share.turn(now_us).unwrap();
            share.settle(turn, took_us);
            let begins_us = now_us + i64::try_from(turn.wait.as_micros()).unwrap();
            free_at_us[next] = begins_us + took_us;
            checked += usize::from(begins_us < 1_000_000);
        }
    }

    #[test]
    fn checks_take_a_quarter_of_the_time_of_all_workers_whatever_one_takes() {
        for (workers, took_us) in [(1, 40), (2, 40), (4, 40), (2, 400), (2, 3_000)] {
            let checked = checks_in_a_second(workers, took_us, 50);
            #[allow(clippy::cast_precision_loss, reason = "a share")]
            let share = (checked as f64 * took_us as f64) / (1e6 * workers as f64);
            assert!((0.22..0.31).contains(&share), "{workers} workers, {took_us} us: {share}");
        }
    }

    #[test]
    fn two_thousand_a_second_do_not_wait() {
        let share = CheckShare::new(1);
        for n in 0..20_000 {
            let turn = share.turn(n * 500).unwrap();
            assert_eq!(turn.wait, Duration::ZERO, "{n}");
            share.settle(turn, 50);
        }
    }

    #[test]
    fn nobody_waits_longer_than_a_sender_does() {
        let share = CheckShare::new(1);
        let waits: Vec<_> = std::iter::from_fn(|| share.turn(0).ok()).map(|turn| turn.wait).collect();
        assert!(waits.is_sorted() && *waits.last().unwrap() <= Duration::from_micros(1_000_000));
        assert!(waits.len() > 5_000, "{}", waits.len());
        assert_eq!(share.turn(0), Err(Rejection::Overloaded));
        assert!(share.turn(10_000).is_ok(), "time has passed");
    }
}
