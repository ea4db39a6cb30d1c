//! For how long an app wants to be left alone (`Retry-After`). Pure: time is handed in.
//!
//! A 503 speaks for the app. A 429 may be about one customer of it, so that it holds the event alone;
//! only several events in a row that get one hold the app.

use std::time::Duration;

use crate::buffer::event::Seq;
use crate::clock::RunMs;

/// Events in a row whose 429 holds the app.
const EVENTS: usize = 3;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The app (503).
    App,
    /// The app, about this event (429).
    About(Seq),
}

/// The wish of one app.
#[derive(Debug)]
pub struct Hold {
    until: RunMs,
    /// Events that were answered 429 since the app took one, each with the end of its own wait.
    about: Vec<(Seq, RunMs)>,
}

impl Hold {
    /// No wish.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> Hold {
        Hold { until: RunMs(0), about: Vec::new() }
    }

    /// When the app may be tried again, if it may not now.
    pub fn until(&self, now: RunMs) -> Option<RunMs> {
        (self.until > now).then_some(self.until)
    }

    /// The app asks for so long. Returns for how long it is held where that is news.
    pub fn ask(&mut self, asks: Asks, wait: Duration, now: RunMs) -> Option<Duration> {
        let is_news = self.until(now).is_none();
        let until = now.plus(wait);
        let until = match asks {
            Asks::App => until,
            Asks::About(seq) => self.asked_about(seq, until, now)?,
        };
        self.until = self.until.max(until);
        self.until(now).filter(|_| is_news).map(|until| until.since(now))
    }

    /// The app is to be tried all the same.
    pub fn end(&mut self) {
        *self = Hold::new();
    }

    /// The app has taken an event.
    pub fn note_taken(&mut self) {
        self.about.clear();
    }

    /// Until when several events have to wait, if there are so many: the shortest of their waits.
    fn asked_about(&mut self, seq: Seq, until: RunMs, now: RunMs) -> Option<RunMs> {
        self.about.retain(|(other, end)| *other != seq && *end > now);
        self.about.truncate(EVENTS - 1);
        self.about.push((seq, until));
        let shortest = self.about.iter().map(|(_, end)| *end).min();
        shortest.filter(|_| self.about.len() >= EVENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_503_holds_the_app_and_the_longest_wish_counts() {
        let mut hold = Hold::new();
        assert_eq!(hold.ask(Asks::App, MINUTE, RunMs(0)), Some(MINUTE));
        assert_eq!(hold.ask(Asks::App, MINUTE / 2, RunMs(10)), None, "no news");
        assert_eq!(hold.until(RunMs(59_999)), Some(RunMs(60_000)));
        assert_eq!(hold.until(RunMs(60_000)), None);
    }

    #[test]
    fn a_429_of_one_event_holds_nothing_else_however_often_it_comes() {
        let mut hold = Hold::new();
        for n in 0..10 {
            assert_eq!(hold.ask(Asks::About(Seq(7)), MINUTE, RunMs(n)), None);
        }
        assert_eq!(hold.until(RunMs(10)), None);
    }

    #[test]
    fn a_429_of_several_events_in_a_row_holds_the_app_for_the_shortest_wait() {
        let mut hold = Hold::new();
        let ask = |hold: &mut Hold, seq, wait| hold.ask(Asks::About(Seq(seq)), wait, RunMs(0));
        assert_eq!(ask(&mut hold, 1, MINUTE), None);
        assert_eq!(ask(&mut hold, 2, MINUTE), None);
        hold.note_taken();
        assert_eq!(ask(&mut hold, 3, MINUTE * 9), None, "the app has taken one between");
        assert_eq!(ask(&mut hold, 4, MINUTE), None);
        assert_eq!(ask(&mut hold, 5, MINUTE * 9), Some(MINUTE));
    }
}
