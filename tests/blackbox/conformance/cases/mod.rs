//! The cases by theme, and which hookward they are for.

mod chunks;
mod early;
mod expect;
mod fields;
mod framing;
mod hosts;
mod limits;
mod methods;
mod pipelining;
mod request_line;
mod slow;
mod smuggling;
mod tricks;
mod upgrade;

use super::case::Case;

/// One hookward and the themes that it serves.
pub struct Instance {
    pub config: &'static str,
    pub themes: Vec<(&'static str, Vec<Case>)>,
}

/// The themes whose bytes can be read in more than one way.
pub const HOSTILE: [&str; 7] =
    ["hosts", "header fields", "header tricks", "framing", "chunks", "smuggling pairs", "pipelining"];

/// Small enough that reaching them takes no time.
const SMALL_LIMITS: &str = "
limits:
  header_timeout: 300ms
  body_timeout: 300ms
  idle_timeout: 300ms
  header_bytes: 2KiB
  header_count: 20
  uri_bytes: 256
routes: [ { name: hooks, path: \"/*\", max_body: 4KiB } ]
";

/// `scheme` is what an absolute target has to begin with.
pub fn instances(scheme: &str) -> [Instance; 2] {
    let default_limits = Instance {
        config: "",
        themes: vec![
            ("request line", request_line::cases(scheme)),
            ("hosts", hosts::cases()),
            ("header fields", fields::cases()),
            ("header tricks", tricks::cases()),
            ("framing", framing::cases()),
            ("chunks", chunks::cases()),
            ("smuggling pairs", smuggling::cases()),
            ("pipelining", pipelining::cases()),
            ("expect", expect::cases()),
            ("early refusal", early::cases()),
            ("methods", methods::cases()),
            ("upgrade", upgrade::cases()),
        ],
    };
    let small_limits = Instance {
        config: SMALL_LIMITS,
        themes: vec![("limits", limits::cases(scheme)), ("slow clients", slow::cases())],
    };
    [default_limits, small_limits]
}
