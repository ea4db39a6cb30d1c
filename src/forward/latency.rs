//! How long the attempts of one kind take, and how many times their normal that is. Pure.
//!
//! Followed is the lower quartile, not the mean: where an app has too much at once, all attempts
//! wait and the quartile rises with them, while a few that take long by nature leave it where it is.

use std::time::Duration;

/// The share of attempts that are quicker than what is followed.
const QUANTILE: f64 = 0.25;
/// The largest part by which one attempt moves it.
const STEP: f64 = 1.0 / 8.0;
/// Weight of a new attempt in the average time that it takes up a slot.
const WEIGHT: f64 = 1.0 / 8.0;
/// A latency above normal by less than this is noise of our own, microseconds.
const NOISE_US: f64 = 3_000.0;

/// The latencies of one kind.
#[derive(Debug, Default)]
pub struct Latency {
    /// Of attempts that were as good as alone; never above that of all.
    normal_us: Option<f64>,
    recent_us: f64,
    /// The average time that a slot is taken up, with what never was answered.
    slot_us: Option<f64>,
}

impl Latency {
    /// Takes an answer in; returns how many times the normal the latest ones are.
    pub fn note_answer(&mut self, took: Duration, is_alone: bool) -> f64 {
        let sample_us = micros(took);
        let Some(normal_us) = &mut self.normal_us else {
            self.normal_us = Some(sample_us);
            self.recent_us = sample_us;
            return 1.0;
        };
        follow(&mut self.recent_us, sample_us);
        if is_alone {
            follow(normal_us, sample_us);
        }
        *normal_us = normal_us.min(self.recent_us);
        self.slowness()
    }

    /// Takes in an attempt that was not answered in time.
    pub fn note_timeout(&mut self, took: Duration) -> f64 {
        let sample_us = micros(took);
        if self.normal_us.is_some() {
            follow(&mut self.recent_us, sample_us);
        }
        self.slowness()
    }

    /// How many times the normal the latest ones are, 1 if that is within the noise.
    pub fn slowness(&self) -> f64 {
        match self.normal_us {
            Some(normal_us) if self.recent_us - normal_us >= NOISE_US => self.recent_us / normal_us,
            _ => 1.0,
        }
    }

    /// For how long an attempt takes up a slot on average, microseconds.
    pub fn slot_us(&self) -> Option<f64> {
        self.slot_us
    }

    /// An attempt has taken up a slot for so long, whatever came of it.
    pub fn note_slot(&mut self, took: Duration) {
        let average_us = self.slot_us.get_or_insert(micros(took));
        *average_us += (micros(took) - *average_us) * WEIGHT;
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

/// Moves an estimate of the quantile by one sample, and not past it.
fn follow(estimate_us: &mut f64, sample_us: f64) {
    *estimate_us = match sample_us < *estimate_us {
        true => (*estimate_us * (1.0 - STEP * (1.0 - QUANTILE))).max(sample_us),
        // Above zero: a time of zero would stay zero.
        false => (estimate_us.max(1.0) * (1.0 + STEP * QUANTILE)).min(sample_us.max(1.0)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(10);

    #[test]
    fn a_third_that_takes_long_by_nature_is_not_slowness() {
        let mut latency = Latency::default();
        for n in 0..1000 {
            let took = if n % 3 == 0 { QUICK * 500 } else { QUICK };
            let slowness = latency.note_answer(took, n % 7 == 0);
            assert!(slowness < 1.3, "{slowness} after {n}");
        }
    }

    #[test]
    fn all_of_them_twice_as_long_is() {
        let mut latency = Latency::default();
        for _ in 0..100 {
            latency.note_answer(QUICK, true);
        }
        let slowness = (0..50).map(|_| latency.note_answer(QUICK * 2, false)).last();
        assert!(slowness.unwrap() > 1.6, "{slowness:?}");
        let slowness = (0..50).map(|_| latency.note_answer(QUICK * 2, true)).last();
        assert!(slowness.unwrap() < 1.15, "alone, that is the new normal: {slowness:?}");
    }

    #[test]
    fn a_few_that_hang_count_for_the_slots_and_not_for_the_slowness() {
        let mut latency = Latency::default();
        for n in 0..200 {
            latency.note_slot(if n % 10 == 0 { QUICK * 1000 } else { QUICK });
            match n % 10 {
                0 => latency.note_timeout(QUICK * 1000),
                _ => latency.note_answer(QUICK, true),
            };
        }
        assert!(latency.slowness() < 1.3, "{}", latency.slowness());
        assert!(latency.slot_us().unwrap() > 500_000.0);
    }
}
