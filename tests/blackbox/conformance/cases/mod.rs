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

/// Small enough that reaching them takes nothing.
const SMALL_LIMITS: &str = "
limits: { header_bytes: 2KiB, header_count: 20, uri_bytes: 256 }
routes: [ { name: hooks, path: \"/*\", max_body: 4KiB } ]
";

/// Short enough to wait for, and long enough that no genuine event of a busy machine misses them.
const SHORT_DEADLINES: &str = "limits: { header_timeout: 500ms, body_timeout: 500ms, idle_timeout: 1s }\n";

/// `scheme` is what an absolute target has to begin with.
pub fn instances(scheme: &str) -> [Instance; 3] {
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
    let small_limits = Instance { config: SMALL_LIMITS, themes: vec![("limits", limits::cases(scheme))] };
    let short_deadlines = Instance { config: SHORT_DEADLINES, themes: vec![("slow clients", slow::cases())] };
    [default_limits, small_limits, short_deadlines]
}
