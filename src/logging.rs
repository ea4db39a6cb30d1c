//! Log lines: JSON for machines, text for people, to stderr. One line per request, refusals and
//! accepted ones rate-limited with a count of what was left out.
//!
//! Libraries' own log lines are not shown: pingora's quote raw header and body bytes.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, subscriber};

use crate::clock::{Clock, SystemClock, rfc3339_ms};

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sends every line from now on to stderr. Later calls change nothing.
pub fn init(format: LogFormat, level: Level) {
    let lines = Lines { format, level, clock: SystemClock::new() };
    let _ = subscriber::set_global_default(lines);
}

/// Writes events as lines; there are no spans.
struct Lines {
    format: LogFormat,
    level: Level,
    clock: SystemClock,
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
        let line = render(self.format, *event.metadata().level(), self.clock.unix_ms(), event);
        // A log that cannot be written must not stop the events.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn render(format: LogFormat, level: Level, unix_ms: i64, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let ts = rfc3339_ms(unix_ms);
    match format {
        LogFormat::Json => {
            // Written member by member: what matters most stands first on the line.
            let first = [
                ("ts", ts.into()),
                ("level", level.as_str().to_ascii_lowercase().into()),
                ("msg", Value::from(fields.message)),
            ];
            let members: Vec<String> =
                first.into_iter().chain(fields.rest).map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}\n", members.join(","))
        }
        LogFormat::Text => {
            let mut line = format!("{ts} {level:>5} {}", fields.message);
            for (name, value) in fields.rest {
                match value {
                    Value::String(text) if !text.contains([' ', '"', '=']) => write!(line, " {name}={text}"),
                    value => write!(line, " {name}={value}"),
                }
                .unwrap_or_default();
            }
            line.push('\n');
            line
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.rest.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.put(field, text.into()) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { value.clone_into(&mut self.message) } else { self.put(field, value.into()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
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

/// Lets so many lines a second through and counts the others.
pub struct LineLimit {
    per_second: u32,
    clock: Arc<dyn Clock>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    second: i64,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// At most so many lines in each second.
    pub fn new(per_second: u32, clock: Arc<dyn Clock>) -> LineLimit {
        LineLimit { per_second, clock, window: Mutex::default() }
    }

    /// Whether to write this line, and how many were left out before it.
    pub fn admit(&self) -> Option<u64> {
        let second = self.clock.uptime_ms() / 1000;
        let mut window = self.window.lock();
        if window.second != second {
            window.second = second;
            window.lines = 0;
        }
        if window.lines >= self.per_second {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn lines_beyond_the_rate_are_counted_and_told_with_the_next() {
        let clock = Arc::new(ManualClock::at_unix_s(0));
        let limit = LineLimit::new(2, clock.clone());
        assert_eq!([limit.admit(), limit.admit(), limit.admit(), limit.admit()], [Some(0), Some(0), None, None]);
        clock.advance(Duration::from_secs(1));
        assert_eq!([limit.admit(), limit.admit()], [Some(2), Some(0)]);
    }

    #[test]
    fn an_address_is_shown_as_far_as_allowed() {
        let (v4, v6) = ("192.0.2.77".parse().unwrap(), "2001:db8:1:2::3".parse().unwrap());
        assert_eq!(ClientIpLog::Full.show(v4).as_deref(), Some("192.0.2.77"));
        assert_eq!(ClientIpLog::Truncated.show(v4).as_deref(), Some("192.0.2.0/24"));
        assert_eq!(ClientIpLog::Truncated.show(v6).as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(ClientIpLog::Off.show(v6), None);
    }
}
