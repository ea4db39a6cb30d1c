//! What an event costs as one thing grows: the rate, what waits, routes and keys, connections.

use std::time::Duration;

use super::nginx::Form;
use super::results::{self, Point, Series};
use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, Subject, filled};

const ACK: Kind = Kind::Hookward { mode: "ack" };
const CONNECTIONS: usize = 64;

/// Groups of one cost more than groups of many; on one CPU, and on both from where it matters.
pub fn rate(bench: &mut Bench) {
    const RATES: [f64; 9] = [10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 5_000.0, 10_000.0, 20_000.0];
    let (server, all) = (bench.cpus.server.clone(), bench.cpus.all.clone());
    let lines = [
        ("hookward ack", ACK, &server, 0.0),
        ("hookward ack, both CPUs", ACK, &all, 1_000.0),
        ("nginx proxying", Kind::Nginx(Form::Proxying), &server, 0.0),
    ];
    let series = lines.map(|(name, kind, cpus, from)| {
        let routes = Routes::new(1);
        let subject = Subject::start_in(kind, tempfile::tempdir().unwrap(), bench, &routes, cpus);
        subject.warm_up(bench, &routes);
        let points = RATES.into_iter().filter(|rate| *rate >= from).map(|per_s| {
            let seconds = if per_s <= 100.0 { 10.0 } else { 5.0 };
            let count = bench.scaled(per_s * seconds).min((per_s * seconds) as usize);
            point(&subject, bench, &routes, (name, per_s), (count, CONNECTIONS, per_s))
        });
        Series { name: name.to_owned(), points: points.collect() }
    });
    results::save("rate", &bench.base, series.to_vec());
}

/// Events that wait for an app of another route, which takes none, while this one's go through.
pub fn pending(bench: &mut Bench) {
    let routes = Routes::new(1);
    let points = [0.0, 1e4, 1e5, 1e6].map(|waiting| {
        let count = if waiting == 0.0 { 0 } else { bench.scaled(waiting) };
        let (dir, _) = filled(bench, count, "held");
        let cpus = bench.cpus.server.clone();
        let subject = Subject::start_in(ACK, dir, bench, &routes, &cpus);
        // The first of them are tried, and the app asks for an hour.
        bench.stage.serve_for(Duration::from_secs(1));
        subject.warm_up(bench, &routes);
        let point =
            point(&subject, bench, &routes, ("pending", count as f64), (bench.scaled(10_000.0), CONNECTIONS, 2_000.0));
        assert_eq!(subject.pending(), count, "events of the other route went somewhere");
        point
    });
    save("pending", bench, points.to_vec());
}

/// Each route with a key of its own; events are spread over all of them.
pub fn routes(bench: &mut Bench) {
    let points = [1, 10, 100, 1_000].map(|count| {
        let routes = Routes::new(count);
        let subject = Subject::start(ACK, bench, &routes);
        subject.warm_up(bench, &routes);
        let load = (bench.scaled(10_000.0), CONNECTIONS, 2_000.0);
        point(&subject, bench, &routes, ("routes", count as f64), load)
    });
    save("routes", bench, points.to_vec());
}

/// All of them are used in turn; the rate is one that a single one can carry.
pub fn connections(bench: &mut Bench) {
    let points = [1, 10, 100, 1_000, 4_000].map(|connections| {
        let routes = Routes::new(1);
        let cpus = bench.cpus.server.clone();
        // The load is one client.
        let more = "limits: { connections_per_client: 4096 }\n";
        let subject = Subject::start_with(ACK, more, tempfile::tempdir().unwrap(), bench, &routes, &cpus);
        subject.warm_up(bench, &routes);
        // Twice round all of the connections at least.
        let load = (bench.scaled(8_000.0), connections, 500.0);
        point(&subject, bench, &routes, ("connections", connections as f64), load)
    });
    save("connections", bench, points.to_vec());
}

fn point(
    subject: &Subject,
    bench: &mut Bench,
    routes: &Routes,
    (name, x): (&str, f64),
    (count, connections, per_s): (usize, usize, f64),
) -> Point {
    let measured = subject.measure(bench, routes, count, connections, Pace::Open { per_s });
    println!(
        "{name} {x}: {:.1} us CPU, p50 {:.2} p99 {:.2} max {:.1} ms, {:.0}/s answered, late by {:.3} ms, {:.0} MB",
        measured.cpu_us,
        measured.latency.p50,
        measured.latency.p99,
        measured.latency.max,
        measured.answered_per_s,
        measured.load_late_ms,
        measured.resident_mb,
    );
    Point { x, start_to_ready_ms: subject.start_to_ready_ms(), measured }
}

fn save(section: &str, bench: &Bench, points: Vec<Point>) {
    results::save(section, &bench.base, [Series { name: "hookward ack".to_owned(), points }]);
}
