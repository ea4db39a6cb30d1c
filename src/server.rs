//! Wiring only: which parts there are, and the order in which they start and stop.
//!
//! Start: admin listener (alive, not ready), lock, buffer, forwarder, public listeners, ready.
//! Stop: not ready, `shutdown.delay`, no more connections, requests in flight end, deliveries go on
//! for at most `shutdown.drain`, the buffer is closed. Nothing depends on the stop being reached.

mod open_files;
mod sockets;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::server::Fds;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::buffer::Recovery;
use crate::buffer::committer::{Committer, Health};
use crate::buffer::durability::{self, Durability};
use crate::buffer::event::State;
use crate::buffer::sqlite::{InstanceLock, OpenError, Settings, SqliteBuffer};
use crate::clock::Clock;
use crate::config::{self, Config, ListenAddress};
use crate::forward::client::ClientError;
use crate::forward::upstream::{Upstream, UpstreamSettings};
use crate::forward::{Forwarder, Lane, Lanes};
use crate::gate::identity::{DedupeScope, Identity};
use crate::gate::signature::Verifier;
use crate::http::admin::{Access, AdminApp, AdminState, BufferView, Readiness, UpstreamView};
use crate::http::connection::{PublicApp, PublicSide};
use crate::http::listener::Listener;
use crate::http::request_log::RequestLog;
use crate::http::tls::Keeper;
use crate::ingress::{Ingress, Route};
use crate::metrics::{Metrics, RouteLabels};

pub use self::sockets::Passed;
use self::sockets::{Bound, PublicSocket, SocketFile, bind_tcp, local_addr};

