//! Another configuration for a process that runs: all of it, or nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;

use super::capacity::{self, Capacity};
use super::live::{AssembleError, Assembly, body_limits};
use super::storage::{Storage, longest_window};
use super::upstreams::Upstreams;
use crate::client::ClientError;
use crate::config::{Admin, Config, Listener, Log};
use crate::http::admin::{AdminState, AdminToken, ConfigurationView};
use crate::http::body_memory::BodyMemory;
use crate::http::connection::Live;
use crate::http::tls::Keeper;

/// Why a configuration that is right in itself cannot take the place of the one in force.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// It needs what the process was not started with.
    #[error("{0}")]
    Restart(String),
    /// A client to an app cannot be made.
    #[error("upstream: {0}")]
    Upstream(#[from] ClientError),
}

impl From<AssembleError> for ReloadError {
    fn from(error: AssembleError) -> ReloadError {
        ReloadError::Restart(error.to_string())
    }
}

/// Puts configurations in force. Shared by the server and whoever notices that one has changed.
pub struct Reloader {
    pub(super) assembly: Assembly,
    /// What limits have to fit.
    pub(super) capacity: Capacity,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) storage: Option<Arc<Storage>>,
    pub(super) body_memory: Arc<BodyMemory>,
    pub(super) admin: Arc<AdminState>,
    pub(super) admin_token: Arc<AdminToken>,
    /// What the listeners show their clients, in the order of the configuration.
    pub(super) tls: Vec<Option<Arc<Keeper>>>,
    /// Ids are remembered for this long at most, whatever a route asks for later.
    pub(super) longest_window: Duration,
    /// What is in force, and the apps it names.
    pub(super) current: Mutex<(Config, Upstreams)>,
}

impl Reloader {
    /// Puts a configuration in force: routes, keys, allowlists, trusted proxies, limits, upstreams, the admin token.
    /// Requests under way are judged by the one that they began with.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything stays as it is.
    pub fn reload(&self, mut config: Config) -> Result<(), ReloadError> {
        let needs = capacity::fit(&mut config, &self.capacity.memory, self.capacity.connections_max);
        let mut current = self.current.lock();
        let upstreams = Upstreams::of(&config, &current.1)?;
        let live = self.assembly.live(&config, &upstreams)?;
        self.body_memory.set_limits(body_limits(&config));
        self.live.store(Arc::new(live));
        upstreams.put_limits_in_force();
        if let Some(storage) = &self.storage {
            storage.deliver(&config, &upstreams);
        }
        for (keeper, listener) in self.tls.iter().zip(&config.listen) {
            if let (Some(keeper), Some(identity)) = (keeper, &listener.tls) {
                keeper.swap(identity);
            }
        }
        self.admin_token.replace(config.admin.token.clone().map(|token| token.0));
        self.admin.upstreams.store(Arc::new(upstreams.views(&config)));
        self.admin.limits.store(Arc::new(self.capacity.tell(&config, needs, &self.assembly.metrics)));
        let needs_restart = needs_restart(&current.0, &config, self.longest_window);
        for what in &needs_restart {
            tracing::warn!("{what} has changed, which takes effect after a restart only");
        }
        self.note_success(needs_restart);
        upstreams.look_at_tls(&current.1);
        *current = (fixed_as_before(config, &current.0), upstreams);
        Ok(())
    }

    /// Tells everybody that a new configuration was no good and that the old one stays.
    pub fn note_refused(&self, why: &str) {
        let metrics = &self.assembly.metrics;
        metrics.reloads_failed.inc();
        metrics.last_reload_successful.set(0);
        tracing::error!(problem = %why, "the configuration was not reloaded; the old one stays in force");
        let view = ConfigurationView {
            refused: Some(why.to_owned()),
            ..ConfigurationView::clone(&self.admin.configuration.load())
        };
        self.admin.configuration.store(Arc::new(view));
    }

    fn note_success(&self, needs_restart: Vec<String>) {
        let metrics = &self.assembly.metrics;
        let read_unix_ms = self.assembly.clock.unix_ms();
        metrics.reloads_succeeded.inc();
        metrics.last_reload_success_s.set(read_unix_ms / 1000);
        metrics.last_reload_successful.set(1);
        tracing::info!("configuration reloaded");
        self.admin.configuration.store(Arc::new(ConfigurationView { read_unix_ms, refused: None, needs_restart }));
    }
}

/// What has changed that a running process cannot change.
fn needs_restart(old: &Config, new: &Config, longest: Duration) -> Vec<String> {
    let changed = [
        ("listen", !same_listeners(&old.listen, &new.listen)),
        ("admin.address", old.admin.address != new.admin.address),
        ("data_dir", old.data_dir != new.data_dir),
        ("buffer", old.buffer != new.buffer),
        ("delivery", old.delivery != new.delivery),
        ("shutdown", old.shutdown != new.shutdown),
        ("log.level or log.format", (old.log.level, old.log.format) != (new.log.level, new.log.format)),
        ("threads", old.threads != new.threads),
        ("routes[].dedupe.window, now longer than any at the start,", longest_window(new) > longest),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what.to_owned()).collect()
}

/// Certificates may have changed: they are replaced while serving.
fn same_listeners(old: &[Listener], new: &[Listener]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.is_like(new))
}

/// The new configuration with what is still in force of the old one, so that the next reload is
/// compared with what is.
fn fixed_as_before(new: Config, old: &Config) -> Config {
    Config {
        listen: old.listen.clone(),
        admin: Admin { address: old.admin.address, ..new.admin },
        data_dir: old.data_dir.clone(),
        buffer: old.buffer.clone(),
        delivery: old.delivery.clone(),
        shutdown: old.shutdown.clone(),
        threads: old.threads,
        log: Log { level: old.log.level, format: old.log.format, ..new.log },
        ..new
    }
}
