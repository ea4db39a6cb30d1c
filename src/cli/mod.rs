//! The command line: one file per command.

mod admin;
pub mod check;
pub mod demo;
pub mod drain;
pub mod events;
pub mod explain;
pub mod health;
mod instance;
pub mod keygen;
pub mod notify;
mod output;
pub mod pubkey;
mod reloads;
pub mod run;
pub mod sample;
pub mod schema;
pub mod secret_key;
pub mod send;
pub mod sign;
mod text;
pub mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::files::{FilesRead, Watch};
use crate::config::reader::problem::Problems;
use crate::config::resolve::{Overrides, Resolved, SourceFile, resolve_noting};

/// The configuration is bad; sysexits.h `EX_CONFIG`.
const BAD_CONFIG: u8 = 78;

/// Verifies Telnyx webhooks in front of your app: checks each one, stores it durably, answers
/// within milliseconds, and forwards it for as long as the app takes
#[derive(Debug, Parser)]
#[command(
    name = "hookward",
    version,
    after_help = "\
Example: in front of an app on port 3000
  hookward run --upstream http://127.0.0.1:3000 --public-key \"$TELNYX_PUBLIC_KEY\""
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Schema(schema::Args),
    Keygen(keygen::Args),
    Sign(sign::Args),
    Send(send::Args),
    Explain(explain::Args),
    Pubkey(pubkey::Args),
    Demo(demo::Args),
    Events(events::Args),
    Upstream(upstream::Args),
    Drain(drain::Args),
    Health(health::Args),
}

/// A variable of the environment; one that is set to nothing counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The same command without the variables that are set to nothing, which count as not set: compose
/// writes `${VAR:-}` so, and a Helm value that is left empty.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let without = |arg: Arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg };
    command.mut_args(without).mut_subcommands(without_empty_variables)
}

impl Cli {
    /// Reads the command line; ends the process with help or with wrong usage (2) where that is asked for.
    pub fn from_command_line() -> Cli {
        let matches = without_empty_variables(Cli::command()).get_matches();
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command. Exit codes: 0 done, 1 failed, 2 wrong usage (clap's), 78 bad
    /// configuration.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run(args) => run::run(args),
            Command::Check(args) => check::run(args),
            Command::Schema(args) => schema::run(args),
            Command::Keygen(args) => keygen::run(args),
            Command::Sign(args) => sign::run(args),
            Command::Send(args) => send::run(args),
            Command::Explain(args) => explain::run(args),
            Command::Pubkey(args) => pubkey::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Events(args) => events::run(args),
            Command::Upstream(args) => upstream::run(args),
            Command::Drain(args) => drain::run(args),
            Command::Health(args) => health::run(args),
        }
    }
}

/// Where a configuration comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file (YAML)
    #[arg(long, env = "HOOKWARD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

impl ConfigArgs {
    /// The configuration that file, environment and flags make.
    fn resolve(&self) -> Result<Resolved, Problems> {
        self.resolve_noting(&FilesRead::default())
    }

    /// The same, and the files to watch for a change, whether or not it is any good.
    fn resolve_and_watch(&self) -> (Result<Resolved, Problems>, Watch) {
        let files = FilesRead::default();
        let resolved = self.resolve_noting(&files);
        (resolved, files.into_watch())
    }

    fn resolve_noting(&self, files: &FilesRead) -> Result<Resolved, Problems> {
        let file = match self.config.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Some(SourceFile::read(path, files)?),
            None => None,
        };
        resolve_noting(file.as_ref(), &self.overrides, &variable, files)
    }
}
