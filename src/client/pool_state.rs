//! The state of a pool: addresses and connections, as exchanges and look-ups find and leave them.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::endpoint::{Endpoint, Idle};
use super::endpoints::Endpoints;
use super::freshness::Freshness;
use super::happy_eyeballs::Reached;
use super::lifetime::Lifetime;
use super::network::{Address, LookUpError, Network};

/// Between two looks at what the other side has closed, or what has waited long enough.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Idle connections kept per address, at most; the one that has waited longest gives way.
const IDLE_MAX: usize = 128;

/// Bounds of the connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolSettings {
    /// To look a name up and to connect.
    pub(super) connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub(super) idle: Duration,
    pub(super) lifetime: Lifetime,
}

/// The pool, as its exchanges and its look-ups share it.
pub(super) struct Shared<N: Network> {
    pub(super) network: Arc<N>,
    pub(super) settings: PoolSettings,
    state: Mutex<State<N::Connection>>,
    /// A look-up has ended.
    pub(super) looked_up: Notify,
}

/// The addresses and their connections.
pub(super) struct State<C> {
    pub(super) endpoints: Endpoints<C>,
    /// `None` where the destination is an address or a socket.
    pub(super) name: Option<Freshness>,
    is_swept: bool,
}

impl<C> State<C> {
    /// Begins a look-up if one is due.
    pub(super) fn begin_look_up(&mut self, now: Instant) -> bool {
        match &mut self.name {
            Some(name) if name.is_due(now) => {
                name.begin();
                true
            }
            _ => false,
        }
    }

    /// Addresses to connect to; the first has an exchange in flight from now on.
    pub(super) fn candidates(&mut self) -> Vec<Address> {
        let candidates = self.endpoints.candidates(Instant::now());
        candidates.first().inspect(|first| self.endpoints.begin(**first));
        candidates
    }
}

impl<N: Network> Shared<N> {
    pub(super) fn new(network: N, fixed: Option<Address>, settings: PoolSettings) -> Shared<N> {
        let name = fixed.is_none().then(Freshness::default);
        let state = Mutex::new(State { endpoints: Endpoints::new(fixed), name, is_swept: false });
        Shared { network: Arc::new(network), settings, state, looked_up: Notify::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<N::Connection>> {
        self.state.lock()
    }

    /// The time for which an idle connection is kept if the other side does not say its own.
    pub(super) fn idle_time(&self) -> Duration {
        self.settings.idle
    }

    /// An exchange has ended; the connection is kept for the next one.
    pub(super) fn keep(self: &Arc<Self>, idle: Idle<N::Connection>, address: Address) {
        let mut state = self.state.lock();
        state.endpoints.end(address);
        let Some(endpoint) = state.endpoints.find(address).filter(|endpoint| endpoint.is_listed) else { return };
        endpoint.idle.push_back(idle);
        let surplus = (endpoint.idle.len() > IDLE_MAX).then(|| endpoint.idle.pop_front());
        if !std::mem::replace(&mut state.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        drop(state);
        // Closed without the lock.
        drop(surplus);
    }

    /// Notes the outcome of connecting.
    pub(super) fn note(&self, reached: &Reached<N::Connection>) {
        let now = Instant::now();
        let mut news = Vec::new();
        let mut state = self.state.lock();
        for address in &reached.failed {
            if state.endpoints.find(*address).is_some_and(|endpoint| endpoint.failed(now)) {
                news.push((*address, false));
            }
        }
        if let Some(name) = state.name.as_mut().filter(|_| !reached.failed.is_empty()) {
            name.unreachable(reached.connection.is_err());
        }
        if let Ok((_, address)) = reached.connection
            && state.endpoints.find(address).is_some_and(Endpoint::reached)
        {
            news.push((address, true));
        }
        let is_one_of_several = state.endpoints.listed().nth(1).is_some();
        drop(state);
        news.retain(|_| is_one_of_several);
        for (address, is_back) in news {
            self.log(address, is_back);
        }
    }

    /// Notes the outcome of a look-up.
    pub(super) fn note_answer(&self, found: Result<Vec<SocketAddr>, LookUpError>) {
        let now = Instant::now();
        let mut guard = self.state.lock();
        let State { endpoints, name: Some(name), .. } = &mut *guard else { return };
        let had_failed = name.has_failed();
        let (closed, error) = match found {
            Ok(addresses) => {
                name.answered(now);
                (endpoints.list(addresses.into_iter().map(Some)), None)
            }
            Err(error) if name.failed(error, now) => (endpoints.list([]), Some(error)),
            Err(error) => (Vec::new(), Some(error)),
        };
        drop(guard);
        drop(closed);
        let upstream = self.network.destination();
        match error {
            Some(error) if !had_failed => {
                tracing::warn!(%upstream, %error, "the app's name cannot be looked up: addresses that are known are used");
            }
            None if had_failed => tracing::info!(%upstream, "the app's name can be looked up again"),
            _ => {}
        }
    }

    fn log(&self, address: Address, is_back: bool) {
        let (Some(address), upstream) = (address, self.network.destination()) else { return };
        if is_back {
            tracing::info!(%upstream, %address, "an address of the app can be reached again");
        } else {
            tracing::warn!(%upstream, %address, "an address of the app cannot be reached: the others go first for a while");
        }
    }
}

/// Closes what is of no use any more, until there is none left.
async fn sweep<N: Network>(shared: Weak<Shared<N>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        let now = Instant::now();
        let mut state = shared.state.lock();
        if !state.endpoints.keep_idle(|idle| now < idle.until && N::is_open(&mut idle.connection)) {
            state.is_swept = false;
            return;
        }
    }
}
