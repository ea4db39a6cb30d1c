//! How many files this process may have open: every connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files beside the public side's connections: the buffer, listeners, the admin side, the apps.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit to the hard one, and tells how many connections fit below that. Shells and
/// systemd leave it at 1024 for programs that use select(2); at its end nothing can be accepted any
/// more, the admin side included, and no app be connected to: connections must not come so far.
pub(super) fn raise(connections_max: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = connections_max as u64 + OTHER_FILES;
    let connections = connections_below(allowed);
    if raised.is_err() || allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            connections,
            "fewer open files are allowed than limits.connections needs, so that connections beyond this number are refused; raise the limit (LimitNOFILE, ulimit -Hn) or lower limits.connections"
        );
    }
    connections
}

/// Half of very few are left to everything else.
fn connections_below(allowed: u64) -> usize {
    usize::try_from(allowed - OTHER_FILES.min(allowed / 2)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_open_files_are_always_left_to_everything_else() {
        for (allowed, connections) in [(0, 0), (100, 50), (511, 256), (512, 256), (1024, 768), (4352, 4096)] {
            assert_eq!(connections_below(allowed), connections, "{allowed}");
        }
        assert!(connections_below(u64::MAX) > 1 << 30);
    }
}
