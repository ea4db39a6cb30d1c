//! The database: its file, its pragmas (asserted, not hoped for), its tables and their versions.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{OpenError, failed, upgrade};
use crate::buffer::durability::sync_names_in;
use crate::faults::sqlite_synchronous;

/// Marks the file as ours, bytes 68..72 of its header: "HKWD".
const APPLICATION_ID: i64 = 0x484b_5744;
/// Version of the tables. Changes are additive: the release before opens what this one wrote, so
/// only what it would spoil raises this number. 2: every row has a checksum, which must follow each of
/// its changes.
pub(super) const SCHEMA_VERSION: i64 = 2;
/// Page size, bytes: 8 KiB wrote 45 KB of WAL for a single event where 16 KiB wrote 69.
pub(super) const PAGE_BYTES: u64 = 8192;
/// The same, for what lies in memory.
pub(super) const PAGE_LEN: usize = 8192;
/// A frame of the WAL: a page behind a header of 24 bytes.
pub(super) const WAL_FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// `event` is narrow and stays as a tombstone for the duplicate window; `body` is deleted on
/// settling, since a row that is merely emptied keeps its page. AUTOINCREMENT, so that a number is
/// never used twice, even after the table has been empty.
pub(super) const TABLES: &str = "
CREATE TABLE event(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  delivery_id BLOB NOT NULL,
  received_ms INTEGER NOT NULL,
  stored_run_ms INTEGER NOT NULL,
  route TEXT NOT NULL,
  event_id TEXT,
  event_type TEXT,
  fingerprint BLOB,
  verified INTEGER NOT NULL,
  size INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  client_errors INTEGER NOT NULL,
  due_run_ms INTEGER NOT NULL,
  settled_run_ms INTEGER,
  last_error TEXT
) STRICT;
CREATE TABLE body(
  seq INTEGER PRIMARY KEY,
  head BLOB NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE INDEX event_dead ON event(seq) WHERE state = 2;
CREATE TABLE meta(
  key TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Columns of `event` that later releases have added: always ones that may be NULL, so that the
/// release before, which names the columns it writes, goes on with the same file.
const ADDED_COLUMNS: [(&str, &str); 5] = [
    ("last_ended_ms", "INTEGER"),
    ("last_status", "INTEGER"),
    ("last_duration_ms", "INTEGER"),
    // When an operator sent it again: its age for max_age counts from then.
    ("redriven_run_ms", "INTEGER"),
    ("row_crc", "INTEGER"),
];

/// Looks whether another process has let go of the database: one that was killed may let go of the instance lock first.
const LET_GO_LOOKS: u32 = 100;
/// Time between two of them.
const LET_GO_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Refuses what SQLite would begin anew or take for its own, before anything has touched it: a newer
/// version, and a file whose contents are gone. Plain reading is safe here and only here: no connection
/// of this process exists yet, whose locks closing the file would drop.
pub(super) fn refuse_unknown(path: &Path) -> Result<(), OpenError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::io(path)(error)),
    };
    refuse_open(&file, path)?;
    if file.metadata().map_err(OpenError::io(path))?.len() == 0 {
        return Err(unreadable(path, "is empty, which hookward never leaves it"));
    }
    let mut version = [0; 4];
    if file.read_exact_at(&mut version, 60).is_err() {
        return Ok(()); // Too short to be anything; SQLite will say so.
    }
    check_version(path, i64::from(i32::from_be_bytes(version)))
}

/// Refuses a database that another process has open: its instance lock may have been removed under it. To be seen before
/// its log is touched. SQLite holds a lock on the file as long as it is open, which a shared one of ours cannot join.
fn refuse_open(file: &File, path: &Path) -> Result<(), OpenError> {
    for _ in 0..LET_GO_LOOKS {
        match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::AGAIN | Errno::ACCESS) => std::thread::sleep(LET_GO_LOOK_EVERY),
            // Freed with the file. A file system without locks is SQLite's to refuse.
            _ => return Ok(()),
        }
    }
    Err(OpenError::InUse { path: path.display().to_string() })
}

fn unreadable(path: &Path, what: &str) -> OpenError {
    OpenError::Unreadable { path: path.display().to_string(), what: what.to_owned() }
}

fn check_version(path: &Path, version: i64) -> Result<(), OpenError> {
    if version > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.display().to_string(), found: version, known: SCHEMA_VERSION });
    }
    Ok(())
}

/// Makes the database file if it is not there.
pub(super) fn create_if_missing(path: &Path) -> Result<(), OpenError> {
    match path.try_exists().map_err(OpenError::io(path))? {
        true => Ok(()),
        false => create(path),
    }
}

/// Opens the database file, which must exist, and asserts everything that durability rests on. What [`refuse_unknown`]
/// knows must have been refused. Closing it leaves database and log as they are, until [`close_writes_back`].
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    connect(path, false)
}

