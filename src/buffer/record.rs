//! Words of the operator's side: an event as it is looked at, and what may be done to it. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::event::{Attempt, DeliveryId, EventHead, Seq, State};

/// Which events are asked for; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Where they stand.
    pub state: Option<State>,
    /// The route that took them.
    pub route: Option<String>,
    /// `data.event_type`.
    pub event_type: Option<String>,
    /// `data.id`.
    pub event_id: Option<String>,
}

/// Bounds of one look into the buffer.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// Only events before this one; the newest otherwise.
    pub before: Option<Seq>,
    /// Events that are wanted.
    pub events: usize,
    /// Rows that are looked at, whether they match or not.
    pub rows: u32,
}

/// What one look has found.
#[derive(Debug, Default)]
pub struct Listed {
    /// The events, newest first.
    pub records: Vec<Record>,
    /// Rows that were looked at.
    pub rows: u32,
    /// Where to go on: before this one. `None` at the end.
    pub next: Option<Seq>,
}

/// An event as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub seq: Seq,
    /// UUIDv7, the same on every attempt.
    pub delivery_id: DeliveryId,
    /// `data.id`.
    pub event_id: Option<String>,
    /// `data.event_type`.
    pub event_type: Option<String>,
    /// The route that took it.
    pub route: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// When it was received, wall clock.
    pub received_unix_ms: i64,
    /// Attempts that were sent, since an operator's redrive if there was one.
    pub attempts: u32,
    /// How long until its next attempt is due, zero if it is; `None` unless it is pending.
    pub due_in: Option<Duration>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
    /// Room that it takes or took in the buffer, bytes.
    pub size_bytes: u64,
}

/// Everything that is known of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// As in a list.
    pub record: Record,
    /// The last attempt, if one was made.
    pub last_attempt: Option<Attempt>,
    /// Whether an operator has sent it again.
    pub replay: bool,
    /// How it came, as long as that is kept.
    pub content: Option<Content>,
}

/// How an event came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Everything but the body; `None` if it is damaged.
    pub head: Option<EventHead>,
    /// The body as received.
    pub body: Bytes,
    /// Whether the checksum holds.
    pub intact: bool,
}

/// What an operator may do to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Deliver it again: a dead letter, or a delivered event whose body is kept.
    Redrive(Seq),
    /// Throw it away: whatever still has a body and is not delivered.
    Discard(Seq),
    /// Know its id no more, so that one repeat of it is let through: a delivered or discarded event.
    Forget(Seq),
}

/// What became of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// It is done, and durable.
    Done {
        /// The route of the event.
        route: Arc<str>,
        /// Where it stood before.
        was: State,
        /// Whether it was handed out for an attempt, which may be under way.
        handed_out: bool,
    },
    /// There is no such event, or no longer.
    Unknown,
    /// Not in this state.
    NotIn(State),
    /// Its body is not kept any more.
    NoBody,
    /// It would need room that there is not: pending events are at `buffer.max_bytes`.
    NoRoom,
    /// No repeat is a duplicate of it: it has no key, it was forgotten, or a newer event with its key has come.
    NotRemembered,
}
