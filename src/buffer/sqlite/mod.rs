//! The embedded engine: SQLite in WAL mode, owned by one thread.
//!
//! Every access is sequential in `seq`: appends at the end, settlements sorted, purge oldest first.
//! Which events wait and which are known is in memory, rebuilt at start by one scan of the narrow
//! `event` table; bodies are read only when an event is claimed.
//!
//! # What it assumes
//! One process per data directory (a lock file), nobody else opens the file while it runs, and the
//! disk keeps what `fdatasync` has confirmed.

mod ballast;
mod event_row;
mod give_way;
mod lanes;
mod lock;
mod notes;
mod operator;
mod place;
mod purge;
mod recovery;
mod room;
mod rows;
mod schema;
mod statements;
mod upgrade;
mod wal_scan;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, params};
use thiserror::Error;

use super::capacity::{Capacity, MaxBytes, Reserve};
use super::durability::{Space, sync_names_down_to, sync_names_in};
use super::event::{DeliveryId, Fingerprint, HandedOut, NewEvent, Outcome, Seq, Settlement, State};
use super::index::Index;
use super::pause::Pause;
use super::record::{Detail, Filter, Listed, Repair, Repaired, Slice};
use super::{Append, Appended, Buffer, BufferError, ClaimLimit, Claims, Recovery, Stats, Work};
use crate::clock::RunMs;
use crate::faults::failpoint;
use ballast::Ballast;
use give_way::GiveWay;
use lanes::{InFlight, Lanes};
pub use lock::InstanceLock;
use place::Held;
pub use place::{Displaced, Place};
use purge::Sweep;
use room::{Added, Fill, Room, Wanted};
use statements::Statements;

/// The database within the data directory.
pub const DATABASE_FILE: &str = "hookward.db";
/// Its log.
const LOG_FILE: &str = "hookward.db-wal";
/// WAL size at which it is written back: it bounds what one bad bit can take along.
const CHECKPOINT_WAL_BYTES: u64 = 8 << 20;
/// Running time between looks at the free space.
const SPACE_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Running time between looks at how much the file system gives, while that is no less than what is configured.
const CAPACITY_CHECK_EVERY: Duration = Duration::from_secs(60);
/// Running time between notes of the running time.
const RUN_NOTE_EVERY: Duration = Duration::from_secs(1);
/// Running time between such notes while nothing else is written.
const IDLE_RUN_NOTE_EVERY: Duration = Duration::from_secs(60);
/// Pages given back to the file system in one idle slice: some 10 ms.
const VACUUM_PAGES: u32 = 200;
/// The same while events come: below a millisecond.
const VACUUM_PAGES_BUSY: u32 = 16;
/// Free pages that are worth it while events come, if they are a fifth of the file too: what a backlog
/// has left, not what a steady flow uses again.
const VACUUM_BUSY_FREE_PAGES: u64 = 1_024;
/// Running time after the start at which the ballast is made: not while everything else starts.
const BALLAST_AFTER: Duration = Duration::from_secs(10);
/// Smallest bound of the buffer that has a ballast.
const BALLAST_MIN_BUFFER_BYTES: u64 = 128 << 20;
/// Room that a row without a body takes, about.
const TOMBSTONE_BYTES: u64 = 120;
/// Bodies that cannot be deleted, at most, before the whole database is given up.
const STUCK_BODIES_MAX: usize = 1_000;
/// Events are added up until then; counting pages costs a commit of one event a tenth.
const MEASURE_AFTER_BYTES: u64 = 64 << 10;
/// Running time after which an event that could not be set aside, for want of room, is handed out or set aside.
const SET_ASIDE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Rows looked at in one step of the search for the oldest pending event.
const OLDEST_SCAN_ROWS: u32 = 2_000;

/// Bounds of the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Used pages and WAL.
    pub max_bytes: MaxBytes,
    /// What one route leaves of that to the others.
    pub reserve: Reserve,
    /// Ids that are remembered at most.
    pub dedupe_entries: usize,
    /// Longest duplicate window of any route: how long tombstones stay.
    pub tombstone_keep: Duration,
    /// How long dead letters are kept.
    pub dead_letter_keep: Duration,
    /// How long delivered bodies are kept.
    pub delivered_keep: Duration,
    /// Whether events are handed out so that their order can be kept: none from memory while older
    /// ones of its route wait, and after a restart all of them by `seq`, due or not.
    pub in_order: bool,
}

