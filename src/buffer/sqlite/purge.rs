//! What leaves the database: bodies and tombstones whose keep is over, dead letters at the end of
//! theirs (counted), always oldest first and a small slice at a time.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::super::event::{Seq, State};
use super::{BufferError, OrFailed as _, SqliteBuffer};
use crate::clock::RunMs;
use crate::faults::failpoint;

/// Rows looked at in one slice: some 2 ms.
const SLICE_ROWS: u32 = 1_000;
/// Running time between two walks over the table.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// Rows that give way at once when the bound is reached: more than a group adds.
const GIVE_WAY_ROWS: u32 = 512;

/// Where the walk over the table stands.
#[derive(Default)]
pub(super) struct Sweep {
    /// The walk goes on behind this `seq`; zero between walks.
    cursor: i64,
    next_walk: RunMs,
}

impl Sweep {
    /// Whether anything may be dropped to make room: tombstones and kept bodies.
    pub(super) fn can_give_way(&self, engine: &SqliteBuffer) -> bool {
        let events = &engine.counts.events;
        events[State::Delivered as usize] + events[State::Discarded as usize] > 0
    }
}

/// A row of the walk.
struct Row {
    seq: Seq,
    state: State,
    stored: RunMs,
    settled: RunMs,
    bytes: u64,
    verified: bool,
    route: Arc<str>,
}

/// What becomes of a row.
#[derive(PartialEq, Eq)]
enum Fate {
    Stay,
    DropBody,
    DropAll,
}

fn fate(row: &Row, engine: &SqliteBuffer, now: RunMs) -> Fate {
    let settings = &engine.settings;
    let since_settled = now.since(row.settled);
    match row.state {
        State::Pending => Fate::Stay,
        State::Dead | State::Quarantined if since_settled > settings.dead_letter_keep => Fate::DropAll,
        State::Dead | State::Quarantined => Fate::Stay,
        State::Delivered | State::Discarded => {
            let keep_body = row.state == State::Delivered && since_settled <= settings.delivered_keep;
            match (keep_body, now.since(row.stored) > settings.tombstone_keep) {
                (true, _) => Fate::Stay,
                (false, true) => Fate::DropAll,
                (false, false) => Fate::DropBody,
            }
        }
    }
}

fn read_slice(engine: &SqliteBuffer, from: i64, rows: u32) -> Result<Vec<Row>, BufferError> {
    let mut statement = engine
        .db
        .prepare_cached(
            "SELECT seq, state, stored_run_ms, coalesce(settled_run_ms, 0), size, verified, route
             FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )
        .or_failed()?;
    let rows = statement
        .query_map(params![from, rows], |row| {
            Ok(Row {
                seq: Seq(row.get(0)?),
                state: State::from_code(row.get(1)?).unwrap_or(State::Quarantined),
                stored: RunMs(row.get(2)?),
                settled: RunMs(row.get(3)?),
                bytes: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
                verified: row.get(5)?,
                route: row.get_ref(6)?.as_str()?.into(),
            })
        })
        .or_failed()?;
    rows.collect::<rusqlite::Result<_>>().or_failed()
}

/// One slice of the walk; a walk ends where rows are too young for any keep to be over. Returns the
/// route of each dead letter that was dropped.
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

    let rows = read_slice(engine, engine.sweep.cursor, SLICE_ROWS)?;
    let old: Vec<Row> = rows.into_iter().take_while(|row| now.since(row.stored) > shortest).collect();
    let ended = old.len() < SLICE_ROWS as usize;
    let last = old.last().map_or(0, |row| row.seq.0);
    let dropped = drop_rows(engine, old, now, fate)?;
    if ended {
        engine.sweep.next_walk = now.plus(WALK_EVERY);
    }
    engine.sweep.cursor = if ended { 0 } else { last };
    Ok(dropped.into_iter().filter(|row| row.state == State::Dead).map(|row| row.route).collect())
}

/// Makes room under the bound: the oldest tombstones and kept bodies go before their time, which
/// shortens the duplicate window.
pub(super) fn give_way(engine: &mut SqliteBuffer, now: RunMs) -> Result<(), BufferError> {
    let mut from = 0;
    loop {
        let slice = read_slice(engine, from, GIVE_WAY_ROWS)?;
        let Some(last) = slice.last().map(|row| row.seq.0) else {
            return Ok(());
        };
        let settled =
            slice.into_iter().filter(|row| matches!(row.state, State::Delivered | State::Discarded)).collect();
        if !drop_rows(engine, settled, now, |_, _, _| Fate::DropAll)?.is_empty() {
            return Ok(());
        }
        from = last;
    }
}

/// Drops what has come to its end, in one transaction; returns the rows that are gone.
fn drop_rows(
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
    engine.in_transaction(|engine| {
        for (row, fate) in &fates {
            engine.delete_body(row.seq)?;
            if *fate == Fate::DropAll {
                engine.delete_event(row.seq)?;
            }
        }
        failpoint("purge");
        Ok(())
    })?;
    failpoint("after-purge");
    let gone: Vec<Row> = fates.into_iter().filter(|(_, fate)| *fate == Fate::DropAll).map(|(row, _)| row).collect();
    for row in &gone {
        engine.counts.remove(row.state, row.bytes, row.verified);
    }
    Ok(gone)
}
