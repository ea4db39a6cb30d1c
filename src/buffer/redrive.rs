//! Sending many dead letters again: oldest first, no faster than asked for, one run at a time.
//!
//! A run is not continued after a restart: what it has sent again is pending, the rest is dead still.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::committer::{Committer, DeskError, REPAIRS_MAX};
use super::event::{Seq, State};
use super::record::{Repair, Repaired};

/// Events a second unless asked for otherwise: an app that has just come back can take it.
pub const DEFAULT_RATE_PER_S: f64 = 10.0;
/// Rates that may be asked for.
pub const RATES_PER_S: std::ops::RangeInclusive<f64> = 0.01..=10_000.0;
/// Time between two groups of a run, where the rate is more than one in it.
const GROUP_EVERY: Duration = Duration::from_millis(100);

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Dead letters that it is to send again.
    pub matched: u64,
    /// Those that it has.
    pub redriven: u64,
}

/// At most one run.
#[derive(Debug, Default)]
pub struct Redrives {
    running: Arc<Mutex<Option<Progress>>>,
}

/// A run that is going on already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Redrives {
    /// Dead letters that a run of at most `limit` would send again.
    pub fn matched(committer: &Committer, limit: Option<u64>) -> u64 {
        let dead = committer.stats().borrow().of(State::Dead);
        limit.map_or(dead, |limit| dead.min(limit))
    }

    /// How far the run is that is going on.
    pub fn progress(&self) -> Option<Progress> {
        *self.running.lock()
    }

    /// Starts a run in the background and returns how many dead letters it is to send again; none
    /// is started for none.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn start(&self, committer: &Committer, limit: Option<u64>, rate_per_s: f64) -> Result<u64, Busy> {
        let mut running = self.running.lock();
        if running.is_some() {
            return Err(Busy);
        }
        let matched = Redrives::matched(committer, limit);
        if matched > 0 {
            *running = Some(Progress { matched, redriven: 0 });
            let run = Run { committer: committer.clone(), rate_per_s, progress: self.running.clone() };
            tokio::spawn(run.finish());
        }
        Ok(matched)
    }
}

struct Run {
    committer: Committer,
    rate_per_s: f64,
    progress: Arc<Mutex<Option<Progress>>>,
}

/// Whatever ends a run makes way for the next.
impl Drop for Run {
    fn drop(&mut self) {
        *self.progress.lock() = None;
    }
}

impl Run {
    async fn finish(self) {
        let done = self.go().await;
        let Progress { matched, redriven } = self.progress.lock().unwrap_or(Progress { matched: 0, redriven: 0 });
        match done {
            Ok(()) => tracing::info!(matched, redriven, "the redrive of dead letters has ended"),
            Err(error) => tracing::warn!(%error, matched, redriven, "the redrive of dead letters was cut short"),
        }
    }

    async fn go(&self) -> Result<(), DeskError> {
        let (events, every) = pace(self.rate_per_s);
        let mut tick = tokio::time::interval(every);
        // After a pause nothing is made up for: the app gets no more than the rate.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Ever onwards, so that what dies again is not sent again by the same run.
        let mut after = Seq(0);
        while let Some(left) = self.left() {
            tick.tick().await;
            let group = self.committer.dead_after(after, events.min(left)).await?;
            let Some(last) = group.last() else { break };
            after = *last;
            let repaired = self.committer.repair(group.into_iter().map(Repair::Redrive).collect()).await?;
            let done = repaired.iter().filter(|repaired| matches!(repaired, Repaired::Done { .. })).count();
            if let Some(progress) = &mut *self.progress.lock() {
                progress.redriven += done as u64;
            }
        }
        Ok(())
    }

    /// Dead letters that are still to be sent again, at least one.
    fn left(&self) -> Option<usize> {
        let progress = (*self.progress.lock())?;
        let left = progress.matched.saturating_sub(progress.redriven);
        (left > 0).then(|| usize::try_from(left).unwrap_or(usize::MAX))
    }
}

/// Events of a group, and the time from one group to the next.
fn pace(rate_per_s: f64) -> (usize, Duration) {
    let in_a_group = (rate_per_s * GROUP_EVERY.as_secs_f64()).floor();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and REPAIRS_MAX")]
    let events = in_a_group.clamp(1.0, REPAIRS_MAX as f64) as usize;
    (events, Duration::from_secs_f64(events as f64 / rate_per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_groups_that_are_small_enough() {
        assert_eq!(pace(10.0), (1, Duration::from_millis(100)));
        assert_eq!(pace(0.5), (1, Duration::from_secs(2)));
        assert_eq!(pace(500.0), (50, Duration::from_millis(100)));
        assert_eq!(pace(10_000.0), (100, Duration::from_millis(10)));
    }
}
