//! Files that the medium has damaged, opened as a start opens them: every event is there as it was,
//! or its loss is told. Nothing is ever handed out altered.

use super::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// What was answered 200, as the files under test should hold it.
#[derive(Default, Clone)]
struct Truth {
    /// Bodies of events that are to be delivered or dead, by `data.id`.
    bodies: BTreeMap<String, Vec<u8>>,
    /// Events whose repeat must be known.
    delivered: Vec<String>,
}

/// The files as a process that was killed leaves them.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    fn of(dir: &Path) -> Files {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        Files { database: read(DATABASE_FILE), log: read("hookward.db-wal") }
    }

    fn put(&self, dir: &Path) {
        std::fs::write(dir.join(DATABASE_FILE), &self.database).unwrap();
        std::fs::write(dir.join("hookward.db-wal"), &self.log).unwrap();
    }
}

fn body_of(n: usize) -> Vec<u8> {
    let length = 20 + (n * 797) % 900;
    (0..length).map(|at| u8::try_from((at * 31 + n * 7) % 251).unwrap()).collect()
}

/// Some two megabytes of pending, delivered and dead events and retries, half of them in the log.
fn filled(dir: &Path) -> Truth {
    let (mut engine, _) = SqliteBuffer::open(dir, settings()).unwrap();
    let mut truth = Truth::default();
    let mut n = 0;
    for group in 0..300 {
        let now = RunMs(1_000 + group);
        let ids: Vec<usize> = (n..n + 1 + (n * 5) % 17).collect();
        n += ids.len();
        let appends = ids.iter().map(|n| append(&format!("event {n}"), &body_of(*n), n % 3 != 0)).collect();
        let appended = engine.commit(&Work { appends, settlements: vec![] }, now).unwrap();
        let mut settlements = Vec::new();
        for (n, appended) in ids.iter().zip(appended) {
            let Appended::Stored { seq, claimed } = appended else { panic!("{appended:?}") };
            let id = format!("event {n}");
            let outcome = match n % 7 {
                _ if !claimed => None,
                1 => Some(Outcome::Dead { error: "400".into() }),
                2 => Some(Outcome::RetryAt { due: RunMs(2_000), client_errors: 0, error: "503".into() }),
                3 | 5 => Some(Outcome::Delivered),
                _ => None,
            };
            if outcome == Some(Outcome::Delivered) {
                truth.delivered.push(id);
            } else {
                truth.bodies.insert(id, body_of(*n));
            }
            settlements.extend(outcome.map(|outcome| Settlement { seq, outcome, attempts: 1, last: None }));
        }
        engine.commit(&Work { appends: vec![], settlements }, now).unwrap();
        if group == 240 {
            engine.checkpoint().unwrap();
        }
    }
    Box::new(engine).abandon();
    truth
}

/// How a start on damaged files went.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Everything is there, as it was.
    Whole,
    /// Something is not, and it was told.
    Told(String),
}

/// Opens the files and takes out all that is to be delivered. An error says what was hidden.
fn look_into(dir: &Path, truth: &Truth) -> Result<Found, String> {
    let (mut engine, recovery) = match SqliteBuffer::open(dir, settings()) {
        Ok(opened) => opened,
        Err(error) => return Ok(Found::Told(format!("refused: {error}"))),
    };
    let now = RunMs(10_000);
    let mut told: Vec<String> = recovery.damage.iter().map(|damage| format!("{damage:?}")).collect();
    let mut missing: HashSet<&str> = truth.bodies.keys().map(String::as_str).collect();
    let taken = take_all(&mut engine, now);
    let events = taken.unwrap_or_else(|error| {
        told.push(format!("failed: {error}"));
        vec![]
    });
    for claimed in &events {
        let id = claimed.event.event_id.as_deref().unwrap_or("");
        let Some(body) = truth.bodies.get(id) else {
            // One that had been delivered comes again at most.
            if truth.delivered.iter().any(|delivered| delivered == id) && !told.is_empty() {
                continue;
            }
            return Err(format!("{id:?} was handed out"));
        };
        if claimed.event.body != body || claimed.event.head != event(id, b"").head {
            return Err(format!("{id} was altered"));
        }
        if !missing.remove(id) && told.is_empty() {
            return Err(format!("{id} was handed out twice"));
        }
    }
    let quarantined = engine.stats(now).quarantined;
    if quarantined > 0 {
        told.push(format!("{quarantined} quarantined"));
    }
    if told.is_empty() && !missing.is_empty() {
        return Err(format!("{} are missing: {missing:?}", missing.len()));
    }
    let repeats: Vec<&String> = truth.delivered.iter().chain(truth.bodies.keys()).collect();
    let appends = repeats.iter().map(|id| append(id, b"again", false)).collect();
    match engine.commit(&Work { appends, settlements: vec![] }, now) {
        Ok(appended) if told.is_empty() => {
            let anew = repeats.iter().zip(appended).find(|(_, appended)| !matches!(appended, Appended::Duplicate { .. }));
            if let Some((id, _)) = anew {
                return Err(format!("a repeat of {id} was taken for new"));
            }
        }
        Ok(_) => {}
        Err(error) => told.push(format!("failed: {error}")),
    }
    Box::new(engine).abandon();
    Ok(if told.is_empty() { Found::Whole } else { Found::Told(told.join(", ")) })
}

