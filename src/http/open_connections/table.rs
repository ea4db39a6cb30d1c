//! Who waits, by client and in all, the longest first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Party, Slot};

/// When a connection was last known to begin to wait, which is never later than it did, and its number.
type Place = (i64, u64);

/// Connections that are looked at for one that waits, each time. One that is found to be in a request is not
/// listed until it waits again, and one that has waited since is put in its place: what a request costs here is
/// constant, and the bound is for the longest time that the lock is held.
const LOOKED_AT_MAX: usize = 1024;

/// Every connection that counts, and a list of those that may be waiting.
#[derive(Debug, Default)]
pub(super) struct Table {
    next_id: u64,
    count: usize,
    listed: BTreeMap<Place, (Arc<Slot>, Party)>,
    /// Those that have connections.
    parties: HashMap<Party, Members>,
    /// Connections that have given way and are not closed yet.
    pub(super) closing: usize,
}

#[derive(Debug, Default)]
struct Members {
    count: usize,
    listed: BTreeSet<Place>,
}

impl Table {
    /// All that count.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Those of a party.
    pub(super) fn count_of(&self, party: Party) -> usize {
        self.parties.get(&party).map_or(0, |members| members.count)
    }

    /// One more, which begins to wait.
    pub(super) fn insert(&mut self, party: Party, now_us: i64) -> Arc<Slot> {
        let slot = Arc::new(Slot::waiting(self.next_id, now_us));
        self.next_id += 1;
        self.insert_again(&slot, party);
        slot
    }

    /// One that has been removed, where it was, for this party.
    pub(super) fn insert_again(&mut self, slot: &Arc<Slot>, party: Party) {
        self.count += 1;
        self.parties.entry(party).or_default().count += 1;
        self.list(slot, party, slot.listed_us.load(Ordering::Relaxed));
    }

    /// It no longer counts.
    pub(super) fn remove(&mut self, slot: &Slot, party: Party) {
        self.unlist(slot, party);
        self.count = self.count.saturating_sub(1);
        if let Some(members) = self.parties.get_mut(&party) {
            members.count = members.count.saturating_sub(1);
            if members.count == 0 {
                self.parties.remove(&party);
            }
        }
    }

    /// Its connection is closed.
    pub(super) fn leave(&mut self, slot: &Slot, party: Party) {
        if slot.has_given_way() {
            self.closing = self.closing.saturating_sub(1);
        } else {
            self.remove(slot, party);
        }
    }

    /// It waits again, and was not listed.
    pub(super) fn list_again(&mut self, slot: &Arc<Slot>, party: Party, since_us: i64) {
        slot.state.store(since_us, Ordering::Release);
        self.list(slot, party, since_us);
    }

    /// It gives way before all others, unless it has already. It is in no request.
    pub(super) fn list_first(&mut self, slot: &Arc<Slot>, party: Party) {
        if !slot.has_given_way() {
            self.unlist(slot, party);
            self.list_again(slot, party, 0);
        }
    }

    /// Lets the connection go that has waited longest, of this party or of all; `false` if none waits.
    pub(super) fn give_way(&mut self, among: Option<Party>) -> bool {
        for _ in 0..LOOKED_AT_MAX {
            let Some((slot, party)) = self.first(among) else { return false };
            let seen = slot.state.load(Ordering::Acquire);
            let becomes = |next| slot.state.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if seen > slot.listed_us.load(Ordering::Relaxed) {
                self.unlist(&slot, party);
                self.list(&slot, party, seen);
            } else if seen >= 0 {
                if becomes(Slot::GAVE_WAY) {
                    self.remove(&slot, party);
                    self.closing += 1;
                    slot.wake.notify_one();
                    return true;
                }
            } else if becomes(Slot::UNLISTED) {
                self.unlist(&slot, party);
            }
            // Else it has just begun a request, or ended one: it is looked at again.
        }
        false
    }

    fn first(&self, among: Option<Party>) -> Option<(Arc<Slot>, Party)> {
        match among {
            None => self.listed.values().next().cloned(),
            Some(party) => self.listed.get(self.parties.get(&party)?.listed.first()?).cloned(),
        }
    }

    fn list(&mut self, slot: &Arc<Slot>, party: Party, since_us: i64) {
        slot.listed_us.store(since_us, Ordering::Relaxed);
        let place = (since_us, slot.id);
        self.listed.insert(place, (slot.clone(), party));
        self.parties.entry(party).or_default().listed.insert(place);
    }

    fn unlist(&mut self, slot: &Slot, party: Party) {
        let place = (slot.listed_us.load(Ordering::Relaxed), slot.id);
        self.listed.remove(&place);
        if let Some(members) = self.parties.get_mut(&party) {
            members.listed.remove(&place);
        }
    }
}
