//! Log lines: JSON for machines, text for people, to stderr. One line per request, refusals and
//! accepted ones rate-limited with a count of what was left out.
//!
//! Libraries' own log lines are not shown: pingora's quote raw header and body bytes.

mod limit;
mod line;
mod queue;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Event, Level, Metadata, Subscriber, dispatcher, subscriber};

use crate::clock::{Clock, SystemClock};
pub use limit::LineLimit;
use queue::Queue;

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sends every line from now on to stderr, by a thread of its own. Later calls change nothing.
///
/// # Errors
/// The system gives no thread or no descriptor.
pub fn init(format: LogFormat, level: Level) -> io::Result<()> {
    let queue = Arc::new(Queue::default());
    // Not the standard library's handle: its lock would be held for as long as stderr takes nothing.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let clock = SystemClock::new();
    queue.start_writer(stderr, move |dropped| line::of_dropped(format, clock.unix_ms(), dropped))?;
    let _ = subscriber::set_global_default(Lines { format, level, clock: SystemClock::new(), queue });
    Ok(())
}

/// Lines that were dropped, since stderr took them too slowly or not at all.
pub fn lines_dropped() -> u64 {
    of_process(|lines| lines.queue.dropped()).unwrap_or_default()
}

/// Waits until every line so far is written, for at most this long.
pub fn flush(within: Duration) {
    of_process(|lines| lines.queue.flush(within));
}

/// Writes the last line of a process as it is; `flush` comes next.
pub fn write_last(line: &str) {
    of_process(|lines| lines.queue.push_last(line.as_bytes()));
}

/// The lines of this process, once they go to stderr.
fn of_process<T>(with: impl Fn(&Lines) -> T) -> Option<T> {
    dispatcher::get_default(|log| log.downcast_ref::<Lines>().map(&with))
}

/// Queues events as lines; there are no spans.
struct Lines {
    format: LogFormat,
    level: Level,
    clock: SystemClock,
    queue: Arc<Queue>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("hookward")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.queue.push(line::of_event(self.format, self.clock.unix_ms(), event).as_bytes());
    }
}

/// How much of the client's address is written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIpLog {
    /// All of it.
    Full,
    /// IPv4 to /24, IPv6 to /48.
    Truncated,
    /// Nothing.
    Off,
}

impl ClientIpLog {
    /// The address as it may be written.
    pub fn show(self, ip: IpAddr) -> Option<String> {
        match (self, ip) {
            (ClientIpLog::Off, _) => None,
            (ClientIpLog::Full, ip) => Some(ip.to_string()),
            (ClientIpLog::Truncated, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                Some(format!("{a}.{b}.{c}.0/24"))
            }
            (ClientIpLog::Truncated, IpAddr::V6(v6)) => {
                let [a, b, c, ..] = v6.segments();
                Some(format!("{a:x}:{b:x}:{c:x}::/48"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_far_as_allowed() {
        let (v4, v6) = ("192.0.2.77".parse().unwrap(), "2001:db8:1:2::3".parse().unwrap());
        assert_eq!(ClientIpLog::Full.show(v4).as_deref(), Some("192.0.2.77"));
        assert_eq!(ClientIpLog::Truncated.show(v4).as_deref(), Some("192.0.2.0/24"));
        assert_eq!(ClientIpLog::Truncated.show(v6).as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(ClientIpLog::Off.show(v6), None);
    }
}
