//! The pool in a simulated network, on tokio's virtual clock: two minutes of 20 exchanges a second with
//! an app of three replicas, and one trouble.
//!
//! `cargo test --lib client::simulation -- --nocapture` prints the numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::destination::Destination;
use super::error::ExchangeError;
use super::lent::Lent;
use super::lifetime::Lifetime;
use super::network::{Address, LookUpError, Network};
use super::pool::Pool;
use super::pool_state::PoolSettings;

const EVERY: Duration = Duration::from_millis(50);
const EVENTS: u32 = 2_400;
/// When the trouble begins.
const TROUBLE_AT: Duration = Duration::from_secs(20);
const ROUND_TRIP: Duration = Duration::from_millis(1);
const HANDLER: Duration = Duration::from_millis(10);
/// As a lane waits after a failed connect, about.
const RETRY_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Replica {
    Well,
    /// Takes so long for each exchange.
    Slow(Duration),
    Refuses,
    /// Nothing comes back from its address.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dns {
    Well,
    Gone,
    /// A look-up of four packets, of which each is lost with this probability and sent again after 5 s.
    Lossy(f64),
}

/// What there is from some time on.
#[derive(Debug, Clone)]
struct Phase {
    replicas: Vec<(SocketAddr, Replica)>,
    listed: usize,
    dns: Dns,
}

struct Simulated {
    destination: Destination,
    begun: Instant,
    before: Phase,
    after: Phase,
    random: Mutex<fastrand::Rng>,
    connects: Mutex<BTreeMap<SocketAddr, u32>>,
    look_ups: Mutex<Vec<Instant>>,
}

impl Simulated {
    fn phase(&self) -> &Phase {
        if self.begun.elapsed() < TROUBLE_AT { &self.before } else { &self.after }
    }

    fn replica(&self, address: SocketAddr) -> Replica {
        let replicas = &self.phase().replicas;
        replicas.iter().find(|(known, _)| *known == address).map_or(Replica::Refuses, |(_, replica)| *replica)
    }
}

impl Network for Simulated {
    type Connection = SocketAddr;

    fn destination(&self) -> &Destination {
        &self.destination
    }

