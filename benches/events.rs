//! Figures, not verdicts: how long an operator waits for a list of a buffer that holds a million
//! events while more come in, and what the sender feels of it. `HOOKWARD_BENCH_EVENTS`,
//! `HOOKWARD_BENCH_RATE` and `HOOKWARD_BENCH_SECONDS` change the load.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that measures may end with a panic, and needs the machine's clock"
)]

mod rig;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rig::fill::{Filling, fill};
use rig::hookward::{BINARY, Hookward, keys};
use rig::{affinity, process};

/// One event of so many is a dead letter.
const DEAD_EVERY: u64 = 1_000;
/// A body as Telnyx sends it.
const BODY_BYTES: usize = 1_200;

fn main() {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let events = setting("HOOKWARD_BENCH_EVENTS", 1_000_000);
    let rate = setting("HOOKWARD_BENCH_RATE", 2_000);
    let seconds = setting("HOOKWARD_BENCH_SECONDS", 15);
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    fill(dir.path(), &Filling { events, route: "default", dead_every: DEAD_EVERY }, |_| vec![b'x'; BODY_BYTES]);
    let bytes = std::fs::metadata(dir.path().join("hookward.db")).unwrap().len();
    println!("filled with {events} events, {} MB, in {:.1} s", bytes >> 20, begun.elapsed().as_secs_f64());

    // The app says that it wants to be left alone: the events stay where they are.
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", app.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in app.incoming().flatten() {
            std::thread::spawn(move || put_off(socket));
        }
    });
    let (public, secret) = keys();
    let arguments = ["--upstream", &upstream, "--public-key", &public, "--ip-allowlist", "off"];
    let arguments = [&arguments[..], &["--buffer-max-bytes", "16GiB"]].concat();
    let hookward = Hookward::start(dir.path(), &arguments, &affinity::allowed());
    println!("start to ready                      {:>8.1} ms", hookward.start_to_ready.as_secs_f64() * 1e3);

    let socket = dir.path().join("admin.sock");
    println!("lists, nothing coming in");
    measure(&socket, Duration::from_secs(2), events);
    println!("lists while {rate} events/s come in");
    let mut send = Command::new(BINARY)
        .args(["send", &format!("http://{}/", hookward.listen), "--secret-key", &secret])
        .args(["--count", &(rate * (seconds + 2)).to_string(), "--rate", &rate.to_string(), "--concurrency", "64"])
        .spawn()
        .unwrap();
    measure(&socket, Duration::from_secs(seconds), events);
    assert!(send.wait().unwrap().success(), "send was not answered as expected");
    println!("resident memory                     {:>8.1} MB", process::resident_mb(hookward.process.pid()));
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

/// Answers whatever has come with a 503 that holds the destination for an hour.
fn put_off(mut socket: TcpStream) {
    let mut piece = [0; 65_536];
    while socket.read(&mut piece).is_ok_and(|read| read > 0) {
        if socket.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}
