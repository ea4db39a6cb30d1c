//! `hookward demo`: an app, hookward in front of it, and genuine and forged traffic through both,
//! in one process that leaves nothing behind.

mod scratch;
mod setup;
mod sink;
mod tour;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use self::scratch::Scratch;
use self::sink::Sink;
use self::tour::Tour;
use super::keygen;
use super::output::{FAILED, fail, is_reader_gone, print};
use crate::client::ClientError;
use crate::clock::SystemClock;
use crate::config::ListenAddress;
use crate::config::reader::problem::Problems;
use crate::server::{Passed, Server, ServerError};

/// Show hookward at work: an app, hookward in front of it, genuine and forged traffic
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything listens on loopback only, and the data are deleted at the end.

Examples:
  hookward demo          shows what happens and stays up, to be tried by hand
  hookward demo --once   ends at once; exit code 0 if everything was as expected")]
pub struct Args {
    /// End after the tour instead of staying up
    #[arg(long)]
    once: bool,
    /// Port of the public side on 127.0.0.1; 0: any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    public_port: u16,
}

/// An address that Telnyx sends from. The demo's traffic claims to come from it.
const TELNYX_ADDRESS: &str = "192.76.120.200";

#[derive(Debug, Error)]
enum DemoError {
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("hookward has no public address")]
    NoAddress,
    #[error("{0}")]
    Config(#[from] Problems),
    #[error("interrupted")]
    Interrupted,
}

/// Runs the tour and prints what happened.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("cannot start threads: {error}")),
    };
    match runtime.block_on(demonstrate(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail(FAILED, &"not everything was as expected"),
        Err(DemoError::System(error)) if is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

/// Starts app and sidecar, runs the tour, takes both down. True if all was as expected.
async fn demonstrate(args: &Args) -> Result<bool, DemoError> {
    // Declared first, so deleted last, after everything that writes into it has ended.
    let scratch = Scratch::create()?;
    let key = keygen::generate()?;
    scratch.write_secret(setup::SECRET_KEY_FILE, STANDARD.encode(key.as_bytes()).as_bytes())?;
    let sink = Sink::start().await?;
    let data_dir = scratch.directory("data")?;
    let resolved = setup::config(&data_dir, args.public_port, sink.address(), key.verifying_key())?;
    let server = Server::start(resolved.config, Passed::default(), Arc::new(SystemClock::new())).await?;
    let Some(&ListenAddress::Tcp(public)) = server.listen().first() else { return Err(DemoError::NoAddress) };
    let admin = server.admin();

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server.run_until(async {
        let _ = stopped.await;
    });
    let showing = async {
        let result = show(args, &scratch, &sink, Tour::new(public, key)?, public, admin).await;
        // Fails only if hookward has ended by itself, which its own result tells.
        let _ = stop.send(());
        result
    };
    let (served, shown) = tokio::join!(serving, showing);
    served?;
    shown
}

async fn show(
    args: &Args,
    scratch: &Scratch,
    sink: &Sink,
    tour: Tour,
    public: SocketAddr,
    admin: SocketAddr,
) -> Result<bool, DemoError> {
    print(&format!("app       http://{}\nhookward  http://{public}\nadmin     http://{admin}\n\n", sink.address()))?;
    let report = tokio::select! {
        report = tour.walk(sink) => report,
        interrupted = interrupted() => return interrupted.and(Err(DemoError::Interrupted)),
    };
    print(&report.text())?;
    if args.once {
        return Ok(report.is_as_expected());
    }
    print(&invitation(public, admin, &scratch.path().join(setup::SECRET_KEY_FILE)))?;
    tokio::select! {
        told = sink.tell_arrivals(|line| print(&format!("app: {line}\n"))) => told?,
        stopped = interrupted() => stopped?,
    }
    print("\n")?;
    Ok(report.is_as_expected())
}

fn invitation(public: SocketAddr, admin: SocketAddr, key: &Path) -> String {
    let from = format!("'X-Forwarded-For: {TELNYX_ADDRESS}'");
    format!(
        "\nStill up; to try it from another terminal:\n  \
         hookward send http://{public}/webhooks --secret-key @{} --header {from} --scenario mixed --count 20\n  \
         curl -i http://{public}/webhooks -H {from} -H 'Content-Type: application/json' -d '{{}}'\n  \
         curl http://{admin}/metrics\n\nCtrl-C ends it.\n\n",
        key.display()
    )
}

/// Completes on SIGINT or SIGTERM.
async fn interrupted() -> Result<(), DemoError> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invitation_names_the_addresses_and_the_key_but_not_the_key_itself() {
        let text =
            invitation("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), Path::new("/tmp/x/secret.key"));
        assert!(text.contains("hookward send http://127.0.0.1:1/webhooks --secret-key @/tmp/x/secret.key"));
        assert!(text.contains("http://127.0.0.1:2/metrics"));
        assert!(text.contains("-d '{}'"));
    }
}
