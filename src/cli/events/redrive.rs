//! `hookward events redrive`.

use std::process::ExitCode;

use serde_json::json;

use super::ask_about;
use crate::buffer::redrive::DEFAULT_RATE_PER_S;
use crate::cli::admin::{Admin, Trouble, converse};
use crate::cli::instance::InstanceArgs;
use crate::cli::output::{FAILED, counted, fail, finish};

/// Deliver events again: those that are named, or dead letters, the oldest first
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hookward events redrive [OPTIONS] <SEQ>...\n       hookward events redrive [OPTIONS] --state dead",
    after_help = "\
The delivery id stays, the attempts begin again, and hookward-replay: true goes along. Dead letters are
sent in the background at a bounded rate, one run at a time.

Examples:
  hookward events redrive 4711 4712
  hookward events redrive --state dead --dry-run
  hookward events redrive --state dead --limit 1000 --rate 50"
)]
pub(super) struct Args {
    /// Their numbers in the list; or else --state
    #[arg(value_name = "SEQ", required_unless_present = "state", conflicts_with = "state",
        value_parser = clap::value_parser!(i64).range(1..))]
    seqs: Vec<i64>,
    /// All events that stand so, in the place of numbers
    #[arg(long, value_name = "STATE", value_parser = ["dead"])]
    state: Option<String>,
    /// Events at most [default: all]
    #[arg(long, value_name = "N", requires = "state", conflicts_with = "seqs",
        value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Events a second [default: 10]
    #[arg(long, value_name = "R", requires = "state", conflicts_with = "seqs")]
    rate: Option<f64>,
    /// Only say how many there are
    #[arg(long, requires = "state", conflicts_with = "seqs")]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Asks for it and prints what was begun.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let admin = args.instance.client()?;
        match &args.state {
            Some(state) => many(&admin, args, state).await,
            None => one_by_one(&admin, &args.seqs, "redrive", &json!({}), args.json).await,
        }
    })
}

async fn many(admin: &Admin, args: &Args, state: &str) -> Result<ExitCode, Trouble> {
    let asked = json!({"state": state, "limit": args.limit, "rate_per_s": args.rate, "dry_run": args.dry_run});
    let answer = admin.post("/api/v1/redrive", &asked).await?;
    let matched = answer["matched"].as_u64().unwrap_or(0);
    let text = match (args.json, answer["started"] == true) {
        (true, _) => format!("{answer}\n"),
        (false, true) => format!(
            "redrive of {} started, in the background at up to {} a second; `hookward events list --state dead` shows those to come\n",
            counted(matched, "event"),
            args.rate.unwrap_or(DEFAULT_RATE_PER_S)
        ),
        (false, false) if args.dry_run => format!("{} would be delivered again\n", counted(matched, "event")),
        (false, false) => "no events\n".to_owned(),
    };
    Ok(finish(&text, ExitCode::SUCCESS))
}

/// Changes each of these events; one that cannot be changed does not keep the others from it.
pub(super) async fn one_by_one(
    admin: &Admin,
    seqs: &[i64],
    change: &str,
    body: &serde_json::Value,
    json: bool,
) -> Result<ExitCode, Trouble> {
    let mut code = ExitCode::SUCCESS;
    for seq in seqs {
        match ask_about(admin, &(*seq).into(), Some((change, body))).await {
            Ok(answer) => {
                let state = answer["state"].as_str().unwrap_or_default();
                let text = if json { format!("{answer}\n") } else { format!("{seq} {state}\n") };
                code = finish(&text, code);
            }
            Err(Trouble::NoEvent(why)) => code = fail(FAILED, &why),
            Err(Trouble::Failed(why)) => code = fail(FAILED, &format!("event {seq}: {why}")),
            Err(usage) => return Err(usage),
        }
    }
    Ok(code)
}