/// How long another instance may take to let go of the data directory.
const LOCK_WITHIN: Duration = Duration::from_secs(30);
/// Time between two tries to take the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// The admin socket within the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// Read buffer of a connection; an idle one costs 31 KB with it, 40 with pingora's default.
const CONNECTION_READ_BUFFER_BYTES: usize = 1460;
/// Pause after an accept that failed, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Why hookward could not start or go on (exit code 1). Texts say where and what to do.
#[derive(Debug, Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(error))]
    Bind {
        /// The address or path.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// A socket that was handed over cannot be served.
    #[error(
        "socket {number} of LISTEN_FDS does not listen for TCP or unix stream connections; give the .socket unit only ListenStream="
    )]
    Passed {
        /// Which one, from 1.
        number: usize,
    },
    /// The data directory cannot be used.
    #[error(
        "data directory {path}: {error}; make it a directory that this user can write, or choose another with --data-dir"
    )]
    DataDir {
        /// The directory.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// Another instance holds the data directory.
    #[error(
        "data directory {path} is in use by another hookward (waited 30 s); stop it, or give each its own --data-dir"
    )]
    Locked {
        /// The directory.
        path: String,
    },
    /// The data directory outlives less than what is required.
    #[error(
        "data directory {path} is {evidence}, which outlives only the {found}; {wanted} is required: mount a volume there, or accept it with --buffer-require {found}"
    )]
    Durability {
        /// The directory.
        path: String,
        /// What was found.
        found: &'static str,
        /// On what grounds.
        evidence: String,
        /// What is required.
        wanted: &'static str,
    },
    /// The database cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// A client to an app cannot be made.
    #[error("upstream: {0}")]
    Upstream(#[from] ClientError),
    /// The buffer failed for good.
    #[error("the buffer failed: {0}; nothing unstored was acknowledged; start again to recover")]
    BufferFailed(String),
    /// A part that cannot be missing.
    #[error("{0}")]
    Internal(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop what listens there, or choose another address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the capability NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// A hookward that is bound, with its buffer open.
pub struct Server {
    listen: Vec<ListenAddress>,
    tls: Vec<Option<Arc<Keeper>>>,
    socket_files: Vec<SocketFile>,
    admin: SocketAddr,
    shutdown: config::Shutdown,
    admin_state: Arc<AdminState>,
    admin_stop: watch::Sender<bool>,
    public_stop: watch::Sender<bool>,
    connections: Arc<Semaphore>,
    connections_max: u32,
    ingress: Arc<Ingress>,
    committer: Committer,
    buffer_thread: JoinHandle<()>,
    lanes: Vec<Lane>,
    lanes_stop: watch::Sender<bool>,
    _lock: InstanceLock,
}

impl Server {
    /// Binds the admin side, opens the buffer, binds the public side; `passed` sockets take the
    /// places of the first public listeners.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(config: Config, passed: Passed, clock: Arc<dyn Clock>) -> Result<Server, ServerError> {
        pingora_rustls::install_default_crypto_provider();
        open_files::raise(config.limits.connections);
        let metrics = Arc::new(new_metrics(&config)?);
        count_panics(&metrics);
        metrics.capacity_bytes.set(i64::try_from(config.buffer.max_bytes).unwrap_or(i64::MAX));
        let admin_state = Arc::new(AdminState {
            readiness: watch::Sender::new(Readiness::Starting),
            buffer: std::sync::OnceLock::new(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            upstreams: upstream_views(&config),
        });
        let (admin_stop, admin_stopped) = watch::channel(false);
        let admin_listener = bind_tcp(config.admin.address)?;
        let admin = local_addr(&admin_listener)?;
        let access = match &config.admin.token {
            Some(token) => Access::Token(token.0.clone()),
            None => Access::Closed,
        };
        let admin_app = AdminApp { state: admin_state.clone(), access };
        serve("admin", Bound::Tcp(admin_listener), admin_app, admin_stopped.clone())?;

        let upstreams = Upstreams::new(&config)?;
        let (lock, durability) = take_data_dir(&config).await?;
        let (engine, recovery) = open_buffer(&config).await?;
        metrics.recovered_events.set(i64::try_from(recovery.pending).unwrap_or(i64::MAX));
        let lanes = Lanes::new();
        let (committer, buffer_thread) =
            Committer::start(Box::new(engine), &recovery, lanes.clone(), clock.clone(), metrics.clone())
                .map_err(|error| ServerError::Internal(format!("no thread for the buffer: {error}")))?;
        let capacity_bytes = config.buffer.max_bytes;
        let view = BufferView { committer: committer.clone(), durability: durability.level.name(), capacity_bytes };
        let _ = admin_state.buffer.set(view);
        let socket = bind_admin_socket(&config.data_dir)?;
        let socket_app = AdminApp { state: admin_state.clone(), access: Access::Open };
        serve("admin socket", Bound::Unix(socket), socket_app, admin_stopped)?;

        let forwarder = Arc::new(Forwarder {
            lanes,
            committer: committer.clone(),
            retry: config.delivery.retry.clone(),
            clock: clock.clone(),
            run_base: recovery.run_base,
            metrics: metrics.clone(),
        });
        let (lanes_stop, lanes_stopped) = watch::channel(false);
        let lanes = upstreams.start_lanes(&forwarder, &recovery, &lanes_stopped);

        let routes = config.routes.iter().map(|route| new_route(route, &metrics)).collect();
        let ingress = Arc::new(Ingress::new(routes, config.trusted_proxies.clone(), committer.clone(), clock.clone()));
        let connections = Arc::new(Semaphore::new(config.limits.connections));
        let (public_stop, public_stopped) = watch::channel(false);
        let side = Arc::new(PublicSide {
            ingress: ingress.clone(),
            limits: config.limits.clone(),
            permits: connections.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            log: Arc::new(RequestLog::new(config.log.accepted_per_s, config.log.client_ip, clock.clone())),
        });
        let mut public = Public::default();
        for socket in sockets::open(&config.listen, passed)? {
            public.serve(socket, &side, &public_stopped)?;
        }
        admin_state.readiness.send_replace(Readiness::Ready);
        log_start(&config, &public.listen, admin, &durability, &recovery, clock.uptime_ms());
        Ok(Server {
            listen: public.listen,
            tls: public.tls,
            socket_files: public.socket_files,
            admin,
            shutdown: config.shutdown,
            admin_state,
            admin_stop,
            public_stop,
            connections,
            connections_max: u32::try_from(config.limits.connections).unwrap_or(u32::MAX),
            ingress,
            committer,
            buffer_thread,
            lanes,
            lanes_stop,
            _lock: lock,
        })
    }

    /// The public addresses, in the order of the configuration, with real ports.
    pub fn listen(&self) -> &[ListenAddress] {
        &self.listen
    }

    /// The TLS of each of them, to be replaced on a reload.
    pub fn tls(&self) -> &[Option<Arc<Keeper>>] {
        &self.tls
    }

    /// The admin address, with its real port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Serves until `shutdown` completes, then drains.
    ///
    /// # Errors
    /// [`ServerError::BufferFailed`] as soon as the buffer cannot be trusted any more.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let mut health = self.committer.health();
        let served = tokio::select! {
            () = shutdown => Ok(()),
            failed = buffer_failed(&mut health) => Err(ServerError::BufferFailed(failed)),
        };
        if served.is_ok() {
            self.drain().await;
        }
        self.close().await;
        served
    }

    /// Not ready at once; then no more connections, what is in flight ends, deliveries go on.
    async fn drain(&self) {
        self.admin_state.readiness.send_replace(Readiness::Draining);
        tracing::info!(
            delay_s = self.shutdown.delay.as_secs(),
            drain_s = self.shutdown.drain.as_secs(),
            "draining: not ready any more, still accepting for shutdown.delay"
        );
        tokio::time::sleep(self.shutdown.delay).await;
        let draining = async {
            self.public_stop.send_replace(true);
            // Connections end after the request they are in.
            let _ = self.connections.acquire_many(self.connections_max).await;
            self.ingress.drain();
            let mut stats = self.committer.stats();
            let _ = stats.wait_for(|stats| stats.of(State::Pending) == 0).await;
        };
        let _ = timeout(self.shutdown.drain, draining).await;
        self.ingress.drain();
    }

    async fn close(self) {
        drop(self.socket_files);
        self.lanes_stop.send_replace(true);
        for lane in self.lanes {
            lane.ended().await;
        }
        self.committer.close().await;
        let _ = tokio::task::spawn_blocking(move || self.buffer_thread.join()).await;
        let pending = self.committer.stats().borrow().of(State::Pending);
        tracing::info!(pending, "stopped; what is pending is delivered after the next start");
        self.admin_stop.send_replace(true);
    }
}

async fn buffer_failed(health: &mut watch::Receiver<Health>) -> String {
    match health.wait_for(|health| *health != Health::Good).await {
        Ok(health) => match &*health {
            Health::Failed(why) => why.clone(),
            Health::Good => String::new(),
        },
        Err(_) => "its thread ended".to_owned(),
    }
}

/// Panics cost one connection or one attempt; they are counted, and their text is not shown, since
/// it may quote what was being worked on.
fn count_panics(metrics: &Arc<Metrics>) {
    let panics = metrics.panics.clone();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        tracing::error!(place, "panic; please report it with this place");
    }));
}