    async fn connect(&self, address: Address, until: Instant) -> Result<SocketAddr, ExchangeError> {
        let address = address.unwrap();
        *self.connects.lock().entry(address).or_default() += 1;
        sleep(ROUND_TRIP).await;
        match self.replica(address) {
            Replica::Well | Replica::Slow(_) => Ok(address),
            Replica::Refuses => Err(ExchangeError::Connect),
            Replica::Dead => {
                sleep_until(until).await;
                Err(ExchangeError::ConnectTimeout)
            }
        }
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, LookUpError> {
        self.look_ups.lock().push(Instant::now());
        sleep(ROUND_TRIP).await;
        let Phase { replicas, listed, dns } = self.phase().clone();
        match dns {
            Dns::Well => {}
            Dns::Gone => {
                sleep(Duration::from_secs(10)).await;
                return Err(LookUpError::NoAnswer);
            }
            Dns::Lossy(share) => {
                let lost = (0..4).filter(|_| self.random.lock().f64() < share).count();
                sleep(Duration::from_secs(5) * u32::try_from(lost).unwrap()).await;
            }
        }
        Ok(replicas[..listed].iter().map(|(address, _)| *address).collect())
    }

    fn is_open(_: &mut SocketAddr) -> bool {
        true
    }
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

fn phase(replicas: [Replica; 3], dns: Dns) -> Phase {
    let replicas = replicas.into_iter().enumerate();
    let replicas = replicas.map(|(n, replica)| (address(u8::try_from(n).unwrap() + 1), replica)).collect();
    Phase { replicas, listed: 3, dns }
}

fn well() -> Phase {
    phase([Replica::Well; 3], Dns::Well)
}

/// What came of a world.
#[derive(Debug)]
struct Seen {
    p50: Duration,
    p99: Duration,
    worst: Duration,
    connects: u32,
    look_ups: usize,
    /// Exchanges by replica, from the trouble on.
    shares: BTreeMap<SocketAddr, u32>,
}

fn pool(before: Phase, after: Phase) -> Arc<Pool<Simulated>> {
    // The lives of connections are drawn from it.
    fastrand::seed(7);
    let network = Simulated {
        destination: Destination::parse("http://app.internal").unwrap(),
        begun: Instant::now(),
        before,
        after,
        random: Mutex::new(fastrand::Rng::with_seed(7)),
        connects: Mutex::default(),
        look_ups: Mutex::default(),
    };
    let second = Duration::from_secs(1);
    let settings = PoolSettings { connect_timeout: second, idle: 4 * second, lifetime: Lifetime::DEFAULT };
    Arc::new(Pool::new(network, None, settings))
}

async fn connection(pool: &Pool<Simulated>) -> Lent<'_, Simulated> {
    loop {
        let lent = match pool.idle() {
            Some(idle) => Ok(idle),
            None => pool.open().await,
        };
        match lent {
            // The other side has closed it: as with a connection that is stale.
            Ok(lent) if matches!(pool.network().replica(lent.connection), Replica::Refuses | Replica::Dead) => {}
            Ok(lent) => return lent,
            Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// How long each event waits for a connection that leads to a replica which answers.
async fn run(name: &str, before: Phase, after: Phase) -> Seen {
    let pool = pool(before, after);
    let mut events = Vec::new();
    for _ in 0..EVENTS {
        let pool = pool.clone();
        events.push(tokio::spawn(async move {
            let came = Instant::now();
            let lent = connection(&pool).await;
            let waited = came.elapsed();
            let (address, connection) = (lent.connection, lent.connection);
            sleep(match pool.network().replica(address) {
                Replica::Slow(time) => time,
                _ => HANDLER,
            })
            .await;
            lent.loan.give_back(connection, None);
            (waited, address)
        }));
        sleep(EVERY).await;
    }
    let (mut waits, mut shares) = (Vec::new(), BTreeMap::new());
    for (n, event) in (0..EVENTS).zip(events) {
        let (waited, address) = event.await.unwrap();
        waits.push(waited);
        if EVERY * n > TROUBLE_AT {
            *shares.entry(address).or_default() += 1;
        }
    }
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)];
    let connects = pool.network().connects.lock().values().sum();
    let look_ups = pool.network().look_ups.lock().len();
    let seen = Seen { p50: at(50), p99: at(99), worst: at(100), connects, look_ups, shares };
    println!("{name}: {seen:?}");
    seen
}

fn assert_nobody_waits(seen: &Seen) {
    assert!(seen.p50 <= ROUND_TRIP && seen.p99 <= Duration::from_millis(260), "{seen:?}");
    assert!(seen.worst <= Duration::from_secs(1), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn three_replicas_get_equal_shares_over_as_many_connections_as_exchanges_at_a_time() {
    let seen = run("well", well(), well()).await;
    assert_nobody_waits(&seen);
    assert!(seen.shares.values().all(|share| (450..900).contains(share)), "{seen:?}");
    // 2,400 exchanges, one at a time: each connection carries about 44.
    assert!((48..75).contains(&seen.connects), "{seen:?}");
    assert!(seen.look_ups <= 24, "one in 5 s: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn one_of_three_replicas_is_dead_refuses_or_is_slow_and_the_others_get_its_exchanges() {
    for (name, trouble) in
        [("dead", Replica::Dead), ("refusing", Replica::Refuses), ("slow", Replica::Slow(Duration::from_secs(2)))]
    {
        let seen = run(name, well(), phase([Replica::Well, trouble, Replica::Well], Dns::Well)).await;
        assert_nobody_waits(&seen);
        let troubled = seen.shares.get(&address(2)).copied().unwrap_or_default();
        assert!(troubled <= 60, "of 2,000: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_resolver_is_gone_or_loses_packets_and_nobody_waits() {
    for (name, dns) in [("gone", Dns::Gone), ("lossy", Dns::Lossy(0.05)), ("very lossy", Dns::Lossy(0.5))] {
        let seen = run(name, well(), phase([Replica::Well; 3], dns)).await;
        assert_nobody_waits(&seen);
        assert_eq!(seen.shares.len(), 3, "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_name_leads_elsewhere_and_the_old_addresses_refuse() {
    let moved = Phase { replicas: vec![(address(9), Replica::Well)], listed: 1, dns: Dns::Well };
    let seen = run("changed", well(), moved).await;
    assert_nobody_waits(&seen);
    assert_eq!(seen.shares.keys().copied().collect::<Vec<_>>(), [address(9)]);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_are_added_get_their_share_within_seconds() {
    let one = Phase { listed: 1, ..well() };
    let seen = run("scaled out", one, well()).await;
    assert_nobody_waits(&seen);
    assert!(seen.shares.values().all(|share| *share >= 400), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_idle_for_long_is_looked_up_first_but_not_waited_for_where_the_resolver_is_gone() {
    let pool = pool(well(), phase([Replica::Well; 3], Dns::Gone));
    drop(connection(&pool).await);
    sleep(Duration::from_secs(600)).await;
    let came = Instant::now();
    drop(connection(&pool).await);
    assert_eq!(came.elapsed(), Duration::from_millis(500) + ROUND_TRIP);
    let came = Instant::now();
    drop(connection(&pool).await);
    assert_eq!(came.elapsed(), ROUND_TRIP, "the resolver is known to fail");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_resolver_never_answered_for_says_so() {
    let gone = phase([Replica::Well; 3], Dns::Gone);
    let pool = pool(gone.clone(), gone);
    assert_eq!(pool.open().await.err(), Some(ExchangeError::Resolver));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_down_is_looked_up_once_a_second_at_most() {
    let down = phase([Replica::Refuses; 3], Dns::Well);
    let pool = pool(down.clone(), down);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(pool.open().await.err(), Some(ExchangeError::Connect));
    }
    assert!(pool.network().look_ups.lock().len() <= 11);
}
