//! Whether an app's address leads back to hookward, and when an operator is told so. Pure.

use std::time::Duration;

use super::signal::Signal;
use crate::clock::RunMs;

/// Least time between two log lines about it.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What the attempts at one app say about loops.
#[derive(Debug, Default)]
pub struct LoopWatch {
    leads_back: bool,
    told: Option<RunMs>,
}

impl LoopWatch {
    /// Notes an attempt; true if a log line about the loop is due.
    pub fn note(&mut self, signal: Signal, now: RunMs) -> bool {
        match signal {
            Signal::Loop => self.leads_back = true,
            // Somebody else has judged the event.
            Signal::Good | Signal::Refused => self.leads_back = false,
            _ => {}
        }
        let is_due = signal == Signal::Loop && self.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }

    /// Whether the last attempt that was judged came back to hookward.
    pub fn leads_back(&self) -> bool {
        self.leads_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_told_at_once_and_then_once_a_minute_until_the_app_answers() {
        let mut watch = LoopWatch::default();
        assert!(!watch.note(Signal::Failed, RunMs(0)) && !watch.leads_back());
        assert!(watch.note(Signal::Loop, RunMs(0)) && watch.leads_back());
        assert!(!watch.note(Signal::Loop, RunMs(59_999)));
        assert!(!watch.note(Signal::Unreachable, RunMs(59_999)) && watch.leads_back());
        assert!(watch.note(Signal::Loop, RunMs(60_000)));
        assert!(!watch.note(Signal::Good, RunMs(60_001)) && !watch.leads_back());
        assert!(!watch.note(Signal::Loop, RunMs(60_002)), "replicas in a ring answer by turns");
        assert!(watch.leads_back());
    }
}
