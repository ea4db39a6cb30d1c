//! Figures, not verdicts: how long an operator waits for a list of a buffer that holds a million
//! events while more come in, and what the sender feels of it. `HOOKWARD_BENCH_EVENTS`,
//! `HOOKWARD_BENCH_RATE` and `HOOKWARD_BENCH_SECONDS` change the load.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program that measures may end with a panic, and needs the machine's clock"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookward::buffer::event::{DeliveryId, Event, EventHead, Fingerprint, NewEvent, Outcome, Seq, Settlement};
use hookward::buffer::sqlite::{Settings, SqliteBuffer};
use hookward::buffer::{Append, Appended, Buffer as _, Work};
use hookward::clock::RunMs;

const BINARY: &str = env!("CARGO_BIN_EXE_hookward");
/// What is stored at once while the buffer is filled.
const FILL_GROUP: u64 = 5_000;
/// One event of so many is a dead letter.
const DEAD_EVERY: u64 = 1_000;
/// A body as Telnyx sends it.
const BODY_BYTES: usize = 1_200;
const DAY: Duration = Duration::from_secs(86_400);

fn main() {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let events = setting("HOOKWARD_BENCH_EVENTS", 1_000_000);
    let rate = setting("HOOKWARD_BENCH_RATE", 2_000);
    let seconds = setting("HOOKWARD_BENCH_SECONDS", 15);
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), events);

    // The app says that it wants to be left alone: the events stay where they are.
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", app.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in app.incoming().flatten() {
            std::thread::spawn(move || put_off(socket));
        }
    });
    let (public, secret) = keys();
    let begun = Instant::now();
    let mut hookward = Command::new(BINARY)
        .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--buffer-require", "process"])
        .args(["--ip-allowlist", "off", "--upstream", &upstream, "--public-key", &public, "--log-level", "error"])
        .args(["--buffer-max-bytes", "16GiB", "--data-dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(hookward.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    println!("start to ready                      {:>8.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let listen = ready.trim().strip_prefix("ready listen=").unwrap().split(' ').next().unwrap();

    let socket = dir.path().join("admin.sock");
    println!("lists, nothing coming in");
    measure(&socket, Duration::from_secs(2), events);
    println!("lists while {rate} events/s come in");
    let mut send = Command::new(BINARY)
        .args(["send", &format!("http://{listen}/"), "--secret-key", &secret])
        .args(["--count", &(rate * (seconds + 2)).to_string(), "--rate", &rate.to_string(), "--concurrency", "64"])
        .spawn()
        .unwrap();
    measure(&socket, Duration::from_secs(seconds), events);
    assert!(send.wait().unwrap().success(), "send was not answered as expected");
    println!("resident memory                     {:>8.1} MB", resident_mb(&hookward));
    hookward.kill().unwrap();
    hookward.wait().unwrap();
}

/// Writes the buffer through the engine.
fn fill(dir: &Path, events: u64) {
    let settings = Settings {
        max_bytes: 16 << 30,
        dedupe_entries: 1_000_000,
        tombstone_keep: DAY,
        dead_letter_keep: 14 * DAY,
        delivered_keep: Duration::ZERO,
        in_order: false,
    };
    let begun = Instant::now();
    let (mut engine, _) = SqliteBuffer::open(dir, settings).unwrap();
    let mut dead: Vec<Settlement> = Vec::new();
    for first in (0..events).step_by(usize::try_from(FILL_GROUP).unwrap()) {
        let group = first..(first + FILL_GROUP).min(events);
        let appends = group.map(append).collect();
        let work = Work { appends, settlements: std::mem::take(&mut dead) };
        for appended in engine.commit(&work, RunMs(1)).unwrap() {
            match appended {
                Appended::Stored { seq, claimed: true } => dead.push(given_up(seq)),
                Appended::Stored { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        if engine.is_pressed() {
            engine.maintain(RunMs(1), false).unwrap();
        }
    }
    engine.commit(&Work { appends: vec![], settlements: dead }, RunMs(2)).unwrap();
    engine.close(RunMs(3)).unwrap();
    let bytes = std::fs::metadata(dir.join("hookward.db")).unwrap().len();
    let took_s = begun.elapsed().as_secs_f64();
    println!("filled with {events} events, {} MB, in {took_s:.1} s", bytes >> 20);
}

/// Dead letters are of a route of their own, where nothing older waits, so that they can be claimed.
fn append(n: u64) -> Append {
    let is_dead = n.is_multiple_of(DEAD_EVERY);
    let id = format!("{n:032x}");
    let mut print = [0; 16];
    print[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    print[8..].copy_from_slice(&n.to_le_bytes());
    let event = Event {
        delivery_id: DeliveryId(print),
        received_unix_ms: 1_700_000_000_000,
        route: if is_dead { "dead".into() } else { "default".into() },
        event_id: Some(id),
        event_type: Some("message.received".to_owned()),
        head: EventHead {
            method: "POST".into(),
            target: Bytes::from_static(b"/webhooks"),
            headers: vec![(Bytes::from_static(b"content-type"), Bytes::from_static(b"application/json")); 8],
            key: Some("key1".into()),
        },
        body: Bytes::from(vec![b'x'; BODY_BYTES]),
        replay: false,
    };
    Append { event: NewEvent::new(event, Some((Fingerprint(print), DAY))), claim: is_dead }
}

fn given_up(seq: Seq) -> Settlement {
    let outcome = Outcome::Dead { error: "the app answered 400 Bad Request".to_owned() };
    Settlement { seq, outcome, attempts: 8, last: None }
}

/// Asks for one page after the other, each kind in its turn.
fn measure(socket: &Path, during: Duration, events: u64) {
    let middle = events / 2;
    let kinds = [
        ("first page", "/api/v1/events".to_owned()),
        ("first page of 1,000", "/api/v1/events?limit=1000".to_owned()),
        ("first page of the dead", "/api/v1/events?state=dead".to_owned()),
        ("page in the middle", format!("/api/v1/events?cursor={middle}")),
        ("nothing found in 5,000 rows", format!("/api/v1/events?event_id=none&cursor={middle}")),
        ("one event", format!("/api/v1/events/{middle}")),
    ];
    let mut took_ms: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    let until = Instant::now() + during;
    while Instant::now() < until {
        for ((_, target), took) in kinds.iter().zip(&mut took_ms) {
            let begun = Instant::now();
            ask(socket, target);
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for ((name, _), took) in kinds.iter().zip(&mut took_ms) {
        took.sort_by(f64::total_cmp);
        let at = |per_cent: usize| took[(took.len() - 1) * per_cent / 100];
        println!(
            "  {name:<30} p50 {:>6.1}  p99 {:>6.1}  max {:>6.1} ms  ({} times)",
            at(50),
            at(99),
            at(100),
            took.len()
        );
    }
}

fn ask(socket: &Path, target: &str) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..answer.len().min(300)]));
}

fn keys() -> (String, String) {
    let made = Command::new(BINARY).arg("keygen").output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    (value("public:"), value("secret:"))
}

fn resident_mb(process: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Answers whatever has come with a 503 that holds the destination for an hour.
fn put_off(mut socket: TcpStream) {
    let mut piece = [0; 65_536];
    while socket.read(&mut piece).is_ok_and(|read| read > 0) {
        if socket.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}
