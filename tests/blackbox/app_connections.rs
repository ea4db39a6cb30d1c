//! Idle connections to the app that it closes just as the next request comes.

use std::collections::HashSet;

use super::harness::raw_app::{RawApp, RawRequest, answer, write};
use super::harness::*;

/// An app that answers the first request of each connection, and leaves the second with these bytes.
fn leaves_the_second(with: &'static [u8]) -> RawApp {
    let mut known = HashSet::new();
    RawApp::start(move |_, socket| {
        let is_first = known.insert(socket.peer_addr().unwrap());
        let bytes = if is_first { answer("200 OK", "", b"ok") } else { with.to_vec() };
        write(socket, &bytes) && is_first
    })
}

fn in_mode(mode: &str, app: &RawApp) -> Hookward {
    let yaml = format!("routes: [ {{ name: voice, path: \"/*\", mode: {mode} }} ]\n");
    let setup = Setup::without_upstream().flag("--upstream", &app.url()).config(&yaml);
    if mode == "pass" {
        setup.without_flag("--ip-allowlist").without_flag("--public-key").start()
    } else {
        setup.start()
    }
}

fn attempts(requests: &[RawRequest]) -> Vec<&str> {
    requests.iter().map(|request| request.header("hookward-attempt").unwrap()).collect()
}

#[test]
fn a_proxied_event_goes_out_once_more_as_the_next_attempt_with_the_same_delivery_id() {
    let app = leaves_the_second(b"");
    let hookward = in_mode("proxy", &app);
    assert_eq!(hookward.post(&event()).status, 200);
    let second = event();
    assert_eq!(hookward.post(&second).status, 200);
    let seen = [app.next_request(), app.next_request(), app.next_request()];
    assert_eq!(attempts(&seen), ["1", "1", "2"]);
    assert_eq!(seen[1].body, seen[2].body);
    assert_eq!(seen[1].header("hookward-delivery-id"), seen[2].header("hookward-delivery-id"));
    assert_ne!(seen[0].header("hookward-delivery-id"), seen[1].header("hookward-delivery-id"));
    assert!(app.waiting().is_empty());
}

#[test]
fn an_answer_that_had_begun_is_no_reason_to_send_again() {
    let app = leaves_the_second(b"HTTP/1.1 200 OK\r\nContent-Le");
    let hookward = in_mode("proxy", &app);
    assert_eq!(hookward.post(&event()).status, 200);
    assert_refused(&hookward.post(&event()), 502, "upstream_failed");
    app.next_request();
    app.next_request();
    assert!(app.waiting().is_empty());
}

#[test]
fn a_new_connection_that_is_closed_is_no_reason_to_send_again() {
    let app = RawApp::start(|_, _| false);
    let hookward = in_mode("proxy", &app);
    assert_refused(&hookward.post(&event()), 502, "upstream_failed");
    app.next_request();
    assert!(app.waiting().is_empty());
    let log = hookward.await_log("upstream_failed");
    assert!(log.contains("the connection ended before a complete answer"), "{log}");
}

#[test]
fn of_what_is_passed_only_that_is_sent_again_which_does_no_harm_twice() {
    let bare = |method| Request::new(method, "/x");
    let with_body = |method| bare(method).body("some bytes");
    for (request, sent) in [
        (bare("GET"), 2),
        (bare("DELETE"), 2),
        // Its body has gone by and is not held.
        (with_body("PUT"), 1),
        (with_body("POST"), 1),
        (bare("PATCH"), 1),
    ] {
        let app = leaves_the_second(b"");
        let hookward = in_mode("pass", &app);
        assert_eq!(hookward.post(&Request::get("/first")).status, 200);
        let status = hookward.post(&request).status;
        assert_eq!(status, if sent == 2 { 200 } else { 502 }, "{request:?}");
        app.next_request();
        for _ in 0..sent {
            app.next_request();
        }
        assert!(app.waiting().is_empty(), "{request:?}");
    }
}

#[test]
fn a_stored_event_goes_out_once_more_at_once() {
    let app = leaves_the_second(b"");
    let hookward = in_mode("ack", &app);
    for _ in 0..2 {
        assert_eq!(hookward.post(&event()).status, 200);
        hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    }
    let seen = [app.next_request(), app.next_request(), app.next_request()];
    assert_eq!(attempts(&seen), ["1", "1", "2"]);
    assert_eq!(hookward.metrics().value("hookward_delivery_attempts_total", &[("result", "retry")]), 0.0);
}
