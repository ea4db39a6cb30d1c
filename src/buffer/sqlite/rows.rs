//! The statements on rows: insert, settle, read, set aside, delete.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};

use super::super::event::{
    Claimed, DeliveryId, Event, EventHead, Fingerprint, Outcome, Seq, Settlement, State, row_checksum,
};
use super::{Append, BufferError, OrFailed as _, SqliteBuffer, failed};
use crate::clock::RunMs;

impl SqliteBuffer {
    /// Writes what became of a handed-out event; settling twice changes nothing.
    pub(super) fn write_settlement(&self, settlement: &Settlement, now: RunMs) -> Result<(), BufferError> {
        if self.lanes.handed_out(settlement.seq).is_none() {
            return Ok(());
        }
        let (state, error, due, client_errors) = match &settlement.outcome {
            Outcome::Delivered => (State::Delivered, None, RunMs(0), None),
            Outcome::Dead { error } => (State::Dead, Some(error), RunMs(0), None),
            Outcome::RetryAt { due, client_errors, error } => (State::Pending, Some(error), *due, Some(*client_errors)),
            Outcome::Released | Outcome::PutBack { .. } => return Ok(()),
        };
        let settled = (state != State::Pending).then_some(now.0);
        self.db
            .prepare_cached(
                "UPDATE event SET state = ?2, attempts = ?3, due_run_ms = ?4, settled_run_ms = ?5, last_error = ?6,
                 client_errors = coalesce(?7, client_errors), last_ended_ms = ?8, last_status = ?9,
                 last_duration_ms = ?10 WHERE seq = ?1 AND state = 0",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    settlement.seq.0,
                    state.code(),
                    settlement.attempts,
                    due.0,
                    settled,
                    error,
                    client_errors,
                    settlement.last.map(|last| last.ended_unix_ms),
                    settlement.last.and_then(|last| last.status),
                    settlement.last.map(|last| last.duration_ms),
                ])
            })
            .or_failed()?;
        if state == State::Delivered && self.settings.delivered_keep.is_zero() {
            self.delete_body(settlement.seq)?;
        }
        Ok(())
    }

    pub(super) fn delete_event(&self, seq: Seq) -> Result<(), BufferError> {
        self.db
            .prepare_cached("DELETE FROM event WHERE seq = ?1")
            .and_then(|mut statement| statement.execute([seq.0]))
            .or_failed()
            .map(drop)
    }

    pub(super) fn delete_body(&self, seq: Seq) -> Result<(), BufferError> {
        self.db
            .prepare_cached("DELETE FROM body WHERE seq = ?1")
            .and_then(|mut statement| statement.execute([seq.0]))
            .or_failed()
            .map(drop)
    }

    pub(super) fn insert(&self, append: &Append, now: RunMs) -> Result<Seq, BufferError> {
        let new = &append.event;
        let event = &new.event;
        let crc = row_checksum(
            &event.delivery_id,
            event.received_unix_ms,
            &event.route,
            event.event_id.as_deref(),
            event.event_type.as_deref(),
            &new.head,
            &event.body,
        );
        self.db
            .prepare_cached(
                "INSERT INTO event(delivery_id, received_ms, stored_run_ms, route, event_id, event_type, fingerprint,
                 verified, size, crc, state, attempts, client_errors, due_run_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, 0, 0)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    event.delivery_id.0,
                    event.received_unix_ms,
                    now.0,
                    &*event.route,
                    event.event_id,
                    event.event_type,
                    new.dedupe.map(|(fingerprint, _)| fingerprint.0),
                    event.is_verified(),
                    i64::try_from(new.stored_bytes()).unwrap_or(i64::MAX),
                    crc,
                ])
            })
            .or_failed()?;
        let seq = self.db.last_insert_rowid();
        self.db
            .prepare_cached("INSERT INTO body(seq, head, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![seq, &new.head[..], &event.body[..]]))
            .or_failed()?;
        Ok(Seq(seq))
    }

    /// Reads a pending event and the room it holds; `None` if its row is damaged.
    pub(super) fn read(&self, seq: Seq) -> Result<Option<(Claimed, u64)>, BufferError> {
        let found = self
            .db
            .prepare_cached(
                "SELECT e.delivery_id, e.received_ms, e.stored_run_ms, e.route, e.event_id, e.event_type, e.crc,
                 e.attempts, e.client_errors, b.head, b.body, e.size, e.redriven_run_ms, e.due_run_ms
                 FROM event e JOIN body b ON b.seq = e.seq WHERE e.seq = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([seq.0], |row| {
                        let redriven_at = row.get::<_, Option<i64>>(12)?.map(RunMs);
                        Ok((
                            Event {
                                delivery_id: DeliveryId(row.get(0)?),
                                received_unix_ms: row.get(1)?,
                                route: row.get_ref(3)?.as_str()?.into(),
                                event_id: row.get(4)?,
                                event_type: row.get(5)?,
                                head: EventHead {
                                    method: String::new(),
                                    target: Bytes::new(),
                                    headers: vec![],
                                    key: None,
                                },
                                body: Bytes::from(row.get::<_, Vec<u8>>(10)?),
                                replay: redriven_at.is_some(),
                            },
                            Bytes::from(row.get::<_, Vec<u8>>(9)?),
                            row.get::<_, u32>(6)?,
                            (RunMs(row.get(2)?), redriven_at, RunMs(row.get(13)?), row.get(7)?, row.get(8)?),
                            row.get::<_, i64>(11)?,
                        ))
                    })
                    .optional()
            });
        let (mut event, head, crc, (stored_at, redriven_at, due, attempts, client_errors), bytes) = match found {
            Ok(Some(found)) => found,
            // The row or its body is gone, or a column holds what it cannot: damage of one row.
            Ok(None) => return Ok(None),
            Err(error) if is_damaged_row(&error) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let computed = row_checksum(
            &event.delivery_id,
            event.received_unix_ms,
            &event.route,
            event.event_id.as_deref(),
            event.event_type.as_deref(),
            &head,
            &event.body,
        );
        if computed != crc {
            return Ok(None);
        }
        let Ok(head) = EventHead::decode(&head) else {
            return Ok(None);
        };
        event.head = head;
        let tried_since = redriven_at.unwrap_or(stored_at);
        let event = Arc::new(event);
        let claimed = Claimed { seq, event, attempts, client_errors, stored_at, tried_since, due };
        Ok(Some((claimed, u64::try_from(bytes).unwrap_or(0))))
    }

    /// Sets a damaged row aside: counted, never forwarded, and no duplicate of anything.
    pub(super) fn quarantine(&mut self, seq: Seq, now: RunMs) -> Result<(), BufferError> {
        let row: Option<(Option<Vec<u8>>, i64, bool)> = self
            .db
            .query_row("SELECT fingerprint, size, verified FROM event WHERE seq = ?1", [seq.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
            .or_failed()?;
        self.db
            .execute(
                "UPDATE event SET state = ?2, settled_run_ms = ?3, last_error = 'checksum mismatch' WHERE seq = ?1",
                params![seq.0, State::Quarantined.code(), now.0],
            )
            .or_failed()?;
        let Some((fingerprint, bytes, verified)) = row else {
            return Ok(());
        };
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.counts.remove(State::Pending, bytes, verified);
        self.counts.add(State::Quarantined, bytes, verified);
        self.counts.quarantined += 1;
        self.pending_again.remove(&seq);
        if let Some(fingerprint) = fingerprint.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) {
            self.index.remove(&Fingerprint(fingerprint));
        }
        Ok(())
    }
}

/// Errors that concern a row's contents, not the database.
fn is_damaged_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}
