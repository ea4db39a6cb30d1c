//! What the engine remembers besides events: a few values by name, each with a checksum. A running
//! time with a flipped bit would end every keep at once, another key would know no duplicate.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{BufferError, OrFailed as _};
use crate::buffer::pause::Pause;

/// Set while the buffer is open, so that the next start knows how the last run ended.
pub(super) const OPEN: &str = "open";
/// The running time, milliseconds.
pub(super) const RUN_MS: &str = "run_ms";
/// The secret of the fingerprints.
pub(super) const FINGERPRINT_KEY: &str = "fingerprint_key";
/// Rows of `event` that have been dropped at the end of their keep, ever.
pub(super) const DROPPED: &str = "dropped";
/// Followed by the name of a route: its deliveries are stopped.
const PAUSED: &str = "paused/";
/// Said of a pause of which no more is known.
const PAUSE_DAMAGED: &str = "the medium has damaged the note of this pause";

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
    let value = intact(name, &noted).and_then(|value| value.try_into().ok());
    Ok(value.map_or(Note::Damaged, Note::Intact))
}

/// A note with the rest of its name.
type Named = (String, Note<Vec<u8>>);

/// Reads every note whose name begins so; by the rest of its name.
pub(super) fn read_all(db: &Connection, prefix: &str) -> Result<Vec<Named>, BufferError> {
    let mut statement = db
        .prepare("SELECT key, CAST(value AS BLOB) FROM meta WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key")
        .or_failed()?;
    let read = |row: &Row<'_>| -> rusqlite::Result<(String, Vec<u8>)> { Ok((row.get(0)?, row.get(1)?)) };
    let found = statement.query_map([prefix], read).or_failed()?.collect::<rusqlite::Result<Vec<_>>>().or_failed()?;
    let note = |(name, noted): (String, Vec<u8>)| {
        let value = intact(&name, &noted).map(<[u8]>::to_vec);
        (name[prefix.len()..].to_owned(), value.map_or(Note::Damaged, Note::Intact))
    };
    Ok(found.into_iter().map(note).collect())
}

/// The value of a note whose checksum holds.
fn intact<'n>(name: &str, noted: &'n [u8]) -> Option<&'n [u8]> {
    let (value, sum) = noted.split_last_chunk::<4>()?;
    (checksum(name, value).to_le_bytes() == *sum).then_some(value)
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

/// Notes that the deliveries of a route are stopped, or that they are no more.
pub(super) fn write_pause(db: &Connection, route: &str, pause: Option<&Pause>) -> Result<(), BufferError> {
    let name = format!("{PAUSED}{route}");
    match pause {
        Some(pause) => write(db, &name, &pause.encode()),
        None => remove(db, &name),
    }
}

/// Routes whose deliveries are stopped. A damaged note still says that they are: events then wait, and nobody is
/// sent what is not to be sent.
pub(super) fn read_pauses(db: &Connection) -> Result<Vec<(Arc<str>, Pause)>, BufferError> {
    let damaged = || Pause { since_unix_ms: 0, until: None, reason: Some(PAUSE_DAMAGED.to_owned()) };
    let pause = |(route, note): Named| {
        let known = match note {
            Note::Intact(noted) => Pause::decode(&noted),
            Note::Absent | Note::Damaged => None,
        };
        (route.into(), known.unwrap_or_else(damaged))
    };
    Ok(read_all(db, PAUSED)?.into_iter().map(pause).collect())
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

    #[test]
    fn a_pause_whose_note_is_damaged_is_still_one() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID").unwrap();
        let pause = Pause { since_unix_ms: 5, until: None, reason: Some("why".to_owned()) };
        write_number(&db, RUN_MS, 5).unwrap();
        write_pause(&db, "a", Some(&pause)).unwrap();
        write_pause(&db, "b", Some(&pause)).unwrap();
        write_pause(&db, "b", None).unwrap();
        assert_eq!(read_pauses(&db).unwrap(), [("a".into(), pause)]);
        db.execute("UPDATE meta SET value = x'0500' WHERE key = 'paused/a'", []).unwrap();
        let [(route, pause)] = &read_pauses(&db).unwrap()[..] else { panic!() };
        assert_eq!((&**route, pause.reason.as_deref(), pause.until), ("a", Some(PAUSE_DAMAGED), None));
    }
}
