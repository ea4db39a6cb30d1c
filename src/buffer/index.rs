//! Which events are known already: fingerprints in memory, in slices by age.
//!
//! Bounded by entries: past the bound the oldest slice is forgotten, which shortens the window and
//! is seen in a metric. One entry costs about 40 bytes. Nothing here touches the disk, so replaying
//! a capture a million times buys no disk access.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use super::event::{Fingerprint, Seq};
use crate::clock::{RunMs, duration_ms};

/// Slices that the bound is divided into: forgetting takes one of them at a time.
const SLICES: usize = 8;

/// Fingerprints are keyed already: eight of their bytes are as good a hash as any.
#[derive(Default)]
pub struct TakeEightBytes(u64);

impl Hasher for TakeEightBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for (n, byte) in bytes.iter().take(8).enumerate() {
            self.0 ^= u64::from(*byte) << (8 * n);
        }
    }

    /// The length that arrays are hashed with says nothing here.
    fn write_usize(&mut self, _length: usize) {}
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: Seq,
    /// Running time at which it was stored, in seconds: half the size of milliseconds. Rounded up, so
    /// that no window ends early: a replay could slip in between it and the tolerance.
    stored_s: u32,
}

struct Slice {
    newest: RunMs,
    oldest: RunMs,
    entries: HashMap<[u8; 16], Entry, BuildHasherDefault<TakeEightBytes>>,
}

/// The index of known events.
pub struct Index {
    slices: VecDeque<Slice>,
    max_entries: usize,
    /// Running time since which every id is remembered, once something had to be forgotten.
    forgotten_until: Option<RunMs>,
    /// Entries that are known to come.
    expected: usize,
}

impl Index {
    /// An empty index of at most so many entries.
    pub fn new(max_entries: usize) -> Index {
        Index { slices: VecDeque::new(), max_entries: max_entries.max(SLICES), forgotten_until: None, expected: 0 }
    }

    /// So many entries come now, one after the other: slices take their room at once instead of growing into it,
    /// which would move every entry several times.
    pub fn expect(&mut self, entries: usize) {
        self.expected = entries;
    }

    /// The event with this fingerprint, if it was stored within the window.
    pub fn find(&self, fingerprint: &Fingerprint, window: Duration, now: RunMs) -> Option<Seq> {
        for slice in self.slices.iter().rev() {
            if let Some(entry) = slice.entries.get(&fingerprint.0) {
                let age = now.since(RunMs(i64::from(entry.stored_s) * 1000));
                return (age <= window).then_some(entry.seq);
            }
        }
        None
    }

    /// The event that stands for this fingerprint, whatever its age.
    pub fn stands_for(&self, fingerprint: &Fingerprint) -> Option<Seq> {
        self.slices.iter().rev().find_map(|slice| slice.entries.get(&fingerprint.0)).map(|entry| entry.seq)
    }

    /// Remembers an event. To be called in order of storing, after it is durable.
    pub fn insert(&mut self, fingerprint: Fingerprint, seq: Seq, stored: RunMs) {
        let per_slice = self.max_entries / SLICES;
        if self.slices.back().is_none_or(|slice| slice.entries.len() >= per_slice) {
            let room = self.expected.min(per_slice);
            self.expected -= room;
            let entries = HashMap::with_capacity_and_hasher(room, BuildHasherDefault::default());
            self.slices.push_back(Slice { newest: stored, oldest: stored, entries });
        }
        if let Some(slice) = self.slices.back_mut() {
            slice.newest = stored;
            let stored_s = u32::try_from(stored.0.saturating_add(999) / 1000).unwrap_or(u32::MAX);
            slice.entries.insert(fingerprint.0, Entry { seq, stored_s });
        }
        while self.slices.len() > SLICES {
            self.forgotten_until = self.slices.pop_front().map(|slice| slice.newest);
        }
    }

    /// Forgets an event, so that a repeat is stored anew.
    pub fn remove(&mut self, fingerprint: &Fingerprint) {
        for slice in &mut self.slices {
            slice.entries.remove(&fingerprint.0);
        }
    }

    /// Drops slices whose every entry is older than the longest window.
    pub fn expire(&mut self, window: Duration, now: RunMs) {
        while self.slices.front().is_some_and(|slice| now.since(slice.newest) > window) {
            self.slices.pop_front();
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.entries.len()).sum()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far back ids are remembered, milliseconds: the window, unless the bound has made it
    /// shorter.
    pub fn effective_window_ms(&self, window: Duration, now: RunMs) -> i64 {
        match (self.forgotten_until, self.slices.front()) {
            (Some(until), Some(front)) if now.since(until) < window => duration_ms(now.since(front.oldest)),
            _ => duration_ms(window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_never_ends_early_whatever_fraction_of_a_second_an_event_was_stored_at() {
        for stored_ms in [1000, 1001, 1500, 1999] {
            let mut index = Index::new(100);
            index.insert(Fingerprint([1; 16]), Seq(1), RunMs(stored_ms));
            let find = |age_ms| index.find(&Fingerprint([1; 16]), Duration::from_secs(2), RunMs(stored_ms + age_ms));
            assert_eq!(find(2000), Some(Seq(1)), "{stored_ms}");
            assert_eq!(find(3000), None, "{stored_ms}");
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    fn print(n: u64) -> Fingerprint {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        bytes[8..].copy_from_slice(&n.to_le_bytes());
        Fingerprint(bytes)
    }

    fn at_s(seconds: i64) -> RunMs {
        RunMs(seconds * 1000)
    }

    #[test]
    fn an_event_is_known_within_its_window_only() {
        let mut index = Index::new(100);
        index.insert(print(1), Seq(7), at_s(10));
        assert_eq!(index.find(&print(1), DAY, at_s(10 + 86_400)), Some(Seq(7)));
        assert_eq!(index.find(&print(1), DAY, at_s(10 + 86_401)), None);
        assert_eq!(index.find(&print(2), DAY, at_s(10)), None);
    }

    #[test]
    fn past_the_bound_the_oldest_are_forgotten_and_the_window_tells() {
        let mut index = Index::new(80);
        assert_eq!(index.effective_window_ms(DAY, at_s(0)), 86_400_000);
        for n in 0..200 {
            index.insert(print(n), Seq(n.cast_signed()), at_s(n.cast_signed()));
            assert!(index.len() <= 80);
        }
        assert_eq!(index.find(&print(199), DAY, at_s(200)), Some(Seq(199)));
        assert_eq!(index.find(&print(0), DAY, at_s(200)), None);
        let window_ms = index.effective_window_ms(DAY, at_s(200));
        assert!((70_000..=90_000).contains(&window_ms), "{window_ms}");
        let oldest_known = (200_000 - window_ms) / 1000;
        assert!(index.find(&print(oldest_known.cast_unsigned()), DAY, at_s(200)).is_some());
    }

    #[test]
    fn what_is_older_than_the_window_gives_its_memory_back() {
        let mut index = Index::new(80);
        for n in 0..40 {
            index.insert(print(n), Seq(1), at_s(n.cast_signed() * 10));
        }
        index.expire(Duration::from_secs(100), at_s(400));
        assert!(index.len() <= 20, "{}", index.len());
        index.expire(Duration::from_secs(100), at_s(100_000));
        assert!(index.is_empty());
    }

    #[test]
    fn a_removed_event_is_new_again() {
        let mut index = Index::new(80);
        index.insert(print(1), Seq(1), at_s(1));
        index.remove(&print(1));
        assert_eq!(index.find(&print(1), DAY, at_s(1)), None);
    }
}
