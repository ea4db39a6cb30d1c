//! `hookward events`: looks at and repairs the buffer of a running instance.

mod discard;
mod export;
mod filter;
mod forget;
mod list;
mod redrive;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::admin::{Admin, Answer, Trouble, good, said};

/// Look at the events of a running hookward, deliver them again, throw them away, let a repeat through
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: what the app did not take, why, and once more after it is repaired
  hookward events list --state dead
  hookward events show 4711
  hookward events redrive --state dead --rate 50")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Redrive(redrive::Args),
    Discard(discard::Args),
    Forget(forget::Args),
    Export(export::Args),
}

/// Asks for one event, or with `change` for a change of it.
async fn ask_about(admin: &Admin, seq: &Value, change: Option<(&str, &Value)>) -> Result<Value, Trouble> {
    let path = format!("/api/v1/events/{seq}");
    let answer = match change {
        None => admin.ask(Method::GET, &path, None).await?,
        Some((change, body)) => admin.ask(Method::POST, &format!("{path}/{change}"), Some(body)).await?,
    };
    told_of(seq, &answer)
}

/// What hookward answers about this event.
fn told_of(seq: &Value, answer: &Answer) -> Result<Value, Trouble> {
    if answer.status == 404 && said(&answer.json()) == "not_found" {
        return Err(Trouble::NoEvent(format!(
            "no event has the number {seq}: none was ever stored under it, or it has left the buffer; `hookward events list` has the numbers"
        )));
    }
    good(answer)
}

/// Runs the command.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    match args.command {
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Redrive(args) => redrive::run(&args),
        Command::Discard(args) => discard::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Export(args) => export::run(&args),
    }
}
