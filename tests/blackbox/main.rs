//! The real binary between a sender that controls every byte and an app that misbehaves on demand.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may end with a panic, and has no clock but the machine's"
)]

mod accept;
mod admin;
mod commands;
mod crash;
mod delivery;
mod duplicate;
mod framing;
mod harness;
mod headers;
mod limits;
mod logs;
mod modes;
mod ordering;
mod protocol;
mod refuse;
mod report;
mod restart;
mod routing;
mod scheduler;
mod startup;
