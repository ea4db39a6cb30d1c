//! What leaves the database: bodies and tombstones whose keep is over, dead letters and what was
//! set aside at the end of theirs (counted), always oldest first and a small slice at a time.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::super::event::{Seq, State};
use super::event_row::{EventRow, event_row_columns};
use super::{BufferError, OrFailed as _, SqliteBuffer, notes};
use crate::clock::RunMs;
use crate::faults::failpoint;

/// Rows looked at in one slice: some 2 ms.
const SLICE_ROWS: u32 = 1_000;
/// Running time between two walks over the table.
const WALK_EVERY: Duration = Duration::from_secs(10);

/// Where the walk over the table stands.
#[derive(Default)]
pub(super) struct Sweep {
    /// The walk goes on behind this `seq`; zero between walks.
    cursor: i64,
    next_walk: RunMs,
}

/// A row of the walk.
pub(super) struct Row {
    seq: Seq,
    stored: RunMs,
    /// Where it stands; nothing if the row is damaged.
    standing: Option<Standing>,
}

struct Standing {
    state: State,
    settled: RunMs,
    bytes: u64,
    verified: bool,
    route: Arc<str>,
}

impl Row {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        let found = EventRow::read(row)?;
        Ok(Row {
            seq: Seq(row.get(0)?),
            // A damaged one does not end the walk.
            stored: found.map_or(RunMs(i64::MIN), |found| found.stored),
            standing: found.map(|found| Standing {
                state: found.state,
                settled: found.settled.unwrap_or_default(),
                bytes: found.size(),
                verified: found.verified,
                route: found.route.into(),
            }),
        })
    }

    fn bytes(&self) -> u64 {
        self.standing.as_ref().map_or(0, |standing| standing.bytes)
    }

    fn is(&self, state: State) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.state == state)
    }
}

/// What becomes of a row.
#[derive(PartialEq, Eq)]
pub(super) enum Fate {
    Stay,
    DropBody,
    DropAll,
}

fn fate(row: &Row, engine: &SqliteBuffer, now: RunMs) -> Fate {
    let settings = &engine.settings;
    // Nothing ends by what a damaged row says.
    let Some(Standing { state, settled, .. }) = &row.standing else { return Fate::Stay };
    let since_settled = now.since(*settled);
    match *state {
        State::Pending => Fate::Stay,
        State::Dead | State::Quarantined if since_settled > settings.dead_letter_keep => Fate::DropAll,
        State::Dead | State::Quarantined => Fate::Stay,
        State::Delivered | State::Discarded => {
            let keep_body = *state == State::Delivered && since_settled <= settings.delivered_keep;
            match (keep_body, now.since(row.stored) > settings.tombstone_keep) {
                (true, _) => Fate::Stay,
                (false, true) => Fate::DropAll,
                (false, false) => Fate::DropBody,
            }
        }
    }
}

/// Rows behind this place, as long as they are wanted.
fn read_slice(
    engine: &SqliteBuffer,
    from: i64,
    rows: u32,
    is_wanted: impl Fn(&Row) -> bool,
) -> Result<Vec<Row>, BufferError> {
    let mut statement = engine
        .db
        .prepare_cached(concat!("SELECT ", event_row_columns!(), " FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2"))
        .or_failed()?;
    let rows = statement.query_map(params![from, rows], Row::read).or_failed()?;
    rows.take_while(|row| row.as_ref().map_or(true, &is_wanted)).collect::<rusqlite::Result<_>>().or_failed()
}

/// One slice of the walk; a walk ends where rows are too young for any keep to be over. Returns the
/// route of each event that was dropped without having been delivered or discarded.
pub(super) fn sweep(engine: &mut SqliteBuffer, now: RunMs) -> Result<Vec<Arc<str>>, BufferError> {
    if engine.sweep.cursor == 0 && now < engine.sweep.next_walk {
        return Ok(vec![]);
    }
    let settings = &engine.settings;
    // Bodies of a zero keep went on settling; only a longer one asks for the walk.
    let mut shortest = settings.tombstone_keep.min(settings.dead_letter_keep);
    if !settings.delivered_keep.is_zero() {
        shortest = shortest.min(settings.delivered_keep);
    }
    engine.index.expire(settings.tombstone_keep, now);

    let old = read_slice(engine, engine.sweep.cursor, SLICE_ROWS, |row| now.since(row.stored) > shortest)?;
    let ended = old.len() < SLICE_ROWS as usize;
    let last = old.last().map_or(0, |row| row.seq.0);
    let dropped = drop_rows(engine, old, now, fate)?;
    if ended {
        engine.sweep.next_walk = now.plus(WALK_EVERY);
    }
    engine.sweep.cursor = if ended { 0 } else { last };
    let expired = dropped.into_iter().filter(|row| row.is(State::Dead) || row.is(State::Quarantined));
    Ok(expired.filter_map(|row| row.standing).map(|standing| standing.route).collect())
}

/// Drops what has come to its end, in one transaction; returns the rows that are gone.
pub(super) fn drop_rows(
    engine: &mut SqliteBuffer,
    rows: Vec<Row>,
    now: RunMs,
    fate: impl Fn(&Row, &SqliteBuffer, RunMs) -> Fate,
) -> Result<Vec<Row>, BufferError> {
    let fates: Vec<(Row, Fate)> = rows
        .into_iter()
        .map(|row| {
            let fate = fate(&row, engine, now);
            (row, fate)
        })
        .filter(|(_, fate)| *fate != Fate::Stay)
        // Most bodies went on settling; asking for each again would write nothing but cost a lookup.
        .filter(|(_, fate)| *fate == Fate::DropAll || !engine.settings.delivered_keep.is_zero())
        .collect();
    if fates.is_empty() {
        return Ok(vec![]);
    }
    let kept_bytes = engine.in_transaction(|engine| {
        let mut kept_bytes = 0;
        for (row, fate) in &fates {
            if engine.delete_body(row.seq)? && row.is(State::Delivered) {
                kept_bytes += row.bytes();
            }
            if *fate == Fate::DropAll {
                engine.delete_event(row.seq)?;
            }
        }
        failpoint("purge");
        // Noted in the same transaction, so that the next start knows how many rows there must be.
        let dropped = fates.iter().filter(|(_, fate)| *fate == Fate::DropAll).count();
        match i64::try_from(dropped).unwrap_or(i64::MAX) {
            0 => {}
            dropped => notes::write_number(&engine.db, notes::DROPPED, engine.dropped + dropped)?,
        }
        Ok(kept_bytes)
    })?;
    engine.counts.kept_bytes = engine.counts.kept_bytes.saturating_sub(kept_bytes);
    failpoint("after-purge");
    let gone: Vec<Row> = fates.into_iter().filter(|(_, fate)| *fate == Fate::DropAll).map(|(row, _)| row).collect();
    for standing in gone.iter().filter_map(|row| row.standing.as_ref()) {
        engine.counts.remove(standing.state, &standing.route, standing.bytes, standing.verified);
        engine.dropped += 1;
    }
    Ok(gone)
}
