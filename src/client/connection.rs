//! Connections to a destination, before anything of an exchange has been sent over them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use super::app_stream::AppStream;
use super::destination::Destination;
use super::error::ExchangeError;
use super::tls::{ClientError, Handshakes, TlsFailure};

/// Where a connection leads; `None` is the one unix socket of a client.
pub(super) type Address = Option<SocketAddr>;

/// A connection that carries no exchange yet.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) address: Address,
    /// Whether it has carried one before.
    pub(super) reused: bool,
}

impl Connection {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// Makes connections to one destination.
pub(super) struct Connector {
    transport: TransportConnector,
    handshakes: Option<Handshakes>,
    destination: Destination,
    timeout: Duration,
}

impl Connector {
    /// `timeout` bounds the look-up of a name, and connecting with TLS.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn new(destination: Destination, timeout: Duration) -> Result<Connector, ClientError> {
        let handshakes = match &destination {
            Destination::Tcp { tls: Some(tls), .. } => Some(Handshakes::new(tls)?),
            _ => None,
        };
        // pingora connects and no more: its pool is not used, nor its TLS, whose errors are text.
        let mut options = ConnectorOptions::new(1);
        // It would load the system's certificates otherwise, megabytes of them.
        options.ca_file = Some("/dev/null".to_owned());
        Ok(Connector { transport: TransportConnector::new(Some(options)), handshakes, destination, timeout })
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    pub(super) async fn connect(&self, address: Address) -> Result<Connection, ExchangeError> {
        let deadline = Instant::now() + self.timeout;
        let opened = timeout_at(deadline, self.transport.new_stream(&self.peer(address)?)).await;
        let stream = opened.map_err(|_| ExchangeError::ConnectTimeout)?.map_err(connect_failure)?;
        // Without TLS pingora hands out sockets, and nothing else.
        let socket = stream.into_any().downcast::<Socket>().map_err(|_| ExchangeError::Connect)?;
        let stream = match &self.handshakes {
            None => AppStream::plain(socket),
            Some(handshakes) => {
                let shaken = timeout_at(deadline, handshakes.shake(*socket)).await.unwrap_or(Err(TlsFailure::TimedOut));
                shaken.map_err(|failure| ExchangeError::Tls(Arc::new(failure)))?
            }
        };
        Ok(Connection { stream: Box::new(stream), address, reused: false })
    }

    fn peer(&self, address: Address) -> Result<HttpPeer, ExchangeError> {
        match (&self.destination, address) {
            (Destination::Tcp { .. }, Some(address)) => Ok(HttpPeer::new(address, false, String::new())),
            (Destination::Unix(path), _) => {
                HttpPeer::new_uds(&path.to_string_lossy(), false, String::new()).map_err(|_| ExchangeError::Connect)
            }
            (Destination::Tcp { .. }, None) => Err(ExchangeError::Resolve),
        }
    }

    /// The destination's address now: names are resolved for every exchange (the resolver caches),
    /// so that an app that moved is found.
    pub(super) async fn address(&self) -> Result<Address, ExchangeError> {
        match &self.destination {
            Destination::Unix(_) => Ok(None),
            Destination::Tcp { host, port, .. } => self.resolve(host, *port).await.map(Some),
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, ExchangeError> {
        if let Ok(ip) = host.parse() {
            return Ok(SocketAddr::new(ip, port));
        }
        let lookup = tokio::time::timeout(self.timeout, tokio::net::lookup_host((host, port)));
        let addresses: Vec<_> =
            lookup.await.map_err(|_| ExchangeError::Resolve)?.map_err(|_| ExchangeError::Resolve)?.collect();
        // IPv4 first where both exist: there is no happy eyeballs here, and an app that binds only
        // 127.0.0.1 behind `localhost` is the common case. Any of several, so that they share.
        let v4: Vec<_> = addresses.iter().filter(|address| address.is_ipv4()).copied().collect();
        let usable = if v4.is_empty() { addresses } else { v4 };
        if usable.is_empty() {
            return Err(ExchangeError::Resolve);
        }
        Ok(usable[fastrand::usize(..usable.len())])
    }
}

#[allow(clippy::needless_pass_by_value, clippy::boxed_local, reason = "passed to map_err")]
fn connect_failure(error: pingora_error::BError) -> ExchangeError {
    use pingora_error::ErrorType::ConnectTimedout;
    // The error's text is not shown: it may quote what was read.
    match error.etype() {
        ConnectTimedout => ExchangeError::ConnectTimeout,
        _ => ExchangeError::Connect,
    }
}
