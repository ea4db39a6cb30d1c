//! The senders: each connection posts one event after the other, each until it is answered 200, as
//! Telnyx would with patience; some once more afterwards, and forged ones in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Address;
use super::event::body_for;
use super::ledger::Ledger;
use crate::harness::event::{FORGER, signed_by};
use crate::harness::{Answer, Request, Wire, now_s, signed_at};

/// Pause after a refusal: a sender that hammered would be the fault.
const AFTER_REFUSAL: Duration = Duration::from_millis(10);
/// For everything that a load is waited for.
const ACKS_WITHIN: Duration = Duration::from_secs(30);

/// Ends with its handle.
pub struct Load {
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(
        name: &str,
        connections: usize,
        ledger: Arc<Ledger>,
        address: Arc<Address>,
        ahead_s: Arc<AtomicI64>,
    ) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let senders = (0..connections)
            .map(|number| {
                let sender = Sender {
                    name: format!("{name}-{number}"),
                    ledger: ledger.clone(),
                    address: address.clone(),
                    over: over.clone(),
                    ahead_s: ahead_s.clone(),
                    wire: None,
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn(|| sender.run()).unwrap()
            })
            .collect();
        Load { ledger, over, senders }
    }

    /// Waits for so many more answers 200.
    pub fn await_acks(&self, more: usize) {
        self.ledger.await_acks(more, ACKS_WITHIN);
    }

    /// No event is begun any more; what was sent last may not have been answered.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for sender in self.senders.drain(..) {
            let ended = sender.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a sender has panicked");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

struct Sender {
    name: String,
    ledger: Arc<Ledger>,
    address: Arc<Address>,
    over: Arc<AtomicBool>,
    ahead_s: Arc<AtomicI64>,
    wire: Option<(SocketAddr, Wire)>,
}

impl Sender {
    fn run(mut self) {
        for number in 0.. {
            let id = format!("{}-{number}", self.name);
            if number % 16 == 5 {
                self.forge(&format!("forged-{id}"));
            }
            let times = if number % 7 == 0 { 2 } else { 1 };
            for _ in 0..times {
                if !self.post(&id) {
                    return;
                }
            }
        }
    }

    /// Until it is answered 200; whether it was, before the end.
    fn post(&mut self, id: &str) -> bool {
        let mut request = self.signed(id);
        let mut signed_at = Instant::now();
        while !self.over.load(Ordering::SeqCst) {
            let Some(address) = self.address.await_up() else { continue };
            // The signature of an old attempt would be stale; Telnyx signs each anew.
            if signed_at.elapsed() > Duration::from_secs(60) {
                request = self.signed(id);
                signed_at = Instant::now();
            }
            let asked = Instant::now();
            match self.ask(address, &request) {
                Some(answer) if answer.status == 200 => {
                    let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
                    self.ledger.acked(id, &status, asked.elapsed());
                    return true;
                }
                Some(answer) => {
                    self.ledger.refused(answer.status, &answer.reason());
                    std::thread::sleep(AFTER_REFUSAL);
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        false
    }

    fn signed(&self, id: &str) -> Request {
        signed_at(now_s() + self.ahead_s.load(Ordering::SeqCst), body_for(id))
    }

    fn forge(&mut self, id: &str) {
        let Some(address) = self.address.await_up() else { return };
        let forger = ed25519_dalek::SigningKey::from_bytes(&FORGER);
        let request = signed_by(&forger, now_s(), body_for(id));
        match self.ask(address, &request) {
            Some(answer) if answer.status == 200 => self.ledger.fault(format!("{id}: a forged event was answered 200")),
            _ => {}
        }
    }

    /// Over the kept connection, or a new one; `None` where there was no answer.
    fn ask(&mut self, address: SocketAddr, request: &Request) -> Option<Answer> {
        let mut wire = match self.wire.take() {
            Some((kept, wire)) if kept == address => wire,
            _ => Wire::try_connect(address).ok()?,
        };
        let answer = wire.try_ask(request).ok()?;
        if answer.header("connection") != Some("close") {
            self.wire = Some((address, wire));
        }
        Some(answer)
    }
}
