//! Events that wait in a lane for their turn, oldest first, by kind. Pure.

use std::collections::VecDeque;

use super::kind::{KINDS_MAX, Kind, Kinds};
use crate::buffer::event::Claimed;

/// Events in the order in which they came.
#[derive(Debug)]
pub struct Waiting {
    events: VecDeque<(Kind, Claimed)>,
    /// How many there are of each kind, up to the last kind that was met.
    counts: Vec<usize>,
    kinds: Kinds,
}

impl Waiting {
    /// Nothing waits.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> Waiting {
        Waiting { events: VecDeque::new(), counts: Vec::new(), kinds: Kinds::default() }
    }

    /// Another one, after all others.
    pub fn push(&mut self, kind: Kind, claimed: Claimed) {
        if self.counts.len() <= kind.index() {
            self.counts.resize(kind.index() + 1, 0);
        }
        self.counts[kind.index()] += 1;
        self.kinds.add(kind);
        self.events.push_back((kind, claimed));
    }

    /// How many wait.
    pub fn total(&self) -> usize {
        self.events.len()
    }

    /// How many of a kind wait.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts.get(kind.index()).copied().unwrap_or(0)
    }

    /// The kinds of those that wait.
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// Takes the oldest of these kinds.
    pub fn pop_oldest(&mut self, kinds: Kinds) -> Option<(Kind, Claimed)> {
        let place = self.events.iter().position(|(kind, _)| kinds.has(*kind))?;
        self.remove(place)
    }

    /// Takes the newest of these kinds.
    pub fn pop_newest(&mut self, kinds: Kinds) -> Option<(Kind, Claimed)> {
        let place = self.events.iter().rposition(|(kind, _)| kinds.has(*kind))?;
        self.remove(place)
    }

    /// Takes everything.
    pub fn drain(&mut self) -> impl Iterator<Item = Claimed> + use<> {
        let all = std::mem::replace(self, Waiting::new());
        all.events.into_iter().map(|(_, claimed)| claimed)
    }

    fn remove(&mut self, place: usize) -> Option<(Kind, Claimed)> {
        let (kind, claimed) = self.events.remove(place)?;
        debug_assert!(kind.index() < KINDS_MAX);
        self.counts[kind.index()] -= 1;
        if self.counts[kind.index()] == 0 {
            self.kinds.remove(kind);
        }
        Some((kind, claimed))
    }
}
