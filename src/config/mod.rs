//! The configuration as meant: domain values, checked, with every default filled in.
//!
//! [`reader`] turns YAML text into values with their place and collects every problem, [`resolve`]
//! is the one conversion from what was typed (file, environment, flags) to this [`Config`].

pub mod reader;
pub mod resolve;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::gate::Enforcement;
use crate::gate::allowlist::Allowlist;
use crate::gate::keys::NamedKey;
use crate::gate::peer::TrustedProxies;
use crate::gate::timestamp::Tolerance;

/// Everything that `run` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Public listeners, at least one, in the order of the file. Port 0 asks for any.
    pub listen: Vec<Listener>,
    /// The admin side.
    pub admin: Admin,
    /// Where the buffer lives.
    pub data_dir: PathBuf,
    /// Who may name the client.
    pub trusted_proxies: TrustedProxies,
    /// What is received, at least one route.
    pub routes: Vec<Route>,
    /// Upstream of events whose route is gone from the configuration.
    pub default_upstream: Option<Arc<Upstream>>,
    /// Bounds of the public side.
    pub limits: Limits,
    /// The buffer.
    pub buffer: Buffer,
    /// Retries and what follows them.
    pub delivery: Delivery,
    /// How to go down.
    pub shutdown: Shutdown,
    /// Logging.
    pub log: Log,
    /// Worker threads.
    pub threads: usize,
}

/// A public listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// Mode of a unix socket's file.
    pub socket_mode: u32,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// What it shows its clients, where TLS is spoken.
    pub tls: Option<Identity>,
}

pub use crate::http::proxy_protocol::ProxyProtocol;
pub use crate::http::tls::Identity;

impl Listener {
    /// Mode of a unix socket's file unless set: its user and its group may connect.
    pub const SOCKET_MODE: u32 = 0o660;

    /// A listener with nothing in front of HTTP.
    pub fn plain(address: ListenAddress) -> Listener {
        Listener { address, socket_mode: Listener::SOCKET_MODE, proxy_protocol: ProxyProtocol::Off, tls: None }
    }
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; 0 asks for any.
    Tcp(SocketAddr),
    /// The file of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The admin side: probes, metrics, API.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens over TCP.
    pub address: SocketAddr,
    /// The bearer token that opens the API over TCP; without one it exists on the socket only.
    pub token: Option<Secret>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// An app behind hookward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub destination: Destination,
    /// The `Host` that it is sent; the sender's Host otherwise.
    pub host: Option<String>,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Total time of one attempt.
    pub timeout: Duration,
    /// How many attempts may be under way at once.
    pub max_concurrency: usize,
}

pub use crate::forward::client::Destination;

/// What happens to the requests of one path.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name in metrics, logs and the admin API.
    pub name: Arc<str>,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; none but those that carry a signed body.
    pub methods: Vec<Method>,
    /// At least one.
    pub keys: Vec<NamedKey>,
    /// Who may send.
    pub allowlist: Allowlist,
    /// What happens to what no key has signed.
    pub signature: Enforcement,
    /// How old a signature may be.
    pub tolerance: Tolerance,
    /// Largest body, bytes.
    pub max_body_bytes: usize,
    /// Duplicate window; `None` where off.
    pub dedupe: Option<Dedupe>,
    /// The app that gets the events.
    pub upstream: Arc<Upstream>,
}

pub use crate::ingress::PathPattern;

/// How duplicates of a route are found.
#[derive(Debug, Clone)]
pub struct Dedupe {
    /// How long an event id is remembered, in running time.
    pub window: Duration,
    /// Routes with the same scope share their ids.
    pub scope: Arc<str>,
}

pub use crate::http::connection::Limits;

/// The buffer's bounds.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Used pages and WAL, bytes.
    pub max_bytes: u64,
    /// What must outlive what; less refuses to start.
    pub require: Durability,
    /// Event ids that are remembered at most.
    pub dedupe_entries: usize,
}

pub use crate::buffer::durability::Durability;

/// Retries and what follows them.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Backoff of failed attempts.
    pub retry: Retry,
    /// How long dead letters are kept, running time.
    pub dead_letter_keep: Duration,
    /// How long delivered bodies are kept, running time.
    pub delivered_keep: Duration,
}

pub use crate::forward::backoff::Retry;

/// How to go down on SIGTERM.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Accept for this long while already not ready.
    pub delay: Duration,
    /// Deliver for at most this long afterwards.
    pub drain: Duration,
}

/// Logging.
#[derive(Debug, Clone)]
pub struct Log {
    /// How much of the client's address is written.
    pub client_ip: ClientIpLog,
    /// Lowest level.
    pub level: tracing::Level,
    /// Shape of a line.
    pub format: LogFormat,
    /// Accepted requests logged per second at most; the rest is counted.
    pub accepted_per_s: u32,
}

pub use crate::logging::{ClientIpLog, LogFormat};
