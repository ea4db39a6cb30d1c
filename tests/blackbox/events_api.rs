//! The admin API on events: lists, one event, redrive, discard.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::harness::*;

/// What the app refuses is dead at once.
const ONE_REFUSAL: &str = "delivery: { retry: { client_errors: 1 } }\n";
const TOKEN: &str = "s3cret-of-the-admin-side";

fn get(hookward: &Hookward, target: &str) -> Value {
    let answer = hookward.admin_socket(&Request::get(target));
    assert_eq!(answer.status, 200, "{target} {answer:?}");
    answer.json()
}

fn list(hookward: &Hookward, query: &str) -> Vec<Value> {
    get(hookward, &format!("/api/v1/events?{query}"))["events"].as_array().unwrap().clone()
}

fn post(hookward: &Hookward, target: &str, body: &Value) -> Answer {
    hookward.admin_socket(&Request::post(target).body(body.to_string()))
}

fn accepted(answer: &Answer) {
    assert_eq!(answer.status, 202, "{answer:?}");
}

fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.reason()
}

/// A sink that refuses everything, and so many dead letters behind it, oldest first.
fn dead_letters(yaml: &str, events: usize) -> (Sink, Hookward, Vec<String>) {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let hookward = Setup::new(&sink).config(yaml).start();
    let ids: Vec<String> = (0..events).map(|_| new_id()).collect();
    for id in &ids {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    let dead = u32::try_from(events).unwrap();
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], f64::from(dead));
    (sink, hookward, ids)
}

/// An app that is not there, and an event that waits for it.
fn pending() -> (Sink, Hookward, String) {
    let mut sink = Sink::start();
    sink.stop();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    (sink, hookward, id)
}

