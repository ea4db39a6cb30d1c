//! Words of the buffer: what an event is, on its way in, at rest and on its way out. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

use crate::clock::RunMs;

/// Place of an event in the buffer: ascending in order of acceptance, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub i64);

/// UUIDv7 of an event, the same on every attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryId(pub [u8; 16]);

impl std::fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

/// 128 keyed bits of (scope, event id): a collision is impossible in practice, so a hit needs no
/// look at the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// What a verified event says of itself and of how it came: everything but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHead {
    /// Method, as received.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: Bytes,
    /// The end-to-end headers that go to the app, forwarding headers included.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The name of the key that signed it; `None` for what was let pass by `report`.
    pub key: Option<Arc<str>>,
}

/// A verified event, as it is handed to an engine and to the forwarder.
#[derive(Debug, Clone)]
pub struct Event {
    /// UUIDv7, the same on every attempt.
    pub delivery_id: DeliveryId,
    /// When it was received, wall clock.
    pub received_unix_ms: i64,
    /// The route that took it.
    pub route: Arc<str>,
    /// `data.id`.
    pub event_id: Option<String>,
    /// `data.event_type`.
    pub event_type: Option<String>,
    /// How it came.
    pub head: EventHead,
    /// The body as received.
    pub body: Bytes,
    /// Whether an operator sends it again.
    pub replay: bool,
}

impl Event {
    /// Whether every check passed in earnest.
    pub fn is_verified(&self) -> bool {
        self.head.key.is_some()
    }
}

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Its key among duplicates and for how long that is remembered.
    pub dedupe: Option<(Fingerprint, Duration)>,
    /// Encoded [`Event::head`], so that the engine's thread need not.
    pub head: Bytes,
}

impl NewEvent {
    /// Prepares an event for an engine.
    pub fn new(event: Event, dedupe: Option<(Fingerprint, Duration)>) -> NewEvent {
        let head = event.head.encode();
        NewEvent { event: Arc::new(event), dedupe, head }
    }

    /// Bytes it takes at rest, about: rows, keys and page overhead.
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(self.head.len() + self.event.body.len())
    }
}

/// Room that an event of so many bytes of head and body takes in the database, about.
pub fn stored_bytes(head_and_body: usize) -> u64 {
    const ROW_OVERHEAD_BYTES: u64 = 320;
    head_and_body as u64 + ROW_OVERHEAD_BYTES
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// To be delivered.
    Pending,
    /// The app has answered 2xx.
    Delivered,
    /// Given up; kept for `dead_letter.keep`.
    Dead,
    /// Its checksum fails; never forwarded.
    Quarantined,
    /// Thrown away by an operator.
    Discarded,
}

impl State {
    /// All of them, in the order of their codes.
    pub const ALL: [State; 5] = [State::Pending, State::Delivered, State::Dead, State::Quarantined, State::Discarded];

    /// As in metrics and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Delivered => "delivered",
            State::Dead => "dead",
            State::Quarantined => "quarantined",
            State::Discarded => "discarded",
        }
    }

    /// The code in the database.
    pub fn code(self) -> i64 {
        match self {
            State::Pending => 0,
            State::Delivered => 1,
            State::Dead => 2,
            State::Quarantined => 3,
            State::Discarded => 4,
        }
    }

    /// From its name in the admin API.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// From the code in the database.
    pub fn from_code(code: i64) -> Option<State> {
        State::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// An event taken from the buffer for an attempt.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its place.
    pub seq: Seq,
    /// The event.
    pub event: Arc<Event>,
    /// Attempts that were sent before.
    pub attempts: u32,
    /// Of these, answers that said the request itself is wrong.
    pub client_errors: u32,
    /// When it was stored, running time.
    pub stored_at: RunMs,
    /// Since when it is tried, running time: since it was stored, or sent again by an operator.
    pub tried_since: RunMs,
    /// Not to be tried before. Later than now only where an engine hands out events in order.
    pub due: RunMs,
}

impl Claimed {
    /// Its name while it is handed out.
    pub fn handed_out(&self) -> HandedOut {
        HandedOut { seq: self.seq, delivery_id: self.event.delivery_id }
    }
}

