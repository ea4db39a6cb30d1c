//! Many connections at once: what an idle one costs, and what becomes of one too many.

use rustix::process::Signal;

use super::harness::event::TARGET;
use super::harness::*;

/// Resident memory that an idle connection may cost.
const BYTES_PER_CONNECTION_MAX: u64 = 40 * 1024;

/// So many connections, all of one client.
fn limits(connections: usize) -> String {
    format!("limits: {{ connections: {connections}, connections_per_client: {connections} }}\n")
}

/// Opens connections and waits until hookward has them all.
fn open(hookward: &Hookward, count: usize, into: &mut Vec<Wire>) {
    into.extend((0..count).map(|_| hookward.connect()));
    hookward.await_metric("hookward_connections", &[], into.len() as f64);
}

#[test]
fn two_thousand_idle_connections_cost_less_than_40_kb_each() {
    allow_open_files(5_000);
    let (_sink, hookward) = pair_with(&limits(2_050));
    let mut wires = Vec::new();
    // What is allocated once is not theirs.
    open(&hookward, 50, &mut wires);
    let cost = |what: &str, before: u64| {
        let each = hookward.resident_bytes().saturating_sub(before) / 2_000;
        println!("{what}: {each} bytes each");
        assert!(each < BYTES_PER_CONNECTION_MAX, "{what}: {each} bytes each");
    };
    let before = hookward.resident_bytes();
    open(&hookward, 2_000, &mut wires);
    cost("2,000 connections that were never used", before);
    for wire in &mut wires[50..] {
        assert_refused(&wire.ask(&Request::get(TARGET)), 405, "method_not_allowed");
    }
    cost("2,000 connections that were used once", before);
}

#[test]
fn a_connection_beyond_the_cap_is_refused_while_all_are_busy_and_the_next_one_served_when_there_is_room() {
    const CONNECTIONS_MAX: usize = 200;
    let (sink, hookward) = pair_with(&limits(CONNECTIONS_MAX));
    let mut wires = Vec::new();
    open(&hookward, CONNECTIONS_MAX, &mut wires);
    let request = forged();
    wires.iter_mut().for_each(|wire| wire.send(request.head()));
    hookward.await_metric("hookward_requests_in_flight", &[], wires.len() as f64);
    for count in 1..=3u8 {
        let mut refused = hookward.connect();
        let _ = refused.try_send(event().bytes());
        assert_refused(&refused.answer(), 503, "overloaded");
        assert_eq!(refused.end_or_reset(), b"");
        hookward.await_metric("hookward_connections_refused_total", &[], f64::from(count));
    }
    wires[0].send(request.framed_body());
    assert_refused(&wires[0].answer(), 403, "signature_mismatch");
    // Soon after its answer it waits, and makes room for the next one, and that one again.
    for _ in 0..10 {
        poll("one waits", || (hookward.post(&event()).status == 200).then_some(()));
    }
    assert_eq!(sink.wait_for(10).len(), 10);
}

#[test]
fn a_low_soft_limit_on_open_files_does_not_bound_the_connections() {
    allow_open_files(5_000);
    let sink = Sink::start();
    let hookward = Setup::new(&sink).soft_open_files(100).start();
    let mut wires = Vec::new();
    open(&hookward, 300, &mut wires);
    assert_eq!(wires[299].ask(&event()).status, 200);
    sink.first();
}

#[test]
fn of_a_flood_beyond_the_cap_some_are_refused_with_an_answer_and_the_others_closed() {
    const FLOOD: usize = 1_000;
    allow_open_files(5_000);
    let (sink, hookward) = pair_with("limits: { connections: 1, body_timeout: 60s }\n");
    let (mut genuine, request) = (hookward.connect(), event());
    genuine.send(request.head());
    hookward.await_metric("hookward_requests_in_flight", &[], 1.0);
    // All of them are there when it looks.
    hookward.signal(Signal::STOP);
    let flood: Vec<_> = (0..FLOOD).map(|_| hookward.connect()).collect();
    hookward.signal(Signal::CONT);
    let answers: Vec<_> = flood.into_iter().filter_map(|mut wire| wire.try_answer().ok().flatten()).collect();
    answers.iter().for_each(|answer| assert_refused(answer, 503, "overloaded"));
    // A refusal keeps a file open for a tenth of a second: so many at once would be too many.
    assert!((1..FLOOD).contains(&answers.len()), "{} were answered", answers.len());
    #[allow(clippy::cast_precision_loss, reason = "few")]
    hookward.await_metric("hookward_connections_refused_total", &[], FLOOD as f64);
    genuine.send(request.framed_body());
    assert_eq!(genuine.answer().status, 200);
    sink.first();
}

#[test]
fn held_connections_leave_open_files_to_the_admin_side_and_the_app_whatever_the_limit() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config("limits: { body_timeout: 60s }\n").open_files(120).start();
    let (mut genuine, request) = (hookward.connect(), event());
    assert_eq!(genuine.ask(&event()).status, 200);
    sink.wait_for(1);
    genuine.send(request.head());
    hookward.await_metric("hookward_requests_in_flight", &[], 1.0);
    let address = hookward.listen();
    let held: Vec<_> = (0..200)
        .map(|_| {
            let mut wire = Wire::connect(address);
            // It may be refused already.
            let _ = wire.try_send(request.head());
            wire
        })
        .collect();
    hookward.await_metrics("the others are refused", |metrics| {
        metrics.value("hookward_connections_refused_total", &[]) >= 100.0
    });
    assert_eq!(hookward.admin(&Request::get("/readyz")).status, 200);
    // The app's connection has to be made anew.
    sink.reset_next(1);
    genuine.send(request.framed_body());
    assert_eq!(genuine.answer().status, 200);
    sink.wait_for(2);
    drop(held);
    hookward.await_log("fewer open files are allowed than limits.connections needs");
}