/// Why the database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Written by a later version; it was not touched.
    #[error(
        "{path} was written by a newer hookward (schema {found}, this one knows {known}); start that version again, or another data_dir; the file was not touched"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// The latest known here.
        known: i64,
    },
    /// The file cannot be made or opened.
    #[error("{path}: {error}; is the directory writable for this user?")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// SQLite could not read or write it.
    #[error("{path}: {error}; look after its disk, then start again: nothing has been thrown away")]
    Unusable {
        /// The file.
        path: String,
        /// What SQLite says.
        error: BufferError,
    },
    /// Not what hookward leaves there, or SQLite cannot make anything of it; it was not written to.
    #[error(
        "{path}: {what}; if the medium has damaged it, move it and {path}-wal away and start anew: sqlite3's .recover brings out what can still be read"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What was found.
        what: String,
    },
    /// Another process has it open, though not its instance lock.
    #[error(
        "{path} is open in another process, whose instance lock was removed or replaced; stop that process, then start again"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// It is to be opened again, and is not there any more.
    #[error(transparent)]
    Displaced(#[from] Displaced),
    /// It is not what durability rests on.
    #[error("{0}")]
    Failed(String),
}

impl OpenError {
    fn io(path: &Path) -> impl Fn(io::Error) -> OpenError {
        move |error| OpenError::Io { path: path.display().to_string(), error }
    }

    fn is_disk_full(&self) -> bool {
        match self {
            OpenError::Unusable { error, .. } => matches!(error, BufferError::DiskFull),
            OpenError::Io { error, .. } => error.kind() == io::ErrorKind::StorageFull,
            OpenError::Newer { .. } | OpenError::Unreadable { .. } | OpenError::InUse { .. } => false,
            OpenError::Displaced(_) | OpenError::Failed(_) => false,
        }
    }

    fn unusable(path: &Path) -> impl Fn(BufferError) -> OpenError {
        move |error| {
            let path = path.display().to_string();
            match error {
                BufferError::Damaged(what) => OpenError::Unreadable { path, what },
                error => OpenError::Unusable { path, error },
            }
        }
    }
}

/// Whether SQLite has met what it never writes.
fn is_corruption(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error, rusqlite::Error::SqliteFailure(code, _) if matches!(code.code, DatabaseCorrupt | NotADatabase))
}

/// SQLite's message without the values it may quote.
fn failed(error: &rusqlite::Error) -> BufferError {
    match error {
        rusqlite::Error::SqliteFailure(code, _) if code.code == rusqlite::ErrorCode::DiskFull => BufferError::DiskFull,
        rusqlite::Error::SqliteFailure(code, _) if is_corruption(error) => {
            BufferError::Damaged(format!("SQLite: {code}"))
        }
        rusqlite::Error::SqliteFailure(code, _) => BufferError::Failed(format!("SQLite: {code}")),
        _ => BufferError::Damaged("SQLite: a row is not in its known form".to_owned()),
    }
}

trait OrFailed<T> {
    fn or_failed(self) -> Result<T, BufferError>;
}

impl<T> OrFailed<T> for rusqlite::Result<T> {
    fn or_failed(self) -> Result<T, BufferError> {
        self.map_err(|error| failed(&error))
    }
}

/// The engine.
pub struct SqliteBuffer {
    db: Connection,
    place: Arc<Place>,
    settings: Settings,
    index: Index,
    lanes: Lanes,
    counts: Counts,
    sweep: Sweep,
    give_way: GiveWay,
    log: Arc<Log>,
    used_pages: u64,
    free_pages: u64,
    /// Bytes of events since the pages were counted.
    unmeasured_bytes: u64,
    /// Bodies in damaged pages, which stay where they are.
    stuck_bodies: RefCell<HashSet<Seq>>,
    /// Whether free pages are given back: not after that has met damage.
    gives_space_back: bool,
    /// The highest place ever given away.
    last_seq: Seq,
    /// Rows that have been dropped at the end of their keep, ever.
    dropped: i64,
    /// Rows that the start has missed and told of; settled with the next clean end.
    missed: i64,
    space_low: bool,
    space_checked: Option<RunMs>,
    capacity: Capacity,
    capacity_checked: Option<RunMs>,
    run_noted: RunMs,
    /// No pending event is older than this one.
    oldest_pending: Seq,
    oldest_pending_unix_ms: Option<i64>,
    /// Whether that is so; else the search goes on with the next housekeeping.
    is_oldest_found: bool,
    /// But for those before it that an operator has sent again, and when each was received.
    pending_again: BTreeMap<Seq, i64>,
    ballast: Ballast,
    /// Running time at which it was opened.
    opened: RunMs,
}

