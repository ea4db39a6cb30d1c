//! How many files this process may have open: every connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files beside the public side's connections: the buffer, listeners, the admin side, the apps.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit to the hard one. Shells and systemd leave it at 1024 for programs that
/// use select(2); at its end nothing can be accepted any more, the admin side included.
pub(super) fn raise(connections_max: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = connections_max as u64 + OTHER_FILES;
    if raised.is_err() || allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            "fewer open files are allowed than limits.connections needs; raise the limit (LimitNOFILE, ulimit -Hn) or lower limits.connections"
        );
    }
}
