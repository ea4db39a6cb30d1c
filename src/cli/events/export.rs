//! `hookward events export`.

use std::process::ExitCode;

use serde_json::Value;

use super::ask_about;
use super::filter::{FilterArgs, Pages};
use crate::cli::admin::{Admin, Trouble, converse};
use crate::cli::instance::InstanceArgs;
use crate::cli::output::{is_reader_gone, print};

/// Print whole events as JSON lines, newest first: headers, and the body in base64
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line is what `events show --json` prints. An event that leaves the state while this runs is left
out. Bodies of delivered events are there for as long as
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
    instance: InstanceArgs,
}

/// Prints the events as they come.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let admin = args.instance.client()?;
        let mut pages = Pages::new(&admin, &args.filter, None);
        let mut left = args.limit.unwrap_or(u64::MAX);
        while left > 0
            && let Some(page) = pages.next(left).await?
        {
            for event in page {
                let Some(event) = whole(&admin, &event["seq"], &args.filter).await? else { continue };
                match print(&format!("{event}\n")) {
                    Ok(()) => left -= 1,
                    Err(error) if is_reader_gone(&error) => return Ok(ExitCode::SUCCESS),
                    Err(error) => return Err(Trouble::Failed(format!("cannot write to stdout: {error}"))),
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The event with everything; nothing if it has left the buffer, or the state that was asked for,
/// since it was listed.
async fn whole(admin: &Admin, seq: &Value, filter: &FilterArgs) -> Result<Option<Value>, Trouble> {
    match ask_about(admin, seq, None).await {
        Ok(event) => Ok(filter.has_state_of(&event).then_some(event)),
        Err(Trouble::NoEvent(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}
