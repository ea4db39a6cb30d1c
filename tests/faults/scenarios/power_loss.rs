//! The power goes under load: what was synced survives, and of the rest nothing, anything, or torn
//! pieces. And the control: with syncs that SQLite leaves out, the same must lose events.

use std::time::{Duration, Instant};

use super::Plan;
use crate::powerfs::Loss;
use crate::rig::{Machine, Mood, Verdict};
use crate::table::Row;

/// For each kind of loss.
const LOSSES: usize = 14;
/// The same for the control: one that loses is enough, but each kind has to.
const CONTROL_LOSSES: usize = 2;
/// For each kind of loss.
const CONNECTIONS: [usize; 3] = [16, 32, 64];

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    let kinds = Loss::ALL.into_iter().zip(CONNECTIONS);
    kinds.map(|(loss, connections)| lose_power(loss, connections, plan.cycles(LOSSES), &mut random)).collect()
}

fn lose_power(loss: Loss, connections: usize, losses: usize, random: &mut fastrand::Rng) -> Row {
    let mut machine = Machine::start(random.u64(..), |setup| setup);
    let load = machine.rig.load("power", connections);
    let mut recoveries = Vec::new();
    for _ in 0..losses {
        // Mostly the buffer alone has what was acknowledged.
        machine.rig.app.set(if random.u8(..3) == 0 { Mood::Human } else { Mood::Refusing });
        // With a slow disk a sync is under way at most moments.
        machine.disk.set_sync_delay(Duration::from_micros(random.u64(0..3_000)));
        load.await_acks(random.usize(1..60));
        // At any moment, not only right after an answer.
        std::thread::sleep(Duration::from_micros(random.u64(0..30_000)));
        machine.power_loss(random, loss);
        let back = Instant::now();
        machine.up_and_judge().nothing_is_lost();
        assert!(machine.damage_told() == 0.0, "what was lost unsynced was taken for damage");
        recoveries.push(machine.rig.recovery_from(back));
    }
    load.stop();
    let verdict = machine.rig.settle().nothing_is_lost();
    Row::new(&format!("power loss, {}", name(loss)), losses, &verdict).recovered_in(recoveries)
}

fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::Nothing => "nothing lost",
        Loss::Drop => "dropped",
        Loss::Reorder => "reordered",
        Loss::Tear => "torn",
    }
}

pub fn control(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    Loss::ALL.into_iter().map(|loss| lose_unsynced(loss, &mut random)).collect()
}

fn lose_unsynced(loss: Loss, random: &mut fastrand::Rng) -> Row {
    let mut machine = Machine::start(random.u64(..), |setup| setup.env("HOOKWARD_FAULT_SYNCHRONOUS", "normal"));
    machine.rig.app.set(Mood::Refusing);
    let load = machine.rig.load("control", CONNECTIONS[0]);
    for _ in 0..CONTROL_LOSSES {
        load.await_acks(100);
        machine.power_loss(random, loss);
        machine.up_and_judge();
    }
    load.stop();
    let verdict: Verdict = machine.rig.settle();
    assert!(!verdict.lost.is_empty(), "{loss:?}: nothing was lost without syncs, so these tests would see nothing");
    Row::new(&format!("control, {}", name(loss)), CONTROL_LOSSES, &verdict).note("without syncs: must lose")
}
