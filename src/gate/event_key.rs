//! A key of events that the configuration names (`dedupe.key`), for those without `data.id`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};
use crate::json_pointer::JsonPointer;

/// Parts that a key may have.
pub const PARTS_MAX: usize = 4;
/// Longest key, the values of its parts together.
pub const KEY_MAX_BYTES: usize = 1024;

/// The parts that tell an event from others, together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventKey(pub Vec<KeyPart>);

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// As it is configured.
    text: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Json(JsonPointer),
    FormField(String),
    Header(HeaderName),
}

/// Why an event has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoKey {
    /// Part of it is not there, or is empty.
    Missing,
    /// It is longer than [`KEY_MAX_BYTES`].
    TooLong,
}

impl NoKey {
    /// All of them.
    pub const ALL: [NoKey; 2] = [NoKey::Missing, NoKey::TooLong];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            NoKey::Missing => "missing",
            NoKey::TooLong => "too_long",
        }
    }
}

impl KeyPart {
    /// `/data/payload/id` (JSON pointer), `form:CallSid`, `header:x-event-id`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<KeyPart, String> {
        let place = if let Some(field) = text.strip_prefix("form:").filter(|field| !field.is_empty()) {
            Place::FormField(field.to_owned())
        } else if let Some(name) = text.strip_prefix("header:").and_then(|name| name.parse().ok()) {
            if [SIGNATURE_HEADER, TIMESTAMP_HEADER].contains(&HeaderName::as_str(&name)) {
                return Err(format!("`{text}` is another one in each repeat, so no repeat would be found"));
            }
            Place::Header(name)
        } else {
            let pointer = JsonPointer::parse(text);
            Place::Json(
                pointer.ok_or_else(|| format!("`{text}` is neither a JSON pointer, nor a form field, nor a header"))?,
            )
        };
        Ok(KeyPart { text: text.to_owned(), place })
    }

    /// Whether it is outside of what is signed.
    pub fn is_unsigned(&self) -> bool {
        matches!(self.place, Place::Header(_))
    }

    fn value(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        let value = match &self.place {
            Place::Json(pointer) => pointer.written(body).filter(|written| *written != "\"\"").map(str::to_owned),
            Place::FormField(name) if is_form(body) => {
                let mut fields = form_urlencoded::parse(body);
                let value = fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned());
                // Bytes that are no UTF-8 are all decoded to the same character, and would make different values equal.
                value.filter(|value| !value.contains(char::REPLACEMENT_CHARACTER))
            }
            Place::FormField(_) => None,
            Place::Header(name) => headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned())),
        };
        value.filter(|value| !value.is_empty())
    }
}

/// Whether a body may be a form. JSON is none, whatever stands in its texts: else whoever sends a message
/// could choose the key of its event.
fn is_form(body: &[u8]) -> bool {
    let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii_start();
    !matches!(text.first(), None | Some(b'{' | b'[' | b'"'))
}

impl EventKey {
    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of an event, which no key of other parts and no `data.id` equals.
    ///
    /// # Errors
    /// Why it has none.
    pub fn of(&self, headers: &HeaderMap, body: &Bytes) -> Result<String, NoKey> {
        let (mut key, mut left) = (String::new(), KEY_MAX_BYTES);
        for part in &self.0 {
            let value = part.value(headers, body).ok_or(NoKey::Missing)?;
            left = left.checked_sub(value.len()).ok_or(NoKey::TooLong)?;
            key.push_str(&format!("\0{}\0{}\0{value}", part.text, value.len()));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str]) -> EventKey {
        EventKey(parts.iter().map(|text| KeyPart::parse(text).unwrap()).collect())
    }

    fn of(parts: &[&str], body: &str) -> Result<String, NoKey> {
        let mut headers = HeaderMap::new();
        headers.insert("x-event-id", "h1".parse().unwrap());
        headers.insert("x-empty", "".parse().unwrap());
        key(parts).of(&headers, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_key_is_read_from_json_forms_and_headers() {
        let form = "CallSid=v3%3Aab&CallStatus=ringing&Empty=";
        assert_eq!(of(&["form:CallSid"], form).unwrap(), "\x00form:CallSid\x005\x00v3:ab");
        assert!(of(&["form:CallSid", "form:CallStatus", "header:X-Event-Id"], form).is_ok());
        assert!(of(&["/id"], r#"{"id":7}"#).is_ok());
        for (parts, body) in [
            (&["form:CallSid", "form:Missing"][..], form),
            (&["form:Empty"], form),
            (&["header:x-empty"], form),
            (&["header:x-missing"], form),
            (&["/id"], form),
            (&["form:a"], ""),
            (&["form:a"], "a=%FE"),
            (&["form:CallSid"], "\u{feff}{\"t\":\"&CallSid=zz&\"}"),
            (&["form:CallSid"], "\"&CallSid=zz&\""),
            (&["/id"], "{\"id\":\"\"}"),
            (&["form:CallSid"], r#"{"data":{"text":"x=&CallSid=chosen"}}"#),
        ] {
            assert_eq!(of(parts, body), Err(NoKey::Missing), "{parts:?} {body}");
        }
    }

    #[test]
    fn keys_of_other_parts_or_values_differ() {
        let keys = [
            of(&["form:a"], "a=1&b=2"),
            of(&["form:b"], "b=1"),
            of(&["form:a", "form:b"], "a=1&b=2"),
            of(&["form:a", "form:b"], "a=12&b="),
            of(&["form:a", "form:b"], "a=1%00form:b%001%002&b=2"),
            of(&["form:a"], "a=2"),
        ];
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:?}");
    }

    #[test]
    fn a_key_is_bounded() {
        let form = |bytes: usize| format!("a={}&b=1", "x".repeat(bytes));
        assert!(of(&["form:a"], &form(KEY_MAX_BYTES)).is_ok());
        assert_eq!(of(&["form:a"], &form(KEY_MAX_BYTES + 1)), Err(NoKey::TooLong));
        assert_eq!(of(&["form:a", "form:b"], &form(KEY_MAX_BYTES)), Err(NoKey::TooLong), "together");
    }

    #[test]
    fn what_is_no_place_says_what_would_be_one() {
        for bad in ["", "CallSid", "form:", "header:", "header:a b", "/", "data/id"] {
            assert!(KeyPart::parse(bad).unwrap_err().contains("neither a JSON pointer"), "{bad}");
        }
        for bad in ["header:Telnyx-Timestamp", "header:telnyx-signature-ed25519"] {
            assert!(KeyPart::parse(bad).unwrap_err().contains("in each repeat"), "{bad}");
        }
    }
}
