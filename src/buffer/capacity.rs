//! How much the buffer may take on disk: what is configured, or what the file system gives if that is less;
//! and how much of it is kept for routes whose backlog is small.

use super::durability::Space;

/// Most that the buffer may take, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxBytes {
    /// So many bytes.
    Fixed(u64),
    /// 80 % of the file system.
    Auto,
}

impl MaxBytes {
    /// What is taken where nothing is configured, and where `auto` finds no file system that tells its size.
    pub const DEFAULT_BYTES: u64 = 1 << 30;

    fn bytes(self, space: Option<Space>) -> u64 {
        match (self, space) {
            (MaxBytes::Fixed(bytes), _) => bytes,
            (MaxBytes::Auto, Some(space)) => space.total_bytes / 5 * 4,
            (MaxBytes::Auto, None) => MaxBytes::DEFAULT_BYTES,
        }
    }
}

/// What a single route leaves to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// So much of a hundred parts of the capacity.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl Reserve {
    /// Of this capacity, never more than half of it.
    pub fn of(self, capacity_bytes: u64) -> u64 {
        let bytes = match self {
            Reserve::Percent(percent) => capacity_bytes / 100 * u64::from(percent),
            Reserve::Bytes(bytes) => bytes,
        };
        bytes.min(capacity_bytes / 2)
    }
}

/// How much the buffer may take, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// What is configured.
    pub configured_bytes: u64,
    /// What the file system gives: what the buffer has taken of it and what is free, less the floor of free
    /// space and the ballast. As much as anybody could want if the kernel cannot say.
    pub given_bytes: u64,
}

impl Capacity {
    /// By what is configured, the room on the file system, the buffer's own files there, and what is kept
    /// back of both.
    pub fn of(configured: MaxBytes, space: Option<Space>, own_bytes: u64, ballast_bytes: u64) -> Capacity {
        let given = |space: Space| {
            (own_bytes + space.free_bytes).saturating_sub(space.floor_bytes()).saturating_sub(ballast_bytes)
        };
        Capacity { configured_bytes: configured.bytes(space), given_bytes: space.map_or(u64::MAX, given) }
    }

    /// The lesser of both.
    pub fn bytes(self) -> u64 {
        self.configured_bytes.min(self.given_bytes)
    }

    /// Whether the file system gives less than is configured.
    pub fn is_limited(self) -> bool {
        self.given_bytes < self.configured_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_capacity_is_the_lesser_of_what_is_configured_and_what_the_file_system_gives() {
        let roomy = Space { free_bytes: 100 << 30, total_bytes: 200 << 30 };
        let capacity = Capacity::of(MaxBytes::Fixed(1 << 30), Some(roomy), 0, 16 * MIB);
        assert_eq!((capacity.bytes(), capacity.is_limited()), (1 << 30, false));
        let small = Space { free_bytes: 150 * MIB, total_bytes: 256 * MIB };
        let capacity = Capacity::of(MaxBytes::Fixed(8 << 30), Some(small), 100 * MIB, 16 * MIB);
        assert_eq!(capacity.bytes(), 250 * MIB - 64_000_000 - 16 * MIB);
        assert!(capacity.is_limited());
    }

    #[test]
    fn the_buffers_own_growth_changes_nothing_and_what_others_take_is_gone() {
        let with = |own, free| {
            let space = Space { free_bytes: free * MIB, total_bytes: 256 * MIB };
            Capacity::of(MaxBytes::Fixed(1 << 30), Some(space), own * MIB, 16 * MIB).bytes()
        };
        assert_eq!(with(0, 250), with(100, 150));
        assert_eq!(with(0, 250) - with(100, 100), 50 * MIB);
        assert_eq!(with(10, 40), 0, "below the floor nothing is given");
    }

    #[test]
    fn auto_is_four_fifths_of_the_file_system_and_the_default_where_its_size_is_unknown() {
        let space = Space { free_bytes: 100 << 30, total_bytes: 100 << 30 };
        assert_eq!(Capacity::of(MaxBytes::Auto, Some(space), 0, 0).bytes(), 80 << 30);
        let half_full = Space { free_bytes: 50 << 30, ..space };
        assert_eq!(Capacity::of(MaxBytes::Auto, Some(half_full), 0, 0).bytes(), 49 << 30, "1 GiB stays free");
        let unknown = Capacity::of(MaxBytes::Auto, None, 0, 0);
        assert_eq!((unknown.bytes(), unknown.is_limited()), (1 << 30, false));
    }

    #[test]
    fn the_reserve_is_a_share_or_a_size_and_at_most_half() {
        assert_eq!(Reserve::Percent(10).of(1_000), 100);
        assert_eq!(Reserve::Bytes(300).of(1_000), 300);
        assert_eq!(Reserve::Bytes(900).of(1_000), 500);
        assert_eq!(Reserve::Percent(0).of(1_000), 0);
    }
}
