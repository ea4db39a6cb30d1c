//! The addresses of a client's destination, for an operator.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::freshness::Freshness;
use super::network::LookUpError;
use super::pool_state::State;

/// The addresses that a client knows.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// One of them each.
    pub all: Vec<AddressView>,
    /// The reason why the last look-up of the name has brought none, if so.
    pub look_up_failure: Option<LookUpError>,
}

/// One address.
#[derive(Debug, Clone)]
pub struct AddressView {
    /// `None` is a unix socket.
    pub address: Option<SocketAddr>,
    /// Exchanges that are under way.
    pub in_flight: usize,
    /// Connections that wait for one.
    pub idle: usize,
    /// The rest of the time for which the other addresses go first, since this one could not be reached.
    pub set_aside_for: Option<Duration>,
}

impl Addresses {
    pub(super) fn of<C>(state: &State<C>, now: Instant) -> Addresses {
        let all = state.endpoints.listed().map(|endpoint| AddressView {
            address: endpoint.address,
            in_flight: endpoint.in_flight,
            idle: endpoint.idle.len(),
            set_aside_for: endpoint.aside_for(now),
        });
        Addresses { all: all.collect(), look_up_failure: state.name.as_ref().and_then(Freshness::failure) }
    }

    /// The number of those set aside.
    pub fn set_aside(&self) -> usize {
        self.all.iter().filter(|address| address.set_aside_for.is_some()).count()
    }
}
