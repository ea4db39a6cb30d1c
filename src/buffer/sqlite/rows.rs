//! The statements on rows: insert, settle, read, set aside, delete.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::event::{
    Claimed, DeliveryId, Event, EventHead, Fingerprint, Outcome, Seq, Settlement, State, row_checksum,
};
use super::event_row::{self, EventRow, event_row_columns};
use super::lanes::InFlight;
use super::statements::{Held, Statements};
use super::{Append, BufferError, OrFailed as _, SqliteBuffer, failed, is_corruption};
use crate::clock::RunMs;

impl SqliteBuffer {
    /// Writes what became of a handed-out event; settling twice changes nothing. The row is not read: one that
    /// the medium has damaged meanwhile gets a checksum that does not fit what was damaged, so whoever reads it next
    /// sets it aside.
    pub(super) fn write_settlement(
        &self,
        statements: &mut Statements<'_>,
        settlement: &Settlement,
        now: RunMs,
    ) -> Result<(), BufferError> {
        let seq = settlement.event.seq;
        let Some(in_flight) = self.lanes.handed_out(settlement.event) else { return Ok(()) };
        let (state, error, due, client_errors) = match &settlement.outcome {
            Outcome::Delivered => (State::Delivered, None, RunMs(0), None),
            Outcome::Dead { error } => (State::Dead, Some(error), RunMs(0), None),
            Outcome::RetryAt { due, client_errors, error } => (State::Pending, Some(error), *due, Some(*client_errors)),
            Outcome::Released | Outcome::PutBack { .. } => return Ok(()),
        };
        let after = EventRow {
            seq,
            stored: in_flight.stored,
            route: &in_flight.route,
            fingerprint: in_flight.fingerprint,
            verified: in_flight.verified,
            bytes: i64::try_from(in_flight.bytes).unwrap_or(i64::MAX),
            crc: in_flight.crc,
            state,
            attempts: settlement.attempts,
            client_errors: client_errors.unwrap_or(in_flight.client_errors),
            due,
            settled: (state != State::Pending).then_some(now),
            redriven: in_flight.redriven,
        };
        let changed = statements
            .settle
            .held()
            .and_then(|statement| {
                statement.execute(params![
                    seq.0,
                    state.code(),
                    after.attempts,
                    due.0,
                    after.settled.map(|at| at.0),
                    error,
                    after.client_errors,
                    settlement.last.map(|last| last.ended_unix_ms),
                    settlement.last.and_then(|last| last.status),
                    settlement.last.map(|last| last.duration_ms),
                    after.checksum(),
                ])
            })
            .or_failed()?;
        if changed > 0 && state == State::Delivered && self.settings.delivered_keep.is_zero() {
            self.delete_body_with(&mut statements.delete_body, seq)?;
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

    /// Whether there was one.
    pub(super) fn delete_body(&self, seq: Seq) -> Result<bool, BufferError> {
        self.delete_body_with(&mut Statements::of(&self.db).delete_body, seq)
    }

    fn delete_body_with(&self, statement: &mut Held<'_>, seq: Seq) -> Result<bool, BufferError> {
        if self.stuck_bodies.borrow().contains(&seq) {
            return Ok(false);
        }
        statement
            .held()
            .and_then(|statement| statement.execute([seq.0]))
            .inspect_err(|error| {
                if is_corruption(error) {
                    self.stuck_bodies.borrow_mut().insert(seq);
                    tracing::error!(
                        seq = seq.0,
                        "the medium has damaged the buffer: a body that is done with stays in it"
                    );
                }
            })
            .or_failed()
            .map(|deleted| deleted > 0)
    }

    /// Writes a new event at this place; the checksum of what reaches the app.
    pub(super) fn insert(
        &self,
        statements: &mut Statements<'_>,
        append: &Append,
        seq: Seq,
        now: RunMs,
    ) -> Result<u32, BufferError> {
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
        let row = EventRow {
            seq,
            stored: now,
            route: &event.route,
            fingerprint: new.dedupe.map(|(fingerprint, _)| fingerprint.0),
            verified: event.is_verified(),
            bytes: i64::try_from(new.stored_bytes()).unwrap_or(i64::MAX),
            crc,
            state: State::Pending,
            attempts: 0,
            client_errors: 0,
            due: RunMs(0),
            settled: None,
            redriven: None,
        };
        statements
            .insert_event
            .held()
            .and_then(|statement| {
                statement.execute(params![
                    seq.0,
                    event.delivery_id.0,
                    event.received_unix_ms,
                    now.0,
                    row.route,
                    event.event_id,
                    event.event_type,
                    row.fingerprint,
                    row.verified,
                    row.bytes,
                    crc,
                    row.checksum(),
                ])
            })
            .or_failed()?;
        statements
            .insert_body
            .held()
            .and_then(|statement| statement.execute(params![seq.0, &new.head[..], &event.body[..]]))
            .or_failed()?;
        Ok(crc)
    }

    /// Reads a pending event, to be handed out; `None` if it is damaged.
    pub(super) fn read(&self, seq: Seq) -> Result<Option<(Claimed, InFlight)>, BufferError> {
        let found = self
            .db
            .prepare_cached(concat!(
                "SELECT ",
                event_row_columns!(),
                ", delivery_id, received_ms, event_id, event_type, head, body FROM event JOIN body USING (seq)
                 WHERE seq = ?1"
            ))
            .and_then(|mut statement| statement.query_row([seq.0], read_claimed).optional());
        match found {
            Ok(found) => Ok(found.flatten()),
            // A column holds what it cannot, or a page of the bodies what no page does.
            Err(error) if event_row::is_of_a_damaged_row(&error) || is_corruption(&error) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Sets a damaged event aside: counted, never forwarded, and no duplicate of anything.
    pub(super) fn quarantine(&mut self, route: &str, seq: Seq, now: RunMs) -> Result<(), BufferError> {
        let SetAside { fingerprint, bytes, verified } =
            self.in_transaction(|engine| engine.write_quarantine(seq, now))?;
        self.counts.remove(State::Pending, route, bytes, verified);
        self.counts.add(State::Quarantined, route, bytes, verified);
        self.counts.quarantined += 1;
        self.pending_again.remove(&seq);
        if let Some(fingerprint) = fingerprint {
            self.index.remove(&Fingerprint(fingerprint));
        }
        tracing::error!(seq = seq.0, "the medium has damaged a stored event: it is set aside and not forwarded");
        Ok(())
    }

    /// Writes that an event is set aside. What its row says is kept if that is intact; else nothing of
    /// it is believed any more.
    pub(super) fn write_quarantine(&self, seq: Seq, now: RunMs) -> Result<SetAside, BufferError> {
        let intact = event_row::with_intact(&self.db, seq, |row| {
            let aside = EventRow { state: State::Quarantined, settled: Some(now), ..row };
            let EventRow { fingerprint, verified, .. } = row;
            (aside.checksum(), SetAside { fingerprint, bytes: row.size(), verified })
        })?;
        if let Some((row_crc, set_aside)) = intact {
            self.db
                .execute(
                    "UPDATE event SET state = 3, settled_run_ms = ?2, last_error = 'checksum mismatch', row_crc = ?3
                     WHERE seq = ?1",
                    params![seq.0, now.0, row_crc],
                )
                .or_failed()?;
            return Ok(set_aside);
        }
        let aside = EventRow {
            seq,
            stored: now,
            route: "",
            fingerprint: None,
            verified: true,
            bytes: 0,
            crc: 0,
            state: State::Quarantined,
            attempts: 0,
            client_errors: 0,
            due: RunMs(0),
            settled: Some(now),
            redriven: None,
        };
        self.db
            .execute(
                "UPDATE event SET stored_run_ms = ?2, route = '', fingerprint = NULL, verified = 1, size = 0, crc = 0,
                 state = 3, attempts = 0, client_errors = 0, due_run_ms = 0, settled_run_ms = ?2,
                 redriven_run_ms = NULL, last_error = 'checksum mismatch', row_crc = ?3 WHERE seq = ?1",
                params![seq.0, now.0, aside.checksum()],
            )
            .or_failed()?;
        Ok(SetAside { fingerprint: None, bytes: 0, verified: true })
    }
}

/// What memory has to know of an event that is set aside.
pub(super) struct SetAside {
    fingerprint: Option<[u8; 16]>,
    bytes: u64,
    verified: bool,
}

/// A row of the event with what reaches the app; `None` if a checksum fails.
fn read_claimed(row: &Row<'_>) -> rusqlite::Result<Option<(Claimed, InFlight)>> {
    let Some(standing) = EventRow::read(row)? else { return Ok(None) };
    let encoded_head = Bytes::from(row.get::<_, Vec<u8>>(18)?);
    let Ok(head) = EventHead::decode(&encoded_head) else { return Ok(None) };
    let event = Event {
        delivery_id: DeliveryId(row.get(14)?),
        received_unix_ms: row.get(15)?,
        route: standing.route.into(),
        event_id: row.get(16)?,
        event_type: row.get(17)?,
        head,
        body: Bytes::from(row.get::<_, Vec<u8>>(19)?),
        replay: standing.redriven.is_some(),
    };
    let computed = row_checksum(
        &event.delivery_id,
        event.received_unix_ms,
        &event.route,
        event.event_id.as_deref(),
        event.event_type.as_deref(),
        &encoded_head,
        &event.body,
    );
    let EventRow { seq, stored: stored_at, attempts, client_errors, due, redriven, .. } = standing;
    let tried_since = redriven.unwrap_or(stored_at);
    let in_flight = InFlight::of(&standing, event.delivery_id, event.route.clone());
    let claimed = Claimed { seq, event: Arc::new(event), attempts, client_errors, stored_at, tried_since, due };
    Ok((computed == standing.crc).then_some((claimed, in_flight)))
}
