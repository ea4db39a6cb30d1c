//! Which events wait, by route: never-tried ones in order, retries by when they are due, and those
//! that are handed out. In memory only; rebuilt from the rows at start. 8 bytes for a waiting
//! event, 24 for a retry.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::super::event::{DeliveryId, HandedOut, Seq};
use super::event_row::EventRow;
use crate::clock::RunMs;

/// All events that are not settled.
pub(super) struct Lanes {
    lanes: HashMap<Arc<str>, Lane>,
    in_flight: HashMap<Seq, InFlight>,
    /// Waiting events that an operator has thrown away: skipped when their turn comes, since a queue
    /// has no cheap way to lose one from its middle.
    withdrawn: HashSet<Seq>,
    /// Whether retries that are due go before all never-tried events; else they take turns, so that
    /// neither starve.
    retries_first: bool,
}

#[derive(Default)]
struct Lane {
    ready: VecDeque<Seq>,
    retries: BinaryHeap<Reverse<(RunMs, Seq)>>,
    retry_was_last: bool,
}

/// A pending event that is handed out, with what settling it needs to know: the columns of its row that do
/// not change meanwhile, so that the row need not be read again.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub(super) delivery_id: DeliveryId,
    pub(super) route: Arc<str>,
    pub(super) bytes: u64,
    pub(super) verified: bool,
    pub(super) stored: RunMs,
    pub(super) fingerprint: Option<[u8; 16]>,
    pub(super) crc: u32,
    pub(super) client_errors: u32,
    pub(super) redriven: Option<RunMs>,
}

impl InFlight {
    /// By its row.
    pub(super) fn of(row: &EventRow<'_>, delivery_id: DeliveryId, route: Arc<str>) -> InFlight {
        let EventRow { stored, fingerprint, verified, crc, client_errors, redriven, .. } = *row;
        InFlight { delivery_id, route, bytes: row.size(), verified, stored, fingerprint, crc, client_errors, redriven }
    }
}

impl Lanes {
    /// Nothing waits.
    pub(super) fn new(retries_first: bool) -> Lanes {
        Lanes { lanes: HashMap::new(), in_flight: HashMap::new(), withdrawn: HashSet::new(), retries_first }
    }

    fn with_lane(&mut self, route: &str, work: impl FnOnce(&mut Lane)) {
        match self.lanes.get_mut(route) {
            Some(lane) => work(lane),
            // Only the first time is the name copied: a start comes by here with every event that waits.
            None => work(self.lanes.entry(route.into()).or_default()),
        }
    }

    /// Puts back what an earlier run has left, in order of `seq`.
    pub(super) fn restore(&mut self, route: &str, seq: Seq, due: RunMs) {
        self.with_lane(route, |lane| match due {
            RunMs(0) => lane.ready.push_back(seq),
            due => lane.retries.push(Reverse((due, seq))),
        });
    }

    /// A new event waits behind the others.
    pub(super) fn push(&mut self, route: &str, seq: Seq) {
        self.with_lane(route, |lane| lane.ready.push_back(seq));
    }

    /// Whether no never-tried event of this route waits, so that a new one may go first.
    pub(super) fn is_clear(&self, route: &str) -> bool {
        self.lanes.get(route).is_none_or(|lane| lane.ready.is_empty())
    }

    /// Takes the next event that is due: of the retries the one that is due longest, of the
    /// never-tried ones the oldest. They take turns, or the never-tried ones go first.
    pub(super) fn take_due(&mut self, route: &str, untried_first: bool, now: RunMs) -> Option<Seq> {
        let lane = self.lanes.get_mut(route)?;
        loop {
            let is_due = lane.retries.peek().is_some_and(|Reverse((due, _))| *due <= now);
            // Among the retries wait those that were given back untried, due at once.
            let is_untried = lane.retries.peek().is_some_and(|Reverse((due, _))| *due == RunMs(0));
            let takes_turns = if untried_first { is_untried } else { !lane.retry_was_last };
            let is_its_turn = self.retries_first || takes_turns || lane.ready.is_empty();
            lane.retry_was_last = is_due && is_its_turn;
            let seq = match lane.retry_was_last {
                true => lane.retries.pop().map(|Reverse((_, seq))| seq),
                false => lane.ready.pop_front(),
            }?;
            if !self.withdrawn.remove(&seq) {
                return Some(seq);
            }
        }
    }

    /// An event is to be delivered again; due from `due` on, among the retries.
    pub(super) fn again(&mut self, route: &str, seq: Seq, due: RunMs) {
        self.with_lane(route, |lane| lane.retries.push(Reverse((due, seq))));
    }

    /// A pending event is to be delivered no more; whether it is handed out.
    pub(super) fn withdraw(&mut self, seq: Seq) -> bool {
        let handed_out = self.in_flight.remove(&seq).is_some();
        if !handed_out {
            self.withdrawn.insert(seq);
        }
        handed_out
    }

    /// There is such a route, whether or not anything of it waits.
    pub(super) fn know(&mut self, route: &str) {
        self.with_lane(route, |_| {});
    }

    /// Puts a taken event back where it was, untried.
    pub(super) fn put_back(&mut self, route: &str, seq: Seq) {
        self.with_lane(route, |lane| lane.ready.push_front(seq));
    }

    /// When the next event is due: zero if one is due whenever asked.
    pub(super) fn next_due(&self, route: &str) -> Option<RunMs> {
        let lane = self.lanes.get(route)?;
        if !lane.ready.is_empty() {
            return Some(RunMs(0));
        }
        lane.retries.peek().map(|Reverse((due, _))| *due)
    }

