//! Wiring only: which parts there are, and the order in which they start and stop.
//!
//! Start: admin listener (alive, not ready), lock, buffer, forwarder, public listeners, ready.
//! Stop: not ready, `shutdown.delay`, no more connections, requests in flight end, deliveries go on
//! for at most `shutdown.drain`, the buffer is closed. Nothing depends on the stop being reached.

mod live;
mod reload;
mod storage;
mod upstreams;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::Fds;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::buffer::committer::Health;
use crate::buffer::durability::Durability;
use crate::buffer::event::State;
use crate::buffer::sqlite::OpenError;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::forward::client::ClientError;
use crate::gate::allowlist::Allowlist;
use crate::http::admin::{Access, AdminApp, AdminState, BufferView, ConfigurationView, Readiness};
use crate::http::body_memory::BodyMemory;
use crate::http::connection::PublicApp;
use crate::http::open_connections::OpenConnections;
use crate::metrics::Metrics;
use live::Assembly;
pub use reload::{ReloadError, Reloader};
use storage::Storage;
use upstreams::Upstreams;

/// The admin socket within the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// Read buffer of a connection; an idle one costs 31 KB with it, 40 with pingora's default.
const CONNECTION_READ_BUFFER_BYTES: usize = 1460;

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
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
    shutdown: config::Shutdown,
    admin_state: Arc<AdminState>,
    admin_stop: watch::Sender<bool>,
    public_stop: watch::Sender<bool>,
    open: Arc<OpenConnections>,
    draining: Arc<AtomicBool>,
    storage: Option<Arc<Storage>>,
    reloader: Arc<Reloader>,
}

impl Server {
    /// Binds the admin side, opens the buffer, binds the public side.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Server, ServerError> {
        pingora_rustls::install_default_crypto_provider();
        let metrics = Arc::new(new_metrics(&config)?);
        count_panics(&metrics);
        metrics.capacity_bytes.set(i64::try_from(config.buffer.max_bytes).unwrap_or(i64::MAX));
        metrics.last_reload_success_s.set(clock.unix_ms() / 1000);
        let upstreams = Upstreams::of(&config, &Upstreams::default())?;
        let admin_state = Arc::new(AdminState {
            readiness: watch::Sender::new(Readiness::Starting),
            buffer: std::sync::OnceLock::new(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            upstreams: ArcSwap::from_pointee(upstreams.views(&config)),
            configuration: ArcSwap::from_pointee(ConfigurationView {
                read_unix_ms: clock.unix_ms(),
                ..ConfigurationView::default()
            }),
        });
        let (admin_stop, admin_stopped) = watch::channel(false);
        let admin_listener = bind(config.admin.address)?;
        let admin = local_addr(&admin_listener)?;
        let access = match &config.admin.token {
            Some(token) => Access::Token(token.0.clone()),
            None => Access::Closed,
        };
        let admin_app = AdminApp { state: admin_state.clone(), access };
        serve("admin", vec![admin_listener.into()], admin_app, admin_stopped.clone());

        let storage = match config.routes.iter().any(|route| route.ack().is_some()) {
            true => Some(Arc::new(Storage::open(&config, &clock, &metrics).await?)),
            false => None,
        };
        if let Some(storage) = &storage {
            let capacity_bytes = config.buffer.max_bytes;
            let durability = storage.durability.level.name();
            let committer = storage.committer.clone();
            let _ = admin_state.buffer.set(BufferView {
                committer,
                durability,
                capacity_bytes,
                run_base: storage.recovery.run_base,
            });
            storage.deliver(&config, &upstreams);
        }
        if let Some(socket) = admin_socket(&config, storage.is_some())? {
            let socket_app = AdminApp { state: admin_state.clone(), access: Access::Open };
            serve("admin socket", vec![socket], socket_app, admin_stopped);
        }

        let draining = Arc::new(AtomicBool::new(false));
        let assembly = Assembly {
            committer: storage.as_ref().map(|storage| storage.committer.clone()),
            metrics: metrics.clone(),
            clock: clock.clone(),
            forgers: Arc::default(),
            draining: draining.clone(),
        };
        let live = assembly.live(&config, &upstreams).map_err(|error| ServerError::Internal(error.to_string()))?;
        let live = Arc::new(ArcSwap::from_pointee(live));
        let body_memory = Arc::new(BodyMemory::new(config.limits.body_memory_bytes));
        let open = OpenConnections::new(metrics.connections.clone());
        let (public_stop, public_stopped) = watch::channel(false);
        let mut listen = Vec::new();
        let mut listeners = Vec::new();
        for address in &config.listen {
            let listener = bind(*address)?;
            listen.push(local_addr(&listener)?);
            listeners.push(listener.into());
        }
        let app = PublicApp {
            live: live.clone(),
            open: open.clone(),
            body_memory: body_memory.clone(),
            admin: admin_state.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        serve("public", listeners, app, public_stopped);
        admin_state.readiness.send_replace(Readiness::Ready);
        log_start(&config, &listen, admin, storage.as_deref(), clock.uptime_ms());
        let shutdown = config.shutdown.clone();
        let reloader = Arc::new(Reloader {
            assembly,
            live,
            storage: storage.clone(),
            body_memory,
            admin: admin_state.clone(),
            current: Mutex::new((config, upstreams)),
        });
        Ok(Server { listen, admin, shutdown, admin_state, admin_stop, public_stop, open, draining, storage, reloader })
    }

    /// Puts other configurations in force while this one runs.
    pub fn reloader(&self) -> Arc<Reloader> {
        self.reloader.clone()
    }

    /// The public addresses, in the order of the configuration, with real ports.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
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
        let served = tokio::select! {
            () = shutdown => Ok(()),
            failed = buffer_failed(self.storage.as_deref()) => Err(ServerError::BufferFailed(failed)),
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
            self.open.all_ended().await;
            self.draining.store(true, Ordering::Release);
            if let Some(storage) = &self.storage {
                storage.delivered_within(self.shutdown.drain).await;
            }
        };
        let _ = timeout(self.shutdown.drain, draining).await;
        self.draining.store(true, Ordering::Release);
    }