/// Where a database is to be opened.
#[derive(Clone, Copy)]
enum Whereabouts<'a> {
    /// In this directory, whatever stands there, under this lock.
    New(&'a Path, Option<&'a InstanceLock>),
    /// Where this process has had it open.
    Known(&'a Arc<Place>),
}

impl Whereabouts<'_> {
    fn dir(&self) -> &Path {
        match self {
            Whereabouts::New(dir, _) => dir,
            Whereabouts::Known(place) => place.dir(),
        }
    }
}

/// What SQLite tells of its log after each commit.
#[derive(Default)]
struct Log {
    pages: AtomicU64,
    /// Since housekeeping last looked.
    has_grown: AtomicBool,
}

/// What is counted along with every change, so that nobody needs to count rows.
#[derive(Default)]
struct Counts {
    events: [u64; State::ALL.len()],
    room: Room,
    /// Bodies of delivered events that are kept for a while, bytes.
    kept_bytes: u64,
    quarantined: u64,
}

impl Counts {
    fn add(&mut self, state: State, route: &str, bytes: u64, verified: bool) {
        self.events[state as usize] += 1;
        if holds_room(state) {
            self.room.add(route, bytes, verified);
        }
    }

    fn remove(&mut self, state: State, route: &str, bytes: u64, verified: bool) {
        self.events[state as usize] = self.events[state as usize].saturating_sub(1);
        if holds_room(state) {
            self.room.remove(route, bytes, verified);
        }
    }

    /// What may be dropped before its time, about.
    fn yielding_bytes(&self) -> u64 {
        self.tombstones() * TOMBSTONE_BYTES + self.kept_bytes
    }

    fn tombstones(&self) -> u64 {
        self.events[State::Delivered as usize] + self.events[State::Discarded as usize]
    }
}

fn holds_room(state: State) -> bool {
    matches!(state, State::Pending | State::Dead | State::Quarantined)
}

impl SqliteBuffer {
    /// Opens or creates the database of a directory that nobody else uses.
    ///
    /// # Errors
    /// See [`OpenError`]; a file that is refused is left as it was.
    pub fn open(dir: &Path, settings: Settings) -> Result<(SqliteBuffer, Recovery), OpenError> {
        SqliteBuffer::open_at(Whereabouts::New(dir, None), settings, &[])
    }

    /// The same for a data directory, and a commit counts only while this lock, too, stands where it was taken.
    ///
    /// # Errors
    /// See [`OpenError`]; a file that is refused is left as it was.
    pub fn open_under(
        lock: &InstanceLock,
        dir: &Path,
        settings: Settings,
    ) -> Result<(SqliteBuffer, Recovery), OpenError> {
        SqliteBuffer::open_at(Whereabouts::New(dir, Some(lock)), settings, &[])
    }

    /// Opens it again after a failure, in the process that had it open: the very same files, nothing is ever made in
    /// their place. `handed_out` stay with whoever holds them.
    ///
    /// # Errors
    /// See [`OpenError`]; to be tried again.
    pub fn reopen(
        place: &Arc<Place>,
        settings: Settings,
        handed_out: &[HandedOut],
    ) -> Result<(SqliteBuffer, Recovery), OpenError> {
        failpoint("reopen");
        place.look()?;
        // They may have come back by a rename.
        sync_names_down_to(place.dir()).map_err(OpenError::io(place.dir()))?;
        let opened = SqliteBuffer::open_at(Whereabouts::Known(place), settings, handed_out)?;
        failpoint("after-reopen");
        Ok(opened)
    }

    /// Where its files are, to open them again.
    pub fn place(&self) -> Arc<Place> {
        self.place.clone()
    }

    fn open_at(
        whereabouts: Whereabouts<'_>,
        settings: Settings,
        handed_out: &[HandedOut],
    ) -> Result<(SqliteBuffer, Recovery), OpenError> {
        match SqliteBuffer::open_once(whereabouts, settings.clone(), handed_out) {
            // To open it, SQLite has to write; then the backlog can be delivered, and makes room.
            Err(error) if error.is_disk_full() && Ballast::of(whereabouts.dir()).give_up() => {
                SqliteBuffer::open_once(whereabouts, settings, handed_out)
            }
            opened => opened,
        }
    }

