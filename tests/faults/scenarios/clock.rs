//! The wall clock jumps: nothing that is stored ages by it, and a repeat is known as one.

use super::Plan;
use crate::rig::{ClockFile, Mood, Rig};
use crate::table::Row;

const CONNECTIONS: usize = 16;
const ACKS: usize = 200;

const HOUR_S: i64 = 3600;
const TEN_YEARS_S: i64 = 10 * 365 * 24 * HOUR_S;

pub fn run(_plan: &Plan) -> Vec<Row> {
    [("clock +1 h", HOUR_S), ("clock -1 h", -HOUR_S), ("clock +10 y", TEN_YEARS_S), ("clock -10 y", -TEN_YEARS_S)]
        .into_iter()
        .map(|(name, by_s)| jump(name, by_s))
        .collect()
}

/// There and back, once while it runs and once while it is down, with events that wait.
fn jump(name: &str, by_s: i64) -> Row {
    let clock = ClockFile::new();
    let mut rig = Rig::start(|setup| clock.drives(setup));
    rig.app.set(Mood::Refusing);
    let some_more = |rig: &Rig, round: &str| {
        // Its first events are those of the round before, sent again: duplicates, or stored twice.
        let load = rig.load("clock", CONNECTIONS);
        load.await_acks(ACKS);
        load.stop();
        let load = rig.load(&format!("clock-{round}"), CONNECTIONS);
        load.await_acks(ACKS);
        load.stop();
    };
    some_more(&rig, "before");
    clock.jump(by_s, &rig);
    some_more(&rig, "after");
    clock.jump(0, &rig);
    some_more(&rig, "back");
    rig.kill9();
    clock.jump(by_s, &rig);
    rig.up();
    some_more(&rig, "restarted");
    rig.judge().nothing_is_lost();
    let verdict = rig.settle().nothing_is_lost();
    Row::new(name, 3, &verdict)
}
