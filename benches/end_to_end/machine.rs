//! The machine, and what it does without any server: syncs and signature checks.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::nginx;
use super::results::Base;
use super::signed::{Routes, Telnyx};
use crate::rig::{affinity, process};

const SYNCS: usize = 500;
const SYNC_BYTES: usize = 4096;
const WAKE_UPS: u32 = 5_000;
const WAKE_EVERY: Duration = Duration::from_millis(1);
const VERIFIED: usize = 5_000;

/// Which CPU does what.
pub struct Cpus {
    /// The server under test.
    pub server: Vec<usize>,
    /// With the one of load and app.
    pub all: Vec<usize>,
}

impl Cpus {
    /// Two of those that this process may use; it stays on the second one.
    pub fn divide() -> Cpus {
        let all = affinity::allowed();
        let (first, last) = (all[0], all[all.len() - 1]);
        if first == last {
            eprintln!("only one CPU: load and server share it, and the figures are worth little");
        }
        affinity::pin(&[last]);
        Cpus { server: vec![first], all: if first == last { vec![first] } else { vec![first, last] } }
    }
}

/// As many open files as may be: thousands of connections end here.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

pub fn measure(telnyx: &mut Telnyx, routes: &Routes, cpus: &Cpus, command: String) -> Base {
    let (sync_p50_ms, sync_p99_ms) = syncs();
    let (wake_p50_ms, wake_p99_ms) = affinity::pinned(&cpus.server, wake_ups);
    let verify_us = verify_us(telnyx, routes, cpus, VERIFIED);
    let (machine, body_bytes) = (describe(), telnyx.mean_body_bytes());
    Base { command, machine, body_bytes, verify_us, sync_p50_ms, sync_p99_ms, wake_p50_ms, wake_p99_ms }
}

/// CPU time of `verify_strict`, over the bytes that the servers are sent, on the server's CPU.
pub fn verify_us(telnyx: &mut Telnyx, routes: &Routes, cpus: &Cpus, count: usize) -> f64 {
    let batch = telnyx.sign(count, routes, &cpus.all);
    let messages = telnyx.messages(&batch);
    let key = routes.keys[0].verifying_key();
    affinity::pinned(&cpus.server, || {
        let verify = |count: usize| {
            messages.iter().take(count).for_each(|(message, signature)| key.verify_strict(message, signature).unwrap());
        };
        verify(count / 10);
        let before_s = process::own_cpu_s();
        verify(count);
        (process::own_cpu_s() - before_s) / count as f64 * 1e6
    })
}

/// What one append of a page and its sync take on the disk of the data directories: p50, p99.
fn syncs() -> (f64, f64) {
    let mut file = tempfile::tempfile().unwrap();
    let mut took_ms: Vec<f64> = (0..SYNCS)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[1; SYNC_BYTES]).unwrap();
            file.sync_data().unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took_ms.sort_by(f64::total_cmp);
    (took_ms[SYNCS / 2], took_ms[SYNCS * 99 / 100])
}

/// How late a thread comes that sleeps until the next millisecond, on a CPU with nothing else to do: what
/// the machine adds to each step of any request. p50, p99.
fn wake_ups() -> (f64, f64) {
    let begun = Instant::now();
    let mut late_ms: Vec<f64> = (1..=WAKE_UPS)
        .map(|n| {
            let intended = begun + WAKE_EVERY * n;
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            intended.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    late_ms.sort_by(f64::total_cmp);
    (late_ms[late_ms.len() / 2], late_ms[late_ms.len() * 99 / 100])
}

fn describe() -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(": ").next().unwrap_or_default().trim().to_owned()
    };
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let cores = std::thread::available_parallelism().map_or(1, usize::from).max(cpuinfo.matches("processor\t").count());
    let memory_kb: f64 = after(&read("/proc/meminfo"), "MemTotal:")
        .trim_start_matches("MemTotal:")
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap_or_default();
    let (device, kind) = filesystem(&std::env::temp_dir());
    let version = env!("CARGO_PKG_VERSION");
    [
        ("CPU", format!("{}, {cores} cores", after(&cpuinfo, "model name"))),
        ("memory", format!("{:.0} GB", memory_kb / 1e6)),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("data directory", format!("{kind} on {device}")),
        ("hookward", format!("{version}, commit {}", output("git", &["rev-parse", "--short", "HEAD"]))),
        ("nginx", nginx::version()),
        ("OpenSSL", output("openssl", &["version"]).split(" (").next().unwrap_or_default().to_owned()),
        ("compiler", output("rustc", &["--version"])),
        ("date", output("date", &["--utc", "+%Y-%m-%d"])),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Device and type of what is mounted there, from mountinfo: the longest mount point that holds it.
fn filesystem(path: &Path) -> (String, String) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let holding = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        let mut source = source.split(' ');
        path.starts_with(point).then_some((point.len(), source.next()?, source.next()?))
    });
    let (_, kind, device) = holding.max_by_key(|(length, ..)| *length).unwrap_or((0, "unknown", "unknown"));
    (device.to_owned(), kind.to_owned())
}
