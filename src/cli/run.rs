//! `hookward run`: the sidecar.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{FAILED, complain, fail, print};
use super::reloads::Reloads;
use super::{BAD_CONFIG, ConfigArgs, notify};
use crate::config::Config;
use crate::config::files::Watch;
use crate::faults;
use crate::logging;
use crate::server::{Passed, Server, ServerError};

/// Time for what the log still has to say at the end; stderr may take nothing.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Run the sidecar: verify, store, answer, forward
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: in front of an app on port 3000, with a volume for the events
  hookward run --upstream http://127.0.0.1:3000 --public-key \"$TELNYX_PUBLIC_KEY\" --data-dir /data

Signals: SIGTERM and SIGINT drain and end with 0, a second one ends at once with 1; those within 200 ms
count as one. SIGHUP reads the configuration again, as does a change of its files.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs until a signal: 0 after a drain, 1 on failure, 78 on a bad configuration.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let (resolved, watch) = args.config.resolve_and_watch();
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(problems) => {
            complain(&problems);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if let Err(error) = logging::init(resolved.config.log.format, resolved.config.log.level) {
        return fail(FAILED, &format!("no thread for the log: {error}"));
    }
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let ended = run_with(resolved.config, args.config, watch);
    let code = match ended {
        Ok(Ended::Drained | Ended::BeforeReady) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => {
            last_word("ended at once by a second signal; what is pending is delivered after the next start")
        }
        Err(error) => last_word(&error.to_string()),
    };
    logging::flush(LAST_LINES_WITHIN);
    code
}

/// Says why the process fails. Queued like every line: stderr may take nothing.
fn last_word(problem: &str) -> ExitCode {
    logging::write_last(&format!("hookward: {problem}\n"));
    ExitCode::from(FAILED)
}

fn run_with(config: Config, args: ConfigArgs, watch: Watch) -> Result<Ended, ServerError> {
    let passed = Passed::from_env()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .thread_name("hookward")
        .enable_all()
        .build()
        .map_err(|error| ServerError::Internal(format!("no threads: {error}")))?;
    let ended = runtime.block_on(serve(config, passed, args, watch));
    // What still runs is not worth waiting for: everything that counts is on disk.
    runtime.shutdown_background();
    ended
}

/// Signals within this time are one: `timeout`, process groups and supervisors send the same wish twice.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

enum Ended {
    Drained,
    /// Nothing had been taken yet, so that nothing was to be done.
    BeforeReady,
    AtOnce,
}

async fn serve(config: Config, passed: Passed, args: ConfigArgs, watch: Watch) -> Result<Ended, ServerError> {
    let mut signals = Signals::install()?;
    // From here on it ends nothing, as it would if nobody took it.
    let hup = install(SignalKind::hangup())?;
    // Nor does this one, at a limit on the size of files: the write fails, as on a failing disk.
    let _too_large = install(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let server = tokio::select! {
        server = Server::start(config, passed, Arc::new(faults::clock())) => server?,
        () = signals.stop() => return Ok(Ended::BeforeReady),
    };
    let reloads = Reloads::new(args, watch, server.reloader());
    let listen: Vec<String> = server.listen().iter().map(ToString::to_string).collect();
    let ready = format!("ready listen={} admin={}\n", listen.join(","), server.admin());
    // Nobody may be reading; that is no reason not to serve. Nothing waits for it: stdout may take nothing.
    tokio::task::spawn_blocking(move || print(&ready));
    notify::ready();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let running = server.run_until(async {
        let _ = begun.await;
    });
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended.map(|()| Ended::Drained),
        () = signals.stop() => {}
        () = reloads.run(hup) => {}
    }
    notify::stopping();
    let _ = begin.send(());
    tokio::select! {
        ended = &mut running => ended.map(|()| Ended::Drained),
        () = signals.stop_again() => Ok(Ended::AtOnce),
    }
}

fn install(kind: SignalKind) -> Result<Signal, ServerError> {
    signal(kind).map_err(|error| ServerError::Internal(format!("no signal handler: {error}")))
}

/// The signals that end the process.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn install() -> Result<Signals, ServerError> {
        Ok(Signals { term: install(SignalKind::terminate())?, int: install(SignalKind::interrupt())? })
    }

    /// Waits for a signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Waits for a second signal to stop, beginning at the first.
    async fn stop_again(&mut self) {
        let same = tokio::time::sleep(SAME_SIGNAL);
        tokio::pin!(same);
        loop {
            tokio::select! {
                // In this order one that came in time counts so, however late this task runs.
                biased;
                () = self.stop() => {}
                () = &mut same => break,
            }
        }
        self.stop().await;
    }
}
