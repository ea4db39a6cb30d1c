//! The app in every mood, and what hookward makes of it.

use std::time::Duration;

use super::harness::raw_app::{RawApp, write};
use super::harness::*;

fn post_event(hookward: &Hookward) -> String {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    id
}

#[test]
fn while_the_app_is_down_events_are_accepted_and_delivered_when_it_is_up_again() {
    let mut sink = Sink::start();
    sink.stop();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let mut ids: Vec<_> = (0..10).map(|_| post_event(&hookward)).collect();
    hookward.await_metrics("a retry", |m| m.value("hookward_delivery_attempts_total", &[("result", "retry")]) >= 1.0);
    assert_eq!(hookward.metrics().value("hookward_buffer_events", &[("state", "pending")]), 10.0);
    assert_eq!(
        hookward.admin(&Request::get("/readyz")).status,
        200,
        "an app that is down is no reason to refuse events"
    );
    sink.start_again();
    let received = sink.wait_for(10);
    let mut arrived: Vec<_> = received.iter().map(Received::event_id).collect();
    arrived.sort();
    ids.sort();
    assert_eq!(arrived, ids);
    for received in &received {
        assert_eq!(received.body, body(&received.event_id()));
    }
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    let metrics = hookward.await_metric("hookward_upstream_state", &[], 0.0);
    assert_eq!(metrics.value("hookward_buffer_oldest_pending_timestamp_seconds", &[]), 0.0);
}

#[test]
fn a_slow_app_is_not_in_the_senders_way() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let hookward = Setup::new(&sink).start();
    let first = post_event(&hookward);
    sink.wait_for(1);
    let mut ids = vec![first];
    for _ in 0..50 {
        ids.push(post_event(&hookward));
    }
    let metrics = hookward.metrics();
    assert_eq!(metrics.value("hookward_buffer_events", &[("state", "pending")]), 51.0, "none is answered yet");
    sink.release();
    let received = sink.wait_until(|all| all.len() >= 51);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    let arrived: std::collections::HashSet<_> = received.iter().map(Received::event_id).collect();
    assert!(ids.iter().all(|id| arrived.contains(id)));
    assert_eq!(sink.count(), 51, "each once");
}

#[test]
fn no_more_than_max_concurrency_are_under_way_at_once() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let yaml = format!("upstream: {{ url: \"{}\", max_concurrency: 3 }}\n", sink.url());
    let hookward = Setup::new(&sink).without_flag("--upstream").config(&yaml).start();
    for _ in 0..10 {
        post_event(&hookward);
    }
    // How many it dares at once may grow from less.
    sink.wait_for(1);
    poll("the sink stays at its bound", || {
        let before = sink.count();
        std::thread::sleep(Duration::from_millis(200));
        (sink.count() == before).then_some(())
    });
    assert!(sink.count() <= 3, "{}", sink.count());
    sink.release();
    sink.wait_for(10);
}

#[test]
fn answers_that_mean_later_are_tried_again_until_the_app_takes_it() {
    let sink = Sink::start();
    let statuses = [500, 408, 425, 429, 502, 503, 504, 599];
    sink.replies(statuses.map(Reply::status));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = post_event(&hookward);
    let received = sink.wait_for(statuses.len() + 1);
    assert!(received.iter().all(|r| r.event_id() == id && r.body == body(&id)));
    let metrics = hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]), statuses.len() as f64);
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "dead")]), 0.0);
}

#[test]
fn any_2xx_means_delivered() {
    let without_body = Reply::Raw(b"HTTP/1.1 204 No Content\r\n\r\n");
    let until_close = Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\nas long as it lasts");
    let chunked = Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let after_interim = Reply::Raw(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let bare = [200, 201, 202, 299].map(Reply::status);
    let (sink, hookward) = pair();
    for (index, reply) in bare.into_iter().chain([without_body, until_close, chunked, after_interim]).enumerate() {
        sink.replies([reply.clone()]);
        post_event(&hookward);
        let delivered = index as f64 + 1.0;
        hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], delivered);
        assert_eq!(sink.count(), index + 1, "{reply:?}");
    }
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
}

/// The app asks for two seconds with this status, of its first event only.
fn asked_to_wait(status: u16) -> (Sink, Hookward, Received) {
    let sink = Sink::start();
    sink.replies([Reply::Answer(status, vec![("Retry-After", "2".to_owned())])]);
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    post_event(&hookward);
    let refused = sink.first();
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "retry")], 1.0);
    (sink, hookward, refused)
}

