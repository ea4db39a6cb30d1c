//! A connection that carries an exchange.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::Idle;
use super::lifetime::Life;
use super::network::{Address, Network};
use super::pool_state::Shared;

/// A connection from a pool.
pub(super) struct Lent<'p, N: Network> {
    pub(super) connection: N::Connection,
    pub(super) loan: Loan<'p, N>,
}

/// The pool's side of a connection in use. Dropped without [`Loan::give_back`], its connection is
/// not used again.
pub(super) struct Loan<'p, N: Network> {
    pool: &'p Arc<Shared<N>>,
    address: Address,
    life: Life,
    /// It has carried an exchange before.
    pub(super) reused: bool,
    is_given_back: bool,
}

impl<'p, N: Network> Loan<'p, N> {
    /// Of a connection to this address, which has an exchange in flight.
    pub(super) fn new(pool: &'p Arc<Shared<N>>, address: Address, life: Life, reused: bool) -> Loan<'p, N> {
        Loan { pool, address, life, reused, is_given_back: false }
    }

    /// Another address than the one that was tried first.
    pub(super) fn move_to(&mut self, address: Address) {
        if address != self.address {
            let mut state = self.pool.state();
            state.endpoints.end(self.address);
            state.endpoints.begin(address);
            self.address = address;
        }
    }

    /// For the next exchange, unless this was the last of its life. `idle_time` is the other side's own.
    pub(super) fn give_back(mut self, connection: N::Connection, idle_time: Option<Duration>) {
        let now = Instant::now();
        if let Some(life) = self.life.after_exchange(now) {
            self.is_given_back = true;
            let until = now + idle_time.unwrap_or(self.pool.idle_time());
            self.pool.keep(Idle { connection, life, until }, self.address);
        }
    }
}

impl<N: Network> Drop for Loan<'_, N> {
    fn drop(&mut self) {
        if !self.is_given_back {
            self.pool.state().endpoints.end(self.address);
        }
    }
}
