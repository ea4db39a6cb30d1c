//! Builds of hookward beside each other, in turns: where the machine itself is a tenth faster or slower
//! from one minute to the next, and two processes of one build differ by a twentieth as long as they live, the way to
//! see whether a change helps.
//!
//! `HOOKWARD_BENCH_BINARIES=before:after cargo bench --bench end_to_end -- compare`

use std::path::PathBuf;

use super::results::Measured;
use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, Subject, Taken};

const CONNECTIONS: usize = 64;
const RATE_PER_S: f64 = 1_000.0;
/// In one round: little, so that two builds meet the same machine, and many processes.
const EVENTS: f64 = 1_500.0;
const ROUNDS: usize = 40;
/// Of which one in so many has a load at a rate too, which takes four times as long.
const OPEN_EVERY: usize = 4;

pub fn run(bench: &mut Bench) {
    let binaries =
        std::env::var("HOOKWARD_BENCH_BINARIES").expect("HOOKWARD_BENCH_BINARIES names builds: before:after");
    let binaries: Vec<PathBuf> = binaries.split(':').map(PathBuf::from).collect();
    let routes = Routes::new(1);
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        closed.push(in_turns(bench, &binaries, &routes, round, Pace::Closed));
        if round % OPEN_EVERY == 0 {
            open.push(in_turns(bench, &binaries, &routes, round / OPEN_EVERY, Pace::Open { per_s: RATE_PER_S }));
        }
    }
    println!("Median, and the median of what it is of the first build's in the same round, with its quartiles.\n");
    println!(
        "{:<28} {:>30} {:>30} {:>26} {:>26}",
        "CPU per event", "closed loop, us", "at 1000/s, us", "p50, ms", "p99, ms"
    );
    for (place, binary) in binaries.iter().enumerate() {
        println!(
            "{:<28} {:>30} {:>30} {:>26} {:>26}",
            binary.display(),
            against_the_first(&closed, place, |measured| measured.cpu_us),
            against_the_first(&open, place, |measured| measured.cpu_us),
            against_the_first(&open, place, |measured| measured.latency.p50),
            against_the_first(&open, place, |measured| measured.latency.p99),
        );
    }
}

/// One load on a new process of each, to and fro, so that none always comes first.
fn in_turns(bench: &mut Bench, binaries: &[PathBuf], routes: &Routes, round: usize, pace: Pace) -> Vec<Measured> {
    let mut order: Vec<usize> = (0..binaries.len()).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    let mut measured: Vec<Option<Measured>> = binaries.iter().map(|_| None).collect();
    for place in order {
        let mut taken = Taken::default();
        bench.binary.clone_from(&binaries[place]);
        let subject = Subject::start(Kind::Hookward { mode: "ack" }, bench, routes);
        subject.warm_up(bench, routes);
        subject.measure_more(&mut taken, bench, routes, bench.scaled(EVENTS), CONNECTIONS, pace);
        measured[place] = Some(taken.measured());
    }
    measured.into_iter().flatten().collect()
}

fn against_the_first(rounds: &[Vec<Measured>], place: usize, take: fn(&Measured) -> f64) -> String {
    let [_, found, _] = quartiles(rounds.iter().map(|round| take(&round[place])));
    let [low, ratio, high] = quartiles(rounds.iter().map(|round| take(&round[place]) / take(&round[0])));
    format!("{found:.3} ({ratio:.3}: {low:.3}-{high:.3})")
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
