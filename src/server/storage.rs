//! The buffer and the deliveries from it: there only where a route stores events.

use std::hash::Hasher as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use tokio::sync::watch;
use tokio::time::timeout;

use super::ServerError;
use super::upstreams::Upstreams;
use crate::buffer::Recovery;
use crate::buffer::committer::{Committer, Reopen};
use crate::buffer::durability;
use crate::buffer::event::State;
use crate::buffer::pause::Pause;
use crate::buffer::sqlite::{InstanceLock, Settings, SqliteBuffer};
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::{Forwarder, Lane, Lanes};
use crate::gate::hops::Pseudonym;
use crate::metrics::Metrics;

/// How long another instance may take to let go of the data directory.
const LOCK_WITHIN: Duration = Duration::from_secs(30);
/// Time between two tries to take the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Time between two looks whether anything can still be delivered.
const REST_CHECK_EVERY: Duration = Duration::from_millis(50);
/// How long the lanes must have been at rest to believe it.
const REST_FOR: Duration = Duration::from_millis(300);

/// An open buffer and the lanes that deliver from it.
pub(super) struct Storage {
    pub(super) committer: Committer,
    pub(super) durability: durability::Found,
    pub(super) recovery: Recovery,
    pub(super) forwarder: Arc<Forwarder>,
    lanes: Mutex<Vec<Lane>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _lock: InstanceLock,
}

