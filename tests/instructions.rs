//! What the guard on instruction counts (`benches/instructions.rs`) makes of counts.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end with a panic")]

#[path = "../benches/instructions/baseline.rs"]
#[allow(clippy::cast_precision_loss, reason = "prints figures")]
mod baseline;

use std::collections::BTreeMap;

use baseline::{Baseline, Change, Environment, OTHER_TOOLS_TOLERANCE_PERCENT, TOLERANCE_PERCENT, compare, counted};

fn counts(parts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    parts.iter().map(|(part, count)| ((*part).to_owned(), *count)).collect()
}

fn environment() -> Environment {
    let said = ["rustc 1.95.0", "ldd 2.36", "valgrind-3.19.0", "x86_64 avx2"].map(str::to_owned);
    let [rustc, libc, valgrind, cpu] = said;
    Environment { rustc, libc, valgrind, cpu }
}

#[test]
fn a_part_that_takes_more_than_the_tolerance_fails_and_the_tolerance_itself_passes() {
    let before = counts(&[("commit", 10_000)]);
    for (now, change) in [
        (10_000, Change::Same),
        (10_300, Change::Same),
        (10_301, Change::Rose),
        (9_700, Change::Same),
        (9_699, Change::Fell),
    ] {
        assert_eq!(compare(&before, &counts(&[("commit", now)]), Some(3.0))[0].change, change, "{now}");
    }
}

#[test]
fn a_part_without_a_baseline_and_a_baseline_without_its_part_fail() {
    let compared = compare(&counts(&[("gone", 1), ("kept", 1)]), &counts(&[("kept", 1), ("new", 1)]), Some(3.0));
    let changes: Vec<_> = compared.iter().map(|part| (&*part.part, part.change)).collect();
    assert_eq!(changes, [("gone", Change::Unpaired), ("kept", Change::Same), ("new", Change::Unpaired)]);
}

#[test]
fn other_tools_may_make_other_code_and_another_processor_is_not_judged() {
    let baseline = Baseline { environment: environment(), instructions: BTreeMap::new() };
    assert_eq!(baseline.tolerance_percent(&environment()), Some(TOLERANCE_PERCENT));
    let rustc = Environment { rustc: "rustc 1.96.0".to_owned(), ..environment() };
    assert_eq!(baseline.tolerance_percent(&rustc), Some(OTHER_TOOLS_TOLERANCE_PERCENT));
    let cpu = Environment { cpu: "x86_64".to_owned(), ..environment() };
    assert_eq!(baseline.tolerance_percent(&cpu), None);
    assert_eq!(compare(&counts(&[("a", 1)]), &counts(&[("a", 9)]), None)[0].change, Change::Same);
}

#[test]
fn the_count_is_read_from_the_end_of_what_callgrind_writes() {
    assert_eq!(counted("events: Ir\nfn=(1) main\n1 20\nsummary: 31\n\ntotals: 4711\n"), Some(4711));
    assert_eq!(counted("events: Ir\nfn=(1) main\n"), None);
}

#[test]
fn the_committed_baseline_can_be_read() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.json"));
    let baseline: Baseline = serde_json::from_str(&text.unwrap()).unwrap();
    assert!(baseline.instructions.values().all(|count| *count > 1_000), "{baseline:?}");
}
