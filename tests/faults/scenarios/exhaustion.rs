//! What the system gives runs out: open files, the size of a file, memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::Plan;
use crate::attackers::{self, header};
use crate::harness::{Wire, allow_open_files, poll};
use crate::rig::{QUICK, Rig, Usage};
use crate::table::Row;

/// Genuine senders.
const SENDERS: usize = 8;
/// Connections that the app resets, as many as hookward has to it or more.
const RESETS: usize = 8;
/// The smallest there is; where pages are larger, memory runs out sooner.
const PAGE_BYTES: u64 = 4096;

pub fn run(plan: &Plan) -> Vec<Row> {
    allow_open_files(5_000);
    vec![few_open_files(plan), no_open_file(plan), file_size(plan), memory(plan)]
}

/// Lets a process have this much of something from now on; `None` is as much as we may have.
fn allow(pid: Pid, resource: Resource, most: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    let current = most.or(maximum);
    prlimit(Some(pid), resource, Rlimit { current, maximum }).expect("a child's limit can be set");
}

/// Fewer open files than `limits.connections` asks for, and attackers who hold all they can get:
/// what is left is enough for the senders that are connected, the app and the admin side.
fn few_open_files(plan: &Plan) -> Row {
    const OPEN_FILES: u32 = 200;
    const ATTACKERS: usize = 400;
    let cycles = plan.cycles(3);
    let mut rig = Rig::start(|setup| setup.open_files(OPEN_FILES));
    let pid = rig.hookward().pid();
    let load = rig.load("few", SENDERS);
    let mut recoveries = Vec::new();
    let mut most = 0;
    for _ in 0..cycles {
        load.await_acks(100);
        let attackers = attackers::connect_many(ATTACKERS, rig.hookward().listen());
        // Whatever the app's connections were, they have to be made anew.
        rig.app.reset_next(RESETS);
        load.await_acks(200);
        // The admin side answers.
        rig.hookward().await_metrics("the backlog is small", |metrics| {
            metrics.value("hookward_buffer_events", &[("state", "pending")]) < 200.0
        });
        most = most.max(Usage::of(pid).unwrap().descriptors);
        drop(attackers);
        recoveries.push(rig.recovery());
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    let note = format!("{most} of {OPEN_FILES} open, {ATTACKERS} attackers");
    Row::new("few open files", cycles, &verdict).recovered_in(recoveries).note(note)
}

/// Not one more file can be opened, while attackers ask for connections, the app's have to be made
/// anew, and the log is written back.
fn no_open_file(plan: &Plan) -> Row {
    const ATTACKERS: usize = 100;
    let cycles = plan.cycles(3);
    let mut rig = Rig::start(|setup| setup.config(&format!("{QUICK}buffer: {{ max_bytes: 4MiB }}\n")));
    let pid = rig.hookward().pid();
    let load = rig.load("none", SENDERS);
    let mut recoveries = Vec::new();
    for _ in 0..cycles {
        load.await_acks(100);
        // A descriptor is the lowest free number; a gap below may still be filled.
        allow(pid, Resource::Nofile, Some(Usage::of(pid).unwrap().descriptors));
        let attackers = attackers::connect_many(ATTACKERS, rig.hookward().listen());
        rig.app.reset_next(RESETS);
        // Over the connections that there are; a full buffer may refuse.
        let (acks, full) = (rig.ledger.acks(), rig.ledger.refusals("503 buffer_full"));
        poll("senders that are connected are answered", || {
            (rig.ledger.acks() >= acks + 200 || rig.ledger.refusals("503 buffer_full") > full).then_some(())
        });
        allow(pid, Resource::Nofile, None);
        drop(attackers);
        recoveries.push(rig.recovery());
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    assert_eq!(rig.hookward().metrics().value("hookward_process_panics_total", &[]), 0.0);
    let refused: usize = verdict.refusals.values().sum();
    Row::new("no open file left", cycles, &verdict).recovered_in(recoveries).note(format!("{refused} × 503"))
}

/// No file may grow any more (`RLIMIT_FSIZE`): a write to the log is cut off in its middle, and the
/// next one fails.
fn file_size(plan: &Plan) -> Row {
    /// The log is somewhere below it.
    const LOG_BYTES: u64 = 2 << 20;
    let cycles = plan.cycles(6);
    let mut random = plan.random();
    let mut rig = Rig::start(|setup| setup);
    let pid = rig.hookward().pid();
    let load = rig.load("size", SENDERS);
    let mut recoveries = Vec::new();
    for _ in 0..cycles {
        load.await_acks(100);
        let refused = rig.ledger.refusals("503 buffer_failed");
        allow(pid, Resource::Fsize, Some(random.u64(..LOG_BYTES)));
        poll("a write fails", || (rig.ledger.refusals("503 buffer_failed") > refused).then_some(()));
        allow(pid, Resource::Fsize, None);
        recoveries.push(rig.recovery());
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    Row::new("file size limit", cycles, &verdict).recovered_in(recoveries)
}

/// Longer than memory takes to run out.
const ATTACK_AT_MOST: Duration = Duration::from_secs(60);

/// The system gives no more memory: the process ends, as if killed, and goes on from its data.
fn memory(plan: &Plan) -> Row {
    let cycles = plan.cycles(3);
    let mut random = plan.random();
    // Address space is what can be limited from outside, and the allocator takes a gigabyte of that ahead.
    let mut rig = Rig::start(|setup| setup.env("MIMALLOC_ARENA_RESERVE", "1MiB"));
    let load = rig.load("memory", SENDERS);
    let mut recoveries = Vec::new();
    for _ in 0..cycles {
        load.await_acks(100);
        let (pid, address) = (rig.hookward().pid(), rig.hookward().listen());
        let size = address_space_bytes(pid);
        allow(pid, Resource::As, Some(size + random.u64(..8 << 20)));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Bodies that stay: each takes memory and gives none back.
            scope.spawn(|| {
                let opening = [header("Content-Length: 1048576"), vec![b'x'; 1_000_000]].concat();
                let mut held = VecDeque::new();
                let begun = Instant::now();
                // With a bound of its own: a failure of the other thread would wait for this one.
                while !over.load(Ordering::SeqCst) && begun.elapsed() < ATTACK_AT_MOST {
                    let Ok(stream) = attackers::connect(attackers::address(0), address) else { continue };
                    let mut wire = Wire::over(stream);
                    let _ = wire.try_send(&opening);
                    held.push_back(wire);
                    if held.len() > 200 {
                        held.pop_front();
                    }
                }
            });
            let (code, log) = rig.await_end();
            over.store(true, Ordering::SeqCst);
            assert_eq!(code, None, "it ended by itself: {log}");
            assert!(log.contains("memory allocation of"), "{log}");
        });
        let dead = Instant::now();
        rig.up();
        recoveries.push(rig.recovery_from(dead));
    }
    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    Row::new("memory runs out", cycles, &verdict).recovered_in(recoveries)
}

/// What `RLIMIT_AS` counts.
fn address_space_bytes(pid: Pid) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * PAGE_BYTES
}
