//! The addresses of a destination: which of them gets the next exchange. Pure.
//!
//! The one with the least in flight, so that a slow replica gets less; among equals one with an idle
//! connection, so that there are as many connections as exchanges at a time.

use tokio::time::Instant;

use super::endpoint::{Endpoint, Idle};
use super::network::Address;

/// Most addresses of a name that are used. Of more, a resolver gives others next time.
pub(super) const ADDRESSES_MAX: usize = 64;

/// The addresses of one destination, with their idle connections.
pub(super) struct Endpoints<C> {
    all: Vec<Endpoint<C>>,
    /// The place in the list from which on equals are taken; moves with each new connection.
    turn: usize,
}

impl<C> Endpoints<C> {
    pub(super) fn new(addresses: impl IntoIterator<Item = Address>) -> Endpoints<C> {
        let mut endpoints = Endpoints { all: Vec::new(), turn: 0 };
        endpoints.list(addresses);
        endpoints
    }

    /// The destination has these addresses from now on. Returns the connections to others, to be closed:
    /// the app has moved.
    pub(super) fn list(&mut self, addresses: impl IntoIterator<Item = Address>) -> Vec<Idle<C>> {
        self.all.iter_mut().for_each(|endpoint| endpoint.is_listed = false);
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            match self.find(address) {
                Some(endpoint) => endpoint.is_listed = true,
                None => self.all.push(Endpoint::new(address)),
            }
        }
        let gone = self.all.iter_mut().filter(|endpoint| !endpoint.is_listed);
        let closed = gone.flat_map(|endpoint| endpoint.idle.drain(..)).collect();
        // Exchanges are still counted at the others.
        self.all.retain(|endpoint| endpoint.is_listed || endpoint.in_flight > 0);
        closed
    }

    pub(super) fn listed(&self) -> impl Iterator<Item = &Endpoint<C>> {
        self.all.iter().filter(|endpoint| endpoint.is_listed)
    }

    pub(super) fn find(&mut self, address: Address) -> Option<&mut Endpoint<C>> {
        self.all.iter_mut().find(|endpoint| endpoint.address == address)
    }

    /// An exchange with this address begins.
    pub(super) fn begin(&mut self, address: Address) {
        if let Some(endpoint) = self.find(address) {
            endpoint.in_flight += 1;
        }
    }

    /// An exchange with this address has ended.
    pub(super) fn end(&mut self, address: Address) {
        let Some(endpoint) = self.find(address) else { return };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        if !endpoint.is_listed && endpoint.in_flight == 0 {
            self.all.retain(|endpoint| endpoint.address != address);
        }
    }

    /// Drops the idle connections that are of no use any more; true if others are left.
    pub(super) fn keep_idle(&mut self, mut is_usable: impl FnMut(&mut Idle<C>) -> bool) -> bool {
        self.all.iter_mut().for_each(|endpoint| endpoint.idle.retain_mut(&mut is_usable));
        self.all.iter().any(|endpoint| !endpoint.idle.is_empty())
    }

    /// The last used connection of the address that gets the next exchange, which is in flight from now
    /// on. `None` if there is none: that address is to be connected to.
    pub(super) fn take_idle(&mut self, now: Instant) -> Option<(Idle<C>, Address)> {
        let next = match &self.all[..] {
            [one] if one.is_listed => 0,
            _ => self.next(now)?,
        };
        let endpoint = &mut self.all[next];
        let idle = endpoint.idle.pop_back()?;
        endpoint.in_flight += 1;
        Some((idle, endpoint.address))
    }

    fn next(&self, now: Instant) -> Option<usize> {
        let listed = self.all.iter().enumerate().filter(|(_, endpoint)| endpoint.is_listed);
        let next =
            listed.min_by_key(|(_, endpoint)| (endpoint.is_aside(now), endpoint.in_flight, endpoint.idle.is_empty()));
        next.map(|(index, _)| index)
    }

    /// The addresses to connect to, one after the other, until one is reached: the least busy first,
    /// those set aside last, families in turns (RFC 8305 §4).
    pub(super) fn candidates(&mut self, now: Instant) -> Vec<Address> {
        let mut listed: Vec<&Endpoint<C>> = self.listed().collect();
        if listed.is_empty() {
            return Vec::new();
        }
        let turn = self.turn % listed.len();
        listed.rotate_left(turn);
        listed.sort_by_key(|endpoint| (endpoint.is_aside(now), endpoint.in_flight));
        let usable = listed.partition_point(|endpoint| !endpoint.is_aside(now));
        let (usable, aside) = listed.split_at(usable);
        let candidates = in_turns(usable).chain(in_turns(aside)).collect();
        self.turn = self.turn.wrapping_add(1);
        candidates
    }
}

