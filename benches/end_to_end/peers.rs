//! hookward in each of its modes, and nginx in both of its forms, under the same load.

use std::time::Duration;

use super::machine;
use super::results::{self, Peers};
use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, Subject, Taken};

/// Enough that a closed loop keeps the server's CPU busy, few enough that none waits long.
const CONNECTIONS: usize = 64;
const CLOSED_EVENTS: f64 = 40_000.0;
const RATE_PER_S: f64 = 1_000.0;
const SECONDS: f64 = 20.0;

/// After it, a server that has just started is idle.
const IDLE: Duration = Duration::from_millis(500);

/// In turns, a part of the load each: what the machine does meanwhile meets all alike. Each time a new process: two of
/// one build differ by a twentieth, each as long as it lives.
const ROUNDS: usize = 12;
/// Signatures checked alone in each round.
const VERIFIED: usize = 1_000;

/// Of one of them, over all rounds.
#[derive(Default)]
struct Gathered {
    /// Mean.
    start_to_ready_ms: f64,
    /// Mean.
    idle_mb: f64,
    closed: Taken,
    open: Taken,
}

pub fn run(bench: &mut Bench) {
    let routes = Routes::new(1);
    let mut all: [Gathered; Kind::ALL.len()] = Default::default();
    let mut verify_us = 0.0;
    for _ in 0..ROUNDS {
        verify_us += machine::verify_us(&mut bench.telnyx, &routes, &bench.cpus, VERIFIED) / ROUNDS as f64;
        for (kind, gathered) in Kind::ALL.into_iter().zip(&mut all) {
            let subject = Subject::start(kind, bench, &routes);
            bench.stage.serve_for(IDLE);
            gathered.idle_mb += subject.resident_mb() / ROUNDS as f64;
            gathered.start_to_ready_ms += subject.start_to_ready_ms() / ROUNDS as f64;
            subject.warm_up(bench, &routes);
            let events = |all: f64| bench.scaled(all / ROUNDS as f64);
            let (at_rate, at_full_load) = (events(RATE_PER_S * SECONDS), events(CLOSED_EVENTS));
            let open = Pace::Open { per_s: RATE_PER_S };
            subject.measure_more(&mut gathered.open, bench, &routes, at_rate, CONNECTIONS, open);
            subject.measure_more(&mut gathered.closed, bench, &routes, at_full_load, CONNECTIONS, Pace::Closed);
        }
    }
    let found = Kind::ALL.into_iter().zip(&all).map(|(kind, gathered)| {
        let Gathered { start_to_ready_ms, idle_mb, closed, open } = gathered;
        let (closed, open) = (closed.measured(), open.measured());
        println!(
            "{:<16} {:>7.0} events/s, {:>6.1} us CPU; at {RATE_PER_S}/s p50 {:.2} p99 {:.2} ms; load {:.1} us",
            kind.name(),
            closed.per_s,
            closed.cpu_us,
            open.latency.p50,
            open.latency.p99,
            closed.load_us,
        );
        let (start_to_ready_ms, idle_mb) = (*start_to_ready_ms, *idle_mb);
        results::Subject { name: kind.name(), start_to_ready_ms, idle_mb, closed, open }
    });
    let found = Peers { verify_us, rate_per_s: RATE_PER_S, connections: CONNECTIONS, subjects: found.collect() };
    results::save("peers", &bench.base, found);
}
