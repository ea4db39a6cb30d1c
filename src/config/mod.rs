//! The configuration as meant: domain values, checked, with every default filled in.
//!
//! [`reader`] turns YAML text into values with their place and collects every problem, [`resolve`]
//! is the one conversion from what was typed (file, environment, flags) to this [`Config`].

pub mod files;
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
use crate::gate::event_key::EventKey;
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
    /// Where requests go that match no route; `None` answers them 404.
    pub unmatched: Option<Arc<Upstream>>,
    /// Path of the public side whose GET answers as `/readyz` does.
    pub health_path: Option<String>,
    /// Bounds of the public side.
    pub limits: Limits,
    /// Which bounds depend on the memory there is.
    pub auto: Auto,
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

impl Config {
    /// The apps that it names; one may come several times.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.routes.iter().filter_map(Route::upstream).chain(&self.default_upstream).chain(&self.unmatched)
    }
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

    /// Whether only the certificates differ, if anything does.
    pub fn is_like(&self, other: &Listener) -> bool {
        let Listener { address, socket_mode, proxy_protocol, tls } = self;
        *address == other.address
            && *socket_mode == other.socket_mode
            && *proxy_protocol == other.proxy_protocol
            && tls.is_some() == other.tls.is_some()
    }

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Where it is. With other contents of the files of its TLS it is another upstream.
    pub destination: Destination,
    /// The `Host` that it is sent; the sender's Host otherwise.
    pub host: Option<String>,
    /// Which forwarding headers it is sent.
    pub forwarded: Forwarded,
    /// Signs what it is sent; with another key it is another upstream.
    pub signer: Option<Arc<Signer>>,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Total time of one attempt.
    pub timeout: Duration,
    /// Bounds of the use of each connection.
    pub connection_lifetime: Lifetime,
    /// Bounds of what it is given.
    pub limits: UpstreamLimits,
}

impl Upstream {
    /// True of the same app, even if it is given more or less.
    pub fn is_same_app(&self, other: &Upstream) -> bool {
        *self == Upstream { limits: self.limits, ..other.clone() }
    }
}

pub use crate::client::{Destination, Lifetime};
pub use crate::forward::headers::Forwarded;
pub use crate::forward::scheduler::Limits as UpstreamLimits;
pub use crate::forward::sign::Signer;

/// What happens to the requests of one path.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name in metrics, logs and the admin API.
    pub name: Arc<str>,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; `None` is any, where nothing is verified.
    pub methods: Option<Vec<Method>>,
    /// What is done with them.
    pub handling: Handling,
}

/// What is done with a request of a route.
#[derive(Debug, Clone)]
pub enum Handling {
    /// It is verified first.
    Verified(Box<Checks>, End),
    /// It goes to this app as it is.
    Passed(Arc<Upstream>),
}

/// What a verified request has to pass.
#[derive(Debug, Clone)]
pub struct Checks {
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
    /// Whether other paths that end in the route's may be passed unverified.
    pub passes_ends: bool,
}

/// Where a verified request ends.
#[derive(Debug, Clone)]
pub enum End {
    /// Stored, answered, forwarded later.
    Ack {
        /// Duplicate window; `None` where off.
        dedupe: Option<Dedupe>,
        /// The app that gets the events.
        upstream: Arc<Upstream>,
    },
    /// Sent to this app, whose answer goes back.
    Proxy(Arc<Upstream>),
    /// Answered, and nothing else.
    Verify,
}

impl Route {
    /// What a verified request has to pass; `None` where nothing is verified.
    pub fn checks(&self) -> Option<&Checks> {
        match &self.handling {
            Handling::Verified(checks, _) => Some(checks),
            Handling::Passed(_) => None,
        }
    }

    /// The app that stored events go to, and how their duplicates are found; `None` in modes that
    /// store nothing.
    pub fn ack(&self) -> Option<(&Arc<Upstream>, Option<&Dedupe>)> {
        match &self.handling {
            Handling::Verified(_, End::Ack { dedupe, upstream }) => Some((upstream, dedupe.as_ref())),
            _ => None,
        }
    }

    /// The app that its requests go to, now or later.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &self.handling {
            Handling::Verified(_, End::Ack { upstream, .. } | End::Proxy(upstream)) | Handling::Passed(upstream) => {
                Some(upstream)
            }
            Handling::Verified(_, End::Verify) => None,
        }
    }
}

pub use crate::router::PathPattern;

/// How duplicates of a route are found.
#[derive(Debug, Clone)]
pub struct Dedupe {
    /// How long an event id is remembered, in running time.
    pub window: Duration,
    /// Routes with the same scope share their ids.
    pub scope: Arc<str>,
    /// What an event is known by before its `data.id`.
    pub key: EventKey,
}

pub use crate::http::connection::Limits;

/// Bounds that are left to hookward; what stands in their places until it knows the memory is the most that they
/// come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Auto {
    /// `limits.connections`.
    pub connections: bool,
    /// `limits.body_memory`.
    pub body_memory: bool,
    /// `buffer.dedupe_entries`.
    pub dedupe_entries: bool,
}

impl Auto {
    /// The most that `limits.connections` comes to.
    pub const CONNECTIONS_MAX: usize = 4096;
    /// The most that `limits.body_memory` comes to.
    pub const BODY_MEMORY_MAX_BYTES: usize = 64 << 20;
    /// The most that `buffer.dedupe_entries` comes to.
    pub const DEDUPE_ENTRIES_MAX: usize = 1_000_000;
}

/// The buffer's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Used pages and WAL.
    pub max_bytes: MaxBytes,
    /// What one route leaves of that to the others.
    pub reserve: Reserve,
    /// What must outlive what; less refuses to start.
    pub require: Durability,
    /// Event ids that are remembered at most.
    pub dedupe_entries: usize,
}

pub use crate::buffer::capacity::{MaxBytes, Reserve};
pub use crate::buffer::durability::Durability;

/// Retries and what follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Backoff of failed attempts.
    pub retry: Retry,
    /// How long dead letters are kept, running time.
    pub dead_letter_keep: Duration,
    /// How long delivered bodies are kept, running time.
    pub delivered_keep: Duration,
    /// How events are put in order; `None` where they are not.
    pub ordering: Option<Ordering>,
}

pub use crate::forward::backoff::Retry;
pub use crate::forward::order_key::Ordering;

/// How to go down on SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// Accept for this long while already not ready.
    pub delay: Duration,
    /// Deliver for at most this long afterwards.
    pub drain: Duration,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
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
