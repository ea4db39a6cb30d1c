//! `hookward events show`.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::ask_about;
use crate::cli::admin::converse;
use crate::cli::instance::InstanceArgs;
use crate::cli::output::finish;
use crate::cli::text::{field, printable};

/// Show one event: where it stands, its last attempt, its headers and body
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hookward events show 4711
  hookward events show 4711 --json | jq -r .body | base64 -d")]
pub(super) struct Args {
    /// Its number in the list
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    seq: i64,
    /// Print JSON, with the body in base64
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Prints the event.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let event = ask_about(&args.instance.client()?, &args.seq.into(), None).await?;
        let text = if args.json { format!("{event:#}\n") } else { human(&event) };
        Ok(finish(&text, ExitCode::SUCCESS))
    })
}

fn human(event: &Value) -> String {
    const FIELDS: [&str; 14] = [
        "seq",
        "state",
        "route",
        "event_type",
        "event_id",
        "delivery_id",
        "received_at",
        "attempts",
        "next_attempt_at",
        "waits_for",
        "last_error",
        "size_bytes",
        "verified_by",
        "replay",
    ];
    let mut text = String::new();
    for name in FIELDS {
        text.push_str(&format!("{name:<16} {}\n", field(&event[name])));
    }
    let last = &event["last_attempt"];
    if !last.is_null() {
        let (at, status, duration) = (field(&last["at"]), field(&last["status"]), field(&last["duration_ms"]));
        text.push_str(&format!("{:<16} {at}, status {status}, {duration} ms\n", "last_attempt"));
    }
    if event["intact"] == false {
        text.push_str("\nThe checksum fails: what follows is not what was received.\n");
    }
    if event["method"].is_null() && event["body"].is_null() {
        text.push_str("\n(request and body are not kept)\n");
        return text;
    }
    text.push_str(&format!("\n{} {}\n", field(&event["method"]), field(&event["target"])));
    for header in event["headers"].as_array().into_iter().flatten() {
        text.push_str(&format!("{}: {}\n", field(&header[0]), field(&header[1])));
    }
    text.push_str(&format!("\n{}\n", body(&event["body"])));
    text
}

/// The body as text if it is any.
fn body(base64: &Value) -> String {
    let Some(bytes) = base64.as_str().map(|text| STANDARD.decode(text).unwrap_or_default()) else {
        return "(the body is not kept)".to_owned();
    };
    match String::from_utf8(bytes) {
        Ok(text) => text.lines().map(printable).collect::<Vec<_>>().join("\n"),
        Err(error) => format!("({} bytes that are no text; see --json)", error.as_bytes().len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_shown_with_what_is_kept_of_it() {
        let event = json!({"seq": 7, "state": "dead", "method": "POST", "target": "/hooks", "intact": true,
            "headers": [["content-type", "text/plain"]], "body": STANDARD.encode("Grüße\n\u{1b}[2J"),
            "last_attempt": {"at": "2026-05-19T23:30:15.038Z", "status": 503, "error": "x", "duration_ms": 12}});
        let text = human(&event);
        for line in [
            "seq              7",
            "last_attempt     2026-05-19T23:30:15.038Z, status 503, 12 ms",
            "POST /hooks",
            "content-type: text/plain",
            "Grüße",
            "\\u{1b}[2J",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
        let empty = human(&json!({"body": null}));
        assert!(empty.contains("not kept") && !empty.contains("- -"), "{empty}");
        assert!(human(&json!({"body": STANDARD.encode([0xff, 0xfe])})).contains("2 bytes that are no text"));
        assert!(human(&json!({"intact": false})).contains("checksum fails"));
    }
}
