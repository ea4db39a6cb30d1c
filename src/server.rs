//! Wiring only: which parts there are, and the order in which they start and stop.
//!
//! Start: admin listener (alive, not ready), lock, buffer, forwarder, public listeners, ready.
//! Stop: not ready, `shutdown.delay`, no more connections, requests in flight end, deliveries go on
//! for at most `shutdown.drain`, the buffer is closed. Nothing depends on the stop being reached.

mod accept;
mod capacity;
mod live;
mod open_files;
mod reload;
mod sockets;
mod storage;
mod upstreams;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::buffer::committer::Health;
use crate::buffer::durability::Durability;
use crate::buffer::event::State;
use crate::buffer::redrive::Redrives;
use crate::buffer::sqlite::OpenError;
use crate::client::ClientError;
use crate::clock::Clock;
use crate::config::{self, Config, ListenAddress};
use crate::gate::allowlist::Allowlist;
use crate::gate::forgers::Forgers;
use crate::gate::hops::Pseudonym;
use crate::http::admin::drain::Drain;
use crate::http::admin::{Access, AdminApp, AdminState, AdminToken, BufferView, ConfigurationView, Readiness};
use crate::http::body_memory::BodyMemory;
use crate::http::closing::Closing;
use crate::http::connection::{PublicApp, PublicSide, REFUSING_MAX};
use crate::http::lingering::Lingering;
use crate::http::listener::Listener;
use crate::http::open_connections::OpenConnections;
use crate::http::request_ids::RequestIds;
use crate::http::tls::Keeper;
use crate::logging;
use crate::metrics::Metrics;
use accept::{Accepting, Backlog, serve};
use capacity::{Capacity, Memory};
use live::Assembly;
pub use reload::{ReloadError, Reloader};
pub use sockets::Passed;
use sockets::{Bound, PublicSocket, SocketFile, bind_tcp, local_addr};
use storage::Storage;
use upstreams::Upstreams;

/// The admin socket within the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// Time for the line of a panic to reach stderr.
const PANIC_LINE_WITHIN: Duration = Duration::from_millis(100);

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
    /// The buffer's thread has ended in a panic.
    #[error("the buffer's thread has panicked; nothing unstored was acknowledged; start again to recover")]
    BufferGone,
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
    socket_files: Vec<SocketFile>,
    admin: SocketAddr,
    shutdown: config::Shutdown,
    admin_state: Arc<AdminState>,
    admin_stop: watch::Sender<bool>,
    accepting: Accepting,
    closing: Arc<Closing>,
    open: Arc<OpenConnections>,
    storage: Option<Arc<Storage>>,
    reloader: Arc<Reloader>,
}

