//! The `hookward` binary: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use hookward::cli::Cli;

/// Costs less than the C library's and keeps less after a flood of connections.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::from_command_line().run()
}
