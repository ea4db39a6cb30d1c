//! `hookward health`: the readiness probe of an image without a shell or curl.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use super::output::{FAILED, fail, finish};
use crate::forward::client::{Client, Destination, Timeouts};
use crate::server::ADMIN_SOCKET;

/// A probe that takes longer is a failed one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Ask a running hookward whether it takes events (exit 0) or not (exit 1)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: as a Kubernetes exec probe
  readinessProbe: { exec: { command: [hookward, health] } }")]
pub struct Args {
    /// Its data directory, where the admin socket is
    #[arg(long, env = "HOOKWARD_DATA_DIR", value_name = "DIR", default_value = "/var/lib/hookward")]
    data_dir: PathBuf,
    /// Ask over TCP instead: the address of the admin side
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
}

/// Asks `/readyz`.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("no runtime: {error}")),
    };
    match runtime.block_on(ask(&args)) {
        Ok(()) => finish("ready\n", ExitCode::SUCCESS),
        Err(why) => fail(FAILED, &why),
    }
}

async fn ask(args: &Args) -> Result<(), String> {
    let (destination, shown) = match &args.admin {
        Some(address) => (Destination::parse(&format!("http://{address}"))?, address.clone()),
        None => {
            let path = args.data_dir.join(ADMIN_SOCKET);
            (Destination::Unix(path.clone()), path.display().to_string())
        }
    };
    let timeouts = Timeouts { connect: TIMEOUT, total: TIMEOUT, idle: TIMEOUT };
    let client = Client::new(destination, timeouts).map_err(|error| error.to_string())?;
    let reply = client
        .exchange(&Method::GET, b"/readyz", &[], b"")
        .await
        .map_err(|error| format!("no answer from {shown}: {error}; is hookward running?"))?;
    if reply.status == 200 {
        return Ok(());
    }
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    Err(format!("not ready: {}", body["error"].as_str().unwrap_or("no reason given")))
}
