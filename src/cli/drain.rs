//! `hookward drain`: out of service without an end, for the exec hook in front of one.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::admin::{Admin, Trouble, converse};
use super::instance::InstanceArgs;
use super::output::{counted, finish};

/// Time between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Take a running hookward out of service: not ready at once, 503 after shutdown.delay, delivering goes on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
There is no way back but a restart. With --wait: exit 0 once nothing is pending, 1 after --timeout.

Example: as the preStop hook of a container
  lifecycle: { preStop: { exec: { command: [hookward, drain, --wait, --timeout, 20s] } } }")]
pub struct Args {
    /// Wait until every request has been answered and every event delivered
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Asks for the drain, and waits for its end if told to.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    converse(async {
        let admin = args.instance.client()?;
        admin.post("/api/v1/drain", &json!({})).await?;
        if !args.wait {
            return Ok(finish("draining\n", ExitCode::SUCCESS));
        }
        match tokio::time::timeout(args.timeout, drained(&admin)).await {
            Ok(drained) => drained.map(|()| finish("drained\n", ExitCode::SUCCESS)),
            Err(_) => Err(still_there(&admin.get("/api/v1/status").await?, args.timeout)),
        }
    })
}

async fn drained(admin: &Admin) -> Result<(), Trouble> {
    while !is_drained(&admin.get("/api/v1/status").await?) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Nothing comes in any more, nothing is being handled, nothing is to be delivered.
fn is_drained(status: &Value) -> bool {
    status["accepting"] == false
        && status["requests_in_flight"].as_i64().unwrap_or(0) == 0
        && status["buffer"]["pending"].as_u64().unwrap_or(0) == 0
}

fn still_there(status: &Value, timeout: Duration) -> Trouble {
    let pending = status["buffer"]["pending"].as_u64().unwrap_or(0);
    Trouble::Failed(format!(
        "{} still pending after {}; what is left stays in the buffer and is delivered after the next start",
        counted(pending, "event"),
        humantime::format_duration(timeout)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drained_is_closed_idle_and_empty() {
        let status = |accepting, in_flight, buffer| json!({"accepting": accepting, "requests_in_flight": in_flight, "buffer": buffer});
        assert!(is_drained(&status(false, 0, json!({"pending": 0}))));
        assert!(is_drained(&status(false, 0, Value::Null)), "nothing is stored where no route acks");
        assert!(!is_drained(&status(true, 0, json!({"pending": 0}))), "more may come");
        assert!(!is_drained(&status(false, 1, json!({"pending": 0}))), "one is being handled");
        assert!(!is_drained(&status(false, 0, json!({"pending": 1}))));
    }
}
