//! Results to stdout, errors to stderr, and the exit codes that go with them.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// The command did not do what it was asked to.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;

/// Writes a result. A reader that has gone (`| head`) makes it a failure and not a panic.
pub(super) fn print(text: &str) -> Result<(), std::io::Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a result and ends with `code`.
pub(super) fn finish(text: &str, code: ExitCode) -> ExitCode {
    match print(text) {
        Ok(()) => code,
        Err(error) => fail(FAILED, &format!("cannot write to stdout: {error}")),
    }
}

/// Writes an error and ends with `code`.
pub(super) fn fail(code: u8, problem: &dyn Display) -> ExitCode {
    // Nobody is left to be told if this fails.
    let _ = writeln!(std::io::stderr(), "hookward: {problem}");
    ExitCode::from(code)
}
