//! What an operator looks at and repairs: lists newest first in bounded slices, one event with all
//! that is kept of it, redrive, discard, forget.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::event::{Attempt, DeliveryId, EventHead, Fingerprint, Seq, State, row_checksum};
use super::super::record::{Content, Detail, Filter, Listed, Record, Repair, Repaired, Slice};
use super::event_row::{EventRow, event_row_columns};
use super::room::{Added, Wanted};
use super::{BufferError, OrFailed as _, SqliteBuffer};
use crate::clock::RunMs;

/// The columns of a [`Record`], in the order in which [`record`] reads them.
macro_rules! record_columns {
    () => {
        "e.seq, e.delivery_id, e.event_id, e.event_type, e.route, e.state, e.received_ms, e.attempts, e.due_run_ms, \
         e.last_error, e.size"
    };
}

const LIST: &str = concat!("SELECT ", record_columns!(), " FROM event e WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2");
/// Dead letters have an index of their own: they are few, and what operators ask for.
const LIST_DEAD: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM event e INDEXED BY event_dead WHERE state = 2 AND seq < ?1 ORDER BY seq DESC LIMIT ?2"
);
const GET: &str = concat!(
    "SELECT ",
    record_columns!(),
    ", e.last_ended_ms, e.last_status, e.last_duration_ms, e.redriven_run_ms, e.crc, b.head, b.body
     FROM event e LEFT JOIN body b ON b.seq = e.seq WHERE e.seq = ?1"
);

/// One slice of a list.
pub(super) fn list(engine: &SqliteBuffer, filter: &Filter, slice: Slice, now: RunMs) -> Result<Listed, BufferError> {
    let sql = if filter.state == Some(State::Dead) { LIST_DEAD } else { LIST };
    let before = slice.before.map_or(i64::MAX, |seq| seq.0);
    let mut statement = engine.db.prepare_cached(sql).or_failed()?;
    let mut rows = statement.query(params![before, slice.rows]).or_failed()?;
    let mut listed = Listed::default();
    while let Some(row) = rows.next().or_failed()? {
        listed.rows += 1;
        let seq = Seq(row.get(0).or_failed()?);
        if matches(filter, row).or_failed()? {
            listed.records.push(record(row, now).or_failed()?);
        }
        if listed.rows == slice.rows || listed.records.len() == slice.events {
            listed.next = Some(seq);
            break;
        }
    }
    Ok(listed)
}

/// Compares before anything is copied out of the row.
fn matches(filter: &Filter, row: &Row<'_>) -> rusqlite::Result<bool> {
    let is = |wanted: &Option<String>, column: usize| -> rusqlite::Result<bool> {
        match wanted {
            None => Ok(true),
            Some(wanted) => Ok(row.get_ref(column)?.as_str_or_null()? == Some(wanted.as_str())),
        }
    };
    let state = filter.state.is_none_or(|wanted| row.get(5).is_ok_and(|code: i64| code == wanted.code()));
    Ok(state && is(&filter.route, 4)? && is(&filter.event_type, 3)? && is(&filter.event_id, 2)?)
}

fn record(row: &Row<'_>, now: RunMs) -> rusqlite::Result<Record> {
    let state = State::from_code(row.get(5)?).unwrap_or(State::Quarantined);
    let due = RunMs(row.get(8)?);
    Ok(Record {
        seq: Seq(row.get(0)?),
        delivery_id: DeliveryId(row.get(1)?),
        event_id: row.get(2)?,
        event_type: row.get(3)?,
        route: row.get_ref(4)?.as_str()?.into(),
        state,
        received_unix_ms: row.get(6)?,
        attempts: row.get(7)?,
        due_in: (state == State::Pending).then(|| due.since(now)),
        last_error: row.get(9)?,
        size_bytes: u64::try_from(row.get::<_, i64>(10)?).unwrap_or(0),
    })
}

/// One event.
pub(super) fn get(engine: &SqliteBuffer, seq: Seq, now: RunMs) -> Result<Option<Detail>, BufferError> {
    let mut statement = engine.db.prepare_cached(GET).or_failed()?;
    statement.query_row([seq.0], |row| detail(row, now)).optional().or_failed()
}

