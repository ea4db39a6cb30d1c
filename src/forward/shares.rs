//! The share of an app's slots that each kind of events may have, and how each kind does. Pure.
//!
//! A kind whose attempts take up their slots much longer than those of another kind is slow, and so
//! is one of which that is not known yet: all slow kinds together leave a quarter of the slots to the
//! others. Any kind leaves one. And a kind that is too much for its handler, while others are well,
//! gets a window of its own.

use std::time::Duration;

use super::kind::Kind;
use super::latency::Latency;
use super::scheduler::Class;
use super::signal::Signal;
use super::tally::Tally;
use super::window::{ALONE, Begun, FAST, Window};
use crate::clock::RunMs;

/// An attempt that takes up its slot for less than this keeps nobody waiting for long.
const SLOW_US: f64 = 250_000.0;
/// A slow kind takes at least so many times as long as the quickest.
const SLOW_TIMES: f64 = 4.0;
/// Attempts of all kinds within the seconds of a tally below which a share says nothing.
const JUDGED_MIN: u32 = 20;
/// The app counts as down only if fewer than one kind in so many is well.
const KINDS_PER_WELL: usize = 4;
/// Seconds after which a latency says nothing of now.
const LATENCY_HOLDS: Duration = Duration::from_secs(2);
/// Least time between two events of a kind that come back for their turn.
const TURN_MIN: Duration = Duration::from_millis(10);
/// Longest time after which an event that had no turn comes back.
const TURN_MAX: Duration = Duration::from_secs(60);

/// In a smaller window a kind that is not slow leaves no slot to the others.
const LEAVES_ONE_FROM: usize = 4;

/// How many of so many slots all slow kinds may have.
fn slow_share(slots: usize) -> usize {
    (slots * 3 / 4).max(1)
}

/// One kind.
#[derive(Debug)]
struct Share {
    under_way: usize,
    /// Of these, what has waited in the buffer.
    backlog: usize,
    window: Window,
    latency: Latency,
    answered_at: RunMs,
    tally: Tally,
    /// When one of its attempts ended last, or began after there was none.
    progress_at: RunMs,
    /// Until when the turns of what had to wait are taken.
    turns_until: RunMs,
    /// Since the breaker opened.
    failed_probes: u32,
}

impl Share {
    fn new(max: usize) -> Share {
        Share {
            under_way: 0,
            backlog: 0,
            window: Window::open(max),
            latency: Latency::default(),
            answered_at: RunMs(0),
            tally: Tally::default(),
            progress_at: RunMs(0),
            turns_until: RunMs(0),
            failed_probes: 0,
        }
    }
}

/// What an attempt remembers of its begin.
#[derive(Debug, Clone, Copy)]
pub struct Began {
    own: Begun,
    /// Whether it was as good as alone, but for what is slow by nature.
    is_alone: bool,
}

/// All kinds of one app.
#[derive(Debug)]
pub struct Shares {
    max: usize,
    /// By kind.
    shares: Vec<Share>,
    /// The shortest time that a kind takes up a slot.
    quickest_us: Option<f64>,
    /// Kinds of which it is known how long they take.
    known: usize,
}

impl Shares {
    /// For an app that bears at most so many attempts at once.
    pub fn new(max: usize) -> Shares {
        Shares { max, shares: Vec::new(), quickest_us: None, known: 0 }
    }

    /// It bears more or less from now on.
    pub fn set_max(&mut self, max: usize) {
        for share in &mut self.shares {
            // A window of its own that nothing has cut is no bound after it either.
            match share.window.limit() >= self.max {
                true => share.window = Window::open(max),
                false => share.window.set_max(max),
            }
        }
        self.max = max;
    }

