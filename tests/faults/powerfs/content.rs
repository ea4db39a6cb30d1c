//! The bytes of one file: as programs see them, and as they would be after a power loss.

use fastrand::Rng;

use super::Loss;

/// What a disk writes whole or not at all: never part of one, and never a neighbour's bytes.
pub const SECTOR_BYTES: u64 = 512;

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Content {
    now: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
    /// Since then, in order.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, data: Vec<u8> },
    Length(u64),
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.now.len() as u64
    }

    /// Up to so many bytes; fewer at the end of the file.
    pub fn read(&self, offset: u64, bytes: usize) -> &[u8] {
        let start = index(offset).min(self.now.len());
        &self.now[start..start.saturating_add(bytes).min(self.now.len())]
    }

    /// Writes; a gap before it reads as zeros.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        put(&mut self.now, offset, data);
        self.unsynced.push(Change::Write { offset, data: data.to_vec() });
    }

    /// Cuts it off, or lets it grow by zeros.
    pub fn set_len(&mut self, bytes: u64) {
        self.now.resize(index(bytes), 0);
        self.unsynced.push(Change::Length(bytes));
    }

    /// Everything so far is durable, its length too: `fdatasync` may leave out times only, not what
    /// is needed to read the data back.
    pub fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails. Any of the writes may have reached the disk; the others are read back well
    /// as long as the power stays on, and no later sync writes them: the kernel takes their pages
    /// for clean.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        for change in std::mem::take(&mut self.unsynced) {
            if rng.bool() {
                change.apply(&mut self.durable);
            }
        }
    }

    /// The power goes: what was not synced is lost, in whole or in part. Returns how many changes
    /// there were, and how many of them left no trace.
    pub fn lose(&mut self, loss: Loss, rng: &mut Rng) -> Lost {
        let mut lost = Lost::default();
        for change in std::mem::take(&mut self.unsynced) {
            lost.unsynced += 1;
            let survivors = change.survivors(loss, rng);
            lost.gone += u64::from(survivors.is_empty());
            for survivor in survivors {
                survivor.apply(&mut self.durable);
            }
        }
        self.now.clone_from(&self.durable);
        lost
    }
}

/// What a power loss took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes that had not been synced.
    pub unsynced: u64,
    /// Of these, those that left no trace.
    pub gone: u64,
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, other: Lost) {
        self.unsynced += other.unsynced;
        self.gone += other.gone;
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => put(bytes, *offset, data),
            Change::Length(length) => bytes.resize(index(*length), 0),
        }
    }

    /// What reaches the disk of it. A later change may survive without an earlier one: disks and
    /// kernels write in any order.
    fn survivors(self, loss: Loss, rng: &mut Rng) -> Vec<Change> {
        match (loss, self) {
            (Loss::Nothing, change) => vec![change],
            (Loss::Drop, _) => Vec::new(),
            (Loss::Tear, Change::Write { offset, data }) => torn(offset, &data, rng),
            (_, change) => {
                if rng.bool() {
                    vec![change]
                } else {
                    Vec::new()
                }
            }
        }
    }
}

/// A write of which some sectors reach the disk: the first ones, or any.
fn torn(offset: u64, data: &[u8], rng: &mut Rng) -> Vec<Change> {
    let sectors = sectors(offset, data);
    let first = rng.bool().then(|| rng.usize(0..=sectors.len()));
    let mut survivors = Vec::new();
    for (n, (offset, data)) in sectors.into_iter().enumerate() {
        if first.map_or_else(|| rng.bool(), |first| n < first) {
            survivors.push(Change::Write { offset, data: data.to_vec() });
        }
    }
    survivors
}

