//! The disk is full, to the last byte or nearly; deliveries go on, and with room everything does.

use std::time::{Duration, Instant};

use fuser::Errno;

use super::Plan;
use crate::harness::poll_within;
use crate::powerfs::Call;
use crate::rig::{CAPACITY_BYTES, Load, Machine, Mood};
use crate::table::Row;

/// Room that is left when somebody else fills the disk.
const LEFT_BYTES: [u64; 3] = [0, 64 << 10, 1 << 20];
/// As hookward makes it some time after a start on a disk with plenty of room.
const BALLAST_BYTES: usize = 16 << 20;
/// Writes of which one finds no room.
const WRITES_MAX: u64 = 150;
const ALLOCATIONS: usize = 12;
const CONNECTIONS: usize = 16;
const WITHIN: Duration = Duration::from_secs(20);

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut rows: Vec<Row> = LEFT_BYTES.into_iter().map(|left| fill(left, plan)).collect();
    rows.push(start_on_full(plan));
    rows.push(single_allocations(plan));
    rows
}

fn refusals(machine: &Machine) -> usize {
    machine.rig.ledger.refusals("503 buffer_full")
}

/// Nothing but "the disk is full" was said.
fn only_full(machine: &Machine) {
    assert_eq!(machine.rig.ledger.refusals("503 buffer_failed"), 0, "a full disk is not a failed one");
}

/// Somebody else fills the disk but for so many bytes.
fn fill(left_bytes: u64, plan: &Plan) -> Row {
    let mut machine = Machine::prepare(plan.seed, |setup| setup);
    make_ballast(&machine);
    machine.rig.up();
    let load = machine.rig.load("full", CONNECTIONS);
    // A backlog that is to be delivered while the disk is full.
    machine.rig.app.set(Mood::Refusing);
    load.await_acks(200);
    machine.disk.set_capacity(machine.disk.used_bytes() + left_bytes);
    poll_within(WITHIN, "new events are refused", || (refusals(&machine) > 0).then_some(()));
    machine.rig.app.set(Mood::Well);
    machine.await_delivered();
    machine.disk.set_capacity(CAPACITY_BYTES);
    let freed = Instant::now();
    let recovery = machine.rig.recovery_from(freed);
    load.await_acks(50);
    load.stop();
    only_full(&machine);
    let refused = refusals(&machine);
    let verdict = machine.rig.settle().nothing_is_lost();
    Row::new(&format!("disk full, {} KiB left", left_bytes >> 10), 1, &verdict)
        .recovered_in(vec![recovery])
        .note(format!("{refused} x 503 buffer_full"))
}

/// It is started where there is no room at all, with a backlog: that is delivered.
fn start_on_full(plan: &Plan) -> Row {
    let mut machine = Machine::start(plan.seed, |setup| setup);
    let load = machine.rig.load("start", CONNECTIONS);
    machine.rig.app.set(Mood::Refusing);
    load.await_acks(200);
    machine.rig.kill9();
    make_ballast(&machine);
    machine.disk.set_capacity(machine.disk.used_bytes());
    machine.up_and_judge().nothing_is_lost();
    machine.rig.app.set(Mood::Well);
    machine.await_delivered();
    machine.disk.set_capacity(CAPACITY_BYTES);
    let recovery = machine.rig.recovery();
    load.stop();
    only_full(&machine);
    let verdict = machine.rig.settle().nothing_is_lost();
    Row::new("start on a full disk", 1, &verdict).recovered_in(vec![recovery])
}

fn make_ballast(machine: &Machine) {
    let dir = machine.rig.setup().data_dir();
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("ballast"), vec![1; BALLAST_BYTES]).unwrap();
}

/// One write finds no room, again and again, under load.
fn single_allocations(plan: &Plan) -> Row {
    let mut random = plan.random();
    let mut machine = Machine::start(plan.seed, |setup| setup);
    let load = machine.rig.load("alloc", CONNECTIONS);
    let cycles = plan.cycles(ALLOCATIONS);
    let mut recoveries = Vec::new();
    for _ in 0..cycles {
        machine.rig.app.set(if random.bool() { Mood::Human } else { Mood::Refusing });
        load.await_acks(20);
        recoveries.push(no_room_once(&machine, &load, random.u64(1..=WRITES_MAX)));
    }
    load.stop();
    only_full(&machine);
    let verdict = machine.rig.settle().nothing_is_lost();
    Row::new("no room for one write", cycles, &verdict).recovered_in(recoveries)
}

fn no_room_once(machine: &Machine, load: &Load, nth: u64) -> Duration {
    let failed = machine.disk.fail(&[Call::Write, Call::Truncate], nth, 1, Errno::ENOSPC);
    assert!(failed.recv_timeout(WITHIN).is_ok(), "there were no {nth} writes");
    let recovery = machine.rig.recovery();
    load.await_acks(20);
    recovery
}
