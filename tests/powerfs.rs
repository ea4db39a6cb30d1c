//! The power-loss file system itself, which `tests/faults` rests on, and what it has found.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may end with a panic, and has no clock but the machine's"
)]

#[path = "faults/found.rs"]
mod found;
#[allow(unused_imports, reason = "shared with the black-box tests, which use all of it")]
#[path = "blackbox/harness/mod.rs"]
mod harness;
#[path = "faults/powerfs/mod.rs"]
mod powerfs;