fn new_metrics(config: &Config) -> Result<Metrics, ServerError> {
    let labels: Vec<_> = config
        .routes
        .iter()
        .map(|route| RouteLabels {
            name: route.name.clone(),
            keys: route.keys.iter().map(|key| key.name.clone()).collect(),
        })
        .collect();
    Metrics::new(&labels).map_err(|error| ServerError::Internal(format!("metrics: {error}")))
}

fn new_route(route: &config::Route, metrics: &Metrics) -> Route {
    Route {
        name: route.name.clone(),
        path: route.path.clone(),
        methods: route.methods.clone(),
        allowlist: route.allowlist.clone(),
        verifier: Verifier { keys: route.keys.clone(), signature: route.signature, timestamp: route.tolerance.mode },
        tolerance: route.tolerance,
        identity: Identity {
            dedupe: route
                .dedupe
                .as_ref()
                .map(|dedupe| DedupeScope { scope: dedupe.scope.clone(), window: dedupe.window }),
        },
        max_body_bytes: route.max_body_bytes,
        metrics: metrics.route(&route.name).clone(),
    }
}

/// Routes by the app they go to; routes with equal settings share connections and bounds.
fn by_upstream(config: &Config) -> Vec<(Arc<config::Upstream>, Vec<Arc<str>>)> {
    let mut grouped: Vec<(Arc<config::Upstream>, Vec<Arc<str>>)> = Vec::new();
    for route in &config.routes {
        match grouped.iter_mut().find(|(upstream, _)| *upstream == route.upstream) {
            Some((_, routes)) => routes.push(route.name.clone()),
            None => grouped.push((route.upstream.clone(), vec![route.name.clone()])),
        }
    }
    grouped
}

