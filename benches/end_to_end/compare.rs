//! Builds of hookward beside each other, in turns: where the machine itself is a tenth faster or slower
//! from one minute to the next, the way to see whether a change helps.
//!
//! `HOOKWARD_BENCH_BINARIES=before:after cargo bench --bench end_to_end -- compare`

use std::path::PathBuf;

use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, Subject, Taken};

const CONNECTIONS: usize = 64;
const RATE_PER_S: f64 = 1_000.0;
/// In one round.
const EVENTS: f64 = 4_000.0;
const ROUNDS: usize = 10;

pub fn run(bench: &mut Bench) {
    let binaries =
        std::env::var("HOOKWARD_BENCH_BINARIES").expect("HOOKWARD_BENCH_BINARIES names builds: before:after");
    let binaries: Vec<PathBuf> = binaries.split(':').map(PathBuf::from).collect();
    let routes = Routes::new(1);
    let subjects: Vec<Subject> = binaries
        .iter()
        .map(|binary| {
            bench.binary.clone_from(binary);
            let subject = Subject::start(Kind::Hookward { mode: "ack" }, bench, &routes);
            subject.warm_up(bench, &routes);
            subject
        })
        .collect();
    let mut rounds: Vec<Vec<(Taken, Taken)>> = Vec::new();
    for round in 0..ROUNDS {
        let events = bench.scaled(EVENTS);
        let mut measure = |subject: &Subject, pace: Pace| {
            let mut taken = Taken::default();
            subject.measure_more(&mut taken, bench, &routes, events, CONNECTIONS, pace);
            taken
        };
        let mut taken: Vec<(Taken, Taken)> = subjects.iter().map(|_| Default::default()).collect();
        // To and fro, so that none always comes first.
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let open = Pace::Open { per_s: RATE_PER_S };
            taken[place] = (measure(&subjects[place], Pace::Closed), measure(&subjects[place], open));
        }
        rounds.push(taken);
    }
    println!(
        "{:<28} {:>18} {:>18} {:>10} {:>10}",
        "CPU per event", "closed loop, us", "at 1000/s, us", "p50, ms", "p99, ms"
    );
    for (place, binary) in binaries.iter().enumerate() {
        let of = |take: fn(&(Taken, Taken)) -> f64| {
            let found = median(rounds.iter().map(|round| take(&round[place])));
            // Of the two in one round, a few seconds apart.
            let ratio = median(rounds.iter().map(|round| take(&round[place]) / take(&round[0])));
            format!("{found:.3} ({ratio:.3})")
        };
        println!(
            "{:<28} {:>18} {:>18} {:>10} {:>10}",
            binary.display(),
            of(|(closed, _)| closed.measured().cpu_us),
            of(|(_, open)| open.measured().cpu_us),
            of(|(_, open)| open.measured().latency.p50),
            of(|(_, open)| open.measured().latency.p99),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
