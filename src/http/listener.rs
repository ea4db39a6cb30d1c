//! What a listener demands of a connection before its first request: a PROXY protocol header, then
//! a TLS handshake, each under a deadline of its own.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use prometheus::IntCounter;
use tokio::time::{Instant, timeout_at};

use super::proxy_protocol::{self, NoHeader, ProxyProtocol, Source};
use super::tls::{HandshakeError, Keeper};
use crate::clock::Clock;
use crate::gate::peer::Peer;
use crate::logging::LineLimit;
use crate::rejection::Rejection;

/// Failed handshakes logged per second at most: port scans must not fill the log.
const FAILURES_LOGGED_PER_S: u32 = 10;

/// One public listener.
pub struct Listener {
    /// Its address as configured.
    pub name: String,
    /// Whether its peers have no address.
    pub is_unix: bool,
    /// Whether a PROXY header comes first.
    pub proxy_protocol: ProxyProtocol,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<Keeper>>,
    /// Connections that did not get through the handshake.
    pub handshake_failures: IntCounter,
    /// Bounds the lines about them.
    pub failure_lines: LineLimit,
}

/// Why a connection carries no requests.
pub enum NotOpened {
    /// It is over; what there was to say has been said.
    Closed,
    /// To be answered so; over TLS nothing can be answered yet.
    Refused(Stream, Rejection),
}

impl Listener {
    /// A listener whose log lines are bounded by this clock.
    pub fn new(
        name: String,
        is_unix: bool,
        proxy_protocol: ProxyProtocol,
        tls: Option<Arc<Keeper>>,
        handshake_failures: IntCounter,
        clock: Arc<dyn Clock>,
    ) -> Listener {
        let failure_lines = LineLimit::new(FAILURES_LOGGED_PER_S, clock);
        Listener { name, is_unix, proxy_protocol, tls, handshake_failures, failure_lines }
    }

    /// Whether bytes in the clear reach the client.
    pub fn speaks_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// The other end of a connection; `None` if it is gone.
    pub fn peer_of(&self, stream: &Stream) -> Option<Peer> {
        if self.is_unix {
            return Some(Peer::Unix);
        }
        let digest = stream.get_socket_digest()?;
        match digest.peer_addr()? {
            PingoraAddr::Inet(address) => Some(Peer::Ip(address.ip())),
            PingoraAddr::Unix(_) => None,
        }
    }

    /// Takes a connection as far as its first request: the stream that carries them, and whom they
    /// come from. `trusted` says whether this peer's PROXY header counts. One that has sent nothing
    /// when `silence_is_over` is closed.
    ///
    /// # Errors
    /// See [`NotOpened`].
    pub async fn open(
        &self,
        mut stream: Stream,
        peer: Peer,
        trusted: bool,
        step_timeout: Duration,
        silence_is_over: impl Future<Output = ()>,
    ) -> Result<(Stream, Peer), NotOpened> {
        let mut named = peer;
        if self.proxy_protocol == ProxyProtocol::Off && self.tls.is_none() {
            return Ok((stream, named));
        }
        if self.proxy_protocol == ProxyProtocol::Required && !trusted {
            return Err(NotOpened::Refused(stream, Rejection::ClientIpUndetermined));
        }
        let mut deadline = Instant::now() + step_timeout;
        let mut first = [0];
        let is_gone = tokio::select! {
            biased;
            // At the deadline the first step says what that means.
            peeked = timeout_at(deadline, stream.try_peek(&mut first)) => matches!(peeked, Ok(Err(_))),
            () = silence_is_over => true,
        };
        if is_gone {
            return Err(NotOpened::Closed);
        }
        if self.proxy_protocol == ProxyProtocol::Required {
            match timeout_at(deadline, proxy_protocol::read(&mut stream)).await {
                Ok(Ok(Source::Client(ip))) => named = Peer::Ip(ip),
                Ok(Ok(Source::Peer)) => {}
                Ok(Err(NoHeader::Closed)) => return Err(NotOpened::Closed),
                Ok(Err(NoHeader::Malformed)) => return Err(NotOpened::Refused(stream, Rejection::BadRequest)),
                Err(_) => return Err(NotOpened::Refused(stream, Rejection::HeaderTimeout)),
            }
            deadline = Instant::now() + step_timeout;
        }
        let Some(tls) = &self.tls else { return Ok((stream, named)) };
        let why = match timeout_at(deadline, tls.accept(stream)).await {
            Ok(Ok(stream)) => return Ok((stream, named)),
            Ok(Err(HandshakeError::NothingSent)) => return Err(NotOpened::Closed),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took longer than limits.header_timeout".to_owned(),
        };
        self.handshake_failures.inc();
        if let Some(left_out) = self.failure_lines.admit() {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::debug!(listener = self.name, why, left_out, "TLS handshake failed");
        }
        Err(NotOpened::Closed)
    }
}
