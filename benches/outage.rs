//! Figures, not verdicts (but for lost events): an app that goes down while events come, and what
//! its return is like. The app has 16 workers that take 10 ms each.
//! `HOOKWARD_BENCH_OUTAGE_S` (60) and `HOOKWARD_BENCH_RATE` (500) change the load.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that measures may end with a panic, and needs the machine's clock"
)]

mod rig;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rig::affinity;
use rig::hookward::{BINARY, Hookward, keys};
use rig::process::resident_mb;

const WORKERS: usize = 16;
const SERVICE: Duration = Duration::from_millis(10);
const NORMAL_S: u64 = 10;

fn main() {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (outage_s, rate) = (setting("HOOKWARD_BENCH_OUTAGE_S", 60), setting("HOOKWARD_BENCH_RATE", 500));
    // After the outage, events come for about as long as its backlog needs, and a little longer.
    let total_s = NORMAL_S + outage_s + outage_s * 6 / 10 + 10;
    let app = App::start();
    let dir = tempfile::tempdir().unwrap();
    let (public, secret) = keys();
    let upstream = format!("http://{}", app.address);
    let arguments = ["--upstream", &upstream, "--public-key", &public, "--ip-allowlist", "off"];
    let hookward = Hookward::start(dir.path(), &arguments, &affinity::allowed());
    println!("{rate} events/s for {total_s} s; the app is down from {NORMAL_S} s to {} s", NORMAL_S + outage_s);
    let sender = Command::new(BINARY)
        .args([
            "send",
            &format!("http://{}/", hookward.listen),
            "--secret-key",
            &secret,
            "--json",
            "--concurrency",
            "64",
        ])
        .args(["--count", &(rate * total_s).to_string(), "--rate", &rate.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    let mut peak_mb: f64 = 0.0;
    let mut pause = |hookward: &Hookward, seconds: u64| {
        for _ in 0..seconds * 5 {
            std::thread::sleep(Duration::from_millis(200));
            peak_mb = peak_mb.max(resident_mb(hookward.process.pid()));
        }
    };
    pause(&hookward, NORMAL_S);
    app.stop();
    let down_ms = unix_ms();
    pause(&hookward, outage_s);
    let backlog = hookward.pending();
    let up_ms = unix_ms();
    app.serve();
    let mut closed_ms = None;
    let mut drained_ms = None;
    while drained_ms.is_none() {
        pause(&hookward, 1);
        closed_ms = closed_ms.or((hookward.metric("hookward_upstream_state{") == 0.0).then(unix_ms));
        // What is on its way at this rate is no backlog.
        drained_ms = (hookward.pending() < rate as f64 / 5.0).then(unix_ms);
    }
    let (closed_ms, drained_ms) = (closed_ms.unwrap(), drained_ms.unwrap());
    let sent = sender.wait_with_output().unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&sent.stdout).unwrap();
    while hookward.pending() > 0.0 {
        pause(&hookward, 1);
    }
    drop(hookward);

    let requests = app.requests.lock().unwrap();
    let latency = |from: u64, to: u64| {
        Figures::of(requests.iter().filter(|r| (from..to).contains(&r.at_ms)).map(|r| r.took_ms).collect())
    };
    let first = |from: u64, to: u64| {
        let new = requests.iter().filter(|r| r.attempt == 1 && (from..to).contains(&r.received_ms));
        Figures::of(new.map(|r| r.at_ms.saturating_sub(r.received_ms) as f64).collect())
    };
    let accepted = sent["outcomes"]["accepted"].as_u64().unwrap();
    let mut deliveries: HashMap<&str, u32> = HashMap::new();
    requests.iter().filter(|r| r.is_answered).for_each(|r| *deliveries.entry(&r.id).or_default() += 1);
    let (first_ms, last_ms) = (down_ms - NORMAL_S * 1000, drained_ms.max(closed_ms + 1));
    println!("acknowledged                    {accepted} of {}, {} repeats", rate * total_s, sent["retries"]);
    println!("ack latency                     {}", sent["latency_ms"]);
    println!("resident memory, at most        {peak_mb:.1} MB");
    println!("backlog at the end of the outage {backlog}");
    println!("found to be up after            {:.1} s at most", (closed_ms - up_ms) as f64 / 1e3);
    println!("backlog drained after           {:.1} s", (drained_ms - up_ms) as f64 / 1e3);
    println!("the app's latency, before       {}", latency(first_ms + 2000, down_ms));
    println!("the app's latency, draining     {}", latency(up_ms, last_ms));
    println!("first attempts, before          {}", first(first_ms + 2000, down_ms - 100));
    println!("first attempts, draining        {} (events that came after it was found up)", first(closed_ms, last_ms));
    println!("connections to the app          {}", app.inner.connections.load(Ordering::SeqCst));
    println!("delivered                       {} events, {} of them twice", deliveries.len(), {
        deliveries.values().filter(|times| **times > 1).count()
    });
    assert_eq!(deliveries.len() as u64, accepted, "events were lost");
}

/// A request as the app saw it.
struct Seen {
    id: String,
    attempt: u32,
    received_ms: u64,
    at_ms: u64,
    took_ms: f64,
    is_answered: bool,
}

/// An app that can be taken down.
struct App {
    address: SocketAddr,
    inner: Arc<Inner>,
    requests: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Default)]
