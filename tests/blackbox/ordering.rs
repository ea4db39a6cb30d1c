//! `delivery.ordering`: one event of a key at a time, in order, across failures and restarts.

use std::collections::HashMap;
use std::time::Duration;

use super::harness::*;

const BY_ARRIVAL: &str = "delivery: { retry: { base: 200ms, max: 400ms }, ordering: { key: /data/payload/id } }\n";

/// An event of this key that tells its number in the id.
fn keyed(key: &str, number: usize) -> (String, Request) {
    let id = format!("{key}-{number}");
    let body = format!(r#"{{"data":{{"id":"{id}","event_type":"message.sent","payload":{{"id":"{key}"}}}}}}"#);
    (id, signed(body.into_bytes()))
}

fn post(hookward: &Hookward, key: &str, number: usize) {
    let (id, request) = keyed(key, number);
    assert_accepted(&hookward.post(&request), &id);
}

/// The ids of what was taken, by key and in the order of the requests.
fn taken(received: &[Received], is_taken: impl Fn(&Received) -> bool) -> HashMap<String, Vec<usize>> {
    let mut keys: HashMap<String, Vec<usize>> = HashMap::new();
    for received in received.iter().filter(|received| is_taken(received)) {
        let id = received.event_id();
        let (key, number) = id.split_once('-').unwrap();
        keys.entry(key.to_owned()).or_default().push(number.parse().unwrap());
    }
    keys
}

#[test]
fn events_of_a_key_arrive_in_order_though_the_app_fails_at_random() {
    let sink = Sink::start();
    // Every third request fails.
    let mut count = 0;
    sink.behave(move |_| {
        count += 1;
        Reply::status(if count % 3 == 0 { 500 } else { 200 })
    });
    let hookward = Setup::new(&sink).config(BY_ARRIVAL).start();
    for number in 0..10 {
        for key in ["a", "b", "c"] {
            post(&hookward, key, number);
        }
    }
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 30.0);
    let mut requests = 0;
    let received = sink.received();
    let good: Vec<_> = received
        .into_iter()
        .filter(|_| {
            requests += 1;
            requests % 3 != 0
        })
        .collect();
    for (key, numbers) in taken(&good, |_| true) {
        assert_eq!(numbers, (0..10).collect::<Vec<_>>(), "{key}");
    }
}

#[test]
fn a_failing_head_blocks_its_key_only_and_no_longer_than_max_block() {
    let sink = Sink::start();
    sink.behave(|received| Reply::status(if received.event_id() == "a-0" { 500 } else { 200 }));
    let yaml = "delivery: { retry: { base: 1h, max: 1h }, ordering: { key: /data/payload/id, max_block: 2s } }\n";
    let hookward = Setup::new(&sink).config(yaml).start();
    post(&hookward, "a", 0);
    let failed = sink.first();
    post(&hookward, "a", 1);
    for number in 0..5 {
        post(&hookward, "b", number);
    }
    let received = sink.wait_until(|all| all.iter().any(|one| one.event_id() == "a-1"));
    let blocked = received.last().unwrap();
    assert_eq!(blocked.event_id(), "a-1", "the others did not wait: {}", Received::list(&received));
    assert_eq!(received.len(), 7);
    let waited = blocked.at.duration_since(failed.at);
    assert!(waited >= Duration::from_millis(1900), "{waited:?}");
}

#[test]
fn order_holds_across_a_restart_in_the_middle() {
    let mut sink = Sink::start();
    sink.stop();
    let mut hookward = Setup::new(&sink).config(BY_ARRIVAL).start();
    for number in 0..40 {
        for key in ["a", "b"] {
            post(&hookward, key, number);
        }
        if number == 20 {
            // The first of each key have failed by now and wait for their retries.
            hookward.await_metrics("a retry", |m| {
                m.value("hookward_delivery_attempts_total", &[("result", "retry")]) >= 2.0
            });
            hookward.kill9();
            hookward.start_again();
        }
    }
    sink.start_again();
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    for (key, numbers) in taken(&sink.received(), |_| true) {
        assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "{key}");
    }
}

#[test]
fn events_without_the_key_do_not_wait_for_each_other() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let hookward = Setup::new(&sink).config("delivery: { ordering: { key: /data/not/there } }\n").start();
    for number in 0..3 {
        post(&hookward, "a", number);
    }
    sink.wait_for(3);
    sink.release();
}

/// Plays so many messages whose `message.finalized` comes first; the event types that reached the
/// app, by message.
fn send_out_of_order(yaml: &str, messages: usize) -> HashMap<String, Vec<String>> {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config(yaml).start();
    let url = format!("http://{}/", hookward.listen());
    let secret = event::secret_key();
    let count = messages.to_string();
    let flags = ["--scenario", "out-of-order", "--count", &count, "--concurrency", "4"];
    let sent = run_to_end(&[&["send", &url, "--secret-key", &secret], &flags[..]].concat());
    assert_eq!(sent.code, Some(0), "{}{}", sent.stdout, sent.stderr);
    let mut order: HashMap<String, Vec<String>> = HashMap::new();
    for received in sink.wait_for(2 * messages) {
        let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let data = &body["data"];
        order.entry(text(&data["payload"]["id"])).or_default().push(text(&data["event_type"]));
    }
    order
}

#[test]
fn a_window_puts_right_what_was_sent_out_of_order() {
    let yaml = "delivery: { ordering: { key: /data/payload/id, reorder_window: 2s } }\n";
    let order = send_out_of_order(yaml, 20);
    assert_eq!(order.len(), 20);
    for (message, types) in order {
        assert_eq!(types, ["message.sent", "message.finalized"], "{message}");
    }
}

#[test]
fn without_a_window_what_was_sent_out_of_order_arrives_so() {
    for (message, types) in send_out_of_order(BY_ARRIVAL, 5) {
        assert_eq!(types, ["message.finalized", "message.sent"], "{message}");
    }
}