    fn open_once(
        whereabouts: Whereabouts<'_>,
        settings: Settings,
        handed_out: &[HandedOut],
    ) -> Result<(SqliteBuffer, Recovery), OpenError> {
        let dir = whereabouts.dir();
        let path = dir.join(DATABASE_FILE);
        schema::refuse_unknown(&path)?;
        // Before SQLite opens it, which drops what it cannot read.
        let log_damage = wal_scan::look(&path, schema::PAGE_LEN).map_err(OpenError::io(&path))?;
        let (mut db, place) = match whereabouts {
            Whereabouts::Known(place) => (schema::open(&path)?, place.clone()),
            Whereabouts::New(dir, lock) => {
                schema::create_if_missing(&path)?;
                // Held before SQLite opens it: the look at the end tells whether that was this one.
                let database = Held::take(&path).map_err(OpenError::io(&path))?;
                let db = schema::open(&path)?;
                (db, Arc::new(Place::of(dir, database, lock).map_err(OpenError::io(&path))?))
            }
        };
        let log = Arc::new(Log::default());
        let seen = log.clone();
        db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            seen.pages.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            seen.has_grown.store(true, Ordering::Relaxed);
            Ok(())
        }))
        .or_failed()
        .map_err(OpenError::unusable(&path))?;
        let mut engine = SqliteBuffer {
            db,
            place,
            index: Index::new(settings.dedupe_entries),
            lanes: Lanes::new(settings.in_order),
            capacity: Capacity::of(settings.max_bytes, None, 0, 0),
            capacity_checked: None,
            settings,
            counts: Counts::default(),
            sweep: Sweep::default(),
            give_way: GiveWay::default(),
            log,
            used_pages: 0,
            free_pages: 0,
            unmeasured_bytes: 0,
            stuck_bodies: RefCell::default(),
            gives_space_back: true,
            last_seq: Seq(0),
            dropped: 0,
            missed: 0,
            space_low: false,
            space_checked: None,
            run_noted: RunMs::default(),
            oldest_pending: Seq(0),
            oldest_pending_unix_ms: None,
            is_oldest_found: false,
            ballast: Ballast::of(dir),
            opened: RunMs::default(),
            pending_again: BTreeMap::new(),
        };
        let held_by_others = handed_out.iter().map(|held| (held.seq, held.delivery_id)).collect();
        let mut recovery = engine.recover(&held_by_others).map_err(OpenError::unusable(&path))?;
        // The log is there now. SQLite syncs its name too, but passes over an error of that
        // (`unixSync`): what is acknowledged from here on would be lost with the name.
        sync_names_in(dir).map_err(OpenError::io(&path))?;
        engine.place.look()?;
        recovery.damage.extend(log_damage);
        engine.look_at_space(recovery.run_base);
        Ok((engine, recovery))
    }

    /// Does all of the work or nothing of it. Where a damaged page does not let a body go, it is done
    /// without that.
    fn in_transaction<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, BufferError>,
    ) -> Result<T, BufferError> {
        loop {
            let stuck = self.stuck_bodies.borrow().len();
            let done = self.try_transaction(&mut work);
            if done.is_ok() || self.stuck_bodies.borrow().len() == stuck || stuck >= STUCK_BODIES_MAX {
                return done;
            }
        }
    }

    fn try_transaction<T>(
        &mut self,
        work: &mut impl FnMut(&mut Self) -> Result<T, BufferError>,
    ) -> Result<T, BufferError> {
        self.run("BEGIN IMMEDIATE")?;
        let done = work(self).and_then(|value| {
            self.run("COMMIT")?;
            // Durable, if anybody can ever find it again.
            self.look_at_place()?;
            Ok(value)
        });
        if done.is_err() && !self.db.is_autocommit() {
            // Some errors have rolled back already; a failed rollback is caught by the next BEGIN.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        done
    }

    /// Fails once the paths lead to other files than those that are open.
    fn look_at_place(&self) -> Result<(), BufferError> {
        let Err(displaced) = self.place.look() else { return Ok(()) };
        let mut what = displaced.to_string();
        if displaced.is_log_alone {
            // The database is found by the next start, if not its log: all that the log holds goes there.
            match schema::run_to_end(&self.db, "PRAGMA wal_checkpoint(TRUNCATE)") {
                Ok(()) => what.push_str("; what it held has been written into the database"),
                Err(error) => {
                    let why = failed(&error);
                    what.push_str(&format!("; what it held could not be written into the database: {why}"));
                }
            }
        }
        Err(BufferError::Failed(what))
    }

    /// A statement without rows that is needed again and again.
    fn run(&self, sql: &'static str) -> Result<(), BufferError> {
        self.db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).or_failed().map(drop)
    }

    /// Used pages and WAL, as SQLite sees them after a commit.
    fn measure(&mut self) -> Result<(), BufferError> {
        let count = |pragma: &str| -> Result<u64, BufferError> {
            let pages: i64 = self
                .db
                .prepare_cached(pragma)
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .or_failed()?;
            Ok(u64::try_from(pages).unwrap_or(0))
        };
        self.free_pages = count("PRAGMA freelist_count")?;
        self.used_pages = count("PRAGMA page_count")?.saturating_sub(self.free_pages);
        self.unmeasured_bytes = 0;
        Ok(())
    }

    fn wal_bytes(&self) -> u64 {
        self.log.pages.load(Ordering::Relaxed) * schema::WAL_FRAME_BYTES
    }

    fn used_bytes(&self) -> u64 {
        self.pages_bytes() + self.wal_bytes()
    }

    /// Used pages, and what came since they were counted.
    fn pages_bytes(&self) -> u64 {
        self.used_pages * schema::PAGE_BYTES + self.unmeasured_bytes
    }

    /// WAL size at which it is written back, smaller under a small bound.
    fn checkpoint_at_bytes(&self) -> u64 {
        CHECKPOINT_WAL_BYTES.min(self.capacity.bytes() / 8).max(schema::WAL_FRAME_BYTES)
    }

    fn look_at_space(&mut self, now: RunMs) {
        if self.space_checked.is_none_or(|at| now.since(at) >= SPACE_CHECK_EVERY) {
            self.space_checked = Some(now);
            // A kernel that cannot say is no reason to refuse; SQLITE_FULL still is.
            let space = Space::of(self.place.dir()).ok();
            self.space_low = space.is_some_and(Space::is_low);
            // Whoever is refused for want of room is let in as soon as there is some.
            let check_every = if self.capacity.is_limited() { SPACE_CHECK_EVERY } else { CAPACITY_CHECK_EVERY };
            if self.capacity_checked.is_none_or(|at| now.since(at) >= check_every) {
                self.look_at_capacity(space);
                self.capacity_checked = Some(now);
            }
            if let Some(space) = space.filter(|_| self.has_ballast() && now.since(self.opened) >= BALLAST_AFTER)
                && self.place.look().is_ok()
            {
                self.ballast.keep(space);
            }
        }
    }

    fn has_ballast(&self) -> bool {
        self.capacity.configured_bytes >= BALLAST_MIN_BUFFER_BYTES
    }

    /// Works out how much it may take, and tells it at the start and when what limits it is another.
    fn look_at_capacity(&mut self, space: Option<Space>) {
        let size_of = |name: &str| self.place.dir().join(name).metadata().map_or(0, |file| file.len());
        let own_bytes = [DATABASE_FILE, LOG_FILE, ballast::BALLAST_FILE].map(size_of).iter().sum();
        let ballast_bytes = if self.has_ballast() { ballast::BALLAST_BYTES } else { 0 };
        let before = self.capacity;
        self.capacity = Capacity::of(self.settings.max_bytes, space, own_bytes, ballast_bytes);
        let Capacity { configured_bytes, given_bytes } = self.capacity;
        if self.settings.max_bytes == MaxBytes::Auto && self.capacity_checked.is_none() {
            let capacity_bytes = self.capacity.bytes();
            tracing::info!(
                configured_bytes,
                capacity_bytes,
                "buffer.max_bytes is auto: 80 % of the file system, or what is free on it if that is less"
            );
        } else if self.capacity.is_limited() && !before.is_limited() {
            tracing::warn!(
                configured_bytes,
                file_system_bytes = given_bytes,
                "the file system gives less than buffer.max_bytes: senders get 503 at that; enlarge the volume, make room on it, or lower buffer.max_bytes"
            );
        } else if self.capacity_checked.is_none() || self.capacity.is_limited() != before.is_limited() {
            tracing::info!(
                configured_bytes,
                file_system_bytes = given_bytes,
                "the buffer's capacity is what is configured"
            );
        }
    }

    /// How full it is, without what gives way before anything is refused: tombstones and kept bodies.
    fn fill(&self) -> Fill {
        Fill {
            capacity_bytes: self.capacity.bytes(),
            reserve: self.settings.reserve,
            pages_bytes: self.pages_bytes().saturating_sub(self.counts.yielding_bytes()),
            log_bytes: self.checkpoint_at_bytes(),
        }
    }

    /// Whether it is above the bound, and something may be dropped. Not while others have filled the disk, when
    /// that would take ids without letting an event in.
    fn room_is_to_be_made(&self) -> bool {
        self.pages_bytes() + self.checkpoint_at_bytes() > self.capacity.bytes()
            && self.counts.tombstones() > 0
            && !self.space_low
    }

    /// What became of each, and the checksum of what was written.
    fn write_appends(
        &self,
        statements: &mut Statements<'_>,
        appends: &[Append],
        now: RunMs,
    ) -> Result<Vec<(Appended, u32)>, BufferError> {
        let mut appended: Vec<(Appended, u32)> = Vec::with_capacity(appends.len());
        let fill = self.fill();
        let (mut added, mut stored) = (Added::default(), 0);
        let mut group: HashMap<Fingerprint, Seq> = HashMap::new();
        // Routes of which events of this group wait.
        let mut waiting: Vec<&str> = Vec::new();
        for append in appends {
            if let Some((fingerprint, window)) = &append.event.dedupe {
                let in_group = group.get(fingerprint).copied();
                if let Some(seq) = in_group.or_else(|| self.index.find(fingerprint, *window, now)) {
                    appended.push((Appended::Duplicate { seq }, 0));
                    continue;
                }
            }
            let route = &*append.event.event.route;
            let wanted =
                Wanted { route, bytes: append.event.stored_bytes(), verified: append.event.event.is_verified() };
            if self.space_low || !self.counts.room.has_room(wanted, fill, &added) {
                appended.push((Appended::Full, 0));
                continue;
            }
            stored += 1;
            let seq = Seq(self.last_seq.0 + stored);
            let crc = self.insert(statements, append, seq, now)?;
            added.add(wanted);
            if let Some((fingerprint, _)) = &append.event.dedupe {
                group.insert(*fingerprint, seq);
            }
            let is_first = self.lanes.is_clear(route) && !waiting.contains(&route);
            let claimed = append.claim && (is_first || !self.settings.in_order);
            if !claimed && !waiting.contains(&route) {
                waiting.push(route);
            }
            appended.push((Appended::Stored { seq, claimed }, crc));
        }
        Ok(appended)
    }

    fn note_append(&mut self, append: &Append, appended: Appended, crc: u32, now: RunMs) {
        let Appended::Stored { seq, claimed } = appended else { return };
        let NewEvent { event, dedupe, .. } = &append.event;
        let (bytes, verified) = (append.event.stored_bytes(), event.is_verified());
        self.last_seq = seq;
        self.unmeasured_bytes += bytes;
        if self.counts.events[State::Pending as usize] == 0 {
            self.oldest_pending = seq;
            self.oldest_pending_unix_ms = Some(event.received_unix_ms);
        }
        self.counts.add(State::Pending, &event.route, bytes, verified);
        if let Some((fingerprint, _)) = dedupe {
            self.index.insert(*fingerprint, seq, now);
        }
        if claimed {
            let in_flight = InFlight {
                delivery_id: event.delivery_id,
                route: event.route.clone(),
                bytes,
                verified,
                stored: now,
                fingerprint: dedupe.map(|(fingerprint, _)| fingerprint.0),
                crc,
                client_errors: 0,
                redriven: None,
            };
            self.lanes.hand_out(seq, in_flight);
        } else {
            self.lanes.push(&event.route, seq);
        }
    }

    fn note_settlement(&mut self, settlement: &Settlement) {
        let state = match &settlement.outcome {
            Outcome::Delivered => State::Delivered,
            Outcome::Dead { .. } => State::Dead,
            Outcome::RetryAt { due, .. } => return self.lanes.retry(settlement.event, *due),
            Outcome::Released => return self.lanes.retry(settlement.event, RunMs(0)),
            Outcome::PutBack { due } => return self.lanes.retry(settlement.event, *due),
        };
        if let Some(InFlight { route, bytes, verified, .. }) = self.lanes.done(settlement.event) {
            self.pending_again.remove(&settlement.event.seq);
            self.counts.remove(State::Pending, &route, bytes, verified);
            self.counts.add(state, &route, bytes, verified);
            if state == State::Delivered && !self.settings.delivered_keep.is_zero() {
                self.counts.kept_bytes += bytes;
            }
        }
    }

    /// Moves the lower bound of the pending events on, a bounded step at a time, and notes when
    /// the event there was received.
    fn find_oldest_pending(&mut self) -> Result<(), BufferError> {
        self.is_oldest_found = true;
        if self.counts.events[State::Pending as usize] == 0 {
            self.oldest_pending_unix_ms = None;
            return Ok(());
        }
        self.is_oldest_found = false;
        let mut statement = self
            .db
            .prepare_cached("SELECT seq, state, received_ms FROM event WHERE seq >= ?1 ORDER BY seq LIMIT ?2")
            .or_failed()?;
        let mut rows = statement.query(params![self.oldest_pending.0, OLDEST_SCAN_ROWS]).or_failed()?;
        while let Some(row) = rows.next().or_failed()? {
            self.oldest_pending = Seq(row.get(0).or_failed()?);
            self.oldest_pending_unix_ms = row.get(2).ok();
            if row.get(1) == Ok(State::Pending.code()) {
                self.is_oldest_found = true;
                break;
            }
        }
        Ok(())
    }

    /// Moves pages from the end of the file into free ones and cuts it off there, a slice at a time.
    fn give_space_back(&mut self, idle: bool) -> Result<(), BufferError> {
        let is_worth_it = self.free_pages > VACUUM_BUSY_FREE_PAGES.max(self.used_pages / 4);
        let pages = match idle {
            true => VACUUM_PAGES,
            false => VACUUM_PAGES_BUSY,
        };
        if !self.gives_space_back || self.free_pages == 0 || !(idle || is_worth_it) {
            return Ok(());
        }
        let done = schema::run_to_end(&self.db, &format!("PRAGMA incremental_vacuum({pages})"));
        match done {
            Err(error) if is_corruption(&error) => {
                self.gives_space_back = false;
                tracing::error!("the medium has damaged the buffer: its file keeps its size until that is replaced");
                Ok(())
            }
            other => other.or_failed(),
        }
    }

    /// Writes the log back into the database. A full disk only puts it off.
    fn checkpoint(&mut self) -> Result<(), BufferError> {
        failpoint("before-checkpoint");
        let done =
            self.db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| Ok((row.get(0)?, row.get(1)?))).or_failed();
        let (busy, log): (i64, i64) = match done {
            Err(BufferError::DiskFull) => {
                self.space_low = true;
                return Ok(());
            }
            other => other?,
        };
        if busy != 0 {
            return Err(BufferError::Failed(format!(
                "the write-ahead log could not be written back (busy, {log} frames)"
            )));
        }
        self.log.pages.store(0, Ordering::Relaxed);
        failpoint("after-checkpoint");
        Ok(())
    }
}

