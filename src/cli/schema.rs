//! `hookward schema`: what an editor needs to complete and check a configuration file.

use std::process::ExitCode;

use super::output::finish;
use crate::config::reader::schema::{json_schema, markdown_table};
use crate::config::resolve::describe;

/// Print the JSON Schema of the configuration file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: completion in editors with a YAML language server
  hookward schema > hookward.schema.json
  # then, as the first line of hookward.yaml:
  # yaml-language-server: $schema=./hookward.schema.json")]
pub struct Args {
    /// Print the keys as a Markdown table instead
    #[arg(long)]
    markdown: bool,
}

/// Prints the schema of what the reader asks for.
#[allow(clippy::needless_pass_by_value, reason = "every command takes its flags so")]
pub fn run(args: Args) -> ExitCode {
    let records = describe();
    let text = if args.markdown { markdown_table(&records) } else { format!("{:#}\n", json_schema(&records)) };
    finish(&text, ExitCode::SUCCESS)
}
