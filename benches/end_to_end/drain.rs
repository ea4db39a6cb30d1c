//! A backlog goes out to an app that answers at once: on the server's CPU, and on both.

use std::time::Instant;

use super::results::{self, Drained};
use super::signed::Routes;
use super::subject::{Bench, Kind, Subject, filled};

const EVENTS: f64 = 200_000.0;

pub fn run(bench: &mut Bench) {
    let routes = Routes::new(1);
    let drained = [bench.cpus.server.clone(), bench.cpus.all.clone()].map(|cpus| {
        let events = bench.scaled(EVENTS);
        let (dir, first) = filled(bench, events, "r0");
        bench.stage.app.expect(first, events);
        let subject = Subject::start_in(Kind::Hookward { mode: "ack" }, dir, bench, &routes, &cpus);
        let (begun, before) = (Instant::now(), subject.usage());
        bench.stage.serve_until_delivered(events);
        let took_s = (bench.stage.app.last().unwrap() - begun).as_secs_f64();
        bench.stage.serve_for(std::time::Duration::from_millis(400));
        bench.stage.app.assert_exactly_once();
        assert_eq!(subject.pending(), 0);
        let drained = Drained {
            cpus: cpus.len(),
            events,
            start_to_ready_ms: subject.start_to_ready_ms(),
            per_s: events as f64 / took_s,
            cpu_us: subject.usage().cpu_s_since(&before) / events as f64 * 1e6,
            resident_mb: subject.resident_mb(),
        };
        println!("drained on {} CPUs: {:.0} events/s, {:.1} us CPU", drained.cpus, drained.per_s, drained.cpu_us);
        drained
    });
    results::save("drain", &bench.base, drained.to_vec());
}
