//! Limits that fit the memory there is: what the configuration leaves to hookward (`auto`), and the sum of all.

mod memory;

pub(super) use self::memory::Memory;
use super::live::body_limits;
use crate::config::{Auto, Config};
use crate::http::admin::LimitsView;
use crate::metrics::Metrics;

/// The process without clients: program, SQLite, metrics, the allocator's own.
const BASE_BYTES: u64 = 20 << 20;
/// Events on their way to apps, in memory at most.
const EVENTS_BYTES: u64 = 16 << 20;
/// One remembered event id, at most.
const DEDUPE_ENTRY_BYTES: u64 = 53;
/// A connection that waits; with a header that is not complete `limits.header_bytes` come on top.
const CONNECTION_BYTES: u64 = 28 << 10;
/// What TLS adds to that.
const TLS_BYTES: u64 = 16 << 10;
/// A body is held up to twice: as it is read, and as a whole.
const BODY_COPIES: u64 = 2;
/// One part in so many of the memory is left alone, since estimates err.
const LEFT_ALONE: u64 = 10;

/// What `auto` comes to at least, whatever memory there is: less would be of no use.
const CONNECTIONS_MIN: u64 = 64;
const BODY_MEMORY_MIN_BYTES: u64 = 1 << 20;
const DEDUPE_ENTRIES_MIN: u64 = 10_000;

/// The memory that limits come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    fixed_bytes: u64,
    dedupe_bytes: u64,
    connection_bytes: u64,
    body_bytes: u64,
}

impl Needs {
    /// Those of a configuration without `auto`.
    fn of(config: &Config) -> Needs {
        Needs {
            fixed_bytes: BASE_BYTES + EVENTS_BYTES,
            dedupe_bytes: as_u64(config.buffer.dedupe_entries) * DEDUPE_ENTRY_BYTES,
            connection_bytes: as_u64(config.limits.connections) * connection_bytes(config),
            body_bytes: as_u64(config.limits.body_memory_bytes) * BODY_COPIES,
        }
    }

    /// All together.
    pub(super) fn sum(self) -> u64 {
        self.fixed_bytes + self.dedupe_bytes + self.connection_bytes + self.body_bytes
    }

    /// How it comes about, in MiB.
    fn terms(self) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "{} MiB (process and events {}, limits.connections {}, limits.body_memory {}, buffer.dedupe_entries {})",
            mib(self.sum()),
            mib(self.fixed_bytes),
            mib(self.connection_bytes),
            mib(self.body_bytes),
            mib(self.dedupe_bytes)
        )
    }

    /// What to tell where the memory is less.
    pub(super) fn warning(self, memory: &Memory) -> Option<String> {
        let Memory { bytes, source } = memory;
        (self.sum() > *bytes).then(|| {
            format!(
                "limits want {} of memory and there are {} MiB ({source}): at its end the process is killed; leave them auto, lower them, or give more memory",
                self.terms(),
                bytes >> 20
            )
        })
    }
}

/// Fills in what is `auto`: what is set is taken from the memory first, then remembered ids get a quarter of the
/// rest, connections a half of what is left, and bodies the other half. Set or not, connections are no more than the
/// open files allow.
pub(super) fn fit(config: &mut Config, memory: &Memory, connections_max: usize) -> Needs {
    let Auto { connections, body_memory, dedupe_entries } = config.auto;
    config.limits.connections = config.limits.connections.min(connections_max);
    let set = Needs::of(config);
    let mut left = memory.bytes - memory.bytes / LEFT_ALONE;
    let mut take = |bytes: u64| left = left.saturating_sub(bytes);
    take(set.fixed_bytes);
    for (is_auto, bytes) in
        [(dedupe_entries, set.dedupe_bytes), (connections, set.connection_bytes), (body_memory, set.body_bytes)]
    {
        take(if is_auto { 0 } else { bytes });
    }
    if dedupe_entries {
        let fitting = left / 4 / DEDUPE_ENTRY_BYTES;
        let entries = fitting.clamp(DEDUPE_ENTRIES_MIN, as_u64(Auto::DEDUPE_ENTRIES_MAX));
        config.buffer.dedupe_entries = as_usize(entries);
        left = left.saturating_sub(entries * DEDUPE_ENTRY_BYTES);
    }
    if connections {
        let share = if body_memory { left / 2 } else { left };
        let each = connection_bytes(config);
        let fitting = (share / each).clamp(CONNECTIONS_MIN, as_u64(Auto::CONNECTIONS_MAX)).min(as_u64(connections_max));
        config.limits.connections = as_usize(fitting);
        left = left.saturating_sub(fitting * each);
    }
    if body_memory {
        let least = as_u64(body_limits(config).largest_bytes).max(BODY_MEMORY_MIN_BYTES);
        let fitting = (left / BODY_COPIES).min(as_u64(Auto::BODY_MEMORY_MAX_BYTES)).max(least);
        config.limits.body_memory_bytes = as_usize(fitting);
    }
    Needs::of(config)
}

fn connection_bytes(config: &Config) -> u64 {
    let speaks_tls = config.listen.iter().any(|listener| listener.tls.is_some());
    CONNECTION_BYTES + as_u64(config.limits.header_bytes) + if speaks_tls { TLS_BYTES } else { 0 }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// What limits have to fit: found at start, and the same for every reload.
pub(crate) struct Capacity {
    /// The memory there is.
    pub(super) memory: Memory,
    /// Connections that the open files allow.
    pub(super) connections_max: usize,
}

impl Capacity {
    /// Reports the limits of a fitted configuration: in the log, as metrics, and as the status shows them.
    pub(super) fn tell(&self, config: &Config, needs: Needs, metrics: &Metrics) -> LimitsView {
        let view = self.view(config, needs);
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.connections_limit.set(gauge(view.connections));
        metrics.body_memory_limit_bytes.set(gauge(view.body_memory_bytes));
        tracing::info!(
            connections = view.connections,
            body_memory_bytes = view.body_memory_bytes,
            dedupe_entries = view.dedupe_entries,
            needed_bytes = view.needed_bytes,
            memory_bytes = view.memory_bytes,
            memory_from = view.memory_from,
            "limits"
        );
        if let Some(warning) = needs.warning(&self.memory) {
            tracing::warn!("{warning}");
        }
        view
    }

    fn view(&self, config: &Config, needs: Needs) -> LimitsView {
        let Auto { connections, body_memory, dedupe_entries } = config.auto;
        let from = |is_auto| if is_auto { "auto" } else { "configured" };
        let is_bounded = config.limits.connections == self.connections_max;
        LimitsView {
            connections: config.limits.connections,
            connections_from: if is_bounded { "open files" } else { from(connections) },
            connections_per_client: config.limits.of_connections().per_client,
            body_memory_bytes: config.limits.body_memory_bytes,
            body_memory_from: from(body_memory),
            dedupe_entries: config.buffer.dedupe_entries,
            dedupe_entries_from: from(dedupe_entries),
            needed_bytes: needs.sum(),
            memory_bytes: self.memory.bytes,
            memory_from: self.memory.source.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
