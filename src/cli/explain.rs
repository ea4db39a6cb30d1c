//! `hookward explain`: does this captured request verify, and if not, why.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::output::{FAILED, USAGE, fail, finish};
use crate::clock::{Clock as _, SystemClock};
use crate::config::reader::value::parse_duration;
use crate::explain::verdict::{BODY_MAX_BYTES, Capture};
use crate::explain::{Explanation, explain};
use crate::gate::keys::{NamedKey, parse_public_key};
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// Keys that are tried, as many as a route has.
const KEYS_MAX: usize = 8;
/// Header lines that are looked at, as many as `limits.header_count` allows.
const HEADERS_MAX: usize = 100;
/// Widest tolerance.
const TOLERANCE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// What a route takes unless its `max_body` says otherwise.
const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;

/// Say whether a captured request verifies (exit 0) or why it does not (exit 1)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: a request as a hop has noted it down
  hookward explain --public-key \"$TELNYX_PUBLIC_KEY\" --timestamp 1700000000 --signature 'PYq6…BBA==' --body event.json

The first line is the verdict, `verified` or `rejected: <reason>`, as a running hookward would answer.
Save the body byte for byte: an editor's last newline makes another body of it.")]
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
    /// File that holds the body, exactly as it came; - reads it from stdin
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// When it came, Unix seconds [default: now]
    #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..=9_999_999_999))]
    now: Option<i64>,
    /// How old a signature may be
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = tolerance)]
    past: Duration,
    /// How far ahead of the clock it may be
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = tolerance)]
    future: Duration,
    /// Print {"verdict", "reason", "key", "skew_s", "findings", …} instead of lines
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
    let capture = match capture(&args) {
        Ok(capture) => capture,
        Err(problem) => return fail(USAGE, &problem),
    };
    let explanation = explain(&capture);
    let code = if explanation.verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    let text = if args.json { as_json(&explanation, &capture) } else { as_text(&explanation, &capture) };
    finish(&text, code)
}

fn capture(args: &Args) -> Result<Capture, String> {
    Ok(Capture {
        headers: headers(args)?,
        keys: keys(&args.public_key)?,
        body: read_body(&args.body)?,
        past: args.past,
        future: args.future,
        received_unix_ms: args.now.map_or_else(|| SystemClock::new().unix_ms(), |now_s| now_s * 1000),
    })
}

/// Named as `run` names keys of flags.
fn keys(texts: &[String]) -> Result<Vec<NamedKey>, String> {
    let given: Vec<_> = texts.iter().filter(|text| !text.trim().is_empty()).collect();
    if given.is_empty() {
        return Err("--public-key is empty; copy the key from the portal: Keys & Credentials > Public Key".to_owned());
    }
    if given.len() > KEYS_MAX {
        return Err(format!("--public-key is given more than {KEYS_MAX} times; give those that may have signed"));
    }
    let read = |(index, text): (usize, &&String)| {
        let key = parse_public_key(text).map_err(|error| format!("--public-key {error}"))?;
        Ok(NamedKey { name: format!("key{}", index + 1).into(), key })
    };
    given.iter().enumerate().map(read).collect()
}

fn headers(args: &Args) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, flag, text) in
        [(SIGNATURE_HEADER, "--signature", &args.signature), (TIMESTAMP_HEADER, "--timestamp", &args.timestamp)]
    {
        if let Some(text) = text {
            headers.append(name, header_value(flag, text)?);
        }
    }
    if args.header.len() > HEADERS_MAX {
        return Err(format!("--header is given more than {HEADERS_MAX} times, which no request may have"));
    }
    for line in &args.header {
        let wrong = || "--header is not `Name: value`".to_owned();
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        headers.append(name, header_value("--header", value)?);
    }
    Ok(headers)
}

/// A value as an HTTP parser hands it on: without white space around it.
fn header_value(flag: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.trim_ascii().as_bytes()).map_err(|_| {
        format!("{flag} holds a line break or another control character, which no header can; write it on one line")
    })
}

