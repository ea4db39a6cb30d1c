//! Room under the bound: the oldest tombstones and kept bodies go before their time, which shortens the
//! duplicate window. A search reads one slice of the table and the next one goes on from there, so that a
//! table full of events that wait delays nobody for longer than a slice.

use rusqlite::params;

use super::super::event::State;
use super::event_row::event_row_columns;
use super::purge::{Fate, Row, drop_rows};
use super::{BufferError, OrFailed as _, SqliteBuffer};
use crate::clock::RunMs;

/// Rows looked at in one slice: below a millisecond, and more than a group adds.
const SLICE_ROWS: usize = 512;

/// Where the search stands.
#[derive(Debug)]
pub(super) struct GiveWay {
    /// It goes on behind this `seq`; zero at the beginning of the table.
    cursor: i64,
    /// Whether the last slice has made room. After one that has not, the next waits for housekeeping's own
    /// rhythm, so that a long way past events that wait is not paid for by every commit.
    is_finding: bool,
    #[cfg(test)]
    pub(super) rows_read: usize,
}

impl Default for GiveWay {
    fn default() -> GiveWay {
        GiveWay {
            cursor: 0,
            is_finding: true,
            #[cfg(test)]
            rows_read: 0,
        }
    }
}

impl GiveWay {
    /// Whether a slice right after a commit is likely to make room.
    pub(super) fn is_finding(&self) -> bool {
        self.is_finding
    }
}

/// Looks at one slice, and drops what may go of it.
pub(super) fn search(engine: &mut SqliteBuffer, now: RunMs) -> Result<(), BufferError> {
    let Slice { rows_read, last, settled } = read_slice(engine, engine.give_way.cursor)?;
    let dropped = drop_rows(engine, settled, now, |_, _, _| Fate::DropAll)?;
    engine.give_way.is_finding = !dropped.is_empty();
    engine.give_way.cursor = if rows_read < SLICE_ROWS { 0 } else { last };
    #[cfg(test)]
    {
        engine.give_way.rows_read += rows_read;
    }
    Ok(())
}

struct Slice {
    rows_read: usize,
    /// The place of the last row.
    last: i64,
    /// Those that may go.
    settled: Vec<Row>,
}

fn read_slice(engine: &SqliteBuffer, from: i64) -> Result<Slice, BufferError> {
    let mut statement = engine
        .db
        .prepare_cached(concat!("SELECT ", event_row_columns!(), " FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2"))
        .or_failed()?;
    let mut rows = statement.query(params![from, SLICE_ROWS as i64]).or_failed()?;
    let mut slice = Slice { rows_read: 0, last: from, settled: Vec::new() };
    while let Some(row) = rows.next().or_failed()? {
        slice.rows_read += 1;
        slice.last = row.get(0).or_failed()?;
        let state = row.get(7).ok().and_then(State::from_code);
        if matches!(state, Some(State::Delivered | State::Discarded)) {
            slice.settled.push(Row::read(row).or_failed()?);
        }
    }
    Ok(slice)
}