#[test]
fn retry_after_of_a_503_holds_the_whole_destination() {
    let (sink, hookward, refused) = asked_to_wait(503);
    let until = hookward.metrics().value("hookward_upstream_held_until_timestamp_seconds", &[]);
    assert!(until > 0.0, "{until}");
    post_event(&hookward);
    let received = sink.wait_for(3);
    for later in &received[1..] {
        let held = later.at.duration_since(refused.at);
        assert!(held >= Duration::from_millis(1900), "{held:?} {}", later.head());
        assert!(held < Duration::from_secs(10), "{held:?}");
    }
    hookward.await_metric("hookward_upstream_held_until_timestamp_seconds", &[], 0.0);
}

#[test]
fn retry_after_of_a_429_holds_its_own_event_and_no_other() {
    let (sink, hookward, refused) = asked_to_wait(429);
    assert_eq!(hookward.metrics().value("hookward_upstream_held_until_timestamp_seconds", &[]), 0.0);
    let other = post_event(&hookward);
    let received = sink.wait_for(3);
    assert_eq!(received[1].event_id(), other, "it did not wait");
    assert_eq!(received[2].event_id(), refused.event_id());
    assert!(received[2].at.duration_since(refused.at) >= Duration::from_millis(1900));
}

#[test]
fn retry_after_of_a_429_to_several_events_in_a_row_holds_the_destination() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Answer(429, vec![("Retry-After", "3600".to_owned())]));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    for _ in 0..3 {
        post_event(&hookward);
    }
    let until = |m: &metrics::Metrics| m.value("hookward_upstream_held_until_timestamp_seconds", &[]);
    hookward.await_metrics("held", |m| until(m) > 0.0);
    let tried = sink.count();
    post_event(&hookward);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 4.0);
    assert_eq!(sink.count(), tried);
}

#[test]
fn a_client_error_is_dead_after_client_errors_attempts() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let yaml = "delivery: { retry: { base: 20ms, max: 100ms, client_errors: 1 } }\n";
    let hookward = Setup::new(&sink).config(yaml).start();
    for (count, status) in [400, 401, 404, 410, 422].into_iter().enumerate() {
        sink.behave(move |_| Reply::status(status));
        post_event(&hookward);
        let metrics = hookward.await_metric("hookward_buffer_events", &[("state", "dead")], count as f64 + 1.0);
        assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "dead")]), count as f64 + 1.0);
        assert_eq!(metrics.value("hookward_buffer_events", &[("state", "pending")]), 0.0);
    }
    // The next is delivered: nothing stands in its way.
    sink.behave(|_| Reply::status(200));
    post_event(&hookward);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    assert_eq!(sink.count(), 6);
}

#[test]
fn a_client_error_is_tried_again_within_its_number_of_attempts() {
    let sink = Sink::start();
    sink.replies([Reply::status(404)]);
    let hookward = Setup::new(&sink).config("delivery: { retry: { client_errors: 2 } }\n").start();
    let id = post_event(&hookward);
    let received = sink.wait_for(2);
    assert_eq!(received[1].event_id(), id);
    assert_eq!(received[1].attempt(), 2);
    let between = received[1].at.duration_since(received[0].at);
    assert!(between >= Duration::from_millis(500), "about a second, not {between:?}");
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
}

#[test]
fn a_redirect_is_not_followed() {
    let sink = Sink::start();
    let elsewhere = Sink::start();
    let location = format!("{}/elsewhere", elsewhere.url());
    sink.behave(move |_| Reply::Answer(302, vec![("Location", location.clone())]));
    let hookward = Setup::new(&sink).config("delivery: { retry: { client_errors: 1 } }\n").start();
    post_event(&hookward);
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    assert_eq!((sink.count(), elsewhere.count()), (1, 0));
}

#[test]
fn a_connection_that_is_reset_is_no_answer() {
    let sink = Sink::start();
    sink.reset_next(3);
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = post_event(&hookward);
    let received = sink.wait_for(1);
    assert_eq!((received[0].event_id(), sink.resets_done()), (id, 3));
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
}

#[test]
fn half_an_answer_is_no_answer() {
    let sink = Sink::start();
    let halves: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    sink.replies(halves.map(Reply::Raw));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = post_event(&hookward);
    let received = sink.wait_for(halves.len() + 1);
    assert!(received.iter().all(|r| r.event_id() == id));
    let metrics = hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    assert!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]) >= 1.0);
}