/// The addresses of either family in turns, beginning with that of the first.
fn in_turns<C>(endpoints: &[&Endpoint<C>]) -> impl Iterator<Item = Address> {
    let is_v6 = |address: &Address| address.is_some_and(|address| address.is_ipv6());
    let addresses = endpoints.iter().map(|endpoint| endpoint.address);
    let first = endpoints.first().is_some_and(|endpoint| is_v6(&endpoint.address));
    let (same, other): (Vec<Address>, Vec<Address>) = addresses.partition(|address| is_v6(address) == first);
    let longer = same.len().max(other.len());
    let at = |list: &[Address], index: usize| list.get(index).copied();
    (0..longer).flat_map(move |index| [at(&same, index), at(&other, index)]).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::lifetime::{Life, Lifetime};
    use super::*;

    fn v4(n: u8) -> Address {
        Some(SocketAddr::from(([10, 0, 0, n], 80)))
    }

    fn v6(n: u16) -> Address {
        Some(SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, n], 80)))
    }

    fn idle(now: Instant) -> Idle<()> {
        let life = Life::new(Lifetime::DEFAULT, 0.0, now);
        Idle { connection: (), life, until: now + Duration::from_secs(4) }
    }

    fn taken(endpoints: &mut Endpoints<()>, now: Instant) -> Option<Address> {
        endpoints.take_idle(now).map(|(_, address)| address)
    }

    #[test]
    fn the_address_with_the_least_in_flight_is_next_and_among_equals_one_with_an_idle_connection() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new([v4(1), v4(2), v4(3)]);
        endpoints.find(v4(2)).unwrap().idle.push_back(idle(now));
        endpoints.find(v4(3)).unwrap().idle.extend([idle(now), idle(now)]);
        endpoints.begin(v4(1));
        assert_eq!(taken(&mut endpoints, now), Some(v4(2)));
        assert_eq!(taken(&mut endpoints, now), Some(v4(3)));
        assert_eq!(taken(&mut endpoints, now), Some(v4(3)), "all have one in flight");
        assert_eq!(taken(&mut endpoints, now), None);
        assert_eq!(endpoints.candidates(now)[2], v4(3), "it has two");
    }

    #[test]
    fn what_is_set_aside_is_next_only_where_all_are() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new([v4(1), v4(2)]);
        let one = endpoints.find(v4(1)).unwrap();
        one.idle.push_back(idle(now));
        one.failed(now);
        endpoints.begin(v4(2));
        assert_eq!(taken(&mut endpoints, now), None, "the other one is to be connected to");
        assert_eq!(endpoints.candidates(now), [v4(2), v4(1)]);
        endpoints.find(v4(2)).unwrap().failed(now);
        assert_eq!(taken(&mut endpoints, now), Some(v4(1)));
    }

    #[test]
    fn new_connections_go_round_and_families_take_turns_beginning_as_the_resolver_says() {
        let now = Instant::now();
        let mut endpoints = Endpoints::<()>::new([v6(1), v6(2), v6(3), v4(1)]);
        assert_eq!(endpoints.candidates(now), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(endpoints.candidates(now), [v6(2), v4(1), v6(3), v6(1)]);
        endpoints.find(v4(1)).unwrap().failed(now);
        assert_eq!(endpoints.candidates(now), [v6(3), v6(1), v6(2), v4(1)], "set aside");
    }

    #[test]
    fn an_address_that_is_no_longer_listed_gets_nothing_and_is_forgotten_with_its_last_exchange() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new([v4(1), v4(2)]);
        endpoints.begin(v4(1));
        endpoints.find(v4(1)).unwrap().idle.push_back(idle(now));
        assert_eq!(endpoints.list([v4(2)]).len(), 1, "to be closed");
        assert_eq!(endpoints.candidates(now), [v4(2)]);
        assert!(endpoints.find(v4(1)).is_some());
        endpoints.end(v4(1));
        assert!(endpoints.find(v4(1)).is_none());
    }

    #[test]
    fn no_more_addresses_are_used_than_the_bound() {
        let many = (0..=u8::MAX).map(v4);
        assert_eq!(Endpoints::<()>::new(many).candidates(Instant::now()).len(), ADDRESSES_MAX);
    }
}