impl Buffer for SqliteBuffer {
    fn commit(&mut self, work: &Work, now: RunMs) -> Result<Vec<Appended>, BufferError> {
        self.look_at_space(now);
        let mut settlements: Vec<&Settlement> = work.settlements.iter().collect();
        settlements.sort_by_key(|settlement| settlement.event.seq);

        failpoint("before-write");
        let appended = self.in_transaction(|engine| {
            let mut statements = Statements::of(&engine.db);
            for settlement in &settlements {
                engine.write_settlement(&mut statements, settlement, now)?;
            }
            let appended = engine.write_appends(&mut statements, &work.appends, now)?;
            failpoint("after-write");
            if now.since(engine.run_noted) >= RUN_NOTE_EVERY {
                notes::write_number(&engine.db, notes::RUN_MS, now.0)?;
            }
            Ok(appended)
        });
        if matches!(appended, Err(BufferError::DiskFull)) {
            // A ballast in somebody else's directory is not ours to give up.
            self.look_at_place()?;
            // Completions come again, and make room; new events are refused until there is some.
            self.space_low = true;
            self.ballast.give_up();
        }
        let appended = appended?;
        failpoint("after-sync");

        // Durable from here on; only now may memory say so.
        if now.since(self.run_noted) >= RUN_NOTE_EVERY {
            self.run_noted = now;
        }
        for (append, (appended, crc)) in work.appends.iter().zip(&appended) {
            self.note_append(append, *appended, *crc, now);
        }
        for settlement in settlements {
            self.note_settlement(settlement);
        }
        if self.unmeasured_bytes >= MEASURE_AFTER_BYTES {
            // What is stored is stored: if the pages cannot be counted, the estimate stands until they can.
            let _ = self.measure();
        }
        Ok(appended.into_iter().map(|(appended, _)| appended).collect())
    }

