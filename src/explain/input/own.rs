//! What `hookward events` prints: `export` and `show --json` hold whole requests, the others none.

use super::Request;
use super::base64_text::declared;
use super::json::Object;

const LIST: &str = "a list has no bodies: take `hookward events export`, or `hookward events show SEQ --json`";
const SHOWN: &str = "its text is not the body byte for byte: take `hookward events show SEQ --json`";
const NOT_KEPT: &str = "the body of this event is not kept any more (delivery.delivered.keep, or it was discarded)";
const NOT_INTACT: &str = "the checksum of this event fails: its bytes are not what was received";

/// Events of `export`, `show --json` or `list --json`.
pub(super) fn requests(object: &Object<'_>) -> Option<Vec<Request>> {
    if object.member("events").is_some() && object.list("events")?.iter().all(|event| is_event(event)) {
        return Some(vec![Request::without_body(LIST)]);
    }
    if !is_event(object) {
        return None;
    }
    Some(vec![Request {
        headers: object.headers("headers").unwrap_or_default(),
        body: object.text("body").and_then(|text| declared(&text)).ok_or(NOT_KEPT),
        received_unix_ms: object.time_ms("received_at"),
        remark: (object.member("intact") == Some("false")).then_some(NOT_INTACT),
    }])
}

fn is_event(object: &Object<'_>) -> bool {
    ["seq", "delivery_id", "route"].iter().all(|name| object.member(name).is_some())
}

/// What `list` and `show` print for people.
pub(super) fn text(text: &str) -> Option<Request> {
    let mut words = text.split_ascii_whitespace();
    let what_to_do = match (words.next()?, words.next()?) {
        ("SEQ", "STATE") => LIST,
        ("seq", number) if number.parse::<u64>().is_ok() && words.next() == Some("state") => SHOWN,
        _ => return None,
    };
    Some(Request::without_body(what_to_do))
}
