//! From version 1 of the tables to 2: every row and every note gets a checksum, and rows that are dropped
//! are counted. Done once, in one transaction; some seconds for a million rows.

use rusqlite::{Connection, params};

use super::event_row::{EventRow, event_row_columns, is_of_a_damaged_row};
use super::{BufferError, OrFailed as _, notes, schema};

/// Rows read at once.
const SLICE_ROWS: usize = 10_000;

/// Brings a database of version 1, whose columns are complete, up to date.
pub(super) fn from_version_1(db: &Connection) -> Result<(), BufferError> {
    let transaction = db.unchecked_transaction().or_failed()?;
    add_row_checksums(&transaction)?;
    for name in [notes::OPEN, notes::RUN_MS, notes::FINGERPRINT_KEY] {
        add_note_checksum(&transaction, name)?;
    }
    let dropped = transaction
        .query_row(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0) - (SELECT count(*) FROM event)",
            [],
            |row| row.get(0),
        )
        .or_failed()?;
    notes::write_number(&transaction, notes::DROPPED, dropped)?;
    transaction.pragma_update(None, "user_version", schema::SCHEMA_VERSION).or_failed()?;
    transaction.commit().or_failed()
}

fn add_row_checksums(db: &Connection) -> Result<(), BufferError> {
    let mut after = 0;
    loop {
        let slice = checksums_of(db, after).or_failed()?;
        let Some((last, _)) = slice.last() else { return Ok(()) };
        after = *last;
        for (seq, checksum) in slice {
            db.prepare_cached("UPDATE event SET row_crc = ?2 WHERE seq = ?1")
                .and_then(|mut statement| statement.execute(params![seq, checksum]))
                .or_failed()?;
        }
    }
}

/// The next rows with what their checksum is to be: nothing for one that cannot be read, which the
/// start sets aside.
fn checksums_of(db: &Connection, after: i64) -> rusqlite::Result<Vec<(i64, Option<u32>)>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        event_row_columns!(),
        " FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2"
    ))?;
    let slice = statement.query_map(params![after, i64::try_from(SLICE_ROWS).unwrap_or(i64::MAX)], |row| {
        let checksum = match EventRow::read_unchecked(row) {
            Ok((found, _)) => found.map(|found| found.checksum()),
            Err(error) if is_of_a_damaged_row(&error) => None,
            Err(error) => return Err(error),
        };
        Ok((row.get(0)?, checksum))
    })?;
    slice.collect()
}

fn add_note_checksum(db: &Connection, name: &str) -> Result<(), BufferError> {
    use rusqlite::types::Value;
    let value = match db.query_row("SELECT value FROM meta WHERE key = ?1", [name], |row| row.get(0)) {
        Ok(Value::Integer(number)) => number.to_le_bytes().to_vec(),
        Ok(Value::Blob(bytes)) => bytes,
        Ok(_) | Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
        Err(error) => return Err(error).or_failed(),
    };
    notes::write(db, name, &value)
}
