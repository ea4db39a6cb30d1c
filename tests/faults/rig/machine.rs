//! A whole machine: hookward, and under it a disk whose power can be cut.

use std::time::Duration;

use super::{Held, Rig, Verdict};
use crate::harness::{Setup, poll_within};
use crate::powerfs::{Loss, Lost, PowerFs};

/// Far more than hookward keeps free.
pub const CAPACITY_BYTES: u64 = 4 << 30;

/// For a backlog of some hundred events.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20);

pub struct Machine {
    // Before the disk: hookward must be dead when it is unmounted.
    pub rig: Rig,
    pub disk: PowerFs,
}

impl Machine {
    /// A new disk, and hookward on it, not started yet.
    pub fn prepare(seed: u64, change: impl FnOnce(Setup) -> Setup) -> Machine {
        let disk = PowerFs::mount(seed, CAPACITY_BYTES)
            .unwrap_or_else(|error| panic!("no FUSE ({error}): needs /dev/fuse, and root or fusermount3"));
        let rig = Rig::prepare(|setup| change(setup.data_at(&disk.path().join("data"))));
        Machine { rig, disk }
    }

    /// The same, started.
    pub fn start(seed: u64, change: impl FnOnce(Setup) -> Setup) -> Machine {
        let mut machine = Machine::prepare(seed, change);
        machine.rig.up();
        machine
    }

    /// The power goes at whatever hookward is doing, and comes back; hookward is down.
    pub fn power_loss(&mut self, random: &mut fastrand::Rng, loss: Loss) -> Lost {
        self.disk.power_off();
        self.rig.kill9();
        self.disk.power_on(random.u64(..), loss)
    }

    /// Starts hookward on what is on the disk, and judges before any sender gets to it.
    pub fn up_and_judge(&mut self) -> Verdict {
        let hookward = self.rig.setup().start();
        let verdict = self.rig.ledger.judge(&Held::by(&hookward));
        self.rig.is_up(hookward);
        verdict
    }

    /// Waits until the app has everything, whether or not anything new is taken.
    pub fn await_delivered(&self) {
        poll_within(DELIVERED_WITHIN, "the backlog is delivered", || {
            let metrics = self.rig.hookward().metrics();
            (metrics.value("hookward_buffer_events", &[("state", "pending")]) == 0.0).then_some(())
        });
    }

    /// Losses that hookward has told of at its start.
    pub fn damage_told(&self) -> f64 {
        self.rig.hookward().metrics().value("hookward_buffer_errors_total", &[("kind", "damaged")])
    }
}
