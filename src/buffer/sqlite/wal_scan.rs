//! Looks for damage in the middle of SQLite's log before SQLite opens it, and writes the log again.
//!
//! SQLite takes the first frame whose checksum fails for the end of the log, and drops what stands
//! behind it without a word: right after a torn write, wrong after a flipped bit. The two can be told
//! apart. Every commit waits until the one before it is on disk, so of the commits in the log only
//! the last can be torn: two or more commits behind the first bad frame, under the same salts, were
//! answered 200.
//!
//! A header that fails its checksum is damage too: 32 bytes at the start of a sector do not tear.
//!
//! Source: SQLite, "The Write-Ahead Log", file format §4 (header 32 bytes, frames of 24 bytes and a
//! page, cumulative checksums, salts that change whenever the log starts again).
//!
//! To be called while no connection of this process is open: closing a file of the database drops
//! the process's locks on it.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::buffer::Damage;
use crate::buffer::durability::sync_names_in;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Both ways to write the checksums: the last bit says that they are big-endian.
const MAGIC: u32 = 0x377f_0682;
/// Copies of damaged logs that are kept; an older one gives way.
const COPIES_MAX: usize = 3;
/// Read and written at once.
const PIECE_BYTES: usize = 1 << 20;
/// Behind the name of the database, with a number behind it.
const COPY_SUFFIX: &str = "-wal.damaged-";

/// What stands in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// Frames before the first bad one.
    pub(super) good_frames: u64,
    /// Commits among the frames behind it, it included, that belong to the same run of the log.
    pub(super) commits_behind: u64,
}

impl Scan {
    /// Commits behind the damage that had certainly been synced: all but the last, which may have
    /// been under way when the power went.
    pub(super) fn lost_commits(self) -> u64 {
        self.commits_behind.saturating_sub(1)
    }

    /// Length of the log to its first bad frame; one without a good frame holds nothing.
    fn good_bytes(self, page_bytes: usize) -> u64 {
        match self.good_frames {
            0 => 0,
            frames => (HEADER_BYTES as u64) + frames * (FRAME_HEADER_BYTES + page_bytes) as u64,
        }
    }
}

/// Scans the log of a database, if there is one, copies a damaged one aside, and sees to it that
/// what SQLite will read of it is on the disk.
///
/// # Errors
/// The log cannot be read, or the copy or the log itself not be written: then SQLite must not open
/// it either, since it would cut off what could still be rescued.
pub(super) fn look(database: &Path, page_bytes: usize) -> io::Result<Option<Damage>> {
    let log = with_suffix(database, "-wal");
    let file = match File::options().read(true).write(true).open(&log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let scan = scan(BufReader::with_capacity(PIECE_BYTES, &file), page_bytes)?;
    let damage = match scan.lost_commits() {
        0 => None,
        lost_commits => Some(Damage::Log { lost_commits, copy: copy_aside(database, &log)? }),
    };
    write_again(&file, scan.good_bytes(page_bytes))?;
    Ok(damage)
}

/// Copies a log, and drops the oldest copies.
fn copy_aside(database: &Path, log: &Path) -> io::Result<PathBuf> {
    let numbers = numbers_of_copies(database)?;
    let copy = numbered_copy(database, numbers.last().map_or(1, |last| last + 1));
    std::fs::copy(log, &copy)?;
    File::open(&copy)?.sync_all()?;
    if let Some(dir) = database.parent() {
        sync_names_in(dir)?;
    }
    for old in numbers.iter().rev().skip(COPIES_MAX - 1) {
        std::fs::remove_file(numbered_copy(database, *old))?;
    }
    Ok(copy)
}

/// Cuts off what SQLite would not read, writes the rest once more in its place, and syncs it.
///
/// What is behind the end would be taken for damage at the next start, once other commits have been
/// written over a part of it. And after a failed sync, in this life or an earlier one, the kernel takes
/// pages for clean that never reached the disk: they read well, no later sync writes them, and at a
/// power loss they are gone, with all that has been acknowledged behind them.
fn write_again(file: &File, good_bytes: u64) -> io::Result<()> {
    file.set_len(good_bytes)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut piece, offset)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&piece[..read], offset)?;
        offset += read as u64;
    }
}

