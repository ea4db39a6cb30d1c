//! Kinds of events: those of one type on one route, which an app hands to one handler. What one
//! handler does says little of another, so that attempts are judged by kind. Pure.

use super::scheduler::LaneId;

/// Kinds that are told apart at one app; the events of all others are one more kind.
pub const KINDS_MAX: usize = 64;
/// A longer type is not told apart.
const TYPE_MAX_BYTES: usize = 128;

/// One kind, among those of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    /// All that are not told apart.
    pub const OTHER: Kind = Kind(0);

    /// Its place in a list of kinds.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    /// Every kind.
    pub const ALL: Kinds = Kinds(u64::MAX);
    /// No kind.
    pub const NONE: Kinds = Kinds(0);

    /// One kind.
    pub const fn only(kind: Kind) -> Kinds {
        Kinds(1 << kind.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is one of them.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind.0) != 0
    }

    /// It is one of them from now on.
    pub fn add(&mut self, kind: Kind) {
        self.0 |= 1 << kind.0;
    }

    /// It is none of them any more.
    pub fn remove(&mut self, kind: Kind) {
        self.0 &= !(1 << kind.0);
    }

    /// Each of them once.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = u8::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
            left &= left - 1;
            Some(Kind(next))
        })
    }

    /// Those for which this holds.
    pub fn filter(self, mut holds: impl FnMut(Kind) -> bool) -> Kinds {
        let mut kinds = Kinds::NONE;
        self.iter().filter(|kind| holds(*kind)).for_each(|kind| kinds.add(kind));
        kinds
    }
}

/// The names of an app's kinds, in the order in which they were met.
#[derive(Debug)]
pub struct KindNames(Vec<(LaneId, Option<Box<str>>)>);

impl KindNames {
    /// None is known.
    #[allow(clippy::new_without_default, reason = "made once, by name")]
    pub fn new() -> KindNames {
        KindNames(Vec::new())
    }

    /// The kind of a lane's events of this type; a new one while there is room.
    pub fn kind(&mut self, lane: LaneId, event_type: Option<&str>) -> Kind {
        let is_it = |(of, name): &(LaneId, Option<Box<str>>)| *of == lane && name.as_deref() == event_type;
        // The first place is that of all others.
        let place = 1 + self.0.iter().position(is_it).unwrap_or(self.0.len());
        if place > self.0.len() {
            let is_told_apart = place < KINDS_MAX && event_type.is_none_or(|name| name.len() <= TYPE_MAX_BYTES);
            if !is_told_apart {
                return Kind::OTHER;
            }
            self.0.push((lane, event_type.map(Box::from)));
        }
        u8::try_from(place).map_or(Kind::OTHER, Kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_on_a_route_is_a_kind_and_beyond_the_bound_there_is_one_more() {
        let mut names = KindNames::new();
        let (a, b) = (LaneId(1), LaneId(2));
        let sent = names.kind(a, Some("message.sent"));
        assert_eq!(names.kind(a, Some("message.sent")), sent);
        let others = [names.kind(b, Some("message.sent")), names.kind(a, None), names.kind(a, Some("call.hangup"))];
        assert!(!others.contains(&sent));
        assert_eq!(names.kind(a, Some(&"x".repeat(TYPE_MAX_BYTES + 1))), Kind::OTHER);
        let many: Vec<Kind> = (0..KINDS_MAX).map(|n| names.kind(a, Some(&n.to_string()))).collect();
        assert_eq!(many.iter().filter(|kind| **kind == Kind::OTHER).count(), 5, "four were known, one is the others'");
        assert_eq!(names.kind(a, Some("message.sent")), sent);
    }

    #[test]
    fn a_set_has_what_was_added_and_not_removed() {
        let mut kinds = Kinds::default();
        for kind in [Kind(0), Kind(7), Kind(63)] {
            kinds.add(kind);
        }
        kinds.remove(Kind(7));
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [Kind(0), Kind(63)]);
        assert_eq!(kinds.filter(|kind| kind == Kind(63)), Kinds::only(Kind(63)));
        assert!(Kinds::ALL.has(Kind(63)) && !Kinds::default().has(Kind(0)));
    }
}
