//! Genuine events while strangers do everything at once that they can do from outside.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use std::sync::Arc;

use super::harness::*;

const GENUINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const FORGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SLOW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// In no allowlist.
const DENIED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

const CONFIG: &str = "\
limits: { connections: 256, body_memory: 16MiB }
routes:
  - name: hooks
    path: /*
    ip_allowlist: { sources: [127.0.0.1/32, 127.0.0.2/32, 127.0.0.3/32] }
";
/// Well above `limits.connections`.
const SILENT: usize = 400;
/// Twice `limits.body_memory`.
const SLOW_BODIES: usize = 32;
const FORGING_CONNECTIONS: usize = 4;
const FORGERIES_PER_S: u32 = 2_000;
const ADMIN_CONNECTIONS_PER_S: u32 = 500;

const EVENTS: u32 = 500;
const EVENTS_PER_S: u32 = 100;

/// Strangers at work until they are dropped; each has a count of what it did.
struct Strangers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Strangers {
    fn new() -> Strangers {
        Strangers { stop: Arc::default(), threads: Vec::new() }
    }

    /// Calls `act` at most `per_s` times a second; its state is what it holds on to between calls.
    fn set_to<S: Send + 'static>(
        &mut self,
        per_s: u32,
        mut state: S,
        mut act: impl FnMut(&mut S) + Send + 'static,
    ) -> Arc<AtomicUsize> {
        let (stop, done) = (self.stop.clone(), Arc::<AtomicUsize>::default());
        let count = done.clone();
        self.threads.push(std::thread::spawn(move || {
            let begun = Instant::now();
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                act(&mut state);
                turn += 1;
                count.fetch_add(1, Ordering::Relaxed);
                sleep((begun + Duration::from_secs(1) / per_s * turn).saturating_duration_since(Instant::now()));
            }
        }));
        done
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Holds on to a connection for as long as hookward does.
fn hold(connections: &mut Vec<Wire>, at_most: usize, from: Ipv4Addr, to: SocketAddr, first: &[u8]) {
    if connections.len() >= at_most {
        connections.remove(0);
    }
    if let Ok(mut wire) = Wire::try_connect_from(from, to) {
        let _ = wire.try_send(first);
        connections.push(wire);
    }
}

#[test]
fn no_genuine_event_is_refused_whatever_strangers_do_at_once() {
    allow_open_files(4096);
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(CONFIG).start();
    let (public, admin) = (hookward.listen(), hookward.admin);

    let mut strangers = Strangers::new();
    let silent = strangers.set_to(400, Vec::new(), move |held| hold(held, SILENT, DENIED, public, b""));
    // All of the body but its last byte, under a signature that cannot be judged before it.
    let mut unfinished = forged_with(vec![b'x'; 1024 * 1024]).bytes();
    unfinished.pop();
    let slow = strangers.set_to(50, Vec::new(), move |held| hold(held, SLOW_BODIES, SLOW, public, &unfinished));
    let forgeries: Vec<_> = (0..FORGING_CONNECTIONS)
        .map(|_| {
            let forged = forged();
            let per_s = FORGERIES_PER_S / u32::try_from(FORGING_CONNECTIONS).unwrap();
            strangers.set_to(per_s, None, move |wire: &mut Option<Wire>| {
                let answered = match wire {
                    Some(wire) => wire.try_ask(&forged).is_ok(),
                    None => false,
                };
                if !answered {
                    *wire = Wire::try_connect_from(FORGER, public).ok();
                }
            })
        })
        .collect();
    let probes = strangers.set_to(ADMIN_CONNECTIONS_PER_S, 0, move |turn| {
        let mut wire = Wire::connect(admin);
        *turn += 1;
        let _ = wire.try_send([&b""[..], b"GET /metr", b"\x16\x03\x01\x02\x00", b"\r\n\r\n"][*turn % 4]);
    });
    poll("the strangers are at work", || {
        let at_work = silent.load(Ordering::Relaxed) >= SILENT && slow.load(Ordering::Relaxed) >= SLOW_BODIES;
        at_work.then_some(())
    });

    let begun = Instant::now();
    let mut kept = Wire::connect(public);
    for n in 0..EVENTS {
        sleep((begun + Duration::from_secs(1) / EVENTS_PER_S * n).saturating_duration_since(Instant::now()));
        let event = event();
        let answer =
            if n % 2 == 0 { Wire::try_connect_from(GENUINE, public).unwrap().ask(&event) } else { kept.ask(&event) };
        assert_eq!(answer.status, 200, "event {n}: {answer:?}");
    }
    let did = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert!(did(&probes) > 50, "{}", did(&probes));
    assert!(forgeries.iter().map(|count| did(count)).sum::<usize>() > 200);
    drop(strangers);

    sink.wait_for(EVENTS as usize);
    assert_eq!(hookward.metrics().value("hookward_process_panics_total", &[]), 0.0, "{}", hookward.stderr());
}
