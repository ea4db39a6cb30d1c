//! The bound on the bytes of all bodies that are held at once, and who may hold how much of it when it is short.
//!
//! A client may hold as much as is left free, so that one alone comes to half of the memory, two to a third each, and
//! there is always some for one more; one body of its own it may always finish while there is room. A part is kept
//! for clients who have had a verified event. Bodies that make no progress give way to others.

mod awaited;
mod verified;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus::IntCounter;

use self::awaited::{Awaited, AwaitedBody};
use self::verified::VerifiedClients;
use crate::clock::Clock;
use crate::gate::client_key::ClientKey;
use crate::rejection::Rejection;

/// Bodies that give way to one piece of another at most.
const GIVE_WAY_MAX: usize = 64;

/// How much memory bodies may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Together (`limits.body_memory`).
    pub all_bytes: usize,
    /// The largest one that a route takes.
    pub largest_bytes: usize,
    /// Bodies of one client that are waited for at once: what it may have of connections, since a trusted proxy's
    /// carry requests of many.
    pub awaited_per_client: usize,
}

impl BodyLimits {
    /// What is kept for clients who have had a verified event: a quarter, unless the largest body needs it.
    fn reserve_bytes(&self) -> usize {
        (self.all_bytes / 4).min(self.all_bytes.saturating_sub(self.largest_bytes))
    }

    /// Up to here no client can hold more than is left.
    fn plenty_bytes(&self) -> usize {
        (self.all_bytes - self.reserve_bytes()) / 2
    }
}

/// The memory of all bodies.
pub struct BodyMemory {
    held_bytes: AtomicUsize,
    plenty_bytes: AtomicUsize,
    shortage: Mutex<Shortage>,
    verified: VerifiedClients,
    clock: Arc<dyn Clock>,
    gave_way: IntCounter,
}

/// What is looked at when bodies are waited for, or memory is short.
struct Shortage {
    limits: BodyLimits,
    awaited: Awaited,
}

impl BodyMemory {
    /// Nothing is held. Bodies that give way are counted.
    pub fn new(limits: BodyLimits, gave_way: IntCounter, clock: Arc<dyn Clock>) -> BodyMemory {
        BodyMemory {
            held_bytes: AtomicUsize::new(0),
            plenty_bytes: AtomicUsize::new(limits.plenty_bytes()),
            shortage: Mutex::new(Shortage { limits, awaited: Awaited::default() }),
            verified: VerifiedClients::new(),
            clock,
            gave_way,
        }
    }

    /// Other bounds from now on; what is held stays.
    pub fn set_limits(&self, limits: BodyLimits) {
        self.shortage.lock().limits = limits;
        self.plenty_bytes.store(limits.plenty_bytes(), Ordering::Relaxed);
    }

    /// This client has sent an event that a key has signed.
    pub fn note_verified(&self, client: ClientKey) {
        self.verified.note(client, self.clock.uptime_ms());
    }

    /// The share of one body, empty so far.
    pub fn share(&self) -> Share<'_> {
        Share { memory: self, client: None, bytes: 0, awaited: None }
    }

    /// Whether the client may hold what it holds, `bytes` of it in this body, once others have given way.
    fn fits(&self, shortage: &mut Shortage, share: &Share<'_>, now_us: i64) -> bool {
        let Shortage { limits, awaited } = shortage;
        let may_use_reserve = share.client.is_some_and(|client| self.verified.holds(client, now_us / 1000));
        let open_bytes = limits.all_bytes - if may_use_reserve { 0 } else { limits.reserve_bytes() };
        for _ in 0..=GIVE_WAY_MAX {
            let free_bytes = open_bytes.checked_sub(self.held_bytes.load(Ordering::Acquire));
            let (bodies, bytes) = awaited.of(share.client);
            let (bodies, bytes) = match &share.awaited {
                Some(body) if body.has_given_way() => return false,
                Some(_) => (bodies, bytes),
                None => (bodies + 1, bytes + share.bytes),
            };
            if free_bytes.is_some_and(|free| bodies == 1 || bytes <= free) {
                return true;
            }
            let Some(freed_bytes) = awaited.give_way(now_us) else { return false };
            self.held_bytes.fetch_sub(freed_bytes, Ordering::AcqRel);
            self.gave_way.inc();
        }
        false
    }
}

/// What one body holds; given back when dropped.
pub struct Share<'m> {
    memory: &'m BodyMemory,
    client: Option<ClientKey>,
    bytes: usize,
    /// While it is waited for.
    awaited: Option<Arc<AwaitedBody>>,
}

impl Share<'_> {
    /// Whose body it is; clients without an address are one.
    pub fn belongs_to(&mut self, client: Option<ClientKey>) {
        self.client = client;
    }

    /// Takes room for bytes that have arrived. A sender that only says it will send some holds none.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] where there is none for this client.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Rejection> {
        let memory = self.memory;
        let held = memory.held_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.bytes += bytes;
        let is_plenty = held <= memory.plenty_bytes.load(Ordering::Relaxed);
        if is_plenty && self.awaited.is_none() {
            return Ok(());
        }
        let now_us = memory.clock.uptime_us();
        let mut shortage = memory.shortage.lock();
        if let Some(body) = &self.awaited {
            if body.has_given_way() {
                // What it had before is no longer counted.
                self.bytes -= bytes;
                memory.held_bytes.fetch_sub(bytes, Ordering::AcqRel);
                return Err(Rejection::Overloaded);
            }
            shortage.awaited.grow(body, bytes, now_us);
        }
        if is_plenty || memory.fits(&mut shortage, self, now_us) { Ok(()) } else { Err(Rejection::Overloaded) }
    }

    /// More of the body has to be waited for.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] where its client lets wait for too many.
    pub fn wait(&mut self) -> Result<(), Rejection> {
        if self.awaited.is_some() {
            return Ok(());
        }
        let mut shortage = self.memory.shortage.lock();
        self.awaited = Some(shortage.awaited.insert(self.client, self.bytes, self.memory.clock.uptime_us()));
        let is_one_of_many = shortage.awaited.of(self.client).0 > shortage.limits.awaited_per_client;
        if is_one_of_many && self.client.is_some() { Err(Rejection::Overloaded) } else { Ok(()) }
    }

    /// Ends when the body has to give way; it has to be waited for.
    pub async fn gives_way(&self) {
        match &self.awaited {
            Some(body) => body.wake.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The whole body is there.
    pub fn complete(&mut self) {
        let Some(body) = self.awaited.take() else { return };
        let mut shortage = self.memory.shortage.lock();
        if body.has_given_way() {
            self.bytes = 0;
        } else {
            shortage.awaited.remove(&body);
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        // Of one that gave way nothing counts any more.
        self.complete();
        self.memory.held_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