    /// Notes that an event is handed out.
    pub(super) fn hand_out(&mut self, seq: Seq, in_flight: InFlight) {
        self.in_flight.insert(seq, in_flight);
    }

    /// What is known of a handed-out event; nothing if it is settled, or if another event stands in its place.
    pub(super) fn handed_out(&self, event: HandedOut) -> Option<&InFlight> {
        self.in_flight.get(&event.seq).filter(|held| held.delivery_id == event.delivery_id)
    }

    /// A handed-out event waits again, until `due`.
    pub(super) fn retry(&mut self, event: HandedOut, due: RunMs) {
        if let Some(InFlight { route, .. }) = self.done(event) {
            self.again(&route, event.seq, due);
        }
    }

    /// A handed-out event is settled.
    pub(super) fn done(&mut self, event: HandedOut) -> Option<InFlight> {
        self.handed_out(event)?;
        self.in_flight.remove(&event.seq)
    }

    /// Every event that is handed out.
    pub(super) fn all_handed_out(&self) -> Vec<HandedOut> {
        self.in_flight.iter().map(|(seq, held)| HandedOut { seq: *seq, delivery_id: held.delivery_id }).collect()
    }

    /// Routes that have or had events.
    pub(super) fn routes(&self) -> Vec<Arc<str>> {
        self.lanes.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::event::tests::handed_out;

    fn in_flight() -> InFlight {
        InFlight {
            delivery_id: DeliveryId([7; 16]),
            route: "a".into(),
            bytes: 1,
            verified: true,
            stored: RunMs(0),
            fingerprint: None,
            crc: 0,
            client_errors: 0,
            redriven: None,
        }
    }

    #[test]
    fn what_was_never_tried_goes_first_where_that_is_asked_for_and_what_was_given_back_untried_before_it() {
        let mut lanes = Lanes::new(false);
        for seq in [1, 2] {
            lanes.restore("a", Seq(seq), RunMs(seq));
            lanes.push("a", Seq(seq + 2));
        }
        lanes.again("a", Seq(9), RunMs(0));
        let taken: Vec<_> = std::iter::from_fn(|| lanes.take_due("a", true, RunMs(9))).map(|seq| seq.0).collect();
        assert_eq!(taken, [9, 3, 4, 1, 2]);
    }

    #[test]
    fn retries_and_never_tried_events_take_turns_unless_order_matters() {
        for (retries_first, expected) in [(false, [1, 3, 2, 4]), (true, [1, 2, 3, 4])] {
            let mut lanes = Lanes::new(retries_first);
            for seq in [1, 2] {
                lanes.restore("a", Seq(seq), RunMs(seq));
                lanes.push("a", Seq(seq + 2));
            }
            let taken: Vec<_> = std::iter::from_fn(|| lanes.take_due("a", false, RunMs(9))).map(|seq| seq.0).collect();
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn a_retry_goes_when_it_is_due_and_routes_do_not_mix() {
        let mut lanes = Lanes::new(true);
        lanes.push("a", Seq(3));
        lanes.restore("a", Seq(1), RunMs(50));
        lanes.restore("b", Seq(2), RunMs(0));
        assert!(!lanes.is_clear("a") && lanes.is_clear("c"));
        assert_eq!(lanes.take_due("a", false, RunMs(49)), Some(Seq(3)));
        assert_eq!(lanes.next_due("a"), Some(RunMs(50)));
        assert_eq!(lanes.take_due("a", false, RunMs(49)), None);
        assert_eq!(lanes.take_due("a", false, RunMs(50)), Some(Seq(1)));
        assert_eq!(lanes.take_due("a", false, RunMs(99)), None);
        assert_eq!(lanes.next_due("a"), None);
        assert_eq!(lanes.take_due("b", false, RunMs(0)), Some(Seq(2)));
    }

    #[test]
    fn a_withdrawn_event_is_skipped_wherever_it_waits_and_one_that_is_handed_out_is_forgotten() {
        let mut lanes = Lanes::new(true);
        for seq in 1..=3 {
            lanes.push("a", Seq(seq));
        }
        lanes.again("a", Seq(9), RunMs(5));
        assert!(!lanes.withdraw(Seq(1)) && !lanes.withdraw(Seq(9)));
        assert_eq!(lanes.take_due("a", false, RunMs(5)), Some(Seq(2)));
        lanes.hand_out(Seq(2), in_flight());
        assert!(lanes.withdraw(Seq(2)));
        lanes.retry(handed_out(Seq(2)), RunMs(0));
        assert_eq!(lanes.take_due("a", false, RunMs(9)), Some(Seq(3)));
        assert_eq!(lanes.take_due("a", false, RunMs(9)), None);
        assert!(lanes.withdrawn.is_empty(), "nothing is kept of what is gone");
    }

    #[test]
    fn a_retry_of_what_is_not_handed_out_changes_nothing() {
        let mut lanes = Lanes::new(true);
        lanes.push("a", Seq(1));
        lanes.take_due("a", false, RunMs(0));
        lanes.retry(handed_out(Seq(1)), RunMs(5));
        assert_eq!(lanes.next_due("a"), None);
        lanes.hand_out(Seq(1), in_flight());
        lanes.retry(handed_out(Seq(1)), RunMs(5));
        lanes.retry(handed_out(Seq(1)), RunMs(6));
        assert_eq!(lanes.next_due("a"), Some(RunMs(5)));
        assert_eq!(lanes.take_due("a", false, RunMs(9)), Some(Seq(1)));
        assert_eq!(lanes.take_due("a", false, RunMs(9)), None);
    }
}
