//! `hookward events discard`.

use std::process::ExitCode;

use serde_json::json;

use super::redrive::one_by_one;
use crate::cli::admin::converse;
use crate::cli::instance::InstanceArgs;

/// Throw events away: they are never delivered, and their bodies are deleted
#[derive(Debug, clap::Args)]
#[command(after_help = "\
There is no way back: export what may be needed. The reason goes to hookward's log, and the events are
counted in hookward_events_discarded_total. An attempt that is under way may still reach the app.

Example:
  hookward events discard 4711 --reason 'test message, ticket 815'")]
pub(super) struct Args {
    /// Their numbers in the list
    #[arg(value_name = "SEQ", required = true, value_parser = clap::value_parser!(i64).range(1..))]
    seqs: Vec<i64>,
    /// Why, for the log; one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Discards each of them.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let admin = args.instance.client()?;
        one_by_one(&admin, &args.seqs, "discard", &json!({"reason": args.reason}), args.json).await
    })
}
