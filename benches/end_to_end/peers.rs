//! hookward in each of its modes, and nginx in both of its forms, under the same load.

use std::time::Duration;

use super::results::{self, Peers};
use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, Subject};

/// Enough that a closed loop keeps the server's CPU busy, few enough that none waits long.
const CONNECTIONS: usize = 64;
const CLOSED_EVENTS: f64 = 40_000.0;
const RATE_PER_S: f64 = 1_000.0;
const SECONDS: f64 = 20.0;

/// After it, a server that has just started is idle.
const IDLE: Duration = Duration::from_millis(500);

pub fn run(bench: &mut Bench) {
    let routes = Routes::new(1);
    let subjects = Kind::ALL.map(|kind| {
        let subject = Subject::start(kind, bench, &routes);
        let start_to_ready_ms = subject.start_to_ready_ms();
        bench.stage.serve_for(IDLE);
        let idle_mb = subject.resident_mb();
        subject.warm_up(bench, &routes);
        let open_pace = Pace::Open { per_s: RATE_PER_S };
        let open = subject.measure(bench, &routes, bench.scaled(RATE_PER_S * SECONDS), CONNECTIONS, open_pace);
        let closed = subject.measure(bench, &routes, bench.scaled(CLOSED_EVENTS), CONNECTIONS, Pace::Closed);
        println!(
            "{:<16} {:>7.0} events/s, {:>6.1} us CPU; at {RATE_PER_S}/s p50 {:.2} p99 {:.2} ms; load {:.1} us",
            kind.name(),
            closed.per_s,
            closed.cpu_us,
            open.latency.p50,
            open.latency.p99,
            closed.load_us,
        );
        results::Subject { name: kind.name(), start_to_ready_ms, idle_mb, closed, open }
    });
    let found = Peers { rate_per_s: RATE_PER_S, connections: CONNECTIONS, subjects: subjects.to_vec() };
    results::save("peers", &bench.base, found);
}
