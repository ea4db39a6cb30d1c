//! Clients whose signatures keep failing. Each failure costs about as much as everything else of a request together,
//! but a genuine sender may have the same address, behind one NAT or one load balancer: so the client is not turned
//! away. Its further signatures are checked in turn, in a share of the time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::check_share::{CheckShare, Turn};
use super::client_key::ClientKey;
use super::peer::ClientAddr;
use crate::rejection::Rejection;

/// Clients that are remembered at most; about 500 KB. Beyond it some are forgotten early.
const CLIENTS_MAX: usize = 10_000;
/// Failures that may come at once: those of one second.
const BURST_US: i64 = 1_000_000;
/// Time between two sweeps for clients whose failures are forgiven.
const SWEEP_EVERY_US: i64 = 1_000_000;

/// Failed signatures by client, as a rate: the generic cell rate algorithm, one number a client.
#[derive(Debug)]
pub struct Forgers {
    clients: Mutex<Clients>,
    /// Whether any is remembered; honest times need no lock.
    any: AtomicBool,
    share: CheckShare,
}

#[derive(Debug, Default)]
struct Clients {
    /// Until when the failures so far are paid for, microseconds of the caller's clock.
    paid_until_us: HashMap<ClientKey, i64>,
    swept_at_us: i64,
}

/// How many signatures of one client may fail per second before it keeps failing; `None` is any number.
pub type FailuresPerS = Option<NonZeroU32>;

impl Forgers {
    /// Nobody has failed. The share is one of the time of so many workers.
    pub fn new(workers: usize) -> Forgers {
        Forgers { clients: Mutex::default(), any: AtomicBool::new(false), share: CheckShare::new(workers) }
    }

    /// The turn that a client has to wait for before its signature is checked; `None` for one that does not keep
    /// failing.
    ///
    /// # Errors
    /// See [`CheckShare::turn`].
    pub fn turn(&self, client: Option<ClientAddr>, rate: FailuresPerS, now_us: i64) -> Result<Option<Turn>, Rejection> {
        if self.keeps_failing(client, rate, now_us) { self.share.turn(now_us).map(Some) } else { Ok(None) }
    }

    /// Says what the check of a turn has taken.
    pub fn settle(&self, turn: Turn, took_us: i64) {
        self.share.settle(turn, took_us);
    }

    fn keeps_failing(&self, client: Option<ClientAddr>, rate: FailuresPerS, now_us: i64) -> bool {
        let Some(rate) = rate.filter(|_| self.any.load(Ordering::Relaxed)) else { return false };
        let paid_until_us = self.clients.lock().paid_until_us.get(&key(client)).copied();
        paid_until_us.is_some_and(|paid_until_us| paid_until_us + cost_us(rate) > now_us + BURST_US)
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
        // However many have failed, it is forgiven a second after the last.
        *paid_until_us = ((*paid_until_us).max(now_us) + cost_us(rate)).min(now_us + 2 * BURST_US);
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

/// Clients without an address are one.
fn key(client: Option<ClientAddr>) -> ClientKey {
    client.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), ClientAddr::ip).into()
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
    fn a_client_may_fail_so_often_per_second_before_its_checks_come_in_turn_and_the_others_are_not_touched() {
        let forgers = Forgers::new(1);
        let rate = NonZeroU32::new(10);
        let (bad, good) = (client("198.51.100.7"), client("198.51.100.8"));
        for n in 0..10 {
            assert!(!forgers.keeps_failing(bad, rate, 0), "{n}");
            forgers.note(bad, rate, 0);
        }
        assert!(forgers.keeps_failing(bad, rate, 0));
        assert!(!forgers.keeps_failing(good, rate, 0));
        assert!(forgers.keeps_failing(bad, rate, 99_999));
        assert!(!forgers.keeps_failing(bad, rate, 100_000), "one is forgiven after a tenth of a second");
        forgers.note(bad, rate, 100_000);
        assert!(forgers.keeps_failing(bad, rate, 100_001));
        assert!(!forgers.keeps_failing(bad, rate, 1_200_000));
        assert!(!forgers.keeps_failing(bad, None, 100_001), "off");
    }

    #[test]
    fn thousands_of_failures_are_forgiven_within_two_seconds() {
        let forgers = Forgers::new(1);
        let (rate, bad) = (NonZeroU32::new(50), client("198.51.100.7"));
        for n in 0..10_000 {
            forgers.note(bad, rate, n * 500);
        }
        assert!(forgers.keeps_failing(bad, rate, 5_000_000));
        assert!(!forgers.keeps_failing(bad, rate, 7_000_000));
    }

    #[test]
    fn who_keeps_failing_is_given_turns_and_a_wait_once_their_time_is_used_up() {
        let forgers = Forgers::new(1);
        let (rate, bad) = (NonZeroU32::new(1), client("198.51.100.7"));
        assert_eq!(forgers.turn(bad, rate, 0), Ok(None));
        forgers.note(bad, rate, 0);
        let first = forgers.turn(bad, rate, 0).unwrap().unwrap();
        assert!(first.wait.is_zero());
        forgers.settle(first, 200_000);
        assert!(!forgers.turn(bad, rate, 0).unwrap().unwrap().wait.is_zero());
    }

    #[test]
    fn a_client_of_ipv6_is_its_64_bits() {
        let forgers = Forgers::new(1);
        let rate = NonZeroU32::new(1);
        forgers.note(client("2001:db8::1"), rate, 0);
        assert!(forgers.keeps_failing(client("2001:db8::2"), rate, 0));
        assert!(!forgers.keeps_failing(client("2001:db8:0:1::1"), rate, 0));
    }

    #[test]
    fn however_many_clients_fail_the_memory_is_bounded() {
        let forgers = Forgers::new(1);
        let rate = NonZeroU32::new(1);
        for n in 0..25_000u32 {
            forgers.note(client(&Ipv4Addr::from(n).to_string()), rate, i64::from(n));
        }
        assert_eq!(forgers.clients.lock().paid_until_us.len(), CLIENTS_MAX);
        forgers.note(client("9.9.9.9"), rate, 10_000_000);
        assert_eq!(forgers.clients.lock().paid_until_us.len(), 1, "those of long ago are forgotten");
    }
}
