//! A server under test: how it is started, and one load on it measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use tempfile::TempDir;

use super::machine::Cpus;
use super::nginx::{Form, Nginx};
use super::results::{Base, Latency, Measured, ThreadCost};
use super::signed::{Routes, Telnyx};
use super::stage::{Pace, Stage};
use crate::rig::hookward::Hookward;
use crate::rig::process::{Usage, resident_mb};

/// What is sent before anything is measured: caches, connections, the JIT of Lua.
const WARM_UP: usize = 2_000;
/// Completions that nothing rides on are written after 100 ms, and pages given back after that.
const SETTLE: Duration = Duration::from_millis(400);

/// Everything that stands around a server.
pub struct Bench {
    pub stage: Stage,
    pub telnyx: Telnyx,
    pub cpus: Cpus,
    pub base: Base,
    /// Of the usual number of events.
    pub scale: f64,
    /// The hookward that is started.
    pub binary: PathBuf,
    /// Bound of its buffer.
    pub buffer_max_bytes: u64,
    /// `ip_allowlist` of each of its routes, in YAML.
    pub allowlist: &'static str,
}

/// Anybody may send.
pub const NO_ALLOWLIST: &str = "{ mode: off }";

impl Bench {
    pub fn scaled(&self, count: f64) -> usize {
        (count * self.scale).max(100.0) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hookward { mode: &'static str },
    Nginx(Form),
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Hookward { mode: "ack" },
        Kind::Hookward { mode: "verify" },
        Kind::Hookward { mode: "proxy" },
        Kind::Nginx(Form::Acking),
        Kind::Nginx(Form::Proxying),
    ];

    pub fn name(self) -> String {
        match self {
            Kind::Hookward { mode } => format!("hookward {mode}"),
            Kind::Nginx(Form::Acking) => "nginx acking".to_owned(),
            Kind::Nginx(Form::Proxying) => "nginx proxying".to_owned(),
        }
    }

    fn delivers(self) -> bool {
        !matches!(self, Kind::Hookward { mode: "verify" } | Kind::Nginx(Form::Acking))
    }
}

enum Server {
    Hookward(Hookward),
    Nginx(Nginx),
}

/// It ends, and its directory goes, with its handle.
pub struct Subject {
    kind: Kind,
    server: Server,
    cpus: Vec<usize>,
    _dir: TempDir,
}

impl Subject {
    /// On the server's CPU, with an empty directory.
    pub fn start(kind: Kind, bench: &mut Bench, routes: &Routes) -> Subject {
        let cpus = bench.cpus.server.clone();
        Subject::start_in(kind, tempfile::tempdir().unwrap(), bench, routes, &cpus)
    }

    pub fn start_in(kind: Kind, dir: TempDir, bench: &mut Bench, routes: &Routes, cpus: &[usize]) -> Subject {
        Subject::start_with(kind, "", dir, bench, routes, cpus)
    }

    /// With further configuration.
    pub fn start_with(
        kind: Kind,
        more: &str,
        dir: TempDir,
        bench: &mut Bench,
        routes: &Routes,
        cpus: &[usize],
    ) -> Subject {
        let app = bench.stage.app.address();
        let server = match kind {
            Kind::Hookward { mode } => {
                let file = dir.path().join("hookward.yaml");
                let text = config(mode, bench, routes);
                std::fs::write(&file, format!("{text}{more}")).unwrap();
                let arguments = ["--config", file.to_str().unwrap()];
                Server::Hookward(Hookward::start_build(&bench.binary, dir.path(), &arguments, cpus))
            }
            Kind::Nginx(form) => Server::Nginx(Nginx::start(form, dir.path(), &routes.public(0), app, cpus)),
        };
        Subject { kind, server, cpus: cpus.to_vec(), _dir: dir }
    }

    pub fn listen(&self) -> SocketAddr {
        match &self.server {
            Server::Hookward(hookward) => hookward.listen,
            Server::Nginx(nginx) => nginx.listen,
        }
    }

