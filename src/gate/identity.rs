//! Which event this is: the key under which a repeat is recognised.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Reports;
use super::event_key::{EventKey, NoKey};
use super::timestamp::Fresh;

/// Longest `data.id` that is an id, bytes. Telnyx sends 36.
const EVENT_ID_MAX_BYTES: usize = 255;
/// Longest id or type that is put into a header.
const HEADER_VALUE_MAX_CHARS: usize = 128;

/// How a route names its events.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Duplicates are looked up within it; `None` where `dedupe` is off.
    pub dedupe: Option<DedupeScope>,
}

/// Where duplicates are looked up.
#[derive(Debug, Clone)]
pub struct DedupeScope {
    /// Routes of one scope share their ids: a failover URL is another route, not another event.
    pub scope: Arc<str>,
    /// How long an id is remembered, running time.
    pub window: Duration,
    /// What an event is known by before its `data.id`; empty unless configured.
    pub key: Arc<EventKey>,
}

/// The key of an event among duplicates.
#[derive(Debug, Clone)]
pub struct DedupeKey {
    /// Where it is looked up.
    pub scope: DedupeScope,
    /// The configured key, else `data.id`.
    pub id: String,
}

/// A verified body that has a duplicate key, or is known to have none: ready to be stored.
#[derive(Debug)]
pub struct Identified {
    /// The body as received.
    pub(crate) body: Bytes,
    /// The name of the key that signed it; `None` where a check was only reported.
    pub(crate) key: Option<Arc<str>>,
    /// Now minus the signed timestamp, seconds.
    pub(crate) skew_s: Option<i64>,
    /// What the body says of itself.
    pub(crate) facts: Facts,
    /// The key among duplicates, of verified events only.
    pub(crate) dedupe: Option<DedupeKey>,
    /// Why a verified event has none where duplicates are looked for.
    pub(crate) no_key: Option<NoKey>,
}

impl Identity {
    /// Reads the event's id from a fresh body, and its configured key from header and body. Never refuses: what is not JSON, or has no id, is an
    /// event without one. Whoever has a note in the reports has no duplicate key: an unverified
    /// event must not make a genuine one look like a repeat.
    pub fn name(&self, fresh: Fresh, headers: &HeaderMap, reports: &Reports) -> Identified {
        let (body, key, skew_s) = fresh.into_parts();
        let facts = Facts::read(&body);
        let verified = reports.is_empty();
        let scope = self.dedupe.as_ref().filter(|_| verified);
        let id = scope.map(|scope| scope.id(headers, &body, &facts));
        let no_key = id.as_ref().and_then(|id| id.as_ref().err()).copied();
        let dedupe = scope.zip(id.and_then(Result::ok)).map(|(scope, id)| DedupeKey { scope: scope.clone(), id });
        Identified { body, key: key.filter(|_| verified), skew_s, facts, dedupe, no_key }
    }
}

impl DedupeScope {
    fn id(&self, headers: &HeaderMap, body: &Bytes, facts: &Facts) -> Result<String, NoKey> {
        let configured = if self.key.is_empty() { Err(NoKey::Missing) } else { self.key.of(headers, body) };
        // A configured key begins with NUL, and no `data.id` may look like one.
        let event_id = || facts.event_id.clone().filter(|id| !id.starts_with('\0'));
        configured.or_else(|no_key| event_id().ok_or(no_key))
    }
}

/// What hookward reads of a body: nothing else is looked at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `data.id`: a non-empty string of at most 255 bytes.
    pub event_id: Option<String>,
    /// `data.event_type`, an open set.
    pub event_type: Option<String>,
    /// `meta.attempt`, the sender's own count.
    pub provider_attempt: Option<u64>,
}

impl Facts {
    /// Reads a body. Duplicate members: the last wins, as in the parsers of Telnyx's SDKs.
    /// What is not looked for is skipped without recursion; size is bounded by the route's `max_body`.
    pub fn read(body: &[u8]) -> Facts {
        let mut facts = Facts::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        let root = Object { level: Level::Root, facts: &mut facts };
        if root.deserialize(&mut json).is_err() || json.end().is_err() {
            return Facts::default();
        }
        facts.event_id = facts.event_id.filter(|id| !id.is_empty() && id.len() <= EVENT_ID_MAX_BYTES);
        facts
    }
}

/// An id or type as it may stand in a header: 1–128 visible ASCII characters.
pub fn as_header_value(text: &str) -> Option<&str> {
    let visible = text.bytes().all(|b| b.is_ascii_graphic());
    (visible && (1..=HEADER_VALUE_MAX_CHARS).contains(&text.len())).then_some(text)
}

/// Implements what visitors of any JSON share: what is not looked for is skipped.
macro_rules! skip_what_is_not_looked_for {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON")
        }
        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Default::default())
        }
    };
}

/// Which object of the body is being read.
#[derive(Clone, Copy)]
enum Level {
    Root,
    Data,
    Meta,
}

/// A member of such an object.
enum Member {
    Data,
    Meta,
    EventId,
    EventType,
    Attempt,
    Other,
}

