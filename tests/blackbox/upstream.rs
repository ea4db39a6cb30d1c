//! An operator stops the deliveries of a route and lets them go on: `hookward upstream` and its API.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::process::Finished;
use super::harness::*;

fn post_to(hookward: &Hookward, target: &str) -> String {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id)).target(target)), &id);
    id
}

fn upstream(hookward: &Hookward, args: &[&str]) -> Finished {
    let mut command = command(&["upstream"]);
    Process::finish(command.args(args).env("HOOKWARD_DATA_DIR", hookward.setup().data_dir()), b"")
}

fn ok(finished: Finished) -> String {
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    finished.stdout
}

fn post(hookward: &Hookward, target: &str, body: &Value) -> Answer {
    hookward.admin_socket(&Request::post(target).body(body.to_string()))
}

fn list(hookward: &Hookward) -> Vec<Value> {
    let answer = hookward.admin_socket(&Request::get("/api/v1/upstreams"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["upstreams"].as_array().unwrap().clone()
}

fn pending(hookward: &Hookward, events: f64) {
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], events);
}

fn two_routes(more: &str) -> (Sink, Hookward) {
    pair_with(&format!("{QUICK_RETRIES}{more}routes: [ {{ name: a, path: /a }}, {{ name: b, path: /b }} ]\n"))
}

#[test]
fn a_paused_route_accepts_and_delivers_nothing_while_others_go_on_and_a_resume_delivers_what_has_waited() {
    let (sink, hookward) = two_routes("");
    assert_eq!(ok(upstream(&hookward, &["pause", "--route", "a", "--reason", "migration"])), "a paused\n");
    let waits: Vec<String> = (0..20).map(|_| post_to(&hookward, "/a")).collect();
    post_sentinel_to("/b", &hookward, &sink);
    pending(&hookward, 20.0);
    assert_eq!(sink.count(), 1, "the sentinel of b");
    let since = |metrics: &metrics::Metrics, route| {
        metrics.value("hookward_upstream_paused_since_timestamp_seconds", &[("route", route)])
    };
    let metrics = hookward.metrics();
    assert!(since(&metrics, "a") > 1e9 && since(&metrics, "b") == 0.0);
    let shown = list(&hookward);
    assert_eq!((&shown[0]["route"], &shown[0]["paused"]["reason"]), (&json!("a"), &json!("migration")), "{shown:?}");
    assert_eq!((&shown[1]["route"], &shown[1]["paused"]), (&json!("b"), &Value::Null));
    assert_eq!(shown[0]["url"], sink.url());
    let status = hookward.admin_socket(&Request::get("/api/v1/status")).json();
    assert_eq!(status["upstream"][0]["paused"], json!(["a"]), "{status}");
    let table = ok(upstream(&hookward, &["list"]));
    let row = table.lines().find(|line| line.starts_with("a ")).unwrap();
    assert!(row.contains("paused") && row.ends_with("migration"), "{table}");
    hookward.await_log("deliveries of the route are paused");

    assert_eq!(ok(upstream(&hookward, &["resume", "--route", "a"])), "a not paused, and nothing holds its app up\n");
    let received = sink.wait_for(21);
    pending(&hookward, 0.0);
    assert!(waits.iter().all(|id| received.iter().any(|received| received.event_id() == *id)));
    assert!(received.iter().all(|received| received.attempt() == 1), "the wait has cost no attempt");
    hookward.await_metric("hookward_upstream_paused_since_timestamp_seconds", &[("route", "a")], 0.0);
    hookward.await_log("deliveries of the route are to go on now");
}

#[test]
fn without_a_name_all_routes_are_paused_and_resumed() {
    let (sink, hookward) = two_routes("");
    assert_eq!(ok(upstream(&hookward, &["pause"])), "a paused\nb paused\n");
    post_to(&hookward, "/a");
    post_to(&hookward, "/b");
    pending(&hookward, 2.0);
    let table = ok(upstream(&hookward, &["list"]));
    assert_eq!(table.matches("paused").count(), 2, "{table}");
    assert_eq!(sink.count(), 0);
    ok(upstream(&hookward, &["resume"]));
    sink.wait_for(2);
}

