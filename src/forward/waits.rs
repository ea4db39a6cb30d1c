//! The reason for which a stored event waits, as operators see it. Pure: time is handed in.

use crate::clock::RunMs;

/// A reason for which an event is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An operator has paused its route.
    Pause,
    /// Its route is gone, and there is no top-level upstream.
    Upstream,
    /// The app wants to be left alone (`Retry-After`).
    Hold,
    /// The app is down.
    Breaker,
    /// It has failed, and is not due again yet.
    Retry,
    /// An earlier event of its key.
    Order,
    /// The app has had what its rate allows.
    Rate,
    /// Others have the slots, or come first.
    Slot,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 8] = [
        Reason::Pause,
        Reason::Upstream,
        Reason::Hold,
        Reason::Breaker,
        Reason::Retry,
        Reason::Order,
        Reason::Rate,
        Reason::Slot,
    ];

    /// As in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Pause => "pause",
            Reason::Upstream => "upstream",
            Reason::Hold => "hold",
            Reason::Breaker => "breaker",
            Reason::Retry => "retry",
            Reason::Order => "order",
            Reason::Rate => "rate",
            Reason::Slot => "slot",
        }
    }
}

/// The wait of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Its reason.
    pub reason: Reason,
    /// When it may be sent at the earliest, as far as is known.
    pub until: Option<RunMs>,
}

/// The reasons that all events of a route share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stops {
    /// Its pause: the inner `None` has no end.
    pub pause: Option<Option<RunMs>>,
    /// It has no app.
    pub has_no_upstream: bool,
    /// Until when the app wants to be left alone.
    pub held_until: Option<RunMs>,
    /// When an app that is down is tried next.
    pub probe_at: Option<RunMs>,
    /// When the rate allows the next attempt, if not now.
    pub rate_until: Option<RunMs>,
}

impl Stops {
    /// The wait of an event that is due then: of several reasons, the one that ends last.
    pub fn wait(&self, due: RunMs, is_behind: bool, now: RunMs) -> Wait {
        let until = |reason, until: Option<RunMs>| Wait { reason, until: until.map(|until| until.max(due)) };
        let stop = self.held_until.map(|until| (Reason::Hold, until));
        let stop = stop.or(self.probe_at.map(|until| (Reason::Breaker, until)));
        match (self.pause, stop) {
            (Some(end), _) => until(Reason::Pause, end),
            (None, _) if self.has_no_upstream => until(Reason::Upstream, None),
            (None, Some((reason, end))) if end >= due => until(reason, Some(end)),
            _ if due > now => until(Reason::Retry, Some(due)),
            (None, Some((reason, end))) => until(reason, Some(end)),
            _ if is_behind => until(Reason::Order, Some(due)),
            _ if self.rate_until.is_some() => until(Reason::Rate, self.rate_until),
            _ => until(Reason::Slot, Some(due)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: RunMs = RunMs(1_000);

    fn reason(stops: Stops, due: i64, is_behind: bool) -> (&'static str, Option<i64>) {
        let Wait { reason, until } = stops.wait(RunMs(due), is_behind, NOW);
        (reason.name(), until.map(|until| until.0))
    }

    #[test]
    fn an_event_waits_for_what_ends_last() {
        let none = Stops::default();
        let held = Stops { held_until: Some(RunMs(9_000)), ..none };
        let down = Stops { probe_at: Some(RunMs(2_000)), ..none };
        assert_eq!(reason(none, 0, false), ("slot", Some(0)));
        assert_eq!(reason(none, 0, true), ("order", Some(0)));
        assert_eq!(reason(Stops { rate_until: Some(RunMs(1_050)), ..none }, 0, false), ("rate", Some(1_050)));
        assert_eq!(reason(none, 5_000, true), ("retry", Some(5_000)));
        assert_eq!(reason(held, 5_000, true), ("hold", Some(9_000)));
        assert_eq!(reason(held, 10_000, false), ("retry", Some(10_000)));
        assert_eq!(reason(down, 500, false), ("breaker", Some(2_000)));
        assert_eq!(reason(down, 5_000, false), ("retry", Some(5_000)));
        assert_eq!(reason(Stops { probe_at: Some(RunMs(900)), ..none }, 950, false), ("breaker", Some(950)));
        assert_eq!(reason(Stops { pause: Some(None), ..held }, 5_000, false), ("pause", None));
        assert_eq!(reason(Stops { pause: Some(Some(RunMs(2_000))), ..held }, 5_000, false), ("pause", Some(5_000)));
        assert_eq!(reason(Stops { has_no_upstream: true, ..none }, 5_000, false), ("upstream", None));
    }
}
