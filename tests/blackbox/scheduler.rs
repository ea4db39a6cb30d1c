//! An app that is down, overloaded or wants to be left alone: when it is tried, and with how much.

use std::time::{Duration, Instant};

use super::harness::event::body_of;
use super::harness::*;

fn post_event(hookward: &Hookward) -> String {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    id
}

fn status(hookward: &Hookward) -> serde_json::Value {
    hookward.admin_socket(&Request::get("/api/v1/status")).json()["upstream"][0].clone()
}

fn attempts(hookward: &Hookward) -> f64 {
    hookward.metrics().value("hookward_delivery_attempts_total", &[])
}

/// Hookward in front of an app that has been found to be down.
fn with_open_breaker() -> (Sink, Hookward) {
    let mut sink = Sink::start();
    sink.stop();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    for _ in 0..5 {
        post_event(&hookward);
    }
    hookward.await_metrics("not closed", |m| m.value("hookward_upstream_state", &[("route", "default")]) > 0.0);
    (sink, hookward)
}

#[test]
fn an_app_that_is_down_is_tried_by_an_event_now_and_then_and_what_waits_is_charged_nothing() {
    let (mut sink, hookward) = with_open_breaker();
    let before = attempts(&hookward);
    for _ in 0..200 {
        post_event(&hookward);
    }
    // Without the breaker it would be hundreds of attempts.
    assert!(attempts(&hookward) - before < 5.0, "{} attempts", attempts(&hookward) - before);
    assert_ne!(status(&hookward)["state"], "closed");
    sink.start_again();
    let received = sink.wait_for(205);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    hookward.await_metric("hookward_upstream_state", &[("route", "default")], 0.0);
    let first_attempts = received.iter().filter(|received| received.attempt() == 1).count();
    assert!(first_attempts >= 190, "{first_attempts} of 205 came at their first attempt");
    assert_eq!(status(&hookward)["state"], "closed");
    hookward.await_log("the app takes events again");
    assert_eq!(hookward.stderr().matches("the app is not tried any more").count(), 1, "{}", hookward.stderr());
}

#[test]
fn an_outage_of_20_s_with_1500_events_costs_a_handful_of_attempts_and_its_end_is_noticed_at_once() {
    let (mut sink, hookward) = with_open_breaker();
    let mut wire = hookward.connect();
    let begun = Instant::now();
    for n in 0..1_500 {
        // As they come, 75 a second.
        std::thread::sleep((Duration::from_secs(20) * n / 1_500).saturating_sub(begun.elapsed()));
        let id = new_id();
        assert_accepted(&wire.ask(&signed(body(&id))), &id);
    }
    let wasted = attempts(&hookward);
    assert!(wasted < 20.0, "{wasted} attempts at an app that is down");
    sink.start_again();
    let back = Instant::now();
    sink.wait_for(1);
    // Within a second, and what a crowded machine adds.
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    sink.wait_until_within(DEADLINE * 3, |received| received.len() >= 1_505);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    assert!(attempts(&hookward) - 1_505.0 < 100.0, "{} attempts in all", attempts(&hookward));
}

#[test]
fn an_app_that_answers_and_fails_is_left_alone_too() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(500));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    for _ in 0..20 {
        post_event(&hookward);
    }
    hookward.await_log("half of what it was sent within 10 s failed");
    assert!(attempts(&hookward) >= 20.0, "{}", attempts(&hookward));
    sink.behave(|_| Reply::status(200));
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    hookward.await_metric("hookward_upstream_state", &[("route", "default")], 0.0);
}

#[test]
fn open_is_2_and_a_probe_under_way_is_half_open_and_1() {
    let (mut sink, hookward) = with_open_breaker();
    let state = |code: f64, name: &str| {
        hookward.await_metric("hookward_upstream_state", &[("route", "default")], code);
        poll(name, || (status(&hookward)["state"] == name).then_some(()));
    };
    state(2.0, "open");
    sink.behave(|_| Reply::Hold);
    sink.start_again();
    state(1.0, "half_open");
    assert_eq!(sink.wait_for(1).len(), 1, "one event at a time");
    sink.release();
    state(0.0, "closed");
}

