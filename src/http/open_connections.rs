//! How many connections of the public side are open, and when the last one has ended.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::watch;

/// Counts open connections against `limits.connections`.
pub struct OpenConnections {
    /// Whatever the limit, since more would take the last open files.
    most: usize,
    open: watch::Sender<usize>,
    shown: IntGauge,
}

impl OpenConnections {
    /// None is open, and never more than `most` will be. The count shows in the gauge.
    pub fn new(shown: IntGauge, most: usize) -> Arc<OpenConnections> {
        Arc::new(OpenConnections { most, open: watch::Sender::new(0), shown })
    }

    /// Counts one more, unless `max` are open.
    pub fn admit(self: &Arc<Self>, max: usize) -> Option<OpenConnection> {
        let admitted = self.open.send_if_modified(|open| {
            let fits = *open < max.min(self.most);
            *open += usize::from(fits);
            fits
        });
        admitted.then(|| {
            self.shown.inc();
            OpenConnection(self.clone())
        })
    }

    /// Waits until none is open.
    pub async fn all_ended(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// One open connection; dropped with it.
pub struct OpenConnection(Arc<OpenConnections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open = open.saturating_sub(1));
        self.0.shown.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_are_admitted_and_the_end_of_the_last_one_can_be_awaited() {
        let connections = OpenConnections::new(IntGauge::new("open", "open").unwrap(), 3);
        connections.all_ended().await;
        let first = connections.admit(2).unwrap();
        let second = connections.admit(2).unwrap();
        assert!(connections.admit(2).is_none());
        assert_eq!(connections.shown.get(), 2);
        drop(first);
        let third = connections.admit(2).unwrap();
        let waiting = tokio::spawn({
            let connections = connections.clone();
            async move { connections.all_ended().await }
        });
        drop((second, third));
        waiting.await.unwrap();
        assert_eq!(connections.shown.get(), 0);
    }

    #[test]
    fn a_limit_above_what_the_open_files_allow_does_not_count() {
        let connections = OpenConnections::new(IntGauge::new("open", "open").unwrap(), 1);
        let _only = connections.admit(10).unwrap();
        assert!(connections.admit(10).is_none());
    }
}
