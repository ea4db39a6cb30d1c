//! `hookward upstream list`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::upstreams;
use crate::cli::admin::converse;
use crate::cli::instance::InstanceArgs;
use crate::cli::output::finish;
use crate::cli::text::{field, table};

/// List the routes whose events are stored and delivered, and how the app of each is doing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
STATE is `closed` where the app is tried, `open` and `half_open` where it is down, `held` where it wants to be
left alone (Retry-After), `paused` where an operator has stopped the route. UNTIL is when the app is tried next.

Example:
  hookward upstream list")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Prints them.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let upstreams = upstreams(&args.instance.client()?).await?;
        let text = match args.json {
            true => format!("{:#}\n", json!({"upstreams": upstreams})),
            false => human(&upstreams),
        };
        Ok(finish(&text, ExitCode::SUCCESS))
    })
}

fn human(upstreams: &[Value]) -> String {
    const HEAD: [&str; 7] = ["ROUTE", "APP", "STATE", "SINCE", "UNTIL", "AT ONCE", "WHY"];
    let row = |upstream: &Value| {
        let [state, since, until, why] = standing(upstream);
        let at_once = match &upstream["concurrency"] {
            Value::Null => "-".to_owned(),
            window => format!("{} of {window}", field(&upstream["in_flight"])),
        };
        let at_once = upstream["rate"].as_str().map(|rate| format!("{at_once}, {rate}")).unwrap_or(at_once);
        [field(&upstream["route"]), field(&upstream["url"]), state, since, until, at_once, why]
    };
    table(HEAD, &upstreams.iter().map(row).collect::<Vec<_>>())
}

/// What keeps its events from going out, if anything: state, since, until, why.
fn standing(upstream: &Value) -> [String; 4] {
    let paused = &upstream["paused"];
    let (state, since, until, why) = if !paused.is_null() {
        (&json!("paused"), &paused["since"], &paused["until"], &paused["reason"])
    } else if upstream["url"].is_null() {
        (&json!("no app"), &Value::Null, &Value::Null, &json!("the route is gone, and there is no top-level upstream"))
    } else if !upstream["held_until"].is_null() {
        (&json!("held"), &Value::Null, &upstream["held_until"], &json!("the app has asked for it (Retry-After)"))
    } else {
        (&upstream["state"], &upstream["since"], &upstream["next_probe_at"], &upstream["why"])
    };
    [state, since, until, why].map(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_says_what_keeps_its_events_from_going_out() {
        let app = |more: Value| {
            let mut app = json!({"route": "a", "url": "http://app:3000", "state": "closed", "in_flight": 1,
                "concurrency": 16, "held_until": null, "paused": null});
            app.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
            app
        };
        let well = app(json!({}));
        let down =
            app(json!({"state": "open", "since": "S", "next_probe_at": "P", "why": "it cannot be connected to"}));
        let held = app(json!({"held_until": "H", "rate": "600/min"}));
        let paused = app(json!({"held_until": "H", "paused": {"since": "T", "until": null, "reason": "migration"}}));
        let text = human(&[well, down, held, paused, json!({"route": "gone", "url": null, "state": null})]);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "ROUTE APP STATE SINCE UNTIL AT ONCE WHY");
        assert_eq!(lines[1], "a http://app:3000 closed - - 1 of 16 -");
        assert_eq!(lines[2], "a http://app:3000 open S P 1 of 16 it cannot be connected to");
        assert_eq!(lines[3], "a http://app:3000 held - H 1 of 16, 600/min the app has asked for it (Retry-After)");
        assert_eq!(lines[4], "a http://app:3000 paused T - 1 of 16 migration");
        assert!(lines[5].starts_with("gone - no app"), "{text}");
    }
}