    pub fn admin(&self) -> SocketAddr {
        match &self.server {
            Server::Hookward(hookward) => hookward.admin,
            Server::Nginx(_) => panic!("nginx has no admin side"),
        }
    }

    pub fn start_to_ready_ms(&self) -> f64 {
        let time = match &self.server {
            Server::Hookward(hookward) => hookward.start_to_ready,
            Server::Nginx(nginx) => nginx.start_to_ready,
        };
        time.as_secs_f64() * 1e3
    }

    /// Of nginx the worker: its master has no part in a request.
    fn pids(&self) -> Vec<u32> {
        match &self.server {
            Server::Hookward(hookward) => vec![hookward.process.pid()],
            Server::Nginx(nginx) => nginx.process.children(),
        }
    }

    pub fn resident_mb(&self) -> f64 {
        self.pids().into_iter().map(resident_mb).sum()
    }

    pub fn usage(&self) -> Usage {
        Usage::of(&self.pids())
    }

    pub fn pending(&self) -> usize {
        match &self.server {
            Server::Hookward(hookward) => hookward.pending() as usize,
            Server::Nginx(_) => 0,
        }
    }

    /// Some load, and one forged event: a server that takes anything would be fast.
    pub fn warm_up(&self, bench: &mut Bench, routes: &Routes) {
        let batch = bench.telnyx.sign(WARM_UP, routes, &bench.cpus.all);
        let Bench { stage, telnyx, .. } = bench;
        stage.load(telnyx, (&batch, routes), self.listen(), 16, Pace::Closed, self.kind.delivers());
        let batch = telnyx.sign(1, routes, &bench.cpus.all);
        let mut request = Vec::new();
        telnyx.write(&batch, 0, routes, &mut request);
        *request.last_mut().unwrap() ^= 1;
        let mut socket = TcpStream::connect(self.listen()).unwrap();
        socket.write_all(&request).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403", "{} takes a forged event", self.kind.name());
    }

    /// Signs so many events, sends them and looks at what the server has used.
    pub fn measure(
        &self,
        bench: &mut Bench,
        routes: &Routes,
        count: usize,
        connections: usize,
        pace: Pace,
    ) -> Measured {
        let mut taken = Taken::default();
        self.measure_more(&mut taken, bench, routes, count, connections, pace);
        taken.measured()
    }

