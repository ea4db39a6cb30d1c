//! The `hookward` binary: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use hookward::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
