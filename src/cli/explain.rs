//! `hookward explain`: does this captured request verify, and if not, why.

mod given;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::report::Report;
use super::output::{FAILED, USAGE, fail, finish};
use crate::config::reader::value::parse_duration;
use crate::explain::explain_best;

/// Widest tolerance.
const TOLERANCE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Say whether a captured request verifies (exit 0) or why it does not (exit 1)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: a request as a hop has noted it down
  hookward explain --public-key \"$TELNYX_PUBLIC_KEY\" --timestamp 1700000000 --signature 'PYq6…BBA==' --body event.json

Example: a request as a tool has saved it, with its headers
  hookward explain --public-key \"$TELNYX_PUBLIC_KEY\" --body requests.har

The first line is the verdict, `verified` or `rejected: <reason>`, as a running hookward would answer by header,
signature and time: address, route and size do not count for it, nor does an answer that FILE holds.
FILE is the body byte for byte (an editor's last newline makes another body of it), or one of these, with
the body in it: a whole HTTP request, a HAR, an event of API Gateway or an ALB, an export of ngrok or
webhook.site, a JSON object with headers and body, `hookward events export` or `show --json`; as UTF-16,
base64 or a JSON string too. Headers and time of receipt come from there unless flags give them.")]
pub struct Args {
    /// Telnyx's public key, from the portal under Keys & Credentials > Public Key (repeatable)
    #[arg(
        long,
        env = "TELNYX_PUBLIC_KEY",
        value_name = "KEY",
        value_delimiter = ',',
        hide_env_values = true,
        allow_hyphen_values = true,
        required = true
    )]
    public_key: Vec<String>,
    /// Value of the Telnyx-Timestamp header
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    timestamp: Option<String>,
    /// Value of the Telnyx-Signature-Ed25519 header
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    signature: Option<String>,
    /// Another header line of the request, so that near misses are seen (repeatable)
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// File that holds the body exactly as it came, or the request as a tool has saved it; - is stdin
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// When it came, Unix seconds [default: as FILE says, else now]
    #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..=9_999_999_999))]
    now: Option<i64>,
    /// How old a signature may be
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = tolerance)]
    past: Duration,
    /// How far ahead of the clock it may be
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = tolerance)]
    future: Duration,
    /// Print {"verdict", "reason", "key", "skew_s", "findings", "read_as", …} instead of lines
    #[arg(long)]
    json: bool,
}

fn tolerance(text: &str) -> Result<Duration, String> {
    parse_duration(text, &(Duration::from_secs(1)..=TOLERANCE_MAX))
        .map_err(|fault| format!("{}; {}", fault.what, fault.mend))
}

/// Prints the verdict and what was found; ends with 0 if verified, 1 if rejected, 2 where there is
/// nothing to judge.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let given = match given::read(&args) {
        Ok(given) => given,
        Err(problem) => return fail(USAGE, &problem),
    };
    let Some((index, explanation)) = explain_best(&given.candidates) else {
        return fail(USAGE, &"there is no request to judge");
    };
    let is_verified = explanation.verdict.is_ok();
    if let (Some(problem), false) = (given.bodiless(), is_verified) {
        return fail(USAGE, &problem);
    }
    let report = Report {
        explanation: &explanation,
        capture: &given.candidates[index].capture,
        reading: &given.readings.all[index],
        is_time_of_file: args.now.is_none(),
    };
    let code = if is_verified { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    finish(&if args.json { report.json() } else { report.text() }, code)
}