fn upstream_views(config: &Config) -> Vec<UpstreamView> {
    by_upstream(config)
        .into_iter()
        .map(|(upstream, routes)| UpstreamView {
            routes: routes.iter().map(ToString::to_string).collect(),
            concurrency: upstream.max_concurrency,
        })
        .collect()
}

/// The apps, by route.
struct Upstreams {
    by_route: HashMap<Arc<str>, Arc<Upstream>>,
    /// For events whose route is gone.
    default: Option<Arc<Upstream>>,
}

impl Upstreams {
    fn new(config: &Config) -> Result<Upstreams, ServerError> {
        let connect = |upstream: &config::Upstream| {
            Upstream::new(UpstreamSettings {
                destination: upstream.destination.clone(),
                host: upstream.host.clone(),
                connect_timeout: upstream.connect_timeout,
                timeout: upstream.timeout,
                max_concurrency: upstream.max_concurrency,
            })
            .map(Arc::new)
        };
        let mut by_route = HashMap::new();
        let mut default = None;
        for (settings, routes) in by_upstream(config) {
            let upstream = connect(&settings)?;
            if config.default_upstream.as_ref() == Some(&settings) {
                default = Some(upstream.clone());
            }
            by_route.extend(routes.into_iter().map(|route| (route, upstream.clone())));
        }
        if let (None, Some(settings)) = (&default, &config.default_upstream) {
            default = Some(connect(settings)?);
        }
        Ok(Upstreams { by_route, default })
    }

    /// A lane for every route, and for every route that has left events behind.
    fn start_lanes(&self, forwarder: &Arc<Forwarder>, recovery: &Recovery, stop: &watch::Receiver<bool>) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for (route, upstream) in &self.by_route {
            lanes.push(forwarder.start_lane(route.clone(), upstream.clone(), stop.clone()));
        }
        for route in recovery.routes.iter().filter(|route| !self.by_route.contains_key(*route)) {
            match &self.default {
                Some(upstream) => {
                    tracing::warn!(%route, "events of a route that is gone go to the top-level upstream");
                    lanes.push(forwarder.start_lane(route.clone(), upstream.clone(), stop.clone()));
                }
                None => tracing::warn!(
                    %route,
                    "events of a route that is gone are held: add the route or a top-level upstream"
                ),
            }
        }
        lanes
    }
}

/// Makes the data directory if need be, takes its lock, and finds out what it outlives.
async fn take_data_dir(config: &Config) -> Result<(InstanceLock, durability::Found), ServerError> {
    let dir = &config.data_dir;
    let failed = |error| ServerError::DataDir { path: dir.display().to_string(), error };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let found = durability::find(dir).map_err(failed)?;
    if found.level < config.buffer.require {
        return Err(ServerError::Durability {
            path: dir.display().to_string(),
            found: found.level.name(),
            evidence: found.evidence,
            wanted: config.buffer.require.name(),
        });
    }
    let wait = async {
        let mut told = false;
        loop {
            if let Some(lock) = InstanceLock::try_take(dir)? {
                return io::Result::Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(data_dir = %dir.display(), "another instance holds the data directory; waiting up to 30 s");
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    };
    match timeout(LOCK_WITHIN, wait).await {
        Ok(lock) => Ok((lock.map_err(failed)?, found)),
        Err(_) => Err(ServerError::Locked { path: dir.display().to_string() }),
    }
}

async fn open_buffer(config: &Config) -> Result<(SqliteBuffer, Recovery), ServerError> {
    let longest = config.routes.iter().filter_map(|route| route.dedupe.as_ref()).map(|dedupe| dedupe.window).max();
    let settings = Settings {
        max_bytes: config.buffer.max_bytes,
        dedupe_entries: config.buffer.dedupe_entries,
        tombstone_keep: longest.unwrap_or(Duration::ZERO),
        dead_letter_keep: config.delivery.dead_letter_keep,
        delivered_keep: config.delivery.delivered_keep,
    };
    let dir = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || SqliteBuffer::open(&dir, settings)).await;
    Ok(opened.map_err(|_| ServerError::Internal("opening the buffer panicked".to_owned()))??)
}

/// The admin socket, for this user alone. A socket file that an earlier run has left is replaced:
/// the lock says that nobody serves it.
fn bind_admin_socket(data_dir: &Path) -> Result<UnixListener, ServerError> {
    let path = data_dir.join(ADMIN_SOCKET);
    let _ = std::fs::remove_file(&path);
    sockets::bind_private(&path)
}

/// The public listeners that are served, in the order of the configuration.
#[derive(Default)]
struct Public {
    listen: Vec<ListenAddress>,
    tls: Vec<Option<Arc<Keeper>>>,
    socket_files: Vec<SocketFile>,
}

impl Public {
    fn serve(
        &mut self,
        socket: PublicSocket,
        side: &Arc<PublicSide>,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), ServerError> {
        let PublicSocket { bound, address, settings, file } = socket;
        let name = settings.address.to_string();
        if settings.tls.as_ref().is_some_and(|tls| tls.not_after_unix_s() < side.clock.unix_ms() / 1000) {
            tracing::warn!(listener = name, "the TLS certificate has expired; clients will refuse it: renew it");
        }
        let tls = settings.tls.map(|identity| Keeper::new(&identity, side.metrics.tls_not_after_s(&name)));
        let tls = tls.map(Arc::new);
        let is_unix = matches!(bound, Bound::Unix(_));
        let failures = side.metrics.tls_handshake_failures.clone();
        let listener = Listener::new(name, is_unix, settings.proxy_protocol, tls.clone(), failures, side.clock.clone());
        serve("public", bound, PublicApp { side: side.clone(), listener }, stop.clone())?;
        self.listen.push(address);
        self.tls.push(tls);
        self.socket_files.extend(file);
        Ok(())
    }
}

/// Serves a socket until it is told to stop.
fn serve<A>(name: &str, bound: Bound, app: A, stop: watch::Receiver<bool>) -> Result<(), ServerError>
where
    A: ServerApp + Send + Sync + 'static,
{
    match bound {
        Bound::Tcp(listener) => serve_tcp(name, listener, app, stop),
        Bound::Unix(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener)
                .map_err(|error| ServerError::Internal(format!("a unix socket cannot be served: {error}")))?;
            tokio::spawn(serve_unix(listener, Arc::new(app), stop));
            Ok(())
        }
    }
}

