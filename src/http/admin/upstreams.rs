//! The API on apps: how each is doing, and the pause of what is delivered to it. Every change is logged with who
//! asked for it.
//!
//! A pause belongs to a route, what the app itself asks for to all routes that go there.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::{Value, json};

use super::limits_change::LimitsBody;
use super::reply::Reply;
use super::request::{one_line, read_json};
use super::{AdminState, BufferView};
use crate::buffer::committer::DeskError;
use crate::buffer::pause::Pause;
use crate::client::{AddressView, Addresses};
use crate::clock::{RunMs, rfc3339_ms};
use crate::forward::Standing;
use crate::forward::refusal_watch::Refused;
use crate::forward::scheduler::Limits;
use crate::forward::upstream::{Condition, Upstream};
use crate::metrics::Metrics;
use crate::rejection::Rejection;

/// Longest pause that ends by itself.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// An app as the status shows it.
pub struct UpstreamView {
    /// Routes that go there, and whether their events are stored first.
    pub routes: Vec<(Arc<str>, bool)>,
    /// What knows how it is doing.
    pub upstream: Arc<Upstream>,
}

impl UpstreamView {
    fn measure_addresses(&self, metrics: &Metrics) {
        let addresses = self.upstream.client().addresses();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for route in self.routes.iter().filter_map(|(route, _)| metrics.configured_route(route)) {
            route.upstream_addresses.set(count(addresses.all.len()));
            route.upstream_addresses_set_aside.set(count(addresses.set_aside()));
            route.upstream_look_up_failing.set(i64::from(addresses.look_up_failure.is_some()));
        }
    }
}

/// The body of a pause.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PauseBody {
    reason: Option<String>,
    r#for: Option<String>,
}

impl PauseBody {
    /// For how long, if not until somebody ends it.
    fn length(&self) -> Result<Option<Duration>, Reply> {
        let Some(text) = &self.r#for else { return Ok(None) };
        let length = humantime::parse_duration(text).ok();
        match length.filter(|length| (Duration::from_secs(1)..=PAUSE_MAX).contains(length)) {
            Some(length) => Ok(Some(length)),
            None => Err(Reply::error(422, "for: expected a time from 1s to 30d, such as 2h")),
        }
    }
}

/// The body of a resume.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ResumeBody {
    reason: Option<String>,
}

impl AdminState {
    /// Every app, with the routes that go there.
    pub(super) fn upstream_statuses(&self) -> Vec<Value> {
        let status = |view: &UpstreamView| {
            let routes = || view.routes.iter().map(|(route, _)| route);
            let mut status = self.condition(&view.upstream);
            status["routes"] = routes().map(|route| &**route).collect();
            status["paused"] = routes().filter(|route| self.pause_of(route).is_some()).map(|route| &**route).collect();
            status
        };
        self.upstreams.load().iter().map(status).collect()
    }

    /// Every route whose events are delivered from the buffer, with its app.
    pub(super) fn list_upstreams(&self) -> Result<Reply, Reply> {
        let buffer = self.stored()?;
        let mut routes = buffer.forwarder.lanes();
        routes.sort();
        let upstreams: Vec<Value> = routes.iter().map(|route| self.upstream_of(buffer, route)).collect();
        Ok(Reply::json(200, &json!({"upstreams": upstreams})))
    }

    /// Stops the deliveries of a route, over restarts too.
    pub(super) async fn pause(
        &self,
        route: &str,
        by: &'static str,
        session: &mut ServerSession,
    ) -> Result<Reply, Reply> {
        let body: PauseBody = read_json(session).await?;
        let length = body.length()?;
        let (buffer, route) = self.delivered_route(route)?;
        let until = length.map(|length| self.now().plus(length));
        let pause = Pause { since_unix_ms: self.clock.unix_ms(), until, reason: one_line(body.reason)? };
        // In force even if it cannot be noted: whoever stops deliveries means now.
        buffer.forwarder.pause(&route, pause.clone());
        tracing::warn!(
            by,
            %route,
            reason = pause.reason,
            for_s = length.map(|length| length.as_secs()),
            "deliveries of the route are paused: its webhooks are stored and wait for `hookward upstream resume`"
        );
        self.note(buffer, &route, Some(pause)).await?;
        Ok(Reply::json(202, &self.upstream_of(buffer, &route)))
    }