fn read_body(path: &Path) -> Result<Bytes, String> {
    let read = if path == Path::new("-") {
        read_bounded(std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(read_bounded)
    };
    let body = read.map_err(|error| format!("the body cannot be read from {}: {error}", path.display()))?;
    if body.len() > BODY_MAX_BYTES {
        return Err(format!("the body in {} is larger than {BODY_MAX_BYTES} bytes", path.display()));
    }
    Ok(body.into())
}

fn read_bounded(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    source.take(BODY_MAX_BYTES as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}

/// The key and the skew of what was signed, whether or not that is what came.
fn signed(explanation: &Explanation, capture: &Capture) -> (Option<String>, Option<i64>) {
    if let Ok(verified) = &explanation.verdict {
        return (Some(verified.key.to_string()), Some(verified.skew_s));
    }
    let found = explanation.genuine.as_ref();
    let received_s = capture.received_unix_ms.div_euclid(1000);
    let skew_s = found.and_then(|found| found.timestamp_s).map(|signed_s| received_s.saturating_sub(signed_s));
    let refused_skew_s = explanation.verdict.as_ref().err().and_then(|rejection| rejection.skew_s());
    (found.map(|found| found.key.to_string()), refused_skew_s.or(skew_s))
}

fn as_text(explanation: &Explanation, capture: &Capture) -> String {
    let mut text = match &explanation.verdict {
        Ok(_) => "verified\n".to_owned(),
        Err(rejection) => format!("rejected: {}\n", rejection.reason()),
    };
    let mut line = |what: &str, said: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {what:<7} {said}");
    };
    let mut causes = explanation.causes.iter().peekable();
    while let Some(cause) = causes.next() {
        line("found:", cause.found());
        // Said once where several causes have one remedy.
        if causes.peek().is_none_or(|next| next.remedy() != cause.remedy()) {
            line("do:", cause.remedy());
        }
    }
    if let (Err(rejection), []) = (&explanation.verdict, explanation.causes.as_slice()) {
        line("found:", rejection.hint());
    }
    let (key, skew_s) = signed(explanation, capture);
    if let Some(key) = key {
        line("key:", &format!("{key} of {} has signed it", capture.keys.len()));
    }
    if let Some(skew_s) = skew_s {
        line("signed:", &skew_text(skew_s, capture));
    }
    for note in notes(explanation, capture) {
        line("note:", &note);
    }
    text
}

fn skew_text(skew_s: i64, capture: &Capture) -> String {
    let (past_s, future_s) = (capture.past.as_secs(), capture.future.as_secs());
    let (direction, bound_s) = if skew_s < 0 { ("after", future_s) } else { ("before", past_s) };
    format!("{} s {direction} it came; up to {bound_s} s pass", skew_s.unsigned_abs())
}

fn notes(explanation: &Explanation, capture: &Capture) -> Vec<String> {
    let mut notes = Vec::new();
    if explanation.tried > 0 && explanation.genuine.is_none() {
        notes.push(format!("{} messages were tried with {} key(s)", explanation.tried, capture.keys.len()));
    }
    if explanation.too_long_to_search {
        notes.push("the body is too long for known changes of it to be tried".to_owned());
    }
    if capture.body.len() > DEFAULT_MAX_BODY_BYTES {
        notes.push("a route refuses a body of this size as body_too_large unless its max_body is raised".to_owned());
    }
    notes
}

fn as_json(explanation: &Explanation, capture: &Capture) -> String {
    let reason = explanation.verdict.as_ref().err().map(|rejection| rejection.reason());
    let hint = explanation.verdict.as_ref().err().map(|rejection| rejection.hint());
    let findings: Vec<_> = explanation
        .causes
        .iter()
        .map(|cause| json!({"cause": cause.code(), "found": cause.found(), "do": cause.remedy()}))
        .collect();
    let (key, skew_s) = signed(explanation, capture);
    let json = json!({
        "verdict": if reason.is_none() { "verified" } else { "rejected" },
        "reason": reason,
        "hint": hint,
        "findings": findings,
        "key": key,
        "skew_s": skew_s,
        "body_bytes": capture.body.len(),
        "tried": explanation.tried,
        "notes": notes(explanation, capture),
    });
    format!("{json}\n")
}
