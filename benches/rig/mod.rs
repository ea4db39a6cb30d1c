//! What the benchmarks share: CPUs, processes and what they use, hookward started, a buffer filled.
#![allow(dead_code, reason = "each benchmark uses its part")]

pub mod affinity;
pub mod fill;
pub mod hookward;
pub mod process;