fn take_all(engine: &mut SqliteBuffer, now: RunMs) -> Result<Vec<Claimed>, BufferError> {
    let dead = engine.dead_after(Seq(0), 100_000)?;
    let repairs: Vec<Repair> = dead.into_iter().map(Repair::Redrive).collect();
    engine.repair(&repairs, now)?;
    let mut all = Vec::new();
    loop {
        let claims = engine.claim("default", ClaimLimit { events: 100, bytes: 1 << 20 }, now)?;
        if claims.events.is_empty() {
            return Ok(all);
        }
        all.extend(claims.events);
    }
}

/// Damage of one place.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip { at: usize, bit: u32 },
    Zero { at: usize, length: usize },
    Cut { at: usize },
}

impl Harm {
    fn to(self, bytes: &mut Vec<u8>) {
        match self {
            Harm::Flip { at, bit } => bytes[at] ^= 1 << bit,
            Harm::Zero { at, length } => {
                let end = (at + length).min(bytes.len());
                bytes[at..end].fill(0);
            }
            Harm::Cut { at } => bytes.truncate(at),
        }
    }
}

/// Harms the database or the log as told, and judges; returns what was hidden.
fn harm_all(harms: impl IntoIterator<Item = (bool, Harm)>) -> (Vec<String>, BTreeMap<String, usize>) {
    let dir = in_memory_dir();
    let truth = filled(dir.path());
    let files = Files::of(dir.path());
    assert!(files.database.len() + files.log.len() > 2_000_000, "{} {}", files.database.len(), files.log.len());
    assert_eq!(look_into(dir.path(), &truth), Ok(Found::Whole));
    let mut hidden = Vec::new();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for (in_log, harm) in harms {
        let mut harmed = files.clone();
        harm.to(if in_log { &mut harmed.log } else { &mut harmed.database });
        harmed.put(dir.path());
        let file = if in_log { "log" } else { "database" };
        match look_into(dir.path(), &truth) {
            Ok(Found::Whole) => *outcomes.entry("whole".into()).or_default() += 1,
            Ok(Found::Told(how)) => *outcomes.entry(how.chars().filter(|c| !c.is_ascii_digit()).collect()).or_default() += 1,
            Err(what) => hidden.push(format!("{harm:?} of the {file}: {what}")),
        }
    }
    (hidden, outcomes)
}

/// The sizes of [`filled`] files, which are the same every time.
fn places(count: usize, seed: u64) -> Vec<(bool, Harm)> {
    let dir = in_memory_dir();
    filled(dir.path());
    let files = Files::of(dir.path());
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|n| {
            let in_log = random.bool();
            let size = if in_log { files.log.len() } else { files.database.len() };
            let harm = match n % 3 {
                0 => Harm::Flip { at: random.usize(..size), bit: random.u32(..8) },
                1 => Harm::Zero { at: random.usize(..size / 512) * 512, length: 512 },
                _ => Harm::Zero { at: random.usize(..size / 4096) * 4096, length: 4096 },
            };
            (in_log, harm)
        })
        .collect()
}

#[test]
fn no_flipped_bit_and_no_zeroed_sector_hides_an_event_or_alters_one() {
    let count = std::env::var("HOOKWARD_HARMS").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let (hidden, outcomes) = harm_all(places(count, 7));
    println!("{outcomes:#?}");
    assert!(hidden.is_empty(), "{} hidden\n{}", hidden.len(), hidden.join("\n"));
}
