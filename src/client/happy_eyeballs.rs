//! Connecting to one of several addresses, one attempt a moment after the other, until one is reached
//! (RFC 8305, Happy Eyeballs).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::error::ExchangeError;
use super::network::{Address, Network};

/// The connection attempt delay that RFC 8305 §8 recommends. Shorter where the bound of connecting would
/// leave the last address no time.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The outcome of connecting.
pub(super) struct Reached<C> {
    /// The one that was reached first, or why none was.
    pub(super) connection: Result<(C, Address), ExchangeError>,
    /// Those that could not be reached, or not until a later one was.
    pub(super) failed: Vec<Address>,
}

/// Connects to the first of the addresses that can be reached until then.
pub(super) async fn connect<N: Network>(
    network: &Arc<N>,
    addresses: &[Address],
    until: Instant,
) -> Reached<N::Connection> {
    if let [address] = addresses {
        let connection = network.connect(*address, until).await.map(|connected| (connected, *address));
        let failed = if connection.is_err() { vec![*address] } else { Vec::new() };
        return Reached { connection, failed };
    }
    let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
    let delay = ATTEMPT_DELAY.min(until.saturating_duration_since(Instant::now()) / parts);
    let (attempts, pending, failed) = (JoinSet::new(), Vec::new(), Vec::new());
    Race { network, until, delay, attempts, pending, failed }.run(addresses).await
}

/// Attempts under way.
struct Race<'n, N: Network> {
    network: &'n Arc<N>,
    until: Instant,
    delay: Duration,
    attempts: JoinSet<(Address, Result<N::Connection, ExchangeError>)>,
    /// Their addresses, and the time at which each has had its lead over the next.
    pending: Vec<(Address, Instant)>,
    failed: Vec<Address>,
}

impl<N: Network> Race<'_, N> {
    async fn run(mut self, addresses: &[Address]) -> Reached<N::Connection> {
        let mut left = addresses.iter();
        let mut error = ExchangeError::Resolve;
        let mut next_at = Instant::now();
        loop {
            if next_at <= Instant::now()
                && let Some(address) = left.next()
            {
                next_at = Instant::now() + self.delay;
                self.begin(*address, next_at);
            }
            let ended = tokio::select! {
                biased;
                ended = self.attempts.join_next() => ended,
                () = sleep_until(next_at), if left.len() > 0 => continue,
            };
            match ended {
                Some(Ok((address, Ok(connection)))) => return self.won(connection, address),
                Some(Ok((address, Err(failure)))) => {
                    error = failure;
                    self.pending.retain(|(pending, _)| *pending != address);
                    self.failed.push(address);
                    next_at = Instant::now();
                }
                // One that panicked.
                Some(Err(_)) => next_at = Instant::now(),
                None if left.len() == 0 => return Reached { connection: Err(error), failed: self.failed },
                None => next_at = Instant::now(),
            }
        }
    }

    fn begin(&mut self, address: Address, led_until: Instant) {
        let (network, until) = (self.network.clone(), self.until);
        self.attempts.spawn(async move { (address, network.connect(address, until).await) });
        self.pending.push((address, led_until));
    }

    fn won(mut self, connection: N::Connection, address: Address) -> Reached<N::Connection> {
        let now = Instant::now();
        let late = self.pending.iter().filter(|(pending, led_until)| *pending != address && now >= *led_until);
        self.failed.extend(late.map(|(address, _)| *address));
        Reached { connection: Ok((connection, address)), failed: self.failed }
    }
}