struct Inner {
    is_up: AtomicBool,
    busy: Mutex<usize>,
    freed: Condvar,
    /// Those that are open, by number.
    sockets: Mutex<HashMap<usize, TcpStream>>,
    connections: AtomicUsize,
}

impl App {
    fn start() -> App {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let app = App { address: listener.local_addr().unwrap(), inner: Arc::default(), requests: Arc::default() };
        app.accept(listener);
        app
    }

    /// Comes back where it was.
    fn serve(&self) {
        self.accept(TcpListener::bind(self.address).unwrap());
    }

    fn accept(&self, listener: TcpListener) {
        self.inner.is_up.store(true, Ordering::SeqCst);
        let (inner, requests) = (self.inner.clone(), self.requests.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if !inner.is_up.load(Ordering::SeqCst) {
                    return;
                }
                let number = inner.connections.fetch_add(1, Ordering::SeqCst);
                inner.sockets.lock().unwrap().insert(number, socket.try_clone().unwrap());
                let (inner, requests) = (inner.clone(), requests.clone());
                std::thread::spawn(move || {
                    converse(socket, &inner, &requests);
                    inner.sockets.lock().unwrap().remove(&number);
                });
            }
        });
    }

    /// Refuses connections and cuts the open ones.
    fn stop(&self) {
        self.inner.is_up.store(false, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        for (_, socket) in self.inner.sockets.lock().unwrap().drain() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Reads requests with a Content-Length and answers each when a worker has had its time.
fn converse(mut socket: TcpStream, inner: &Inner, requests: &Mutex<Vec<Seen>>) {
    socket.set_nodelay(true).unwrap();
    let mut bytes: Vec<u8> = Vec::new();
    let mut piece = [0; 16_384];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let field = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.unwrap_or_default().trim().to_owned()
            };
            let length: usize = field("content-length").parse().unwrap_or(0);
            if bytes.len() >= end + length {
                let (at_ms, begun) = (unix_ms(), Instant::now());
                work(inner);
                bytes.drain(..end + length);
                let is_answered = inner.is_up.load(Ordering::SeqCst)
                    && socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok();
                let received = field("hookward-received-at").to_ascii_uppercase();
                requests.lock().unwrap().push(Seen {
                    id: field("hookward-event-id"),
                    attempt: field("hookward-attempt").parse().unwrap(),
                    received_ms: hookward::clock::rfc3339_us(&received).unwrap().cast_unsigned() / 1000,
                    at_ms,
                    took_ms: begun.elapsed().as_secs_f64() * 1e3,
                    is_answered,
                });
                if !is_answered {
                    return;
                }
                continue;
            }
        }
        match socket.read(&mut piece) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
}

fn work(inner: &Inner) {
    let mut busy = inner.freed.wait_while(inner.busy.lock().unwrap(), |busy| *busy >= WORKERS).unwrap();
    *busy += 1;
    drop(busy);
    std::thread::sleep(SERVICE);
    *inner.busy.lock().unwrap() -= 1;
    inner.freed.notify_one();
}

/// Milliseconds, in order.
struct Figures(Vec<f64>);

impl Figures {
    fn of(mut values: Vec<f64>) -> Figures {
        values.sort_by(f64::total_cmp);
        Figures(values)
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures(values) = self;
        let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied().unwrap_or_default();
        let max = values.last().copied().unwrap_or_default();
        write!(f, "p50 {:.1} p99 {:.1} max {max:.1} ms ({} values)", at(0.5), at(0.99), values.len())
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}
