//! Forgers who share their address with a genuine sender, behind one NAT or one load balancer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::harness::*;

const CHECKS_IN_TURN: &str = "hookward_signature_checks_in_turn_total";

/// Forges so many times a second in all over connections of its own until told to stop; counts the answers.
fn forge(hookward: &Hookward, each_per_s: u32, stop: &AtomicBool, answered: &AtomicUsize) {
    let request = forged();
    let mut wire = hookward.connect();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let answer = wire.ask(&request);
        assert_refused(&answer, 403, "signature_mismatch");
        answered.fetch_add(1, Ordering::Relaxed);
        due += Duration::from_secs(1) / each_per_s;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn two_thousand_forgeries_a_second_from_its_own_address_cost_a_sender_no_event() {
    const FORGERS: u32 = 8;
    const EVENTS: usize = 250;
    let (sink, hookward) = pair();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..FORGERS {
            scope.spawn(|| forge(&hookward, 2_000 / FORGERS, &stop, &answered));
        }
        // The default lets 50 of them fail in a second.
        hookward.await_metrics("they are known by then", |metrics| metrics.value(CHECKS_IN_TURN, &[]) > 100.0);
        let mut wire = hookward.connect();
        let statuses: Vec<_> = (0..EVENTS)
            .map(|n| match n % 2 {
                0 => wire.ask(&event()).status,
                _ => hookward.post(&event()).status,
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        let refused: Vec<_> = statuses.iter().filter(|status| **status != 200).collect();
        assert!(refused.is_empty(), "{} of {EVENTS}: {refused:?}", refused.len());
    });
    sink.wait_for(EVENTS);
    let forgeries = answered.load(Ordering::Relaxed);
    println!("{forgeries} forgeries, {} checks in turn", hookward.metrics().value(CHECKS_IN_TURN, &[]));
}

#[test]
fn a_client_whose_signatures_keep_failing_is_checked_in_turn_and_no_other_is() {
    let yaml = "client_ip: { trusted_proxies: [127.0.0.1] }\nlimits: { failed_signatures_per_client: 5/s }\n";
    let (sink, hookward) = pair_with(yaml);
    let from = |request: Request, client: &str| request.header("X-Forwarded-For", client);
    let in_turn = || hookward.metrics().value(CHECKS_IN_TURN, &[]);
    let mut wire = hookward.connect();
    for _ in 0..50 {
        assert_refused(&wire.ask(&from(forged(), "198.51.100.7")), 403, "signature_mismatch");
    }
    let before = in_turn();
    assert!(before >= 20.0, "{before}");
    assert_eq!(wire.ask(&from(event(), "198.51.100.8")).status, 200);
    assert_eq!(in_turn(), before, "another client");
    assert_eq!(wire.ask(&from(event(), "198.51.100.7")).status, 200);
    sink.wait_for(2);
}

#[test]
fn without_a_limit_nobody_is_checked_in_turn() {
    let (_sink, hookward) = pair_with("limits: { failed_signatures_per_client: off }\n");
    let mut wire = hookward.connect();
    for _ in 0..200 {
        assert_refused(&wire.ask(&forged()), 403, "signature_mismatch");
    }
    assert_eq!(hookward.metrics().value(CHECKS_IN_TURN, &[]), 0.0);
}