#[test]
fn a_dead_letter_is_listed_shown_and_sent_again_under_its_old_name() {
    let (sink, hookward, ids) = dead_letters(ONE_REFUSAL, 1);
    let listed = list(&hookward, "state=dead").remove(0);
    let seq = listed["seq"].as_i64().unwrap();
    assert_eq!(listed["event_id"], ids[0], "{listed}");
    assert_eq!(listed["delivery_id"], sink.first().delivery_id());
    assert_eq!(listed["event_type"], "message.received");
    assert_eq!(listed["route"], "default");
    assert_eq!(listed["state"], "dead");
    assert_eq!(listed["received_at"], sink.first().header("hookward-received-at"));
    assert_eq!((&listed["attempts"], &listed["next_attempt_at"]), (&json!(1), &Value::Null));
    assert!(listed["last_error"].as_str().unwrap().contains("400"), "{listed}");
    assert!(listed["size_bytes"].as_u64().unwrap() > body(&ids[0]).len() as u64, "{listed}");

    let shown = get(&hookward, &format!("/api/v1/events/{seq}"));
    for (name, value) in listed.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!(STANDARD.decode(shown["body"].as_str().unwrap()).unwrap(), body(&ids[0]));
    let headers = shown["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["user-agent", "telnyx-webhooks"])), "{shown}");
    let last = &shown["last_attempt"];
    assert_eq!((&last["status"], &last["error"]), (&json!(400), &listed["last_error"]), "{shown}");
    assert!(last["at"].as_str().unwrap() >= listed["received_at"].as_str().unwrap(), "{shown}");
    assert!(last["duration_ms"].as_i64().is_some_and(|ms| (0..20_000).contains(&ms)), "{shown}");

    sink.behave(|_| Reply::status(200));
    accepted(&post(&hookward, &format!("/api/v1/events/{seq}/redrive"), &json!({})));
    let again = sink.wait_for(2).pop().unwrap();
    assert!(!sink.first().has("hookward-replay"));
    assert_eq!(again.header("hookward-replay"), "true");
    assert_eq!((again.delivery_id(), again.attempt()), (sink.first().delivery_id(), 1), "the attempts begin anew");
    assert_eq!(again.body, body(&ids[0]));
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
    poll("delivered, and what the app said to it", || {
        let shown = get(&hookward, &format!("/api/v1/events/{seq}"));
        (shown["state"] == "delivered" && shown["last_attempt"]["status"] == 200).then_some(())
    });
    hookward.await_log("an event is delivered again");
}

#[test]
fn what_is_sent_again_says_so_after_kill_9_too() {
    let (sink, mut hookward, _) = dead_letters(ONE_REFUSAL, 1);
    sink.behave(|_| Reply::status(503));
    let seq = list(&hookward, "")[0]["seq"].clone();
    accepted(&post(&hookward, &format!("/api/v1/events/{seq}/redrive"), &json!({})));
    hookward.kill9();
    let before = sink.count();
    sink.behave(|_| Reply::status(200));
    hookward.start_again();
    let again = sink.wait_for(before + 1).pop().unwrap();
    assert_eq!(again.header("hookward-replay"), "true");
    assert_eq!(again.delivery_id(), sink.first().delivery_id());
}

#[test]
fn a_pending_event_says_when_it_is_tried_next_and_is_not_sent_twice() {
    let (sink, hookward, id) = pending();
    let shown = poll("tried", || {
        let event = list(&hookward, "state=pending").remove(0);
        (event["attempts"].as_u64() > Some(0)).then_some(event)
    });
    assert_eq!(shown["event_id"], id);
    assert!(shown["next_attempt_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{shown}");
    assert!(shown["last_error"].as_str().unwrap().contains("connect"), "{shown}");
    let detail = get(&hookward, &format!("/api/v1/events/{}", shown["seq"]));
    assert_eq!(detail["last_attempt"]["status"], Value::Null, "nobody answered");
    let refusal = refused(&post(&hookward, &format!("/api/v1/events/{}/redrive", shown["seq"]), &json!({})), 409);
    assert!(refusal.contains("pending"), "{refusal}");
    drop(sink);
}

#[test]
fn what_is_discarded_is_counted_logged_with_its_reason_and_never_delivered() {
    let (mut sink, hookward, id) = pending();
    let seq = list(&hookward, "")[0]["seq"].clone();
    let discard = format!("/api/v1/events/{seq}/discard");
    accepted(&post(&hookward, &discard, &json!({"reason": "test message, ticket 815"})));
    let metrics = hookward.await_metric("hookward_events_discarded_total", &[("route", "default")], 1.0);
    assert_eq!(metrics.value("hookward_buffer_events", &[("state", "discarded")]), 1.0);
    assert_eq!(metrics.value("hookward_buffer_events", &[("state", "pending")]), 0.0);
    sink.start_again();
    post_sentinel(&hookward, &sink);
    assert!(sink.received().iter().all(|r| r.event_id() != id), "{}", Received::list(&sink.received()));
    let shown = get(&hookward, &format!("/api/v1/events/{seq}"));
    assert_eq!((&shown["state"], &shown["body"], &shown["headers"]), (&json!("discarded"), &Value::Null, &Value::Null));
    refused(&post(&hookward, &discard, &json!({})), 409);
    refused(&post(&hookward, &format!("/api/v1/events/{seq}/redrive"), &json!({})), 409);
    // The id stays known: a copy that comes now is no news.
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    let log = hookward.await_log("test message, ticket 815");
    assert!(log.contains("\"by\":\"socket\""), "{log}");
}

#[test]
fn what_is_discarded_while_it_waits_in_memory_is_not_sent() {
    let sink = Sink::start();
    sink.replies([Reply::Answer(503, vec![("Retry-After", "2".to_owned())])]);
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    assert_eq!(hookward.post(&event()).status, 200);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "retry")], 1.0);
    let (unwanted, wanted) = (new_id(), new_id());
    for id in [&unwanted, &wanted] {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    let seq = list(&hookward, &format!("event_id={unwanted}"))[0]["seq"].clone();
    accepted(&post(&hookward, &format!("/api/v1/events/{seq}/discard"), &json!({})));
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 2.0);
    let ids: Vec<_> = sink.received().iter().map(Received::event_id).collect();
    assert!(ids.contains(&wanted) && !ids.contains(&unwanted), "{ids:?}");
}

