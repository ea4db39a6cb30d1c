//! One HTTP/1.1 exchange over a pooled connection. The forwarder, the modes that pass an app's answer
//! on, and the commands talk through this; it knows none of them.

mod app_stream;
mod connection;
mod destination;
mod endpoint;
mod endpoints;
mod error;
mod exchange;
mod freshness;
mod happy_eyeballs;
mod keep_alive;
mod lent;
mod lifetime;
mod network;
mod pool;
mod pool_state;
mod reply;
mod request;
#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulation;
#[cfg(test)]
mod tests;
pub mod tls;
mod view;

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use pingora_core::protocols::Stream;
use tokio::io::AsyncWriteExt as _;

use self::connection::Connector;
pub use self::destination::Destination;
pub use self::error::ExchangeError;
pub use self::exchange::Exchange;
use self::lent::Lent;
pub use self::lifetime::Lifetime;
pub use self::network::LookUpError;
use self::network::Network as _;
use self::pool::Pool;
use self::pool_state::PoolSettings;
pub use self::reply::{REPLY_BODY_MAX_BYTES, Reply};
pub use self::request::Framing;
use self::request::Request;
pub use self::tls::{ClientError, Tls};
pub use self::view::{AddressView, Addresses};

/// Longest time for the rest of an answer whose status is there: the status decides, and what waits
/// for the rest holds up what comes next.
const REST_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for an app that refuses a client certificate, or its absence, after its handshake, as with TLS 1.3.
const LATE_REFUSAL_WITHIN: Duration = Duration::from_millis(500);

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To connect, name resolution and TLS included.
    pub connect: Duration,
    /// The whole exchange, connecting included.
    pub total: Duration,
    /// How long an unused connection is kept for the next exchange, unless the app says how long it does.
    pub idle: Duration,
}

/// Which connection carries an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// An idle one if there is any.
    Pool,
    /// A new one.
    Fresh,
}

/// A connection pool to one destination.
pub struct Client {
    pool: Pool<Connector>,
    timeouts: Timeouts,
}

