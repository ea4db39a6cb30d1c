//! hookward and what a user would run instead, end to end: the real processes, in one run, on the
//! same CPU; load and app on the other one. `docs/performance.md` says what is measured and how.
//!
//! `cargo bench --bench end_to_end -- [section…]` runs these sections, or all. Results are kept in
//! `target/end_to_end/`; with `HOOKWARD_BENCH_REPORT=1` tables and plots of `docs/` are made of them.
//! `HOOKWARD_BENCH_SCALE=0.1` runs with a tenth of the events, to see whether it works. `compare`, `full` and `strangers`
//! run only where they are named.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that measures may end with a panic, and needs the machine's clock"
)]

mod app;
mod compare;
mod drain;
mod full;
mod http_bytes;
mod machine;
mod nginx;
mod peers;
mod plot;
mod report;
mod results;
#[path = "../rig/mod.rs"]
mod rig;
mod scale;
mod sender;
mod signed;
mod stage;
mod strangers;
mod subject;

use std::time::Instant;

use machine::Cpus;
use signed::{Routes, Telnyx};
use stage::Stage;
use subject::{Bench, NO_ALLOWLIST};

type Section = (&'static str, fn(&mut Bench));

/// What runs where no section is named.
const SECTIONS: [Section; 6] = [
    ("peers", peers::run),
    ("rate", scale::rate),
    ("pending", scale::pending),
    ("routes", scale::routes),
    ("connections", scale::connections),
    ("drain", drain::run),
];
const ON_REQUEST: [Section; 3] = [("compare", compare::run), ("full", full::run), ("strangers", strangers::run)];

fn main() {
    // cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let sections = || SECTIONS.iter().chain(&ON_REQUEST);
    let known = |name: &String| name == "report" || sections().any(|(section, _)| section == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = sections().map(|(name, _)| *name).chain(["report"]).collect();
        panic!("no section {unknown:?}; there are {names:?}");
    }
    let scale = std::env::var("HOOKWARD_BENCH_SCALE").map_or(1.0, |text| text.parse().unwrap());
    // `report` alone makes tables and plots of what is there.
    if wanted != ["report"] {
        machine::raise_open_files();
        let cpus = Cpus::divide();
        let mut telnyx = Telnyx::new();
        let command = format!("cargo bench --bench end_to_end -- {}", wanted.join(" "));
        let base =
            machine::measure(&mut telnyx, &Routes::new(1), &cpus, command.trim_end_matches([' ', '-']).to_owned());
        println!("{}", report::base(&base));
        let binary = rig::hookward::BINARY.into();
        let (buffer_max_bytes, allowlist) = (16 << 30, NO_ALLOWLIST);
        let mut bench = Bench { stage: Stage::new(), telnyx, cpus, base, scale, binary, buffer_max_bytes, allowlist };
        for (name, run) in sections() {
            let by_default = wanted.is_empty() && SECTIONS.iter().any(|(section, _)| section == name);
            if by_default || wanted.iter().any(|section| section == name) {
                let begun = Instant::now();
                run(&mut bench);
                println!("section {name} took {:.0} s\n", begun.elapsed().as_secs_f64());
            }
        }
    }
    let shown = |section: &str| wanted.is_empty() || wanted.iter().any(|name| name == section || name == "report");
    println!("{}", report::tables(shown));
    if std::env::var("HOOKWARD_BENCH_REPORT").is_ok_and(|value| value == "1") {
        report::write();
    }
}