impl Server {
    /// Binds the admin side, opens the buffer, binds the public side; `passed` sockets take the
    /// places of the first public listeners.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(mut config: Config, passed: Passed, clock: Arc<dyn Clock>) -> Result<Server, ServerError> {
        // With timers of its own pingora has a thread that wakes up a hundred times a second, for ever.
        pingora_timeout::fast_timeout::set_fast_timeout_to_tokio_threshold(Some(Duration::ZERO));
        pingora_rustls::install_default_crypto_provider();
        let memory = Memory::find();
        capacity::fit(&mut config, &memory, usize::MAX);
        let connections_max = open_files::raise(config.limits.connections);
        let needs = capacity::fit(&mut config, &memory, connections_max);
        let metrics = Arc::new(new_metrics(&config)?);
        count_panics(&metrics);
        metrics.last_reload_success_s.set(clock.unix_ms() / 1000);
        metrics.last_reload_successful.set(1);
        let upstreams = Upstreams::of(&config, &Upstreams::default())?;
        upstreams.look_at_tls(&Upstreams::default());
        let capacity = Capacity { memory, connections_max };
        let limits = capacity.tell(&config, needs, &metrics);
        let admin_state = Arc::new(AdminState {
            limits: ArcSwap::from_pointee(limits),
            readiness: watch::Sender::new(Readiness::Starting),
            buffer: std::sync::OnceLock::new(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            upstreams: ArcSwap::from_pointee(upstreams.views(&config)),
            configuration: ArcSwap::from_pointee(ConfigurationView {
                read_unix_ms: clock.unix_ms(),
                ..ConfigurationView::default()
            }),
            drain: Drain::new(config.shutdown.delay),
            redrives: Redrives::default(),
        });
        let (admin_stop, admin_stopped) = watch::channel(false);
        let admin_listener = bind_tcp(config.admin.address)?;
        let admin = local_addr(&admin_listener)?;
        let admin_token = Arc::new(AdminToken::new(config.admin.token.clone().map(|token| token.0)));
        let admin_app = AdminApp::new(admin_state.clone(), Access::Bearer(admin_token.clone()));
        serve("admin", Bound::Tcp(admin_listener), admin_app, admin_stopped.clone(), Backlog::Left)?;

        let storage = match config.routes.iter().any(|route| route.ack().is_some()) {
            true => Some(Arc::new(Storage::open(&config, &clock, &metrics).await?)),
            false => None,
        };
        if let Some(storage) = &storage {
            let durability = storage.durability.level.name();
            let (committer, forwarder) = (storage.committer.clone(), storage.forwarder.clone());
            let run_base = storage.recovery.run_base;
            let _ = admin_state.buffer.set(BufferView { committer, forwarder, durability, run_base });
            storage.deliver(&config, &upstreams);
        }
        if let Some(socket) = admin_socket(&config, storage.is_some())? {
            let socket_app = AdminApp::new(admin_state.clone(), Access::Open);
            serve("admin socket", socket, socket_app, admin_stopped, Backlog::Left)?;
        }

        let assembly = Assembly {
            committer: storage.as_ref().map(|storage| storage.committer.clone()),
            metrics: metrics.clone(),
            clock: clock.clone(),
            forgers: Arc::new(Forgers::new(config.threads)),
            pseudonym: match &storage {
                Some(storage) => storage.pseudonym(),
                None => Pseudonym::new(fastrand::u64(..)),
            },
            draining: admin_state.drain.refusing(),
        };
        let live = assembly.live(&config, &upstreams).map_err(|error| ServerError::Internal(error.to_string()))?;
        let live = Arc::new(ArcSwap::from_pointee(live));
        let gave_way = metrics.bodies_gave_way.clone();
        let body_memory = Arc::new(BodyMemory::new(live::body_limits(&config), gave_way, clock.clone()));
        let open = OpenConnections::new(&metrics, connections_max, clock.clone());
        let closing = Arc::<Closing>::default();
        let side = Arc::new(PublicSide {
            live: live.clone(),
            open: open.clone(),
            refusing: Semaphore::new(REFUSING_MAX),
            lingering: Lingering::new(metrics.refusals_cut.clone()),
            closing: closing.clone(),
            body_memory: body_memory.clone(),
            admin: admin_state.clone(),
            metrics: metrics.clone(),
            ids: RequestIds::default(),
            clock: clock.clone(),
        });
        let mut public = Public::default();
        for socket in sockets::open(&config.listen, passed)? {
            public.serve(socket, &side)?;
        }
        // Unless somebody has asked it to drain meanwhile.
        admin_state.readiness.send_if_modified(|readiness| {
            let starting = *readiness == Readiness::Starting;
            *readiness = if starting { Readiness::Ready } else { *readiness };
            starting
        });
        log_start(&config, &public.listen, admin, storage.as_deref(), clock.uptime_ms());
        let shutdown = config.shutdown.clone();
        let reloader = Arc::new(Reloader {
            capacity,
            assembly,
            live,
            storage: storage.clone(),
            body_memory,
            admin: admin_state.clone(),
            admin_token,
            tls: public.tls,
            longest_window: storage::longest_window(&config),
            current: Mutex::new((config, upstreams)),
        });
        Ok(Server {
            listen: public.listen,
            socket_files: public.socket_files,
            admin,
            shutdown,
            admin_state,
            admin_stop,
            accepting: public.accepting,
            closing,
            open,
            storage,
            reloader,
        })
    }

    /// Puts other configurations in force while this one runs.
    pub fn reloader(&self) -> Arc<Reloader> {
        self.reloader.clone()
    }

