//! The end of a connection that works: after some time, or a number of exchanges.
//!
//! A load balancer in front of an app shares connections, not requests: one that is used for ever pins
//! its replica, and a new replica gets nothing.

use std::time::Duration;

use tokio::time::Instant;

/// The limits of a connection's use; each connection gets between three quarters of them and all, so
/// that those opened together do not end together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From connecting on; the exchange that ends later is the last.
    pub age: Duration,
    /// Exchanges over it.
    pub exchanges: u32,
}

impl Lifetime {
    /// Unless configured. At 20 events a second a connection ends after 2.5 s on average, so that a new
    /// replica has its share within a quarter of a minute; one connection in 44 exchanges costs little.
    pub const DEFAULT: Lifetime = Lifetime { age: Duration::from_secs(3), exchanges: 50 };
}

/// The rest of a connection's use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    ends: Instant,
    exchanges_left: u32,
}

impl Life {
    /// Of a connection that is being opened. `random` is in 0..1.
    pub(super) fn new(limits: Lifetime, random: f32, now: Instant) -> Life {
        let part = 1.0 - random / 4.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the count")]
        let exchanges_left = (f64::from(limits.exchanges) * f64::from(part)).ceil() as u32;
        Life { ends: now + limits.age.mul_f32(part), exchanges_left }
    }

    /// After one more exchange; `None` if it was the last.
    pub(super) fn after_exchange(self, now: Instant) -> Option<Life> {
        let exchanges_left = self.exchanges_left.saturating_sub(1);
        (exchanges_left > 0 && now < self.ends).then_some(Life { exchanges_left, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_ends_after_its_age_or_its_exchanges_with_a_jitter_of_a_quarter() {
        let now = Instant::now();
        let limits = Lifetime { age: Duration::from_secs(4), exchanges: 8 };
        for (random, exchanges, age_s) in [(0.0, 8, 4), (0.999, 7, 3)] {
            let mut life = Life::new(limits, random, now);
            for _ in 1..exchanges {
                life = life.after_exchange(now).unwrap();
            }
            assert!(life.after_exchange(now).is_none(), "the last of {exchanges}");
            let life = Life::new(limits, random, now);
            assert!(life.after_exchange(now + Duration::from_millis(age_s * 1000 - 1)).is_some());
            assert!(life.after_exchange(now + Duration::from_millis(age_s * 1000 + 2)).is_none());
        }
    }
}
