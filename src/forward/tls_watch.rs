//! The last failure of TLS with an app, and the moments at which it is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::tls::TlsFailure;
use crate::client::{Destination, ExchangeError};

/// Least time between two log lines about the same failure.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The last failure, until TLS comes about again.
#[derive(Debug, Default)]
pub struct TlsWatch {
    /// Looked at with each answer, so that the lock is not.
    fails: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failure: Option<Arc<TlsFailure>>,
    logged: Option<(Arc<TlsFailure>, Instant)>,
}

impl TlsWatch {
    /// Notes that the app has answered, or shaken hands.
    pub fn note_reached(&self) {
        if self.fails.load(Ordering::Relaxed) {
            let mut state = self.state.lock();
            state.failure = None;
            self.fails.store(false, Ordering::Relaxed);
        }
    }

    /// Notes that it has not; a failure of TLS is logged at once, and each minute.
    pub fn note_failure(&self, upstream: &Destination, error: &ExchangeError) {
        let ExchangeError::Tls(failure) = error else { return };
        if self.is_due(failure, Instant::now()) {
            tracing::warn!(%upstream, problem = %failure, "TLS with the app fails: it gets nothing until that changes");
        }
    }

    /// The last failure, if TLS has not come about since.
    pub fn failure(&self) -> Option<Arc<TlsFailure>> {
        self.state.lock().failure.clone()
    }

    fn is_due(&self, failure: &Arc<TlsFailure>, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.failure = Some(failure.clone());
        self.fails.store(true, Ordering::Relaxed);
        let logged = state.logged.as_ref();
        let is_due = logged.is_none_or(|(logged, at)| logged != failure || now.duration_since(*at) >= LOG_EVERY);
        if is_due {
            state.logged = Some((failure.clone(), now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_at_once_and_each_minute_and_another_one_at_once() {
        let (watch, begin) = (TlsWatch::default(), Instant::now());
        let due = |failure, after_s| watch.is_due(&Arc::new(failure), begin + Duration::from_secs(after_s));
        assert!(due(TlsFailure::NotTls, 0));
        assert!(!due(TlsFailure::NotTls, 59));
        assert!(due(TlsFailure::HungUp, 59));
        assert!(due(TlsFailure::HungUp, 119));
        assert_eq!(watch.failure().as_deref(), Some(&TlsFailure::HungUp));
        watch.note_reached();
        assert_eq!(watch.failure(), None);
        assert!(!due(TlsFailure::HungUp, 120), "replicas that fail by turns do not fill the log");
    }
}
