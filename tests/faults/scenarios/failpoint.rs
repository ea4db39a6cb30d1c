//! The process dies at every named place. Most places are hookward's own; the ones within SQLite's
//! writing are found by the system calls that it makes there.

use std::time::Instant;

use super::Plan;
use crate::harness::Setup;
use crate::rig::{Mood, QUICK, Rig};
use crate::table::Row;

const CONNECTIONS: usize = 16;

/// How it is brought to die somewhere.
#[derive(Clone, Copy)]
enum Death {
    /// Before it is ready, each start once.
    AtStart,
    /// Under load, the N-th time that it comes there.
    UnderLoad,
    /// As it enters this system call for the N-th time, counted for each thread from the start.
    InCall { call: &'static str, after: usize },
    /// When it opens the buffer again after syncs have failed.
    AfterFailedSyncs,
    /// When it is told to end.
    AtTheEnd,
}

const PLACES: [(&str, Death); 14] = [
    ("recovery", Death::AtStart),
    ("before-write", Death::UnderLoad),
    ("after-write", Death::UnderLoad),
    ("within-write", Death::InCall { call: "pwrite64", after: 120 }),
    ("before-sync", Death::InCall { call: "fdatasync", after: 30 }),
    ("after-sync", Death::UnderLoad),
    ("before-answer", Death::UnderLoad),
    ("before-checkpoint", Death::UnderLoad),
    ("after-checkpoint", Death::UnderLoad),
    ("purge", Death::UnderLoad),
    ("after-purge", Death::UnderLoad),
    ("reopen", Death::AfterFailedSyncs),
    ("after-reopen", Death::AfterFailedSyncs),
    ("close", Death::AtTheEnd),
];

/// A buffer that is soon full of delivered events, and a log that is soon at its bound, so that
/// checkpoints and purges happen. Not smaller: a purge that takes nearly everything makes a repeat that follows at
/// once a new event.
const SMALL: &str = "buffer: { max_bytes: 4MiB }\n";

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    PLACES.into_iter().map(|(name, death)| die_twice_at(name, death, plan, &mut random)).collect()
}

fn die_twice_at(name: &str, death: Death, plan: &Plan, random: &mut fastrand::Rng) -> Row {
    let mut rig = Rig::start(|setup| setup.config(&format!("{QUICK}{SMALL}")));
    rig.app.set(Mood::Human);
    let load = rig.load(name, CONNECTIONS);
    load.await_acks(50);
    let mut recoveries = Vec::new();
    let deaths = plan.cycles(2);
    for _ in 0..deaths {
        rig.kill9();
        die_at(&mut rig, name, death, random.usize(1..4));
        let dead = Instant::now();
        rig.up();
        recoveries.push(rig.recovery_from(dead));
        load.await_acks(50);
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    Row::new(&format!("dies at {name}"), deaths, &verdict).recovered_in(recoveries)
}

/// Starts it so that it dies there, and waits until it has.
fn die_at(rig: &mut Rig, name: &str, death: Death, nth: usize) {
    let at = |setup: Setup, nth: usize| setup.env("HOOKWARD_FAILPOINT", &format!("{name}:{nth}"));
    let setup = rig.setup().clone();
    let doomed = match death {
        Death::AtStart => {
            let finished = at(setup, 1).run_to_end();
            assert_eq!(finished.code, None, "it did not die: {}", finished.stderr);
            return;
        }
        Death::UnderLoad => at(setup, nth),
        Death::InCall { call, after } => setup.inject(&format!("{call}:signal=SIGKILL:when={}", after + nth)),
        Death::AfterFailedSyncs => at(setup, 1).inject(&format!("fdatasync:error=EIO:when={}", 20 + nth)),
        Death::AtTheEnd => at(setup, 1),
    };
    rig.is_up(doomed.start());
    if matches!(death, Death::AtTheEnd) {
        rig.hookward().sigterm();
    }
    let (code, log) = rig.await_end();
    assert_eq!(code, None, "it ended by itself: {log}");
}
