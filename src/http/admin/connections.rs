//! The bound on the connections of one admin listener. Where it is reached, the connection that has
//! been silent for the longest time makes room, so that those who open many do not keep a probe out.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// Open connections of a listener: probes, scrapes and operators need a few.
pub const CONNECTIONS_MAX: usize = 64;

/// Open connections, from the oldest to the newest.
pub struct Connections {
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    opened: u64,
    /// By order of opening; one that has sent no request yet can be asked to leave.
    open: BTreeMap<u64, Option<oneshot::Sender<()>>>,
}

impl Table {
    /// Takes out the connection that has been silent for the longest time; false if there is none.
    fn make_room(&mut self) -> bool {
        let silent = self.open.iter().find(|(_, leave)| leave.is_some()).map(|(place, _)| *place);
        // The end of its channel closes it.
        silent.is_some_and(|place| self.open.remove(&place).is_some())
    }
}

impl Connections {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Connections> {
        Arc::new(Connections { table: Mutex::default(), metrics })
    }

    /// Counts one more, and says when it has to leave before its request has come; `None` where every other one
    /// is being answered.
    pub(super) fn admit(self: &Arc<Self>) -> Option<(Connection, oneshot::Receiver<()>)> {
        let mut table = self.table.lock();
        if table.open.len() >= CONNECTIONS_MAX {
            self.metrics.admin_connections_refused.inc();
            if !table.make_room() {
                return None;
            }
            self.metrics.admin_connections.dec();
        }
        let (leave, left) = oneshot::channel();
        table.opened += 1;
        let place = table.opened;
        table.open.insert(place, Some(leave));
        self.metrics.admin_connections.inc();
        Some((Connection { connections: self.clone(), place }, left))
    }
}

/// One open connection; dropped with it.
pub(super) struct Connection {
    connections: Arc<Connections>,
    place: u64,
}

impl Connection {
    /// Its request has come: it stays until it is answered.
    pub(super) fn stay(&self) {
        if let Some(leave) = self.connections.table.lock().open.get_mut(&self.place) {
            *leave = None;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.connections.table.lock().open.remove(&self.place).is_some() {
            self.connections.metrics.admin_connections.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_one_makes_room_and_never_one_that_is_being_answered() {
        let metrics = Arc::new(crate::metrics::tests::metrics());
        let connections = Connections::new(metrics.clone());
        let mut open: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connections.admit().unwrap()).collect();
        open[0].0.stay();
        let newest = connections.admit().unwrap();
        let left = |(_, left): &mut (Connection, oneshot::Receiver<()>)| {
            left.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert!(left(&mut open[1]) && !left(&mut open[2]));
        assert_eq!(metrics.admin_connections.get(), 64);
        for (connection, _) in open.iter().chain([&newest]) {
            connection.stay();
        }
        assert!(connections.admit().is_none(), "every one is being answered");
        assert_eq!(metrics.admin_connections_refused.get(), 2);
        drop((open, newest));
        assert_eq!(metrics.admin_connections.get(), 0);
        assert!(connections.admit().is_some());
    }
}
