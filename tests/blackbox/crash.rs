//! kill -9 under load, again and again: nothing that was answered 200 may be lost.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::harness::*;

const KILLS: usize = 30;
const WRITERS: usize = 6;

/// What the writers know, and wake each other by.
#[derive(Default)]
struct Field {
    /// Where hookward is, while it is up.
    address: Mutex<Option<SocketAddr>>,
    is_up: Condvar,
    acked: Mutex<HashMap<String, Acks>>,
    acked_more: Condvar,
    over: AtomicBool,
    forged_refused: AtomicUsize,
}

#[derive(Default)]
struct Acks {
    accepted: usize,
    duplicate: usize,
}

impl Field {
    /// Waits until hookward is up; `None` when it is over.
    fn address(&self) -> Option<SocketAddr> {
        let down = |address: &mut Option<SocketAddr>| address.is_none() && !self.over.load(Ordering::SeqCst);
        *self.is_up.wait_while(self.address.lock().unwrap(), down).unwrap()
    }

    fn set(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap() = address;
        self.is_up.notify_all();
    }

    fn ack(&self, id: &str, status: &str) {
        let mut acked = self.acked.lock().unwrap();
        let acks = acked.entry(id.to_owned()).or_default();
        match status {
            "accepted" => acks.accepted += 1,
            "duplicate" => acks.duplicate += 1,
            other => panic!("{id}: answered 200 with status `{other}`"),
        }
        drop(acked);
        self.acked_more.notify_all();
    }

    /// Waits until this many more events are acknowledged, so that every life has done something.
    fn await_acks(&self, more: usize) {
        let acked = self.acked.lock().unwrap();
        let enough = acked.len() + more;
        let (acked, timeout) =
            self.acked_more.wait_timeout_while(acked, DEADLINE, |acked| acked.len() < enough).unwrap();
        assert!(!timeout.timed_out(), "no more than {} acknowledged", acked.len());
    }

    /// Plays Telnyx: posts one event after the other, each again and again until it is answered
    /// 200, some once more afterwards, and forged ones in between.
    fn write(&self, writer: usize) {
        let mut wire = None;
        for number in 0.. {
            let id = format!("w{writer}-{number}");
            let mut repeats = if number % 7 == 0 { 2 } else { 1 };
            while repeats > 0 {
                let Some(address) = self.address() else { return };
                if number % 5 == 0 {
                    self.forge(address, &format!("forged-{id}"));
                }
                match post_over(&mut wire, address, &signed(body_for(&id))) {
                    Some(answer) if answer.status == 200 => {
                        self.ack(&id, answer.json()["status"].as_str().unwrap());
                        repeats -= 1;
                    }
                    Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                    None => {}
                }
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    }

    fn forge(&self, address: SocketAddr, id: &str) {
        let forger = ed25519_dalek::SigningKey::from_bytes(&event::FORGER);
        let request = event::signed_by(&forger, now_s(), body_for(id));
        if let Ok(answer) = Wire::try_connect(address).and_then(|mut wire| wire.try_ask(&request)) {
            assert_refused(&answer, 403, "signature_mismatch");
            self.forged_refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Ids come with sizes, so that rows do not all look alike; the body follows from the id.
fn body_for(id: &str) -> Vec<u8> {
    let seed: usize = id.bytes().map(usize::from).sum();
    let size = match seed % 10 {
        0 => 60_000,
        n => n * 300,
    };
    format!(r#"{{"data":{{"id":"{id}","event_type":"message.received"}},"pad":"{}"}}"#, "x".repeat(size)).into_bytes()
}

/// Over the kept connection, or a new one; `None` where there was no answer.
fn post_over(wire: &mut Option<Wire>, address: SocketAddr, request: &Request) -> Option<Answer> {
    let mut used = match wire.take() {
        Some(used) => used,
        None => Wire::try_connect(address).ok()?,
    };
    let answer = used.try_ask(request).ok()?;
    *wire = (answer.header("connection") != Some("close")).then_some(used);
    Some(answer)
}

#[test]
fn nothing_answered_200_is_lost_over_thirty_kills_under_load() {
    let sink = Sink::start();
    // An app as apps are: mostly well, sometimes not.
    sink.behave(|_| match fastrand::u8(..40) {
        0 => Reply::status(500),
        1 => Reply::hang_up(),
        _ => Reply::status(200),
    });
    let mut hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let field = Field::default();
    field.set(Some(hookward.listen()));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let field = &field;
                scope.spawn(move || field.write(writer))
            })
            .collect();
        for _ in 0..KILLS {
            field.await_acks(fastrand::usize(1..200));
            // At any moment, not only right after an answer.
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..30_000)));
            field.set(None);
            hookward.kill9();
            hookward.start_again();
            field.set(Some(hookward.listen()));
        }
        field.await_acks(50);
        field.over.store(true, Ordering::SeqCst);
        field.set(None);
        for writer in writers {
            writer.join().unwrap();
        }
    });

    let acked = field.acked.into_inner().unwrap();
    eprintln!("{} events answered 200 over {KILLS} kills", acked.len());
    let arrived_all = |received: &[Received]| {
        let arrived: HashSet<_> = received.iter().map(Received::event_id).collect();
        acked.keys().all(|id| arrived.contains(id))
    };
    let received = sink.wait_until(arrived_all);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);

    let mut delivery_ids: HashMap<String, HashSet<String>> = HashMap::new();
    for received in &received {
        let id = received.event_id();
        assert!(!id.starts_with("forged"), "{}", received.head());
        assert_eq!(received.header("hookward-verified"), "telnyx; key=key1");
        assert!(received.body == body_for(&id), "{id}: not the bytes that were sent");
        delivery_ids.entry(id).or_default().insert(received.delivery_id());
    }
    for (id, deliveries) in &delivery_ids {
        assert_eq!(deliveries.len(), 1, "{id} was stored more than once: {deliveries:?}");
    }
    // An accept whose answer was lost shows as a duplicate only; two accepts would be two events.
    let twice: Vec<_> = acked.iter().filter(|(_, acks)| acks.accepted > 1).map(|(id, _)| id).collect();
    assert!(twice.is_empty(), "accepted twice: {twice:?}");
    assert!(acked.values().any(|acks| acks.duplicate > 0));
    assert!(field.forged_refused.into_inner() > 0);
    let metrics = hookward.metrics();
    assert_eq!(metrics.value("hookward_buffer_quarantined_events_total", &[]), 0.0);
    assert_eq!(metrics.value("hookward_buffer_events", &[("state", "dead")]), 0.0);
}