#[test]
fn a_delivered_event_can_be_sent_again_while_its_body_is_kept() {
    for (keep, status) in [("1h", 202), ("0s", 409)] {
        let (sink, hookward) = pair_with(&format!("delivery: {{ delivered: {{ keep: {keep} }} }}\n"));
        let id = post_sentinel(&hookward, &sink);
        hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
        let seq = list(&hookward, "state=delivered")[0]["seq"].clone();
        let answer = post(&hookward, &format!("/api/v1/events/{seq}/redrive"), &json!({}));
        assert_eq!(answer.status, status, "{keep} {answer:?}");
        if status == 202 {
            let again = sink.wait_for(2).pop().unwrap();
            assert_eq!((again.event_id(), again.header("hookward-replay")), (id, "true".to_owned()));
        } else {
            assert!(answer.reason().contains("delivered.keep"), "{answer:?}");
        }
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let (_sink, hookward, ids) = dead_letters(ONE_REFUSAL, 23);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    let mut pages = 0;
    loop {
        let page = get(&hookward, &format!("/api/v1/events?limit=10&cursor={cursor}"));
        let events = page["events"].as_array().unwrap();
        seen.extend(events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()));
        pages += 1;
        // What comes meanwhile is newer, and does not move what follows.
        assert_eq!(hookward.post(&event()).status, 200);
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!((seen, pages), (ids, 3));
    assert_eq!(list(&hookward, "limit=2").len(), 2);
}

#[test]
fn filters_leave_out_the_others() {
    let (sink, hookward) = pair();
    let ids: Vec<String> = (0..3).map(|_| new_id()).collect();
    for (id, kind) in ids.iter().zip(["message.sent", "message.finalized", "a&b=c d"]) {
        assert_accepted(&hookward.post(&signed(event::body_of(id, kind))), id);
    }
    sink.wait_for(3);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 3.0);
    let found = |query: &str| -> Vec<String> {
        list(&hookward, query).iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("event_type=message.sent"), [ids[0].clone()]);
    assert_eq!(found("event_type=a%26b%3Dc+d"), [ids[2].clone()]);
    assert_eq!(found(&format!("event_id={}", ids[1])), [ids[1].clone()]);
    assert_eq!(found("state=delivered&route=default").len(), 3);
    assert!(found("state=dead").is_empty() && found("route=other").is_empty());
}

#[test]
fn the_api_on_events_needs_the_token_over_tcp_and_none_over_the_socket() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).env("HOOKWARD_ADMIN_TOKEN", TOKEN).start();
    let id = post_sentinel(&hookward, &sink);
    let requests = [
        Request::get("/api/v1/events"),
        Request::get("/api/v1/events/1"),
        Request::post("/api/v1/events/1/redrive").body("{}"),
        Request::post("/api/v1/events/1/discard").body("{}"),
        Request::post("/api/v1/events/1/forget").body("{}"),
        Request::post("/api/v1/redrive").body(r#"{"state":"dead"}"#),
        Request::post("/api/v1/drain").body("{}"),
    ];
    for request in requests {
        let answer = hookward.admin(&request);
        assert_eq!(refused(&answer, 401), "unauthorized", "{request:?}");
        assert!(!answer.text().contains(&id));
        let answer = hookward.admin(&request.header("Authorization", "Bearer wrong"));
        assert_eq!(answer.status, 401);
    }
    assert_eq!(hookward.metrics().value("hookward_buffer_events", &[("state", "discarded")]), 0.0);
    assert_eq!(hookward.admin(&Request::get("/readyz")).status, 200, "nobody has drained it");
    let bearer = Request::get("/api/v1/events").header("Authorization", format!("Bearer {TOKEN}"));
    let over_tcp = hookward.admin(&bearer).json();
    assert_eq!(over_tcp["events"][0]["event_id"], id);
    assert_eq!(list(&hookward, "").len(), 1);
    let answer = hookward.admin(
        &Request::post("/api/v1/events/1/redrive").header("Authorization", format!("Bearer {TOKEN}")).body("{}"),
    );
    assert_eq!(answer.status, 409);
}

