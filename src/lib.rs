//! hookward: a reverse-proxy verification sidecar for Telnyx webhooks.
//!
//! See `docs/architecture.md` for the map.

pub mod buffer;
pub mod certificate;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod explain;
pub mod faults;
pub mod forward;
pub mod gate;
pub mod http;
pub mod ingress;
pub mod json_pointer;
pub mod logging;
pub mod metrics;
pub mod rejection;
pub mod router;
pub mod server;
