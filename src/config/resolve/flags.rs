//! The flags of `run` and `check`, with their environment variables.

use std::path::PathBuf;

use super::routes::{MODE_DOC, MODES};
use super::settings::{DURABILITIES, FORMATS, LEVELS};
use super::{UNMATCHED, UNMATCHED_DOC};
use crate::config::reader::value::or;
use crate::gate::allowlist::PRESETS;

/// What stands on the command line or in the environment; beats the file. Texts, so that bad ones
/// are reported together with the file's problems.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Address to listen on, or unix:/path (repeatable) [default: 0.0.0.0:8080]
    #[arg(long, env = "HOOKWARD_LISTEN", value_name = "ADDR", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// The app: http://host:port, https://host:port or unix:/path
    #[arg(long, env = "HOOKWARD_UPSTREAM", value_name = "URL")]
    pub upstream: Option<String>,
    /// Telnyx's public key, from the portal under Keys & Credentials > Public Key (repeatable)
    #[arg(
        long,
        env = "TELNYX_PUBLIC_KEY",
        value_name = "KEY",
        value_delimiter = ',',
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub public_key: Vec<String>,
    /// Who may send.
    #[arg(long, env = "HOOKWARD_IP_ALLOWLIST", value_name = "SPEC", value_delimiter = ',', help = allowlist_help())]
    pub ip_allowlist: Vec<String>,
    /// A proxy that may name the client, in X-Forwarded-For unless client_ip.header says otherwise: a CIDR, or unix (repeatable) [default: nobody]
    #[arg(long, env = "HOOKWARD_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<String>,
    /// Path of the webhooks; a trailing * makes it a prefix (repeatable) [default: /*]
    #[arg(long, env = "HOOKWARD_PATH", value_name = "PATH", value_delimiter = ',')]
    pub path: Vec<String>,
    /// What is done with a webhook.
    #[arg(long, env = "HOOKWARD_MODE", value_name = "MODE", help = one_of(MODE_DOC, &MODES, "ack"))]
    pub mode: Option<String>,
    /// What is done with a request without a route.
    #[arg(long, env = "HOOKWARD_UNMATCHED", value_name = "ACTION", help = one_of(UNMATCHED_DOC, &UNMATCHED, "reject"))]
    pub unmatched: Option<String>,
    /// Address of probes, metrics and the admin API [default: 127.0.0.1:9090]
    #[arg(long, env = "HOOKWARD_ADMIN", value_name = "ADDR")]
    pub admin: Option<String>,
    /// File with the bearer token of the admin API [env: HOOKWARD_ADMIN_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Where the buffer lives [default: /var/lib/hookward]
    #[arg(long, env = "HOOKWARD_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Most that the buffer may take on disk [default: 1GiB]
    #[arg(long, env = "HOOKWARD_BUFFER_MAX_BYTES", value_name = "SIZE")]
    pub buffer_max_bytes: Option<String>,
    /// What the data directory must outlive.
    #[arg(long, env = "HOOKWARD_BUFFER_REQUIRE", value_name = "LEVEL",
        help = one_of("What the data directory must outlive.", &DURABILITIES, "pod"))]
    pub buffer_require: Option<String>,
    /// Shape of a log line.
    #[arg(long, env = "HOOKWARD_LOG_FORMAT", value_name = "FORMAT",
        help = one_of("Shape of a log line.", &FORMATS, "text on a terminal, else json"))]
    pub log_format: Option<String>,
    /// Lowest level that is logged.
    #[arg(long, env = "HOOKWARD_LOG_LEVEL", value_name = "LEVEL", help = one_of("Lowest level that is logged.", &LEVELS, "info"))]
    pub log_level: Option<String>,
}

/// The help of a flag that takes what a key of the file takes.
fn one_of<T>(doc: &str, choices: &[(&'static str, T)], default: &str) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    format!("{} One of {} [default: {default}]", doc.replace('`', ""), or(&names))
}

fn allowlist_help() -> String {
    let presets = PRESETS.map(|preset| preset.name).join(", ");
    format!("Who may send: a preset ({presets}), a CIDR, or off (repeatable) [default: telnyx]")
}

impl Overrides {
    /// The same without empty texts: a variable that is set to nothing is not set.
    pub(super) fn without_empty(&self) -> Overrides {
        let list = |texts: &Vec<String>| {
            texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned).collect()
        };
        let text =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let path = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        Overrides {
            listen: list(&self.listen),
            upstream: text(&self.upstream),
            public_key: list(&self.public_key),
            ip_allowlist: list(&self.ip_allowlist),
            trusted_proxy: list(&self.trusted_proxy),
            path: list(&self.path),
            mode: text(&self.mode),
            unmatched: text(&self.unmatched),
            admin: text(&self.admin),
            admin_token_file: path(&self.admin_token_file),
            data_dir: path(&self.data_dir),
            buffer_max_bytes: text(&self.buffer_max_bytes),
            buffer_require: text(&self.buffer_require),
            log_format: text(&self.log_format),
            log_level: text(&self.log_level),
        }
    }
}
