//! The real buffer in a folder of its own, in a steady flow: with the events of a group, what became
//! of those of the group before is written too.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hookward::buffer::capacity::{MaxBytes, Reserve};
use hookward::buffer::committer::{Committer, Handover};
use hookward::buffer::event::{Attempt, Claimed, Fingerprint, HandedOut, NewEvent, Outcome, Settlement};
use hookward::buffer::sqlite::{Settings, SqliteBuffer};
use hookward::buffer::{Append, Appended, Buffer as _, Work};
use hookward::clock::{Clock, RunMs};
use hookward::metrics::Metrics;
use tempfile::TempDir;

use super::sender::{NOW_S, Sender};

const DAY: Duration = Duration::from_secs(86_400);
/// When every commit happens: behind the note of the running time, which would come with the first.
const NOW: RunMs = RunMs(500);

fn settings() -> Settings {
    Settings {
        max_bytes: MaxBytes::Fixed(1 << 30),
        reserve: Reserve::Percent(10),
        dedupe_entries: 1_000_000,
        tombstone_keep: DAY,
        dead_letter_keep: 14 * DAY,
        delivered_keep: Duration::ZERO,
        in_order: false,
    }
}

fn delivered(event: HandedOut) -> Settlement {
    let last = Attempt { ended_unix_ms: NOW_S * 1000, status: Some(200), duration_ms: 3 };
    Settlement { event, outcome: Outcome::Delivered, attempts: 1, last: Some(last) }
}

/// The engine, driven by whoever calls.
pub struct Engine {
    engine: SqliteBuffer,
    delivered: Vec<Settlement>,
    _dir: TempDir,
}

impl Engine {
    pub fn new() -> Engine {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = SqliteBuffer::open(dir.path(), settings()).unwrap();
        Engine { engine, delivered: Vec::new(), _dir: dir }
    }

    /// A group of events that are not known yet.
    pub fn group(sender: &mut Sender, events: usize) -> Vec<Append> {
        let append = |_| {
            let event = sender.event();
            let fingerprint = Fingerprint(event.delivery_id.0);
            Append { event: NewEvent::new(event, Some((fingerprint, DAY))), claim: true }
        };
        (0..events).map(append).collect()
    }

    /// Stores a group, and that the one before has been delivered.
    pub fn commit(&mut self, appends: Vec<Append>) {
        let work = Work { appends, settlements: std::mem::take(&mut self.delivered) };
        let appended = self.engine.commit(&work, NOW).unwrap();
        for (append, appended) in work.appends.iter().zip(appended) {
            let delivery_id = append.event.event.delivery_id;
            match appended {
                Appended::Stored { seq, claimed: true } => {
                    self.delivered.push(delivered(HandedOut { seq, delivery_id }));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Writes the log back when its time has come, as the committer does between groups.
    pub fn maintain(&mut self) {
        if self.engine.is_pressed() {
            self.engine.maintain(NOW, false).unwrap();
        }
    }
}

/// Takes every event from memory and has delivered it at once.
#[derive(Default)]
struct DeliversAtOnce(OnceLock<Committer>);

impl Handover for DeliversAtOnce {
    fn reserve(&self, _: &str, _: usize) -> bool {
        true
    }

    fn release(&self, _: usize) {}

    fn take(&self, claimed: Claimed) {
        if let Some(committer) = self.0.get() {
            committer.settle(delivered(claimed.handed_out()));
        }
    }

    fn wake(&self, _: &str) {}

    fn wake_all(&self) {}
}

/// The committer with its thread.
pub struct Storing {
    pub committer: Committer,
    _dir: TempDir,
}

impl Storing {
    pub fn start(clock: &Arc<dyn Clock>, metrics: &Arc<Metrics>) -> Storing {
        let dir = tempfile::tempdir().unwrap();
        let (engine, recovery) = SqliteBuffer::open(dir.path(), settings()).unwrap();
        let handover = Arc::new(DeliversAtOnce::default());
        let reopen = Box::new(|_: &[HandedOut]| Err("the buffer has failed under a benchmark".to_owned()));
        let (clock, metrics) = (clock.clone(), metrics.clone());
        let (committer, _) =
            Committer::start(Box::new(engine), reopen, &recovery, handover.clone(), clock, metrics).unwrap();
        let _ = handover.0.set(committer.clone());
        Storing { committer, _dir: dir }
    }
}