    /// Whether another attempt of this kind may begin, as far as its kind decides, in a window of
    /// so many.
    pub fn has_room(&self, kind: Kind, class: Class, limit: usize, now: RunMs) -> bool {
        let under_way = self.shares.get(kind.index()).map_or(0, |share| share.under_way);
        let most = if self.known > 1 && limit >= LEAVES_ONE_FROM { limit - 1 } else { limit };
        under_way < most && !self.is_crowded(kind, class, limit, now)
    }

    /// Whether this kind has all that it may have for longer than an attempt of a quick kind takes.
    pub fn is_crowded(&self, kind: Kind, class: Class, limit: usize, now: RunMs) -> bool {
        let Some(share) = self.shares.get(kind.index()) else { return false };
        if share.under_way >= share.window.limit() {
            // A window of its own that nothing has cut is as wide as the app's can be.
            return share.window.limit() < self.max;
        }
        // The first of a kind of which nothing is known takes the way of the quick ones.
        let is_new = share.under_way == 0 && share.latency.slot_us().is_none();
        if is_new || !self.is_slow(share, now) {
            return false;
        }
        let slow = || self.shares.iter().filter(move |share: &&Share| self.is_slow(share, now));
        slow().map(|share| share.under_way).sum::<usize>() >= slow_share(limit)
            || (class == Class::Backlog
                && slow().map(|share| share.backlog).sum::<usize>() >= slow_share((limit / 2).max(1)))
    }

    /// When an event of this kind is to come back that finds no room: one after the other, about as
    /// fast as slots of its kind become free.
    pub fn next_turn(&mut self, kind: Kind, limit: usize, now: RunMs) -> RunMs {
        let share = self.share(kind);
        let slots = share.window.limit().min(slow_share(limit)).max(1);
        let each = share.latency.slot_us().unwrap_or(SLOW_US) / 1e6;
        let each = Duration::try_from_secs_f64(each).unwrap_or(TURN_MAX) / u32::try_from(slots).unwrap_or(u32::MAX);
        let turn = share.turns_until.max(now).plus(each.max(TURN_MIN)).min(now.plus(TURN_MAX));
        share.turns_until = turn;
        turn
    }

    /// An attempt begins, as one of so many.
    pub fn begin(&mut self, kind: Kind, class: Class, now: RunMs) -> Began {
        let share = self.share(kind);
        if share.under_way == 0 {
            share.progress_at = now;
        }
        share.under_way += 1;
        share.backlog += usize::from(class == Class::Backlog);
        let own = share.window.begin(share.under_way);
        let quick = self.shares.iter().filter(|share| !self.is_slow(share, now));
        let is_alone = quick.map(|share| share.under_way).sum::<usize>() <= ALONE;
        Began { own, is_alone }
    }

    /// An attempt has ended, whatever came of it.
    pub fn end(&mut self, kind: Kind, class: Class, now: RunMs) {
        let share = self.share(kind);
        share.under_way -= 1;
        share.backlog -= usize::from(class == Class::Backlog);
        share.progress_at = now;
    }

    /// Counts how an attempt ended.
    pub fn count(&mut self, kind: Kind, signal: Signal, is_first: bool, now: RunMs) {
        if signal != Signal::Cut {
            self.share(kind).tally.count(is_first, !signal.is_answer(), now);
        }
    }

    /// Whether the app fails as a whole: half of what was tried, and hardly a kind is well.
    pub fn is_app_failing(&mut self, now: RunMs) -> bool {
        let (mut all, mut failed, mut tried, mut well) = (0, 0, 0, 0);
        for share in &mut self.shares {
            let sum = share.tally.sum(now);
            if sum.all > 0 {
                (all, failed, tried) = (all + sum.all, failed + sum.failed, tried + 1);
                well += usize::from(share.tally.is_well(now));
            }
        }
        all >= JUDGED_MIN && failed * 2 >= all && well * KINDS_PER_WELL < tried
    }

    /// What came before says nothing of what comes.
    pub fn forget(&mut self) {
        for share in &mut self.shares {
            (share.tally, share.failed_probes) = (Tally::default(), 0);
        }
    }

