//! Going down in order, and coming back with what was left.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::harness::*;

/// Goes down without waiting for an app that does not answer.
const SHORT_DRAIN: &str = "
delivery: { retry: { base: 20ms, max: 200ms } }
shutdown: { drain: 100ms }
";

#[test]
fn what_the_app_has_not_taken_is_delivered_after_a_restart() {
    let mut sink = Sink::start();
    sink.stop();
    let mut hookward = Setup::new(&sink).config(SHORT_DRAIN).start();
    let mut ids: Vec<_> = (0..25).map(|_| new_id()).collect();
    for id in &ids {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    hookward.stop();
    sink.start_again();
    hookward.start_again();
    assert_eq!(hookward.metrics().value("hookward_buffer_recovered_events", &[]), 25.0);
    let received = sink.wait_for(25);
    let mut arrived: Vec<_> = received.iter().map(Received::event_id).collect();
    arrived.sort();
    ids.sort();
    assert_eq!(arrived, ids);
    assert!(
        received.iter().all(|r| r.body == body(&r.event_id()) && r.header("hookward-verified") == "telnyx; key=key1")
    );
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    hookward.restart();
    assert_eq!(hookward.metrics().value("hookward_buffer_recovered_events", &[]), 0.0);
    assert_nothing_more(&hookward, &sink, 25);
}

fn assert_nothing_more(hookward: &Hookward, sink: &Sink, before: usize) {
    post_sentinel(hookward, sink);
    assert_eq!(sink.count(), before + 1, "{}", Received::list(&sink.received()));
}

#[test]
fn the_delivery_id_and_the_time_of_receipt_outlive_a_restart() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(503));
    let mut hookward = Setup::new(&sink).config(SHORT_DRAIN).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id)).target("/a?b=c").header("X-Kept", "1")), &id);
    let first = sink.first();
    hookward.stop();
    let before = sink.count();
    sink.behave(|_| Reply::status(200));
    hookward.start_again();
    let again = sink.wait_for(before + 1).pop().unwrap();
    for name in [
        "hookward-delivery-id",
        "hookward-received-at",
        "hookward-event-type",
        "x-kept",
        "telnyx-timestamp",
        "x-forwarded-for",
    ] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!((again.target.as_str(), &again.body), ("/a?b=c", &first.body));
    assert!(again.attempt() > 1, "attempts go on counting: {}", again.head());
}

#[test]
fn dead_events_stay_dead_over_a_restart() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let yaml = "delivery: { retry: { client_errors: 1 } }\n";
    let mut hookward = Setup::new(&sink).config(yaml).start();
    assert_eq!(hookward.post(&event()).status, 200);
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    hookward.kill9();
    hookward.start_again();
    assert_eq!(hookward.metrics().value("hookward_buffer_events", &[("state", "dead")]), 1.0);
    sink.behave(|_| Reply::status(200));
    assert_nothing_more(&hookward, &sink, 1);
}

#[test]
fn sigterm_answers_what_is_in_flight_delivers_it_and_exits_0() {
    let (sink, mut hookward) = pair();
    let id = new_id();
    let request = signed(body(&id));
    let bytes = request.bytes();
    let (sent, rest) = bytes.split_at(request.head().len() + 10);
    let mut in_flight = hookward.connect();
    in_flight.send(sent);
    hookward.await_metric("hookward_requests_in_flight", &[], 1.0);
    hookward.sigterm();
    poll("nobody else gets in", || match Wire::try_connect(hookward.listen()) {
        Err(_) => Some(()),
        Ok(mut wire) => {
            let _ = wire.try_send(event().bytes());
            match wire.try_answer() {
                Ok(Some(answer)) if answer.status == 200 => None,
                Ok(Some(answer)) => {
                    assert_refused(&answer, 503, "draining");
                    Some(())
                }
                Ok(None) | Err(_) => Some(()),
            }
        }
    });
    in_flight.send(rest);
    assert_accepted(&in_flight.answer(), &id);
    assert_eq!(hookward.wait_exit(), Some(0), "{}", hookward.stderr());
    let arrived = sink.received();
    assert!(arrived.iter().any(|r| r.event_id() == id), "delivered within the drain: {}", Received::list(&arrived));
}

#[test]
fn an_idle_connection_does_not_keep_it_from_going_down() {
    let (sink, mut hookward) = pair();
    let mut used = hookward.connect();
    assert_eq!(used.ask(&event()).status, 200);
    let mut unused = hookward.connect();
    sink.first();
    let started = Instant::now();
    hookward.stop();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!((used.end(), unused.end()), (vec![], vec![]));
}

#[test]
fn during_shutdown_delay_it_is_not_ready_and_still_accepts() {
    let (sink, mut hookward) = pair_with("shutdown: { delay: 2s, drain: 5s }\n");
    assert_eq!(hookward.admin(&Request::get("/readyz")).status, 200);
    hookward.sigterm();
    let answer = poll("not ready", || {
        let answer = hookward.admin(&Request::get("/readyz"));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("draining"), "{answer:?}");
    assert_eq!(hookward.admin(&Request::get("/livez")).status, 200);
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    assert_eq!(sink.first().event_id(), id);
    assert_eq!(hookward.wait_exit(), Some(0), "{}", hookward.stderr());
}

#[test]
fn the_drain_ends_in_time_although_the_app_does_not_answer() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let mut hookward = Setup::new(&sink).config("shutdown: { drain: 300ms }\n").start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    sink.first();
    let started = Instant::now();
    hookward.stop();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    sink.release();
    hookward.start_again();
    let received = sink.wait_for(2);
    assert_eq!(received[0].delivery_id(), received[1].delivery_id());
}

