//! Tells the service manager where the process stands, if there is one that listens
//! (`NOTIFY_SOCKET`). Source: sd_notify(3).

use sd_notify::NotifyState;

/// Everything is bound and the buffer is open.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    // `Type=notify-reload` compares this with the time at which it sent the signal.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Draining, then gone.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a manager this does nothing; one that does not listen is no reason not to serve.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
