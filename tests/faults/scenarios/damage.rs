//! The medium damages what is stored: single bits flip, sectors come back as zeros. No altered body
//! is forwarded, and whatever cannot be delivered any more is reported.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::panic::resume_unwind;
use std::time::Duration;

use tempfile::TempDir;

use super::Plan;
use crate::harness::{Hookward, poll_within};
use crate::rig::{Mood, QUICK, Rig, Verdict};
use crate::table::Row;

/// Of single bits.
const FLIPS: usize = 300;
/// Of sectors that come back as zeros.
const ZEROED: usize = 100;
/// Answers 200 in each state of the data set, pending ones in each file: some 2 MB with what stands
/// around the events.
const DELIVERED: usize = 80;
const DEAD: usize = 40;
const PENDING: usize = 60;
const CONNECTIONS: usize = 8;
/// Damaged copies that are looked at at a time.
const AT_ONCE: usize = 4;
/// For a start and the deliveries after it, of a process that runs unoptimised beside others.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// The first refusal of the app is the last, and the end comes soon.
const ONE_REFUSAL: &str =
    "delivery: { retry: { base: 20ms, max: 200ms, client_errors: 1 } }\nshutdown: { drain: 100ms }\n";

const FILES: [&str; 2] = ["hookward.db", "hookward.db-wal"];

pub fn run(plan: &Plan) -> Vec<Row> {
    let mut random = plan.random();
    let set = DataSet::build();
    let flip = |file: &File, at: u64, random: &mut fastrand::Rng| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << random.u8(..8);
        file.write_all_at(&byte, at).unwrap();
    };
    let zero = |file: &File, at: u64, random: &mut fastrand::Rng| {
        let bytes: u64 = if random.bool() { 512 } else { 4096 };
        let from = at / bytes * bytes;
        let end = file.metadata().unwrap().len().min(from + bytes);
        file.write_all_at(&vec![0; usize::try_from(end - from).unwrap()], from).unwrap();
    };
    vec![
        set.damage("bit flipped", plan.cycles(FLIPS), &mut random, flip),
        set.damage("sector zeroed", plan.cycles(ZEROED), &mut random, zero),
    ]
}

/// What a hookward left behind that was killed with events in every state.
struct DataSet {
    dir: TempDir,
    pending: HashSet<String>,
    dead: usize,
}

/// What became of one damaged copy.
enum Outcome {
    /// It did not start, and said why.
    Refused,
    /// It delivered all but these, and told of them.
    Ran { missing: usize, quarantined: usize },
}

impl DataSet {
    fn build() -> DataSet {
        let dir = TempDir::with_prefix("hookward-set-").unwrap();
        let mut rig = Rig::start(|setup| setup.config(ONE_REFUSAL).data_at(dir.path()));
        let phase = |rig: &Rig, mood: Mood, state: &str, events: usize| {
            rig.app.set(mood);
            let load = rig.load(state, if events == 1 { 1 } else { CONNECTIONS });
            load.await_acks(events);
            load.stop();
        };
        phase(&rig, Mood::Well, "delivered", DELIVERED);
        rig.settle();
        phase(&rig, Mood::Rejecting, "dead", DEAD);
        let dead = || rig.hookward().metrics().value("hookward_buffer_events", &[("state", "pending")]) == 0.0;
        poll_within(SETTLES_WITHIN, "they are dead", || dead().then_some(()));
        // Most are never tried: then the next one does so at once.
        rig.app.down();
        phase(&rig, Mood::Well, "pending-in-the-database", PENDING);
        // A clean end writes the log back; the next one begins anew.
        rig.hookward().sigterm();
        assert_eq!(rig.await_end().0, Some(0));
        rig.up();
        phase(&rig, Mood::Well, "pending-in-the-log", PENDING);
        // The last commit of a log cannot be told from one that was never finished: it is this one,
        // and nobody misses it.
        phase(&rig, Mood::Well, "last", 1);
        let held = rig.held();
        let pending: HashSet<String> = held.pending().iter().filter(|id| !id.starts_with("last")).cloned().collect();
        let dead = held.dead();
        rig.kill9();
        // Some answers were to repeats.
        assert!(pending.len() > PENDING / 2 && dead > DEAD / 2, "{} pending, {dead} dead", pending.len());
        DataSet { dir, pending, dead }
    }

