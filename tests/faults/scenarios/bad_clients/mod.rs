//! Bad clients, while genuine senders keep posting over connections of their own: these are answered
//! in time, and what hookward takes of the machine stays within what its limits say.
//!
//! # The bounds
//! Open files: the base, `limits.connections`, and [`OTHER_DESCRIPTORS`] for connections that are
//! being refused; a flood that is accepted in one go is beyond that for a moment. After the attack there are as many as before.
//!
//! Resident memory: the base, and
//! - for each of `limits.connections`: [`CONNECTION_BYTES`], [`BODY_BUFFER_BYTES`], and
//!   `limits.header_bytes` twice, as the buffer of a header that is not complete grows by doubling;
//! - `limits.body_memory` twice, for the same reason;
//! - [`OTHER_BYTES`].
//!
//! The allocator keeps most of it after the attack, so that what it has is compared with the same
//! bound after round upon round: a leak would add up.

mod attacks;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Pid;

use super::Plan;
use crate::attackers::Came;
use crate::harness::{allow_open_files, poll_within};
use crate::rig::{Ledger, Load, QUICK, RECOVERY_WITHIN, Rig, Usage, Watch};
use crate::table::Row;

/// Genuine senders.
const SENDERS: usize = 8;
/// Genuine senders that come only when the attack has begun: they may be refused until it is over.
const NEWCOMERS: usize = 2;
/// Answers 200 before the attack, so that what is allocated once is there.
const WARM_UP_ACKS: usize = 300;
/// Answers 200 that there must be while the attack goes on; the load waits 30 s for them at most.
const ACKS_MEANWHILE: usize = 100;
/// How often an attack is repeated at least: what it leaves behind must not add up.
const ROUNDS_MIN: usize = 2;
/// One in so many answers may be later than Telnyx waits: two cores, and who knows what else on them.
const LATE_ONE_IN: usize = 20;

/// What an idle connection costs; a black-box test holds hookward to it.
const CONNECTION_BYTES: u64 = 40 << 10;
/// What pingora reads a body into.
const BODY_BUFFER_BYTES: u64 = 64 << 10;
/// The queue of the committer (8 MiB), events in memory (16 MiB), known ids, and what the allocator
/// keeps.
const OTHER_BYTES: u64 = 40 << 20;
/// What hookward itself counts on beside its connections.
const OTHER_DESCRIPTORS: u64 = 256;

/// Limits of one attack.
#[derive(Clone, Copy)]
struct Limits {
    connections: u64,
    header_bytes: u64,
    body_memory_bytes: u64,
    header_timeout: Duration,
    body_timeout: Duration,
}

/// Small where the default would only take longer to reach.
const SMALL: Limits = Limits {
    connections: 2_500,
    header_bytes: 16 << 10,
    body_memory_bytes: 8 << 20,
    header_timeout: Duration::from_secs(2),
    body_timeout: Duration::from_secs(2),
};

impl Limits {
    fn yaml(&self) -> String {
        let Limits { connections, header_bytes, body_memory_bytes, header_timeout, body_timeout } = self;
        format!(
            "limits: {{ connections: {connections}, header_bytes: {header_bytes}, body_memory: {body_memory_bytes}, header_timeout: {}ms, body_timeout: {}ms }}\n",
            header_timeout.as_millis(),
            body_timeout.as_millis(),
        )
    }

    /// What an attack may take beyond what there was.
    fn most(&self) -> Usage {
        let connection_bytes = CONNECTION_BYTES + BODY_BUFFER_BYTES + 2 * self.header_bytes;
        Usage {
            resident_bytes: self.connections * connection_bytes + 2 * self.body_memory_bytes + OTHER_BYTES,
            descriptors: self.connections + OTHER_DESCRIPTORS,
        }
    }
}

/// One kind of bad clients.
struct Attack {
    name: &'static str,
    limits: Limits,
    /// One round of it; how many clients there were, and what became of them.
    round: fn(&Target<'_>) -> Came,
}

/// What is attacked.
struct Target<'a> {
    address: SocketAddr,
    limits: Limits,
    ledger: &'a Ledger,
    pid: Pid,
    /// What it may have open with all its connections.
    descriptors_max: u64,
    /// Differs from round to round.
    seed: u64,
}

