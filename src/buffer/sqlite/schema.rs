//! The database: its file, its pragmas (asserted, not hoped for), its tables and their versions.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{OpenError, failed};
use crate::faults::sqlite_synchronous;

/// Marks the file as ours, bytes 68..72 of its header: "HKWD".
const APPLICATION_ID: i64 = 0x484b_5744;
/// Version of the tables. Changes are additive: the release before opens what this one wrote, so
/// only a version that cannot be read raises this number.
pub(super) const SCHEMA_VERSION: i64 = 1;
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
const ADDED_COLUMNS: [(&str, &str); 4] = [
    ("last_ended_ms", "INTEGER"),
    ("last_status", "INTEGER"),
    ("last_duration_ms", "INTEGER"),
    // When an operator sent it again: its age for max_age counts from then.
    ("redriven_run_ms", "INTEGER"),
];

/// Refuses a file of a newer version before SQLite has touched it. Plain reading is safe here and
/// only here: no connection of this process exists yet, whose locks closing the file would drop.
fn refuse_newer(path: &Path) -> Result<(), OpenError> {
    let Ok(file) = std::fs::File::open(path) else {
        return Ok(());
    };
    let mut version = [0; 4];
    if file.read_exact_at(&mut version, 60).is_err() {
        return Ok(()); // New and still empty.
    }
    check_version(path, i64::from(i32::from_be_bytes(version)))
}

fn check_version(path: &Path, version: i64) -> Result<(), OpenError> {
    if version > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.display().to_string(), found: version, known: SCHEMA_VERSION });
    }
    Ok(())
}

/// Opens the database file, creates it with mode 0600 if it is not there, and asserts everything
/// that durability rests on.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    refuse_newer(path)?;
    let shown = path.display();
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    drop(file.map_err(|error| OpenError::Io { path: shown.to_string(), error })?);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| failed(&error))?;
    prepare(&db, path).inspect_err(|_| {
        // What cannot be used is left as it was found.
        let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    })?;
    Ok(db)
}

fn prepare(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let sql = |error: rusqlite::Error| OpenError::Failed(failed(&error).to_string());
    // EXCLUSIVE first: then there is no shared-memory file, and nobody else gets in.
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE;").map_err(sql)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
    check_version(path, version)?;
    let synchronous = sqlite_synchronous();
    db.execute_batch(&format!(
        "PRAGMA page_size={PAGE_BYTES};
         PRAGMA auto_vacuum=INCREMENTAL;
         PRAGMA journal_mode=WAL;
         PRAGMA synchronous={synchronous};
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
    if version == 0 {
        create(db).map_err(sql)?;
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
    add_columns(db).map_err(sql)
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

fn create(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    ))?;
    // The version must be in the file itself, where the next release looks for it first.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