fn with_suffix(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn numbered_copy(database: &Path, number: u64) -> PathBuf {
    with_suffix(database, &format!("{COPY_SUFFIX}{number}"))
}

/// The numbers of the copies there are, ascending.
fn numbers_of_copies(database: &Path) -> io::Result<Vec<u64>> {
    let (Some(dir), Some(name)) = (database.parent(), database.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}{COPY_SUFFIX}", name.to_string_lossy());
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok();
    let mut numbers: Vec<u64> = std::fs::read_dir(dir)?.filter_map(|entry| number(entry.ok()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Follows the checksums from frame to frame; behind the first bad one only salts and commit marks
/// are looked at.
fn scan(mut log: impl Read, page_bytes: usize) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let mut header = [0; HEADER_BYTES];
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    if !read_whole(&mut log, &mut header)? || !read_whole(&mut log, &mut frame)? {
        return Ok(scan);
    }
    let is_big_endian = word(&header[..4]) & 1 == 1;
    let mut sums = Sums::default();
    sums.add(&header[..24], is_big_endian);
    let mut good = word(&header[..4]) & !1 == MAGIC && sums.are(&header[24..32]);
    if good && word(&header[8..12]) as usize != page_bytes {
        return Err(io::Error::new(ErrorKind::InvalidData, "its log is that of another program"));
    }
    // Those of a damaged header cannot be believed: then the first that any frame has are this run's. A
    // file of zeros, as a new one may be after a power loss, has none and holds nothing.
    let mut salts: [u8; 8] = if good { header[16..24].try_into().unwrap_or_default() } else { [0; 8] };
    loop {
        if salts == [0; 8] {
            salts = frame[8..16].try_into().unwrap_or_default();
        }
        let is_of_this_run = salts != [0; 8] && frame[8..16] == salts;
        if good {
            sums.add(&frame[..8], is_big_endian);
            sums.add(&frame[FRAME_HEADER_BYTES..], is_big_endian);
            good = is_of_this_run && sums.are(&frame[16..24]);
        }
        if good {
            scan.good_frames += 1;
        } else if is_of_this_run && frame[4..8] != [0; 4] {
            scan.commits_behind += 1;
        }
        if !read_whole(&mut log, &mut frame)? {
            return Ok(scan);
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// SQLite's cumulative checksum over pairs of words.
#[derive(Default)]
struct Sums(u32, u32);

impl Sums {
    fn add(&mut self, bytes: &[u8], is_big_endian: bool) {
        for pair in bytes.chunks_exact(8) {
            let number = |four: &[u8]| match <[u8; 4]>::try_from(four) {
                Ok(four) if is_big_endian => u32::from_be_bytes(four),
                Ok(four) => u32::from_le_bytes(four),
                Err(_) => 0,
            };
            self.0 = self.0.wrapping_add(number(&pair[..4])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(number(&pair[4..])).wrapping_add(self.0);
        }
    }

    fn are(&self, written: &[u8]) -> bool {
        [self.0.to_be_bytes(), self.1.to_be_bytes()].concat() == written
    }
}

/// Fills the buffer; false where the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// A log with so many commits, as SQLite left it, without a checkpoint.
    fn log_of(commits: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=FULL;
             CREATE TABLE t(a BLOB);",
        )
        .unwrap();
        for n in 1..commits {
            db.execute("INSERT INTO t VALUES (?1)", [vec![u8::try_from(n % 251).unwrap(); 6000]]).unwrap();
        }
        std::fs::read(dir.path().join("a.db-wal")).unwrap()
    }

    const FRAME: usize = FRAME_HEADER_BYTES + 4096;

    fn frames(log: &[u8]) -> u64 {
        ((log.len() - HEADER_BYTES) / FRAME) as u64
    }

    #[test]
    fn a_log_that_sqlite_wrote_is_good_to_its_end() {
        let log = log_of(20);
        assert!(frames(&log) > 40);
        assert_eq!(scan(&log[..], 4096).unwrap(), Scan { good_frames: frames(&log), commits_behind: 0 });
        for nothing in [&b""[..], &log[..31], &log[..HEADER_BYTES], &[0; 10_000][..]] {
            assert_eq!(scan(nothing, 4096).unwrap(), Scan::default());
        }
    }

    #[test]
    fn a_log_cut_anywhere_is_a_torn_tail_and_no_damage() {
        let log = log_of(6);
        for end in (0..log.len()).step_by(61) {
            assert_eq!(scan(&log[..end], 4096).unwrap().lost_commits(), 0, "{end}");
        }
    }

    #[test]
    fn a_last_commit_with_a_hole_is_a_torn_tail_and_no_damage() {
        // Its frames reached the disk in another order than they were written.
        let mut log = log_of(6);
        let last_frames = log.len() - 2 * FRAME;
        log[last_frames..last_frames + FRAME].fill(0);
        let scan = scan(&log[..], 4096).unwrap();
        assert_eq!((scan.commits_behind, scan.lost_commits()), (1, 0));
    }

    #[test]
    fn a_flipped_bit_in_the_middle_is_damage_and_tells_how_much_is_behind_it() {
        let log = log_of(12);
        let mut told = 0;
        for at in (0..HEADER_BYTES).chain((HEADER_BYTES..log.len()).step_by(997)) {
            let mut damaged = log.clone();
            damaged[at] ^= 0x10;
            let scan = scan(&damaged[..], 4096).unwrap();
            assert!(scan.good_frames < frames(&log), "{at}");
            told += u64::from(scan.lost_commits() > 0);
            assert!(at >= HEADER_BYTES || scan == Scan { good_frames: 0, commits_behind: 12 }, "{at} of the header");
        }
        assert!(told > 30, "{told}");
        let mut damaged = log.clone();
        damaged[HEADER_BYTES + 100] ^= 1;
        assert_eq!(scan(&damaged[..], 4096).unwrap(), Scan { good_frames: 0, commits_behind: 12 });
    }

    #[test]
    fn a_zeroed_sector_at_the_front_is_damage_though_it_takes_the_first_frames_salts_along() {
        let log = log_of(12);
        for zeroed in [512, HEADER_BYTES + FRAME_HEADER_BYTES + 1, 4096] {
            let mut damaged = log.clone();
            damaged[..zeroed].fill(0);
            // The first frame is not the commit's last, so that every commit is counted.
            assert_eq!(scan(&damaged[..], 4096).unwrap(), Scan { good_frames: 0, commits_behind: 12 }, "{zeroed}");
        }
    }

    #[test]
    fn frames_of_an_earlier_run_of_the_log_are_no_damage() {
        let (old, new) = (log_of(12), log_of(3));
        // A log that started again overwrites from the front and leaves the old frames behind.
        let mixed = [&new[..], &old[new.len()..]].concat();
        assert_eq!(scan(&mixed[..], 4096).unwrap(), Scan { good_frames: frames(&new), commits_behind: 0 });
    }

    #[test]
    fn a_log_of_pages_of_another_size_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hookward.db-wal");
        std::fs::write(&path, log_of(3)).unwrap();
        assert!(look(&dir.path().join("hookward.db"), 8192).is_err());
        assert_eq!(std::fs::read(&path).unwrap().len(), log_of(3).len());
    }

    #[test]
    fn torn_commits_of_two_crashes_are_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("hookward.db");
        let path = dir.path().join("hookward.db-wal");
        let log = log_of(6);
        let end_of_last = log.len();
        // The last commit is torn: its first frame is missing, its commit mark is there.
        let begin_of_last = end_of_last - 3 * FRAME;
        let mut torn = log.clone();
        torn[begin_of_last..begin_of_last + FRAME].fill(0);
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(look(&database, 4096).unwrap(), None);
        let left = std::fs::read(&path).unwrap();
        let kept = left.clone();
        // Another commit in its place, longer and torn in the same way: one mark of each would be two.
        let mut again = left;
        again.resize(end_of_last, 0);
        again.extend_from_slice(&log[end_of_last - FRAME..]);
        std::fs::write(&path, &again).unwrap();
        assert_eq!(look(&database, 4096).unwrap(), None);
        assert_eq!(kept, log[..begin_of_last], "what can be read stays as it is");
    }

    #[test]
    fn a_damaged_log_is_copied_aside_and_only_the_newest_copies_stay() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("hookward.db");
        assert_eq!(look(&database, 4096).unwrap(), None, "no log");
        let mut log = log_of(12);
        let path = dir.path().join("hookward.db-wal");
        std::fs::write(&path, &log).unwrap();
        assert_eq!(look(&database, 4096).unwrap(), None, "a good one");
        log[HEADER_BYTES + 100] ^= 1;
        for _ in 0..5 {
            std::fs::write(&path, &log).unwrap();
            let Some(Damage::Log { lost_commits, copy }) = look(&database, 4096).unwrap() else { panic!("not found") };
            assert_eq!(lost_commits, 11);
            assert_eq!(std::fs::read(&copy).unwrap(), log);
        }
        assert_eq!(look(&database, 4096).unwrap(), None, "told once");
        let copies: Vec<_> =
            (1..=5).filter(|n| dir.path().join(format!("hookward.db-wal.damaged-{n}")).exists()).collect();
        assert_eq!(copies, [3, 4, 5]);
    }
}
