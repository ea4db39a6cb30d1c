//! Why a stored event has not been sent yet: `waits_for` in the list, in one event, and on the command line.

use serde_json::Value;

use super::harness::*;

const HOUR: &str = "3600";

fn post_event(hookward: &Hookward) {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
}

fn get(hookward: &Hookward, target: &str) -> Value {
    let answer = hookward.admin_socket(&Request::get(target));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The newest event, once it waits for this.
fn await_newest(hookward: &Hookward, reason: &str) -> Value {
    poll(&format!("the newest waits for {reason}"), || {
        let newest = get(hookward, "/api/v1/events?limit=1")["events"][0].clone();
        (newest["waits_for"] == reason).then_some(newest)
    })
}

fn retry_after(status: u16) -> Sink {
    let sink = Sink::start();
    sink.behave(move |_| Reply::Answer(status, vec![("Retry-After", HOUR.to_owned())]));
    sink
}

#[test]
fn a_paused_route_and_an_app_that_wants_to_be_left_alone_say_so_and_until_when() {
    let sink = retry_after(503);
    let hookward = Setup::new(&sink).start();
    post_event(&hookward);
    sink.wait_for(1);
    let held = await_newest(&hookward, "hold");
    let until = get(&hookward, "/api/v1/upstreams")["upstreams"][0]["held_until"].clone();
    let seconds = |time: &Value| time.as_str().unwrap()[..18].to_owned();
    assert_eq!(seconds(&held["next_attempt_at"]), seconds(&until), "not now, which is when it was due");
    assert_eq!(hookward.admin_socket(&Request::post("/api/v1/upstreams/default/pause").body("{}")).status, 202);
    let paused = await_newest(&hookward, "pause");
    assert_eq!(paused["next_attempt_at"], Value::Null);
    let seq = &paused["seq"];
    assert_eq!(get(&hookward, &format!("/api/v1/events/{seq}"))["waits_for"], "pause");
    let run = |args: &[&str]| {
        let mut command = command(&["events"]);
        Process::finish(command.args(args).env("HOOKWARD_DATA_DIR", hookward.setup().data_dir()), b"").stdout
    };
    let list = run(&["list"]);
    assert!(list.lines().next().unwrap().contains("WAITS FOR") && list.contains(" pause "), "{list}");
    let show = run(&["show", &seq.to_string()]);
    assert!(show.lines().any(|line| line == "waits_for        pause"), "{show}");
}

#[test]
fn an_event_that_was_refused_waits_for_its_own_retry_and_one_behind_a_dead_app_for_the_breaker() {
    let mut sink = retry_after(429);
    let hookward = Setup::new(&sink).start();
    post_event(&hookward);
    sink.wait_for(1);
    await_newest(&hookward, "retry");
    sink.stop();
    for _ in 0..6 {
        post_event(&hookward);
    }
    hookward.await_metric("hookward_upstream_state", &[], 2.0);
    post_event(&hookward);
    let down = await_newest(&hookward, "breaker");
    assert!(down["next_attempt_at"].is_string(), "{down}");
}

#[test]
fn an_event_behind_another_one_of_its_key_waits_for_order() {
    let sink = retry_after(429);
    let yaml = "delivery: { ordering: { key: /data/payload/id, max_block: 300s } }\n";
    let hookward = Setup::new(&sink).config(yaml).start();
    for id in [new_id(), new_id()] {
        let keyed = format!(r#"{{"data":{{"id":"{id}","event_type":"message.sent","payload":{{"id":"one key"}}}}}}"#);
        assert_accepted(&hookward.post(&signed(keyed.as_bytes())), &id);
    }
    await_newest(&hookward, "order");
    // What has become of it is written a moment later.
    poll("the oldest waits for its retry", || {
        let oldest = get(&hookward, "/api/v1/events")["events"][1].clone();
        (oldest["waits_for"] == "retry").then_some(())
    });
}

#[test]
fn an_event_that_is_being_sent_waits_for_nothing_and_the_others_for_a_slot_or_the_rate() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let yaml = |limits: &str| format!("upstream: {{ url: \"{}\", {limits} }}\n", sink.url());
    let hookward = Setup::without_upstream().config(&yaml("max_concurrency: 1")).start();
    for _ in 0..2 {
        post_event(&hookward);
    }
    sink.wait_for(1);
    await_newest(&hookward, "slot");
    let oldest = get(&hookward, "/api/v1/events")["events"][1].clone();
    assert_eq!(oldest["waits_for"], Value::Null, "{oldest}");
    std::fs::write(hookward.setup().dir().join("hookward.yaml"), yaml("rate: 1/min")).unwrap();
    hookward.signal(rustix::process::Signal::HUP);
    hookward.await_log("configuration reloaded");
    sink.wait_for(2);
    for _ in 0..2 {
        post_event(&hookward);
    }
    await_newest(&hookward, "rate");
}

#[test]
fn an_event_of_a_route_that_is_gone_waits_for_an_upstream() {
    let mut sink = Sink::start();
    sink.stop();
    let route = |name: &str| {
        format!("routes: [ {{ name: {name}, path: /webhooks/*, upstream: {{ url: \"{}\" }} }} ]\n", sink.url())
    };
    let hookward = Setup::without_upstream().config(&route("old")).start();
    post_event(&hookward);
    std::fs::write(hookward.setup().dir().join("hookward.yaml"), route("new")).unwrap();
    hookward.signal(rustix::process::Signal::HUP);
    hookward.await_log("configuration reloaded");
    let held = await_newest(&hookward, "upstream");
    assert_eq!(held["next_attempt_at"], Value::Null);
}
