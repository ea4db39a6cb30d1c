//! Repeats of an event: answered 200, delivered once.

use serde_json::json;

use super::harness::*;

#[test]
fn a_repeat_is_answered_duplicate_and_not_delivered_again() {
    let (sink, hookward) = pair();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    // Telnyx signs anew and counts its attempt in the body.
    for attempt in 2..5 {
        let text = String::from_utf8(body(&id)).unwrap();
        let again = text.replace("\"attempt\": 1", &format!("\"attempt\": {attempt}"));
        assert_ne!(again, text);
        assert_duplicate(&hookward.post(&signed_at(now_s() - attempt, again)), &id);
    }
    let first = sink.first();
    assert_nothing_but(&hookward, &sink, &id);
    assert_eq!(first.body, body(&id));
    hookward.await_metric("hookward_requests_total", &[("outcome", "accepted")], 2.0);
    let metrics = hookward.await_metric("hookward_requests_total", &[("outcome", "duplicate")], 3.0);
    for (attempt, count) in [("1", 2.0), ("2", 1.0), ("3+", 2.0)] {
        assert_eq!(metrics.value("hookward_provider_attempts_total", &[("attempt", attempt)]), count, "{metrics}");
    }
    assert_eq!(metrics.value("hookward_dedupe_entries", &[]), 2.0);
}

/// Only this event and a sentinel have come, each once.
fn assert_nothing_but(hookward: &Hookward, sink: &Sink, id: &str) {
    let sentinel = post_sentinel(hookward, sink);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    let mut ids: Vec<_> = sink.received().iter().map(Received::event_id).collect();
    ids.sort();
    let mut expected = vec![id.to_owned(), sentinel];
    expected.sort();
    assert_eq!(ids, expected);
}

#[test]
fn of_twenty_at_once_exactly_one_is_accepted_and_delivered() {
    let (sink, hookward) = pair();
    let id = new_id();
    let request = signed(body(&id)).bytes();
    let barrier = std::sync::Barrier::new(20);
    let statuses: Vec<String> = std::thread::scope(|scope| {
        let post = || {
            let mut wire = hookward.connect();
            barrier.wait();
            wire.send(&request);
            let answer = wire.answer();
            assert_eq!((answer.status, answer.json()["event_id"].as_str()), (200, Some(id.as_str())), "{answer:?}");
            answer.json()["status"].as_str().unwrap().to_owned()
        };
        let posts: Vec<_> = (0..20).map(|_| scope.spawn(post)).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| *status == "accepted").count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| *status == "duplicate").count(), 19, "{statuses:?}");
    assert_nothing_but(&hookward, &sink, &id);
}

#[test]
fn an_id_is_remembered_across_a_restart() {
    let (sink, mut hookward) = pair();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    sink.first();
    hookward.restart();
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    hookward.restart();
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    assert_nothing_but(&hookward, &sink, &id);
}

#[test]
fn an_id_is_remembered_across_kill_9() {
    let mut sink = Sink::start();
    sink.stop();
    let mut hookward = Setup::new(&sink).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    hookward.kill9();
    hookward.start_again();
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    sink.start_again();
    sink.wait_for(1);
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    assert_nothing_but(&hookward, &sink, &id);
}

#[test]
fn the_same_body_without_an_id_is_an_event_each_time() {
    let (sink, hookward) = pair();
    let request = signed("AccountSid=1&CallStatus=ringing");
    for _ in 0..3 {
        assert_accepted_nameless(&hookward.post(&request));
    }
    let received = sink.wait_for(3);
    let ids: std::collections::HashSet<_> = received.iter().map(Received::delivery_id).collect();
    assert_eq!(ids.len(), 3, "each has a delivery id of its own");
}

#[test]
fn ids_are_compared_whole_and_as_text() {
    let (sink, hookward) = pair();
    let long = "x".repeat(254);
    let ids = ["a", "A", "a ", "ä", "a\u{308}", &format!("{long}1"), &format!("{long}2")];
    for id in ids {
        let answer = hookward.post(&signed(json!({ "data": { "id": id } }).to_string()));
        assert_eq!(answer.json()["status"], "accepted", "{id:?}");
    }
    // The same text, written with an escape.
    let escaped = r#"{"data":{"id":"\u0061"}}"#;
    assert_duplicate(&hookward.post(&signed(escaped)), "a");
    assert_eq!(sink.wait_for(ids.len()).len(), ids.len());
}

#[test]
fn a_forged_or_stale_request_does_not_take_an_id() {
    let (sink, hookward) = pair();
    let id = new_id();
    let forger = ed25519_dalek::SigningKey::from_bytes(&event::FORGER);
    assert_refused(&hookward.post(&event::signed_by(&forger, now_s(), body(&id))), 403, "signature_mismatch");
    assert_refused(&hookward.post(&signed_at(now_s() - 400, body(&id))), 403, "timestamp_stale");
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    assert_eq!(sink.first().event_id(), id);
}

