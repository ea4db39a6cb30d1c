//! What the sections find, kept as JSON so that tables and plots can be made again without a run.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One load on one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    pub events: usize,
    /// Events per second that were asked for; none in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Answered and, where there is an app, delivered.
    pub per_s: f64,
    pub answered_per_s: f64,
    /// CPU time of the server's processes per event.
    pub cpu_us: f64,
    /// Of it, by name of thread.
    pub threads: Vec<ThreadCost>,
    /// Time that the server's CPUs were not idle per event: with the kernel's own threads, and with
    /// whatever else ran there.
    pub busy_us: f64,
    pub latency: Latency,
    pub resident_mb: f64,
    pub written_bytes: f64,
    /// What the load itself cost per event, app included; spinning counts in an open loop.
    pub load_us: f64,
    /// 99th percentile of how late the load sent.
    pub load_late_ms: f64,
}

impl Measured {
    /// Whether the rate that was asked for was reached.
    pub fn kept_up(&self) -> bool {
        self.offered_per_s.is_none_or(|offered| self.answered_per_s > 0.97 * offered)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThreadCost {
    pub name: String,
    pub user_us: f64,
    pub system_us: f64,
}

/// In ms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// Share of the events that took longer (as one in so many), and how long.
    pub curve: Vec<(f64, f64)>,
}

/// The machine, and what it can do without any server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    pub command: String,
    pub machine: Vec<(String, String)>,
    pub body_bytes: f64,
    pub verify_us: f64,
    pub sync_p50_ms: f64,
    pub sync_p99_ms: f64,
    pub wake_p50_ms: f64,
    pub wake_p99_ms: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subject {
    pub name: String,
    pub start_to_ready_ms: f64,
    pub idle_mb: f64,
    pub closed: Measured,
    pub open: Measured,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peers {
    /// CPU time of `verify_strict` alone, in turns with them.
    pub verify_us: f64,
    pub rate_per_s: f64,
    pub connections: usize,
    pub subjects: Vec<Subject>,
}

/// One line of a plot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    pub x: f64,
    pub start_to_ready_ms: f64,
    pub measured: Measured,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drained {
    pub cpus: usize,
    pub events: usize,
    pub start_to_ready_ms: f64,
    pub per_s: f64,
    pub cpu_us: f64,
    pub resident_mb: f64,
}

fn path(section: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/end_to_end");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(format!("{section}.json"))
}

/// What a section found, with the machine as it was in that run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run<T> {
    pub base: Base,
    pub results: T,
}

pub fn save(section: &str, base: &Base, results: impl Serialize) {
    let run = Run { base: base.clone(), results };
    std::fs::write(path(section), serde_json::to_vec_pretty(&run).unwrap()).unwrap();
}

/// Of the last run of this section, if there was one.
pub fn load<T: DeserializeOwned>(section: &str) -> Option<Run<T>> {
    let bytes = std::fs::read(path(section)).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| {
            eprintln!("section {section} is left out, its last results are of another version: {error}");
        })
        .ok()
}