impl Client {
    /// A client without any connection yet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(destination: Destination, timeouts: Timeouts) -> Result<Client, ClientError> {
        Client::with_lifetime(destination, timeouts, Lifetime::DEFAULT)
    }

    /// The same, whose connections live as long as this.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn with_lifetime(
        destination: Destination,
        timeouts: Timeouts,
        lifetime: Lifetime,
    ) -> Result<Client, ClientError> {
        let connector = Connector::new(destination)?;
        let fixed = connector.fixed_address();
        let settings = PoolSettings { connect_timeout: timeouts.connect, idle: timeouts.idle, lifetime };
        Ok(Client { pool: Pool::new(connector, fixed, settings), timeouts })
    }

    /// Where it talks to.
    pub fn destination(&self) -> &Destination {
        self.pool.network().destination()
    }

    /// The addresses that it knows of its destination.
    pub fn addresses(&self) -> Addresses {
        self.pool.addresses()
    }

    /// The bounds of its exchanges.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Connects without a request, to see whether TLS comes about.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn shake_hands(&self) -> Result<(), ExchangeError> {
        let mut exchange = Exchange::over(self.connect(Over::Fresh).await?);
        match tokio::time::timeout(LATE_REFUSAL_WITHIN, exchange.read_answer()).await {
            Ok(Err(error @ ExchangeError::Tls(_))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends a request with a body of known length and reads the answer. `headers` go out as they
    /// are; Content-Length is set here, Host if it is missing. A request whose pooled connection
    /// turns out closed is sent once more over a fresh one; the receiver may then see it twice.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn exchange(
        &self,
        method: &Method,
        target: &[u8],
        headers: &[(HeaderName, HeaderValue)],
        body: &[u8],
    ) -> Result<Reply, ExchangeError> {
        match self.exchange_once(Over::Pool, method, target, headers, body).await {
            Err(ExchangeError::Stale) => self.exchange_once(Over::Fresh, method, target, headers, body).await,
            done => done,
        }
    }

    /// The same, once, within the total timeout. An answer counts by its status: one that does not
    /// end costs the connection.
    ///
    /// # Errors
    /// See [`ExchangeError`]; [`ExchangeError::Stale`] over the pool only.
    pub async fn exchange_once(
        &self,
        over: Over,
        method: &Method,
        target: &[u8],
        headers: &[(HeaderName, HeaderValue)],
        body: &[u8],
    ) -> Result<Reply, ExchangeError> {
        let request = Request { method, target, headers, framing: Framing::Length(body.len() as u64) };
        let mut reply = None;
        let exchange = async {
            let (mut exchange, sent) = self.send_whole(over, &request, body).await?;
            // A receiver may answer and close before it has read everything (413, 401): its answer
            // counts more than our failed write.
            exchange.read_answer().await?;
            let reply = reply.insert(exchange.reply());
            let rest = tokio::time::timeout(REST_WITHIN, exchange.read_reply_body());
            let (body, whole) = rest.await.map_err(|_| ExchangeError::Timeout)??;
            (reply.body, reply.has_ended) = (body, true);
            if sent && whole {
                exchange.release().await;
            }
            Ok(())
        };
        let ended = tokio::time::timeout(self.timeouts.total, exchange).await;
        match (reply, ended) {
            (Some(reply), _) => Ok(reply),
            (None, Ok(Err(error))) => Err(error),
            (None, _) => Err(ExchangeError::Timeout),
        }
    }

    /// Connects without an exchange: whether anybody listens there. The connection waits for the next one.
    ///
    /// # Errors
    /// [`ExchangeError::Resolve`], [`ExchangeError::Connect`] or [`ExchangeError::ConnectTimeout`].
    pub async fn reach(&self) -> Result<(), ExchangeError> {
        let Lent { connection, loan } = self.connect(Over::Fresh).await?;
        loan.give_back(connection, None);
        Ok(())
    }

    /// Connects and sends the header of a request whose body follows piece by piece. Within the
    /// connect timeout; every further step is the caller's to bound.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn begin(
        &self,
        over: Over,
        method: &Method,
        target: &[u8],
        headers: &[(HeaderName, HeaderValue)],
        framing: Framing,
    ) -> Result<Exchange<'_>, ExchangeError> {
        let header = Request { method, target, headers, framing }.header(self.destination())?;
        let mut exchange = Exchange::over(self.connect(over).await?);
        let sent = tokio::time::timeout(self.timeouts.total, exchange.send_header(header)).await;
        sent.map_err(|_| ExchangeError::Timeout)?.map(|()| exchange)
    }

    /// Sends a request that is there as a whole; whether all of it went out.
    async fn send_whole(
        &self,
        over: Over,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(Exchange<'_>, bool), ExchangeError> {
        if *request.method == Method::HEAD {
            // Rare: on the heap, so that other exchanges stay small.
            return Box::pin(self.send_head(over, request, body)).await;
        }
        let request = request.whole(body, self.destination())?;
        let mut lent = self.connect(over).await?;
        let sent = write(&mut lent.connection, &request).await.is_ok();
        Ok((Exchange::over(lent), sent))
    }

    /// The same for HEAD: the session has to know that the answer has no body, whatever it says.
    async fn send_head(
        &self,
        over: Over,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(Exchange<'_>, bool), ExchangeError> {
        let header = request.header(self.destination())?;
        let mut exchange = Exchange::over(self.connect(over).await?);
        let sent = exchange.send_header(header).await.is_ok()
            && exchange.send(body).await.is_ok()
            && exchange.finish().await.is_ok();
        Ok((exchange, sent))
    }

    async fn connect(&self, over: Over) -> Result<Lent<'_, Connector>, ExchangeError> {
        match over {
            Over::Pool if let Some(idle) = self.pool.idle() => Ok(idle),
            // Rare and large: on the heap, so that an attempt over an idle connection stays small.
            _ => Box::pin(self.pool.open()).await,
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
