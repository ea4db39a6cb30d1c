//! Wiring: listeners, tasks and the order in which they start and stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::Clock;
use crate::config::Config;

/// Why hookward could not start or go on (exit code 1).
#[derive(Debug, Error)]
pub enum ServerError {
    /// Not there yet.
    #[error("not built")]
    NotBuilt,
}

/// A hookward that is bound, with its buffer open.
pub struct Server {
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
}

impl Server {
    /// Binds the admin side, opens the buffer, binds the public side.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(_config: Config, _clock: Arc<dyn Clock>) -> Result<Server, ServerError> {
        Err(ServerError::NotBuilt)
    }

    /// The public addresses, in the order of the configuration, with real ports.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The admin address, with its real port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Serves until `shutdown` completes, then drains: not ready at once, `shutdown.delay`, stop
    /// accepting, deliver for at most `shutdown.drain`.
    ///
    /// # Errors
    /// When the buffer fails for good.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        shutdown.await;
        Ok(())
    }
}
