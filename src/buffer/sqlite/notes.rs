//! What the engine remembers besides events: a few values by name, each with a checksum. A running
//! time with a flipped bit would end every keep at once, another key would know no duplicate.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{BufferError, OrFailed as _};

/// Set while the buffer is open, so that the next start knows how the last run ended.
pub(super) const OPEN: &str = "open";
/// The running time, milliseconds.
pub(super) const RUN_MS: &str = "run_ms";
/// The secret of the fingerprints.
pub(super) const FINGERPRINT_KEY: &str = "fingerprint_key";
/// Rows of `event` that have been dropped at the end of their keep, ever.
pub(super) const DROPPED: &str = "dropped";

/// What is noted under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note<T> {
    Absent,
    Damaged,
    Intact(T),
}

impl Note<[u8; 8]> {
    pub(super) fn number(self) -> Note<i64> {
        match self {
            Note::Absent => Note::Absent,
            Note::Damaged => Note::Damaged,
            Note::Intact(bytes) => Note::Intact(i64::from_le_bytes(bytes)),
        }
    }
}

/// Reads a note of `N` bytes.
pub(super) fn read<const N: usize>(db: &Connection, name: &str) -> Result<Note<[u8; N]>, BufferError> {
    let found = db
        .prepare_cached("SELECT CAST(value AS BLOB) FROM meta WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get::<_, Vec<u8>>(0)).optional())
        .or_failed()?;
    let Some(noted) = found else { return Ok(Note::Absent) };
    let intact = noted.split_last_chunk::<4>().and_then(|(value, sum)| {
        let value = <[u8; N]>::try_from(value).ok()?;
        (checksum(name, &value).to_le_bytes() == *sum).then_some(value)
    });
    Ok(intact.map_or(Note::Damaged, Note::Intact))
}

/// Writes a note; durable with the transaction it is part of.
pub(super) fn write(db: &Connection, name: &str, value: &[u8]) -> Result<(), BufferError> {
    let noted = [value, &checksum(name, value).to_le_bytes()].concat();
    db.prepare_cached("INSERT INTO meta(key, value) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2")
        .and_then(|mut statement| statement.execute(params![name, noted]))
        .or_failed()
        .map(drop)
}

/// Writes a number.
pub(super) fn write_number(db: &Connection, name: &str, number: i64) -> Result<(), BufferError> {
    write(db, name, &number.to_le_bytes())
}

/// Forgets a note.
pub(super) fn remove(db: &Connection, name: &str) -> Result<(), BufferError> {
    db.execute("DELETE FROM meta WHERE key = ?1", [name]).or_failed().map(drop)
}

fn checksum(name: &str, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_as_written_and_one_with_a_flipped_bit_or_another_length_is_not_believed() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID").unwrap();
        let noted = |db: &Connection| read::<8>(db, RUN_MS).unwrap().number();
        assert_eq!(noted(&db), Note::Absent);
        write_number(&db, RUN_MS, 5).unwrap();
        write_number(&db, RUN_MS, -6).unwrap();
        assert_eq!(noted(&db), Note::Intact(-6));
        for damaged in ["x'fbffffffffffffff00000000'", "x'00'", "7", "'text'"] {
            db.execute(&format!("UPDATE meta SET value = {damaged}"), []).unwrap();
            assert_eq!(noted(&db), Note::Damaged, "{damaged}");
        }
        remove(&db, RUN_MS).unwrap();
        assert_eq!(noted(&db), Note::Absent);
    }
}