    /// Lets the deliveries of a route go on: ends its pause, what its app has asked for, and the wait for the next
    /// probe of an app that is down.
    pub(super) async fn resume(
        &self,
        route: &str,
        by: &'static str,
        session: &mut ServerSession,
    ) -> Result<Reply, Reply> {
        let ResumeBody { reason } = read_json(session).await?;
        let (buffer, route) = self.delivered_route(route)?;
        let reason = one_line(reason)?;
        let was = self.upstream_of(buffer, &route);
        buffer.forwarder.resume(&route);
        let (was_paused, was_held) = (!was["paused"].is_null(), !was["held_until"].is_null());
        let state = was["state"].as_str();
        tracing::info!(by, %route, reason, was_paused, was_held, state, "deliveries of the route are to go on now");
        if was_paused {
            self.note(buffer, &route, None).await?;
        }
        Ok(Reply::json(202, &self.upstream_of(buffer, &route)))
    }

    /// Gives the app of a route more or less, until the next start or another configuration of that.
    pub(super) async fn set_limits(
        &self,
        route: &str,
        by: &'static str,
        session: &mut ServerSession,
    ) -> Result<Reply, Reply> {
        let change = read_json::<LimitsBody>(session).await?.change()?;
        let (buffer, route) = self.delivered_route(route)?;
        let no_app = || Reply::error(409, "the route is gone, and there is no top-level upstream");
        let upstream = buffer.forwarder.standing(&route).and_then(|standing| standing.upstream).ok_or_else(no_app)?;
        let Limits { max_concurrency, rate } = upstream.set_limits(change.base, |limits| change.of(limits));
        let (rate, rate_burst) = (rate.map(|bound| bound.rate.to_string()), rate.map(|bound| bound.burst));
        tracing::info!(
            by,
            %route,
            upstream = %upstream.destination(),
            max_concurrency,
            rate = rate.as_deref().unwrap_or("off"),
            rate_burst,
            "the app is given other limits, until a restart or until the configuration changes them"
        );
        Ok(Reply::json(202, &self.upstream_of(buffer, &route)))
    }

    /// Puts into the metrics how each app is doing.
    pub(super) fn measure_upstreams(&self) {
        let now = self.now();
        for view in self.upstreams.load().iter() {
            view.measure_addresses(&self.metrics);
            let Condition { state, concurrency, held_until, .. } = view.upstream.condition(now);
            let held_until_s = held_until.map_or(0, |until| self.unix_ms_at(until) / 1000);
            let stored = view.routes.iter().filter(|(_, is_stored)| *is_stored);
            for (route, _) in stored {
                // During a reload a route may be gone here and not there.
                let Some(metrics) = self.metrics.configured_route(route) else { continue };
                // One of unknown begin is as old as can be.
                let paused_since_s = self.pause_of(route).map_or(0, |pause| (pause.since_unix_ms / 1000).max(1));
                metrics.upstream_state.set(state.code());
                metrics.upstream_held_until_s.set(held_until_s);
                metrics.upstream_paused_since_s.set(paused_since_s);
                metrics.concurrency_limit.set(i64::try_from(concurrency).unwrap_or(i64::MAX));
            }
        }
    }

    fn stored(&self) -> Result<&BufferView, Reply> {
        self.committer()?;
        self.buffer.get().ok_or_else(Reply::not_found)
    }

    /// A route by its name, if there is anything to stop.
    fn delivered_route(&self, route: &str) -> Result<(&BufferView, Arc<str>), Reply> {
        let buffer = self.stored()?;
        match buffer.forwarder.lanes().into_iter().find(|lane| **lane == *route) {
            Some(route) => Ok((buffer, route)),
            None if self.metrics.configured_route(route).is_some() => Err(Reply::error(
                409,
                "nothing of this route is stored (its mode is not ack), so that nothing could wait: its senders get their answer at once",
            )),
            None => Err(Reply::error(404, "no route has this name")),
        }
    }

