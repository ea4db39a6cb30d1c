//! One value of a JSON text, named by a JSON pointer (RFC 6901). Pure; nothing else of the text is kept.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The names of members from the outside in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Vec<String>);

impl JsonPointer {
    /// Reads a pointer to something within an object: `/data/payload/id`.
    pub fn parse(text: &str) -> Option<JsonPointer> {
        let names = text.strip_prefix('/').filter(|names| !names.is_empty())?;
        let is_escaped = names.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        let plain = |name: &str| name.replace("~1", "/").replace("~0", "~");
        is_escaped.then(|| JsonPointer(names.split('/').map(plain).collect()))
    }

    /// The text, number or truth value that stands there, a number as it is written; of members with one name the
    /// last counts.
    pub fn scalar(&self, json: &[u8]) -> Option<String> {
        let written = self.written(json)?;
        if written.starts_with('"') { serde_json::from_str(written).ok() } else { Some(written.to_owned()) }
    }

    /// The same as it is written, so that different values are never equal: a text has its quotation marks, and a
    /// number all its digits.
    pub fn written<'j>(&self, json: &'j [u8]) -> Option<&'j str> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let value = At(&self.0).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        value.filter(|written| !written.starts_with(['{', '[', 'n']))
    }
}

/// The value at the rest of a pointer, as it is written.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de str>;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(json).map(|value| Some(value.get()));
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (mut index, mut value) = (0_usize, None);
        let wanted = self.0.split_first().and_then(|(name, rest)| Some((name.parse::<usize>().ok()?, rest)));
        loop {
            let more = match wanted {
                Some((at, rest)) if at == index => items.next_element_seed(At(rest))?.map(|found| value = found),
                _ => items.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                return Ok(value);
            }
            index += 1;
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.split_first();
        let mut value = None;
        while let Some(is_wanted) = members.next_key_seed(IsNamed(wanted.map(|(name, _)| name.as_str())))? {
            match wanted.filter(|_| is_wanted) {
                Some((_, rest)) => value = members.next_value_seed(At(rest))?,
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(value)
    }
}

/// Whether a member has this name, of which no copy is made.
struct IsNamed<'p>(Option<&'p str>);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn at(pointer: &str, json: &str) -> Option<String> {
        JsonPointer::parse(pointer).unwrap().scalar(json.as_bytes())
    }

    #[test]
    fn a_pointer_names_a_scalar_and_nothing_else() {
        let json = r#"{"data":{"id":"e1","n":7,"m":-7,"f":1.5,"t":true,"none":null,"to":[{"x":1},{"x":"b"}],"a/b":"s","a~b":"t","":"e"}}"#;
        for (pointer, value) in [
            ("/data/id", Some("e1")),
            ("/data/n", Some("7")),
            ("/data/m", Some("-7")),
            ("/data/f", Some("1.5")),
            ("/data/t", Some("true")),
            ("/data/to/1/x", Some("b")),
            ("/data/a~1b", Some("s")),
            ("/data/a~0b", Some("t")),
            ("/data/", Some("e")),
            ("/data/none", None),
            ("/data", None),
            ("/data/to", None),
            ("/data/to/2/x", None),
            ("/data/id/more", None),
            ("/id", None),
        ] {
            assert_eq!(at(pointer, json).as_deref(), value, "{pointer}");
        }
        for bad in ["", "/", "data", "/a~", "/a~2"] {
            assert_eq!(JsonPointer::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_last_of_members_with_one_name_counts_and_what_is_no_json_has_none() {
        assert_eq!(at("/a", r#"{"a":1,"a":2}"#).as_deref(), Some("2"));
        assert_eq!(at("/a/b", r#"{"a":{"b":1},"a":{}}"#), None);
        assert_eq!(at("/a", r#"{"\u0061":"escaped"}"#).as_deref(), Some("escaped"));
        for bad in ["", "text", r#"{"a":1"#, r#"{"a":1} more"#, "a=b"] {
            assert_eq!(at("/a", bad), None, "{bad}");
        }
        let deep = format!(r#"{{"x":{}{},"a":1}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(at("/a", &deep).as_deref(), Some("1"), "without recursion");
    }

    #[test]
    fn different_values_are_written_differently() {
        let written = |json: &str| JsonPointer::parse("/a").unwrap().written(json.as_bytes()).map(str::to_owned);
        for (one, other) in [
            ("1234567890123456789012345", "1234567890123456789012346"),
            ("18446744073709551617", "18446744073709551618"),
            ("1700000000.12345678901", "1700000000.12345678902"),
            ("7", "\"7\""),
            ("true", "\"true\""),
        ] {
            let [one, other] = [one, other].map(|value| written(&format!("{{\"a\": {value} }}")).unwrap());
            assert_ne!(one, other);
        }
        assert_eq!(written("{\"a\":null}"), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(body in "[\\[\\]{}:,\"ab01 ]{0,40}", pointer in "(/[ab01]){1,3}") {
            if let Ok(value) = serde_json::from_str::<Value>(&body) {
                // It keeps no more digits than a number of 64 bits has.
                let found = value.pointer(&pointer);
                prop_assume!(!found.is_some_and(Value::is_f64));
                let expected = found.and_then(|found| match found {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    Value::Bool(bool) => Some(bool.to_string()),
                    _ => None,
                });
                prop_assert_eq!(at(&pointer, &body), expected);
            }
        }
    }
}
