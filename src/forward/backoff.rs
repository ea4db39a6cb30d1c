//! When to try again: pure arithmetic, no clock.

use std::time::Duration;

/// Backoff of failed attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Bound of the first wait; doubles with each attempt.
    pub base: Duration,
    /// Bound of every wait.
    pub max: Duration,
    /// Running time after which an undelivered event is dead.
    pub max_age: Duration,
    /// Attempts for an answer that says the request itself is wrong (3xx, most 4xx).
    pub client_errors: u32,
}

/// Longest that an app's `Retry-After` is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// About when the second, third, … attempt follows a client error: quick enough for a deploy that
/// was rolled back, slow enough for a person to look. The last one repeats.
const CLIENT_ERROR_WAITS_S: [u64; 7] = [1, 15, 120, 420, 900, 1200, 1200];

impl Retry {
    /// The wait after `attempts` sends that had no answer or one that says "later": full jitter,
    /// uniform between zero and the doubling bound, so that a herd spreads out.
    ///
    /// `random` is uniform in `[0, 1)`.
    pub fn wait(&self, attempts: u32, random: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(32);
        let bound = self.base.saturating_mul(2u32.saturating_pow(doublings)).min(self.max);
        bound.mul_f64(random)
    }

    /// The wait after `attempts` sends that were answered by a client error, within a fifth of the
    /// schedule; `None` when that was the last.
    pub fn client_error_wait(&self, attempts: u32, random: f64) -> Option<Duration> {
        if attempts >= self.client_errors {
            return None;
        }
        let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let seconds = CLIENT_ERROR_WAITS_S[step.min(CLIENT_ERROR_WAITS_S.len() - 1)];
        Some(Duration::from_secs(seconds).mul_f64(0.9 + 0.2 * random))
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 §10.2.3), at most [`RETRY_AFTER_MAX`].
pub fn retry_after(value: &str, now_unix_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let at = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let now = Duration::from_millis(u64::try_from(now_unix_ms).ok()?);
    Some(at.saturating_sub(now).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry {
            base: Duration::from_millis(500),
            max: Duration::from_secs(300),
            max_age: Duration::from_secs(72 * 3600),
            client_errors: 8,
        }
    }

    #[test]
    fn the_wait_is_anywhere_below_a_doubling_bound() {
        assert_eq!(retry().wait(1, 0.0), Duration::ZERO);
        assert_eq!(retry().wait(1, 0.5), Duration::from_millis(250));
        assert_eq!(retry().wait(3, 0.5), Duration::from_secs(1));
        assert_eq!(retry().wait(1000, 0.5), Duration::from_secs(150), "never beyond max");
    }

    #[test]
    fn client_errors_end_after_about_an_hour() {
        let mut total = Duration::ZERO;
        for attempts in 1..8 {
            total += retry().client_error_wait(attempts, 0.5).unwrap();
        }
        assert!((3000..4500).contains(&total.as_secs()), "{total:?}");
        assert_eq!(retry().client_error_wait(8, 0.5), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        let now_ms = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(retry_after(" 7 ", now_ms), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("86400", now_ms), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now_ms), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now_ms), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now_ms), None);
        assert_eq!(retry_after("-1", now_ms), None);
    }
}