/// The pieces of a write by the sectors of the file that they fall into.
fn sectors(mut offset: u64, mut data: &[u8]) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::new();
    while !data.is_empty() {
        let until_boundary = index(SECTOR_BYTES - offset % SECTOR_BYTES);
        let (piece, rest) = data.split_at(until_boundary.min(data.len()));
        pieces.push((offset, piece));
        offset += piece.len() as u64;
        data = rest;
    }
    pieces
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (index(offset), index(offset) + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

/// Files live in memory, so every offset in them is an index.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Loss; 3] = [Loss::Drop, Loss::Reorder, Loss::Tear];

    fn after(content: &Content, loss: Loss, seed: u64) -> Vec<u8> {
        let mut content = content.clone();
        content.lose(loss, &mut Rng::with_seed(seed));
        content.read(0, usize::MAX).to_vec()
    }

    #[test]
    fn what_was_synced_survives_every_loss() {
        let mut content = Content::default();
        content.write(0, &[1; 1000]);
        content.set_len(1500);
        content.sync();
        let synced = content.read(0, 2000).to_vec();
        assert_eq!(synced.len(), 1500);
        content.write(1500, &[2; 10_000]);
        for (loss, seed) in LOSSES.into_iter().zip(0..) {
            for seed in seed..seed + 100 {
                assert_eq!(after(&content, loss, seed)[..1500], synced);
            }
        }
        assert_eq!(after(&content, Loss::Drop, 0), synced);
    }

    #[test]
    fn of_what_was_not_synced_any_part_may_survive_a_reordering() {
        let mut content = Content::default();
        for n in 1..=3 {
            content.write(u64::from(n - 1) * 600, &[n; 600]);
        }
        let outcomes: std::collections::BTreeSet<_> =
            (0..200).map(|seed| after(&content, Loss::Reorder, seed)).collect();
        // Each of the three with or without the others: whole writes, holes as zeros.
        assert_eq!(outcomes.len(), 8);
        assert!(outcomes.contains(&[[0; 600], [0; 600], [3; 600]].concat()));
    }

    #[test]
    fn a_torn_write_is_torn_at_the_boundaries_of_sectors() {
        let mut content = Content::default();
        content.write(0, &[9; 5000]);
        content.sync();
        content.write(24, &[1; 4096]);
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let bytes = after(&content, Loss::Tear, seed);
            assert!(bytes[..24] == [9; 24] && bytes[4120..] == [9; 880], "beside the write");
            for sector in bytes[24..4120].chunk_by(|a, b| a == b) {
                let at = sector.as_ptr() as usize - bytes.as_ptr() as usize;
                assert!(at == 24 || at.is_multiple_of(512), "{at}");
            }
            outcomes.insert(bytes);
        }
        assert!(outcomes.len() > 50, "{}", outcomes.len());
    }

    #[test]
    fn a_cut_may_be_lost_and_what_it_cut_off_be_back() {
        let mut content = Content::default();
        content.write(0, b"before");
        content.sync();
        content.set_len(0);
        content.write(0, b"new");
        let outcomes: std::collections::BTreeSet<_> =
            (0..50).map(|seed| after(&content, Loss::Reorder, seed)).collect();
        let expected = [&b""[..], b"before", b"new", b"newore"].map(<[u8]>::to_vec);
        assert_eq!(outcomes, expected.into());
    }

    #[test]
    fn the_same_seed_has_the_same_outcome() {
        let mut content = Content::default();
        for n in 0..50 {
            content.write(n * 700, &[7; 3000]);
        }
        for loss in LOSSES {
            assert_eq!(after(&content, loss, 5), after(&content, loss, 5));
        }
        assert_ne!(after(&content, Loss::Tear, 5), after(&content, Loss::Tear, 6));
    }

    #[test]
    fn what_a_failed_sync_has_not_written_no_later_one_does() {
        let mut content = Content::default();
        for n in 0..8 {
            content.write(n, &[1]);
        }
        content.fail_sync(&mut Rng::with_seed(3));
        content.sync();
        assert_eq!(content.read(0, 8), [1; 8], "it is read as if it were there");
        let survived = after(&content, Loss::Drop, 0);
        assert!(survived.contains(&0) || survived.len() < 8, "{survived:?}");
        assert!(survived.contains(&1), "some may have reached the disk");
        content.write(0, &[2; 8]);
        content.sync();
        assert_eq!(after(&content, Loss::Drop, 0), [2; 8], "written anew, it is written");
    }
}
