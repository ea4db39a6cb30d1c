//! `hookward events list`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::filter::{FilterArgs, Pages};
use crate::cli::admin::{Trouble, converse};
use crate::cli::instance::InstanceArgs;
use crate::cli::output::finish;
use crate::cli::text::{field, table};

/// List events, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hookward events list --state dead
  hookward events list --route messaging --event-type message.received --limit 20 --json")]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Events at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
    /// Go on where an earlier list has ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Prints the events.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let (events, cursor) = gather(args).await?;
        let text = if args.json {
            format!("{:#}\n", json!({"events": events, "next_cursor": cursor}))
        } else {
            human(&events, cursor.as_deref())
        };
        Ok(finish(&text, ExitCode::SUCCESS))
    })
}

/// As many as are wanted, over as many pages as that takes.
async fn gather(args: &Args) -> Result<(Vec<Value>, Option<String>), Trouble> {
    let admin = args.instance.client()?;
    let mut pages = Pages::new(&admin, &args.filter, args.cursor.clone());
    let mut events = Vec::new();
    loop {
        let left = args.limit - events.len() as u64;
        if left == 0 {
            break;
        }
        match pages.next(left).await? {
            Some(page) => events.extend(page),
            None => break,
        }
    }
    Ok((events, pages.cursor))
}

fn human(events: &[Value], cursor: Option<&str>) -> String {
    const HEAD: [&str; 9] =
        ["SEQ", "STATE", "ROUTE", "TYPE", "EVENT ID", "RECEIVED", "ATTEMPTS", "WAITS FOR", "LAST ERROR"];
    const FIELDS: [&str; 9] =
        ["seq", "state", "route", "event_type", "event_id", "received_at", "attempts", "waits_for", "last_error"];
    let rows: Vec<[String; 9]> = events.iter().map(|event| FIELDS.map(|name| field(&event[name]))).collect();
    let mut text = if rows.is_empty() { "no events\n".to_owned() } else { table(HEAD, &rows) };
    if let Some(cursor) = cursor {
        text.push_str(&format!("more: --cursor {cursor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_and_says_how_to_go_on() {
        let event = json!({"seq": 7, "state": "dead", "route": "default", "event_type": "message.sent",
            "event_id": null, "received_at": "2026-05-19T23:30:15.038Z", "attempts": 3, "last_error": "refused"});
        let text = human(&[event], Some("7"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("SEQ  STATE  ROUTE"), "{text}");
        assert_eq!(
            lines[1],
            "7    dead   default  message.sent  -         2026-05-19T23:30:15.038Z  3         -          refused"
        );
        assert_eq!(lines[2], "more: --cursor 7");
        assert_eq!(human(&[], None), "no events\n");
    }
}
