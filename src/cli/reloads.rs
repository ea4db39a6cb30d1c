//! When the configuration is read again: on SIGHUP, and when a file that it was made of has changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::{ConfigArgs, notify};
use crate::config::files::Watch;
use crate::config::reader::problem::Problems;
use crate::config::resolve::Resolved;
use crate::server::Reloader;

/// Time between two looks at the files; a change takes effect after two at most three of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the configuration again and puts it in force.
pub(super) struct Reloads {
    args: ConfigArgs,
    watch: Watch,
    reloader: Arc<Reloader>,
}

impl Reloads {
    /// The configuration in force was made by `args` of the files in `watch`.
    pub(super) fn new(args: ConfigArgs, watch: Watch, reloader: Arc<Reloader>) -> Reloads {
        Reloads { args, watch, reloader }
    }

    /// Goes on for as long as it is polled.
    pub(super) async fn run(mut self, mut hup: Signal) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hup.recv() => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    self.reload().await;
                }
                _ = looks.tick() => {
                    if self.look().await {
                        tracing::info!("a file of the configuration has changed: reading it again");
                        self.reload().await;
                    }
                }
            }
        }
    }

    /// Files may hang on a network, so no worker waits for them.
    async fn look(&mut self) -> bool {
        let mut watch = std::mem::take(&mut self.watch);
        let looked = tokio::task::spawn_blocking(move || {
            let changed = watch.has_settled_change();
            (watch, changed)
        });
        let Ok((watch, changed)) = looked.await else { return false };
        self.watch = watch;
        changed
    }

    async fn reload(&mut self) {
        notify::reloading();
        let args = self.args.clone();
        let read = tokio::task::spawn_blocking(move || args.resolve_and_watch());
        match read.await {
            Ok((resolved, watch)) => {
                self.watch = watch;
                self.put_in_force(resolved);
            }
            // The panic itself has a line of its own.
            Err(_) => self.reloader.note_refused("reading it panicked"),
        }
        notify::ready();
    }

    fn put_in_force(&self, resolved: Result<Resolved, Problems>) {
        let refused = match resolved {
            Ok(Resolved { config, warnings }) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                self.reloader.reload(config).map_err(|error| error.to_string())
            }
            Err(problems) => Err(problems.to_string().lines().collect::<Vec<_>>().join("; ")),
        };
        if let Err(why) = refused {
            self.reloader.note_refused(&why);
        }
    }
}
