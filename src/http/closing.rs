//! Connections when the process goes out of service: what a peer has begun is finished, and who is silent gets
//! the time that a request needs on its way.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// How long a silent connection stays open after the stop: a request may be on its way to it.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The stop of the public side.
#[derive(Debug, Default)]
pub struct Closing {
    stopped: watch::Sender<bool>,
}

impl Closing {
    /// From now on connections end: after the request that they are in, or after [`SILENCE_MAX`] without any.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// For one connection.
    pub fn watch(&self) -> ClosingWatch {
        ClosingWatch(self.stopped.subscribe())
    }
}

/// The stop as one connection sees it.
pub struct ClosingWatch(watch::Receiver<bool>);

impl ClosingWatch {
    /// Waits for the stop and then for [`SILENCE_MAX`]: a connection that waits so long for a first byte is closed.
    /// One whose request, handshake or PROXY header has begun has its own deadlines, and those of the stop.
    pub async fn silence_is_over(&mut self) {
        // The stop cannot go away before the connections.
        let _ = self.0.wait_for(|stopped| *stopped).await;
        sleep(SILENCE_MAX).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn silence_is_over_a_while_after_the_stop_and_never_without_one() {
        let closing = Closing::default();
        let mut early = closing.watch();
        assert!(timeout(Duration::from_secs(3600), early.silence_is_over()).await.is_err());
        closing.stop();
        for mut watch in [early, closing.watch()] {
            let begun = Instant::now();
            watch.silence_is_over().await;
            assert_eq!(begun.elapsed(), SILENCE_MAX);
        }
    }
}
