//! The network as a pool of connections uses it; simulated in its tests.

use std::net::SocketAddr;

use thiserror::Error;
use tokio::time::Instant;

use super::destination::Destination;
use super::error::ExchangeError;

/// The address that a connection leads to; `None` is the one unix socket of a client.
pub(super) type Address = Option<SocketAddr>;

/// The reason why a look-up of a name has brought no address.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum LookUpError {
    /// The resolver says that there is none.
    #[error("the resolver knows no such name")]
    NoSuchName,
    /// The resolver did not answer, or said that it cannot.
    #[error("the resolver does not answer")]
    NoAnswer,
}

/// Connects, and resolves the name of the one destination it is made for.
pub(super) trait Network: Send + Sync + 'static {
    /// A connection over which nothing has been sent.
    type Connection: Send + 'static;

    /// The destination that it is made for.
    fn destination(&self) -> &Destination;

    /// Connects to an address, TLS included, until then at most.
    fn connect(
        &self,
        address: Address,
        until: Instant,
    ) -> impl Future<Output = Result<Self::Connection, ExchangeError>> + Send;

    /// The addresses of the name, in the order of preference. Not bounded in time.
    fn look_up(&self) -> impl Future<Output = Result<Vec<SocketAddr>, LookUpError>> + Send;

    /// The other side has neither closed an idle connection nor said anything out of turn, so far as is
    /// known here.
    fn is_open(connection: &mut Self::Connection) -> bool;
}
