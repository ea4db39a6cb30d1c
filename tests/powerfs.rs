//! The power-loss file system itself, which `tests/faults` rests on.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may end with a panic, and has no clock but the machine's"
)]

#[path = "faults/powerfs/mod.rs"]
mod powerfs;
