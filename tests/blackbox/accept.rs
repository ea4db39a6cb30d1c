//! What is accepted arrives, and arrives as it was sent.

use serde_json::json;

use super::harness::event::{TARGET, body_of};
use super::harness::*;

#[test]
fn an_accepted_event_arrives_byte_for_byte() {
    let (sink, hookward) = pair();
    let id = new_id();
    let sent = body(&id);
    assert_accepted(&hookward.post(&signed(sent.clone())), &id);
    let received = sink.first();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", TARGET));
    assert_eq!(received.body, sent);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    let metrics = hookward.await_metric("hookward_ack_duration_seconds_count", &[], 1.0);
    assert_eq!(metrics.value("hookward_requests_total", &[("outcome", "accepted")]), 1.0);
    assert_eq!(metrics.value("hookward_events_total", &[("event_type", "message.received")]), 1.0);
    assert_eq!(metrics.value("hookward_signature_verifications_total", &[("key", "key1")]), 1.0);
    assert_eq!(metrics.value("hookward_end_to_end_seconds_count", &[]), 1.0);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    assert_eq!(sink.count(), 1, "once");
}

#[test]
fn every_kind_of_body_that_can_be_signed_is_accepted_and_identical() {
    let (sink, hookward) = pair();
    let bodies: [(&str, Vec<u8>); 9] = [
        ("empty", b"".to_vec()),
        ("one byte", b"x".to_vec()),
        ("not JSON", b"AccountSid=6a9a&CallStatus=ringing".to_vec()),
        ("invalid UTF-8", b"{\"text\":\"\xff\xfe\x80\"}".to_vec()),
        ("NUL", b"a\0b\0\0".to_vec()),
        ("byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("line ends", b"{\r\n\r\n \"a\" : 1.0 }\n\r\n".to_vec()),
        ("looks like chunks", b"5\r\nhello\r\n0\r\n\r\n".to_vec()),
        ("every byte", (0..=255).cycle().take(200_000).collect()),
    ];
    for (index, (what, body)) in bodies.iter().enumerate() {
        let answer = hookward.post(&signed(body.clone()));
        assert_accepted_nameless(&answer);
        let received = sink.wait_for(index + 1).pop().unwrap();
        assert!(received.body == *body, "{what}");
        assert!(!received.has("hookward-event-id") && !received.has("hookward-event-type"), "{what}");
        assert_eq!(received.header("hookward-verified"), "telnyx; key=key1", "{what}");
    }
}

#[test]
fn a_chunked_body_arrives_whole_and_with_its_length() {
    let (sink, hookward) = pair();
    for (index, chunk_bytes) in [1, 7, 100_000].into_iter().enumerate() {
        let id = new_id();
        let request = signed(body(&id)).chunked(chunk_bytes);
        assert_accepted(&hookward.post(&request), &id);
        let received = sink.wait_for(index + 1).pop().unwrap();
        assert_eq!(received.body, body(&id));
        assert_eq!(received.header("content-length"), received.body.len().to_string());
    }
}

#[test]
fn chunk_extensions_and_trailers_are_framing_and_stay_behind() {
    let (sink, hookward) = pair();
    let request = signed("hello world").chunked(5);
    let framed = b"5;name=value\r\nhello\r\n6;x\r\n world\r\n0\r\nX-Trailer: 1\r\nTelnyx-Timestamp: 1\r\n\r\n";
    let mut wire = hookward.connect();
    wire.send([request.head(), framed.to_vec()].concat());
    assert_accepted_nameless(&wire.answer());
    let received = sink.first();
    assert_eq!(received.body, b"hello world");
    assert!(!received.has("x-trailer"));
    assert_ne!(received.header("telnyx-timestamp"), "1");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let (sink, hookward) = pair();
    let id = new_id();
    let mut wire = hookward.connect();
    for byte in signed(body(&id)).bytes() {
        wire.send([byte]);
    }
    assert_accepted(&wire.answer(), &id);
    assert_eq!(sink.first().body, body(&id));
}

#[test]
fn the_query_is_kept_and_not_interpreted() {
    let (sink, hookward) = pair();
    for (index, target) in ["/w?a=1&b=%20&a=2", "/w?", "/w?x=a/../b", "/w%2fx?%zz", "/"].into_iter().enumerate() {
        let answer = hookward.post(&event().target(target));
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(sink.wait_for(index + 1).pop().unwrap().target, target);
    }
}

#[test]
fn either_of_two_keys_may_sign_and_the_app_is_told_which() {
    let next = ed25519_dalek::SigningKey::from_bytes(&[8; 32]);
    let sink = Sink::start();
    let setup = Setup::new(&sink).another("--public-key", &event::public_key_of(&next));
    let hookward = setup.start();
    for (key, name) in [(event::telnyx_key(), "key1"), (next, "key2")] {
        let id = new_id();
        assert_accepted(&hookward.post(&event::signed_by(&key, now_s(), body(&id))), &id);
        let received = sink.wait_until(|all| all.iter().any(|r| r.event_id() == id)).pop().unwrap();
        assert_eq!(received.header("hookward-verified"), format!("telnyx; key={name}"));
        hookward.await_metric("hookward_signature_verifications_total", &[("key", name)], 1.0);
    }
}

#[test]
fn keys_come_from_the_environment_too() {
    let sink = Sink::start();
    let other = event::public_key_of(&ed25519_dalek::SigningKey::from_bytes(&[9; 32]));
    let keys = format!("{other}, {}\n", event::public_key());
    let hookward = Setup::new(&sink).without_flag("--public-key").env("TELNYX_PUBLIC_KEY", &keys).start();
    assert_eq!(hookward.post(&event()).status, 200);
    assert_eq!(sink.first().header("hookward-verified"), "telnyx; key=key2");
}

#[test]
fn a_timestamp_within_the_tolerance_passes_either_way() {
    let (sink, hookward) = pair();
    // Some seconds off the boundary: the clock goes on while the request is under way.
    for (index, offset_s) in [-290, -1, 0, 1, 290].into_iter().enumerate() {
        let id = new_id();
        assert_accepted(&hookward.post(&signed_at(now_s() + offset_s, body(&id))), &id);
        sink.wait_for(index + 1);
    }
}

#[test]
fn the_last_of_duplicate_members_names_the_event() {
    let (sink, hookward) = pair();
    let (first, last) = (new_id(), new_id());
    let sent = format!(
        r#"{{"data":{{"id":"none"}},"data":{{"id":"{first}","event_type":"a.b","id":"{last}","event_type":"message.sent"}}}}"#
    );
    assert_accepted(&hookward.post(&signed(sent)), &last);
    let received = sink.first();
    assert_eq!((received.event_id(), received.header("hookward-event-type")), (last, "message.sent".to_owned()));
}

#[test]
fn an_id_is_only_what_stands_as_text_in_the_object_data() {
    let (sink, hookward) = pair();
    let bodies = [
        json!({ "id": "top" }),
        json!({ "data": [{ "id": "in a list" }] }),
        json!({ "data": "text" }),
        json!({ "data": { "id": 7 } }),
        json!({ "data": { "id": "" } }),
        json!({ "data": { "id": null } }),
        json!({ "data": { "payload": { "id": "deeper" } } }),
        json!({ "data": { "id": "x".repeat(256) } }),
        json!([{ "data": { "id": "x" } }]),
    ];
    for (index, body) in bodies.iter().enumerate() {
        assert_accepted_nameless(&hookward.post(&signed(body.to_string())));
        assert!(!sink.wait_for(index + 1).pop().unwrap().has("hookward-event-id"), "{body}");
    }
}

#[test]
fn a_deeply_nested_body_is_a_body_like_any_other() {
    let (sink, hookward) = pair();
    for sent in
        ["[".repeat(100_000), r#"{"data":"#.repeat(50_000), format!("{}1{}", "[".repeat(9000), "]".repeat(9000))]
    {
        let before = sink.count();
        assert_accepted_nameless(&hookward.post(&signed(sent.clone())));
        assert!(sink.wait_for(before + 1).pop().unwrap().body == sent.as_bytes());
    }
}

#[test]
fn an_id_that_no_header_could_carry_is_known_but_not_shown() {
    let (sink, hookward) = pair();
    for (index, id) in
        ["x".repeat(129), "ü".to_owned(), "a b".to_owned(), "a\r\nX-Evil: 1".to_owned()].iter().enumerate()
    {
        let sent = json!({ "data": { "id": id, "event_type": id } }).to_string();
        assert_eq!(hookward.post(&signed(sent.clone())).json()["status"], "accepted", "{id:?}");
        assert_eq!(hookward.post(&signed(sent)).json()["status"], "duplicate", "{id:?}");
        let received = sink.wait_for(index + 1).pop().unwrap();
        assert!(!received.has("hookward-event-id") && !received.has("hookward-event-type"), "{}", received.head());
        assert!(!received.has("x-evil"));
    }
    let longest = "x".repeat(128);
    let sent = json!({ "data": { "id": longest, "event_type": longest } }).to_string();
    assert_accepted(&hookward.post(&signed(sent)), &longest);
    assert_eq!(sink.wait_for(5).pop().unwrap().header("hookward-event-type"), longest);
}

#[test]
fn event_types_are_counted_by_name_only_where_they_are_known() {
    let (sink, hookward) = pair();
    for event_type in ["message.sent", "message.finalized", "of.my.own", "of.my.own.2"] {
        let id = new_id();
        assert_accepted(&hookward.post(&signed(body_of(&id, event_type))), &id);
    }
    let received = sink.wait_for(4);
    assert!(received.iter().any(|r| r.header("hookward-event-type") == "of.my.own"));
    let metrics = hookward.await_metric("hookward_requests_total", &[("outcome", "accepted")], 4.0);
    for (label, count) in [("message.sent", 1.0), ("message.finalized", 1.0), ("other", 2.0)] {
        assert_eq!(metrics.value("hookward_events_total", &[("event_type", label)]), count, "{metrics}");
    }
    assert_eq!(metrics.get("hookward_events_total", &[("event_type", "of.my.own")]), None);
}
