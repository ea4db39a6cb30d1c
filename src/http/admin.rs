//! The admin side: probes and metrics for everybody, the API for the token's bearer or for whoever
//! may open the socket in the data directory.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use pingora_core::apps::HttpServerApp;
use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::buffer::committer::{Committer, Health};
use crate::buffer::event::State;
use crate::clock::{Clock, RunClock, RunMs, rfc3339_ms};
use crate::forward::upstream::{Condition, Upstream};
use crate::metrics::Metrics;

/// Total time of one admin request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether events are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The buffer is being opened.
    Starting,
    /// They are.
    Ready,
    /// Going down.
    Draining,
}

/// What the admin side shows.
pub struct AdminState {
    /// Where the process stands.
    pub readiness: watch::Sender<Readiness>,
    /// Set once the buffer is open.
    pub buffer: OnceLock<BufferView>,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// For the uptime.
    pub clock: Arc<dyn Clock>,
    /// Apps and their bounds, for the status.
    pub upstreams: ArcSwap<Vec<UpstreamView>>,
    /// The configuration in force, for the status.
    pub configuration: ArcSwap<ConfigurationView>,
}

/// The configuration as the status shows it.
#[derive(Debug, Clone, Default)]
pub struct ConfigurationView {
    /// When the one in force was read, Unix milliseconds.
    pub read_unix_ms: i64,
    /// Why the last reload changed nothing, if it was refused.
    pub refused: Option<String>,
    /// What the last reload could not change, since it takes a restart.
    pub needs_restart: Vec<String>,
}

/// The buffer as the status shows it.
pub struct BufferView {
    /// Its counts.
    pub committer: Committer,
    /// `volume`, `pod` or `process`.
    pub durability: &'static str,
    /// Bound, bytes.
    pub capacity_bytes: u64,
    /// What earlier runs have added up to.
    pub run_base: RunMs,
}

/// An app as the status shows it.
pub struct UpstreamView {
    /// Routes that go there, and whether their events are stored first.
    pub routes: Vec<(Arc<str>, bool)>,
    /// What knows how it is doing.
    pub upstream: Arc<Upstream>,
}

impl UpstreamView {
    fn status(&self, now: RunMs) -> serde_json::Value {
        let routes: Vec<_> = self.routes.iter().map(|(route, _)| &**route).collect();
        let Condition { state, concurrency, held_for } = self.upstream.condition(now);
        json!({
            "routes": routes,
            "state": state.name(),
            "concurrency": concurrency,
            "retry_after_s": held_for.map(|held| held.as_secs()),
        })
    }

    fn measure(&self, metrics: &Metrics, now: RunMs) {
        let Condition { state, concurrency, .. } = self.upstream.condition(now);
        for (route, _) in self.routes.iter().filter(|(_, is_stored)| *is_stored) {
            let route = metrics.route(route);
            route.upstream_state.set(state.code());
            route.concurrency_limit.set(i64::try_from(concurrency).unwrap_or(i64::MAX));
        }
    }
}

impl AdminState {
    /// Why no events are taken, if so.
    pub fn not_ready(&self) -> Option<&'static str> {
        if let Some(buffer) = self.buffer.get()
            && matches!(*buffer.committer.health().borrow(), Health::Failed(_))
        {
            return Some("buffer_failed");
        }
        match *self.readiness.borrow() {
            Readiness::Starting => Some("starting"),
            Readiness::Draining => Some("draining"),
            Readiness::Ready => None,
        }
    }

    fn now(&self) -> RunMs {
        let base = self.buffer.get().map(|buffer| buffer.run_base).unwrap_or_default();
        RunClock { clock: &*self.clock, base }.now()
    }

    fn configuration_status(&self) -> serde_json::Value {
        let configuration = self.configuration.load();
        json!({
            "read_at": rfc3339_ms(configuration.read_unix_ms),
            "reload_refused": configuration.refused,
            "needs_restart": configuration.needs_restart,
        })
    }

    fn status(&self) -> serde_json::Value {
        let not_ready = self.not_ready();
        let buffer = self.buffer.get().map(|view| {
            let stats = *view.committer.stats().borrow();
            let age_s = stats.oldest_pending_unix_ms.map(|ms| (self.clock.unix_ms() - ms).max(0) / 1000);
            json!({
                "engine": "sqlite",
                "durability": view.durability,
                "pending": stats.of(State::Pending),
                "dead": stats.of(State::Dead),
                "bytes": stats.used_bytes,
                "capacity_bytes": view.capacity_bytes,
                "oldest_pending_age_s": age_s,
            })
        });
        let upstreams = self.upstreams.load();
        let now = self.now();
        let upstreams: Vec<_> = upstreams.iter().map(|upstream| upstream.status(now)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.clock.uptime_ms() / 1000,
            "ready": not_ready.is_none(),
            "reason": not_ready,
            "buffer": buffer,
            "upstream": upstreams,
            "config": self.configuration_status(),
        })
    }
}

