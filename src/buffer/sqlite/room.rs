//! Who may take how much of the room. Most of it is anybody's. A reserve is kept for routes whose backlog is
//! small, in equal parts, so that an app which takes nothing fills the buffer for its own senders only: a route
//! that holds more than its part leaves the reserve free. All parts together are no more than the reserve,
//! so nobody's part depends on what others do with theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::buffer::capacity::Reserve;

/// Share of the capacity that events which were let pass unverified may take, one in so many.
const UNVERIFIED_SHARE: u64 = 10;

/// What events with a claim to their room take: those that are pending, dead or quarantined.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: u64,
    /// Of events that were let pass unverified.
    unverified_bytes: u64,
    routes: BTreeMap<Arc<str>, Held>,
    /// Routes that take events now.
    sharers: u64,
    /// Bytes of routes that do not.
    left_behind_bytes: u64,
}

#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    takes_events: bool,
}

/// An event that asks for room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) route: &'a str,
    pub(super) bytes: u64,
    pub(super) verified: bool,
}

/// How full it is on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    pub(super) capacity_bytes: u64,
    pub(super) reserve: Reserve,
    /// Pages, without what gives way.
    pub(super) pages_bytes: u64,
    /// What the log may take besides.
    pub(super) log_bytes: u64,
}

/// What an open transaction has added so far.
#[derive(Debug, Default)]
pub(super) struct Added<'a> {
    bytes: u64,
    unverified_bytes: u64,
    routes: Vec<(&'a str, u64)>,
}

impl<'a> Added<'a> {
    /// An event is part of it now.
    pub(super) fn add(&mut self, Wanted { route, bytes, verified }: Wanted<'a>) {
        self.bytes += bytes;
        self.unverified_bytes += if verified { 0 } else { bytes };
        match self.routes.iter_mut().find(|(known, _)| *known == route) {
            Some((_, of_route)) => *of_route += bytes,
            None => self.routes.push((route, bytes)),
        }
    }

    fn of(&self, route: &str) -> u64 {
        self.routes.iter().find(|(known, _)| *known == route).map_or(0, |(_, bytes)| *bytes)
    }
}

impl Room {
    /// What all of them take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An event has a claim to its room.
    pub(super) fn add(&mut self, route: &str, bytes: u64, verified: bool) {
        self.bytes += bytes;
        self.unverified_bytes += if verified { 0 } else { bytes };
        let held = match self.routes.get_mut(route) {
            Some(held) => held,
            None => self.routes.entry(route.into()).or_default(),
        };
        held.bytes += bytes;
        self.left_behind_bytes += if held.takes_events { 0 } else { bytes };
    }