const ATTACKS: [Attack; 7] = [
    Attack { name: "garbage", limits: SMALL, round: attacks::send_garbage },
    Attack { name: "slowloris", limits: SMALL, round: attacks::drip },
    Attack { name: "endless bodies", limits: SMALL, round: attacks::pour_bodies },
    Attack { name: "connect and leave", limits: SMALL, round: attacks::connect_and_leave },
    Attack { name: "beyond 200 at once", limits: Limits { connections: 200, ..SMALL }, round: attacks::hold_too_many },
    Attack { name: "beyond 2500 at once", limits: SMALL, round: attacks::hold_too_many },
    Attack { name: "forged signatures", limits: SMALL, round: attacks::forge },
];

pub fn run(plan: &Plan) -> Vec<Row> {
    // Both ends of every connection but hookward's are ours.
    allow_open_files(10_000);
    ATTACKS.iter().map(|attack| endure(attack, plan)).collect()
}

fn endure(attack: &Attack, plan: &Plan) -> Row {
    let (name, most) = (attack.name, attack.limits.most());
    let mut rig = Rig::start(|setup| setup.config(&format!("{QUICK}{}", attack.limits.yaml())));
    let pid = rig.hookward().pid();
    let load = rig.load("genuine", SENDERS);
    load.await_acks(WARM_UP_ACKS);
    let base = Usage::of(pid).unwrap();
    let watch = Watch::start(pid);

    let (came, rounds) = attack_meanwhile(attack, plan, &rig, &load, base);
    let recovery = rig.recovery();
    let peak = watch.peak().beyond(base);
    assert!(peak.descriptors <= most.descriptors, "{name}: {} open files of {}", peak.descriptors, most.descriptors);
    assert!(peak.resident_bytes <= most.resident_bytes, "{name}: {} of {}", mb(peak), mb(most));
    let after = poll_within(RECOVERY_WITHIN, "the attackers' descriptors are closed", || {
        let after = Usage::of(pid)?.beyond(base);
        (after.descriptors <= 2 * (SENDERS + NEWCOMERS) as u64).then_some(after)
    });
    let panics = rig.hookward().metrics().value("hookward_process_panics_total", &[]);
    assert_eq!(panics, 0.0, "{}", rig.hookward().stderr());

    load.stop();
    let verdict = rig.settle().nothing_is_lost();
    let (late, acked, slowest_ms) = (verdict.late_acks, verdict.acked, verdict.slowest_ack.as_millis());
    assert!(late * LATE_ONE_IN <= acked, "{late} of {acked} acks were late, the slowest took {slowest_ms} ms");
    let refused: usize = verdict.refusals.values().sum();
    Row::new(name, rounds, &verdict).recovered_in(vec![recovery]).note(format!(
        "{} clients ({}); +{} of {}, after it +{}; +{} files of {}; slowest ack {slowest_ms} ms, {refused} × 503",
        came.all(),
        came.summary(),
        mb(peak),
        mb(most),
        mb(after),
        peak.descriptors,
        most.descriptors,
    ))
}

/// Round upon round until there were enough of them, and enough genuine events were answered 200;
/// whoever has come meanwhile is answered in the end, too.
fn attack_meanwhile(attack: &Attack, plan: &Plan, rig: &Rig, load: &Load, base: Usage) -> (Came, usize) {
    let mut random = plan.random();
    let over = AtomicBool::new(false);
    let limits = attack.limits;
    let hookward = rig.hookward();
    let attackers = || {
        let (mut came, mut rounds) = (Came::default(), 0);
        while rounds < plan.cycles(ROUNDS_MIN) || !over.load(Ordering::SeqCst) {
            came.add((attack.round)(&Target {
                address: hookward.listen(),
                pid: hookward.pid(),
                limits,
                descriptors_max: base.descriptors + limits.most().descriptors,
                ledger: &rig.ledger,
                seed: random.u64(..),
            }));
            rounds += 1;
        }
        (came, rounds)
    };
    std::thread::scope(|scope| {
        let attackers = scope.spawn(attackers);
        let _newcomers = rig.load("newcomer", NEWCOMERS);
        // A failure here ends the attack first.
        let acked = catch_unwind(AssertUnwindSafe(|| load.await_acks(ACKS_MEANWHILE)));
        over.store(true, Ordering::SeqCst);
        let came = attackers.join().unwrap_or_else(|panic| resume_unwind(panic));
        acked.unwrap_or_else(|panic| resume_unwind(panic));
        poll_within(RECOVERY_WITHIN, "the event of who came meanwhile arrives", || {
            rig.ledger.is_confirmed("newcomer-0-0").then_some(())
        });
        came
    })
}

fn mb(usage: Usage) -> String {
    format!("{} MB", usage.resident_bytes / 1_000_000)
}
