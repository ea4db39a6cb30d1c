//! The disk fails: once, at each of the first calls of hookward's life, and for a while.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuser::Errno;

use super::Plan;
use crate::powerfs::{Call, Loss};
use crate::rig::{Load, Machine, Mood, Verdict};
use crate::table::Row;

/// Calls of a life that fail, one in each life.
const CALLS: u64 = 200;
/// Lives at once: each mostly waits.
const AT_ONCE: usize = 3;
const CONNECTIONS: usize = 8;
/// How long a lasting failure lasts.
const LASTS: Duration = Duration::from_secs(1);
/// Under load each call comes within far less.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

pub fn run(plan: &Plan) -> Vec<Row> {
    vec![every_call_once(plan.seed), for_a_while(plan)]
}

/// Each of the first calls fails in a life of its own.
fn every_call_once(seed: u64) -> Row {
    let next = AtomicU64::new(1);
    let lives = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let nth = next.fetch_add(1, Ordering::SeqCst);
                        if nth > CALLS {
                            return;
                        }
                        let life = fail_once(seed, nth);
                        lives.lock().unwrap().push(life);
                    }
                })
            })
            .collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let (verdicts, recoveries): (Vec<_>, Vec<_>) = lives.into_inner().unwrap().into_iter().unzip();
    let at_start = recoveries.iter().filter(|recovery| recovery.is_none()).count();
    let verdict = Verdict::sum(verdicts);
    Row::new("EIO at the k-th call", usize::try_from(CALLS).unwrap(), &verdict)
        .recovered_in(recoveries.into_iter().flatten().collect())
        .note(format!("k = 1..{CALLS}; {at_start} of them end a start"))
}

/// One life in which this call fails; what the checker found after it and a power loss, and how long
/// it took to go on, where it was not the start that failed.
fn fail_once(seed: u64, nth: u64) -> (Verdict, Option<Duration>) {
    let mut machine = Machine::prepare(seed.wrapping_add(nth), |setup| setup);
    machine.rig.app.set(Mood::Refusing);
    let load = machine.rig.load(&format!("k{nth}"), CONNECTIONS);
    let failed = machine.disk.fail(&Call::ALL, nth, 1, Errno::EIO);
    let recovery = match machine.rig.setup().try_start() {
        Ok(hookward) => {
            machine.rig.is_up(hookward);
            let call = failed.recv_timeout(REACHED_WITHIN);
            assert!(call.is_ok(), "there were no {nth} calls");
            Some(machine.rig.recovery())
        }
        Err(finished) => {
            let message = finished.stderr.lines().last().unwrap_or_default();
            assert!(finished.code == Some(1), "call {nth}: {:?}, {}", finished.code, finished.stderr);
            let place = machine.rig.setup().data_dir();
            assert!(message.contains(&*place.to_string_lossy()), "call {nth}: names no place: {message}");
            machine.rig.up();
            None
        }
    };
    load.await_acks(20);
    machine.power_loss(&mut fastrand::Rng::with_seed(nth), Loss::Drop);
    machine.up_and_judge().nothing_is_lost();
    load.stop();
    (machine.rig.settle().nothing_is_lost(), recovery)
}

/// Every call of a kind fails for a while, under load; then it heals.
fn for_a_while(plan: &Plan) -> Row {
    let mut random = plan.random();
    let mut machine = Machine::start(random.u64(..), |setup| setup);
    let load = machine.rig.load("while", 2 * CONNECTIONS);
    let kinds: [&[Call]; 3] = [&[Call::Write], &[Call::Sync], &Call::ALL];
    let mut recoveries = Vec::new();
    let cycles = plan.cycles(kinds.len()).max(kinds.len());
    for cycle in 0..cycles {
        machine.rig.app.set(if random.bool() { Mood::Human } else { Mood::Refusing });
        load.await_acks(30);
        recoveries.push(fail_for_a_while(&machine, &load, kinds[cycle % kinds.len()]));
        // What was acknowledged before, meanwhile and since is there after a power loss.
        machine.power_loss(&mut random, Loss::Drop);
        machine.up_and_judge().nothing_is_lost();
    }
    load.stop();
    let verdict = machine.rig.settle().nothing_is_lost();
    Row::new("EIO for a while", cycles, &verdict).recovered_in(recoveries)
}

fn fail_for_a_while(machine: &Machine, load: &Load, kinds: &[Call]) -> Duration {
    let failed = machine.disk.fail(kinds, 1, u64::MAX, Errno::EIO);
    assert!(failed.recv_timeout(REACHED_WITHIN).is_ok());
    std::thread::sleep(LASTS);
    machine.disk.heal();
    let healed = Instant::now();
    let recovery = machine.rig.recovery_from(healed);
    load.await_acks(30);
    recovery
}