    /// Damages a copy after the other with `spoil`, at places all over the files.
    fn damage(
        &self,
        name: &str,
        cycles: usize,
        random: &mut fastrand::Rng,
        spoil: impl Fn(&File, u64, &mut fastrand::Rng) + Sync,
    ) -> Row {
        let acked = self.pending.len() + self.dead;
        let mut verdict = Verdict { acked, ..Verdict::default() };
        let (mut refused, mut reported_missing) = (0, 0);
        for outcome in self.outcomes(cycles, random, spoil) {
            match outcome {
                Outcome::Refused => refused += 1,
                Outcome::Ran { missing, quarantined } => {
                    verdict.quarantined += quarantined;
                    reported_missing += missing;
                }
            }
        }
        Row::new(name, cycles, &verdict).reported(reported_missing).note(format!("{refused} refused at start"))
    }

    /// Several at a time: each mostly waits.
    fn outcomes(
        &self,
        cycles: usize,
        random: &mut fastrand::Rng,
        spoil: impl Fn(&File, u64, &mut fastrand::Rng) + Sync,
    ) -> Vec<Outcome> {
        let seeds: Vec<u64> = std::iter::repeat_with(|| random.u64(..)).take(cycles).collect();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|worker| {
                    let seeds = seeds.iter().skip(worker).step_by(AT_ONCE);
                    let spoil = &spoil;
                    scope.spawn(move || seeds.map(|seed| self.damaged_copy(*seed, spoil)).collect::<Vec<_>>())
                })
                .collect();
            let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.flatten().collect()
        })
    }

    fn damaged_copy(&self, seed: u64, spoil: impl Fn(&File, u64, &mut fastrand::Rng)) -> Outcome {
        let mut random = fastrand::Rng::with_seed(seed);
        let copy = TempDir::with_prefix("hookward-copy-").unwrap();
        for file in FILES {
            std::fs::copy(self.dir.path().join(file), copy.path().join(file)).unwrap();
        }
        let (file, at) = somewhere(&copy, &mut random);
        spoil(&OpenOptions::new().read(true).write(true).open(copy.path().join(file)).unwrap(), at, &mut random);
        self.outcome(&copy, &format!("byte {at} of {file}"))
    }

    fn outcome(&self, copy: &TempDir, place: &str) -> Outcome {
        let mut rig = Rig::prepare(|setup| setup.config(QUICK).data_at(copy.path()));
        match rig.setup().try_start() {
            Ok(hookward) => rig.is_up(hookward),
            Err(finished) => {
                assert_eq!(finished.code, Some(1), "{place}: {finished:?}");
                assert!(finished.stderr.contains("hookward: "), "{place}: {finished:?}");
                return Outcome::Refused;
            }
        }
        let hookward = rig.hookward();
        let is_over = || {
            let now = Told::by(hookward);
            (now.pending == 0 || now.failed).then_some(now)
        };
        let told = poll_within(SETTLES_WITHIN, &format!("{place}: it settles"), is_over);
        let faults = rig.ledger.faults();
        assert!(faults.is_empty(), "{place}: {faults:?}");
        let delivered = self.pending.iter().filter(|id| rig.ledger.is_confirmed(id)).count();
        let missing = self.pending.len() - delivered + self.dead.saturating_sub(told.dead);
        let is_reported = told.failed || told.damaged || missing <= told.quarantined;
        assert!(is_reported, "{place}: {missing} are missing without a word");
        Outcome::Ran { missing, quarantined: told.quarantined }
    }
}

/// A byte of the one file or the other.
fn somewhere(copy: &TempDir, random: &mut fastrand::Rng) -> (&'static str, u64) {
    let file = FILES[random.usize(..FILES.len())];
    (file, random.u64(..copy.path().join(file).metadata().unwrap().len()))
}

/// What hookward says of its buffer.
struct Told {
    pending: usize,
    dead: usize,
    quarantined: usize,
    damaged: bool,
    failed: bool,
}

impl Told {
    fn by(hookward: &Hookward) -> Told {
        let metrics = hookward.metrics();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let events = |state| metrics.value("hookward_buffer_events", &[("state", state)]) as usize;
        let errors = |kind| metrics.value("hookward_buffer_errors_total", &[("kind", kind)]) > 0.0;
        Told {
            pending: events("pending"),
            dead: events("dead"),
            quarantined: events("quarantined"),
            damaged: errors("damaged"),
            failed: errors("failed"),
        }
    }
}
