//! The visitors that read ids out of a body agree with serde_json's values.
#![no_main]

use hookward_fuzz::gate::identity::Facts;
use hookward_fuzz::json_pointer::JsonPointer;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Longest `data.id` that is an id.
const EVENT_ID_MAX_BYTES: usize = 255;

fuzz_target!(|body: &[u8]| {
    let facts = Facts::read(body);
    // Values take less than the visitor, which skips what it does not look for: deep nesting,
    // numbers beyond a double, halves of surrogate pairs.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let is_id = |id: &String| (1..=EVENT_ID_MAX_BYTES).contains(&id.len());
    let expected = Facts {
        event_id: text(&value["data"]["id"]).filter(is_id),
        event_type: text(&value["data"]["event_type"]),
        provider_attempt: value["meta"]["attempt"].as_u64(),
    };
    assert_eq!(facts, expected);
    let pointed = JsonPointer::parse("/data/id").unwrap().scalar(body);
    match &value["data"]["id"] {
        // Texts of numbers are written in more ways than one.
        Value::Number(_) => assert!(pointed.is_some()),
        Value::Bool(bool) => assert_eq!(pointed, Some(bool.to_string())),
        id => assert_eq!(pointed, text(id)),
    }
});
