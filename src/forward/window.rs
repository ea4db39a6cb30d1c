//! How many attempts may be under way at once: additive increase, multiplicative decrease, with a
//! slow start and an eye on the latency. Pure.
//!
//! Latency tells before an answer does that an app has enough. How many times the normal it is comes
//! from outside (`latency.rs`), by kind of event. A window that is worked at several times the normal
//! shrinks, until the latency is normal again or the window so small that its latency is the new
//! normal.

/// Attempts at once (itself included) up to which an attempt counts as alone.
pub const ALONE: usize = 2;
/// Beyond this multiple of the normal latency the window shrinks.
const SLOW: f64 = 1.6;
/// Below this multiple it may grow.
pub const FAST: f64 = 1.3;
/// Below this multiple, of attempts that are alone, the normal is learnt and it may grow.
const LEARNT: f64 = 1.15;
/// What is left of the window after an answer that asks for less.
const CUT_BUSY: f64 = 0.5;
/// What is left of it when the app has become slow.
const CUT_SLOW: f64 = 0.9;

/// The window of one app, or of one kind of its events.
#[derive(Debug)]
pub struct Window {
    max: f64,
    limit: f64,
    /// Up to here it doubles.
    threshold: f64,
    /// Good answers since it last grew.
    good: f64,
    /// Goes up with every cut, so that one cause cuts once.
    epoch: u32,
}

/// What an attempt remembers of the window that it began in.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    epoch: u32,
    /// Attempts under way, itself included.
    alongside: usize,
}

impl Window {
    /// Half open: whether the app is slow is not known yet, and usually it is not.
    pub fn new(max: usize) -> Window {
        let mut window = Window::open(max);
        window.limit = (window.max / 2.0).max(1.0);
        window
    }

    /// Open: it is no bound until something has cut it.
    pub fn open(max: usize) -> Window {
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let max = max.max(1) as f64;
        Window { max, limit: max, threshold: max, good: 0.0, epoch: 0 }
    }

    /// It may grow to so many from now on, quickly up to half of that, and is no more.
    pub fn set_max(&mut self, max: usize) {
        self.max = Window::open(max).max;
        self.limit = self.limit.min(self.max);
        self.threshold = (self.max / 2.0).max(1.0);
    }