#[test]
fn what_does_not_exist_is_404_a_wrong_method_405_and_nonsense_422() {
    let (_sink, hookward, _) = dead_letters(ONE_REFUSAL, 1);
    let ask = |request: Request| hookward.admin_socket(&request);
    for target in ["/api/v1/events/99", "/api/v1/events/x", "/api/v1/events/1/x", "/api/v1/events/"] {
        refused(&ask(Request::get(target)), 404);
    }
    for target in ["/api/v1/events/99/redrive", "/api/v1/events/99/discard"] {
        refused(&ask(Request::post(target).body("{}")), 404);
    }
    for (request, allow) in [
        (Request::get("/api/v1/events/1/redrive"), "POST"),
        (Request::get("/api/v1/drain"), "POST"),
        (Request::post("/api/v1/events").body("{}"), "GET, HEAD"),
        (Request::new("DELETE", "/api/v1/events/1"), "GET, HEAD"),
    ] {
        let answer = ask(request);
        refused(&answer, 405);
        assert_eq!(answer.header("allow"), Some(allow));
    }
    for query in ["state=lost", "limit=0", "limit=1001", "limit=ten", "cursor=x", "order=asc"] {
        refused(&ask(Request::get(&format!("/api/v1/events?{query}"))), 422);
    }
    for (target, body) in [
        ("/api/v1/redrive", "{}"),
        ("/api/v1/redrive", r#"{"state":"pending"}"#),
        ("/api/v1/redrive", r#"{"state":"dead","limit":0}"#),
        ("/api/v1/redrive", r#"{"state":"dead","rate_per_s":0}"#),
        ("/api/v1/redrive", r#"{"state":"dead","dry":true}"#),
        ("/api/v1/redrive", "nonsense"),
        ("/api/v1/events/1/discard", "[]"),
        ("/api/v1/events/1/discard", r#"{"reason":"two\nlines"}"#),
    ] {
        refused(&ask(Request::post(target).body(body)), 422);
    }
    let long = json!({"reason": "x".repeat(501)});
    refused(&ask(Request::post("/api/v1/events/1/discard").body(long.to_string())), 422);
    assert_eq!(list(&hookward, "state=dead").len(), 1, "nothing of it has changed anything");
}

#[test]
fn a_body_that_is_too_large_or_never_comes_is_refused() {
    let (_sink, hookward, _) = dead_letters(ONE_REFUSAL, 1);
    let large = json!({"reason": "x".repeat(70_000)}).to_string();
    let request = Request::post("/api/v1/events/1/discard").body(large);
    assert_eq!(refused(&hookward.admin_socket(&request), 413), "body_too_large");
    let begun = Instant::now();
    let mut slow = Wire::connect_unix(&hookward.setup().admin_socket());
    slow.send(Request::post("/api/v1/events/1/discard").body("{}").head());
    assert_eq!(refused(&slow.answer(), 408), "body_timeout");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(list(&hookward, "state=dead").len(), 1);
}

#[test]
fn many_are_sent_again_oldest_first_as_many_as_asked_for() {
    let (sink, hookward, ids) = dead_letters(ONE_REFUSAL, 6);
    let asked = |more: Value| {
        let mut body = json!({"state": "dead", "rate_per_s": 200});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = post(&hookward, "/api/v1/redrive", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.json()["matched"].as_u64().unwrap(), answer.json()["started"] == true)
    };
    assert_eq!(asked(json!({"dry_run": true})), (6, false));
    assert_eq!(asked(json!({"dry_run": true, "limit": 4})), (4, false));
    assert_eq!(list(&hookward, "state=dead").len(), 6, "a dry run changes nothing");
    sink.behave(|_| Reply::status(200));
    assert_eq!(asked(json!({"limit": 4})), (4, true));
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 4.0);
    let mut again: Vec<_> =
        sink.received().into_iter().filter(|r| r.has("hookward-replay")).map(|r| r.event_id()).collect();
    again.sort();
    assert_eq!(again, ids[..4], "ids are in order of time");
    poll("the run has ended", || get(&hookward, "/api/v1/status")["redrive"].is_null().then_some(()));
    assert_eq!(asked(json!({})), (2, true));
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 0.0);
    poll("the run has ended", || get(&hookward, "/api/v1/status")["redrive"].is_null().then_some(()));
    assert_eq!(asked(json!({})), (0, false));
}

#[test]
fn many_are_sent_no_faster_than_asked_for_and_one_run_at_a_time() {
    let (sink, hookward, _) = dead_letters(ONE_REFUSAL, 4);
    let before = sink.count();
    // The app refuses still: what dies again is not sent again by the same run.
    let slowly = json!({"state": "dead", "rate_per_s": 5});
    let begun = Instant::now();
    assert_eq!(post(&hookward, "/api/v1/redrive", &slowly).json(), json!({"matched": 4, "started": true}));
    let refusal = refused(&post(&hookward, "/api/v1/redrive", &slowly), 409);
    assert!(refusal.contains("running"), "{refusal}");
    assert_eq!(get(&hookward, "/api/v1/status")["redrive"]["matched"], 4);
    sink.wait_for(before + 4);
    assert!(begun.elapsed() >= Duration::from_millis(550), "{:?} for 4 at 5/s", begun.elapsed());
    poll("the run has ended", || get(&hookward, "/api/v1/status")["redrive"].is_null().then_some(()));
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 4.0);
    assert_eq!(sink.count(), before + 4);
}

#[test]
fn every_change_is_logged_with_who_asked_for_it() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let hookward = Setup::new(&sink).config(ONE_REFUSAL).env("HOOKWARD_ADMIN_TOKEN", TOKEN).start();
    for _ in 0..3 {
        assert_eq!(hookward.post(&event()).status, 200);
    }
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 3.0);
    let by_token = |target: &str, body: &str| {
        let request = Request::post(target).header("Authorization", format!("Bearer {TOKEN}")).body(body);
        assert!(hookward.admin(&request).status < 300, "{target}");
    };
    by_token("/api/v1/events/1/discard", "{}");
    by_token("/api/v1/redrive", r#"{"state":"dead","limit":1,"rate_per_s":100}"#);
    poll("the run has ended", || get(&hookward, "/api/v1/status")["redrive"].is_null().then_some(()));
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "dead")], 4.0);
    accepted(&post(&hookward, "/api/v1/events/3/redrive", &json!({})));
    by_token("/api/v1/drain", "");
    let log = hookward.await_log("asked to drain");
    for (message, by) in [
        ("an event was discarded", "token"),
        ("dead letters are delivered again, the oldest first", "token"),
        ("an event is delivered again", "socket"),
        ("asked to drain", "token"),
    ] {
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let told: Vec<_> = lines.iter().filter(|line| line["msg"] == message).collect();
        assert_eq!(told.len(), 1, "{message}: {log}");
        assert_eq!((&told[0]["by"], &told[0]["level"]), (&json!(by), &json!("info")), "{message}");
    }
    assert!(log.contains("the redrive of dead letters has ended"), "{log}");
    assert!(!log.contains(TOKEN));
}

