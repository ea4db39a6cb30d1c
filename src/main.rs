//! The `hookward` binary: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use hookward::cli::Cli;

/// What is freed goes back to the system, also after a flood of slow clients, and musl's allocator in the
/// image would cost a lock per allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
