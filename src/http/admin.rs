//! The admin side: probes and metrics for everybody, the API for the token's bearer or for whoever
//! may open the socket in the data directory. Here is what it shows of the process as a whole.

mod app;
mod connection;
mod connections;
pub mod drain;
mod encoding;
mod events;
mod limits_change;
mod reply;
mod request;
mod token;
mod upstreams;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use crate::buffer::committer::{Committer, Health};
use crate::buffer::event::State;
use crate::buffer::redrive::Redrives;
use crate::clock::{Clock, RunClock, RunMs, rfc3339_ms};
use crate::forward::Forwarder;
use crate::metrics::Metrics;
pub use app::{Access, AdminApp};
pub use connections::CONNECTIONS_MAX;
use drain::Drain;
pub use token::AdminToken;
pub use upstreams::UpstreamView;

/// Whether events are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The buffer is being opened.
    Starting,
    /// They are.
    Ready,
    /// Going down.
    Draining,
}

/// What the admin side shows.
pub struct AdminState {
    /// Where the process stands.
    pub readiness: watch::Sender<Readiness>,
    /// Set once the buffer is open.
    pub buffer: OnceLock<BufferView>,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// For the uptime.
    pub clock: Arc<dyn Clock>,
    /// Apps and their bounds, for the status.
    pub upstreams: ArcSwap<Vec<UpstreamView>>,
    /// Bounds in force, for the status.
    pub limits: ArcSwap<LimitsView>,
    /// The configuration in force, for the status.
    pub configuration: ArcSwap<ConfigurationView>,
    /// Going out of service.
    pub drain: Drain,
    /// Dead letters that are being sent again.
    pub redrives: Redrives,
}

/// The configuration as the status shows it.
#[derive(Debug, Clone, Default)]
pub struct ConfigurationView {
    /// When the one in force was read, Unix milliseconds.
    pub read_unix_ms: i64,
    /// Why the last reload changed nothing, if it was refused.
    pub refused: Option<String>,
    /// What the last reload could not change, since it takes a restart.
    pub needs_restart: Vec<String>,
}

/// Bounds in force, and where they come from, as the status shows them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LimitsView {
    /// Open connections.
    pub connections: usize,
    /// `auto`, `configured` or `open files`.
    pub connections_from: &'static str,
    /// Open connections of one client.
    pub connections_per_client: usize,
    /// Bytes of bodies that are held at once.
    pub body_memory_bytes: usize,
    /// `auto` or `configured`.
    pub body_memory_from: &'static str,
    /// Event ids that are remembered.
    pub dedupe_entries: usize,
    /// `auto` or `configured`.
    pub dedupe_entries_from: &'static str,
    /// What they come to together, with the process itself.
    pub needed_bytes: u64,
    /// The memory there is.
    pub memory_bytes: u64,
    /// What bounds it: the file of a control group, or the machine.
    pub memory_from: String,
}

/// The buffer as the status shows it.
pub struct BufferView {
    /// Its counts.
    pub committer: Committer,
    /// What delivers from it.
    pub forwarder: Arc<Forwarder>,
    /// `volume`, `pod` or `process`.
    pub durability: &'static str,
    /// What earlier runs have added up to.
    pub run_base: RunMs,
}

impl AdminState {
    /// Why no events are taken, if so.
    pub fn not_ready(&self) -> Option<&'static str> {
        if let Some(buffer) = self.buffer.get()
            && *buffer.committer.health().borrow() != Health::Good
        {
            return Some("buffer_failed");
        }
        match *self.readiness.borrow() {
            Readiness::Starting => Some("starting"),
            Readiness::Draining => Some("draining"),
            Readiness::Ready => None,
        }
    }

    fn now(&self) -> RunMs {
        let base = self.buffer.get().map(|buffer| buffer.run_base).unwrap_or_default();
        RunClock { clock: &*self.clock, base }.now()
    }

    fn configuration_status(&self) -> serde_json::Value {
        let configuration = self.configuration.load();
        json!({
            "read_at": rfc3339_ms(configuration.read_unix_ms),
            "reload_refused": configuration.refused,
            "needs_restart": configuration.needs_restart,
        })
    }

    fn status(&self) -> serde_json::Value {
        let not_ready = self.not_ready();
        let buffer = self.buffer.get().map(|view| {
            let stats = *view.committer.stats().borrow();
            let age_s = stats.oldest_pending_unix_ms.map(|ms| (self.clock.unix_ms() - ms).max(0) / 1000);
            json!({
                "engine": "sqlite",
                "durability": view.durability,
                "pending": stats.of(State::Pending),
                "dead": stats.of(State::Dead),
                "bytes": stats.used_bytes,
                "capacity_bytes": stats.capacity_bytes,
                "oldest_pending_age_s": age_s,
            })
        });
        let redrive = self.redrives.progress();
        let redrive = redrive.map(|run| json!({"matched": run.matched, "redriven": run.redriven}));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.clock.uptime_ms() / 1000,
            "ready": not_ready.is_none(),
            "reason": not_ready,
            "accepting": not_ready != Some("starting") && !self.drain.refuses(),
            "requests_in_flight": self.metrics.requests_in_flight.get(),
            "buffer": buffer,
            "redrive": redrive,
            "upstream": self.upstream_statuses(),
            "limits": **self.limits.load(),
            "config": self.configuration_status(),
        })
    }
}
