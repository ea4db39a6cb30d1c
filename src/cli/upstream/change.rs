//! `hookward upstream pause`, `resume` and `set`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::upstreams;
use crate::cli::admin::{Admin, Trouble, converse};
use crate::cli::instance::InstanceArgs;
use crate::cli::output::{FAILED, fail, finish};
use crate::cli::text::field;

/// Stop the deliveries of a route, or of all: webhooks are accepted and stored, and wait until a resume
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is under way ends. A pause outlives a restart and a reload; routes that are added later are not paused.

Examples:
  hookward upstream pause
  hookward upstream pause --route messaging --for 2h --reason \"migration\"")]
pub(super) struct PauseArgs {
    /// The time after which it ends by itself, such as 2h [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    length: Option<std::time::Duration>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Let the deliveries of a route go on, or of all: ends a pause, and a wait that the app has asked for
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The app is tried at once: a wait that it has asked for (Retry-After of a 503, or of a 429 to several events) is over,
and an app that is down gets its next probe now. An event that has failed, or was answered 429, still waits for its
own next attempt.

Examples:
  hookward upstream resume
  hookward upstream resume --route messaging")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Give the app of a route more or less from now on, or the app of each: attempts at once, attempts within a time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It lasts until a restart, or until the configuration has other limits for the app. Routes with equal `upstream`
settings have one app, and share what it is given.

Examples:
  hookward upstream set --route messaging --rate 600/min --max-concurrency 4
  hookward upstream set --configured")]
#[group(id = "limits", required = true, multiple = true)]
pub(super) struct SetArgs {
    /// Attempts that may be under way at once
    #[arg(long, value_name = "N", group = "limits")]
    max_concurrency: Option<usize>,
    /// Attempts within a time, 50/s or 600/min, or off
    #[arg(long, value_name = "RATE", group = "limits")]
    rate: Option<String>,
    /// Attempts at once after a rest [default: those of a second]
    #[arg(long, value_name = "N", requires = "rate")]
    rate_burst: Option<u32>,
    /// What the configuration gives it, but for what else is named here
    #[arg(long, group = "limits")]
    configured: bool,
    #[command(flatten)]
    routes: RouteArgs,
}

/// Which routes, and why.
#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// One line for the log and the list
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    routes: RouteArgs,
}

/// Which routes of which hookward.
#[derive(Debug, clap::Args)]
struct RouteArgs {
    /// Only this route [default: every route whose events are stored]
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Asks for it and prints what came of it.
pub(super) fn pause(args: &PauseArgs) -> ExitCode {
    let length = args.length.map(|length| humantime::format_duration(length).to_string());
    args.change.routes.each("pause", &json!({"reason": args.change.reason, "for": length}), standing)
}

/// The same.
pub(super) fn resume(args: &ResumeArgs) -> ExitCode {
    args.change.routes.each("resume", &json!({"reason": args.change.reason}), standing)
}

/// The same.
pub(super) fn set(args: &SetArgs) -> ExitCode {
    let SetArgs { max_concurrency, rate, rate_burst, configured, routes } = args;
    let limits =
        json!({"max_concurrency": max_concurrency, "rate": rate, "rate_burst": rate_burst, "configured": configured});
    routes.each("set", &limits, given)
}

impl RouteArgs {
    /// Changes each of them, and prints what came of it.
    fn each(&self, change: &str, body: &Value, shown: impl Fn(&Value) -> String) -> ExitCode {
        converse(async {
            let admin = self.instance.client()?;
            let mut code = ExitCode::SUCCESS;
            for route in self.routes(&admin).await? {
                // One that cannot be changed does not keep the others from it.
                code = match admin.post(&format!("/api/v1/upstreams/{route}/{change}"), body).await {
                    Ok(upstream) if self.json => finish(&format!("{upstream}\n"), code),
                    Ok(upstream) => finish(&format!("{route} {}\n", shown(&upstream)), code),
                    Err(Trouble::Failed(why)) => fail(FAILED, &format!("route {route}: {why}")),
                    Err(other) => return Err(other),
                };
            }
            Ok(code)
        })
    }

    async fn routes(&self, admin: &Admin) -> Result<Vec<String>, Trouble> {
        match &self.route {
            // Whatever else stands there would be another path.
            Some(name) if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) || name.is_empty() => {
                Err(Trouble::Usage(format!(
                    "--route: {name:?} is no name of a route; `hookward upstream list` has them"
                )))
            }
            Some(name) => Ok(vec![name.clone()]),
            None => Ok(upstreams(admin).await?.iter().map(|upstream| field(&upstream["route"])).collect()),
        }
    }
}

/// What the app is given now.
fn given(upstream: &Value) -> String {
    let at_once = field(&upstream["max_concurrency"]);
    match upstream["rate"].as_str() {
        Some(rate) => format!("at most {at_once} at once, {rate} in bursts of {}", field(&upstream["rate_burst"])),
        None => format!("at most {at_once} at once, at any rate"),
    }
}

/// How it stands now, in a word or two.
fn standing(upstream: &Value) -> String {
    match (&upstream["paused"], upstream["state"].as_str()) {
        (Value::Null, None) => "not paused: the route is gone, and there is no top-level upstream".to_owned(),
        (Value::Null, Some("closed")) => "not paused, and nothing holds its app up".to_owned(),
        (Value::Null, Some(_)) => "not paused: its app is down, and is tried at once".to_owned(),
        (paused, _) if paused["until"].is_null() => "paused".to_owned(),
        (paused, _) => format!("paused until {}", field(&paused["until"])),
    }
}