#[test]
fn the_window_that_is_shown_grows_while_the_app_is_well_and_halves_when_it_is_busy() {
    let (sink, hookward) = pair();
    let limit = |m: &metrics::Metrics| m.value("hookward_upstream_concurrency_limit", &[("route", "default")]);
    assert_eq!(limit(&hookward.metrics()), 16.0, "half of max_concurrency at the start");
    assert_eq!(status(&hookward)["concurrency"], 16);
    sink.replies([Reply::status(429)]);
    post_event(&hookward);
    hookward.await_metrics("halved", |m| limit(m) == 8.0);
}

#[test]
fn a_busy_app_that_recovers_gets_its_window_back() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let yaml = format!("upstream: {{ url: \"{}\", max_concurrency: 4 }}\n", sink.url());
    let hookward = Setup::new(&sink).without_flag("--upstream").config(&yaml).start();
    for _ in 0..20 {
        post_event(&hookward);
    }
    // Two at once are answered together, then four.
    sink.wait_for(2);
    sink.release();
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 20.0);
    hookward.await_metrics("more than at the start", |m| {
        m.value("hookward_upstream_concurrency_limit", &[("route", "default")]) > 2.0
    });
}

#[test]
fn one_poison_event_in_a_hundred_holds_up_no_other() {
    let sink = Sink::start();
    sink.behave(|received| Reply::status(if received.event_id().starts_with("poison") { 400 } else { 200 }));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let mut wire = hookward.connect();
    for n in 0..400 {
        let id = if n % 100 == 0 { format!("poison-{n}") } else { new_id() };
        assert_accepted(&wire.ask(&signed(body(&id))), &id);
    }
    let is_poison = |received: &Received| received.event_id().starts_with("poison");
    let received = sink.wait_until(|all| all.iter().filter(|received| !is_poison(received)).count() == 396);
    assert!(received.iter().filter(|received| !is_poison(received)).all(|received| received.attempt() == 1));
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 396.0);
    assert_eq!(status(&hookward)["state"], "closed");
    assert!(!hookward.stderr().contains("the app is not tried any more"), "{}", hookward.stderr());
}

#[test]
fn routes_with_equal_upstreams_share_one_breaker() {
    let mut sink = Sink::start();
    sink.stop();
    let yaml = format!(
        "{QUICK_RETRIES}routes: [ {{ name: one, path: /one }}, {{ name: two, path: /two }}, \
         {{ name: other, path: /other, upstream: {{ url: \"{}\", timeout: 9s }} }} ]\n",
        sink.url()
    );
    let hookward = Setup::new(&sink).config(&yaml).start();
    for _ in 0..5 {
        let id = new_id();
        assert_accepted(&hookward.post(&signed(body(&id)).target("/one")), &id);
    }
    let state = |m: &metrics::Metrics, route| m.value("hookward_upstream_state", &[("route", route)]);
    let metrics = hookward.await_metrics("both are not closed", |m| state(m, "one") > 0.0 && state(m, "two") > 0.0);
    assert_eq!(state(&metrics, "other"), 0.0, "another upstream by its timeout");
}

#[test]
fn retry_after_shows_in_the_status_and_in_the_log() {
    let sink = Sink::start();
    sink.replies([Reply::Answer(503, vec![("Retry-After", "60".to_owned())])]);
    let hookward = Setup::new(&sink).start();
    post_event(&hookward);
    let left = poll("held", || status(&hookward)["retry_after_s"].as_u64());
    assert!((50..=60).contains(&left), "{left}");
    hookward.await_log("the app asks to be left alone");
    post_event(&hookward);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 2.0);
    assert_eq!(sink.count(), 1);
}

#[test]
fn new_events_go_past_a_backlog_that_hangs() {
    let sink = Sink::start();
    sink.behave(|received| if received.target == "/slow" { Reply::Hold } else { Reply::status(200) });
    let yaml = format!("upstream: {{ url: \"{}\", max_concurrency: 8 }}\n", sink.url());
    let mut hookward = Setup::new(&sink).without_flag("--upstream").config(&yaml).start();
    for _ in 0..30 {
        let id = new_id();
        assert_accepted(&hookward.post(&signed(body(&id)).target("/slow")), &id);
    }
    sink.wait_for(1);
    // After the restart they are a backlog, whose attempts hang and so fill the half that is theirs.
    hookward.kill9();
    hookward.start_again();
    sink.wait_for(3);
    let begun = Instant::now();
    let id = post_sentinel_to("/quick", &hookward, &sink);
    assert!(begun.elapsed() < Duration::from_secs(5), "{id} waited {:?} of the 15 s timeout", begun.elapsed());
}