#[test]
fn the_drain_delivers_what_it_can() {
    let sink = Sink::start();
    sink.replies([Reply::status(503), Reply::status(503)]);
    let mut hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    for _ in 0..50 {
        assert_eq!(hookward.post(&event()).status, 200);
    }
    hookward.stop();
    let ids: std::collections::HashSet<_> = sink.received().iter().map(Received::event_id).collect();
    assert_eq!(ids.len(), 50, "{}", hookward.stderr());
}

#[test]
fn a_second_signal_ends_it_at_once_with_exit_code_1() {
    let (_sink, mut hookward) = pair_with("shutdown: { delay: 60s, drain: 60s }\n");
    hookward.sigterm();
    poll("not ready", || (hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    // One that comes within 200 ms of the first is the same.
    let code = poll("the end", || {
        hookward.sigterm();
        hookward.try_exit()
    });
    assert_eq!(code, Some(1), "{}", hookward.stderr());
}

#[test]
fn signals_at_the_same_time_are_one() {
    let (_sink, mut hookward) = pair_with("shutdown: { delay: 2s }\n");
    // Both are there when it looks.
    for signal in [Signal::STOP, Signal::TERM, Signal::INT, Signal::CONT] {
        hookward.signal(signal);
    }
    poll("not ready", || (hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    assert_eq!(hookward.post(&event()).status, 200, "it goes down in order");
    assert_eq!(hookward.wait_exit(), Some(0), "{}", hookward.stderr());
}

#[test]
fn sigint_goes_down_in_order_too() {
    let (sink, mut hookward) = pair();
    post_sentinel(&hookward, &sink);
    hookward.signal(rustix::process::Signal::INT);
    assert_eq!(hookward.wait_exit(), Some(0), "{}", hookward.stderr());
}

#[test]
fn a_downtime_longer_than_max_age_expires_nothing() {
    let mut sink = Sink::start();
    sink.stop();
    let yaml = "
delivery: { retry: { base: 20ms, max: 50ms, max_age: 3s } }
shutdown: { drain: 10ms }
";
    let mut hookward = Setup::new(&sink).config(yaml).start();
    assert_eq!(hookward.post(&event()).status, 200);
    hookward.stop();
    // Age is running time: this much of nothing counts as nothing.
    std::thread::sleep(Duration::from_millis(3100));
    // It is looked at when an attempt fails, so that the first one must.
    sink.replies([Reply::status(503)]);
    sink.start_again();
    hookward.start_again();
    sink.wait_for(2);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    let metrics = hookward.metrics();
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]), 1.0);
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "dead")]), 0.0);
}

#[test]
fn a_clock_that_steps_by_days_gives_nothing_up() {
    const NOW_S: i64 = 1_700_000_000;
    const DAY_S: i64 = 86_400;
    let sink = Sink::start();
    sink.behave(|_| Reply::status(503));
    let hookward = OnTestClock::start(NOW_S, &sink.url(), QUICK_RETRIES);
    let id = new_id();
    assert_accepted(&hookward.post(&signed_at(NOW_S, body(&id))), &id);
    // `max_age` is three days, by running time.
    for by_days in [30, -30, 3_650] {
        let before = sink.count();
        hookward.clock.step_to_unix_s(NOW_S + by_days * DAY_S);
        hookward.advance_until_tried(&sink, before + 2);
    }
    let before = sink.count();
    sink.behave(|_| Reply::status(200));
    hookward.advance_until_tried(&sink, before + 1);
    assert_eq!(sink.wait_for(before + 1)[before].event_id(), id);
}

#[test]
fn an_attempt_cut_off_by_a_stop_does_not_forget_the_refusals_before_it() {
    let sink = Sink::start();
    sink.behave(|received| if received.attempt() == 2 { Reply::Hold } else { Reply::status(400) });
    let yaml = "delivery: { retry: { client_errors: 2 } }\nshutdown: { drain: 0s }\n";
    let mut hookward = Setup::new(&sink).config(yaml).start();
    assert_eq!(hookward.post(&event()).status, 200);
    sink.wait_for(2);
    hookward.restart();
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    assert_eq!(sink.count(), 3, "one refusal, one cut off, and the second refusal is the last");
    sink.release();
}

#[test]
fn a_signal_while_it_starts_ends_it_cleanly() {
    let sink = Sink::start();
    let first = Setup::new(&sink).start();
    // It waits for the data directory, which the first one holds.
    let mut second = first.setup().clone().flag("--admin", "127.0.0.1:0").spawn();
    poll("it waits", || second.stderr().contains("another instance holds the data directory").then_some(()));
    second.signal(rustix::process::Signal::TERM);
    assert_eq!(second.wait_exit(), Some(0), "{}", second.stderr());
}
