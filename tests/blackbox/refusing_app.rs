//! Apps that refuse genuine events: what is said about it, and where.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::harness::*;

/// What Sinatra answers to a host that it does not allow.
const HOST_REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 18\r\n\r\nHost not permitted";

/// One attempt, then a dead letter.
const ONE_ATTEMPT: &str = "delivery: { retry: { client_errors: 1 } }\n";

fn sign() -> String {
    format!("upstream: {{ sign: {{ scheme: telnyx, key: {{ value: \"{}\" }} }} }}\n", STANDARD.encode([9; 32]))
}

fn refuses(hookward: &Hookward) -> Vec<Value> {
    let status = hookward.admin_socket(&Request::get("/api/v1/status")).json();
    status["upstream"][0]["refuses"].as_array().unwrap().clone()
}

/// The error of the newest event once an attempt at it has ended.
fn last_error(hookward: &Hookward) -> String {
    poll("an attempt's error", || {
        let events = hookward.admin_socket(&Request::get("/api/v1/events?limit=1")).json();
        events["events"][0]["last_error"].as_str().map(str::to_owned)
    })
}

/// Posts one event, which the app refuses; the error of its attempt.
fn refused(hookward: &Hookward, request: &Request) -> String {
    assert_eq!(hookward.post(request).status, 200);
    last_error(hookward)
}

#[test]
fn a_path_that_the_app_does_not_know_is_in_log_and_status_until_its_events_are_taken() {
    let (sink, hookward) = pair_with(QUICK_RETRIES);
    sink.behave(|received| Reply::status(if received.target.starts_with("/webhok") { 404 } else { 200 }));
    assert_eq!(hookward.post(&event().target("/webhooks")).status, 200);
    assert_eq!(hookward.post(&event().target("/webhok?of=portal")).status, 200);
    let line = hookward.await_log("the app refuses the events of a path");
    assert!(line.contains("the app answered 404 Not Found; the app does not know this path"), "{line}");
    let refused = poll("in the status", || refuses(&hookward).pop());
    assert_eq!((refused["path"].as_str(), refused["status"].as_u64()), (Some("/webhok"), Some(404)));
    assert!(refused["error"].as_str().unwrap().contains("webhook URL in the portal"), "{refused}");
    sink.behave(|_| Reply::status(200));
    poll("its events are taken", || refuses(&hookward).is_empty().then_some(()));
}

#[test]
fn an_event_that_telnyx_sent_late_is_refused_for_the_age_of_its_signature() {
    let (sink, hookward) = pair_with(ONE_ATTEMPT);
    sink.behave(|_| Reply::status(401));
    let error = refused(&hookward, &signed_at(now_s() - 290, body(&new_id())));
    let age_s: i64 = error.split("Telnyx signed it ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((290..290 + DEADLINE.as_secs().cast_signed()).contains(&age_s), "{error}");
}

#[test]
fn what_an_app_has_taken_before_tells_a_wrong_key_from_another_check() {
    let (sink, hookward) = pair_with(&format!("{ONE_ATTEMPT}{}", sign()));
    sink.behave(|_| Reply::status(403));
    let first = refused(&hookward, &event());
    assert!(first.contains("has taken nothing so signed") && first.contains("hookward pubkey"), "{first}");
    sink.behave(|_| Reply::status(200));
    assert_eq!(hookward.post(&event()).status, 200);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    sink.behave(|_| Reply::status(403));
    let then = refused(&hookward, &event());
    assert!(then.contains("the app has taken events so signed"), "{then}");
    let form = signed(b"CallSid=v3%3Aabc".to_vec()).without("Content-Type");
    let form = refused(&hookward, &form.header("Content-Type", "application/x-www-form-urlencoded"));
    assert!(form.contains("it is a form (TeXML)"), "{form}");
}

#[test]
fn an_app_whose_clock_is_off_is_named_by_the_date_of_its_answer() {
    let (sink, hookward) = pair_with(&format!("{ONE_ATTEMPT}{}", sign()));
    let date = ("Date", "Tue, 14 Nov 2023 22:13:20 GMT".to_owned());
    sink.behave(move |_| Reply::Answer(401, vec![date.clone()]));
    let error = refused(&hookward, &event());
    assert!(error.contains("the app's clock is") && error.contains("s behind this machine's"), "{error}");
}

#[test]
fn a_verifier_that_throws_is_named_for_what_it_is() {
    let (sink, hookward) = pair_with(&format!("{QUICK_RETRIES}{}", sign()));
    sink.behave(|_| Reply::status(500));
    let error = refused(&hookward, &event());
    assert!(error.contains("500 Internal Server Error") && error.contains("its verifier fails"), "{error}");
    assert_eq!(refuses(&hookward)[0]["status"], 500);
}

#[test]
fn an_app_that_checks_hosts_is_named_and_gets_its_events_once_it_is_asked_by_its_own_host_alone() {
    let checks_hosts = |received: &Received| {
        let hosts = ["host", "x-forwarded-host"].map(|name| received.all(name)).concat();
        let permitted = hosts.iter().all(|host| host == "localhost") && !received.has("forwarded");
        if permitted { Reply::status(200) } else { Reply::Raw(HOST_REFUSED) }
    };
    let sink = Sink::start();
    sink.behave(checks_hosts);
    for upstream in ["", "upstream: { host: localhost }\n"] {
        let hookward = Setup::new(&sink).config(&format!("{ONE_ATTEMPT}{upstream}")).start();
        let error = refused(&hookward, &event());
        assert!(error.contains("the app refuses the host that it is asked for"), "{error}");
        assert!(error.contains("upstream.host") && error.contains("upstream.forwarded"), "{error}");
    }

    let routes = "routes: [ { name: hooks, path: /hooks }, { name: voice, path: /voice, mode: proxy }, \
                  { name: open, path: /open, mode: pass } ]\n";
    for (forwarded, told) in [("client", true), ("off", false)] {
        let yaml = format!("{routes}upstream: {{ host: localhost, forwarded: {forwarded} }}\n");
        let hookward = Setup::new(&sink).config(&yaml).start();
        for path in ["/hooks", "/voice", "/open"] {
            let before = sink.count();
            assert_eq!(hookward.post(&event().target(path)).status, 200, "{path}");
            let received = sink.wait_for(before + 1).pop().unwrap();
            assert_eq!(received.has("x-forwarded-for") && received.has("x-forwarded-proto"), told, "{path}");
        }
        hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    }
}

#[test]
fn a_proxied_event_that_the_app_refuses_has_the_hint_in_its_log_line() {
    let (sink, hookward) = pair_with(&format!("routes: [ {{ mode: proxy }} ]\n{}", sign()));
    sink.replies([Reply::status(403), Reply::status(200), Reply::status(404)]);
    assert_eq!(hookward.post(&event()).status, 403);
    let line = hookward.await_log("has taken nothing so signed");
    assert!(line.contains("passed"), "{line}");
    assert_eq!(hookward.post(&event()).status, 200);
    assert_eq!(hookward.post(&event()).status, 404);
    hookward.await_log("the app does not know this path");
}
