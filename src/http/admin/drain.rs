//! Going out of service, by a signal or by the API: not ready at once, refusing after
//! `shutdown.delay`. Begun once; there is no way back but a restart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Readiness;

/// Whether the process is going out of service, and how far it is.
pub struct Drain {
    delay: Duration,
    begun: OnceLock<Instant>,
    refusing: Arc<AtomicBool>,
}

impl Drain {
    /// In service. `delay` is how long requests are taken while it is not ready any more.
    pub fn new(delay: Duration) -> Drain {
        Drain { delay, begun: OnceLock::new(), refusing: Arc::default() }
    }

    /// What the public side looks at: everything is refused while it is true.
    pub fn refusing(&self) -> Arc<AtomicBool> {
        self.refusing.clone()
    }

    /// Whether everything is refused.
    pub fn refuses(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Whether it is on its way out of service.
    pub fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Not ready from now on; returns when the delay, which begins with the first call, is over.
    pub async fn leave(&self, readiness: &watch::Sender<Readiness>) {
        let mut first = false;
        let begun = *self.begun.get_or_init(|| {
            first = true;
            Instant::now()
        });
        if first {
            readiness.send_replace(Readiness::Draining);
            let delay_s = self.delay.as_secs();
            tracing::info!(delay_s, "draining: not ready any more, still accepting for shutdown.delay");
        }
        tokio::time::sleep_until(begun + self.delay).await;
    }

    /// Refuses every request from now on.
    pub fn refuse(&self) {
        self.refusing.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_not_ready_at_once_and_the_delay_runs_once() {
        let drain = Drain::new(Duration::from_secs(10));
        let readiness = watch::Sender::new(Readiness::Ready);
        let begun = Instant::now();
        let first = tokio::time::timeout(Duration::from_secs(4), drain.leave(&readiness)).await;
        assert!(first.is_err(), "the delay is not over");
        assert_eq!(*readiness.borrow(), Readiness::Draining);
        drain.leave(&readiness).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(10), "counted from the first call");
        assert!(drain.has_begun() && !drain.refuses());
        drain.refuse();
        assert!(drain.refuses() && drain.refusing().load(Ordering::Acquire));
    }
}
