//! One request of an admin listener: its place, and who may ask.

use std::sync::Arc;

use http::Method;
use pingora_core::protocols::http::ServerSession;
use serde_json::json;

use super::AdminState;
use super::connections::Connections;
use super::encoding::Coding;
use super::reply::{Allowed, Reply};
use super::request::Call;
use super::token::{AdminToken, NotAdmitted};
use crate::http::lingering::Lingering;
use crate::logging;

/// Who may use the API over this listener.
#[derive(Clone)]
pub enum Access {
    /// Whoever can connect: the socket's mode decides.
    Open,
    /// The bearer of the token.
    Bearer(Arc<AdminToken>),
}

impl Access {
    /// Lets through who may ask, and says as whom they are logged.
    fn admit(&self, session: &ServerSession) -> Result<&'static str, Reply> {
        let Access::Bearer(token) = self else { return Ok("socket") };
        match token.admit(session.get_header_bytes(http::header::AUTHORIZATION)) {
            Ok(()) => Ok("token"),
            Err(NotAdmitted::WrongToken) => Err(Reply::error(401, "unauthorized")),
            Err(NotAdmitted::NoToken) => {
                Err(Reply::error(401, "no admin token is configured; use the socket in the data directory"))
            }
        }
    }
}

/// One admin listener.
#[derive(Clone)]
pub struct AdminApp {
    pub(super) state: Arc<AdminState>,
    access: Access,
    pub(super) connections: Arc<Connections>,
    pub(super) lingering: Arc<Lingering>,
}

impl AdminApp {
    /// Shows the state; who may do more than look is up to `access`.
    pub fn new(state: Arc<AdminState>, access: Access) -> AdminApp {
        let connections = Connections::new(state.metrics.clone());
        let lingering = Arc::new(Lingering::new(state.metrics.refusals_cut.clone()));
        AdminApp { state, access, connections, lingering }
    }

    /// The reply to a request whose header is there.
    pub(super) async fn reply(&self, session: &mut ServerSession) -> Reply {
        let header = session.req_header();
        let method = header.method.clone();
        let target = header.raw_path().to_vec();
        let (path, query) = match target.iter().position(|byte| *byte == b'?') {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (&target[..], &b""[..]),
        };
        match std::str::from_utf8(path).unwrap_or_default() {
            "/livez" | "/readyz" | "/metrics" if !matches!(method, Method::GET | Method::HEAD) => {
                Reply::wrong_method(Allowed::Look)
            }
            "/livez" => Reply::json(200, &json!({"status": "alive"})),
            "/readyz" => match self.state.not_ready() {
                None => Reply::json(200, &json!({"status": "ready"})),
                Some(reason) => Reply::error(503, reason),
            },
            "/metrics" => self.metrics(session).await,
            path if path.starts_with("/api/") => {
                let served = self.serve(path, query, &method, session).await;
                served.unwrap_or_else(|refusal| refusal)
            }
            _ => Reply::not_found(),
        }
    }

    async fn metrics(&self, session: &ServerSession) -> Reply {
        if let Some(buffer) = self.state.buffer.get() {
            self.state.metrics.set_buffer(&buffer.committer.stats().borrow());
        }
        self.state.metrics.set_log(logging::lines_dropped());
        self.state.measure_upstreams();
        let accepted = session.req_header().headers.get_all(http::header::ACCEPT_ENCODING);
        let coding = Coding::preferred(accepted.iter().map(http::HeaderValue::as_bytes));
        let metrics = self.state.metrics.clone();
        // Megabytes with hundreds of routes: no worker is held up by them.
        let encoded = tokio::task::spawn_blocking(move || coding.encode(|out| metrics.write_to(out)));
        match encoded.await {
            Ok(Ok(text)) => Reply::metrics(text, coding),
            _ => Reply::error(500, "metrics could not be encoded"),
        }
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
            Call::Upstreams => self.state.list_upstreams(),
            Call::Pause(route) => self.state.pause(route, by, session).await,
            Call::Resume(route) => self.state.resume(route, by, session).await,
            Call::SetLimits(route) => self.state.set_limits(route, by, session).await,
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
