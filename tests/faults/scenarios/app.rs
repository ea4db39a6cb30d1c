//! An app that hangs, resets, answers slowly or by half, is gone, and comes back after hours.

use std::time::{Duration, Instant};

use super::Plan;
use crate::rig::{ClockFile, Mood, QUICK, Rig};
use crate::table::Row;

const CONNECTIONS: usize = 16;
/// Answered 200 while the app is ill, in each case.
const ACKS: usize = 300;
/// An app that hangs must not keep a scenario.
const SHORT_ATTEMPTS: &str = "upstream: { timeout: 300ms, connect_timeout: 200ms }\n";

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut rows: Vec<Row> = [
        Mood::Human,
        Mood::Refusing,
        Mood::Hanging,
        Mood::Slow(Duration::from_millis(150)),
        Mood::HalfAnswering,
        Mood::HangingUp,
    ]
    .into_iter()
    .map(|mood| ill(mood, plan))
    .collect();
    rows.push(resets(plan));
    rows.push(gone_for_hours(plan));
    rows
}

fn rig() -> Rig {
    Rig::start(|setup| setup.config(&format!("{QUICK}{SHORT_ATTEMPTS}")))
}

/// Whatever the app does, senders are answered.
fn ill(mood: Mood, plan: &Plan) -> Row {
    let mut rig = rig();
    let cycles = plan.cycles(2);
    let load = rig.load(&format!("{mood:?}"), CONNECTIONS);
    for _ in 0..cycles {
        rig.app.set(mood);
        load.await_acks(ACKS);
        rig.app.set(Mood::Well);
        load.await_acks(20);
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    assert!(verdict.refusals.is_empty(), "senders feel it: {:?}", verdict.refusals);
    Row::new(&format!("app {mood:?}"), cycles, &verdict)
}

fn resets(plan: &Plan) -> Row {
    let mut rig = rig();
    let cycles = plan.cycles(2);
    let load = rig.load("resets", CONNECTIONS);
    for _ in 0..cycles {
        rig.app.reset_next(50);
        load.await_acks(ACKS);
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    assert!(verdict.refusals.is_empty(), "senders feel it: {:?}", verdict.refusals);
    Row::new("app resets", cycles, &verdict)
}

/// Six hours go by while nobody listens, and once more after a kill.
fn gone_for_hours(plan: &Plan) -> Row {
    const HOURS_S: i64 = 6 * 3600;
    let clock = ClockFile::new();
    let mut rig = Rig::start(|setup| clock.drives(setup.config(&format!("{QUICK}{SHORT_ATTEMPTS}"))));
    let cycles = plan.cycles(2);
    let mut recoveries = Vec::new();
    for cycle in 0..cycles {
        rig.app.down();
        let load = rig.load(&format!("gone-{cycle}"), CONNECTIONS);
        load.await_acks(ACKS);
        load.stop();
        // The sender lives in the same time.
        clock.pass(HOURS_S, &rig);
        if cycle % 2 == 1 {
            rig.kill9();
            rig.up();
        }
        rig.app.up();
        let back = Instant::now();
        let load = rig.load(&format!("back-{cycle}"), CONNECTIONS);
        recoveries.push(rig.recovery_from(back));
        load.stop();
        rig.settle().nothing_is_lost();
    }
    let verdict = rig.settle().nothing_is_lost();
    Row::new("app gone for 6 h", cycles, &verdict).recovered_in(recoveries)
}