/// Names an event that is handed out. A place alone is no name: the database that is opened next may hold another
/// event there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandedOut {
    /// Its place.
    pub seq: Seq,
    /// Tells it from every other event that has ever stood in such a place.
    pub delivery_id: DeliveryId,
}

/// What became of a claimed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The event; a settlement of one that the engine has not handed out changes nothing.
    pub event: HandedOut,
    /// What became of it.
    pub outcome: Outcome,
    /// Attempts sent so far.
    pub attempts: u32,
    /// The attempt that led to it; `None` where nothing was sent.
    pub last: Option<Attempt>,
}

/// One attempt as it is remembered for an operator. What went wrong stands in the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it ended, wall clock.
    pub ended_unix_ms: i64,
    /// The status of the app's answer, if there was one.
    pub status: Option<u16>,
    /// From its begin to its end.
    pub duration_ms: i64,
}

impl Settlement {
    /// Whether the event waits for another attempt.
    pub fn waits_again(&self) -> bool {
        matches!(self.outcome, Outcome::RetryAt { .. } | Outcome::Released | Outcome::PutBack { .. })
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The app answered 2xx.
    Delivered,
    /// To be tried again.
    RetryAt {
        /// When, running time.
        due: RunMs,
        /// Answers so far that said the request itself is wrong.
        client_errors: u32,
        /// What happened, without bytes of request or answer.
        error: String,
    },
    /// Given up.
    Dead {
        /// Why, without bytes of request or answer.
        error: String,
    },
    /// Not tried: goes back as it was.
    Released,
    /// Not tried, and not to be handed out before. Kept in memory only: after a restart it is as it
    /// was.
    PutBack {
        /// When, running time.
        due: RunMs,
    },
}

impl Outcome {
    /// The same, but no retry before then.
    pub fn not_before(mut self, at: Option<RunMs>) -> Outcome {
        if let Outcome::RetryAt { due, .. } = &mut self {
            *due = at.map_or(*due, |at| at.max(*due));
        }
        self
    }
}

/// Why a stored head cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the stored request header is not in a known form")]
pub struct HeadError;

/// Form of an encoded head; later forms get another number.
const HEAD_FORM: u8 = 1;

impl EventHead {
    /// Length-prefixed fields behind one byte for the form.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_u8(HEAD_FORM);
        put(&mut out, self.method.as_bytes());
        put(&mut out, &self.target);
        match &self.key {
            Some(key) => {
                out.put_u8(1);
                put(&mut out, key.as_bytes());
            }
            None => out.put_u8(0),
        }
        for (name, value) in &self.headers {
            put(&mut out, name);
            put(&mut out, value);
        }
        out.freeze()
    }

    /// Length of the encoded form.
    pub fn encoded_len(&self) -> usize {
        const PREFIX: usize = 4;
        let key = self.key.as_ref().map_or(0, |key| PREFIX + key.len());
        let headers: usize = self.headers.iter().map(|(name, value)| 2 * PREFIX + name.len() + value.len()).sum();
        2 + 2 * PREFIX + self.method.len() + self.target.len() + key + headers
    }

    /// Reads what [`EventHead::encode`] wrote.
    ///
    /// # Errors
    /// [`HeadError`] on anything else.
    pub fn decode(encoded: &Bytes) -> Result<EventHead, HeadError> {
        let mut rest = encoded.clone();
        if take_byte(&mut rest)? != HEAD_FORM {
            return Err(HeadError);
        }
        let method = String::from_utf8(take(&mut rest)?.to_vec()).map_err(|_| HeadError)?;
        let target = take(&mut rest)?;
        let key = match take_byte(&mut rest)? {
            0 => None,
            1 => Some(std::str::from_utf8(&take(&mut rest)?).map_err(|_| HeadError)?.into()),
            _ => return Err(HeadError),
        };
        let mut headers = Vec::new();
        while !rest.is_empty() {
            headers.push((take(&mut rest)?, take(&mut rest)?));
        }
        Ok(EventHead { method, target, headers, key })
    }
}

