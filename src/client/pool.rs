//! The connections of a client: an idle one, or a new one to one of the destination's addresses.
//!
//! Ours rather than pingora's pool, where every idle connection has a task that watches it. That costs
//! a task and a wake-up for each exchange, and a connection that is taken up again before its task has
//! let go of it is thrown away: some 180 in a second while a backlog drained at 1,600 events/s.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::endpoint::Idle;
use super::error::ExchangeError;
use super::freshness::{Ask, Freshness};
use super::happy_eyeballs;
use super::lent::{Lent, Loan};
use super::lifetime::Life;
use super::network::{Address, LookUpError, Network};
use super::pool_state::{PoolSettings, Shared};
use super::view::Addresses;

/// The connections to one destination.
pub(super) struct Pool<N: Network>(Arc<Shared<N>>);

impl<N: Network> Pool<N> {
    /// To an address, or else to those of the name that the network resolves.
    pub(super) fn new(network: N, fixed: Option<Address>, settings: PoolSettings) -> Pool<N> {
        Pool(Arc::new(Shared::new(network, fixed, settings)))
    }

    pub(super) fn network(&self) -> &N {
        &self.0.network
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses::of(&self.0.state(), Instant::now())
    }

    /// An idle connection, without waiting for a look-up; one that is due begins.
    pub(super) fn idle(&self) -> Option<Lent<'_, N>> {
        let now = Instant::now();
        loop {
            let mut state = self.0.state();
            let taken = state.endpoints.take_idle(now);
            let begins_look_up = state.begin_look_up(now);
            drop(state);
            if begins_look_up {
                self.look_up();
            }
            let (Idle { mut connection, life, until }, address) = taken?;
            let is_usable = now < until && N::is_open(&mut connection);
            let loan = Loan::new(&self.0, address, life, true);
            if is_usable {
                return Some(Lent { connection, loan });
            }
        }
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<Lent<'_, N>, ExchangeError> {
        let until = Instant::now() + self.0.settings.connect_timeout;
        let mut has_looked_up = self.look_up_first(until).await;
        let mut tried: Vec<Address> = Vec::new();
        let mut error = None;
        loop {
            let candidates = self.0.state().candidates();
            let Some(first) = candidates.first() else { return Err(error.unwrap_or_else(|| self.unresolved())) };
            let mut loan = self.loan(*first);
            match error.take() {
                Some(failure) if candidates.iter().all(|address| tried.contains(address)) => return Err(failure),
                _ => {}
            }
            let reached = happy_eyeballs::connect(&self.0.network, &candidates, until).await;
            self.0.note(&reached);
            match reached.connection {
                Ok((connection, address)) => {
                    loan.move_to(address);
                    return Ok(Lent { connection, loan });
                }
                // The app may have moved since its name was looked up.
                Err(failure) => {
                    if std::mem::replace(&mut has_looked_up, true) || !self.look_up_first(until).await {
                        return Err(failure);
                    }
                    (tried, error) = (candidates, Some(failure));
                }
            }
        }
    }

    fn loan(&self, address: Address) -> Loan<'_, N> {
        let life = Life::new(self.0.settings.lifetime, fastrand::f32(), Instant::now());
        Loan::new(&self.0, address, life, false)
    }

    fn unresolved(&self) -> ExchangeError {
        match self.0.state().name.as_ref().and_then(Freshness::failure) {
            Some(LookUpError::NoAnswer) => ExchangeError::Resolver,
            Some(LookUpError::NoSuchName) | None => ExchangeError::Resolve,
        }
    }

    /// Waits for a look-up where the addresses that are known will not do; true if one has ended.
    async fn look_up_first(&self, until: Instant) -> bool {
        let mut looked_up = pin!(self.0.looked_up.notified());
        looked_up.as_mut().enable();
        let Ask::First(most) = self.ask() else { return false };
        let until = most.map_or(until, |most| until.min(Instant::now() + most));
        let has_ended = timeout_at(until, looked_up).await.is_ok();
        if !has_ended && let Some(name) = &mut self.0.state().name {
            name.gave_up_waiting();
        }
        has_ended
    }

    fn ask(&self) -> Ask {
        let now = Instant::now();
        let mut state = self.0.state();
        let is_known = state.endpoints.listed().next().is_some();
        let ask = state.name.as_ref().map_or(Ask::Not, |name| name.ask(is_known, now));
        let begins_look_up = ask != Ask::Not && state.begin_look_up(now);
        drop(state);
        if begins_look_up {
            self.look_up();
        }
        ask
    }

    fn look_up(&self) {
        let shared = self.0.clone();
        tokio::spawn(async move {
            let found = shared.network.look_up().await;
            shared.note_answer(found);
            shared.looked_up.notify_waiters();
        });
    }
}
