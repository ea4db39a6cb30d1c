//! One address of a destination: its idle connections, its exchanges in flight, and the time for which
//! it is set aside. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::lifetime::Life;
use super::network::Address;

/// How long an address that cannot be reached is set aside for at first; twice as long each time, up to
/// the longest.
const ASIDE_FIRST: Duration = Duration::from_secs(5);
const ASIDE_LONGEST: Duration = Duration::from_secs(30);

/// A connection that waits for its next exchange.
pub(super) struct Idle<C> {
    pub(super) connection: C,
    pub(super) life: Life,
    pub(super) until: Instant,
}

/// An address and its connections.
pub(super) struct Endpoint<C> {
    pub(super) address: Address,
    /// It is one of the destination's addresses now.
    pub(super) is_listed: bool,
    pub(super) in_flight: usize,
    /// The last used at the end.
    pub(super) idle: VecDeque<Idle<C>>,
    /// Connects that have failed in a row.
    failures: u32,
    aside_until: Option<Instant>,
}

impl<C> Endpoint<C> {
    pub(super) fn new(address: Address) -> Endpoint<C> {
        let idle = VecDeque::new();
        Endpoint { address, is_listed: true, in_flight: 0, idle, failures: 0, aside_until: None }
    }

    /// The other addresses go first. Once its time is over one exchange at a time tries it.
    pub(super) fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.is_some_and(|until| now < until || self.in_flight > 0)
    }

    /// The rest of the time for which it is set aside.
    pub(super) fn aside_for(&self, now: Instant) -> Option<Duration> {
        self.aside_until.filter(|_| self.is_aside(now)).map(|until| until.saturating_duration_since(now))
    }

    /// Connecting has failed; true if that is news.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let wait = ASIDE_FIRST.saturating_mul(1 << self.failures.min(8)).min(ASIDE_LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.aside_until = Some(now + wait);
        self.failures == 1
    }

    /// Connecting has worked; true if that is news.
    pub(super) fn reached(&mut self) -> bool {
        self.failures = 0;
        self.aside_until.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_is_set_aside_ever_longer_and_tried_by_one_exchange_then() {
        let mut endpoint = Endpoint::<()>::new(None);
        let mut now = Instant::now();
        for (failure, seconds) in [5, 10, 20, 30, 30].into_iter().enumerate() {
            assert_eq!(endpoint.failed(now), failure == 0, "news the first time");
            assert_eq!(endpoint.aside_for(now), Some(Duration::from_secs(seconds)));
            assert!(endpoint.is_aside(now + Duration::from_millis(seconds * 1000 - 1)));
            now += Duration::from_secs(seconds);
            assert!(!endpoint.is_aside(now));
        }
        endpoint.in_flight = 1;
        assert!(endpoint.is_aside(now), "by one at a time");
        assert!(endpoint.reached());
        assert!(!endpoint.is_aside(now) && !endpoint.reached());
        assert!(endpoint.failed(now));
        assert_eq!(endpoint.aside_for(now), Some(ASIDE_FIRST), "from the beginning");
    }
}
