//! Talking to the admin side of a running hookward: over the socket in its data directory, or over
//! TCP with a token.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::Value;

use super::output::{FAILED, USAGE, fail};
use crate::forward::client::{Client, Destination, ExchangeError, Framing, Over, Timeouts};
use crate::server::ADMIN_SOCKET;

/// A question that takes longer is not answered.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Size of an answer: an event with its body, or a page of a thousand.
const ANSWER_MAX_BYTES: usize = 256 << 20;
/// The token itself, for `--admin`.
const TOKEN_ENV: &str = "HOOKWARD_ADMIN_TOKEN";

/// Where the running hookward is.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Its data directory, where the admin socket is
    #[arg(long, env = "HOOKWARD_DATA_DIR", value_name = "DIR", default_value = "/var/lib/hookward")]
    data_dir: PathBuf,
    /// Ask over TCP instead: the URL of the admin side, http://host:port
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// File with the bearer token for --admin [env: HOOKWARD_ADMIN_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

/// Why a command did not do what it was asked to.
pub(super) enum Trouble {
    /// The command line is wrong.
    Usage(String),
    /// Nothing answers, or the answer is no.
    Failed(String),
}

impl AdminArgs {
    /// Ready to ask; connects to nothing yet.
    pub(super) fn client(&self) -> Result<Admin, Trouble> {
        let (destination, shown) = match &self.admin {
            Some(url) => {
                let url = if url.contains("://") || url.starts_with("unix:") { url } else { &format!("http://{url}") };
                (Destination::parse(url).map_err(|problem| Trouble::Usage(format!("--admin: {problem}")))?, url.clone())
            }
            None => {
                let path = self.data_dir.join(ADMIN_SOCKET);
                let shown = path.display().to_string();
                (Destination::Unix(path), shown)
            }
        };
        let token = if matches!(destination, Destination::Unix(_)) { None } else { self.token()? };
        let timeouts = Timeouts { connect: TIMEOUT, total: TIMEOUT, idle: TIMEOUT };
        let client = Client::new(destination, timeouts).map_err(|error| Trouble::Failed(error.to_string()))?;
        Ok(Admin { client, shown, token })
    }

    fn token(&self) -> Result<Option<HeaderValue>, Trouble> {
        let token = match &self.admin_token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Trouble::Failed(format!("the token's file {}: {error}", path.display())))?,
            None => std::env::var(TOKEN_ENV).unwrap_or_default(),
        };
        let token = token.trim_end_matches(['\r', '\n']);
        if token.is_empty() {
            return Ok(None);
        }
        // The message does not repeat it.
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Trouble::Usage("the admin token has characters that no header may have".to_owned()))?;
        bearer.set_sensitive(true);
        Ok(Some(bearer))
    }
}

/// The admin side of a running hookward.
pub(super) struct Admin {
    client: Client,
    shown: String,
    token: Option<HeaderValue>,
}

/// What it answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Answer {
    /// As JSON; nothing if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Admin {
    /// Asks and takes any answer.
    pub(super) async fn ask(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Answer, Trouble> {
        let asked = tokio::time::timeout(TIMEOUT, self.exchange(method, target, body)).await;
        asked.unwrap_or(Err(ExchangeError::Timeout)).map_err(|error| {
            let shown = &self.shown;
            Trouble::Failed(format!(
                "nothing answers on {shown}: {error}; is hookward running, and is this its data directory or admin address?"
            ))
        })
    }

    /// Asks, and takes any answer but 2xx for a failure.
    pub(super) async fn get(&self, target: &str) -> Result<Value, Trouble> {
        good(&self.ask(Method::GET, target, None).await?)
    }

    /// The same for a change.
    pub(super) async fn post(&self, target: &str, body: &Value) -> Result<Value, Trouble> {
        good(&self.ask(Method::POST, target, Some(body)).await?)
    }

    async fn exchange(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Answer, ExchangeError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        if !body.is_empty() {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        headers.extend(self.token.clone().map(|token| (header::AUTHORIZATION, token)));
        let framing = Framing::Length(body.len() as u64);
        // Every answer of the admin side ends its connection.
        let mut exchange = self.client.begin(Over::Fresh, &method, target.as_bytes(), &headers, framing).await?;
        if !body.is_empty() {
            exchange.send(body.as_bytes()).await?;
        }
        exchange.finish().await?;
        let status = exchange.read_answer().await?.status.as_u16();
        let mut answer = BytesMut::new();
        while let Some(piece) = exchange.read_piece().await? {
            if answer.len() + piece.len() > ANSWER_MAX_BYTES {
                return Err(ExchangeError::Broken);
            }
            answer.extend_from_slice(&piece);
        }
        Ok(Answer { status, body: answer.freeze() })
    }
}

fn good(answer: &Answer) -> Result<Value, Trouble> {
    let json = answer.json();
    match answer.status {
        200..=299 => Ok(json),
        401 => Err(Trouble::Failed(format!(
            "not allowed: {}; give the token with --admin-token-file or {TOKEN_ENV}, or use the socket with --data-dir",
            said(&json)
        ))),
        status => Err(Trouble::Failed(format!("hookward answered {status}: {}", said(&json)))),
    }
}

/// The reason that an answer gives.
pub(super) fn said(json: &Value) -> &str {
    json["error"].as_str().unwrap_or("no reason given")
}

/// Runs a command that talks to the admin side.
pub(super) fn converse(command: impl Future<Output = Result<ExitCode, Trouble>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("no runtime: {error}")),
    };
    match runtime.block_on(command) {
        Ok(code) => code,
        Err(Trouble::Usage(problem)) => fail(USAGE, &problem),
        Err(Trouble::Failed(problem)) => fail(FAILED, &problem),
    }
}
