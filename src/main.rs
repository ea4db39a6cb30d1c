//! The `hookward` binary: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use hookward::cli::Cli;

/// Costs less than the C library's and keeps less after a flood of connections.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
