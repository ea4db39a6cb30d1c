//! The columns of a row of `event` that decide what becomes of its event, under a checksum of their
//! own: with one flipped bit a pending event would count as delivered, or its retry be due in a
//! million years. What reaches the app has another, in `crc`, which this one covers.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::super::event::{Seq, State};
use super::{BufferError, failed};
use crate::clock::RunMs;

/// The columns in the order in which [`EventRow::read`] takes them.
macro_rules! event_row_columns {
    () => {
        "seq, stored_run_ms, route, fingerprint, verified, size, crc, state, attempts, client_errors, due_run_ms, \
         settled_run_ms, redriven_run_ms, row_crc"
    };
}
pub(super) use event_row_columns;

/// A row as it stands, without what only the app and people read of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventRow<'r> {
    pub(super) seq: Seq,
    pub(super) stored: RunMs,
    pub(super) route: &'r str,
    pub(super) fingerprint: Option<[u8; 16]>,
    pub(super) verified: bool,
    /// Room it takes.
    pub(super) bytes: i64,
    /// Checksum of what reaches the app.
    pub(super) crc: u32,
    pub(super) state: State,
    pub(super) attempts: u32,
    pub(super) client_errors: u32,
    pub(super) due: RunMs,
    pub(super) settled: Option<RunMs>,
    pub(super) redriven: Option<RunMs>,
}

impl<'r> EventRow<'r> {
    /// Takes a row from a statement that begins with the columns above; `None` if it is damaged.
    pub(super) fn read(row: &'r Row<'_>) -> rusqlite::Result<Option<EventRow<'r>>> {
        match EventRow::read_unchecked(row) {
            Ok((found, checksum)) => Ok(found.filter(|found| checksum == Some(i64::from(found.checksum())))),
            Err(error) if is_of_a_damaged_row(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As it stands, whether or not it is damaged; `None` if no such state exists.
    pub(super) fn read_unchecked(row: &'r Row<'_>) -> rusqlite::Result<(Option<EventRow<'r>>, Option<i64>)> {
        let checksum = row.get(13)?;
        let Some(state) = State::from_code(row.get(7)?) else { return Ok((None, checksum)) };
        let found = EventRow {
            seq: Seq(row.get(0)?),
            stored: RunMs(row.get(1)?),
            route: row.get_ref(2)?.as_str()?,
            fingerprint: row.get(3)?,
            verified: row.get(4)?,
            bytes: row.get(5)?,
            crc: row.get(6)?,
            state,
            attempts: row.get(8)?,
            client_errors: row.get(9)?,
            due: RunMs(row.get(10)?),
            settled: row.get::<_, Option<i64>>(11)?.map(RunMs),
            redriven: row.get::<_, Option<i64>>(12)?.map(RunMs),
        };
        Ok((Some(found), checksum))
    }

    /// Room it takes, never negative in an intact row.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(0)
    }

    /// CRC-32C over all of it.
    pub(super) fn checksum(&self) -> u32 {
        // No running time is that small, so none differs from some.
        const NONE: i64 = i64::MIN;
        let EventRow { seq, stored, route, fingerprint, verified, bytes, crc, state, .. } = self;
        let EventRow { attempts, client_errors, due, settled, redriven, .. } = self;
        let numbers = [
            seq.0,
            stored.0,
            i64::from(*verified),
            *bytes,
            i64::from(*crc),
            state.code(),
            i64::from(*attempts),
            i64::from(*client_errors),
            due.0,
            settled.map_or(NONE, |at| at.0),
            redriven.map_or(NONE, |at| at.0),
            i64::from(fingerprint.is_some()),
        ];
        let mut flat = [0; 12 * 8 + 16];
        for (place, number) in flat.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        flat[12 * 8..].copy_from_slice(&fingerprint.unwrap_or_default());
        crc32c::crc32c_append(crc32c::crc32c(&flat), route.as_bytes())
    }
}

/// Works on the row of an event; `None` if there is none, or it is damaged.
pub(super) fn with_intact<T>(
    db: &Connection,
    seq: Seq,
    work: impl FnOnce(EventRow<'_>) -> T,
) -> Result<Option<T>, BufferError> {
    db.prepare_cached(concat!("SELECT ", event_row_columns!(), " FROM event WHERE seq = ?1"))
        .and_then(|mut statement| {
            statement.query_row(params![seq.0], |row| Ok(EventRow::read(row)?.map(work))).optional()
        })
        .map(Option::flatten)
        .map_err(|error| failed(&error))
}

/// Errors that concern a row's contents, not the database.
pub(super) fn is_of_a_damaged_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}