#[test]
fn where_nothing_is_stored_the_api_says_so() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--mode", "proxy").start();
    let refusal = refused(&hookward.admin_socket(&Request::get("/api/v1/events")), 409);
    assert!(refusal.contains("ack"), "{refusal}");
}

#[test]
fn dead_letters_that_expire_are_counted_and_logged() {
    let yaml =
        "delivery: { retry: { client_errors: 1 }, dead_letter: { keep: 1s } }\nroutes: [ { path: /*, dedupe: off } ]\n";
    let (_sink, hookward, _) = dead_letters(yaml, 2);
    hookward.await_metric("hookward_events_expired_total", &[], 2.0);
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 0.0);
    hookward.await_log("dropped at the end of dead_letter.keep");
}

#[test]
fn after_an_event_is_forgotten_exactly_one_repeat_reaches_the_app_over_a_restart_too() {
    let (sink, mut hookward) = pair();
    let id = post_sentinel(&hookward, &sink);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
    let repeat = |hookward: &Hookward, s: i64| hookward.post(&signed_at(now_s() - s, body(&id)));
    assert_duplicate(&repeat(&hookward, 1), &id);
    let answer = post(&hookward, "/api/v1/events/1/forget", &json!({}));
    accepted(&answer);
    assert_eq!(answer.json(), json!({"seq": 1, "forgotten": true}));
    let log = hookward.await_log("an event was forgotten");
    let line = log.lines().find(|line| line.contains("an event was forgotten")).unwrap_or_else(|| panic!("{log}"));
    for part in ["\"by\":\"socket\"", "\"seq\":1", "\"was\":\"delivered\""] {
        assert!(line.contains(part), "{part} in {line}");
    }
    hookward.restart();
    assert_accepted(&repeat(&hookward, 2), &id);
    assert_duplicate(&repeat(&hookward, 3), &id);
    let received = sink.wait_for(2);
    assert_ne!(received[0].delivery_id(), received[1].delivery_id(), "a new event");
    assert!(!received[1].has("hookward-replay"));
    hookward.restart();
    assert_duplicate(&repeat(&hookward, 4), &id);
    let refusal = refused(&post(&hookward, "/api/v1/events/1/forget", &json!({})), 409);
    assert!(refusal.starts_with("not remembered"), "{refusal}");
    assert_eq!(sink.count(), 2);
}

