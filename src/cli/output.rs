//! Results to stdout, errors to stderr, and the exit codes that go with them.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// The command did not do what it was asked to.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;

/// Writes a result. Fails where the reader has gone (`| head`), which is for the caller to judge.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a result and ends with `code`; so too where the reader has seen enough and gone.
pub(super) fn finish(text: &str, code: ExitCode) -> ExitCode {
    match print(text) {
        Err(error) if !is_reader_gone(&error) => fail(FAILED, &format!("cannot write to stdout: {error}")),
        _ => code,
    }
}

/// `1 event`, `2 events`.
pub(super) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Whether nobody reads what is written any more, which ends a command quietly.
pub(super) fn is_reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Writes what is wrong and yet no reason to stop.
pub(super) fn warn(warning: &dyn Display) {
    complain(&format_args!("warning: {warning}"));
}

/// Writes to stderr, whether or not anybody reads it.
pub(super) fn complain(problem: &dyn Display) {
    let _ = writeln!(io::stderr(), "{problem}");
}

/// Writes an error and ends with `code`.
pub(super) fn fail(code: u8, problem: &dyn Display) -> ExitCode {
    complain(&format_args!("hookward: {problem}"));
    ExitCode::from(code)
}