    /// Takes in what an attempt says about how much may be under way at once: its own kind is cut
    /// where only that is in trouble, and the window of the app otherwise.
    pub fn judge(&mut self, kind: Kind, signal: Signal, began: Began, took: Duration, now: RunMs) -> Advice {
        if matches!(signal, Signal::Unreachable | Signal::Cut) {
            return Advice::None;
        }
        let share = self.share(kind);
        share.latency.note_slot(took);
        match signal {
            Signal::Good | Signal::Refused => {
                share.answered_at = now;
                let slowness = share.latency.note_answer(took, began.is_alone);
                share.window.note_answer(began.own, 1.0, true);
                self.find_quickest();
                if slowness < FAST || !self.is_another_quick(kind, now) {
                    return Advice::Answered { slowness, is_alone: began.is_alone };
                }
            }
            Signal::Timeout | Signal::Busy => {
                let is_timeout = signal == Signal::Timeout;
                let slowness = if is_timeout { share.latency.note_timeout(took) } else { FAST };
                // Where most of its kind are as quick as ever, it is not too much that holds this one.
                let is_itself = slowness < FAST && share.tally.is_well(now);
                self.find_quickest();
                if !is_itself && !self.is_another_well(kind, now) {
                    return Advice::Less;
                }
                if !is_itself {
                    self.share(kind).window.cut_busy(began.own);
                }
            }
            Signal::Failed | Signal::Loop | Signal::Unreachable | Signal::Cut => self.find_quickest(),
        }
        Advice::None
    }

    /// A probe of this kind did not find the app well.
    pub fn note_failed_probe(&mut self, kind: Kind) {
        self.share(kind).failed_probes += 1;
    }

    /// How many probes of this kind have failed since the breaker opened.
    pub fn failed_probes(&self, kind: Kind) -> u32 {
        self.shares.get(kind.index()).map_or(0, |share| share.failed_probes)
    }

    fn is_slow(&self, share: &Share, now: RunMs) -> bool {
        let Some(quickest_us) = self.quickest_us else { return false };
        let slow_us = (quickest_us * SLOW_TIMES).max(SLOW_US);
        let is_stuck = || {
            let since = now.since(share.progress_at);
            share.under_way > 0 && since.as_secs_f64() * 1e6 >= slow_us
        };
        share.latency.slot_us().is_none_or(|slot_us| slot_us >= slow_us) || is_stuck()
    }

    fn find_quickest(&mut self) {
        let known = || self.shares.iter().filter_map(|share| share.latency.slot_us());
        (self.quickest_us, self.known) = (known().reduce(f64::min), known().count());
    }

    /// Whether another kind is answered as quickly as ever, and is not slow by nature.
    fn is_another_quick(&self, kind: Kind, now: RunMs) -> bool {
        let mut others = self.shares.iter().enumerate().filter(|(place, _)| *place != kind.index());
        others.any(|(_, share)| {
            let is_known = share.latency.slot_us().is_some() && now.since(share.answered_at) < LATENCY_HOLDS;
            is_known && !self.is_slow(share, now) && share.latency.slowness() < FAST
        })
    }

    fn is_another_well(&mut self, kind: Kind, now: RunMs) -> bool {
        let mut others = self.shares.iter_mut().enumerate().filter(|(place, _)| *place != kind.index());
        others.any(|(_, share)| share.tally.is_well(now))
    }

    fn share(&mut self, kind: Kind) -> &mut Share {
        while self.shares.len() <= kind.index() {
            self.shares.push(Share::new(self.max));
        }
        &mut self.shares[kind.index()]
    }
}

/// What the window of the app is to make of an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advice {
    /// Nothing.
    None,
    /// It may grow or has to shrink, by how slow the kind has become.
    Answered {
        /// How many times its normal.
        slowness: f64,
        /// Whether the attempt was as good as alone.
        is_alone: bool,
    },
    /// Less at once.
    Less,
}
