//! One HTTP/1.1 exchange over a pooled connection: the forwarder, `send`, `health` and `demo` talk
//! through this. The only place that knows pingora's connector.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;

use super::idle_connections::{Address, IdleConnections};

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `http://host:port`, `https://host:port`.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: Option<Tls>,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

/// TLS towards a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Name to ask for and to verify.
    pub server_name: String,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

impl Destination {
    /// Reads `http://host[:port]`, `https://host[:port]` or `unix:/path`.
    ///
    /// # Errors
    /// A sentence that says what is wrong; a path, query or user info is refused.
    pub fn parse(url: &str) -> Result<Destination, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.len() < 2 {
                return Err(format!("`{url}` needs an absolute path, such as unix:/run/app.sock"));
            }
            return Ok(Destination::Unix(PathBuf::from(path)));
        }
        let uri: http::Uri = url
            .parse()
            .map_err(|_| format!("`{url}` is not a URL; expected http://host:port, https://host:port or unix:/path"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("`{url}` must begin with http://, https:// or unix:")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?;
        if authority.as_str().contains('@') {
            return Err(format!(
                "`{}` must not carry user and password",
                url.split('@').next_back().unwrap_or_default()
            ));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!(
                "`{url}` must not have a path: the sender's path is kept; write only scheme, host and port"
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(format!("`{url}` names no host"));
        }
        let port = port(authority, if tls { 443 } else { 80 }).ok_or_else(|| {
            format!(
                "`{url}` has a port that cannot be; write one from 1 to 65535, or none for {}",
                if tls { 443 } else { 80 }
            )
        })?;
        let tls = tls.then(|| Tls { server_name: host.clone(), ca: None });
        Ok(Destination::Tcp { host, port, tls })
    }

    /// The `Host` of requests that bring none: the name as one would write it in the URL.
    pub fn authority(&self) -> String {
        match self {
            Destination::Tcp { host, port, tls } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let default = if tls.is_some() { 443 } else { 80 };
                if *port == default { host } else { format!("{host}:{port}") }
            }
            Destination::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// The port that a URL names, or else `default`. Neither 0 nor nothing after the colon is one, and
/// `http::Uri` takes one above 65535 for none.
fn port(authority: &http::uri::Authority, default: u16) -> Option<u16> {
    let after_host = authority.as_str().strip_prefix(authority.host())?;
    let Some(digits) = after_host.strip_prefix(':') else { return after_host.is_empty().then_some(default) };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Tcp { tls, .. } => {
                write!(f, "{}://{}", if tls.is_some() { "https" } else { "http" }, self.authority())
            }
            Destination::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To connect, name resolution and TLS included.
    pub connect: Duration,
    /// The whole exchange, connecting included.
    pub total: Duration,
    /// How long an unused connection is kept for the next exchange.
    pub idle: Duration,
}

/// What the other side said.
#[derive(Debug)]
pub struct Reply {
    /// The final status.
    pub status: u16,
    /// Its `Retry-After`: of its header all that anybody asks for.
    pub retry_after: Option<HeaderValue>,
    /// Its body, cut after [`REPLY_BODY_MAX_BYTES`]; empty if its end did not come.
    pub body: Bytes,
    /// Whether its end came, in time and where its length said.
    pub has_ended: bool,
}

/// Most of an answer's body that is kept; more than that is not read and costs the connection.
pub const REPLY_BODY_MAX_BYTES: usize = 256 * 1024;
/// Longest time for the rest of an answer whose status is there: the status decides, and what waits
/// for the rest holds up what comes next.
const REST_WITHIN: Duration = Duration::from_secs(5);
/// Idle connections kept per client, at most.
const POOL_CONNECTIONS: usize = 128;
/// Room for a request line and the fields that are not the sender's, so that one allocation does.
const REQUEST_OVERHEAD_BYTES: usize = 128;
/// Most informational (1xx) answers that are skipped.
const INFORMATIONAL_MAX: usize = 8;

/// Why there was no answer. Texts say what happened and never quote bytes of request or answer.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeError {
    /// The name has no address.
    #[error("the name does not resolve")]
    Resolve,
    /// No connection.
    #[error("cannot connect (refused, unreachable or TLS failed)")]
    Connect,
    /// Connecting took longer than the bound.
    #[error("connecting timed out")]
    ConnectTimeout,
    /// The connection ended or the answer was not HTTP.
    #[error("the connection ended before a complete answer")]
    Broken,
    /// The exchange took longer than the bound.
    #[error("no complete answer in time")]
    Timeout,
    /// A pooled connection was closed by the other side before a byte of an answer.
    #[error("the idle connection had been closed")]
    Stale,
}

/// Which connection carries an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// An idle one if there is any.
    Pool,
    /// A new one.
    Fresh,
}

/// Why a client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The CA file is no use.
    #[error("CA file {path}: {problem}")]
    Ca {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system's certificates cannot be loaded.
    #[error("the system's CA certificates cannot be loaded ({0}); install ca-certificates or set SSL_CERT_FILE")]
    SystemCa(String),
}

/// A connection pool to one destination.
pub struct Client {
    connector: TransportConnector,
    idle: IdleConnections,
    destination: Destination,
    timeouts: Timeouts,
}

impl Client {
    /// A client without any connection yet.
    ///
    /// # Errors
    /// A CA file that cannot be read, or no CA certificates on this system where TLS needs them.
    pub fn new(destination: Destination, timeouts: Timeouts) -> Result<Client, ClientError> {
        // Its own pool is not used.
        let mut options = ConnectorOptions::new(1);
        options.ca_file = ca_file(&destination)?;
        let connector = TransportConnector::new(Some(options));
        let idle = IdleConnections::new(timeouts.idle, POOL_CONNECTIONS);
        Ok(Client { connector, idle, destination, timeouts })
    }

    /// Where it talks to.
    pub fn destination(&self) -> &Destination {
        &self.destination
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
        let mut reply = None;
        let exchange = async {
            let (mut exchange, sent) = self.send_whole(over, method, target, headers, body).await?;
            // A receiver may answer and close before it has read everything (413, 401): its answer
            // counts more than our failed write.
            exchange.read_answer().await?;
            let reply = reply.insert(exchange.reply());
            let rest = tokio::time::timeout(REST_WITHIN, read_reply_body(&mut exchange));
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
        let request = self.request(method, target, headers, framing)?;
        let mut exchange = self.connect(over).await?.begin(self);
        let sent = tokio::time::timeout(self.timeouts.total, exchange.session.write_request_header(Box::new(request)));
        match sent.await {
            Ok(Ok(_)) => Ok(exchange),
            Ok(Err(_)) => Err(exchange.broken()),
            Err(_) => Err(ExchangeError::Timeout),
        }
    }

    /// The bounds of its exchanges.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request that is there as a whole; whether all of it went out.
    async fn send_whole(
        &self,
        over: Over,
        method: &Method,
        target: &[u8],
        headers: &[(HeaderName, HeaderValue)],
        body: &[u8],
    ) -> Result<(Exchange<'_>, bool), ExchangeError> {
        if *method == Method::HEAD {
            // The session has to know that its answer has no body, whatever the answer says.
            let request = self.request(method, target, headers, Framing::Length(body.len() as u64))?;
            let mut exchange = self.connect(over).await?.begin(self);
            let sent = exchange.session.write_request_header(Box::new(request)).await.is_ok()
                && (body.is_empty() || exchange.session.write_body(body).await.is_ok())
                && exchange.session.finish_body().await.is_ok();
            return Ok((exchange, sent));
        }
        let request = self.wire(method, target, headers, body)?;
        let mut connection = self.connect(over).await?;
        let sent = connection.write(&request).await.is_ok();
        Ok((connection.begin(self), sent))
    }

    async fn connect(&self, over: Over) -> Result<Connection, ExchangeError> {
        let address = self.address().await?;
        let pooled = match over {
            Over::Pool => self.idle.take(address),
            Over::Fresh => None,
        };
        match pooled {
            Some(stream) => Ok(Connection { stream, address, reused: true }),
            // Rare and large: on the heap, so that an attempt over an idle connection stays small.
            None => Ok(Connection { stream: Box::pin(self.open(address)).await?, address, reused: false }),
        }
    }

    /// A new connection.
    async fn open(&self, address: Address) -> Result<Stream, ExchangeError> {
        let peer = match (&self.destination, address) {
            (Destination::Tcp { tls, .. }, Some(address)) => {
                let name = tls.as_ref().map(|tls| tls.server_name.clone()).unwrap_or_default();
                HttpPeer::new(address, tls.is_some(), name)
            }
            (Destination::Unix(path), _) => {
                HttpPeer::new_uds(&path.to_string_lossy(), false, String::new()).map_err(|_| ExchangeError::Connect)?
            }
            (Destination::Tcp { .. }, None) => return Err(ExchangeError::Resolve),
        };
        let opened = tokio::time::timeout(self.timeouts.connect, self.connector.new_stream(&peer)).await;
        opened.map_err(|_| ExchangeError::ConnectTimeout)?.map_err(connect_failure)
    }

    fn request(
        &self,
        method: &Method,
        target: &[u8],
        headers: &[(HeaderName, HeaderValue)],
        framing: Framing,
    ) -> Result<RequestHeader, ExchangeError> {
        let broken = |_| ExchangeError::Broken;
        let mut request =
            RequestHeader::build_no_case(method.clone(), target, Some(headers.len() + 2)).map_err(broken)?;
        let mut has_host = false;
        for (name, value) in headers {
            has_host |= name == http::header::HOST;
            request.append_header(name.clone(), value.clone()).map_err(broken)?;
        }
        if !has_host {
            request.insert_header(http::header::HOST, self.destination.authority()).map_err(broken)?;
        }
        match framing {
            // RFC 9110 §8.6: a method that has no use for a body says nothing about an empty one.
            Framing::Length(0) if matches!(*method, Method::GET | Method::HEAD) => {}
            Framing::Length(bytes) => {
                request.insert_header(http::header::CONTENT_LENGTH, bytes.to_string()).map_err(broken)?;
            }
            Framing::Chunked => {
                request.insert_header(http::header::TRANSFER_ENCODING, "chunked").map_err(broken)?;
            }
        }
        Ok(request)
    }

    /// A whole request as it goes over the wire, to be written at once: in two writes, a header and a
    /// body are two packets, and the other side wakes up for each.
    fn wire(
        &self,
        method: &Method,
        target: &[u8],
        headers: &[(HeaderName, HeaderValue)],
        body: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(ExchangeError::Broken);
        }
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let mut wire = Vec::with_capacity(target.len() + fields + body.len() + REQUEST_OVERHEAD_BYTES);
        let field = |wire: &mut Vec<u8>, name: &str, value: &[u8]| {
            wire.extend_from_slice(name.as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(value);
            wire.extend_from_slice(b"\r\n");
        };
        wire.extend_from_slice(method.as_str().as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(target);
        wire.extend_from_slice(b" HTTP/1.1\r\n");
        let mut has_host = false;
        for (name, value) in headers {
            has_host |= name == http::header::HOST;
            field(&mut wire, name.as_str(), value.as_bytes());
        }
        if !has_host {
            field(&mut wire, "host", self.destination.authority().as_bytes());
        }
        // RFC 9110 §8.6: a method that has no use for a body says nothing about an empty one.
        if !body.is_empty() || *method != Method::GET {
            field(&mut wire, "content-length", body.len().to_string().as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(body);
        Ok(wire)
    }

    /// The destination's address now: names are resolved for every exchange (the resolver caches),
    /// so that an app that moved is found.
    async fn address(&self) -> Result<Address, ExchangeError> {
        match &self.destination {
            Destination::Unix(_) => Ok(None),
            Destination::Tcp { host, port, .. } => self.resolve(host, *port).await.map(Some),
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, ExchangeError> {
        if let Ok(ip) = host.parse() {
            return Ok(SocketAddr::new(ip, port));
        }
        let lookup = tokio::time::timeout(self.timeouts.connect, tokio::net::lookup_host((host, port)));
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

/// How the end of a request's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length, bytes.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// One request and its answer, step by step. Dropped before [`Exchange::release`], it takes its
/// connection along.
pub struct Exchange<'c> {
    client: &'c Client,
    session: HttpSession,
    address: Address,
    reused: bool,
    /// Whether a byte of an answer has come.
    answered: bool,
}

/// A connection before anything of an exchange has been sent over it.
struct Connection {
    stream: Stream,
    address: Address,
    reused: bool,
}

impl Connection {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    fn begin(self, client: &Client) -> Exchange<'_> {
        let Connection { stream, address, reused } = self;
        Exchange { client, session: HttpSession::new(stream), address, reused, answered: false }
    }
}

impl Exchange<'_> {
    /// Sends a piece of the body. Not cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`]; the answer may still be read.
    pub async fn send(&mut self, piece: &[u8]) -> Result<(), ExchangeError> {
        // An empty chunk is the last one: what comes behind it would be a request of its own to the app.
        if piece.is_empty() {
            return Ok(());
        }
        self.session.write_body(piece).await.map_err(|_| ExchangeError::Broken)?;
        Ok(())
    }

    /// Ends the body. Not cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`]; the answer may still be read.
    pub async fn finish(&mut self) -> Result<(), ExchangeError> {
        self.session.finish_body().await.map_err(|_| ExchangeError::Broken)?;
        Ok(())
    }

    /// Reads the header of the answer, informational ones (1xx) but 101 skipped. Cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`], or [`ExchangeError::Stale`] over a pooled connection.
    pub async fn read_answer(&mut self) -> Result<&ResponseHeader, ExchangeError> {
        for _ in 0..=INFORMATIONAL_MAX {
            if self.session.read_response().await.is_err() {
                return Err(self.broken());
            }
            self.answered = true;
            let status = self.session.get_status().map_or(0, |status| status.as_u16());
            if status >= 200 || (status == 101 && self.session.was_upgraded()) {
                return self.session.resp_header().ok_or(ExchangeError::Broken);
            }
            if status == 101 {
                break;
            }
        }
        Err(ExchangeError::Broken)
    }

    /// The next piece of the answer's body; `None` at its end. Cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`].
    pub async fn read_piece(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        self.session.read_body_bytes().await.map_err(|_| ExchangeError::Broken)
    }

    /// After a 101: what is sent from now on is no body, but the other protocol's bytes.
    pub fn switch_protocols(&mut self) {
        self.session.maybe_upgrade_body_writer();
    }

    /// Keeps the connection for the next exchange. To be called after the whole of request and
    /// answer, and only then.
    pub async fn release(mut self) {
        self.session.respect_keepalive();
        if let Some(stream) = self.session.reuse().await {
            self.client.idle.keep(stream, self.address);
        }
    }

    fn reply(&self) -> Reply {
        let header = self.session.resp_header();
        Reply {
            status: header.map_or(0, |header| header.status.as_u16()),
            retry_after: self.session.get_header(http::header::RETRY_AFTER).cloned(),
            body: Bytes::new(),
            has_ended: false,
        }
    }

    fn broken(&self) -> ExchangeError {
        if self.reused && !self.answered { ExchangeError::Stale } else { ExchangeError::Broken }
    }
}

#[allow(clippy::needless_pass_by_value, clippy::boxed_local, reason = "passed to map_err")]
fn connect_failure(error: pingora_error::BError) -> ExchangeError {
    use pingora_error::ErrorType::{ConnectTimedout, TLSHandshakeTimedout};
    // The error's text is not shown: it may quote what was read.
    match error.etype() {
        ConnectTimedout | TLSHandshakeTimedout => ExchangeError::ConnectTimeout,
        _ => ExchangeError::Connect,
    }
}

/// The body up to the bound, and whether that was all of it.
async fn read_reply_body(exchange: &mut Exchange<'_>) -> Result<(Bytes, bool), ExchangeError> {
    let mut body = BytesMut::new();
    while let Some(piece) = exchange.session.read_body_ref().await.map_err(|_| ExchangeError::Broken)? {
        let room = REPLY_BODY_MAX_BYTES - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok((body.freeze(), false));
        }
    }
    Ok((body.freeze(), true))
}

/// The CA file for pingora's connector, checked here because pingora panics on a bad one. Without
/// TLS it gets an empty one: loading the system's certificates would cost megabytes for nothing.
fn ca_file(destination: &Destination) -> Result<Option<String>, ClientError> {
    match destination {
        Destination::Tcp { tls: Some(Tls { ca: Some(path), .. }), .. } => {
            let shown = path.display().to_string();
            let problem = |problem: String| ClientError::Ca { path: shown.clone(), problem };
            let mut store = pingora_rustls::RootCertStore::empty();
            pingora_rustls::load_ca_file_into_store(path, &mut store)
                .map_err(|_| problem("cannot be read as PEM certificates".to_owned()))?;
            if store.is_empty() {
                return Err(problem("holds no certificate".to_owned()));
            }
            Ok(Some(shown))
        }
        Destination::Tcp { tls: Some(_), .. } => {
            let mut store = pingora_rustls::RootCertStore::empty();
            pingora_rustls::load_platform_certs_incl_env_into_store(&mut store)
                .map_err(|error| ClientError::SystemCa(error.etype().as_str().to_owned()))?;
            if store.is_empty() {
                return Err(ClientError::SystemCa("none found".to_owned()));
            }
            Ok(None)
        }
        _ => Ok(Some("/dev/null".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    #[test]
    fn a_destination_is_scheme_host_and_port_or_a_socket() {
        let tcp = |host: &str, port, tls: bool| Destination::Tcp {
            host: host.into(),
            port,
            tls: tls.then(|| Tls { server_name: host.into(), ca: None }),
        };
        assert_eq!(Destination::parse("http://app:3000"), Ok(tcp("app", 3000, false)));
        assert_eq!(Destination::parse("http://app/"), Ok(tcp("app", 80, false)));
        assert_eq!(Destination::parse("http://app:65535"), Ok(tcp("app", 65535, false)));
        assert_eq!(Destination::parse("https://app:080/"), Ok(tcp("app", 80, true)));
        assert_eq!(Destination::parse("https://app.example"), Ok(tcp("app.example", 443, true)));
        assert_eq!(Destination::parse("http://[::1]:3000"), Ok(tcp("::1", 3000, false)));
        assert_eq!(Destination::parse("unix:/run/a.sock"), Ok(Destination::Unix("/run/a.sock".into())));
        assert_eq!(Destination::parse("http://[::1]:3000").unwrap().authority(), "[::1]:3000");
        for bad in [
            "",
            "app:3000",
            "ftp://a",
            "http://",
            "http://a/path",
            "http://a?x",
            "http://u:secret@a",
            "http://a:99999",
            "http://a:65536",
            "https://a:0",
            "http://a:",
            "http://a:+80",
            "http://a:80:80",
            "http://[::1]:",
            "http://[::1]:70000",
            "unix:run",
            "unix:",
        ] {
            let message = Destination::parse(bad).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    fn timeouts() -> Timeouts {
        Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(10), idle: Duration::from_secs(5) }
    }

    async fn listen() -> (TcpListener, Destination) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Destination::Tcp { host: "127.0.0.1".into(), port, tls: None })
    }

    /// Reads one request with a Content-Length and returns its bytes.
    async fn read_request(socket: &mut tokio::net::TcpStream) -> Vec<u8> {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = socket.read(&mut buffer).await.unwrap();
            seen.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&seen).to_lowercase();
            if let Some(end) = text.find("\r\n\r\n") {
                let length: usize = text
                    .split("content-length: ")
                    .nth(1)
                    .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
                if seen.len() >= end + 4 + length {
                    return seen;
                }
            }
            if n == 0 {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_is_reused_and_a_stale_one_replaced_once() {
        let (listener, destination) = listen().await;
        let client = Arc::new(Client::new(destination, timeouts()).unwrap());
        let server = tokio::spawn(async move {
            // Two exchanges on the first connection, which is closed upon the third request.
            let (mut first, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                read_request(&mut first).await;
                first
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
                    .await
                    .unwrap();
            }
            read_request(&mut first).await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            let request = read_request(&mut second).await;
            second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            request
        });
        for status in [201, 201, 200] {
            let reply = client.exchange(&Method::POST, b"/a?b=c", &[], b"body").await.unwrap();
            assert_eq!(reply.status, status);
        }
        let request = String::from_utf8(server.await.unwrap()).unwrap();
        assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nbody"));
    }

    /// An app that answers everything with 200; how many connections it has accepted so far.
    fn answer_everything(listener: TcpListener) -> Arc<std::sync::atomic::AtomicUsize> {
        let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::spawn(async move {
                    while !read_request(&mut socket).await.is_empty() {
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        accepted
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn connections_are_taken_up_again_however_fast_one_exchange_follows_the_other() {
        const AT_ONCE: usize = 8;
        let (listener, destination) = listen().await;
        let accepted = answer_everything(listener);
        let client = Arc::new(Client::new(destination, timeouts()).unwrap());
        let exchanges = (0..AT_ONCE).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    client.exchange(&Method::POST, b"/", &[], b"body").await.unwrap();
                }
            })
        });
        for exchange in exchanges.collect::<Vec<_>>() {
            exchange.await.unwrap();
        }
        let accepted = accepted.load(std::sync::atomic::Ordering::SeqCst);
        assert!(accepted <= AT_ONCE, "{accepted} connections for {AT_ONCE} exchanges at a time");
    }

    #[tokio::test]
    async fn an_idle_connection_that_the_app_closes_is_closed_here_too() {
        let (listener, destination) = listen().await;
        let client = Client::new(destination, timeouts()).unwrap();
        let app = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            socket.shutdown().await.unwrap();
            // The end of the connection, from the other side, without another exchange.
            socket.read(&mut [0]).await.unwrap()
        });
        client.exchange(&Method::POST, b"/", &[], b"body").await.unwrap();
        assert_eq!(app.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_status_decides_however_the_rest_of_the_answer_ends() {
        let ways = ["content-length: 4\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\nwhat?"];
        for (stays_open, rest) in [(true, ways[0]), (false, ways[0]), (false, ways[1])] {
            let (listener, destination) = listen().await;
            let mut short = timeouts();
            short.total = Duration::from_millis(if stays_open { 300 } else { 10_000 });
            let client = Client::new(destination, short).unwrap();
            let app = tokio::spawn(async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                read_request(&mut socket).await;
                socket.write_all(format!("HTTP/1.1 202 Accepted\r\n{rest}").as_bytes()).await.unwrap();
                if stays_open {
                    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "the connection is dropped");
                }
            });
            let reply = client.exchange(&Method::POST, b"/", &[], b"body").await.unwrap();
            assert_eq!((reply.status, reply.has_ended), (202, false), "{rest}");
            app.await.unwrap();
        }
    }

    #[tokio::test]
    async fn failures_say_what_happened() {
        let (listener, destination) = listen().await;
        drop(listener);
        let client = Client::new(destination, timeouts()).unwrap();
        assert_eq!(client.exchange(&Method::POST, b"/", &[], b"").await.err(), Some(ExchangeError::Connect));

        let name = Destination::parse("http://does-not-exist.invalid").unwrap();
        let client = Client::new(name, timeouts()).unwrap();
        assert_eq!(client.exchange(&Method::POST, b"/", &[], b"").await.err(), Some(ExchangeError::Resolve));

        let (listener, destination) = listen().await;
        let mut short = timeouts();
        short.total = Duration::from_millis(50);
        let client = Client::new(destination, short).unwrap();
        assert_eq!(client.exchange(&Method::POST, b"/", &[], b"").await.err(), Some(ExchangeError::Timeout));
        drop(listener);
    }

    /// A TLS server for `app.internal` that answers every connection once, and the PEM file of its CA.
    async fn tls_app(dir: &std::path::Path) -> (u16, PathBuf) {
        pingora_rustls::install_default_crypto_provider();
        let signed = rcgen::generate_simple_self_signed(["app.internal".to_owned()]).unwrap();
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, signed.cert.pem()).unwrap();
        let key = pingora_rustls::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let config = pingora_rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let acceptor = pingora_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(socket).await else { continue };
                let mut seen = [0; 4096];
                let _ = tls.read(&mut seen).await;
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
                let _ = tls.shutdown().await;
            }
        });
        (port, ca)
    }

    #[tokio::test]
    async fn an_https_destination_must_have_a_certificate_of_the_ca_for_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (port, ca) = tls_app(dir.path()).await;
        let other = dir.path().join("other.pem");
        let stranger = rcgen::generate_simple_self_signed(["app.internal".to_owned()]).unwrap();
        std::fs::write(&other, stranger.cert.pem()).unwrap();
        let ask = async |server_name: &str, ca: &PathBuf| {
            let tls = Some(Tls { server_name: server_name.into(), ca: Some(ca.clone()) });
            let client = Client::new(Destination::Tcp { host: "127.0.0.1".into(), port, tls }, timeouts()).unwrap();
            client.exchange(&Method::POST, b"/", &[], b"").await.map(|reply| reply.status)
        };
        assert_eq!(ask("app.internal", &ca).await, Ok(200));
        assert_eq!(ask("other.internal", &ca).await, Err(ExchangeError::Connect), "another name");
        assert_eq!(ask("app.internal", &other).await, Err(ExchangeError::Connect), "another CA");
    }

    #[test]
    fn a_missing_ca_file_is_an_error_and_not_a_panic() {
        let tls = Some(Tls { server_name: "a".into(), ca: Some("/does/not/exist.pem".into()) });
        let destination = Destination::Tcp { host: "a".into(), port: 443, tls };
        let error = Client::new(destination, timeouts()).err().unwrap().to_string();
        assert!(error.contains("/does/not/exist.pem"), "{error}");
    }

    #[tokio::test]
    async fn header_and_body_are_one_write_and_the_names_are_as_they_came() {
        let (listener, destination) = listen().await;
        let app = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            // One read gets what one write sent, as long as it fits the socket's buffer.
            let mut buffer = vec![0; 64 * 1024];
            let n = socket.read(&mut buffer).await.unwrap();
            buffer.truncate(n);
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            buffer
        });
        let client = Client::new(destination, timeouts()).unwrap();
        let headers = [(HeaderName::from_static("telnyx-timestamp"), HeaderValue::from_static("1"))];
        let body = vec![b'x'; 4000];
        let reply = client.exchange(&Method::POST, b"/hooks?a=%20", &headers, &body).await.unwrap();
        assert_eq!(reply.status, 200);
        let got = String::from_utf8(app.await.unwrap()).unwrap();
        let (header, got_body) = got.split_once("\r\n\r\n").unwrap();
        let lines: Vec<_> = header.lines().collect();
        assert_eq!(lines[..2], ["POST /hooks?a=%20 HTTP/1.1", "telnyx-timestamp: 1"]);
        assert!(lines[2].starts_with("host: 127.0.0.1:"), "{lines:?}");
        assert_eq!(lines[3..], ["content-length: 4000"]);
        assert_eq!(got_body.as_bytes(), body);
    }

    #[tokio::test]
    async fn a_target_that_would_end_the_request_line_is_never_sent() {
        let (listener, destination) = listen().await;
        let client = Client::new(destination, timeouts()).unwrap();
        for target in [&b""[..], b"/a b", b"/a\r\nx: y", b"/\x7f", b"/\xe9"] {
            let refused = client.exchange(&Method::POST, target, &[], b"{}").await;
            assert_eq!(refused.err(), Some(ExchangeError::Broken), "{}", target.escape_ascii());
        }
        drop(client);
        let nobody = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(nobody.is_err(), "no connection was made for it");
    }

    #[tokio::test]
    async fn an_exchange_is_small_enough_to_be_moved() {
        let (_listener, destination) = listen().await;
        let client = Client::new(destination, timeouts()).unwrap();
        let exchange = client.exchange_once(Over::Pool, &Method::POST, b"/", &[], b"{}");
        // It was 11 KB once, and moving it was a third of its cost.
        assert!(size_of_val(&exchange) <= 3_000, "{}", size_of_val(&exchange));
    }
}