    fn share_among(&mut self, routes: &[Arc<str>]) {
        self.counts.room.share_among(routes);
    }

    fn claim(&mut self, route: &str, limit: ClaimLimit, now: RunMs) -> Result<Claims, BufferError> {
        let mut claims = Claims::default();
        let mut bytes = 0;
        while claims.events.len() < limit.events && (bytes < limit.bytes || claims.events.is_empty()) {
            let Some(seq) = self.lanes.take_due(route, limit.untried_first, now) else { break };
            let found = match self.read(seq) {
                Ok(None) => self.quarantine(route, seq, now).map(|()| None),
                found => found,
            };
            match found {
                Ok(Some((claimed, in_flight))) => {
                    bytes += claimed.event.body.len();
                    self.lanes.hand_out(seq, in_flight);
                    claims.events.push(claimed);
                }
                Ok(None) => {}
                // There is no room to note that it is set aside; those that follow it need none.
                Err(BufferError::DiskFull) => self.lanes.again(route, seq, now.plus(SET_ASIDE_AGAIN_AFTER)),
                Err(error) => {
                    // Whatever was taken waits again: the caller gets none of it.
                    self.lanes.put_back(route, seq);
                    for claimed in &claims.events {
                        self.lanes.retry(claimed.handed_out(), RunMs(0));
                    }
                    return Err(error);
                }
            }
        }
        claims.next_due = self.lanes.next_due(route);
        Ok(claims)
    }

