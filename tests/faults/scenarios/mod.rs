//! The faults, each a scenario that brings it about and has the checker judge.

mod app;
mod bad_clients;
mod clock;
mod damage;
mod disk_full;
mod double_crash;
mod exhaustion;
mod failpoint;
mod io_errors;
mod kill;
mod power_loss;
mod sigterm;

use super::table::Row;

/// What a scenario is given.
pub struct Plan {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    pub effort: Effort,
}

/// How many cycles of each fault there is time for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A third: what each change is held against.
    Few,
    /// The number that each scenario names, and the table in `docs/reliability.md` has.
    Full,
    /// Ten times as many.
    Soak,
}

impl Plan {
    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    /// How many of this number of cycles are played.
    pub fn cycles(&self, full: usize) -> usize {
        match self.effort {
            Effort::Few => full.div_ceil(3),
            Effort::Full => full,
            Effort::Soak => full * 10,
        }
    }
}

pub struct Scenario {
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Brings the fault about and panics with what is wrong.
    pub run: fn(&Plan) -> Vec<Row>,
}

/// In the order in which they are played.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "kill", about: "kill -9 at any moment, 64 connections", run: kill::run },
    Scenario { name: "failpoint", about: "the process dies at every named place", run: failpoint::run },
    Scenario { name: "sigterm", about: "SIGTERM in every phase of its life", run: sigterm::run },
    Scenario { name: "app", about: "an app that is ill in every way, or gone for hours", run: app::run },
    Scenario { name: "clock", about: "the wall clock jumps by an hour and by ten years", run: clock::run },
    Scenario {
        name: "power_loss",
        about: "the power goes under load: writes dropped, reordered, torn",
        run: power_loss::run,
    },
    Scenario {
        name: "power_loss_control",
        about: "the same without syncs, which must lose events",
        run: power_loss::control,
    },
    Scenario { name: "double_crash", about: "a second and a third crash while it recovers", run: double_crash::run },
    Scenario { name: "io_errors", about: "EIO at each of the first 200 calls, and for a while", run: io_errors::run },
    Scenario { name: "disk_full", about: "the disk is full, and has room again", run: disk_full::run },
    Scenario { name: "damage", about: "bits flip and sectors come back as zeros", run: damage::run },
    Scenario {
        name: "bad_clients",
        about: "garbage, slowloris, floods, forgeries: senders are answered all the same",
        run: bad_clients::run,
    },
    Scenario { name: "exhaustion", about: "open files, the size of a file and memory run out", run: exhaustion::run },
];
