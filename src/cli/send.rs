//! `hookward send`: plays Telnyx towards a receiver and says whether it answered as it should.

pub mod plan;
pub mod player;
pub mod summary;
pub mod target;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderName, HeaderValue};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use self::plan::{Case, Scenario};
use self::player::{Pace, Player};
use self::summary::{Summary, Tally};
use self::target::Target;
use super::keygen;
use super::output::{FAILED, USAGE, fail, finish};
use super::sample::EventType;
use super::secret_key;
use crate::clock::SystemClock;
use crate::config::Secret;

/// Most events of one run: every latency is kept.
const COUNT_MAX: i64 = 10_000_000;
/// Rates that a schedule can be made of.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

/// Play Telnyx: build, sign and post real-looking events, retry as Telnyx does, and sum up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An answer that is not 2xx, or none in time, is retried with a fresh signature and the next
meta.attempt, three times per URL, then at the failover URL; what is meant to be refused is not.
Latencies count from the scheduled time. Exit code 0 if every answer is what its scenario expects.

Examples:
  hookward send http://127.0.0.1:8080/webhooks --secret-key @test.key
  hookward send http://127.0.0.1:8080/webhooks --secret-key @test.key --scenario mixed --count 1000 --rate 200
  hookward send http://127.0.0.1:8080/ --secret-key @test.key --header 'X-Forwarded-For: 192.76.120.200'")]
pub struct Args {
    /// Where to send to: http:// or https:// with path and query, or unix:/path
    #[arg(value_name = "URL")]
    url: String,
    /// Key to sign with: base64 or hex of the 32-byte seed, or @FILE
    #[arg(long, value_name = "KEY", value_parser = secret_key::argument)]
    secret_key: Secret,
    /// Which events
    #[arg(long, value_name = "TYPE", default_value = "message.received")]
    event: EventType,
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    count: u32,
    /// Events a second, begun at fixed times whatever the receiver does; 0: as fast as possible
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    rate: f64,
    /// Requests under way at once, at most
    #[arg(long, value_name = "C", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// What is sent, and so what must come back
    #[arg(long, value_name = "S", default_value = "ok")]
    scenario: Scenario,
    /// How long an answer may take, connecting included
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Wait before the second attempt; doubles with each further one
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    retry_base: Duration,
    /// Where events go that the first URL did not take
    #[arg(long, value_name = "URL")]
    failover: Option<String>,
    /// Another header on every request; replaces one that is set anyway (repeatable)
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Sends what the flags say and prints the summary.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let prepared = prepare(&args);
    let (player, pace) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => return fail(USAGE, &problem),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("cannot start threads: {error}")),
    };
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    let cases = args.scenario.plan(count, &mut Rng::new());
    let summary = runtime.block_on(play(Arc::new(player), cases, pace));
    let text = if args.json { format!("{:#}\n", summary.json()) } else { summary.text() };
    finish(&text, if summary.is_as_expected() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn prepare(args: &Args) -> Result<(Player, Pace), String> {
    let pace = match args.rate {
        0.0 => Pace::Flood,
        rate if RATES.contains(&rate) => Pace::PerSecond(rate),
        _ => return Err(format!("--rate {}: expected 0, or {} to {}", args.rate, RATES.start(), RATES.end())),
    };
    if args.timeout.is_zero() {
        return Err("--timeout must be more than nothing".to_owned());
    }
    let urls = std::iter::once(&args.url).chain(&args.failover);
    let player = Player {
        targets: urls.map(|url| Target::new(url, args.timeout)).collect::<Result<_, _>>()?,
        key: secret_key::read(&args.secret_key).map_err(|error| error.to_string())?,
        forger: keygen::generate().map_err(|error| format!("the system gives no random bytes: {error}"))?,
        event_type: args.event,
        headers: args.header.iter().map(|line| header(line)).collect::<Result<_, _>>()?,
        retry_base: args.retry_base,
        slots: Arc::new(Semaphore::new(usize::from(args.concurrency))),
        clock: Arc::new(SystemClock::new()),
    };
    Ok((player, pace))
}

/// Reads `Name: value`. The message does not repeat the line, whose value may be a token.
fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("--header: expected 'Name: value'")?;
    let name =
        HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "--header: the name is not a header's name")?;
    let value = HeaderValue::from_str(value.trim())
        .map_err(|_| format!("--header {name}: the value has forbidden characters"))?;
    Ok((name, value))
}

/// Plays all of it and waits until the last event is over.
async fn play(player: Arc<Player>, cases: Vec<Case>, pace: Pace) -> Summary {
    let start = Instant::now();
    let mut tally = Tally::default();
    let (finished, mut results) = mpsc::channel(1024);
    // Holds the sender: the results end when all events have.
    tokio::task::spawn_blocking(move || player.begin_all(cases, pace, &finished));
    while let Some(event) = results.recv().await {
        tally.add(&event);
    }
    tally.close(start.elapsed())
}

#[cfg(test)]
mod tests;
