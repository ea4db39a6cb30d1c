//! hookward: a reverse-proxy verification sidecar for Telnyx webhooks.
//!
//! See `docs/architecture.md` for the map.

pub mod cli;
pub mod clock;
pub mod config;
pub mod forward;
pub mod gate;
pub mod rejection;
pub mod server;