/// Lets pingora accept on a socket that we have bound: its own binding would retry for 30 s and then
/// panic, and could not tell the port.
fn serve_tcp<A>(name: &str, listener: TcpListener, app: A, stop: watch::Receiver<bool>) -> Result<(), ServerError>
where
    A: ServerApp + Send + Sync + 'static,
{
    let key = local_addr(&listener)?.to_string();
    let config = ListenerConfig::tcp(key.clone()).l4_buffer(L4BufferSettings::new(0, CONNECTION_READ_BUFFER_BYTES));
    let mut fds = Fds::new();
    fds.add(key, listener.into_raw_fd());
    let fds = Arc::new(Mutex::new(fds));
    let mut service = Service::new(name.to_owned(), app);
    service.add_listener(config);
    tokio::spawn(async move { service.start_service(Some(fds), stop, 1).await });
    Ok(())
}

/// Accepts on a unix socket. Not by pingora, which sets the mode of the file anew: a socket that
/// systemd has passed belongs to root, and the failure would be a panic.
async fn serve_unix<A>(listener: tokio::net::UnixListener, app: Arc<A>, mut stop: watch::Receiver<bool>)
where
    A: ServerApp + Send + Sync + 'static,
{
    let shutdown = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (app, shutdown) = (app.clone(), shutdown.clone());
                tokio::spawn(async move { app.process_new(Box::new(Socket::from(stream)), &shutdown).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn log_start(
    config: &Config,
    listen: &[ListenAddress],
    admin: SocketAddr,
    durability: &durability::Found,
    recovery: &Recovery,
    took_ms: i64,
) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        %admin,
        data_dir = %config.data_dir.display(),
        durability = durability.level.name(),
        evidence = %durability.evidence,
        pending = recovery.pending,
        dead = recovery.dead,
        unclean_stop = recovery.unclean,
        took_ms,
        "ready"
    );
    if durability.level < Durability::Volume {
        tracing::warn!(
            durability = durability.level.name(),
            "events answered 200 are lost with the {}; mount a volume for more",
            durability.level.name()
        );
    }
    if config.routes.iter().any(|route| matches!(route.allowlist, crate::gate::allowlist::Allowlist::Off)) {
        tracing::warn!("the IP allowlist is off; only the signature decides");
    }
}
