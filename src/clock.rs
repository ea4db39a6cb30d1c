//! The only reader of time: everything else is handed a [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from. Two clocks, for two questions: the wall clock judges a sender's
/// timestamp, the running time ages what is stored.
pub trait Clock: Send + Sync {
    /// Wall clock, milliseconds since the Unix epoch, UTC. May jump.
    fn unix_ms(&self) -> i64;

    /// Milliseconds this process has been running. Never jumps, stops with the process.
    fn uptime_ms(&self) -> i64 {
        self.uptime_us() / 1000
    }

    /// The same in microseconds, for measuring.
    fn uptime_us(&self) -> i64;
}

/// Milliseconds that hookward has been running on this data directory, over all its restarts.
///
/// Retries, dead letters and duplicates age by it, so that neither a clock step nor a downtime
/// expires anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct RunMs(pub i64);

impl RunMs {
    /// This much later.
    pub fn plus(self, by: Duration) -> Self {
        RunMs(self.0.saturating_add(duration_ms(by)))
    }

    /// How long after `earlier` this is; zero if before.
    pub fn since(self, earlier: RunMs) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A duration in whole milliseconds, saturating.
pub fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The running time over restarts: what the buffer remembered, plus this process's uptime.
pub struct RunClock<'a> {
    /// Reads the uptime.
    pub clock: &'a dyn Clock,
    /// What earlier runs have added up to.
    pub base: RunMs,
}

impl RunClock<'_> {
    /// The running time now.
    pub fn now(&self) -> RunMs {
        RunMs(self.base.0.saturating_add(self.clock.uptime_ms()))
    }
}

/// The machine's clocks.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose uptime starts now.
    #[allow(clippy::new_without_default, reason = "reads the time, so not a default value")]
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn new() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    fn unix_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => duration_ms(since),
            Err(before) => -duration_ms(before.duration()),
        }
    }

    fn uptime_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

/// A clock that stands still until it is told to move; for tests of boundaries.
#[derive(Default)]
pub struct ManualClock {
    unix_ms: AtomicI64,
    uptime_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows this wall time, with no uptime.
    pub fn at_unix_s(seconds: i64) -> Self {
        ManualClock { unix_ms: AtomicI64::new(seconds * 1000), uptime_ms: AtomicI64::new(0) }
    }

    /// Sets the wall clock, as an administrator or NTP does.
    pub fn step_to_unix_s(&self, seconds: i64) {
        self.unix_ms.store(seconds * 1000, Ordering::SeqCst);
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.unix_ms.fetch_add(duration_ms(by), Ordering::SeqCst);
        self.uptime_ms.fetch_add(duration_ms(by), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> i64 {
        self.unix_ms.load(Ordering::SeqCst)
    }

    fn uptime_us(&self) -> i64 {
        self.uptime_ms.load(Ordering::SeqCst) * 1000
    }
}

/// A wall time as RFC 3339, UTC, with milliseconds: `2026-11-24T08:15:00.123Z`.
pub fn rfc3339_ms(unix_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// A wall time as RFC 3339, UTC, to the second: `2026-11-24T08:15:00Z`; before 1970 the first second of that year.
pub fn rfc3339_s(unix_s: i64) -> String {
    const LAST_S: u64 = 253_402_300_799;
    let since = Duration::from_secs(u64::try_from(unix_s).unwrap_or(0).min(LAST_S));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// Reads RFC 3339 with any offset, `2026-11-24T08:15:00.123+01:00`: microseconds since the Unix
/// epoch; finer digits are dropped.
pub fn rfc3339_us(text: &str) -> Option<i64> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let unsigned = |range: std::ops::Range<usize>| date_time.get(range)?.parse::<u16>().ok().map(i64::from);
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| date_time.as_bytes()[*at] != *byte) || !text.is_ascii() {
        return None;
    }
    let (year, month, day) = (unsigned(0..4)?, unsigned(5..7)?, unsigned(8..10)?);
    let (hour, minute, second) = (unsigned(11..13)?, unsigned(14..16)?, unsigned(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (fraction, zone) = rest.split_at(zone);
    let digits: String =
        fraction.strip_prefix('.').unwrap_or_default().chars().chain("000000".chars()).take(6).collect();
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some((seconds - offset_s(zone)?) * 1_000_000 + digits.parse::<i64>().ok()?)
}

/// `Z`, `+01:00`.
fn offset_s(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2).map(i64::from);
    Some(sign * (number(hours)? * 60 + number(minutes)?) * 60)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, whose years begin in March here, so
/// that the leap day is their last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_is_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(rfc3339_ms(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339_ms(-5), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_wall_time_to_the_second_ends_with_the_year_9999() {
        assert_eq!(rfc3339_s(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_s(-5), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_s(i64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn rfc_3339_is_read_with_any_offset() {
        for (text, us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123_000),
            ("2023-11-14T22:13:20.123456789+00:00", 1_700_000_000_123_456),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000_000),
            ("2023-11-14T17:43:20-04:30", 1_700_000_000_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            ("2024-03-01T00:00:00Z", 1_709_251_200_000_000),
            ("1969-12-31T23:59:59.5Z", -500_000),
        ] {
            assert_eq!(rfc3339_us(text), Some(us), "{text}");
        }
        for ms in [0, 951_782_400_000, 1_709_251_199_999, 4_102_444_800_001] {
            assert_eq!(rfc3339_us(&rfc3339_ms(ms)), Some(ms * 1000));
        }
        for bad in ["", "soon", "2023-11-14", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20.1.2Z"]
            .into_iter()
            .chain(["2023-11-14T22:13:20+1:00", "2023-11-14T22:13:20+aa:00", "2023-11-14T2ä:13:20Z"])
        {
            assert_eq!(rfc3339_us(bad), None, "{bad}");
        }
    }

    #[test]
    fn running_time_goes_on_from_where_the_last_run_ended() {
        let clock = ManualClock::at_unix_s(0);
        let run = RunClock { clock: &clock, base: RunMs(5_000) };
        clock.advance(Duration::from_secs(1));
        assert_eq!(run.now(), RunMs(6_000));
        assert_eq!(run.now().since(RunMs(5_500)), Duration::from_millis(500));
        assert_eq!(RunMs(1).since(RunMs(2)), Duration::ZERO);
    }
}
