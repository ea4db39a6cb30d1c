//! What an event says of its place among others: its key and when it happened. Pure. Read from the
//! body whenever an event is taken up, so nothing of it is stored and a change of the configuration
//! holds for what waits already.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::buffer::event::Event;
use crate::clock::rfc3339_us;
use crate::json_pointer::JsonPointer;

/// When an event happened.
const OCCURRED_AT: &str = "/data/occurred_at";

/// How the events of a lane are put in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordering {
    /// JSON pointer (RFC 6901) to what events have in common that must stay in order.
    pub key: String,
    /// Longest time that an event which fails holds up those behind it.
    pub max_block: Duration,
    /// How long an event waits for one that happened before it; zero is the order of arrival.
    pub reorder_window: Duration,
}

/// The place of an event among those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Equal for events that must stay in order. Two keys may fall together, which costs them
    /// some of their parallelism.
    pub key: u64,
    /// Events are put in order by it, then by arrival; microseconds.
    pub rank_us: i64,
}

/// Reads places. Keys are hashed under a secret of this process, so that nobody can make keys of
/// others fall together with their own.
#[derive(Debug)]
pub struct PlaceReader {
    key: Option<JsonPointer>,
    /// Where the time of an event is, if events are put in order by it.
    time: Option<JsonPointer>,
    hasher: RandomState,
}

impl PlaceReader {
    /// For this order.
    pub fn new(ordering: &Ordering) -> PlaceReader {
        PlaceReader {
            key: JsonPointer::parse(&ordering.key),
            time: JsonPointer::parse(OCCURRED_AT).filter(|_| !ordering.reorder_window.is_zero()),
            hasher: RandomState::new(),
        }
    }

    /// The event's place; `None` for one that is not ordered: unverified, not JSON, or without the
    /// key (a text, a number or a truth value).
    pub fn place(&self, event: &Event) -> Option<Place> {
        if !event.is_verified() {
            return None;
        }
        let key = self.hasher.hash_one(self.key.as_ref()?.scalar(&event.body)?);
        let rank_us = match &self.time {
            None => 0,
            Some(time) => {
                let occurred_us = time.scalar(&event.body).and_then(|text| rfc3339_us(&text));
                occurred_us.unwrap_or(event.received_unix_ms.saturating_mul(1000))
            }
        };
        Some(Place { key, rank_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::event::tests::event;

    fn reader(reorder_window: Duration) -> PlaceReader {
        let key = "/data/payload/id".to_owned();
        PlaceReader::new(&Ordering { key, max_block: Duration::from_secs(30), reorder_window })
    }

    #[test]
    fn the_key_is_what_the_pointer_names_and_events_without_it_have_no_place() {
        let reader = reader(Duration::ZERO);
        let place = |body: &str| reader.place(&event("e", body.as_bytes()));
        let of = |id: &str| place(&format!(r#"{{"data":{{"payload":{{"id":{id}}}}}}}"#));
        assert_eq!(of("\"a\"").unwrap(), of("\"a\"").unwrap());
        assert_ne!(of("\"a\"").unwrap().key, of("\"b\"").unwrap().key);
        assert_ne!(of("1").unwrap().key, of("\"2\"").unwrap().key);
        for none in ["null", "[]", "{}"] {
            assert_eq!(of(none), None, "{none}");
        }
        for none in ["", "text", "[]", "{}", r#"{"data":1}"#, r#"{"data":{"payload":{}}}"#, &"[".repeat(100_000)] {
            assert_eq!(place(none), None);
        }
    }

    #[test]
    fn an_unverified_event_has_no_place() {
        let mut event = event("e", br#"{"data":{"payload":{"id":"a"}}}"#);
        assert!(reader(Duration::ZERO).place(&event).is_some());
        event.head.key = None;
        assert_eq!(reader(Duration::ZERO).place(&event), None);
    }

    #[test]
    fn with_a_window_the_rank_is_when_it_happened_else_when_it_came() {
        let body = br#"{"data":{"occurred_at":"1970-01-01T00:00:01.5+00:00","payload":{"id":"a"}}}"#;
        assert_eq!(reader(Duration::ZERO).place(&event("e", body)).unwrap().rank_us, 0);
        let by_time = reader(Duration::from_secs(1));
        assert_eq!(by_time.place(&event("e", body)).unwrap().rank_us, 1_500_000);
        let unknown = event("e", br#"{"data":{"occurred_at":"soon","payload":{"id":"a"}}}"#);
        assert_eq!(by_time.place(&unknown).unwrap().rank_us, unknown.received_unix_ms * 1000);
    }
}
