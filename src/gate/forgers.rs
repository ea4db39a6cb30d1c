//! What one client may spend of our time with signatures that do not verify: each costs about as
//! much as everything else of a request together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::peer::ClientAddr;
use crate::rejection::Rejection;

/// Clients that are remembered at most; about 500 KB. Beyond it some are forgotten early.
const CLIENTS_MAX: usize = 10_000;
/// Failures that may come at once: those of one second.
const BURST_US: i64 = 1_000_000;
/// Time between two sweeps for clients whose failures are forgiven.
const SWEEP_EVERY_US: i64 = 1_000_000;

/// Failed signatures by client, as a rate: the generic cell rate algorithm, one number a client.
#[derive(Debug, Default)]
pub struct Forgers {
    clients: Mutex<Clients>,
    /// Whether any is remembered; honest times need no lock.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Clients {
    /// Until when the failures so far are paid for, microseconds of the caller's clock.
    paid_until_us: HashMap<IpAddr, i64>,
    swept_at_us: i64,
}

/// How many signatures of one client may fail per second; `None` is any number.
pub type FailuresPerS = Option<NonZeroU32>;

impl Forgers {
    /// Whether another signature of this client is looked at.
    ///
    /// # Errors
    /// [`Rejection::TooManyFailures`].
    pub fn admit(&self, client: Option<ClientAddr>, rate: FailuresPerS, now_us: i64) -> Result<(), Rejection> {
        let Some(rate) = rate.filter(|_| self.any.load(Ordering::Relaxed)) else { return Ok(()) };
        match self.clients.lock().paid_until_us.get(&key(client)) {
            Some(paid_until_us) if paid_until_us + cost_us(rate) > now_us + BURST_US => Err(Rejection::TooManyFailures),
            _ => Ok(()),
        }
    }

    /// Notes a signature that failed.
    pub fn note(&self, client: Option<ClientAddr>, rate: FailuresPerS, now_us: i64) {
        let Some(rate) = rate else { return };
        let mut clients = self.clients.lock();
        let key = key(client);
        if clients.paid_until_us.len() >= CLIENTS_MAX && !clients.paid_until_us.contains_key(&key) {
            clients.make_room(now_us);
        }
        let paid_until_us = clients.paid_until_us.entry(key).or_insert(now_us);
        *paid_until_us = (*paid_until_us).max(now_us) + cost_us(rate);
        self.any.store(true, Ordering::Relaxed);
    }
}

impl Clients {
    fn make_room(&mut self, now_us: i64) {
        if now_us - self.swept_at_us >= SWEEP_EVERY_US {
            self.swept_at_us = now_us;
            self.paid_until_us.retain(|_, paid_until_us| *paid_until_us > now_us);
        }
        if self.paid_until_us.len() >= CLIENTS_MAX
            && let Some(any) = self.paid_until_us.keys().next().copied()
        {
            self.paid_until_us.remove(&any);
        }
    }
}

/// How long a failure takes to be forgiven.
fn cost_us(rate: NonZeroU32) -> i64 {
    1_000_000 / i64::from(rate.get())
}

/// One IPv6 customer has at least a /64. Clients without an address are one.
fn key(client: Option<ClientAddr>) -> IpAddr {
    match client.map(ClientAddr::ip) {
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Some(ip) => ip,
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::peer::{Peer, TrustedProxies};
    use http::HeaderMap;

    fn client(ip: &str) -> Option<ClientAddr> {
        TrustedProxies::default().client_addr(Peer::Ip(ip.parse().unwrap()), &HeaderMap::new()).ok()
    }

    #[test]
    fn a_client_may_fail_so_often_per_second_and_the_others_are_not_touched() {
        let forgers = Forgers::default();
        let rate = NonZeroU32::new(10);
        let (bad, good) = (client("198.51.100.7"), client("198.51.100.8"));
        for n in 0..10 {
            assert_eq!(forgers.admit(bad, rate, 0), Ok(()), "{n}");
            forgers.note(bad, rate, 0);
        }
        assert_eq!(forgers.admit(bad, rate, 0), Err(Rejection::TooManyFailures));
        assert_eq!(forgers.admit(good, rate, 0), Ok(()));
        assert_eq!(forgers.admit(bad, rate, 99_999), Err(Rejection::TooManyFailures));
        assert_eq!(forgers.admit(bad, rate, 100_000), Ok(()), "one is forgiven after a tenth of a second");
        forgers.note(bad, rate, 100_000);
        assert_eq!(forgers.admit(bad, rate, 100_001), Err(Rejection::TooManyFailures));
        assert_eq!(forgers.admit(bad, rate, 1_200_000), Ok(()));
        assert_eq!(forgers.admit(bad, None, 100_001), Ok(()), "off");
    }

    #[test]
    fn a_client_of_ipv6_is_its_64_bits() {
        let forgers = Forgers::default();
        let rate = NonZeroU32::new(1);
        forgers.note(client("2001:db8::1"), rate, 0);
        assert_eq!(forgers.admit(client("2001:db8::2"), rate, 0), Err(Rejection::TooManyFailures));
        assert_eq!(forgers.admit(client("2001:db8:0:1::1"), rate, 0), Ok(()));
    }

    #[test]
    fn however_many_clients_fail_the_memory_is_bounded() {
        let forgers = Forgers::default();
        let rate = NonZeroU32::new(1);
        for n in 0..25_000u32 {
            forgers.note(client(&Ipv4Addr::from(n).to_string()), rate, i64::from(n));
        }
        assert_eq!(forgers.clients.lock().paid_until_us.len(), CLIENTS_MAX);
        forgers.note(client("9.9.9.9"), rate, 10_000_000);
        assert_eq!(forgers.clients.lock().paid_until_us.len(), 1, "those of long ago are forgotten");
    }
}