#[test]
fn routes_share_ids_within_a_scope_only() {
    let yaml = "
routes:
  - { name: a, path: /a, dedupe: { scope: shared } }
  - { name: b, path: /b, dedupe: { scope: shared } }
  - { name: c, path: /c }
  - { name: d, path: /d, dedupe: off }
";
    let (sink, hookward) = pair_with(yaml);
    let id = new_id();
    let post = |target: &str| hookward.post(&signed(body(&id)).target(target));
    assert_accepted(&post("/a"), &id);
    assert_duplicate(&post("/b"), &id);
    assert_accepted(&post("/c"), &id);
    assert_duplicate(&post("/c"), &id);
    assert_accepted(&post("/d"), &id);
    assert_accepted(&post("/d"), &id);
    assert_eq!(sink.wait_for(4).len(), 4);
}

#[test]
fn a_duplicate_of_a_dead_event_is_a_duplicate() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let yaml = "delivery: { retry: { client_errors: 1 } }\n";
    let hookward = Setup::new(&sink).config(yaml).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
}

#[test]
fn after_the_window_an_id_is_new_again() {
    let yaml = "
routes:
  - name: hooks
    path: /*
    timestamp: { past: 1s, future: 1s }
    dedupe: { window: 2s }
";
    let (sink, hookward) = pair_with(yaml);
    let id = new_id();
    let started = std::time::Instant::now();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    poll("the id is new again", || {
        let answer = hookward.post(&signed(body(&id)));
        (answer.json()["status"] == "accepted").then_some(())
    });
    assert!(started.elapsed().as_millis() >= 2000, "{:?}", started.elapsed());
    assert_eq!(sink.wait_for(2).len(), 2);
}

const BY_CALL: &str = "
routes:
  - name: hooks
    path: /*
    dedupe: { key: [form:CallSid, form:CallStatus] }
";

/// A status callback of TeXML, which has no `data.id`.
fn form(call: &str, status: &str) -> Request {
    signed(format!("AccountSid=a&CallSid={call}&CallStatus={status}&From=%2B13125550001"))
}

fn assert_repeat(answer: &Answer) {
    let json = answer.json();
    assert_eq!(
        (answer.status, &json["status"], &json["event_id"]),
        (200, &json!("duplicate"), &json!(null)),
        "{answer:?}"
    );
}

#[test]
fn a_repeat_of_a_form_is_a_duplicate_by_the_key_that_is_configured() {
    let (sink, mut hookward) = pair_with(BY_CALL);
    assert_accepted_nameless(&hookward.post(&form("c1", "ringing")));
    assert_repeat(&hookward.post(&form("c1", "ringing")));
    assert_accepted_nameless(&hookward.post(&form("c1", "completed")));
    assert_accepted_nameless(&hookward.post(&form("c2", "ringing")));
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    assert_eq!(sink.wait_for(4).len(), 4);
    hookward.restart();
    assert_repeat(&hookward.post(&form("c1", "completed")));
}

#[test]
fn an_event_without_its_key_is_counted_and_never_a_duplicate() {
    let (sink, hookward) = pair_with(BY_CALL);
    for _ in 0..2 {
        assert_accepted_nameless(&hookward.post(&signed("CallSid=c1&From=%2B1")));
        assert_accepted_nameless(&hookward.post(&form("c1", &"x".repeat(1025))));
    }
    assert_eq!(sink.wait_for(4).len(), 4);
    for reason in ["missing", "too_long"] {
        hookward.await_metric("hookward_events_without_key_total", &[("route", "hooks"), ("reason", reason)], 2.0);
    }
    let (_sink, without_setting) = pair();
    assert_accepted_nameless(&without_setting.post(&form("c1", "ringing")));
    without_setting.await_metric("hookward_events_without_key_total", &[("reason", "missing")], 1.0);
}

#[test]
fn a_key_may_be_a_header_or_stand_in_json() {
    let yaml = "
routes:
  - name: hooks
    path: /*
    dedupe: { key: [header:x-event-id, /data/n] }
";
    let (sink, hookward) = pair_with(yaml);
    let post = |id: &'static str, n: u32| {
        hookward.post(&signed(format!("{{\"data\":{{\"n\":{n}}}}}")).header("X-Event-Id", id))
    };
    assert_accepted_nameless(&post("a", 1));
    assert_repeat(&post("a", 1));
    assert_accepted_nameless(&post("b", 1));
    assert_accepted_nameless(&post("a", 2));
    assert_eq!(sink.wait_for(3).len(), 3);
}

#[test]
fn routes_of_one_scope_share_their_keys_and_others_do_not() {
    let yaml = "
routes:
  - { name: a, path: /a, dedupe: { scope: calls, key: [form:CallSid] } }
  - { name: b, path: /b, dedupe: { scope: calls, key: [form:CallSid] } }
  - { name: c, path: /c, dedupe: { key: [form:CallSid] } }
";
    let (sink, hookward) = pair_with(yaml);
    let post = |path: &str| hookward.post(&form("c1", "ringing").target(path));
    assert_accepted_nameless(&post("/a"));
    assert_repeat(&post("/b"));
    assert_accepted_nameless(&post("/c"));
    assert_repeat(&post("/c"));
    assert_eq!(sink.wait_for(2).len(), 2);
}
