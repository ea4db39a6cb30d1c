//! kill -9 at any moment under 64 connections.

use std::time::Duration;

use super::Plan;
use crate::rig::{Mood, Rig};
use crate::table::Row;

const KILLS: usize = 100;
const CONNECTIONS: usize = 64;

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    let kills = plan.cycles(KILLS);
    let mut rig = Rig::start(|setup| setup);
    rig.app.set(Mood::Human);
    let load = rig.load("kill", CONNECTIONS);
    let mut recoveries = Vec::new();
    for _ in 0..kills {
        load.await_acks(random.usize(1..150));
        // At any moment, not only right after an answer.
        std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
        rig.kill9();
        let dead = std::time::Instant::now();
        rig.up();
        recoveries.push(rig.recovery_from(dead));
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    vec![Row::new("kill -9", kills, &verdict).recovered_in(recoveries)]
}