    async fn close(self) {
        if let Some(storage) = &self.storage {
            storage.close().await;
            let pending = storage.committer.stats().borrow().of(State::Pending);
            tracing::info!(pending, "stopped; what is pending is delivered after the next start");
        }
        self.admin_stop.send_replace(true);
    }
}

/// Why the buffer cannot be trusted any more, as soon as that is so.
async fn buffer_failed(storage: Option<&Storage>) -> String {
    let Some(storage) = storage else { return std::future::pending().await };
    let mut health = storage.committer.health();
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
    Metrics::new(&live::labels(config)).map_err(|error| ServerError::Internal(format!("metrics: {error}")))
}

/// A socket that is bound and not yet served.
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

impl From<TcpListener> for Bound {
    fn from(listener: TcpListener) -> Bound {
        Bound::Tcp(listener)
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let failed = |error| ServerError::Bind { address: address.to_string(), error };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|error| ServerError::Internal(format!("a listener has no address: {error}")))
}

/// The admin socket. It is only worth having where there is a data directory anyway; without stored
/// events a read-only file system is no reason not to run.
fn admin_socket(config: &Config, required: bool) -> Result<Option<Bound>, ServerError> {
    let bound = storage::make_data_dir(&config.data_dir)
        .map_err(|error| ServerError::DataDir { path: config.data_dir.display().to_string(), error })
        .and_then(|()| bind_admin_socket(&config.data_dir));
    match bound {
        Err(error) if !required => {
            tracing::warn!(%error, "there is no admin socket, so that `hookward health` needs --admin");
            Ok(None)
        }
        bound => bound.map(Some),
    }
}

/// The admin socket, for this user alone. A socket file that an earlier run has left is replaced:
/// the lock says that nobody serves it.
fn bind_admin_socket(data_dir: &Path) -> Result<Bound, ServerError> {
    let path = data_dir.join(ADMIN_SOCKET);
    let shown = path.display().to_string();
    let failed = |error| ServerError::Bind { address: shown.clone(), error };
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Bound::Unix(listener, shown.clone()))
}

/// Lets pingora accept on sockets that we have bound: its own binding would retry for 30 s and then
/// panic, and could not tell the port.
fn serve<A>(name: &str, listeners: Vec<Bound>, app: A, stop: watch::Receiver<bool>)
where
    A: ServerApp + Send + Sync + 'static,
{
    let mut fds = Fds::new();
    let mut service = Service::new(name.to_owned(), app);
    for listener in listeners {
        let (key, fd, config) = match listener {
            Bound::Tcp(listener) => {
                let key = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
                (key.clone(), listener.into_raw_fd(), ListenerConfig::tcp(key))
            }
            Bound::Unix(listener, path) => {
                // Without this pingora opens the socket to everybody.
                let config = ListenerConfig::uds(path.clone()).permissions(std::fs::Permissions::from_mode(0o600));
                (path, listener.into_raw_fd(), config)
            }
        };
        fds.add(key, fd);
        service.add_listener(config.l4_buffer(L4BufferSettings::new(0, CONNECTION_READ_BUFFER_BYTES)));
    }
    let fds = Arc::new(Mutex::new(fds));
    tokio::spawn(async move { service.start_service(Some(fds), stop, 1).await });
}

fn log_start(config: &Config, listen: &[SocketAddr], admin: SocketAddr, storage: Option<&Storage>, took_ms: i64) {
    let durability = storage.map(|storage| &storage.durability);
    let recovery = storage.map(|storage| &storage.recovery);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        %admin,
        data_dir = %config.data_dir.display(),
        durability = durability.map(|found| found.level.name()),
        evidence = durability.map(|found| &*found.evidence),
        pending = recovery.map(|recovery| recovery.pending),
        dead = recovery.map(|recovery| recovery.dead),
        unclean_stop = recovery.map(|recovery| recovery.unclean),
        took_ms,
        "ready"
    );
    if let Some(found) = durability.filter(|found| found.level < Durability::Volume) {
        tracing::warn!(
            durability = found.level.name(),
            "events answered 200 are lost with the {}; mount a volume for more",
            found.level.name()
        );
    }
    let off = |route: &config::Route| route.checks().is_some_and(|checks| matches!(checks.allowlist, Allowlist::Off));
    if config.routes.iter().any(off) {
        tracing::warn!("the IP allowlist is off; only the signature decides");
    }
}