    /// Notes it over restarts, in a task of its own: nobody may wait for the answer any more.
    async fn note(&self, buffer: &BufferView, route: &Arc<str>, pause: Option<Pause>) -> Result<(), Reply> {
        let (committer, route) = (buffer.committer.clone(), route.clone());
        let noted = tokio::spawn(async move { committer.note_pause(route, pause).await });
        noted.await.unwrap_or(Err(DeskError::Failed)).map_err(|error| {
            Reply::error(503, &format!("{error}: it is done, but a restart would undo it; ask once more"))
        })
    }

    fn pause_of(&self, route: &str) -> Option<Arc<Pause>> {
        self.buffer.get()?.forwarder.standing(route)?.pause
    }

    fn upstream_of(&self, buffer: &BufferView, route: &str) -> Value {
        let Standing { upstream, pause } = buffer.forwarder.standing(route).unwrap_or_default();
        // A route that is gone may have no app.
        let mut shown = upstream.map_or_else(|| json!({"url": null, "state": null}), |app| self.condition(&app));
        shown["route"] = route.into();
        shown["paused"] = pause.map_or(Value::Null, |pause| {
            json!({
                "since": rfc3339_ms(pause.since_unix_ms),
                "until": pause.until.map(|until| self.at(until)),
                "reason": pause.reason,
            })
        });
        shown
    }

    fn condition(&self, upstream: &Upstream) -> Value {
        let now = self.now();
        let condition = upstream.condition(now);
        let probe_at = condition.open_since.and(condition.not_before);
        let problem = match &condition.tls_failure {
            _ if condition.leads_back => Some(Rejection::LoopDetected.reason().to_owned()),
            failure => failure.as_ref().map(ToString::to_string),
        };
        let Addresses { all, look_up_failure } = upstream.client().addresses();
        json!({
            "url": upstream.destination().to_string(),
            "state": condition.state.name(),
            "since": condition.open_since.map(|since| self.at(since.at)),
            "why": condition.open_since.map(|since| since.why),
            "next_probe_at": probe_at.map(|at| self.at(at)),
            "concurrency": condition.concurrency,
            "max_concurrency": condition.limits.max_concurrency,
            "rate": condition.limits.rate.map(|bound| bound.rate.to_string()),
            "rate_burst": condition.limits.rate.map(|bound| bound.burst),
            "limits_from": if condition.limits_are_set { "operator" } else { "configuration" },
            "in_flight": condition.in_flight,
            "held_until": condition.held_until.map(|until| self.at(until)),
            "retry_after_s": condition.held_until.map(|until| until.since(now).as_secs()),
            "refuses": upstream.refused(now).iter().map(|refused| refusal(refused, now)).collect::<Vec<_>>(),
            "addresses": all.iter().map(|view| address(upstream, view)).collect::<Vec<_>>(),
            "look_up": look_up_failure.map(|failure| failure.to_string()),
            "problem": problem,
        })
    }

    /// A running time as the wall clock has it.
    fn at(&self, time: RunMs) -> String {
        rfc3339_ms(self.unix_ms_at(time))
    }

    fn unix_ms_at(&self, time: RunMs) -> i64 {
        self.clock.unix_ms().saturating_add(time.0 - self.now().0)
    }
}

/// A path whose events the app refuses.
fn refusal(refused: &Refused, now: RunMs) -> Value {
    json!({
        "path": String::from_utf8_lossy(&refused.path),
        "status": refused.status,
        "times": refused.times,
        "last_age_s": now.since(refused.last).as_secs(),
        "error": refused.error,
    })
}

/// One of the app's addresses.
fn address(upstream: &Upstream, view: &AddressView) -> Value {
    let AddressView { address, in_flight, idle, set_aside_for } = view;
    let socket = || upstream.destination().to_string();
    json!({
        "address": address.map_or_else(socket, |address| address.to_string()),
        "in_flight": in_flight,
        "idle": idle,
        "set_aside_s": set_aside_for.map(|time| time.as_secs()),
    })
}
