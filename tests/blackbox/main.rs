//! The real binary between a sender that controls every byte and an app that misbehaves on demand.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may end with a panic, and has no clock but the machine's"
)]

mod accept;
mod addresses;
mod admin;
mod app_connections;
mod app_tls;
mod client_ip;
mod commands;
mod conformance;
mod connections;
mod crash;
mod crowd;
mod data_dir;
mod delivery;
mod disk;
mod drain;
mod duplicate;
mod events_api;
mod events_cli;
mod explain;
mod forgers;
mod full_buffer;
mod gateway;
#[allow(dead_code, reason = "shared with the fault tests")]
mod harness;
mod headers;
mod limits;
mod logs;
mod loops;
mod modes;
mod ordering;
mod protocol;
mod proxy_protocol;
mod refusals;
mod refuse;
mod refusing_app;
mod reload;
mod report;
mod restart;
mod routing;
mod scheduler;
mod sdk;
mod sign;
mod sites;
mod smuggling;
mod sockets;
mod startup;
mod stop;
mod tls;
mod upstream;
mod verifiers;
mod waits;