#[test]
fn a_pause_outlives_kill_9_and_a_clean_stop_and_a_stop_does_not_wait_for_what_is_paused() {
    let sink = Sink::start();
    let mut hookward = Setup::new(&sink).config("shutdown: { drain: 60s }\n").start();
    ok(upstream(&hookward, &["pause", "--reason", "ticket 815"]));
    let id = post_to(&hookward, "/webhooks");
    hookward.kill9();
    hookward.start_again();
    hookward.await_log("paused since before the start");
    pending(&hookward, 1.0);
    assert_eq!(list(&hookward)[0]["paused"]["reason"], "ticket 815");
    let begun = Instant::now();
    hookward.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    hookward.start_again();
    post_to(&hookward, "/webhooks");
    pending(&hookward, 2.0);
    assert_eq!(sink.count(), 0);
    ok(upstream(&hookward, &["resume"]));
    assert!(sink.wait_for(2).iter().any(|received| received.event_id() == id));
    hookward.restart();
    assert_eq!(list(&hookward)[0]["paused"], Value::Null, "so does a resume");
    post_sentinel(&hookward, &sink);
}

#[test]
fn a_pause_stays_with_a_route_that_a_reload_takes_away_and_ends_by_its_name() {
    let (sink, hookward) = two_routes("");
    ok(upstream(&hookward, &["pause", "--route", "a"]));
    post_to(&hookward, "/a");
    let renamed = format!("{QUICK_RETRIES}routes: [ {{ name: new, path: /a }}, {{ name: b, path: /b }} ]\n");
    std::fs::write(hookward.setup().dir().join("hookward.yaml"), renamed).unwrap();
    hookward.signal(rustix::process::Signal::HUP);
    hookward.await_log("configuration reloaded");
    post_sentinel_to("/a", &hookward, &sink);
    pending(&hookward, 1.0);
    assert_eq!(sink.count(), 1, "the sentinel alone, by its new name");
    let shown = list(&hookward);
    let names: Vec<_> = shown.iter().map(|upstream| upstream["route"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "new"]);
    assert!(!shown[0]["paused"].is_null());
    ok(upstream(&hookward, &["resume", "--route", "a"]));
    sink.wait_for(2);
}

#[test]
fn a_pause_with_a_length_ends_by_itself() {
    let (sink, hookward) = pair();
    let answer = ok(upstream(&hookward, &["pause", "--for", "1s"]));
    assert!(answer.starts_with("default paused until 2"), "{answer}");
    let begun = Instant::now();
    post_to(&hookward, "/webhooks");
    sink.wait_for(1);
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    hookward.await_log("the pause is over");
    assert_eq!(list(&hookward)[0]["paused"], Value::Null);
}

#[test]
fn what_an_operator_sends_again_waits_like_everything_else_and_what_is_under_way_ends() {
    let sink = Sink::start();
    sink.replies([Reply::status(400), Reply::Hold]);
    let hookward = Setup::new(&sink).config("delivery: { retry: { client_errors: 1 } }\n").start();
    post_to(&hookward, "/webhooks");
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    post_to(&hookward, "/webhooks");
    sink.wait_for(2);
    ok(upstream(&hookward, &["pause"]));
    assert_eq!(post(&hookward, "/api/v1/events/1/redrive", &json!({})).status, 202);
    assert_eq!(list(&hookward)[0]["in_flight"], 1, "the one that is held at the app");
    sink.release();
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    pending(&hookward, 1.0);
    assert_eq!(sink.count(), 2);
    ok(upstream(&hookward, &["resume"]));
    assert_eq!(sink.wait_for(3)[2].header("hookward-replay"), "true");
}