#[test]
fn a_2xx_is_delivered_however_the_rest_of_the_answer_ends() {
    let sink = Sink::start();
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n5\r\n",
    ];
    sink.replies(answers.map(Reply::Raw));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    for _ in answers {
        post_event(&hookward);
    }
    let metrics = hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 3.0);
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]), 0.0);
    // A 204 has no body, whatever it says of a length. The end of an answer is counted after its status.
    hookward.await_metric("hookward_upstream_unfinished_answers_total", &[], 2.0);
    assert_eq!(sink.count(), 3, "each once");
}

#[test]
fn a_2xx_whose_end_never_comes_is_delivered_and_costs_the_connection() {
    let app = RawApp::start(|_, socket| {
        write(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok");
        true
    });
    let yaml = format!("upstream: {{ url: \"{}\", timeout: 500ms }}\n{QUICK_RETRIES}", app.url());
    let hookward = Setup::without_upstream().config(&yaml).start();
    // One after the other, as the app takes its connections.
    for delivered in [1.0, 2.0] {
        post_event(&hookward);
        hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], delivered);
    }
    assert_eq!(hookward.metrics().value("hookward_upstream_unfinished_answers_total", &[]), 2.0);
    assert_eq!(app.waiting().len(), 2, "each once");
}

#[test]
fn an_app_that_takes_too_long_is_tried_again() {
    let sink = Sink::start();
    sink.replies([Reply::Hold]);
    let yaml = format!("upstream: {{ url: \"{}\", timeout: 300ms }}\n{QUICK_RETRIES}", sink.url());
    let hookward = Setup::new(&sink).without_flag("--upstream").config(&yaml).start();
    let id = post_event(&hookward);
    let received = sink.wait_for(2);
    assert!(received.iter().all(|r| r.event_id() == id));
    assert!(received[1].at.duration_since(received[0].at) >= Duration::from_millis(250));
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
}

#[test]
fn after_max_age_an_event_is_dead() {
    let mut sink = Sink::start();
    sink.stop();
    let yaml = "delivery: { retry: { base: 20ms, max: 50ms, max_age: 1s } }\n";
    let hookward = Setup::new(&sink).config(yaml).start();
    post_event(&hookward);
    assert_eq!(hookward.metrics().value("hookward_buffer_events", &[("state", "dead")]), 0.0);
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    assert_eq!(hookward.metrics().value("hookward_buffer_events", &[("state", "pending")]), 0.0);
}

#[test]
fn one_event_that_the_app_does_not_take_does_not_hold_up_the_others() {
    let sink = Sink::start();
    sink.behave(|received| Reply::status(if received.event_id() == "poison" { 500 } else { 200 }));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    assert_accepted(&hookward.post(&signed(body("poison"))), "poison");
    sink.first();
    for _ in 0..20 {
        post_event(&hookward);
    }
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 20.0);
    sink.wait_until(|all| all.iter().filter(|r| r.event_id() == "poison").count() >= 3);
    sink.behave(|_| Reply::status(200));
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
}

#[test]
fn an_app_on_a_unix_socket_gets_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::start_unix(&dir.path().join("app.sock"));
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = post_event(&hookward);
    let received = sink.first();
    assert_eq!((received.event_id(), &received.body), (id.clone(), &body(&id)));
    assert_eq!(received.header("host"), event::HOST);
    // Recorded is not yet answered, and an answer that is cut off means a second delivery.
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    sink.stop();
    let id = post_event(&hookward);
    sink.start_again();
    assert_eq!(sink.wait_for(2)[1].event_id(), id);
}

#[test]
fn connections_to_the_app_are_used_again() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).start();
    for _ in 0..30 {
        post_event(&hookward);
        hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    }
    assert!(sink.connections() <= 3, "{} connections for 30 events, one after the other", sink.connections());
}

#[test]
fn an_event_is_never_delivered_twice_when_nothing_goes_wrong() {
    let (sink, hookward) = pair();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut wire = hookward.connect();
                for _ in 0..50 {
                    assert_eq!(wire.ask(&event()).status, 200);
                }
            });
        }
    });
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 400.0);
    let ids: std::collections::HashSet<_> = sink.received().iter().map(Received::delivery_id).collect();
    assert_eq!((sink.count(), ids.len()), (400, 400));
}