fn detail(row: &Row<'_>, now: RunMs) -> rusqlite::Result<Detail> {
    let record = record(row, now)?;
    let last_attempt = match row.get(11)? {
        Some(ended_unix_ms) => Some(Attempt {
            ended_unix_ms,
            status: row.get(12)?,
            duration_ms: row.get::<_, Option<i64>>(13)?.unwrap_or(0),
        }),
        None => None,
    };
    let replay = row.get::<_, Option<i64>>(14)?.is_some();
    let crc: u32 = row.get(15)?;
    let stored: (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(16)?, row.get(17)?);
    let content = match stored {
        (Some(head), Some(body)) => Some(content(&record, crc, &Bytes::from(head), Bytes::from(body))),
        _ => None,
    };
    Ok(Detail { record, last_attempt, replay, content })
}

fn content(record: &Record, crc: u32, head: &Bytes, body: Bytes) -> Content {
    let computed = row_checksum(
        &record.delivery_id,
        record.received_unix_ms,
        &record.route,
        record.event_id.as_deref(),
        record.event_type.as_deref(),
        head,
        &body,
    );
    Content { head: EventHead::decode(head).ok(), body, intact: computed == crc }
}

/// Dead letters, oldest first.
pub(super) fn dead_after(engine: &SqliteBuffer, after: Seq, events: usize) -> Result<Vec<Seq>, BufferError> {
    let mut statement = engine
        .db
        .prepare_cached(
            "SELECT seq FROM event INDEXED BY event_dead WHERE state = 2 AND seq > ?1 ORDER BY seq LIMIT ?2",
        )
        .or_failed()?;
    let events = i64::try_from(events).unwrap_or(i64::MAX);
    let found = statement.query_map(params![after.0, events], |row| row.get(0).map(Seq)).or_failed()?;
    found.collect::<rusqlite::Result<_>>().or_failed()
}

/// What a repair needs to know of its event.
struct Standing {
    state: State,
    route: std::sync::Arc<str>,
    bytes: u64,
    verified: bool,
    received_unix_ms: i64,
    has_body: bool,
    fingerprint: Option<Fingerprint>,
    /// Checksum of its row once it is repaired.
    repaired_row_crc: u32,
}

/// Repairs in one transaction; memory follows once it is durable.
pub(super) fn repair(engine: &mut SqliteBuffer, repairs: &[Repair], now: RunMs) -> Result<Vec<Repaired>, BufferError> {
    let written = engine.in_transaction(|engine| {
        repairs.iter().map(|repair| write(engine, *repair, now)).collect::<Result<Vec<_>, _>>()
    })?;
    let repaired = repairs
        .iter()
        .zip(written)
        .map(|(repair, written)| match written {
            Ok(standing) => note(engine, *repair, standing, now),
            Err(refused) => refused,
        })
        .collect();
    // What is repaired is repaired: if the pages cannot be counted now, the next housekeeping does.
    let _ = engine.measure();
    Ok(repaired)
}

/// Writes one repair; the inner error says why there is nothing to write.
fn write(engine: &SqliteBuffer, repair: Repair, now: RunMs) -> Result<Result<Standing, Repaired>, BufferError> {
    let (Repair::Redrive(seq) | Repair::Discard(seq) | Repair::Forget(seq)) = repair;
    let standing = match standing(engine, seq, repair, now)? {
        None => return Ok(Err(Repaired::Unknown)),
        // What it says is not to be believed; the next claim or start sets it aside.
        Some(None) => return Ok(Err(Repaired::NotIn(State::Quarantined))),
        Some(Some(standing)) => standing,
    };
    if let Some(refused) = refusal(engine, repair, &standing) {
        return Ok(Err(refused));
    }
    let row_crc = standing.repaired_row_crc;
    match repair {
        Repair::Redrive(seq) => execute(
            engine,
            "UPDATE event SET state = 0, attempts = 0, client_errors = 0, due_run_ms = ?2, settled_run_ms = NULL,
             redriven_run_ms = ?2, row_crc = ?3 WHERE seq = ?1",
            seq,
            due_again(now),
            row_crc,
        )?,
        Repair::Discard(seq) => {
            execute(
                engine,
                "UPDATE event SET state = 4, due_run_ms = 0, settled_run_ms = ?2, row_crc = ?3 WHERE seq = ?1",
                seq,
                now,
                row_crc,
            )?;
            engine.delete_body(seq)?;
        }
        Repair::Forget(seq) => engine
            .db
            .prepare_cached("UPDATE event SET fingerprint = NULL, row_crc = ?2 WHERE seq = ?1")
            .and_then(|mut statement| statement.execute(params![seq.0, row_crc]))
            .or_failed()
            .map(drop)?,
    }
    Ok(Ok(standing))
}

