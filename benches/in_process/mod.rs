//! What the benchmarks of the parts (`parts.rs`) and their instruction counts (`instructions.rs`)
//! have in common: a sender, a public side in memory, a buffer on the disk, an app on loopback.
#![allow(dead_code, reason = "each program uses some of it")]

pub mod app;
pub mod buffer;
pub mod sender;
pub mod side;
