//! `hookward health`: the readiness probe of an image without a shell or curl.

use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use super::admin::{Trouble, converse, said};
use super::instance::InstanceArgs;
use super::output::finish;

/// A probe that takes longer is a failed one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Ask a running hookward whether it takes events (exit 0) or not (exit 1)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples: as a Kubernetes exec probe, and from elsewhere
  readinessProbe: { exec: { command: [hookward, health] } }
  hookward health --admin http://10.0.0.7:9090")]
pub struct Args {
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Asks `/readyz`.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    converse(async {
        let admin = args.instance.client()?;
        let answer = tokio::time::timeout(TIMEOUT, admin.ask(Method::GET, "/readyz", None)).await;
        let answer = answer.map_err(|_| Trouble::Failed(format!("no answer within {TIMEOUT:?}")))??;
        match answer.status {
            200 => Ok(finish("ready\n", ExitCode::SUCCESS)),
            _ => Err(Trouble::Failed(format!("not ready: {}", said(&answer.json())))),
        }
    })
}