/// Lets closing write the log back and remove it, which only the clean end of an engine may: whoever goes on with the
/// file after a failure needs both.
pub(super) fn close_writes_back(db: &Connection, writes_back: bool) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !writes_back).map(drop)
}

/// Makes the file under another name, with mode 0600, so that one that is there is whole, however
/// creating it may have ended.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = OpenError::io(path);
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    if beside("-wal").metadata().is_ok_and(|log| log.len() > 0) {
        return Err(unreadable(path, "is not there, but its log is"));
    }
    for left in [".new", ".new-wal"] {
        let _ = std::fs::remove_file(beside(left));
    }
    let new = beside(".new");
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(&io)?;
    drop(connect(&new, true)?);
    std::fs::rename(&new, path).map_err(&io)?;
    sync_names_in(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))).map_err(io)
}

fn connect(path: &Path, is_new: bool) -> Result<Connection, OpenError> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| OpenError::unusable(path)(failed(&error)))?;
    close_writes_back(&db, is_new).map_err(|error| OpenError::unusable(path)(failed(&error)))?;
    prepare(&db, path, is_new)?;
    Ok(db)
}

fn prepare(db: &Connection, path: &Path, is_new: bool) -> Result<(), OpenError> {
    let sql = |error: rusqlite::Error| OpenError::unusable(path)(failed(&error));
    // A statement is planned once. Otherwise SQLite plans it anew whenever another value is bound to the
    // start of a range, for statistics that are never gathered here.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(sql)?;
    // EXCLUSIVE first: then there is no shared-memory file, and nobody else gets in.
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE;").map_err(sql)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
    check_version(path, version)?;
    let synchronous = sqlite_synchronous();
    db.execute_batch(&format!("PRAGMA page_size={PAGE_BYTES}; PRAGMA auto_vacuum=INCREMENTAL;")).map_err(sql)?;
    run_to_end(db, "PRAGMA journal_mode=WAL").map_err(sql)?;
    db.execute_batch(&format!(
        "PRAGMA synchronous={synchronous};
         PRAGMA wal_autocheckpoint=0;
         PRAGMA journal_size_limit=33554432;
         PRAGMA cache_size=-8000;
         PRAGMA cell_size_check=ON;
         PRAGMA trusted_schema=OFF;
         PRAGMA temp_store=MEMORY;"
    ))
    .map_err(sql)?;
    let assertions: [(&str, &str); 6] = [
        ("locking_mode", "exclusive"),
        ("journal_mode", "wal"),
        ("synchronous", if synchronous == "FULL" { "2" } else { "1" }),
        ("wal_autocheckpoint", "0"),
        ("page_size", "8192"),
        ("auto_vacuum", "2"),
    ];
    if is_new {
        create_tables(db).map_err(sql)?;
    }
    for (pragma, expected) in assertions {
        let found = db
            .pragma_query_value(None, pragma, |row| {
                row.get::<_, rusqlite::types::Value>(0).map(|value| match value {
                    rusqlite::types::Value::Integer(n) => n.to_string(),
                    rusqlite::types::Value::Text(text) => text,
                    _ => String::new(),
                })
            })
            .map_err(sql)?;
        if found != expected {
            return Err(OpenError::Failed(format!(
                "{}: SQLite runs with {pragma}={found} instead of {expected}; durability is not given",
                path.display()
            )));
        }
    }
    let id: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sql)?;
    if id != APPLICATION_ID {
        return Err(OpenError::Failed(format!(
            "{} is a database of another program; choose another data_dir",
            path.display()
        )));
    }
    add_columns(db).map_err(sql)?;
    if version == 1 {
        upgrade::from_version_1(db).map_err(OpenError::unusable(path))?;
        write_back(db).map_err(sql)?;
    }
    Ok(())
}

/// Brings the tables of an earlier release up to date. SQLite only notes the new columns: no row is
/// written, however many there are.
fn add_columns(db: &Connection) -> rusqlite::Result<()> {
    for (name, kind) in ADDED_COLUMNS {
        let known = db.prepare("SELECT 1 FROM pragma_table_info('event') WHERE name = ?1")?.exists([name])?;
        if !known {
            db.execute_batch(&format!("ALTER TABLE event ADD COLUMN {name} {kind};"))?;
        }
    }
    Ok(())
}

/// Runs a statement to its end. `execute_batch` takes one step of each and drops it, so that a pragma
/// that returns rows stops short, and an error of its commit goes unseen: SQLite then says that it
/// keeps a log, and does not.
pub(super) fn run_to_end(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn create_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    ))?;
    write_back(db)
}

/// The version must be in the file itself, where the next release looks for it first.
fn write_back(db: &Connection) -> rusqlite::Result<()> {
    run_to_end(db, "PRAGMA wal_checkpoint(TRUNCATE)")
}