#[test]
fn a_kill_between_two_attempts_skips_none() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(503));
    let mut hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    for life in 1..=5 {
        let before = sink.count();
        sink.wait_for(before + 2);
        hookward.kill9();
        if life == 5 {
            sink.behave(|_| Reply::status(200));
        }
        hookward.start_again();
    }
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    let received = sink.received();
    assert!(received.iter().all(|r| r.event_id() == id && r.delivery_id() == received[0].delivery_id()));
    // The last send before a kill may not have reached us, so one number may seem missing per life.
    let mut highest = 0;
    for attempt in received.iter().map(Received::attempt) {
        assert!(attempt <= highest + 2, "{:?}", received.iter().map(Received::attempt).collect::<Vec<_>>());
        highest = highest.max(attempt);
    }
}

#[test]
fn damage_in_the_middle_of_the_log_is_told_at_start_and_what_stands_before_it_is_delivered() {
    let mut sink = Sink::start();
    sink.stop();
    let mut hookward = Setup::new(&sink).start();
    // One commit each, all in the log: it is written back when idle for a second, or at 8 MB.
    let ids: Vec<_> = (0..30).map(|_| new_id()).collect();
    for id in &ids {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    hookward.kill9();
    let log = hookward.setup().data_dir().join("hookward.db-wal");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    sink.start_again();
    hookward.start_again();
    let metrics = hookward.metrics();
    assert_eq!(metrics.value("hookward_buffer_errors_total", &[("kind", "damaged")]), 1.0);
    let recovered = metrics.value("hookward_buffer_recovered_events", &[]);
    assert!((1.0..30.0).contains(&recovered), "{recovered}");
    hookward.await_log("the medium has damaged the buffer's log");
    let copy = hookward.setup().data_dir().join("hookward.db-wal.damaged-1");
    assert!(std::fs::read(copy).unwrap() == bytes, "the log is kept as it was found");
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    // Those before the damage, and no byte of them altered.
    let delivered = sink.received();
    let expected: Vec<_> = ids.iter().take(delivered.len()).map(|id| body(id)).collect();
    let mut bodies: Vec<_> = delivered.into_iter().map(|received| received.body).collect();
    bodies.sort_by_key(|body| expected.iter().position(|one| one == body));
    assert!(bodies == expected && bodies.len() as f64 >= recovered);
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
}
