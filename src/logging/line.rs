//! One event as one line: JSON for machines, text for people.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::LogFormat;
use crate::clock::rfc3339_ms;

/// Length of a text within a line; the list of problems of a bad configuration has no bound of its own.
const TEXT_MAX_BYTES: usize = 64 << 10;

/// The line of an event, its end included.
pub(super) fn of_event(format: LogFormat, unix_ms: i64, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    render(format, *event.metadata().level(), unix_ms, fields)
}

/// The line that stands in the place of lines that were dropped.
pub(super) fn of_dropped(format: LogFormat, unix_ms: i64, lines: u64) -> String {
    let message = "log lines are missing here: nobody read the log fast enough, or it could not be written".to_owned();
    render(format, Level::WARN, unix_ms, Fields { message, rest: vec![("lines_dropped", lines.into())] })
}

fn render(format: LogFormat, level: Level, unix_ms: i64, fields: Fields) -> String {
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

    fn put_text(&mut self, field: &Field, text: String) {
        let text = cut(text);
        if field.name() == "message" { self.message = text } else { self.put(field, text.into()) }
    }
}

/// As much of a text as a line shows of it.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_MAX_BYTES));
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_fits_on_a_line() {
        assert_eq!(cut("a".repeat(TEXT_MAX_BYTES)).len(), TEXT_MAX_BYTES);
        let shown = cut(format!("a{}", "é".repeat(TEXT_MAX_BYTES)));
        assert!(shown.len() <= TEXT_MAX_BYTES + "…".len() && shown.ends_with("é…"));
    }

    #[test]
    fn missing_lines_are_told_in_the_form_of_the_log() {
        let json = of_dropped(LogFormat::Json, 0, 7);
        let members: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&members["level"], &members["lines_dropped"]), (&"warn".into(), &7.into()), "{json}");
        assert!(of_dropped(LogFormat::Text, 0, 7).ends_with("lines_dropped=7\n"));
    }
}
