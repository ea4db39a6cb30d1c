//! Fault tests: a real hookward between a sender that signs, repeats and records, and an app that
//! records and misbehaves, while something is done to it; then one checker compares what was
//! answered 200, what the app confirmed and what the buffer holds.
//!
//! `cargo test --features faults --test faults -- [SCENARIO…] [--seed N] [--few | --soak MINUTES]`; each
//! scenario prints its rows of one table, and on failure its seed and the command that repeats it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may end with a panic, and has no clock but the machine's"
)]

mod attackers;
#[allow(dead_code, unused_imports, reason = "shared with the black-box tests, which use all of it")]
#[path = "../blackbox/harness/mod.rs"]
mod harness;
mod options;
#[allow(
    dead_code,
    unused_imports,
    reason = "its own tests are in tests/powerfs.rs, as this binary has no test harness"
)]
mod powerfs;
mod rig;
mod scenarios;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use options::Options;
use scenarios::{Plan, SCENARIOS, Scenario};
use table::Row;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| options.wants(scenario.name)).collect();
    table::print_header();
    let (mut failed, mut acked) = (Vec::new(), 0);
    let started = Instant::now();
    let until = options.soak.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let mut seed = options.seed;
    loop {
        for scenario in &chosen {
            match play(scenario, &Plan { seed, effort: options.effort() }) {
                Ok(rows) => {
                    rows.iter().for_each(Row::print);
                    acked += rows.iter().map(Row::acked).sum::<usize>();
                }
                Err(what) => {
                    let told = format!(
                        "{:<22} FAILED with seed {seed}: {what}\n  repeat with: {}",
                        scenario.name,
                        options.command(scenario.name, seed)
                    );
                    println!("{told}");
                    failed.push(told);
                }
            }
        }
        // A soak goes on with the next seed until its time is over.
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
        seed += 1;
    }
    println!("{acked} events acked in {} s", started.elapsed().as_secs());
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    // Once more, where the end of a long output shows it.
    println!("{} failed:\n{}", failed.len(), failed.join("\n"));
    ExitCode::FAILURE
}

/// The rows of one scenario, or what it failed with.
fn play(scenario: &Scenario, plan: &Plan) -> Result<Vec<Row>, String> {
    let played = catch_unwind(AssertUnwindSafe(|| (scenario.run)(plan)));
    played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}
