//! Connections over pingora's connector, and the addresses of names.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::app_stream::AppStream;
use super::destination::Destination;
use super::error::ExchangeError;
use super::network::{Address, LookUpError, Network};
use super::tls::{ClientError, Handshakes, TlsFailure};

/// Makes connections to one destination.
pub(super) struct Connector {
    transport: TransportConnector,
    handshakes: Option<Handshakes>,
    destination: Destination,
}

impl Connector {
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn new(destination: Destination) -> Result<Connector, ClientError> {
        let handshakes = match &destination {
            Destination::Tcp { tls: Some(tls), .. } => Some(Handshakes::new(tls)?),
            _ => None,
        };
        // pingora connects and no more: its pool is not used, nor its TLS, whose errors are text.
        let mut options = ConnectorOptions::new(1);
        // It would load the system's certificates otherwise, megabytes of them.
        options.ca_file = Some("/dev/null".to_owned());
        Ok(Connector { transport: TransportConnector::new(Some(options)), handshakes, destination })
    }

    /// The address of a destination that is not a name.
    pub(super) fn fixed_address(&self) -> Option<Address> {
        match &self.destination {
            Destination::Unix(_) => Some(None),
            Destination::Tcp { host, port, .. } => Some(Some(SocketAddr::new(host.parse().ok()?, *port))),
        }
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
}

impl Network for Connector {
    type Connection = Stream;

    fn destination(&self) -> &Destination {
        &self.destination
    }

    async fn connect(&self, address: Address, until: Instant) -> Result<Stream, ExchangeError> {
        let opened = timeout_at(until, self.transport.new_stream(&self.peer(address)?)).await;
        let stream = opened.map_err(|_| ExchangeError::ConnectTimeout)?.map_err(connect_failure)?;
        // Without TLS pingora hands out sockets, and nothing else.
        let socket = stream.into_any().downcast::<Socket>().map_err(|_| ExchangeError::Connect)?;
        let stream = match &self.handshakes {
            None => AppStream::plain(socket),
            Some(handshakes) => {
                let shaken = timeout_at(until, handshakes.shake(*socket)).await.unwrap_or(Err(TlsFailure::TimedOut));
                shaken.map_err(|failure| ExchangeError::Tls(Arc::new(failure)))?
            }
        };
        Ok(Box::new(stream))
    }

    /// By getaddrinfo, on a thread of its own: it honours all that other programs here do, the hosts file,
    /// `search` and `ndots`, and the modules of nsswitch.conf.
    async fn look_up(&self) -> Result<Vec<SocketAddr>, LookUpError> {
        let Destination::Tcp { host, port, .. } = &self.destination else { return Err(LookUpError::NoSuchName) };
        let (host, port) = (host.clone(), *port);
        let found = tokio::task::spawn_blocking(move || addresses(&host, port)).await;
        found.unwrap_or(Err(LookUpError::NoAnswer))
    }

    fn is_open(stream: &mut Stream) -> bool {
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(Pin::new(stream).poll_read(&mut nobody, &mut read), Poll::Pending)
    }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, LookUpError> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(|error| match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => LookUpError::NoSuchName,
        _ => LookUpError::NoAnswer,
    })?;
    let with_port = |mut address: SocketAddr| {
        address.set_port(port);
        address
    };
    // One that cannot be read is of no family that could be connected to.
    let addresses: Vec<_> = found.flatten().map(|info| with_port(info.sockaddr)).collect();
    if addresses.is_empty() { Err(LookUpError::NoSuchName) } else { Ok(addresses) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_hosts_file_has_its_addresses_and_an_invalid_one_none() {
        let found = addresses("localhost", 80).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        // Without a network there is no resolver that could deny it.
        assert!(addresses("does-not-exist.invalid", 80).is_err());
    }
}