    fn list(&mut self, filter: &Filter, slice: Slice, now: RunMs) -> Result<Listed, BufferError> {
        operator::list(self, filter, slice, now)
    }

    fn get(&mut self, seq: Seq, now: RunMs) -> Result<Option<Detail>, BufferError> {
        operator::get(self, seq, now)
    }

    fn dead_after(&mut self, after: Seq, events: usize) -> Result<Vec<Seq>, BufferError> {
        operator::dead_after(self, after, events)
    }

    fn repair(&mut self, repairs: &[Repair], now: RunMs) -> Result<Vec<Repaired>, BufferError> {
        operator::repair(self, repairs, now)
    }

    fn note_pause(&mut self, route: &str, pause: Option<&Pause>) -> Result<(), BufferError> {
        self.in_transaction(|engine| notes::write_pause(&engine.db, route, pause))
    }

    fn is_pressed(&self) -> bool {
        (self.room_is_to_be_made() && self.give_way.is_finding()) || self.wal_bytes() >= self.checkpoint_at_bytes()
    }

    fn maintain(&mut self, now: RunMs, idle: bool) -> Result<Vec<Arc<str>>, BufferError> {
        // First of all: nothing is to be made, dropped or written back in somebody else's directory.
        self.look_at_place()?;
        self.look_at_space(now);
        if self.room_is_to_be_made() {
            give_way::search(self, now)?;
        }
        if self.wal_bytes() >= self.checkpoint_at_bytes() {
            self.checkpoint()?;
        }
        if idle && now.since(self.run_noted) >= IDLE_RUN_NOTE_EVERY && self.counts.room.bytes() > 0 {
            // Ages go on while only retries wait; without anything stored nothing ages.
            notes::write_number(&self.db, notes::RUN_MS, now.0)?;
            self.run_noted = now;
        }
        if idle && self.wal_bytes() > 0 {
            self.checkpoint()?;
        }
        self.give_space_back(idle)?;
        // Where nothing was written there is nothing new to find: most of the time, at a few events a second.
        if self.log.has_grown.swap(false, Ordering::Relaxed) || !self.is_oldest_found {
            self.find_oldest_pending()?;
            self.measure()?;
        }
        // Last: after a failure nobody would be told of what it has dropped.
        purge::sweep(self, now)
    }

