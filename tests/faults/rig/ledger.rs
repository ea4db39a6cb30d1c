//! The checker: what was answered 200, what the app confirmed, and what the buffer holds, against
//! each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::buffer::Held;

/// Differences are listed up to so many.
const SHOWN_MAX: usize = 8;

#[derive(Default)]
pub struct Ledger {
    state: Mutex<State>,
    acked: Condvar,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answers>,
    deliveries: HashMap<String, Deliveries>,
    /// Other answers than 200, by status and reason.
    refusals: BTreeMap<String, usize>,
    last_ack: Option<Instant>,
    acks: usize,
    slowest_ack: Duration,
    /// What must never happen, whatever the fault.
    faults: Vec<String>,
}

#[derive(Default)]
struct Answers {
    accepted: usize,
    duplicate: usize,
}

#[derive(Default)]
struct Deliveries {
    /// One unless the event was stored more than once.
    delivery_ids: HashSet<String>,
    /// Times that the app answered 2xx.
    confirmed: usize,
}

/// What the checker found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events answered 200.
    pub acked: usize,
    /// Of these, the ones that neither the app has confirmed nor the buffer holds.
    pub lost: Vec<String>,
    /// Confirmed by the app more than once: allowed, since delivery is at least once.
    pub delivered_again: usize,
    /// Rows that hookward has found damaged and holds back.
    pub quarantined: usize,
    /// Stored more than once although a repeat must be recognised.
    pub stored_twice: Vec<String>,
    /// Everything else that must never happen: altered, forged, unknown.
    pub faults: Vec<String>,
    /// Other answers than 200, by status and reason.
    pub refusals: BTreeMap<String, usize>,
    /// Longest wait for an answer 200.
    pub slowest_ack: Duration,
}

impl Verdict {
    /// The promise.
    pub fn nothing_is_lost(self) -> Verdict {
        assert!(self.lost.is_empty(), "{} of {} acked are lost: {:?}", self.lost.len(), self.acked, shown(&self.lost));
        self.nothing_is_wrong()
    }

    /// What holds even where the medium was damaged.
    pub fn nothing_is_wrong(self) -> Verdict {
        assert!(self.faults.is_empty(), "{} faults: {:?}", self.faults.len(), shown(&self.faults));
        let twice = &self.stored_twice;
        assert!(twice.is_empty(), "{} stored twice: {:?}", twice.len(), shown(twice));
        assert!(self.acked > 0, "nothing was answered 200: {:?}", self.refusals);
        self
    }
}

fn shown(items: &[String]) -> &[String] {
    &items[..items.len().min(SHOWN_MAX)]
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A genuine event was answered 200 with this status.
    pub fn acked(&self, id: &str, status: &str, after: Duration) {
        let mut state = self.lock();
        let answers = state.answers.entry(id.to_owned()).or_default();
        match status {
            "accepted" => answers.accepted += 1,
            "duplicate" => answers.duplicate += 1,
            other => state.faults.push(format!("{id}: 200 with status {other}")),
        }
        state.last_ack = Some(Instant::now());
        state.acks += 1;
        state.slowest_ack = state.slowest_ack.max(after);
        drop(state);
        self.acked.notify_all();
    }

    /// A genuine event was refused.
    pub fn refused(&self, status: u16, reason: &str) {
        let mut state = self.lock();
        if status != 503 {
            state.faults.push(format!("a genuine event was answered {status} {reason}"));
        }
        *state.refusals.entry(format!("{status} {reason}")).or_default() += 1;
    }

    /// The app has got this event, byte for byte or not, and confirms it or not.
    pub fn delivered(&self, id: &str, delivery_id: &str, confirmed: bool) {
        let mut state = self.lock();
        let deliveries = state.deliveries.entry(id.to_owned()).or_default();
        deliveries.delivery_ids.insert(delivery_id.to_owned());
        deliveries.confirmed += usize::from(confirmed);
    }

    /// Something has happened that never must.
    pub fn fault(&self, what: String) {
        self.lock().faults.push(what);
    }

    /// Answers 200 so far, repeats included.
    pub fn acks(&self) -> usize {
        self.lock().acks
    }

    /// Refusals so far with this status and reason.
    pub fn refusals(&self, which: &str) -> usize {
        self.lock().refusals.get(which).copied().unwrap_or(0)
    }

    /// Waits for so many more answers 200.
    pub fn await_acks(&self, more: usize, within: Duration) {
        let state = self.lock();
        let enough = state.acks + more;
        let (state, timeout) = self.acked.wait_timeout_while(state, within, |state| state.acks < enough).unwrap();
        assert!(!timeout.timed_out(), "no {more} answers 200 within {within:?}, refusals: {:?}", state.refusals);
    }

    /// Waits for an answer 200 after this moment; the time between.
    pub fn await_ack_after(&self, moment: Instant, within: Duration) -> Duration {
        let is_later = |state: &State| state.last_ack.is_some_and(|ack| ack > moment);
        let until = moment + within;
        let left = until.saturating_duration_since(Instant::now());
        let (state, timeout) = self.acked.wait_timeout_while(self.lock(), left, |state| !is_later(state)).unwrap();
        assert!(!timeout.timed_out(), "no answer 200 within {within:?} of the end of the fault: {:?}", state.refusals);
        state.last_ack.map_or(within, |ack| ack - moment)
    }

    /// Whether the app has confirmed this event.
    pub fn is_confirmed(&self, id: &str) -> bool {
        self.lock().deliveries.get(id).is_some_and(|deliveries| deliveries.confirmed > 0)
    }

    /// What has happened so far that never must.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// Compares the three logs.
    pub fn judge(&self, held: &Held) -> Verdict {
        let state = self.lock();
        let mut lost = Vec::new();
        let mut stored_twice = Vec::new();
        for (id, answers) in &state.answers {
            let confirmed = state.deliveries.get(id).is_some_and(|deliveries| deliveries.confirmed > 0);
            if !confirmed && !held.still_holds(id) {
                lost.push(id.clone());
            }
            // A quarantined one is stored anew when it comes again.
            if answers.accepted > 1 && !held.is_quarantined(id) {
                stored_twice.push(format!("{id} (accepted {} times)", answers.accepted));
            }
        }
        let mut delivered_again = 0;
        for (id, deliveries) in &state.deliveries {
            delivered_again += deliveries.confirmed.saturating_sub(1);
            if deliveries.delivery_ids.len() > 1 && !held.is_quarantined(id) {
                stored_twice.push(format!("{id} (as {:?})", deliveries.delivery_ids));
            }
        }
        lost.sort();
        Verdict {
            acked: state.answers.len(),
            lost,
            delivered_again,
            quarantined: held.quarantined(),
            stored_twice,
            faults: state.faults.clone(),
            refusals: state.refusals.clone(),
            slowest_ack: state.slowest_ack,
        }
    }
}