fn put(out: &mut BytesMut, field: &[u8]) {
    // Bounded by limits.header_bytes, far below 4 GiB.
    out.put_u32_le(u32::try_from(field.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(field);
}

fn take_byte(rest: &mut Bytes) -> Result<u8, HeadError> {
    if rest.is_empty() {
        return Err(HeadError);
    }
    Ok(rest.split_to(1)[0])
}

fn take(rest: &mut Bytes) -> Result<Bytes, HeadError> {
    if rest.len() < 4 {
        return Err(HeadError);
    }
    let length = rest.split_to(4);
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if rest.len() < length {
        return Err(HeadError);
    }
    Ok(rest.split_to(length))
}

/// CRC-32C over everything of a row that reaches the app: SQLite's own checks do not see a flipped
/// bit in a payload.
pub fn row_checksum(
    delivery_id: &DeliveryId,
    received_unix_ms: i64,
    route: &str,
    event_id: Option<&str>,
    event_type: Option<&str>,
    head: &[u8],
    body: &[u8],
) -> u32 {
    let mut crc = crc32c::crc32c(&delivery_id.0);
    crc = crc32c::crc32c_append(crc, &received_unix_ms.to_le_bytes());
    for text in [Some(route), event_id, event_type] {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart; none differs from empty.
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
        crc = crc32c::crc32c_append(crc, text.unwrap_or_default().as_bytes());
    }
    crc = crc32c::crc32c_append(crc, &(head.len() as u64).to_le_bytes());
    crc = crc32c::crc32c_append(crc, head);
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The name of what [`event`] makes, handed out at this place.
    pub(crate) fn handed_out(seq: Seq) -> HandedOut {
        HandedOut { seq, delivery_id: DeliveryId([7; 16]) }
    }

    /// An event with this id and body.
    pub(crate) fn event(id: &str, body: &[u8]) -> Event {
        Event {
            delivery_id: DeliveryId([7; 16]),
            received_unix_ms: 1_700_000_000_000,
            route: "default".into(),
            event_id: Some(id.to_owned()),
            event_type: Some("message.sent".to_owned()),
            head: EventHead {
                method: "POST".into(),
                target: Bytes::from_static(b"/hooks?a=b"),
                headers: vec![(Bytes::from_static(b"content-type"), Bytes::from_static(b"application/json"))],
                key: Some("key1".into()),
            },
            body: Bytes::copy_from_slice(body),
            replay: false,
        }
    }

    #[test]
    fn state_codes_are_read_back_as_written() {
        for state in State::ALL {
            assert_eq!(State::from_code(state.code()), Some(state));
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_code(99), None);
    }

    #[test]
    fn the_checksum_sees_every_part_and_its_borders() {
        let id = DeliveryId([1; 16]);
        let base = row_checksum(&id, 1, "r", Some("a"), Some("b"), b"h", b"body");
        let others = [
            row_checksum(&DeliveryId([2; 16]), 1, "r", Some("a"), Some("b"), b"h", b"body"),
            row_checksum(&id, 2, "r", Some("a"), Some("b"), b"h", b"body"),
            row_checksum(&id, 1, "s", Some("a"), Some("b"), b"h", b"body"),
            row_checksum(&id, 1, "r", Some("ab"), Some(""), b"h", b"body"),
            row_checksum(&id, 1, "r", Some("a"), None, b"h", b"body"),
            row_checksum(&id, 1, "r", Some("a"), Some("b"), b"hb", b"ody"),
            row_checksum(&id, 1, "r", Some("a"), Some("b"), b"h", b"bodz"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    proptest! {
        #[test]
        fn a_head_is_read_back_as_written(
            target in prop::collection::vec(any::<u8>(), 0..50),
            headers in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            key in proptest::option::of("[a-z]{0,8}"),
        ) {
            let head = EventHead {
                method: "POST".into(),
                target: target.into(),
                headers: headers.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
                key: key.map(|key| key.as_str().into()),
            };
            prop_assert_eq!(head.encode().len(), head.encoded_len());
            prop_assert_eq!(EventHead::decode(&head.encode()), Ok(head));
        }

        #[test]
        fn no_bytes_can_make_reading_a_head_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = EventHead::decode(&Bytes::from(bytes));
        }
    }
}
