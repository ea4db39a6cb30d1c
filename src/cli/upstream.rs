//! `hookward upstream`: how the apps behind a running instance are doing, and the pause of what is delivered to them.

mod change;
mod list;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::admin::{Admin, Trouble};

/// Look at the apps behind a running hookward, stop what is delivered to them, let it go on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: nothing is delivered while the app is migrated; webhooks are stored meanwhile
  hookward upstream pause --route messaging --for 2h --reason \"migration\"
  hookward upstream list
  hookward upstream resume --route messaging")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Pause(change::PauseArgs),
    Resume(change::ResumeArgs),
    Set(change::SetArgs),
}

/// Every route whose events are delivered from the buffer, with its app.
async fn upstreams(admin: &Admin) -> Result<Vec<Value>, Trouble> {
    match admin.get("/api/v1/upstreams").await?["upstreams"].take() {
        Value::Array(upstreams) => Ok(upstreams),
        _ => Err(Trouble::Failed("the answer is no list of upstreams; is that hookward's admin side?".to_owned())),
    }
}

/// Runs the command.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    match args.command {
        Command::List(args) => list::run(&args),
        Command::Pause(args) => change::pause(&args),
        Command::Resume(args) => change::resume(&args),
        Command::Set(args) => change::set(&args),
    }
}
