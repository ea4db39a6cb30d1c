//! The process dies at every named place, the first and a later time it comes there.

use std::time::Instant;

use super::Plan;
use crate::harness::Setup;
use crate::rig::{Mood, QUICK, Rig};
use crate::table::Row;

const CONNECTIONS: usize = 16;

/// Places that a hookward under load comes to by itself.
const UNDER_LOAD: [&str; 9] = [
    "recovery",
    "before-write",
    "after-write",
    "after-sync",
    "before-answer",
    "before-checkpoint",
    "after-checkpoint",
    "purge",
    "after-purge",
];

/// A buffer that is soon full of delivered events, and a log that is soon at its bound, so that
/// checkpoints and purges happen.
const SMALL: &str = "buffer: { max_bytes: 4MiB }\n";

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    let mut rows = Vec::new();
    for name in UNDER_LOAD {
        let mut rig = Rig::start(|setup| setup.config(&format!("{QUICK}{SMALL}")));
        rig.app.set(Mood::Human);
        let load = rig.load(name, CONNECTIONS);
        load.await_acks(50);
        let mut recoveries = Vec::new();
        let times = [1, 1 + random.usize(1..4)];
        for nth in times {
            rig.kill9();
            die_at(&mut rig, name, nth);
            let dead = Instant::now();
            rig.up();
            recoveries.push(rig.recovery_from(dead));
            load.await_acks(50);
        }
        load.stop();
        let verdict = rig.settle().nothing_is_lost();
        rows.push(Row::new(&format!("at {name}"), times.len(), &verdict).recovered_in(recoveries));
    }
    rows
}

/// Starts it so that it dies there, and waits until it has.
fn die_at(rig: &mut Rig, name: &str, nth: usize) {
    let doomed = |setup: Setup| setup.env("HOOKWARD_FAILPOINT", &format!("{name}:{nth}"));
    let setup = doomed(rig.setup().clone());
    if name == "recovery" {
        // It never gets ready; each start comes there once.
        let finished = doomed(rig.setup().clone()).env("HOOKWARD_FAILPOINT", name).run_to_end();
        assert_eq!(finished.code, None, "it did not die: {}", finished.stderr);
        return;
    }
    rig.is_up(setup.start());
    let (code, log) = rig.await_end();
    assert_eq!(code, None, "it ended by itself: {log}");
}