    /// The public addresses, in the order of the configuration, with real ports.
    pub fn listen(&self) -> &[ListenAddress] {
        &self.listen
    }

    /// The admin address, with its real port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Serves until `shutdown` completes, then drains.
    ///
    /// # Errors
    /// [`ServerError::BufferGone`] as soon as nothing can be stored any more.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let served = tokio::select! {
            () = shutdown => Ok(()),
            () = buffer_is_gone(self.storage.as_deref()) => Err(ServerError::BufferGone),
        };
        if served.is_ok() {
            self.drain().await;
        }
        self.close().await;
        served
    }

    /// Not ready at once; then no more connections, what is in flight ends, deliveries go on.
    async fn drain(&mut self) {
        let drain = &self.admin_state.drain;
        drain.leave(&self.admin_state.readiness).await;
        tracing::info!(drain_s = self.shutdown.drain.as_secs(), "stopping: delivering for at most shutdown.drain");
        let draining = async {
            self.closing.stop();
            self.accepting.stop(&self.open).await;
            // Connections end after the request they are in.
            self.open.all_ended().await;
            drain.refuse();
            if let Some(storage) = &self.storage {
                storage.delivered_within(self.shutdown.drain).await;
            }
        };
        let _ = timeout(self.shutdown.drain, draining).await;
        drain.refuse();
    }

    async fn close(self) {
        drop(self.socket_files);
        if let Some(storage) = &self.storage {
            let has_failed = *storage.committer.health().borrow() != Health::Good;
            storage.close().await;
            let pending = storage.committer.stats().borrow().of(State::Pending);
            if has_failed {
                tracing::warn!(pending, "stopped while the buffer had failed: what its files do not hold is gone");
            } else {
                tracing::info!(pending, "stopped; what is pending is delivered after the next start");
            }
        }
        self.admin_stop.send_replace(true);
    }
}

/// Waits for the end of the buffer's thread, which nothing but a panic brings about. After an I/O
/// error it opens the buffer again.
async fn buffer_is_gone(storage: Option<&Storage>) {
    match storage {
        Some(storage) => drop(storage.committer.health().wait_for(|health| *health == Health::Gone).await),
        None => std::future::pending().await,
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
        // Where one panic meets another, the process is aborted next.
        logging::flush(PANIC_LINE_WITHIN);
    }));
}

fn new_metrics(config: &Config) -> Result<Metrics, ServerError> {
    Metrics::new(&live::labels(config)).map_err(|error| ServerError::Internal(format!("metrics: {error}")))
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
    accepting: Accepting,
    listen: Vec<ListenAddress>,
    tls: Vec<Option<Arc<Keeper>>>,
    socket_files: Vec<SocketFile>,
}

impl Public {
    fn serve(&mut self, socket: PublicSocket, side: &Arc<PublicSide>) -> Result<(), ServerError> {
        let PublicSocket { bound, address, settings, file, is_passed } = socket;
        let name = settings.address.to_string();
        if settings.tls.as_ref().is_some_and(|tls| tls.not_after_unix_s() < side.clock.unix_ms() / 1000) {
            tracing::warn!(listener = name, "the TLS certificate has expired; clients will refuse it: renew it");
        }
        let tls = settings.tls.map(|identity| Keeper::new(&identity, side.metrics.tls_not_after_s(&name)));
        let tls = tls.map(Arc::new);
        let is_unix = matches!(bound, Bound::Unix(_));
        let failures = side.metrics.tls_handshake_failures.clone();
        let listener = Listener::new(name, is_unix, settings.proxy_protocol, tls.clone(), failures, side.clock.clone());
        self.accepting.serve(bound, PublicApp { side: side.clone(), listener: Arc::new(listener) }, is_passed)?;
        self.listen.push(address);
        self.tls.push(tls);
        self.socket_files.extend(file);
        Ok(())
    }
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
        bound => Ok(Some(Bound::Unix(bound?))),
    }
}

fn log_start(config: &Config, listen: &[ListenAddress], admin: SocketAddr, storage: Option<&Storage>, took_ms: i64) {
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
