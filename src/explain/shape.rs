//! The look of what Telnyx signs.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// Fields of a form, from which on it is one: one name and value are found in any text.
const FORM_FIELDS_MIN: usize = 2;

/// Whether a body is JSON with an object `data`, or a form (TeXML).
pub(super) fn is_webhook(body: &[u8]) -> bool {
    is_event(body) || is_form(body)
}

fn is_event(body: &[u8]) -> bool {
    let members: Result<HashMap<String, &RawValue>, _> = serde_json::from_slice(body);
    members.is_ok_and(|members| members.get("data").is_some_and(|data| data.get().starts_with('{')))
}

fn is_form(body: &[u8]) -> bool {
    let body = body.trim_ascii_end();
    let is_field = |field: &[u8]| memchr::memchr(b'=', field).is_some_and(|at| at > 0);
    let fields = || body.split(|byte| *byte == b'&');
    body.iter().all(u8::is_ascii_graphic) && fields().count() >= FORM_FIELDS_MIN && fields().all(is_field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_and_a_form_look_like_webhooks_and_other_texts_do_not() {
        for body in [r#"{"data":{"id":"e1"},"meta":{}}"#, "{\r\n \"data\" : {}}\n", "CallSid=v3%3Aab&From=%2B1312&To="]
        {
            assert!(is_webhook(body.as_bytes()), "{body}");
        }
        for body in [
            "",
            "{}",
            "[]",
            r#"{"data":[]}"#,
            r#"{"data":{"#,
            "a=b",
            "a=b & c=d",
            "=&=",
            "YWJjZA==",
            "\"{}\"",
            "<a b=\"c\"/>",
        ] {
            assert!(!is_webhook(body.as_bytes()), "{body}");
        }
    }
}
