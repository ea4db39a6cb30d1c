//! The faults, each a scenario that brings it about and has the checker judge.

mod app;
mod clock;
mod damage;
mod failpoint;
mod kill;
mod sigterm;

use super::table::Row;

/// What a scenario is given.
pub struct Plan {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Whether there is time for many more cycles.
    pub soaks: bool,
}

impl Plan {
    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    /// Cycles: as many as CI takes, ten times as many in a soak.
    pub fn cycles(&self, in_ci: usize) -> usize {
        if self.soaks { in_ci * 10 } else { in_ci }
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
    Scenario { name: "damage", about: "bits flip and sectors come back as zeros", run: damage::run },
];