    /// Attempts that may be under way at once, at least one.
    pub fn limit(&self) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and max")]
        let limit = self.limit as usize;
        limit
    }

    /// Slow start: the app is back, and may not bear everything at once.
    pub fn restart(&mut self) {
        self.limit = 1.0;
        self.threshold = (self.max / 2.0).max(1.0);
        self.forget();
    }

    /// An attempt begins, as one of so many.
    pub fn begin(&self, alongside: usize) -> Begun {
        Begun { epoch: self.epoch, alongside }
    }

    /// An attempt has been answered, at so many times the normal.
    pub fn note_answer(&mut self, begun: Begun, slowness: f64, is_alone: bool) {
        if slowness > SLOW && !is_alone {
            return self.cut(CUT_SLOW, begun);
        }
        // A window that nobody fills tells nothing about its size. The backlog fills half of it.
        let filled = begun.alongside * 2 + 1 >= self.limit();
        if filled && begun.epoch == self.epoch {
            self.good += 1.0;
        }
        if self.good >= self.limit.floor() && slowness < if is_alone { LEARNT } else { FAST } {
            let doubled = (self.limit * 2.0).min(self.threshold);
            let grown = if self.limit < self.threshold { doubled } else { self.limit + 1.0 };
            self.limit = grown.min(self.max);
            self.good = 0.0;
        }
    }

    /// An attempt shows that it was too much at once.
    pub fn cut_busy(&mut self, begun: Begun) {
        self.cut(CUT_BUSY, begun);
    }

    fn cut(&mut self, to: f64, begun: Begun) {
        if begun.epoch != self.epoch {
            return;
        }
        self.limit = (self.limit * to).max(1.0);
        self.threshold = self.limit;
        self.forget();
    }

    fn forget(&mut self) {
        self.good = 0.0;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::latency::Latency;
    use super::super::signal::Signal;
    use super::*;

    const FAST_APP: Duration = Duration::from_millis(10);

    /// A window, and the latencies of the only kind of events.
    struct Bench {
        window: Window,
        latency: Latency,
    }

    impl Bench {
        fn new(max: usize) -> Bench {
            Bench { window: Window::new(max), latency: Latency::default() }
        }

        fn limit(&self) -> usize {
            self.window.limit()
        }

        fn end(&mut self, signal: Signal, begun: Begun, took: Duration) {
            let is_alone = begun.alongside <= ALONE;
            match signal {
                Signal::Good | Signal::Refused => {
                    let slowness = self.latency.note_answer(took, is_alone);
                    self.window.note_answer(begun, slowness, is_alone);
                }
                Signal::Busy | Signal::Timeout => self.window.cut_busy(begun),
                Signal::Failed | Signal::Loop | Signal::Unreachable | Signal::Cut => {}
            }
        }
    }

    /// A full window of answers.
    fn round(bench: &mut Bench, signal: Signal, latency: Duration) {
        let limit = bench.limit();
        let begun: Vec<_> = (1..=limit).map(|alongside| bench.window.begin(alongside.max(limit))).collect();
        for begun in begun {
            bench.end(signal, begun, latency);
        }
    }

    #[test]
    fn after_a_restart_it_doubles_up_to_half_and_grows_by_one_from_there() {
        let mut bench = Bench::new(16);
        bench.window.restart();
        let mut limits = vec![bench.limit()];
        for _ in 0..6 {
            round(&mut bench, Signal::Good, FAST_APP);
            limits.push(bench.limit());
        }
        assert_eq!(limits, [1, 2, 4, 8, 9, 10, 11]);
        for _ in 0..100 {
            round(&mut bench, Signal::Good, FAST_APP);
        }
        assert_eq!(bench.limit(), 16, "and no further");
    }

    #[test]
    fn a_busy_app_halves_it_once_for_all_that_was_under_way() {
        let mut bench = Bench::new(32);
        round(&mut bench, Signal::Busy, FAST_APP);
        assert_eq!(bench.limit(), 8);
        round(&mut bench, Signal::Timeout, FAST_APP);
        assert_eq!(bench.limit(), 4);
        for _ in 0..10 {
            round(&mut bench, Signal::Busy, FAST_APP);
        }
        assert_eq!(bench.limit(), 1, "never nothing");
    }

    #[test]
    fn failures_that_do_not_ask_for_less_leave_it() {
        let mut bench = Bench::new(32);
        for signal in [Signal::Failed, Signal::Unreachable, Signal::Cut] {
            round(&mut bench, signal, FAST_APP);
        }
        assert_eq!(bench.limit(), 16);
        round(&mut bench, Signal::Refused, FAST_APP);
        assert_eq!(bench.limit(), 32, "a refusal is an answer");
    }

    #[test]
    fn a_window_that_is_not_filled_does_not_grow() {
        let mut bench = Bench::new(32);
        for _ in 0..1000 {
            let begun = bench.window.begin(3);
            bench.end(Signal::Good, begun, FAST_APP);
        }
        assert_eq!(bench.limit(), 16);
    }

    /// An app with so many workers: beyond them an attempt waits.
    fn latency(workers: usize, alongside: usize, service: Duration) -> Duration {
        service.mul_f64((alongside as f64 / workers as f64).max(1.0))
    }

    #[test]
    fn it_settles_where_the_app_is_not_slower_than_twice_its_normal() {
        let mut bench = Bench::new(64);
        bench.window.restart();
        let mut worst = Duration::ZERO;
        for n in 0..2000 {
            let slow = latency(8, bench.limit(), FAST_APP);
            round(&mut bench, Signal::Good, slow);
            if n > 20 {
                worst = worst.max(slow);
            }
        }
        assert!(worst <= FAST_APP * 2, "{worst:?}");
        assert!(bench.limit() >= 6, "{} of 8 workers are used", bench.limit());
    }

    #[test]
    fn another_bound_cuts_at_once_and_is_grown_into() {
        let mut bench = Bench::new(16);
        bench.window.set_max(4);
        assert_eq!(bench.limit(), 4);
        bench.window.set_max(32);
        let mut limits = vec![bench.limit()];
        for _ in 0..4 {
            round(&mut bench, Signal::Good, FAST_APP);
            limits.push(bench.limit());
        }
        assert_eq!(limits, [4, 8, 16, 17, 18]);
    }

    #[test]
    fn an_app_that_has_become_slower_for_good_gets_its_window_back() {
        let mut bench = Bench::new(32);
        for _ in 0..50 {
            let begun = bench.window.begin(1);
            bench.end(Signal::Good, begun, FAST_APP);
        }
        round(&mut bench, Signal::Good, FAST_APP);
        assert_eq!(bench.limit(), 32);
        let mut limits = Vec::new();
        for _ in 0..400 {
            round(&mut bench, Signal::Good, FAST_APP * 10);
            limits.push(bench.limit());
        }
        assert!(limits.contains(&2), "it looked whether less at once helps");
        assert_eq!(bench.limit(), 32, "and it did not");
    }
}
