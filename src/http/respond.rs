//! From a request to its answer: what the ingress decides is answered here, by us or by the app.

use http::{HeaderName, HeaderValue, Method};
use pingora_core::protocols::http::ServerSession;

use super::admin::AdminState;
use super::answer::Answer;
use super::body::SessionBody;
use super::connection::Live;
use super::relay::{Outgoing, Relay, RelayError, Upload, asks_for_upgrade, rejection_of};
use super::request_log::Decided;
use crate::clock::Clock;
use crate::explain::live::Refused;
use crate::forward::headers::for_app;
use crate::forward::upstream::Upstream;
use crate::ingress::{Head, Known, Outcome, Route};
use crate::rejection::Rejection;

/// Most of a path that is logged.
const LOGGED_PATH_BYTES: usize = 200;

/// A request whose header is there.
pub(super) struct Request<'r> {
    /// The configuration that judges it.
    pub(super) live: &'r Live,
    /// For `health_path`.
    pub(super) admin: &'r AdminState,
    /// Durations.
    pub(super) clock: &'r dyn Clock,
    /// Its header.
    pub(super) head: &'r Head<'r>,
}

/// What became of it.
pub(super) struct Response<'r> {
    /// The route it took.
    pub(super) route: Option<&'r Route>,
    /// What was decided.
    pub(super) decided: Decided,
    /// Our own answer, still to be written; `None` where the app's has been.
    pub(super) answer: Option<Answer>,
}

impl<'r> Request<'r> {
    /// Routes it, takes it through the gates, and finds its answer.
    pub(super) async fn respond(&self, body: &mut SessionBody<'_>, known: &mut Known) -> Response<'r> {
        if self.asks_for_health() {
            let answer = Answer::health(self.admin.not_ready(), self.head.id);
            return Response { route: None, decided: Decided::Health, answer: Some(answer) };
        }
        let ingress = &self.live.ingress;
        let (route, outcome) = match ingress.route(self.head) {
            Ok(route) => (Some(route), ingress.accept(route, self.head, body, known).await),
            Err(rejection) => {
                known.path = tracing::enabled!(tracing::Level::DEBUG).then(|| shown(self.head.path()));
                (None, Err(rejection))
            }
        };
        let id = self.head.id;
        let (decided, answer) = match outcome {
            Err(rejection) => {
                known.hint = self.hint(route, rejection, known);
                // A hint is all that it was kept for.
                known.unsigned_body = None;
                (Decided::Refused(rejection), Some(refusal(rejection, route, self.head)))
            }
            Ok(Outcome::Stored(accepted)) => {
                (Decided::of(&accepted), Some(Answer::accepted(&accepted, known.facts.event_id.as_deref(), id)))
            }
            Ok(Outcome::Verified(verified)) => (Decided::Passed(200), Some(Answer::verified(&verified, id))),
            Ok(Outcome::Proxy(verified, upstream)) => {
                let event = verified.event();
                let headers = |attempt| upstream.headers_of(event, attempt, self.clock.unix_ms());
                let outgoing = Outgoing { headers: &headers, upload: Upload::Whole(&event.body), is_repeatable: true };
                let relayed = self.relay(route, &upstream, outgoing, body, known).await;
                if let (Decided::Passed(status), _) = relayed {
                    known.hint = upstream.note_proxied(event, status, self.clock.unix_ms());
                }
                relayed
            }
            Ok(Outcome::Pass(kept, upstream)) => {
                let headers = |_| {
                    let mut headers = for_app(&kept, upstream.address());
                    headers.extend(self.upgrade());
                    headers
                };
                let is_repeatable = self.head.method.is_idempotent();
                let outgoing = Outgoing { headers: &headers, upload: Upload::Streamed, is_repeatable };
                self.relay(route, &upstream, outgoing, body, known).await
            }
        };
        Response { route, decided, answer }
    }

    fn asks_for_health(&self) -> bool {
        let is_get = matches!(*self.head.method, Method::GET | Method::HEAD);
        is_get && self.live.health_path.as_ref().is_some_and(|path| self.head.path() == path.as_bytes())
    }

    /// The two fields that ask the app for another protocol, if the client does.
    fn upgrade(&self) -> Vec<(HeaderName, HeaderValue)> {
        let Some(protocol) = asks_for_upgrade(self.head.headers) else { return Vec::new() };
        vec![(http::header::CONNECTION, HeaderValue::from_static("upgrade")), (http::header::UPGRADE, protocol.clone())]
    }

    /// Sends it on to the app; what became of it, and our own answer where the app gave none, with the reason in `known`.
    async fn relay(
        &self,
        route: Option<&Route>,
        upstream: &Upstream,
        outgoing: Outgoing<'_>,
        body: &mut SessionBody<'_>,
        known: &mut Known,
    ) -> (Decided, Option<Answer>) {
        let begun_us = self.clock.uptime_us();
        let Head { method, target, id: request_id, .. } = *self.head;
        let tunnel_idle = self.live.limits.idle_timeout;
        let relay = Relay { upstream, method, target, outgoing, request_id, tunnel_idle };
        let answered = |session: &mut ServerSession| {
            if self.admin.drain.has_begun() {
                session.set_keepalive(None);
            }
            #[allow(clippy::cast_precision_loss, reason = "for a histogram")]
            let took_s = (self.clock.uptime_us() - begun_us) as f64 / 1e6;
            if let Some(route) = route {
                route.metrics.delivery_duration_s.observe(took_s);
            }
        };
        let rejection = match relay.run(body, answered).await {
            Ok(status) => return (Decided::Passed(status), None),
            Err(RelayError::CutOff(rejection)) => return (Decided::CutOff(rejection), None),
            Err(RelayError::Refused(rejection)) => rejection,
            Err(RelayError::Unanswered(error)) => {
                upstream.note_failure(&error);
                known.hint = Some(error.to_string());
                rejection_of(&error)
            }
        };
        (Decided::Refused(rejection), Some(refusal(rejection, route, self.head)))
    }

    /// What led to a refusal, where more is known than its reason says.
    fn hint(&self, route: Option<&Route>, rejection: Rejection, known: &Known) -> Option<String> {
        let Some(route) = route else { return self.live.ingress.path_hint(self.head) };
        let body = known.unsigned_body.as_deref();
        let refused = Refused { rejection, headers: self.head.headers, body, keys: route.keys() };
        self.live.log.hints.of(refused, self.live.ingress.keys())
    }
}

/// A path for a log line, cut.
fn shown(path: &[u8]) -> String {
    path[..path.len().min(LOGGED_PATH_BYTES)].escape_ascii().to_string()
}

fn refusal(rejection: Rejection, route: Option<&Route>, head: &Head<'_>) -> Answer {
    let allow = (rejection == Rejection::MethodNotAllowed).then(|| route.map(Route::allow)).flatten();
    Answer::refused(rejection, allow, head.id)
}
