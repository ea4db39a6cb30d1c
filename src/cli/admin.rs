//! Questions to the admin side of a running hookward, and what is said where no good answer comes.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::instance::{Instance, InstanceArgs, TOKEN_ENV};
use super::output::{FAILED, USAGE, fail};
use crate::client::{Client, Destination, ExchangeError, Framing, Over, Timeouts};
use crate::config::Secret;
use crate::http::answer::REQUEST_ID;

/// A question that takes longer is not answered.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Connecting once more, to learn why it failed.
const WHY_TIMEOUT: Duration = Duration::from_secs(1);
/// Size of an answer: an event with its body, or a page of a thousand.
const ANSWER_MAX_BYTES: usize = 256 << 20;

/// Why a command did not do what it was asked to.
pub(super) enum Trouble {
    /// The command line is wrong.
    Usage(String),
    /// Nothing answers, or the answer is no.
    Failed(String),
    /// Hookward answers that it has no such event.
    NoEvent(String),
}

impl InstanceArgs {
    /// Ready to ask; connects to nothing yet.
    pub(super) fn client(&self) -> Result<Admin, Trouble> {
        let Instance { destination, shown, token } = self.locate()?;
        let token = token.map(|token| bearer(&token)).transpose()?;
        let timeouts = Timeouts { connect: TIMEOUT, total: TIMEOUT, idle: TIMEOUT };
        let client = Client::new(destination, timeouts).map_err(|error| Trouble::Failed(error.to_string()))?;
        Ok(Admin { client, shown, token })
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Trouble> {
    // The message does not repeat it.
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.0))
        .map_err(|_| Trouble::Usage("the admin token has characters that no header may have".to_owned()))?;
    bearer.set_sensitive(true);
    Ok(bearer)
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
    /// Whether a public listener answered, and not the admin side.
    is_public: bool,
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
        let asked = timeout(TIMEOUT, self.exchange(method, target, body)).await;
        let answer = match asked.unwrap_or(Err(ExchangeError::Timeout)) {
            Ok(answer) => answer,
            Err(error) => return Err(self.no_answer(&error).await),
        };
        if answer.is_public {
            return Err(Trouble::Failed(format!(
                "{} is a public listener of hookward, for senders; name its admin side (admin.address, 127.0.0.1:9090 unless set)",
                self.shown
            )));
        }
        Ok(answer)
    }

    /// Says why nothing came back, and what to do.
    async fn no_answer(&self, error: &ExchangeError) -> Trouble {
        const ELSEWHERE: &str = "start hookward, or name its data directory (--data-dir, HOOKWARD_DATA_DIR, or data_dir in the file of --config) or its admin address (--admin)";
        let connected = match (error, self.client.destination()) {
            (ExchangeError::Connect, Destination::Unix(path)) => {
                timeout(WHY_TIMEOUT, UnixStream::connect(path)).await.map(|connected| connected.map(drop))
            }
            (ExchangeError::Connect, Destination::Tcp { host, port, tls: None }) => {
                timeout(WHY_TIMEOUT, TcpStream::connect((host.as_str(), *port)))
                    .await
                    .map(|connected| connected.map(drop))
            }
            _ => Ok(Ok(())),
        };
        let refused = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).err();
        let (why, advice) = match refused.as_ref().map(io::Error::kind) {
            Some(ErrorKind::NotFound) => ("there is no such socket".to_owned(), ELSEWHERE),
            Some(ErrorKind::ConnectionRefused) => ("nobody listens there".to_owned(), ELSEWHERE),
            Some(ErrorKind::WouldBlock) => (
                "it takes no connection at present (its queue is full)".to_owned(),
                "is the process stopped or overloaded?",
            ),
            Some(ErrorKind::PermissionDenied) => (
                "permission denied".to_owned(),
                "run this as the user that hookward runs as, or ask over TCP with --admin and its token",
            ),
            _ => (refused.map_or(error.to_string(), |error| error.to_string()), ELSEWHERE),
        };
        Trouble::Failed(format!("nothing answers on {}: {why}; {advice}", self.shown))
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
        let header = exchange.read_answer().await?;
        let (status, is_public) = (header.status.as_u16(), header.headers.contains_key(REQUEST_ID));
        let mut answer = BytesMut::new();
        while let Some(piece) = exchange.read_piece().await? {
            if answer.len() + piece.len() > ANSWER_MAX_BYTES {
                return Err(ExchangeError::Broken);
            }
            answer.extend_from_slice(&piece);
        }
        Ok(Answer { status, body: answer.freeze(), is_public })
    }
}

/// The answer's JSON; any status but 2xx is a failure.
pub(super) fn good(answer: &Answer) -> Result<Value, Trouble> {
    let json = answer.json();
    Err(Trouble::Failed(match answer.status {
        status if json.is_null() => {
            format!("hookward's admin side is not what answered (status {status}, no JSON); check --admin")
        }
        200..=299 => return Ok(json),
        401 => format!(
            "not allowed: {}; give the token with --admin-token-file or {TOKEN_ENV}, or use the socket with --data-dir",
            said(&json)
        ),
        // The reason says all: where the event stands, or what runs already.
        409 => said(&json).to_owned(),
        status => format!("hookward answered {status}: {}", said(&json)),
    }))
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
        Err(Trouble::Failed(problem) | Trouble::NoEvent(problem)) => fail(FAILED, &problem),
    }
}