/// A row as a repair will leave it.
fn repaired(row: EventRow<'_>, repair: Repair, now: RunMs) -> EventRow<'_> {
    match repair {
        Repair::Redrive(_) => {
            let due = due_again(now);
            let (settled, redriven) = (None, Some(due));
            EventRow { state: State::Pending, attempts: 0, client_errors: 0, due, settled, redriven, ..row }
        }
        Repair::Discard(_) => EventRow { state: State::Discarded, due: RunMs(0), settled: Some(now), ..row },
        Repair::Forget(_) => EventRow { fingerprint: None, ..row },
    }
}

/// At once, but never zero, which stands for never tried.
fn due_again(now: RunMs) -> RunMs {
    now.max(RunMs(1))
}

fn execute(engine: &SqliteBuffer, sql: &str, seq: Seq, at: RunMs, row_crc: u32) -> Result<(), BufferError> {
    engine
        .db
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params![seq.0, at.0, row_crc]))
        .or_failed()
        .map(drop)
}

/// Where an event stands; the inner `None` if its row is damaged.
fn standing(
    engine: &SqliteBuffer,
    seq: Seq,
    repair: Repair,
    now: RunMs,
) -> Result<Option<Option<Standing>>, BufferError> {
    let read = |row: &Row<'_>| {
        let Some(found) = EventRow::read(row)? else { return Ok(None) };
        Ok(Some(Standing {
            state: found.state,
            route: found.route.into(),
            bytes: found.size(),
            verified: found.verified,
            received_unix_ms: row.get(14)?,
            has_body: row.get(15)?,
            fingerprint: found.fingerprint.map(Fingerprint),
            repaired_row_crc: repaired(found, repair, now).checksum(),
        }))
    };
    engine
        .db
        .prepare_cached(concat!(
            "SELECT ",
            event_row_columns!(),
            ", received_ms, EXISTS(SELECT 1 FROM body WHERE body.seq = event.seq) FROM event WHERE seq = ?1"
        ))
        .and_then(|mut statement| statement.query_row([seq.0], read).optional())
        .or_failed()
}

fn refusal(engine: &SqliteBuffer, repair: Repair, standing: &Standing) -> Option<Repaired> {
    match (repair, standing.state) {
        (Repair::Redrive(_), State::Dead | State::Delivered) if !standing.has_body => Some(Repaired::NoBody),
        (Repair::Redrive(_), State::Dead) => None,
        // Its kept body was to give way; from now on it has a claim to its room.
        (Repair::Redrive(_), State::Delivered) => {
            let Standing { route, bytes, verified, .. } = standing;
            let wanted = Wanted { route, bytes: *bytes, verified: *verified };
            let fits = engine.counts.room.has_room(wanted, engine.fill(), &Added::default());
            (!fits).then_some(Repaired::NoRoom)
        }
        (Repair::Discard(_), State::Pending | State::Dead | State::Quarantined) => None,
        (Repair::Forget(seq), State::Delivered | State::Discarded) => {
            let stands_for = |fingerprint| engine.index.stands_for(&fingerprint).unwrap_or(seq);
            (standing.fingerprint.map(stands_for) != Some(seq)).then_some(Repaired::NotRemembered)
        }
        (_, state) => Some(Repaired::NotIn(state)),
    }
}

/// What memory has to know of a repair that is durable.
fn note(engine: &mut SqliteBuffer, repair: Repair, standing: Standing, now: RunMs) -> Repaired {
    let Standing { state: was, route, bytes, verified, received_unix_ms, fingerprint, .. } = standing;
    let mut handed_out = false;
    match repair {
        Repair::Redrive(seq) => {
            engine.counts.remove(was, &route, bytes, verified);
            if was == State::Delivered {
                engine.counts.kept_bytes = engine.counts.kept_bytes.saturating_sub(bytes);
            }
            if seq < engine.oldest_pending {
                // The search for the oldest has passed it, and need not come back for it.
                engine.pending_again.insert(seq, received_unix_ms);
            } else if engine.counts.events[State::Pending as usize] == 0 {
                engine.oldest_pending = seq;
                engine.oldest_pending_unix_ms = Some(received_unix_ms);
            }
            engine.counts.add(State::Pending, &route, bytes, verified);
            engine.lanes.again(&route, seq, due_again(now));
        }
        Repair::Discard(seq) => {
            engine.counts.remove(was, &route, bytes, verified);
            engine.counts.add(State::Discarded, &route, bytes, verified);
            engine.pending_again.remove(&seq);
            handed_out = was == State::Pending && engine.lanes.withdraw(seq);
        }
        Repair::Forget(_) => {
            if let Some(fingerprint) = &fingerprint {
                engine.index.remove(fingerprint);
            }
        }
    }
    Repaired::Done { route, was, handed_out }
}
