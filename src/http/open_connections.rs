//! The table of open connections of the public side: how many there may be in all, of one client and
//! of strangers, which one gives way when one more comes, and when the last one has ended.
//!
//! A connection gives way only while it waits for a request. Beginning a request and waiting again
//! are one atomic operation each; the table's lock is taken when connections come and go.

mod table;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{Notify, watch};

use self::table::Table;
use crate::clock::Clock;
use crate::gate::client_key::ClientKey;
use crate::metrics::{CONNECTION_BOUNDS, Metrics};

/// Connections that have given way and are not closed yet, or an eighth of those that the open files allow, where
/// that is less. Beyond it newcomers are refused: a flood must not take the open files that are left to others.
const CLOSING_MAX: usize = 64;

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub all: usize,
    /// Of one client.
    pub per_client: usize,
}

impl ConnectionLimits {
    /// Connections of all strangers together, where fewer would be a sixteenth of all.
    const STRANGERS_MAX: usize = 256;

    fn of(&self, party: Party) -> usize {
        match party {
            Party::Client(_) => self.per_client,
            Party::Strangers => (self.all / 16).clamp(1, Self::STRANGERS_MAX),
            Party::Shared => usize::MAX,
        }
    }
}

/// Whom a connection counts for beside all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// The client at its other end.
    Client(ClientKey),
    /// All clients that no route would take anything from.
    Strangers,
    /// Nobody: a trusted proxy or a unix socket carries requests of many clients.
    Shared,
}

/// Connections that have given way, by the bound that was reached.
struct GaveWay {
    all: IntCounter,
    client: IntCounter,
    strangers: IntCounter,
}

impl GaveWay {
    fn of(metrics: &Metrics) -> GaveWay {
        let [all, client, strangers] = CONNECTION_BOUNDS.map(|bound| metrics.connections_gave_way(bound));
        GaveWay { all, client, strangers }
    }
}

/// Open connections of the public side.
pub struct OpenConnections {
    /// Bound whatever the limits, since more would take the last open files.
    most: usize,
    table: Mutex<Table>,
    /// Those that are not closed yet, with those that have given way.
    open: watch::Sender<usize>,
    clock: Arc<dyn Clock>,
    shown: IntGauge,
    gave_way: GaveWay,
}

impl OpenConnections {
    /// No connection is open, and never more than `most` will be.
    pub fn new(metrics: &Metrics, most: usize, clock: Arc<dyn Clock>) -> Arc<OpenConnections> {
        let (table, open) = (Mutex::default(), watch::Sender::new(0));
        let (shown, gave_way) = (metrics.connections.clone(), GaveWay::of(metrics));
        Arc::new(OpenConnections { most, table, open, clock, shown, gave_way })
    }

    /// Takes one more into the table; where it is full, in the place of the connection that has waited
    /// longest without a request. `None` where each of those that could make room has a request in progress.
    pub fn admit(self: &Arc<Self>, party: Party, limits: &ConnectionLimits) -> Option<OpenConnection> {
        let now_us = self.clock.uptime_us();
        let slot = {
            let mut table = self.table.lock();
            if !self.make_room(&mut table, party, limits) {
                return None;
            }
            table.insert(party, now_us)
        };
        self.open.send_modify(|open| *open += 1);
        self.shown.inc();
        Some(OpenConnection { table: self.clone(), slot, party, waiting_since_us: now_us })
    }

    /// Whether there is room for one more of this party and in all, once others have given way.
    fn make_room(&self, table: &mut Table, party: Party, limits: &ConnectionLimits) -> bool {
        let closing_max = (self.most / 8).clamp(1, CLOSING_MAX);
        let counter = if party == Party::Strangers { &self.gave_way.strangers } else { &self.gave_way.client };
        while table.count_of(party) >= limits.of(party) {
            if table.closing >= closing_max || !table.give_way(Some(party)) {
                return false;
            }
            counter.inc();
        }
        while table.count() >= limits.all.min(self.most) {
            if table.closing >= closing_max || !table.give_way(None) {
                return false;
            }
            self.gave_way.all.inc();
        }
        true
    }

    /// Waits until none is open.
    pub async fn all_ended(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// The connection has given way to another one and has to be closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Evicted;

/// One open connection, waiting for a request at first; leaves the table when dropped.
pub struct OpenConnection {
    table: Arc<OpenConnections>,
    slot: Arc<Slot>,
    party: Party,
    waiting_since_us: i64,
}

impl OpenConnection {
    /// A request begins: until [`Self::rest`] the connection does not give way.
    ///
    /// # Errors
    /// [`Evicted`] where it just has.
    pub fn begin(&self) -> Result<(), Evicted> {
        let begun = self.slot.state.compare_exchange(
            self.waiting_since_us,
            Slot::IN_REQUEST,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        begun.map(drop).map_err(|_| Evicted)
    }

    /// The request is over: the connection waits for the next one.
    pub fn rest(&mut self) {
        self.waiting_since_us = self.table.clock.uptime_us();
        let state = &self.slot.state;
        let (since, unlisted) = (self.waiting_since_us, Slot::UNLISTED);
        if state.compare_exchange(Slot::IN_REQUEST, since, Ordering::AcqRel, Ordering::Acquire) == Err(unlisted) {
            self.table.table.lock().list_again(&self.slot, self.party, since);
        }
    }

    /// Ends when the connection has to give way.
    pub async fn evicted(&self) {
        self.slot.wake.notified().await;
    }

    /// Ends a connection that will get no request of its own: it gives way before those that wait for one, and at once.
    pub async fn end(&mut self, ending: impl Future<Output = ()>) {
        self.waiting_since_us = 0;
        self.table.table.lock().list_first(&self.slot, self.party);
        tokio::select! {
            biased;
            () = ending => {}
            () = self.evicted() => {}
        }
    }

    /// The client has turned out to be this one: the connection counts for it from now on. `false` where
    /// it may have no more.
    pub fn counts_for(&mut self, party: Party, limits: &ConnectionLimits) -> bool {
        if party == self.party {
            return true;
        }
        let mut table = self.table.table.lock();
        if self.slot.has_given_way() {
            return false;
        }
        table.remove(&self.slot, self.party);
        let has_room = self.table.make_room(&mut table, party, limits);
        // Counted either way until it is closed.
        self.party = party;
        table.insert_again(&self.slot, party);
        has_room
    }

    /// Whether no route would take anything from its client.
    pub fn is_of_strangers(&self) -> bool {
        self.party == Party::Strangers
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.table.table.lock().leave(&self.slot, self.party);
        self.table.open.send_modify(|open| *open = open.saturating_sub(1));
        self.table.shown.dec();
    }
}

/// The state of a connection, shared by its task and the table: some 100 bytes, and 60 in the table.
#[derive(Debug)]
struct Slot {
    id: u64,
    /// Microseconds of the clock since when it waits, or one of the constants below.
    state: AtomicI64,
    /// Where the table lists it; written under the table's lock only.
    listed_us: AtomicI64,
    wake: Notify,
}

impl Slot {
    /// A request is in progress.
    const IN_REQUEST: i64 = -1;
    /// The same, and the table does not list it: it has looked for one that waits.
    const UNLISTED: i64 = -2;
    /// It has given way.
    const GAVE_WAY: i64 = -3;

    fn waiting(id: u64, since_us: i64) -> Slot {
        Slot { id, state: AtomicI64::new(since_us), listed_us: AtomicI64::new(since_us), wake: Notify::new() }
    }

    fn has_given_way(&self) -> bool {
        self.state.load(Ordering::Acquire) == Slot::GAVE_WAY
    }
}

#[cfg(test)]
mod tests;
