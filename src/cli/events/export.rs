//! `hookward events export`.

use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::filter::{FilterArgs, Pages};
use crate::cli::admin::{Admin, AdminArgs, Trouble, converse, said};
use crate::cli::output::print;

/// Print whole events as JSON lines, newest first: headers, and the body in base64
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line is what `events show --json` prints. Bodies of delivered events are there for as long as
delivery.delivered.keep says.

Example: keep the dead letters of a route
  hookward events export --state dead --route messaging > dead.jsonl")]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Events at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the events as they come.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let admin = args.admin.client()?;
        let mut pages = Pages::new(&admin, &args.filter, None);
        let mut left = args.limit.unwrap_or(u64::MAX);
        while left > 0
            && let Some(page) = pages.next(left).await?
        {
            for event in page {
                let Some(line) = whole(&admin, &event["seq"]).await? else { continue };
                print(&line).map_err(|error| Trouble::Failed(format!("cannot write to stdout: {error}")))?;
                left -= 1;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The event with everything; nothing if it has left the buffer since it was listed.
async fn whole(admin: &Admin, seq: &Value) -> Result<Option<String>, Trouble> {
    let answer = admin.ask(Method::GET, &format!("/api/v1/events/{seq}"), None).await?;
    match answer.status {
        200 => Ok(Some(format!("{}\n", answer.json()))),
        404 => Ok(None),
        status => Err(Trouble::Failed(format!("hookward answered {status}: {}", said(&answer.json())))),
    }
}