#[test]
fn an_event_that_cannot_be_sent_again_says_how_a_repeat_is_let_through() {
    let (mut sink, hookward, id) = pending();
    let refusal = refused(&post(&hookward, "/api/v1/events/1/forget", &json!({})), 409);
    assert!(refusal.contains("pending"), "{refusal}");
    accepted(&post(&hookward, "/api/v1/events/1/discard", &json!({})));
    let refusal = refused(&post(&hookward, "/api/v1/events/1/redrive", &json!({})), 409);
    assert!(refusal.contains("discarded") && refusal.contains("hookward events forget"), "{refusal}");
    accepted(&post(&hookward, "/api/v1/events/1/forget", &json!({})));
    sink.start_again();
    assert_accepted(&hookward.post(&signed_at(now_s() - 1, body(&id))), &id);
    assert_eq!(sink.first().event_id(), id);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
    let refusal = refused(&post(&hookward, "/api/v1/events/2/redrive", &json!({})), 409);
    assert!(refusal.contains("delivered.keep") && refusal.contains("hookward events forget"), "{refusal}");
    refused(&post(&hookward, "/api/v1/events/99/forget", &json!({})), 404);
}

#[test]
fn a_dead_letter_is_sent_again_rather_than_forgotten() {
    let (_sink, hookward, _) = dead_letters(ONE_REFUSAL, 1);
    let refusal = refused(&post(&hookward, "/api/v1/events/1/forget", &json!({})), 409);
    assert!(refusal.contains("dead") && refusal.contains("hookward events redrive"), "{refusal}");
}
