//! Figures, not verdicts: time to be ready, idle memory, and ack latency at a steady rate with an
//! app that answers at once. `HOOKWARD_BENCH_RATE` and `HOOKWARD_BENCH_COUNT` change the load.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program that measures may end with a panic, and needs the machine's clock"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_hookward");

fn main() {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (rate, count) = (setting("HOOKWARD_BENCH_RATE", "1000"), setting("HOOKWARD_BENCH_COUNT", "20000"));
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", app.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in app.incoming().flatten() {
            std::thread::spawn(move || answer_at_once(socket));
        }
    });

    let dir = tempfile::tempdir().unwrap();
    let (public, secret) = keys();
    let begun = Instant::now();
    let mut hookward = Command::new(BINARY)
        .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--buffer-require", "process"])
        .args(["--ip-allowlist", "off", "--upstream", &upstream, "--public-key", &public, "--log-level", "error"])
        .arg("--data-dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(hookward.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    println!("start to ready, empty buffer   {:>8.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    std::thread::sleep(Duration::from_millis(500));
    println!("resident memory, idle          {:>8.1} MB", resident_mb(&hookward));

    let listen = ready.trim().strip_prefix("ready listen=").unwrap().split(' ').next().unwrap();
    println!("send: {count} events at {rate}/s");
    let before_s = cpu_s(&hookward);
    let sent = Command::new(BINARY)
        .args(["send", &format!("http://{listen}/"), "--secret-key", &secret])
        .args(["--count", &count, "--rate", &rate, "--concurrency", "64"])
        .status()
        .unwrap();
    let events: f64 = count.parse().unwrap();
    println!("CPU per event, all of it       {:>8.1} us", (cpu_s(&hookward) - before_s) / events * 1e6);
    println!("resident memory, after load    {:>8.1} MB", resident_mb(&hookward));
    hookward.kill().unwrap();
    hookward.wait().unwrap();
    assert!(sent.success(), "send was not answered as expected");
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

/// User and system time so far (proc(5): fields 14 and 15, in ticks of 10 ms).
fn cpu_s(process: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap())
        .collect();
    (fields[0] + fields[1]) / 100.0
}

/// Reads requests with a Content-Length and answers each.
fn answer_at_once(mut socket: TcpStream) {
    socket.set_nodelay(true).unwrap();
    let mut seen: Vec<u8> = Vec::new();
    let mut piece = [0; 16_384];
    loop {
        let header = seen.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = header {
            let text = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length: usize = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next())
                .and_then(|length| length.trim().parse().ok())
                .unwrap_or(0);
            if seen.len() >= end + length {
                seen.drain(..end + length);
                if socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                    return;
                }
                continue;
            }
        }
        match socket.read(&mut piece) {
            Ok(read) if read > 0 => seen.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
}
