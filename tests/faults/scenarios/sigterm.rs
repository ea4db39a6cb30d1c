//! SIGTERM in every phase of its life: it ends with 0 by itself, and what it leaves is delivered by
//! the next one.

use std::time::{Duration, Instant};

use super::Plan;
use crate::harness::poll;
use crate::rig::{Mood, QUICK, Rig};
use crate::table::Row;

const CONNECTIONS: usize = 16;
/// Of each phase.
const ENDS: usize = 4;
/// The drain must not keep a scenario.
const SHORT_DRAIN: &str = "shutdown: { drain: 300ms }\n";

#[derive(Debug, Clone, Copy)]
enum Phase {
    Starting,
    UnderLoad,
    WithABacklog,
    Draining,
    WhileTheAppHangs,
}

pub fn run(plan: &Plan) -> Vec<Row> {
    use Phase::{Draining, Starting, UnderLoad, WhileTheAppHangs, WithABacklog};
    let mut random = plan.random();
    let phases = [Starting, UnderLoad, WithABacklog, Draining, WhileTheAppHangs];
    phases.into_iter().map(|phase| end_in(phase, plan, &mut random)).collect()
}

fn end_in(phase: Phase, plan: &Plan, random: &mut fastrand::Rng) -> Row {
    let mut rig = Rig::start(|setup| setup.config(&format!("{QUICK}{SHORT_DRAIN}")));
    let load = rig.load(&format!("{phase:?}"), CONNECTIONS);
    let mut recoveries = Vec::new();
    let ends = plan.cycles(ENDS);
    for _ in 0..ends {
        load.await_acks(random.usize(20..80));
        match phase {
            Phase::Starting => {
                rig.kill9();
                end_while_starting(&rig, random);
            }
            Phase::UnderLoad => end(&mut rig, Some(0)),
            Phase::WithABacklog => {
                rig.app.set(Mood::Refusing);
                load.await_acks(100);
                end(&mut rig, Some(0));
                rig.app.set(Mood::Well);
            }
            Phase::Draining => {
                rig.app.set(Mood::Slow(Duration::from_millis(200)));
                load.await_acks(20);
                rig.hookward().sigterm();
                std::thread::sleep(Duration::from_millis(random.u64(0..250)));
                // A second signal ends it at once.
                end(&mut rig, Some(1));
                rig.app.set(Mood::Well);
            }
            Phase::WhileTheAppHangs => {
                rig.app.set(Mood::Hanging);
                load.await_acks(50);
                end(&mut rig, Some(0));
                rig.app.set(Mood::Well);
            }
        }
        let ended = Instant::now();
        rig.up();
        recoveries.push(rig.recovery_from(ended));
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    Row::new(&format!("SIGTERM {phase:?}"), ends, &verdict).recovered_in(recoveries)
}

fn end(rig: &mut Rig, expected: Option<i32>) {
    rig.hookward().sigterm();
    let (code, log) = rig.await_end();
    // One that had nothing left to do may be done before the second signal.
    let is_done = expected == Some(1) && code == Some(0);
    assert!(code == expected || is_done, "{code:?} instead of {expected:?}: {log}");
}

/// At any moment of the start: before there is a handler it is a death, later a clean end.
fn end_while_starting(rig: &Rig, random: &mut fastrand::Rng) {
    let mut process = rig.setup().spawn();
    std::thread::sleep(Duration::from_micros(random.u64(0..40_000)));
    process.signal(rustix::process::Signal::TERM);
    let code = poll("it has ended", || process.try_exit());
    assert!(matches!(code, None | Some(0)), "{code:?}: {}", process.stderr());
}
