//! A connect to an app without an event: does anybody listen there again?

use std::sync::Arc;

use super::Forwarder;
use super::breaker::ConnectEnd;
use super::upstream::Upstream;

/// One under way. However it ends, the app's scheduler learns of it.
pub(super) struct ConnectProbe {
    forwarder: Arc<Forwarder>,
    upstream: Arc<Upstream>,
    period: u32,
    end: ConnectEnd,
}

impl ConnectProbe {
    /// As the scheduler allows, for this period of its breaker.
    pub(super) fn new(forwarder: Arc<Forwarder>, upstream: Arc<Upstream>, period: u32) -> ConnectProbe {
        ConnectProbe { forwarder, upstream, period, end: ConnectEnd::Cut }
    }

    /// Connects; the connection waits for the event that is tried next.
    pub(super) async fn run(mut self) {
        self.end = self.upstream.reach().await;
    }
}

impl Drop for ConnectProbe {
    fn drop(&mut self) {
        self.upstream.end_connect(self.end, self.period, self.forwarder.now());
    }
}
