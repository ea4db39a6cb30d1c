//! Instruction counts beside those that are committed: what differs, and whether it may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What counts depend on besides this repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// What the code was made by.
    pub rustc: String,
    /// What was linked to it: memory is copied and allocated by the C library.
    pub libc: String,
    /// What has counted. It runs the program on a processor of its own making.
    pub valgrind: String,
    /// What that processor says it can do; several crates choose their code by it. It is the same one on every
    /// machine with AVX2, whatever else that can do.
    pub cpu: String,
}

/// The committed counts: instructions of one operation, by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    pub environment: Environment,
    pub instructions: BTreeMap<String, u64>,
}

/// How much more a part may take, per cent. Three runs of one build on a busy machine differed by 0.9 % where
/// sockets and timers take part (`forwarded`), by 0.2 % with the committer's thread, else by less than 0.1 %;
/// the rest is for what a change elsewhere does to inlining.
pub const TOLERANCE_PERCENT: f64 = 3.0;
/// The same where compiler, C library or valgrind are others: they make other code of the same source.
pub const OTHER_TOOLS_TOLERANCE_PERCENT: f64 = 15.0;

impl Baseline {
    /// How much more a part may take here. `None` on another processor: with other instructions a
    /// signature takes twice or half as many of them, and nothing follows from that.
    pub fn tolerance_percent(&self, here: &Environment) -> Option<f64> {
        let Environment { rustc: _, libc: _, valgrind: _, cpu } = &self.environment;
        if self.environment == *here {
            Some(TOLERANCE_PERCENT)
        } else {
            (*cpu == here.cpu).then_some(OTHER_TOOLS_TOLERANCE_PERCENT)
        }
    }
}

/// What became of the count of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Within the tolerance.
    Same,
    /// More than that: the guard fails.
    Rose,
    /// Less: to be written down, or the next rise up to here goes unnoticed.
    Fell,
    /// Only one of before and now: the guard fails.
    Unpaired,
}

/// A part before and now.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    pub part: String,
    pub before: Option<u64>,
    pub now: Option<u64>,
    pub change: Change,
}

impl Compared {
    pub fn percent(&self) -> Option<f64> {
        let (before, now) = (self.before? as f64, self.now? as f64);
        Some((now - before) * 100.0 / before)
    }
}

/// Every part of either side, by name.
pub fn compare(
    before: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
    tolerance_percent: Option<f64>,
) -> Vec<Compared> {
    let mut parts: Vec<&String> = before.keys().chain(now.keys()).collect();
    parts.sort();
    parts.dedup();
    let compared = parts.into_iter().map(|part| {
        let (before, now) = (before.get(part).copied(), now.get(part).copied());
        let mut compared = Compared { part: part.clone(), before, now, change: Change::Same };
        compared.change = match (compared.percent(), tolerance_percent) {
            (None, _) => Change::Unpaired,
            (Some(percent), Some(tolerance)) if percent > tolerance => Change::Rose,
            (Some(percent), Some(tolerance)) if percent < -tolerance => Change::Fell,
            (Some(_), _) => Change::Same,
        };
        compared
    });
    compared.collect()
}

/// The count in what callgrind has written.
pub fn counted(callgrind_out: &str) -> Option<u64> {
    callgrind_out.lines().rev().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}
