//! Latency of genuine events, 100 a second, in quiet and while strangers from other addresses do all they can:
//! silent connections of an address that is in no allowlist, bodies that stop short of their last byte, forgeries,
//! and connections to the admin side that end before a request.
//!
//! Quiet and loud rounds take turns. Every genuine event has to be answered 200. The strangers run on the CPU of load
//! and app, so a loud round holds some waiting of the load for its own CPU too.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType};

use super::results::Latency;
use super::signed::Routes;
use super::stage::Pace;
use super::subject::{Bench, Kind, NO_ALLOWLIST, Subject};

const EVENTS_PER_S: f64 = 100.0;
const EVENTS_OF_A_ROUND: f64 = 500.0;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 6;

const ALLOWLIST: &str = "{ sources: [127.0.0.1/32, 127.0.0.2/32, 127.0.0.3/32] }";
const FORGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SLOW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const DENIED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

const SILENT_PER_S: u32 = 500;
/// More than `limits.connections` was by default.
const SILENT: usize = 5_000;
const SLOW_PER_S: u32 = 20;
const SLOW_BODIES: usize = 128;
const SLOW_BODY_BYTES: usize = 1024 * 1024;
const FORGERIES_PER_S: u32 = 2_000;
const ADMIN_CONNECTIONS_PER_S: u32 = 500;

pub fn run(bench: &mut Bench) {
    bench.allowlist = ALLOWLIST;
    let routes = Routes::new(1);
    let subject = Subject::start(Kind::Hookward { mode: "ack" }, bench, &routes);
    subject.warm_up(bench, &routes);
    let (mut quiet, mut loud) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(round(bench, &subject, &routes));
        let strangers = Strangers::start(bench, &subject, &routes);
        loud.push(round(bench, &subject, &routes));
        println!("strangers: {}", strangers.done());
    }
    bench.allowlist = NO_ALLOWLIST;
    for (name, rounds) in [("quiet", quiet), ("strangers at work", loud)] {
        let median = |take: fn(&Latency) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(take).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (p50, p99, max) = (median(|of| of.p50), median(|of| of.p99), median(|of| of.max));
        println!("{name}: all answered 200; median of {ROUNDS} rounds: p50 {p50:.2} p99 {p99:.2} max {max:.2} ms");
    }
}

fn round(bench: &mut Bench, subject: &Subject, routes: &Routes) -> Latency {
    let count = bench.scaled(EVENTS_OF_A_ROUND);
    subject.measure(bench, routes, count, CONNECTIONS, Pace::Open { per_s: EVENTS_PER_S }).latency
}

/// At work until dropped.
struct Strangers {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, Arc<AtomicUsize>, JoinHandle<()>)>,
}

impl Strangers {
    fn start(bench: &mut Bench, subject: &Subject, routes: &Routes) -> Strangers {
        let mut strangers = Strangers { stop: Arc::default(), threads: Vec::new() };
        let (public, admin) = (subject.listen(), subject.admin());
        let mut silent = Held { connections: Vec::new(), at_most: SILENT };
        strangers.set_to("silent connections", SILENT_PER_S, move || silent.hold(from(DENIED, public), b""));

        let batch = bench.telnyx.sign(1, routes, &bench.cpus.all);
        let mut forged = Vec::new();
        bench.telnyx.write(&batch, 0, routes, &mut forged);
        *forged.last_mut().unwrap() ^= 1;
        let unfinished = unfinished(&forged);
        let mut slow = Held { connections: Vec::new(), at_most: SLOW_BODIES };
        strangers.set_to("unfinished bodies", SLOW_PER_S, move || slow.hold(from(SLOW, public), &unfinished));

        let mut connection = None;
        strangers.set_to("forgeries", FORGERIES_PER_S, move || {
            let mut stream = connection.take().or_else(|| from(FORGER, public).ok())?;
            let mut answer = [0; 1024];
            stream.write_all(&forged).ok()?;
            (stream.read(&mut answer).ok()? > 0).then(|| connection = Some(stream))
        });
        strangers.set_to("admin connections", ADMIN_CONNECTIONS_PER_S, move || {
            TcpStream::connect(admin).and_then(|mut stream| stream.write_all(b"GET /metr")).ok()
        });
        strangers
    }

    fn set_to(&mut self, name: &'static str, per_s: u32, mut act: impl FnMut() -> Option<()> + Send + 'static) {
        let (stop, done) = (self.stop.clone(), Arc::<AtomicUsize>::default());
        let count = done.clone();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                count.fetch_add(usize::from(act().is_some()), Ordering::Relaxed);
                turn += 1;
                let next = begun + Duration::from_secs(1) / per_s * turn;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        self.threads.push((name, done, thread));
    }

    fn done(&self) -> String {
        let each = self.threads.iter().map(|(name, done, _)| format!("{} {name}", done.load(Ordering::Relaxed)));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, _, thread) in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Connections that are held on to, the newest of them.
struct Held {
    connections: Vec<TcpStream>,
    at_most: usize,
}

impl Held {
    fn hold(&mut self, opened: std::io::Result<TcpStream>, first: &[u8]) -> Option<()> {
        let mut stream = opened.ok()?;
        let written = stream.write_all(first);
        if self.connections.len() >= self.at_most {
            self.connections.remove(0);
        }
        self.connections.push(stream);
        written.ok()
    }
}

/// A connection from this address of the loopback range.
fn from(client: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    net::bind(&socket, &SocketAddr::from((client, 0)))?;
    net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

/// The header of a request and all of a long body but its last byte.
fn unfinished(request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&request[..end]);
    let lines = head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
    let mut text = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    text.extend_from_slice(format!("\r\nContent-Length: {SLOW_BODY_BYTES}\r\n\r\n").as_bytes());
    text.resize(text.len() + SLOW_BODY_BYTES - 1, b'x');
    text
}
