//! The paths whose events an app refuses, for the status and for a line in the log while it happens. Pure.

use std::time::Duration;

use crate::clock::RunMs;

/// Paths that are remembered; the one that was refused longest ago gives way.
const PATHS_MAX: usize = 8;
/// Bytes of a path by which it is known.
const PATH_MAX_BYTES: usize = 256;
/// Least time between two log lines about one path.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How long a path is shown that nothing comes to any more: about as long as one event is tried.
const SHOWN_FOR: Duration = Duration::from_secs(3600);

/// A path whose last event was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Without its query, cut.
    pub path: Vec<u8>,
    /// The app's status.
    pub status: u16,
    /// As in `last_error`.
    pub error: String,
    /// Refusals since the path's last event that was taken.
    pub times: u64,
    /// When the last was.
    pub last: RunMs,
    told: RunMs,
}

/// What one app refuses.
#[derive(Debug, Default)]
pub struct RefusalWatch {
    paths: Vec<Refused>,
}

impl RefusalWatch {
    /// An event was refused. Returns how many refusals of its path there have been where a log line is due.
    pub fn note_refused(&mut self, target: &[u8], status: u16, error: &str, now: RunMs) -> Option<u64> {
        let path = path_of(target);
        let Some(known) = self.paths.iter_mut().find(|known| known.path == path) else {
            if self.paths.len() >= PATHS_MAX
                && let Some(oldest) = (0..self.paths.len()).min_by_key(|place| self.paths[*place].last)
            {
                self.paths.swap_remove(oldest);
            }
            let error = error.to_owned();
            self.paths.push(Refused { path: path.to_owned(), status, error, times: 1, last: now, told: now });
            return Some(1);
        };
        known.times += 1;
        (known.status, known.last) = (status, now);
        error.clone_into(&mut known.error);
        let is_due = now.since(known.told) >= TELL_EVERY;
        if is_due {
            known.told = now;
        }
        is_due.then_some(known.times)
    }

    /// An event was taken: its path is in order.
    pub fn note_taken(&mut self, target: &[u8]) {
        let path = path_of(target);
        self.paths.retain(|known| known.path != path);
    }

    /// Whether no path is remembered.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// What is being refused, the latest first.
    pub fn refused(&self, now: RunMs) -> Vec<Refused> {
        let mut shown: Vec<_> = self.paths.iter().filter(|known| now.since(known.last) < SHOWN_FOR).cloned().collect();
        shown.sort_by_key(|known| std::cmp::Reverse(known.last));
        shown
    }
}

fn path_of(target: &[u8]) -> &[u8] {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    &path[..path.len().min(PATH_MAX_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: &str = "the app answered 404 Not Found";

    fn refuse(watch: &mut RefusalWatch, target: &str, at_ms: i64) -> Option<u64> {
        watch.note_refused(target.as_bytes(), 404, MISSING, RunMs(at_ms))
    }

    fn shown(watch: &RefusalWatch, at_ms: i64) -> Vec<(String, u64)> {
        let text = |refused: Refused| (String::from_utf8(refused.path).unwrap(), refused.times);
        watch.refused(RunMs(at_ms)).into_iter().map(text).collect()
    }

    #[test]
    fn a_path_is_told_at_once_and_then_once_a_minute_until_its_events_are_taken() {
        let mut watch = RefusalWatch::default();
        assert_eq!(refuse(&mut watch, "/webhok?a=1", 0), Some(1));
        assert_eq!(refuse(&mut watch, "/webhok?b=2", 59_999), None);
        assert_eq!(refuse(&mut watch, "/webhok", 60_000), Some(3));
        assert_eq!(refuse(&mut watch, "/voice", 60_001), Some(1), "each path for itself");
        assert_eq!(shown(&watch, 60_002), [("/voice".to_owned(), 1), ("/webhok".to_owned(), 3)]);
        watch.note_taken(b"/elsewhere");
        watch.note_taken(b"/webhok?c");
        assert_eq!(shown(&watch, 60_002), [("/voice".to_owned(), 1)]);
        assert_eq!(shown(&watch, 60_001 + 3_600_000), [], "nothing has come to it for an hour");
    }

    #[test]
    fn eight_paths_are_remembered_and_the_oldest_gives_way() {
        let mut watch = RefusalWatch::default();
        for n in 0..9 {
            assert_eq!(refuse(&mut watch, &format!("/{n}"), n), Some(1));
        }
        let shown = shown(&watch, 10);
        assert_eq!((shown.len(), &*shown[0].0, &*shown[7].0), (8, "/8", "/1"));
        refuse(&mut watch, &"/".repeat(300), 10);
        assert_eq!(watch.refused(RunMs(10))[0].path.len(), PATH_MAX_BYTES);
    }

    #[test]
    fn the_last_answer_is_the_one_that_is_shown() {
        let mut watch = RefusalWatch::default();
        refuse(&mut watch, "/a", 0);
        watch.note_refused(b"/a", 403, "the app answered 403 Forbidden", RunMs(1));
        let refused = watch.refused(RunMs(1));
        assert_eq!((refused[0].status, &*refused[0].error), (403, "the app answered 403 Forbidden"));
    }
}