impl Storage {
    /// Takes the data directory and opens the buffer in it.
    pub(super) async fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Result<Storage, ServerError> {
        let (lock, durability) = take_data_dir(config).await?;
        let (lock, (engine, recovery)) = open_buffer(config, lock).await?;
        tell_damage(&recovery, metrics);
        metrics.recovered_events.set(i64::try_from(recovery.pending).unwrap_or(i64::MAX));
        let lanes = Lanes::new();
        let (place, settings) = (engine.place(), engine_settings(config));
        let reopen_metrics = metrics.clone();
        let reopen: Reopen =
            Box::new(move |handed_out| match SqliteBuffer::reopen(&place, settings.clone(), handed_out) {
                Ok((engine, recovery)) => {
                    tell_damage(&recovery, &reopen_metrics);
                    Ok(Box::new(engine))
                }
                Err(error) => Err(error.to_string()),
            });
        let (committer, thread) =
            Committer::start(Box::new(engine), reopen, &recovery, lanes.clone(), clock.clone(), metrics.clone())
                .map_err(|error| ServerError::Internal(format!("no thread for the buffer: {error}")))?;
        let forwarder = Arc::new(Forwarder {
            lanes,
            committer: committer.clone(),
            retry: config.delivery.retry.clone(),
            ordering: config.delivery.ordering.clone(),
            clock: clock.clone(),
            run_base: recovery.run_base,
            paused_before: recovery
                .pauses
                .iter()
                .filter(|(_, pause)| !pause.is_over(recovery.run_base))
                .cloned()
                .collect(),
            metrics: metrics.clone(),
        });
        for (route, Pause { reason, .. }) in &forwarder.paused_before {
            tracing::warn!(
                %route,
                reason,
                "deliveries of the route are paused since before the start: `hookward upstream resume` lets them go on"
            );
        }
        Ok(Storage {
            committer,
            durability,
            recovery,
            forwarder,
            lanes: Mutex::default(),
            stop: watch::Sender::new(false),
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }

    /// The name of this instance among the hops of a request, from the key of the buffer's
    /// fingerprints: it has to last as long as the duplicates that the buffer knows. With another
    /// name after a restart, an event that comes back would be a duplicate, and count as delivered.
    pub(super) fn pseudonym(&self) -> Pseudonym {
        let mut hasher = SipHasher13::new_with_key(&self.recovery.fingerprint_key);
        hasher.write(b"pseudonym in Via");
        Pseudonym::new(hasher.finish())
    }

    /// Lets the events of every route go where the configuration says. What a route has left behind
    /// that is gone goes to the top-level upstream, else it is held.
    pub(super) fn deliver(&self, config: &Config, upstreams: &Upstreams) {
        let stop = self.stop.subscribe();
        let mut routes: Vec<Arc<str>> = Vec::new();
        for route in &config.routes {
            if let Some((settings, _)) = route.ack() {
                self.set_lane(&route.name, upstreams.find(settings), &stop);
                routes.push(route.name.clone());
            }
        }
        self.committer.share_among(routes.clone());
        let default = config.default_upstream.as_ref().and_then(|settings| upstreams.find(settings));
        let mut left_behind = self.forwarder.lanes();
        left_behind.extend(self.recovery.routes.iter().cloned());
        left_behind.extend(self.forwarder.paused_before.iter().map(|(route, _)| route.clone()));
        left_behind.sort();
        left_behind.dedup();
        for route in left_behind.into_iter().filter(|route| !routes.contains(route)) {
            match &default {
                Some(_) => tracing::warn!(%route, "events of a route that is gone go to the top-level upstream"),
                None => tracing::warn!(
                    %route,
                    "events of a route that is gone are held: add the route or a top-level upstream"
                ),
            }
            self.set_lane(&route, default.clone(), &stop);
        }
    }

    fn set_lane(
        &self,
        route: &Arc<str>,
        upstream: Option<Arc<crate::forward::upstream::Upstream>>,
        stop: &watch::Receiver<bool>,
    ) {
        self.lanes.lock().extend(self.forwarder.set_lane(route, upstream, stop));
    }

    /// Waits until everything is delivered, or nothing more can be before the end of this time.
    pub(super) async fn delivered_within(&self, time: Duration) {
        let mut stats = self.committer.stats();
        let all = stats.wait_for(|stats| stats.of(State::Pending) == 0);
        let rest = async {
            let mut left = time;
            let mut at_rest = Duration::ZERO;
            // What has just been settled is known to the lanes a commit later.
            while at_rest < REST_FOR {
                tokio::time::sleep(REST_CHECK_EVERY).await;
                left = left.saturating_sub(REST_CHECK_EVERY);
                at_rest = if self.forwarder.rests_for(left) { at_rest + REST_CHECK_EVERY } else { Duration::ZERO };
            }
        };
        tokio::select! {
            _ = all => {}
            () = rest => {}
        }
    }

    /// Settles every attempt, writes everything and closes the buffer.
    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        let lanes = std::mem::take(&mut *self.lanes.lock());
        for lane in lanes {
            lane.ended().await;
        }
        self.committer.close().await;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// What cannot be brought back is told, never passed over.
fn tell_damage(recovery: &Recovery, metrics: &Metrics) {
    for damage in &recovery.damage {
        metrics.buffer_errors_damaged.inc();
        tracing::error!("{damage}; replace the medium, and have events that are missing sent again");
    }
    if recovery.quarantined > 0 {
        tracing::error!(
            events = recovery.quarantined,
            "the medium has damaged stored events: they are set aside and not forwarded"
        );
    }
}

/// Makes the data directory if need be, for this user alone.
pub(super) fn make_data_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the data directory if need be, takes its lock, and finds out what it outlives.
async fn take_data_dir(config: &Config) -> Result<(InstanceLock, durability::Found), ServerError> {
    let dir = &config.data_dir;
    let failed = |error| ServerError::DataDir { path: dir.display().to_string(), error };
    make_data_dir(dir).map_err(failed)?;
    durability::sync_names_down_to(dir).map_err(failed)?;
    let found = durability::find(dir).map_err(failed)?;
    if found.level < config.buffer.require {
        return Err(ServerError::Durability {
            path: dir.display().to_string(),
            found: found.level.name(),
            evidence: found.evidence,
            wanted: config.buffer.require.name(),
        });
    }
    let wait = async {
        let mut told = false;
        loop {
            if let Some(lock) = InstanceLock::try_take(dir)? {
                return io::Result::Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(data_dir = %dir.display(), "another instance holds the data directory; waiting up to 30 s");
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    };
    match timeout(LOCK_WITHIN, wait).await {
        Ok(lock) => Ok((lock.map_err(failed)?, found)),
        Err(_) => Err(ServerError::Locked { path: dir.display().to_string() }),
    }
}

fn engine_settings(config: &Config) -> Settings {
    Settings {
        max_bytes: config.buffer.max_bytes,
        reserve: config.buffer.reserve,
        dedupe_entries: config.buffer.dedupe_entries,
        tombstone_keep: longest_window(config),
        dead_letter_keep: config.delivery.dead_letter_keep,
        delivered_keep: config.delivery.delivered_keep,
        in_order: config.delivery.ordering.is_some(),
    }
}

async fn open_buffer(
    config: &Config,
    lock: InstanceLock,
) -> Result<(InstanceLock, (SqliteBuffer, Recovery)), ServerError> {
    let settings = engine_settings(config);
    let dir = config.data_dir.clone();
    let open = move || SqliteBuffer::open_under(&lock, &dir, settings).map(|opened| (lock, opened));
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.map_err(|_| ServerError::Internal("opening the buffer panicked".to_owned()))??)
}

/// How long ids are kept at most: the longest duplicate window.
pub(super) fn longest_window(config: &Config) -> Duration {
    let windows = config.routes.iter().filter_map(|route| route.ack()?.1.map(|dedupe| dedupe.window));
    windows.max().unwrap_or(Duration::ZERO)
}