    /// It has none any more.
    pub(super) fn remove(&mut self, route: &str, bytes: u64, verified: bool) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.unverified_bytes = self.unverified_bytes.saturating_sub(if verified { 0 } else { bytes });
        let Some(held) = self.routes.get_mut(route) else { return };
        held.bytes = held.bytes.saturating_sub(bytes);
        if !held.takes_events {
            self.left_behind_bytes = self.left_behind_bytes.saturating_sub(bytes);
            if held.bytes == 0 {
                self.routes.remove(route);
            }
        }
    }

    /// These routes take events from now on. What others have left behind stays until it is delivered, and
    /// has no part of the reserve.
    pub(super) fn share_among(&mut self, routes: &[Arc<str>]) {
        self.routes.values_mut().for_each(|held| held.takes_events = false);
        for route in routes {
            self.routes.entry(route.clone()).or_default().takes_events = true;
        }
        self.routes.retain(|_, held| held.takes_events || held.bytes > 0);
        self.sharers = self.routes.values().filter(|held| held.takes_events).count() as u64;
        self.left_behind_bytes = self.routes.values().filter(|held| !held.takes_events).map(|held| held.bytes).sum();
    }

    /// Whether there is room for an event besides what the open transaction has added.
    pub(super) fn has_room(&self, wanted: Wanted<'_>, fill: Fill, added: &Added<'_>) -> bool {
        let Fill { capacity_bytes, reserve, pages_bytes, log_bytes } = fill;
        let taken_bytes = pages_bytes.max(self.bytes) + log_bytes + added.bytes;
        let unverified_bytes = self.unverified_bytes + added.unverified_bytes + wanted.bytes;
        let free_bytes = capacity_bytes.saturating_sub(taken_bytes);
        if free_bytes < wanted.bytes || (!wanted.verified && unverified_bytes > capacity_bytes / UNVERIFIED_SHARE) {
            return false;
        }
        // Nobody is kept waiting for a reserve that nobody else could use.
        let reserve_bytes = if self.sharers > 1 { reserve.of(capacity_bytes) } else { 0 };
        if free_bytes - wanted.bytes >= reserve_bytes {
            return true;
        }
        let held_bytes = self.on_disk(self.held(wanted.route) + added.of(wanted.route), pages_bytes);
        let fits_its_part = held_bytes + wanted.bytes <= reserve_bytes / self.parts();
        // Where a part is smaller than an event, one of them may still come through.
        fits_its_part || (held_bytes == 0 && wanted.bytes <= free_bytes / 2)
    }

    /// Parts of the reserve: one for each route but the one that may have the rest, which is one that takes
    /// no events any more if such hold anything.
    fn parts(&self) -> u64 {
        if self.left_behind_bytes > 0 { self.sharers } else { self.sharers.saturating_sub(1) }.max(1)
    }

    pub(super) fn held(&self, route: &str) -> u64 {
        self.routes.get(route).map_or(0, |held| held.bytes)
    }

    /// What bytes of events come to in pages, which are never quite full.
    fn on_disk(&self, bytes: u64, pages_bytes: u64) -> u64 {
        let (all, pages) = (u128::from(self.bytes.max(1)), u128::from(pages_bytes.max(self.bytes)));
        u64::try_from(u128::from(bytes) * pages / all).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 10_000;

    /// A world of routes whose events take ten bytes each.
    struct World {
        room: Room,
        /// Bytes of pages for a hundred of events.
        pages_percent: u64,
        capacity_bytes: u64,
        reserve: Reserve,
    }

    impl World {
        fn of(routes: &[&str]) -> World {
            let mut world = World {
                room: Room::default(),
                pages_percent: 100,
                capacity_bytes: CAPACITY,
                reserve: Reserve::Percent(10),
            };
            world.share_among(routes);
            world
        }

        fn share_among(&mut self, routes: &[&str]) {
            let routes: Vec<Arc<str>> = routes.iter().map(|route| (*route).into()).collect();
            self.room.share_among(&routes);
        }

        fn fill(&self) -> Fill {
            let pages_bytes = self.room.bytes * self.pages_percent / 100;
            Fill { capacity_bytes: self.capacity_bytes, reserve: self.reserve, pages_bytes, log_bytes: 0 }
        }

        fn takes(&self, route: &str, bytes: u64) -> bool {
            self.room.has_room(Wanted { route, bytes, verified: true }, self.fill(), &Added::default())
        }

        /// Stores events of a route whose app takes none, until one is refused; what it holds then.
        fn fill_up(&mut self, route: &str, event_bytes: u64) -> u64 {
            while self.takes(route, event_bytes) {
                self.room.add(route, event_bytes, true);
            }
            self.room.held(route)
        }
    }

    #[test]
    fn one_route_has_all_of_it() {
        assert_eq!(World::of(&["a"]).fill_up("a", 10), CAPACITY);
        assert_eq!(World::of(&[]).fill_up("a", 10), CAPACITY, "before anybody has said which there are");
    }

    #[test]
    fn a_route_leaves_the_reserve_to_the_other() {
        let mut world = World::of(&["a", "b"]);
        assert_eq!(world.fill_up("a", 10), 9_000);
        assert_eq!(world.fill_up("b", 10), 1_000);
        world.room.remove("a", 500, true);
        assert!(!world.takes("a", 10) && !world.takes("b", 10), "the reserve comes first");
        world.room.remove("b", 990, true);
        assert!(world.takes("b", 10) && world.takes("a", 10));
    }

    #[test]
    fn among_fifty_routes_the_one_that_is_well_has_its_part_whoever_came_first() {
        for pages_percent in [100, 114, 200, 300] {
            let names: Vec<String> = (0..50).map(|n| format!("r{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut world = World { pages_percent, capacity_bytes: 1_000_000, ..World::of(&names) };
            for dead in &names[..49] {
                assert!(world.fill_up(dead, 10) > 0, "{dead} at {pages_percent} %");
            }
            let part = world.fill_up("r49", 10) * pages_percent / 100;
            assert!((1_900..=2_041).contains(&part), "{part} of {} at {pages_percent} %", 100_000 / 49);
        }
    }

    #[test]
    fn a_part_smaller_than_an_event_lets_one_through_while_there_is_room_for_more() {
        let mut world = World::of(&["a", "b", "c", "d"]);
        world.fill_up("a", 10);
        assert_eq!(world.fill_up("b", 400), 400, "larger than its part of 333");
        assert!(!world.takes("c", 400), "more than half of what is left");
        assert!(world.takes("c", 10));
    }

    #[test]
    fn what_a_removed_route_left_behind_counts_but_has_no_part() {
        let mut world = World::of(&["a", "b"]);
        world.fill_up("a", 10);
        world.share_among(&["renamed", "b"]);
        assert_eq!(world.fill_up("renamed", 10), 500);
        assert_eq!(world.fill_up("b", 10), 500);
        world.room.remove("a", 9_000, true);
        assert!(!world.room.routes.contains_key("a"), "nothing is kept of a route that is gone");
        assert_eq!(world.room.left_behind_bytes, 0);
        assert_eq!(world.fill_up("b", 10), 8_500);
        world.share_among(&["b"]);
        assert_eq!(world.fill_up("b", 10), 9_500, "alone, it has what is left");
    }

    #[test]
    fn a_group_is_counted_as_it_grows() {
        let mut world = World::of(&["a", "b"]);
        world.fill_up("a", 10);
        let mut added = Added::default();
        let wanted = Wanted { route: "b", bytes: 400, verified: true };
        let taken = std::iter::from_fn(|| world.room.has_room(wanted, world.fill(), &added).then(|| added.add(wanted)));
        assert_eq!(taken.count(), 2);
    }

    #[test]
    fn unverified_events_have_a_tenth_of_all_and_none_of_another_routes_part() {
        let mut world = World::of(&["a", "b"]);
        let takes = |world: &World, route| {
            world.room.has_room(Wanted { route, bytes: 10, verified: false }, world.fill(), &Added::default())
        };
        while takes(&world, "a") {
            world.room.add("a", 10, false);
        }
        assert_eq!(world.room.held("a"), 1_000);
        assert!(!takes(&world, "b") && world.takes("b", 10));
        world.room.remove("a", 1_000, false);
        world.fill_up("a", 10);
        assert!(!takes(&world, "a") && takes(&world, "b"));
    }

    #[test]
    fn a_capacity_that_falls_below_what_is_taken_takes_nothing_until_there_is_room() {
        let mut world = World::of(&["a", "b"]);
        world.fill_up("a", 10);
        world.capacity_bytes = 5_000;
        assert!(!world.takes("a", 10) && !world.takes("b", 10));
        world.room.remove("a", 4_300, true);
        assert!(!world.takes("a", 10) && world.takes("b", 10));
    }
}
