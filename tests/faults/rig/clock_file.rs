//! The clocks of a hookward under test, and of its senders, ahead of the machine's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::Rig;
use crate::harness::Setup;

/// Hookward reads its file every few milliseconds.
const READ_WITHIN: Duration = Duration::from_millis(50);

/// How far ahead the clocks are.
pub struct ClockFile {
    dir: TempDir,
    wall_s: AtomicI64,
    uptime_s: AtomicI64,
}

impl ClockFile {
    pub fn new() -> ClockFile {
        let dir = TempDir::with_prefix("hookward-clock-").unwrap();
        let clock = ClockFile { dir, wall_s: AtomicI64::new(0), uptime_s: AtomicI64::new(0) };
        clock.write();
        clock
    }

    /// Hookward goes by these clocks.
    pub fn drives(&self, setup: Setup) -> Setup {
        setup.env("HOOKWARD_FAULT_CLOCK", &self.dir.path().join("ahead").to_string_lossy())
    }

    /// The wall clock alone is so far off, for senders too.
    pub fn jump(&self, wall_s: i64, rig: &Rig) {
        self.wall_s.store(wall_s, Ordering::SeqCst);
        self.take_effect(rig);
    }

    /// Time goes by.
    pub fn pass(&self, seconds: i64, rig: &Rig) {
        self.wall_s.fetch_add(seconds, Ordering::SeqCst);
        self.uptime_s.fetch_add(seconds, Ordering::SeqCst);
        self.take_effect(rig);
    }

    fn take_effect(&self, rig: &Rig) {
        self.write();
        rig.senders_are_ahead(self.wall_s.load(Ordering::SeqCst));
        // Nothing tells when the file has been read.
        std::thread::sleep(READ_WITHIN);
    }

    fn write(&self) {
        let text = format!("{} {}\n", self.wall_s.load(Ordering::SeqCst), self.uptime_s.load(Ordering::SeqCst));
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.path().join("ahead")).unwrap();
    }
}