/// Who may use the API over this listener.
pub enum Access {
    /// Whoever can connect: the socket's mode decides.
    Open,
    /// The bearer of this token.
    Token(String),
    /// Nobody.
    Closed,
}

/// One admin listener.
pub struct AdminApp {
    /// What it shows.
    pub state: Arc<AdminState>,
    /// To whom.
    pub access: Access,
}

struct Reply {
    status: u16,
    content_type: &'static str,
    body: Bytes,
}

impl Reply {
    fn json(status: u16, value: &serde_json::Value) -> Reply {
        Reply { status, content_type: "application/json", body: value.to_string().into() }
    }

    fn error(status: u16, error: &str) -> Reply {
        Reply::json(status, &json!({"error": error}))
    }
}

impl AdminApp {
    fn reply(&self, session: &ServerSession) -> Reply {
        let header = session.req_header();
        let path = header.raw_path().split(|byte| *byte == b'?').next().unwrap_or_default();
        let reply = match path {
            b"/livez" => Reply::json(200, &json!({"status": "alive"})),
            b"/readyz" => match self.state.not_ready() {
                None => Reply::json(200, &json!({"status": "ready"})),
                Some(reason) => Reply::error(503, reason),
            },
            b"/metrics" => self.metrics(),
            _ if path.starts_with(b"/api/") => match self.authorize(session) {
                Ok(()) if path == b"/api/v1/status" => Reply::json(200, &self.state.status()),
                Ok(()) => Reply::error(404, "not_found"),
                Err(refusal) => return refusal,
            },
            _ => Reply::error(404, "not_found"),
        };
        if reply.status != 404 && !matches!(header.method, Method::GET | Method::HEAD) {
            return Reply::error(405, "method_not_allowed");
        }
        reply
    }

    fn authorize(&self, session: &ServerSession) -> Result<(), Reply> {
        let given = session.get_header_bytes(http::header::AUTHORIZATION);
        match &self.access {
            Access::Open => Ok(()),
            Access::Token(token) if is_bearer(given, token) => Ok(()),
            Access::Token(_) => Err(Reply::error(401, "unauthorized")),
            Access::Closed => {
                Err(Reply::error(401, "no admin token is configured; use the socket in the data directory"))
            }
        }
    }

    fn metrics(&self) -> Reply {
        if let Some(buffer) = self.state.buffer.get() {
            self.state.metrics.set_buffer(&buffer.committer.stats().borrow());
        }
        let now = self.state.now();
        self.state.upstreams.load().iter().for_each(|upstream| upstream.measure(&self.state.metrics, now));
        match self.state.metrics.encode() {
            Ok(text) => Reply { status: 200, content_type: "text/plain; version=0.0.4", body: text.into() },
            Err(_) => Reply::error(500, "metrics could not be encoded"),
        }
    }
}

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
            let Reply { status, content_type, body } = self.reply(&session);
            let Ok(mut header) = ResponseHeader::build(status, Some(4)) else { return };
            let head = session.req_header().method == Method::HEAD;
            let written = header.insert_header("content-type", content_type).is_ok()
                && header.insert_header("content-length", body.len()).is_ok()
                && header.insert_header("cache-control", "no-store").is_ok()
                && session.write_response_header(Box::new(header)).await.is_ok();
            if written {
                let body = if head { Bytes::new() } else { body };
                let _ = session.write_response_body(body, true).await;
            }
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
