//! `hookward check`: like `nginx -t`, every problem at once.

mod tls;

use std::process::ExitCode;

use serde_json::json;

use super::output::{complain, counted, finish, warn};
use super::{BAD_CONFIG, ConfigArgs};
use crate::config::Route;
use crate::config::reader::problem::Problems;
use crate::config::resolve::Resolved;

/// Check the configuration: every problem at once, each with its place and its mend; and the TLS of https:// upstreams
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hookward check --config hookward.yaml")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print {"ok", "problems", "warnings"} instead of lines
    #[arg(long)]
    json: bool,
}

/// Prints every problem to stderr and ends with 78, or a summary to stdout and 0.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let mut resolved = args.config.resolve();
    if let Ok(Resolved { config, warnings, .. }) = &mut resolved {
        warnings.extend(tls::warnings(config));
    }
    let code = if resolved.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIG) };
    if args.json {
        return finish(&format!("{}\n", as_json(&resolved)), code);
    }
    match resolved {
        Ok(resolved) => {
            for warning in &resolved.warnings {
                warn(warning);
            }
            finish(&format!("configuration ok: {}\n", summary(&resolved)), code)
        }
        Err(problems) => {
            complain(&problems);
            code
        }
    }
}

fn summary(resolved: &Resolved) -> String {
    let config = &resolved.config;
    let plural = |count: usize, what: &str| counted(count as u64, what);
    let keys = config.routes.iter().filter_map(Route::checks).map(|checks| checks.keys.len()).sum();
    format!(
        "{}, {}, {}",
        plural(config.listen.len(), "listener"),
        plural(config.routes.len(), "route"),
        plural(keys, "key")
    )
}

fn as_json(resolved: &Result<Resolved, Problems>) -> serde_json::Value {
    match resolved {
        Ok(resolved) => json!({"ok": true, "problems": [], "warnings": resolved.warnings}),
        Err(problems) => {
            let problems: Vec<_> = problems
                .iter()
                .map(|p| json!({"path": p.path, "line": p.line(), "problem": p.what, "mend": p.mend}))
                .collect();
            json!({"ok": false, "problems": problems, "warnings": []})
        }
    }
}
