//! How many lines of one kind are written.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;

/// Lets so many lines a second through and counts the others.
pub struct LineLimit {
    per_second: u32,
    clock: Arc<dyn Clock>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    second: i64,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// At most so many lines in each second.
    pub fn new(per_second: u32, clock: Arc<dyn Clock>) -> LineLimit {
        LineLimit { per_second, clock, window: Mutex::default() }
    }

    /// Whether to write this line, and how many were left out before it.
    pub fn admit(&self) -> Option<u64> {
        let second = self.clock.uptime_ms() / 1000;
        let mut window = self.window.lock();
        if window.second != second {
            window.second = second;
            window.lines = 0;
        }
        if window.lines >= self.per_second {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn lines_beyond_the_rate_are_counted_and_told_with_the_next() {
        let clock = Arc::new(ManualClock::at_unix_s(0));
        let limit = LineLimit::new(2, clock.clone());
        assert_eq!([limit.admit(), limit.admit(), limit.admit(), limit.admit()], [Some(0), Some(0), None, None]);
        clock.advance(Duration::from_secs(1));
        assert_eq!([limit.admit(), limit.admit()], [Some(2), Some(0)]);
    }
}