#[test]
fn a_resume_ends_a_hold_of_the_app_and_the_wait_for_the_next_probe() {
    let mut sink = Sink::start();
    sink.replies([Reply::Answer(503, vec![("Retry-After", "3600".to_owned())])]);
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    post_to(&hookward, "/webhooks");
    let held = |m: &metrics::Metrics| m.value("hookward_upstream_held_until_timestamp_seconds", &[]) > 0.0;
    hookward.await_metrics("held", held);
    assert!(list(&hookward)[0]["held_until"].is_string());
    let table = ok(upstream(&hookward, &["list"]));
    assert!(table.contains("held"), "{table}");
    ok(upstream(&hookward, &["resume"]));
    sink.wait_for(2);
    pending(&hookward, 0.0);
    hookward.await_metric("hookward_upstream_held_until_timestamp_seconds", &[], 0.0);

    sink.stop();
    for _ in 0..5 {
        post_to(&hookward, "/webhooks");
    }
    hookward.await_metrics("open", |m| m.value("hookward_upstream_state", &[]) > 0.0);
    let shown = list(&hookward).remove(0);
    assert!(shown["since"].is_string() && shown["why"].as_str().unwrap().contains("connect"), "{shown}");
}

#[test]
fn what_cannot_be_paused_is_refused_by_name() {
    let sink = Sink::start();
    let yaml = "routes: [ { name: stored, path: /a }, { name: passed, path: /b, mode: proxy } ]\n";
    let hookward = Setup::new(&sink).config(yaml).start();
    let reason = |answer: Answer, status| {
        assert_eq!(answer.status, status, "{answer:?}");
        answer.reason()
    };
    let pause = |route: &str, body: Value| post(&hookward, &format!("/api/v1/upstreams/{route}/pause"), &body);
    assert!(reason(pause("passed", json!({})), 409).contains("mode is not ack"));
    assert_eq!(reason(pause("nobody", json!({})), 404), "no route has this name");
    assert!(reason(pause("stored", json!({"for": "0s"})), 422).starts_with("for: expected"));
    assert!(reason(pause("stored", json!({"for": "soon"})), 422).starts_with("for: expected"));
    assert!(reason(pause("stored", json!({"reason": "a\nb"})), 422).starts_with("reason: expected"));
    assert!(reason(pause("stored", json!({"until": 1})), 422).starts_with("body: "));
    let get = hookward.admin_socket(&Request::get("/api/v1/upstreams/stored/pause"));
    assert_eq!(get.status, 405);
    let refused = upstream(&hookward, &["pause", "--route", "nobody"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no route has this name"), "{refused:?}");
    assert_eq!(upstream(&hookward, &["resume", "--route", "../status"]).code, Some(2));
    assert_eq!(list(&hookward)[0]["paused"], Value::Null, "none of it has paused anything");
    post_sentinel_to("/a", &hookward, &sink);
}

fn limits(hookward: &Hookward) -> (Value, Value, Value, Value) {
    let shown = list(hookward).remove(0);
    let of = |name: &str| shown[name].clone();
    (of("max_concurrency"), of("rate"), of("rate_burst"), of("limits_from"))
}

#[test]
fn an_app_gets_no_more_than_its_rate_and_what_comes_beyond_it_waits() {
    let sink = Sink::start();
    let yaml = format!("upstream: {{ url: \"{}\", rate: 10/s, rate_burst: 2 }}\n", sink.url());
    let hookward = Setup::without_upstream().config(&yaml).start();
    for _ in 0..22 {
        post_to(&hookward, "/webhooks");
    }
    let received = sink.wait_for(22);
    let took = received[21].at.duration_since(received[0].at);
    assert!(took >= Duration::from_millis(1_900), "twenty after the burst, ten a second: {took:?}");
    for window in received.windows(15) {
        let took = window[14].at.duration_since(window[0].at);
        assert!(took >= Duration::from_millis(1_000), "15 within {took:?}");
    }
    assert!(received.iter().all(|received| received.attempt() == 1));
}

#[test]
fn an_operator_gives_an_app_less_until_the_configuration_says_otherwise() {
    let sink = Sink::start();
    let yaml = |limits: &str| format!("upstream: {{ url: \"{}\", {limits} }}\n", sink.url());
    let hookward = Setup::without_upstream().config(&yaml("max_concurrency: 8")).start();
    assert_eq!(limits(&hookward), (json!(8), Value::Null, Value::Null, json!("configuration")));
    let set = ok(upstream(&hookward, &["set", "--rate", "600/min", "--max-concurrency", "2"]));
    assert_eq!(set, "default at most 2 at once, 600/min in bursts of 10\n");
    assert_eq!(limits(&hookward), (json!(2), json!("600/min"), json!(10), json!("operator")));
    hookward.await_log("the app is given other limits");
    let limit = |m: &metrics::Metrics| m.value("hookward_upstream_concurrency_limit", &[]);
    hookward.await_metrics("no more than that", |m| limit(m) <= 2.0);
    assert_eq!(ok(upstream(&hookward, &["set", "--rate", "off"])), "default at most 2 at once, at any rate\n");
    let set = ok(upstream(&hookward, &["set", "--configured", "--rate", "5/s", "--rate-burst", "9"]));
    assert_eq!(set, "default at most 8 at once, 5/s in bursts of 9\n");

    let reload = |limits: &str, reloads: f64| {
        std::fs::write(hookward.setup().dir().join("hookward.yaml"), yaml(limits)).unwrap();
        hookward.signal(rustix::process::Signal::HUP);
        let name = "hookward_config_reloads_total";
        hookward.await_metrics("reloaded", |m| m.value(name, &[("result", "success")]) >= reloads);
    };
    reload("max_concurrency: 8 } # the same\nlimits: { header_count: 50", 1.0);
    assert_eq!(limits(&hookward), (json!(8), json!("5/s"), json!(9), json!("operator")), "of others it lasts");
    reload("max_concurrency: 9, rate: 7/s", 2.0);
    assert_eq!(limits(&hookward), (json!(9), json!("7/s"), json!(7), json!("configuration")));
    ok(upstream(&hookward, &["set", "--max-concurrency", "1"]));
    assert_eq!(ok(upstream(&hookward, &["set", "--configured"])), "default at most 9 at once, 7/s in bursts of 7\n");
    assert_eq!(limits(&hookward).3, json!("configuration"));
    post_sentinel(&hookward, &sink);
}

fn unix_s(time: &str) -> f64 {
    let time = humantime::parse_rfc3339(time).unwrap();
    time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn limits_that_a_reload_changes_leave_what_is_known_of_the_app() {
    let mut sink = Sink::start();
    sink.stop();
    let yaml = |limits: &str| format!("{QUICK_RETRIES}upstream: {{ url: \"{}\", {limits} }}\n", sink.url());
    let hookward = Setup::without_upstream().config(&yaml("max_concurrency: 8")).start();
    for _ in 0..5 {
        post_to(&hookward, "/webhooks");
    }
    hookward.await_metric("hookward_upstream_state", &[], 2.0);
    let since_s = |shown: &Value| unix_s(shown["since"].as_str().unwrap());
    let before_s = since_s(&list(&hookward)[0]);
    std::fs::write(hookward.setup().dir().join("hookward.yaml"), yaml("max_concurrency: 3, rate: 50/s")).unwrap();
    hookward.signal(rustix::process::Signal::HUP);
    hookward.await_log("configuration reloaded");
    let shown = list(&hookward).remove(0);
    assert_eq!((&shown["state"], &shown["max_concurrency"]), (&json!("open"), &json!(3)));
    // The wall clock and the running time are read one after the other, so that it may differ by a millisecond.
    assert!((since_s(&shown) - before_s).abs() < 0.01, "{shown}");
    sink.start_again();
    sink.wait_for(5);
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let (_sink, hookward) = pair();
    let set = |body: Value| post(&hookward, "/api/v1/upstreams/default/set", &body);
    for body in [
        json!({"max_concurrency": 0}),
        json!({"rate": "0/s"}),
        json!({"rate": "fast"}),
        json!({"rate_burst": 5}),
        json!({"max_concurency": 5}),
    ] {
        assert_eq!(set(body.clone()).status, 422, "{body}");
    }
    assert_eq!(upstream(&hookward, &["set"]).code, Some(2), "nothing is to be set");
    let refused = upstream(&hookward, &["set", "--rate", "1/h"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("rate: expected"), "{refused:?}");
    assert_eq!(limits(&hookward).3, json!("configuration"));
}