/// Tells a member by its name, of which no copy is made: there are many, and few are looked for.
struct Name(Level);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Member;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Member, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Member;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Member, E> {
        Ok(match (self.0, name) {
            (Level::Root, "data") => Member::Data,
            (Level::Root, "meta") => Member::Meta,
            (Level::Data, "id") => Member::EventId,
            (Level::Data, "event_type") => Member::EventType,
            (Level::Meta, "attempt") => Member::Attempt,
            _ => Member::Other,
        })
    }
}

/// Reads the members of an object that are looked for into the facts.
struct Object<'f> {
    level: Level,
    facts: &'f mut Facts,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();
    skip_what_is_not_looked_for!();
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { level, facts } = self;
        while let Some(member) = map.next_key_seed(Name(level))? {
            match member {
                Member::Data => {
                    // A later `data` replaces an earlier one, whatever it is.
                    (facts.event_id, facts.event_type) = (None, None);
                    map.next_value_seed(Object { level: Level::Data, facts })?;
                }
                Member::Meta => {
                    facts.provider_attempt = None;
                    map.next_value_seed(Object { level: Level::Meta, facts })?;
                }
                Member::EventId => facts.event_id = map.next_value_seed(Scalar)?.text,
                Member::EventType => facts.event_type = map.next_value_seed(Scalar)?.text,
                Member::Attempt => facts.provider_attempt = map.next_value_seed(Scalar)?.number,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Any JSON value; a string or a whole number is kept.
#[derive(Default)]
struct ScalarValue {
    text: Option<String>,
    number: Option<u64>,
}

struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = ScalarValue;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<ScalarValue, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar {
    type Value = ScalarValue;
    skip_what_is_not_looked_for!();
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<ScalarValue, E> {
        Ok(ScalarValue { text: None, number: Some(number) })
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<ScalarValue, E> {
        Ok(ScalarValue { text: Some(text.to_owned()), number: None })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ScalarValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ScalarValue::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(body: &str) -> Option<String> {
        Facts::read(body.as_bytes()).event_id
    }

    #[test]
    fn the_id_is_data_id_and_nothing_else() {
        assert_eq!(id(r#"{"data":{"id":"e1","payload":{"id":"p1"}},"id":"top"}"#).as_deref(), Some("e1"));
        for none in [
            "",
            "not json",
            "[]",
            "null",
            "1",
            "\"text\"",
            r#"{"id":"top"}"#,
            r#"{"data":null}"#,
            r#"{"data":"e1"}"#,
            r#"{"data":[{"id":"e1"}]}"#,
            r#"{"data":{"id":7}}"#,
            r#"{"data":{"id":""}}"#,
            r#"{"data":{"id":null}}"#,
            r#"{"data":{"id":["e1"]}}"#,
            r#"{"data":{"id":{"id":"e1"}}}"#,
            r#"{"data":{"id":"e1"}} trailing"#,
            r#"{"data":{"id":"e1"}"#,
        ] {
            assert_eq!(id(none), None, "{none}");
        }
        assert_eq!(Facts::read(b"{\"data\":{\"id\":\"\xff\"}}"), Facts::default());
    }

    #[test]
    fn the_last_of_duplicate_members_wins() {
        assert_eq!(id(r#"{"data":{"id":"a","id":"b"}}"#).as_deref(), Some("b"));
        assert_eq!(id(r#"{"data":{"id":"a","id":7}}"#), None);
        assert_eq!(id(r#"{"data":{"id":"a"},"data":{"id":"b"}}"#).as_deref(), Some("b"));
        assert_eq!(id(r#"{"data":{"id":"a"},"data":{}}"#), None);
        assert_eq!(id(r#"{"data":{"id":"a"},"data":3}"#), None);
        assert_eq!(id(r#"{"data":{"\u0069d":"escaped"}}"#).as_deref(), Some("escaped"));
    }

    #[test]
    fn an_id_has_at_most_255_bytes() {
        let body = |n: usize| format!(r#"{{"data":{{"id":"{}"}}}}"#, "x".repeat(n));
        assert_eq!(id(&body(255)).map(|id| id.len()), Some(255));
        assert_eq!(id(&body(256)), None);
    }

    #[test]
    fn type_and_attempt_are_read_too() {
        let facts = Facts::read(br#"{"data":{"event_type":"message.sent","id":"a"},"meta":{"attempt":2}}"#);
        assert_eq!(facts.event_type.as_deref(), Some("message.sent"));
        assert_eq!(facts.provider_attempt, Some(2));
    }

    #[test]
    fn deep_nesting_is_skipped_without_recursion() {
        let deep = format!(r#"{{"data":{{"id":"a","x":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(id(&deep).as_deref(), Some("a"));
    }

    #[test]
    fn only_visible_ascii_may_stand_in_a_header() {
        assert_eq!(as_header_value("message.sent"), Some("message.sent"));
        for bad in ["", "a b", "a\r\nb", "é", &"x".repeat(129)] {
            assert_eq!(as_header_value(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_body_can_make_it_fail(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Facts::read(&body);
        }
    }
}
