//! One admin listener: connection, place, who may ask.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use pingora_core::apps::HttpServerApp;
use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use serde_json::json;
use tokio::time::timeout;

use super::AdminState;
use super::reply::Reply;
use super::request::Call;

/// Total time of one admin request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Who may use the API over this listener.
#[derive(Clone)]
pub enum Access {
    /// Whoever can connect: the socket's mode decides.
    Open,
    /// The bearer of this token.
    Token(String),
    /// Nobody.
    Closed,
}

impl Access {
    /// Lets through who may ask, and says as whom they are logged.
    fn admit(&self, session: &ServerSession) -> Result<&'static str, Reply> {
        let given = session.get_header_bytes(http::header::AUTHORIZATION);
        match self {
            Access::Open => Ok("socket"),
            Access::Token(token) if is_bearer(given, token) => Ok("token"),
            Access::Token(_) => Err(Reply::error(401, "unauthorized")),
            Access::Closed => {
                Err(Reply::error(401, "no admin token is configured; use the socket in the data directory"))
            }
        }
    }
}

/// One admin listener.
#[derive(Clone)]
pub struct AdminApp {
    /// What it shows.
    pub state: Arc<AdminState>,
    /// To whom.
    pub access: Access,
}

/// What everybody may see.
#[derive(Clone, Copy)]
enum Probe {
    Live,
    Ready,
    Metrics,
}

impl AdminApp {
    async fn reply(&self, session: &mut ServerSession) -> Reply {
        let header = session.req_header();
        let method = header.method.clone();
        let target = header.raw_path().to_vec();
        let (path, query) = match target.iter().position(|byte| *byte == b'?') {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (&target[..], &b""[..]),
        };
        match std::str::from_utf8(path).unwrap_or_default() {
            "/livez" => self.probe(Probe::Live, &method),
            "/readyz" => self.probe(Probe::Ready, &method),
            "/metrics" => self.probe(Probe::Metrics, &method),
            path if path.starts_with("/api/") => {
                let served = self.serve(path, query, &method, session).await;
                served.unwrap_or_else(|refusal| refusal)
            }
            _ => Reply::not_found(),
        }
    }

    fn probe(&self, probe: Probe, method: &Method) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Reply::wrong_method("GET, HEAD");
        }
        match probe {
            Probe::Live => Reply::json(200, &json!({"status": "alive"})),
            Probe::Ready => match self.state.not_ready() {
                None => Reply::json(200, &json!({"status": "ready"})),
                Some(reason) => Reply::error(503, reason),
            },
            Probe::Metrics => self.metrics(),
        }
    }

    fn metrics(&self) -> Reply {
        if let Some(buffer) = self.state.buffer.get() {
            self.state.metrics.set_buffer(&buffer.committer.stats().borrow());
        }
        let (now, now_unix_ms) = (self.state.now(), self.state.clock.unix_ms());
        for upstream in self.state.upstreams.load().iter() {
            upstream.measure(&self.state.metrics, now, now_unix_ms);
        }
        self.state.metrics.encode().map_or_else(|_| Reply::error(500, "metrics could not be encoded"), Reply::text)
    }

    /// A call of the API: who asks, for what, how.
    async fn serve(
        &self,
        path: &str,
        query: &[u8],
        method: &Method,
        session: &mut ServerSession,
    ) -> Result<Reply, Reply> {
        let by = self.access.admit(session)?;
        let call = path.strip_prefix("/api/v1/").and_then(Call::find).ok_or_else(Reply::not_found)?;
        call.takes(method)?;
        match call {
            Call::Status => Ok(Reply::json(200, &self.state.status())),
            Call::Events => self.state.events(query).await,
            Call::Event(seq) => self.state.event(seq).await,
            Call::Redrive(seq) => self.state.redrive(seq, by, session).await,
            Call::Discard(seq) => self.state.discard(seq, by, session).await,
            Call::Forget(seq) => self.state.forget(seq, by, session).await,
            Call::RedriveMany => self.state.redrive_many(by, session).await,
            Call::Drain => self.drain(by, session).await,
        }
    }

    /// As a signal would, without the exit. Asked again, nothing changes.
    async fn drain(&self, by: &'static str, session: &mut ServerSession) -> Result<Reply, Reply> {
        super::request::read_json::<Nothing>(session).await?;
        tracing::info!(by, "asked to drain");
        let state = self.state.clone();
        tokio::spawn(async move {
            state.drain.leave(&state.readiness).await;
            state.drain.refuse();
        });
        Ok(Reply::json(202, &json!({"status": "draining"})))
    }
}

/// The body of a call that needs none.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// `Bearer <token>`, compared in a time that does not depend on where they differ.
fn is_bearer(given: &[u8], token: &str) -> bool {
    const SCHEME: &[u8] = b"bearer ";
    let Some((scheme, given)) = given.split_at_checked(SCHEME.len()) else { return false };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return false;
    }
    let token = token.as_bytes();
    let mut different = given.len() ^ token.len();
    for (n, byte) in given.iter().enumerate() {
        different |= usize::from(byte ^ token[n % token.len().max(1)]);
    }
    different == 0 && !token.is_empty()
}

#[async_trait]
impl HttpServerApp for AdminApp {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let serve = async {
            if !matches!(session.read_request().await, Ok(true)) {
                return;
            }
            // One request per connection: scrapes are rare, and nothing is left idle at the end.
            session.set_keepalive(None);
            let reply = self.reply(&mut session).await;
            // A client that has gone has no use for it.
            let _ = reply.write(&mut session).await;
        };
        let _ = timeout(REQUEST_TIMEOUT, serve).await;
        let _ = timeout(REQUEST_TIMEOUT, session.finish()).await;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        assert!(is_bearer(b"Bearer secret", "secret") && is_bearer(b"bearer secret", "secret"));
        for wrong in [
            &b"Bearer secre"[..],
            b"Bearer secret2",
            b"Bearer ",
            b"secret",
            b"Basic secret",
            b"",
            b"Bearer secretsecret",
        ] {
            assert!(!is_bearer(wrong, "secret"));
        }
        assert!(!is_bearer(b"Bearer ", ""));
    }
}
