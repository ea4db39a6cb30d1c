//! A buffer that the backlog of one route has filled, as far as it may, beside an empty one: how long senders of
//! another route wait for their 200. In turns, each time a new process.
//!
//! `cargo bench --bench end_to_end -- full`

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::results::Measured;
use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, Subject, Taken, filled};

const CONNECTIONS: usize = 64;
const RATE_PER_S: f64 = 1_000.0;
const ROUNDS: usize = 6;
/// Of both, in one round.
const EVENTS: f64 = 5_000.0;
/// In the backlog, whatever the scale: what is left of the bound must hold what a burst leaves undelivered.
const WAITING: usize = 50_000;
/// Backlog and log are so much of the bound: more than all but the reserve.
const FULL_PERCENT: u64 = 93;
/// What the engine sets aside for its log: an eighth of a small bound, and never more than this.
const LOG_MAX_BYTES: u64 = 8 << 20;

pub fn run(bench: &mut Bench) {
    let routes = Routes::new(1);
    let usual = bench.buffer_max_bytes;
    let (mut empty, mut full) = (Taken::default(), Taken::default());
    for round in 0..ROUNDS {
        for is_full in [round % 2 == 0, round % 2 == 1] {
            let count = if is_full { WAITING } else { 0 };
            let (dir, _) = filled(bench, count, "held");
            let bytes = dir.path().join("hookward.db").metadata().unwrap().len();
            bench.buffer_max_bytes = if is_full { bound_of(bytes) } else { usual };
            let cpus = bench.cpus.server.clone();
            let subject = Subject::start_in(Kind::Hookward { mode: "ack" }, dir, bench, &routes, &cpus);
            // The first of the backlog are tried, and the app asks for an hour.
            bench.stage.serve_for(std::time::Duration::from_secs(1));
            subject.warm_up(bench, &routes);
            assert_eq!(is_refused(&subject, bench, &routes), is_full, "an event of the route that has the backlog");
            let taken = if is_full { &mut full } else { &mut empty };
            let pace = Pace::Open { per_s: RATE_PER_S };
            subject.measure_more(taken, bench, &routes, bench.scaled(EVENTS), CONNECTIONS, pace);
            assert_eq!(is_refused(&subject, bench, &routes), is_full, "after the load");
        }
    }
    bench.buffer_max_bytes = usual;
    let (empty, full) = (empty.measured(), full.measured());
    for (name, Measured { latency, cpu_us, .. }) in [("empty", &empty), ("full", &full)] {
        println!(
            "{name:<6} p50 {:.2} p99 {:.2} max {:.1} ms, {cpu_us:.1} us CPU",
            latency.p50, latency.p99, latency.max
        );
    }
    println!("p99 at the bound is {:.2} of that of an empty buffer", full.latency.p99 / empty.latency.p99);
}

/// The bound of which a backlog of so many bytes is all that its route may have.
fn bound_of(backlog_bytes: u64) -> u64 {
    let eighth = backlog_bytes * 125 / (FULL_PERCENT * 10 - 125);
    (backlog_bytes + eighth.min(LOG_MAX_BYTES)) * 100 / FULL_PERCENT
}

/// Whether one more event of the route that has the backlog finds no room.
fn is_refused(subject: &Subject, bench: &mut Bench, routes: &Routes) -> bool {
    let batch = bench.telnyx.sign(1, routes, &bench.cpus.all);
    let mut request = Vec::new();
    bench.telnyx.write_to("/held", &batch, 0, &mut request);
    let mut socket = TcpStream::connect(subject.listen()).unwrap();
    socket.write_all(&request).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    match &answer {
        b"HTTP/1.1 200" => false,
        b"HTTP/1.1 503" => true,
        other => panic!("{}", String::from_utf8_lossy(other)),
    }
}
