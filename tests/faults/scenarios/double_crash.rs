//! A crash, then a second and a third one while hookward recovers from the one before.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::Plan;
use crate::powerfs::{Call, Loss};
use crate::rig::{Machine, Mood};
use crate::table::Row;

const CYCLES: usize = 20;
const CRASHES_IN_RECOVERY: usize = 2;
/// Writes and syncs of a start, up to a little after it is ready.
const CALLS_MAX: u64 = 8;
const CONNECTIONS: usize = 16;
/// A start gets to its last call in far less.
const STARTED_WITHIN: Duration = Duration::from_secs(20);

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    let mut machine = Machine::start(random.u64(..), |setup| setup);
    let load = machine.rig.load("double", CONNECTIONS);
    let cycles = plan.cycles(CYCLES);
    let mut recoveries = Vec::new();
    for _ in 0..cycles {
        machine.rig.app.set(if random.bool() { Mood::Human } else { Mood::Refusing });
        load.await_acks(random.usize(1..60));
        let loss = any(&mut random);
        machine.power_loss(&mut random, loss);
        for _ in 0..CRASHES_IN_RECOVERY {
            crash_in_recovery(&machine, &mut random);
        }
        let back = Instant::now();
        machine.up_and_judge().nothing_is_lost();
        assert!(machine.damage_told() == 0.0, "what was lost unsynced was taken for damage");
        recoveries.push(machine.rig.recovery_from(back));
    }
    load.stop();
    let verdict = machine.rig.settle().nothing_is_lost();
    vec![Row::new("crash in recovery", cycles, &verdict).recovered_in(recoveries)]
}

/// A power loss, or a kill of the process alone.
fn any(random: &mut fastrand::Rng) -> Loss {
    [Loss::Nothing, Loss::Drop, Loss::Reorder, Loss::Tear][random.usize(..4)]
}

/// Starts hookward and lets it die right before a write or a sync, or after one and before it knows.
fn crash_in_recovery(machine: &Machine, random: &mut fastrand::Rng) {
    let (there, is_there) = channel();
    let switch = machine.disk.switch();
    let die = move || {
        switch.power_off();
        // Nobody waits any more where it has been given up.
        let _ = there.send(());
    };
    let (kinds, nth) = ([Call::Write, Call::Sync], random.u64(1..=CALLS_MAX));
    if random.bool() {
        machine.disk.before(&kinds, nth, die);
    } else {
        machine.disk.after(&kinds, nth, die);
    }
    let mut process = machine.rig.setup().spawn();
    let reached = is_there.recv_timeout(STARTED_WITHIN);
    process.kill9();
    assert!(reached.is_ok(), "no {nth} writes and syncs in a start: {}", process.stderr());
    machine.disk.power_on(random.u64(..), any(random));
}