#[test]
fn a_stop_does_not_wait_for_what_cannot_be_delivered_within_it() {
    let sink = Sink::start();
    sink.replies([Reply::Answer(503, vec![("Retry-After", "3600".to_owned())])]);
    let mut hookward = Setup::new(&sink).config("shutdown: { drain: 60s }\n").start();
    let id = post_event(&hookward);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "retry")], 1.0);
    let begun = Instant::now();
    hookward.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    hookward.start_again();
    assert_eq!(sink.wait_for(2)[1].event_id(), id, "it is there after the restart");
}

#[test]
fn a_stop_waits_for_a_retry_that_is_due_within_it() {
    let sink = Sink::start();
    sink.replies([Reply::Answer(503, vec![("Retry-After", "1".to_owned())])]);
    let mut hookward = Setup::new(&sink).config("shutdown: { drain: 60s }\n").start();
    post_event(&hookward);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "retry")], 1.0);
    hookward.stop();
    assert_eq!(sink.count(), 2, "{}", hookward.stderr());
}

fn post_type(hookward: &Hookward, event_type: &str) -> String {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body_of(&id, event_type))), &id);
    id
}

fn has_come(received: &[Received], id: &str) -> bool {
    received.iter().any(|received| received.event_id() == id)
}

fn is_fax(received: &Received) -> bool {
    String::from_utf8_lossy(&received.body).contains("fax.received")
}

#[test]
fn a_type_of_events_that_takes_long_does_not_hold_up_the_others() {
    let sink = Sink::start();
    sink.behave(|received| if is_fax(received) { Reply::Hold } else { Reply::status(200) });
    let yaml = format!("upstream: {{ url: \"{}\", max_concurrency: 16, timeout: 60s }}\n", sink.url());
    let hookward = Setup::new(&sink).without_flag("--upstream").config(&yaml).start();
    post_type(&hookward, "message.sent");
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    for _ in 0..40 {
        post_type(&hookward, "fax.received");
    }
    sink.wait_for(2);
    let others: Vec<String> = (0..40).map(|_| post_type(&hookward, "message.sent")).collect();
    let come = |all: &[Received]| others.iter().all(|id| has_come(all, id));
    let received = sink.wait_until(come);
    let held = received.iter().filter(|received| is_fax(received)).count();
    assert!((1..40).contains(&held), "{held} of 40 are held, and the others wait for slots of theirs");
    assert_eq!(hookward.metrics().value("hookward_upstream_state", &[]), 0.0);
    sink.release();
    sink.wait_for(81);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
}

#[test]
fn a_type_of_events_that_always_fails_does_not_stop_the_others() {
    let sink = Sink::start();
    sink.behave(|received| Reply::status(if is_fax(received) { 500 } else { 200 }));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    post_type(&hookward, "message.sent");
    sink.wait_for(1);
    for _ in 0..30 {
        post_type(&hookward, "fax.received");
    }
    // Three quarters of all attempts and more have failed by now.
    hookward.await_metrics("retries", |m| m.value("hookward_delivery_attempts_total", &[("result", "retry")]) >= 100.0);
    let other = post_type(&hookward, "message.sent");
    sink.wait_until(|all| has_come(all, &other));
    assert!(!hookward.stderr().contains("not tried any more"), "{}", hookward.stderr());
}

#[test]
fn an_app_that_is_back_and_refuses_what_is_old_gets_what_is_new() {
    let (mut sink, hookward) = with_open_breaker();
    for _ in 0..30 {
        post_event(&hookward);
    }
    sink.behave(|received| Reply::status(if is_fax(received) { 200 } else { 404 }));
    sink.start_again();
    let new = post_type(&hookward, "fax.received");
    sink.wait_until(|all| has_come(all, &new));
    hookward.await_log("the app takes events again");
    hookward.await_metric("hookward_upstream_state", &[], 0.0);
}

#[test]
fn the_504_of_a_hop_before_the_app_narrows_the_window_as_a_timeout_does() {
    let sink = Sink::start();
    sink.replies([Reply::status(504), Reply::status(504)]);
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let window = |hookward: &Hookward| status(hookward)["concurrency"].as_u64().unwrap();
    let before = window(&hookward);
    post_event(&hookward);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    assert!(window(&hookward) < before, "{} of {before}", window(&hookward));
}
