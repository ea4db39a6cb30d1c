//! Clients who have had a verified event lately: as many as there are slots, the last one of each.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::gate::client_key::ClientKey;

/// Clients that are remembered at most. Only a verified event takes a slot, and one that was there before it.
const SLOTS: usize = 4096;
/// How long a client is remembered after its last verified event.
const REMEMBERED_MIN: u64 = 24 * 60;
/// Bits of the minute in a slot; the others are of the client's hash.
const MINUTE_BITS: u32 = 24;

/// Known clients, 32 KB. Noting one takes no lock, and a minute's events write once.
#[derive(Debug)]
pub(super) struct VerifiedClients {
    hasher: RandomState,
    /// Hash and minute; 0 is nobody.
    slots: Box<[AtomicU64]>,
}

impl VerifiedClients {
    pub(super) fn new() -> VerifiedClients {
        VerifiedClients { hasher: RandomState::new(), slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn note(&self, client: ClientKey, now_ms: i64) {
        let (slot, tag) = self.place(client);
        let noted = tag | minute(now_ms);
        if slot.load(Ordering::Relaxed) != noted {
            slot.store(noted, Ordering::Relaxed);
        }
    }

    pub(super) fn holds(&self, client: ClientKey, now_ms: i64) -> bool {
        let (slot, tag) = self.place(client);
        let noted = slot.load(Ordering::Relaxed);
        let minutes = (1 << MINUTE_BITS) - 1;
        noted & !minutes == tag && minute(now_ms).saturating_sub(noted & minutes) <= REMEMBERED_MIN
    }

    /// The client's slot, and what stands there of it; its minute is to come.
    fn place(&self, client: ClientKey) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(client);
        let slot = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
        (&self.slots[slot], hash >> MINUTE_BITS << MINUTE_BITS)
    }
}

/// From 1, so that a slot with somebody in it is not 0.
fn minute(now_ms: i64) -> u64 {
    u64::try_from(now_ms / 60_000).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const HOUR_MS: i64 = 3_600_000;

    fn client(n: u32) -> ClientKey {
        IpAddr::V4(Ipv4Addr::from(n)).into()
    }

    #[test]
    fn a_client_is_known_for_a_day_after_its_last_event() {
        let verified = VerifiedClients::new();
        assert!(!verified.holds(client(1), 0));
        verified.note(client(1), 0);
        assert!(verified.holds(client(1), 24 * HOUR_MS));
        assert!(!verified.holds(client(1), 25 * HOUR_MS));
        verified.note(client(1), 25 * HOUR_MS);
        assert!(verified.holds(client(1), 26 * HOUR_MS));
        assert!(!verified.holds(client(2), 0));
    }

    #[test]
    fn the_last_ones_of_many_are_known_and_nobody_else() {
        let verified = VerifiedClients::new();
        (0..100_000).for_each(|n| verified.note(client(n), 0));
        assert!(verified.holds(client(99_999), 0));
        let known = (0..100_000).filter(|n| verified.holds(client(*n), 0)).count();
        assert!((2_000..=SLOTS).contains(&known), "{known}");
        assert!(!(100_000..200_000).any(|n| verified.holds(client(n), 0)));
    }
}