    fn stats(&self, now: RunMs) -> Stats {
        Stats {
            events: self.counts.events,
            used_bytes: self.used_bytes(),
            capacity_bytes: self.capacity.bytes(),
            dedupe_entries: self.index.len() as u64,
            dedupe_window_ms: self.index.effective_window_ms(self.settings.tombstone_keep, now),
            oldest_pending_unix_ms: self
                .pending_again
                .first_key_value()
                .map(|(_, received)| *received)
                .or(self.oldest_pending_unix_ms)
                .filter(|_| self.counts.events[State::Pending as usize] > 0),
            quarantined: self.counts.quarantined,
        }
    }

    fn abandon(self: Box<Self>) -> Vec<HandedOut> {
        self.lanes.all_handed_out()
    }

    fn close(&mut self, now: RunMs) -> Result<(), BufferError> {
        self.in_transaction(|engine| {
            notes::write_number(&engine.db, notes::RUN_MS, now.0)?;
            if engine.missed != 0 {
                notes::write_number(&engine.db, notes::DROPPED, engine.dropped + engine.missed)?;
            }
            notes::remove(&engine.db, notes::OPEN)
        })?;
        failpoint("close");
        self.checkpoint()?;
        schema::close_writes_back(&self.db, true).or_failed()
    }
}

#[cfg(test)]
mod tests;
