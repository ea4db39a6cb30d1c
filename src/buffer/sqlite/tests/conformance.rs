//! SQLite under the model that every engine is held against.

use super::*;
use crate::buffer::conformance::{self, Keeps, Rig};
use proptest::prelude::*;

struct Sqlite {
    dir: TempDir,
    settings: Settings,
    /// Of the engine that was opened last.
    place: Option<Arc<Place>>,
}

impl Rig for Sqlite {
    fn new(keeps: Keeps) -> Sqlite {
        let Keeps { window, dead, delivered, in_order } = keeps;
        let settings = Settings {
            max_bytes: MaxBytes::Fixed(1 << 26),
            reserve: Reserve::Percent(10),
            dedupe_entries: 10_000,
            tombstone_keep: window,
            dead_letter_keep: dead,
            delivered_keep: delivered,
            in_order,
        };
        Sqlite { dir: in_memory_dir(), settings, place: None }
    }

    fn open(&mut self) -> (Box<dyn Buffer>, Recovery) {
        let (engine, recovery) = SqliteBuffer::open(self.dir.path(), self.settings.clone()).unwrap();
        self.place = Some(engine.place());
        (Box::new(engine), recovery)
    }

    fn kill(&mut self, engine: Box<dyn Buffer>) {
        // Taken before the engine is dropped, which writes the log back.
        let left = in_memory_dir();
        for file in [DATABASE_FILE, "hookward.db-wal"] {
            std::fs::copy(self.dir.path().join(file), left.path().join(file)).unwrap();
        }
        drop(engine);
        self.dir = left;
    }

    fn reopen(&mut self, engine: Box<dyn Buffer>) -> Box<dyn Buffer> {
        let handed_out = engine.abandon();
        let place = self.place.as_ref().unwrap();
        let (engine, recovery) = SqliteBuffer::reopen(place, self.settings.clone(), &handed_out).unwrap();
        assert!(recovery.damage.is_empty());
        Box::new(engine)
    }
}

proptest! {
    /// As many ways as PROPTEST_CASES says, 256 by default.
    #[test]
    fn whatever_is_called_killed_or_fails_the_engine_keeps_its_promises(plan in conformance::plans()) {
        conformance::run::<Sqlite>(&plan)?;
    }
}