    /// The same, added to what has been measured before.
    pub fn measure_more(
        &self,
        taken: &mut Taken,
        bench: &mut Bench,
        routes: &Routes,
        count: usize,
        connections: usize,
        pace: Pace,
    ) {
        let batch = bench.telnyx.sign(count, routes, &bench.cpus.all);
        let Bench { stage, telnyx, .. } = bench;
        let before = (self.usage(), busy_s(&self.cpus));
        let load = stage.load(telnyx, (&batch, routes), self.listen(), connections, pace, self.kind.delivers());
        stage.serve_for(SETTLE);
        let after = (self.usage(), busy_s(&self.cpus));
        taken.events += count;
        taken.offered_per_s = if let Pace::Open { per_s } = pace { Some(per_s) } else { None };
        taken.answered_s += load.answered_s;
        taken.delivered_s += load.delivered_s;
        for (name, time) in after.0.threads_since(&before.0) {
            let (on_cpu_s, system_s) = taken.threads.entry(name).or_default();
            *on_cpu_s += time.on_cpu_s;
            *system_s += time.on_cpu_s * time.system_share;
        }
        taken.busy_s += after.1 - before.1;
        taken.latency.get_or_insert_with(new_histogram).add(load.latency).unwrap();
        taken.lateness.get_or_insert_with(new_histogram).add(load.lateness).unwrap();
        taken.resident_mb = self.resident_mb();
        taken.written_bytes += after.0.written_since(&before.0);
        taken.load_cpu_s += load.own_cpu_s;
    }
}

/// What one or more loads on a server have taken, together.
#[derive(Default)]
pub struct Taken {
    events: usize,
    offered_per_s: Option<f64>,
    answered_s: f64,
    delivered_s: f64,
    /// By name: time on a CPU, of it in the kernel.
    threads: BTreeMap<String, (f64, f64)>,
    busy_s: f64,
    latency: Option<Histogram<u64>>,
    lateness: Option<Histogram<u64>>,
    resident_mb: f64,
    written_bytes: u64,
    load_cpu_s: f64,
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

impl Taken {
    pub fn measured(&self) -> Measured {
        let events = self.events as f64;
        let per_event_us = |seconds: f64| seconds / events * 1e6;
        let threads = self.threads.iter().map(|(name, (on_cpu_s, system_s))| ThreadCost {
            name: name.clone(),
            user_us: per_event_us(on_cpu_s - system_s),
            system_us: per_event_us(*system_s),
        });
        Measured {
            events: self.events,
            offered_per_s: self.offered_per_s,
            per_s: events / self.delivered_s,
            answered_per_s: events / self.answered_s,
            cpu_us: per_event_us(self.threads.values().map(|(on_cpu_s, _)| on_cpu_s).sum()),
            threads: threads.collect(),
            busy_us: per_event_us(self.busy_s),
            latency: latency(self.latency.as_ref().unwrap()),
            resident_mb: self.resident_mb,
            written_bytes: self.written_bytes as f64 / events,
            load_us: per_event_us(self.load_cpu_s),
            load_late_ms: self.lateness.as_ref().unwrap().value_at_quantile(0.99) as f64 / 1e6,
        }
    }
}

/// Every route on one app, and one more, `held`, on the app that takes nothing.
fn config(mode: &str, bench: &Bench, routes: &Routes) -> String {
    let Bench { stage, allowlist, buffer_max_bytes, .. } = bench;
    let (app, held_app) = (stage.app.address(), stage.held_app.address());
    let mut text =
        format!("upstream: {{ url: 'http://{app}' }}\nbuffer: {{ max_bytes: {buffer_max_bytes} }}\nroutes:\n");
    let mut route = |name: &str, path: &str, mode: &str, public: &str, rest: &str| {
        writeln!(text, "  - name: {name}\n    path: {path}\n    mode: {mode}\n    ip_allowlist: {allowlist}").unwrap();
        writeln!(text, "    keys: [{{ name: {name}, value: '{public}' }}]\n{rest}").unwrap();
    };
    for (n, path) in routes.paths.iter().enumerate() {
        route(&format!("r{n}"), path, mode, &routes.public(n), "");
    }
    route("held", "/held", "ack", &routes.public(0), &format!("    upstream: {{ url: 'http://{held_app}' }}"));
    text
}

/// Time that these CPUs were not idle, from the machine's start.
fn busy_s(cpus: &[usize]) -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let busy_ticks = |cpu: &usize| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{cpu} "))).unwrap();
        let ticks: Vec<f64> = line.split_whitespace().map(|ticks| ticks.parse().unwrap()).collect();
        // Idle and waiting for a disk are fields 4 and 5, time of guests is counted twice.
        ticks[..8].iter().sum::<f64>() - ticks[3] - ticks[4]
    };
    cpus.iter().map(busy_ticks).sum::<f64>() / 100.0
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
    let mut curve = Vec::new();
    // No further than the events reach.
    for step in 0..=40 {
        let one_in = 10_f64.powf(f64::from(step) / 8.0);
        if one_in <= histogram.len() as f64 {
            curve.push((one_in, at(1.0 - 1.0 / one_in)));
        }
    }
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e6, curve }
}

/// A directory with a buffer that holds so many events of a route; also the number of the first.
pub fn filled(bench: &mut Bench, events: usize, route: &str) -> (TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let first = bench.telnyx.reserve(events as u64);
    let filling = crate::rig::fill::Filling { events: events as u64, route, dead_every: 0 };
    let telnyx = &bench.telnyx;
    // Nothing is measured yet, so it may use the server's CPU too.
    crate::rig::affinity::pinned(&bench.cpus.all, || {
        crate::rig::fill::fill(dir.path(), &filling, |n| telnyx.body(first + n));
    });
    (dir, first)
}
