//! How strict the public side is, input by input: raw bytes, the answer they must get, and what is
//! left of the connection. `docs/http.md` says the same in words.

mod case;
mod cases;
mod rig;

use std::collections::HashSet;

use rig::{Rig, Transport};

/// What the themes send that try to make two parsers disagree, each with its name.
pub fn hostile_bytes() -> Vec<(String, Vec<u8>)> {
    let themes = cases::instances(Transport::Tcp.scheme()).into_iter().flat_map(|instance| instance.themes);
    let hostile = themes.filter(|(theme, _)| cases::HOSTILE.contains(theme));
    hostile.flat_map(|(_, cases)| cases).map(|case| (case.name(), case.all_bytes())).collect()
}

/// Fewer would mean that a theme was lost.
const CASES_MIN: usize = 120;

fn every_case_holds_over(transport: Transport) {
    let (mut count, mut failed) = (0, Vec::new());
    for instance in cases::instances(transport.scheme()) {
        let rig = Rig::start(transport, instance.config);
        for (theme, cases) in instance.themes {
            count += cases.len();
            failed.extend(rig.run(theme, &cases));
        }
    }
    println!("{count} cases over {transport:?}");
    assert!(failed.is_empty(), "{} of {count} cases over {transport:?} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_case_holds_over_tcp() {
    every_case_holds_over(Transport::Tcp);
}

#[test]
fn every_case_holds_over_tls() {
    every_case_holds_over(Transport::Tls);
}

#[test]
fn every_case_holds_over_a_unix_socket() {
    every_case_holds_over(Transport::Unix);
}

#[test]
fn there_are_enough_cases_and_no_two_have_the_same_name() {
    let names: Vec<_> = cases::instances(Transport::Tcp.scheme())
        .into_iter()
        .flat_map(|instance| instance.themes)
        .flat_map(|(theme, cases)| cases.into_iter().map(move |case| format!("{theme}: {}", case.name())))
        .collect();
    println!("{} cases\n{}", names.len(), names.join("\n"));
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(distinct.len() >= CASES_MIN, "only {}", distinct.len());
}
