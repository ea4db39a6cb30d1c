//! From a configuration to what serves requests: made anew by every reload.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use super::upstreams::Upstreams;
use crate::buffer::committer::Committer;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::forward::upstream::Upstream;
use crate::gate::forgers::Forgers;
use crate::gate::hops::Pseudonym;
use crate::gate::identity::{DedupeScope, Identity};
use crate::gate::signature::Verifier;
use crate::http::body_memory::BodyLimits;
use crate::http::connection::Live;
use crate::http::request_log::RequestLog;
use crate::ingress::{End, ForgeryLimit, Gates, Handling, Ingress, Route};
use crate::metrics::{Metrics, NO_ROUTE, RouteLabels};
use crate::router::PathPattern;

/// A configuration that needs what this process has not been started with.
#[derive(Debug, Error)]
pub(super) enum AssembleError {
    /// No buffer is open.
    #[error("the route {route} is the first of mode ack, which needs the buffer: restart to open it")]
    NoBuffer {
        /// The route.
        route: Arc<str>,
    },
    /// Cannot be: every upstream of the configuration has been made before.
    #[error("the upstream of the route {route} is missing")]
    NoUpstream {
        /// The route.
        route: Arc<str>,
    },
}

/// What every configuration of a process shares.
pub(super) struct Assembly {
    /// The buffer, if it is open.
    pub(super) committer: Option<Committer>,
    /// Counts.
    pub(super) metrics: Arc<Metrics>,
    /// Time.
    pub(super) clock: Arc<dyn Clock>,
    /// Clients whose signatures fail.
    pub(super) forgers: Arc<Forgers>,
    /// The name of this instance among the hops of a request, over reloads too.
    pub(super) pseudonym: Pseudonym,
    /// True once everything is refused.
    pub(super) draining: Arc<AtomicBool>,
}

impl Assembly {
    /// Makes what serves requests. Metrics of a configuration that is refused are not touched.
    pub(super) fn live(&self, config: &Config, upstreams: &Upstreams) -> Result<Live, AssembleError> {
        let handlings: Vec<_> =
            config.routes.iter().map(|route| self.handling(route, upstreams)).collect::<Result<_, _>>()?;
        self.metrics.set_routes(&labels(config));
        let mut routes = Vec::new();
        for (route, handling) in config.routes.iter().zip(handlings) {
            let metrics = self.metrics.route(&route.name);
            let (name, methods) = (route.name.clone(), route.methods.clone());
            routes.push((route.path.clone(), Route { name, methods, handling, metrics }));
        }
        // The last resort: nothing else takes what it takes.
        if let Some(upstream) = config.unmatched.as_ref().and_then(|settings| upstreams.find(settings)) {
            routes.push((PathPattern::Prefix(String::new()), self.unmatched(upstream)));
        }
        let forgery = ForgeryLimit {
            forgers: self.forgers.clone(),
            per_s: config.limits.failed_signatures_per_client,
            checked_in_turn: self.metrics.signature_checks_in_turn.clone(),
        };
        Ok(Live {
            ingress: Ingress::new(
                routes,
                config.trusted_proxies.clone(),
                forgery,
                self.pseudonym.clone(),
                self.clock.clone(),
                self.draining.clone(),
            ),
            limits: config.limits.clone(),
            health_path: config.health_path.clone(),
            log: RequestLog::new(config.log.accepted_per_s, config.log.client_ip, self.clock.clone()),
        })
    }

    fn handling(&self, route: &config::Route, upstreams: &Upstreams) -> Result<Handling, AssembleError> {
        let upstream = |settings: &config::Upstream| {
            upstreams.find(settings).ok_or_else(|| AssembleError::NoUpstream { route: route.name.clone() })
        };
        Ok(match &route.handling {
            config::Handling::Passed(settings) => Handling::Passed(upstream(settings)?),
            config::Handling::Verified(checks, end) => {
                let end = match end {
                    config::End::Verify => End::Verify,
                    config::End::Proxy(settings) => End::Proxy(upstream(settings)?),
                    config::End::Ack { .. } => match &self.committer {
                        Some(committer) => End::Ack(committer.clone()),
                        None => return Err(AssembleError::NoBuffer { route: route.name.clone() }),
                    },
                };
                Handling::Verified(Box::new(gates(checks, route.ack().and_then(|(_, dedupe)| dedupe))), end)
            }
        })
    }

    fn unmatched(&self, upstream: Arc<Upstream>) -> Route {
        let metrics = self.metrics.no_route().clone();
        Route { name: NO_ROUTE.into(), methods: None, handling: Handling::Passed(upstream), metrics }
    }
}

/// Bounds of the memory for bodies.
pub(super) fn body_limits(config: &Config) -> BodyLimits {
    let largest = config.routes.iter().filter_map(config::Route::checks).map(|checks| checks.max_body_bytes).max();
    BodyLimits {
        all_bytes: config.limits.body_memory_bytes,
        largest_bytes: largest.unwrap_or_default(),
        awaited_per_client: config.limits.of_connections().per_client,
    }
}

fn gates(checks: &config::Checks, dedupe: Option<&config::Dedupe>) -> Gates {
    let scope = |dedupe: &config::Dedupe| DedupeScope {
        scope: dedupe.scope.clone(),
        window: dedupe.window,
        key: Arc::new(dedupe.key.clone()),
    };
    Gates {
        allowlist: checks.allowlist.clone(),
        verifier: Verifier { keys: checks.keys.clone(), signature: checks.signature, timestamp: checks.tolerance.mode },
        tolerance: checks.tolerance,
        identity: Identity { dedupe: dedupe.map(scope) },
        max_body_bytes: checks.max_body_bytes,
        passes_ends: checks.passes_ends,
    }
}

/// The routes as metrics need to know them.
pub(super) fn labels(config: &Config) -> Vec<RouteLabels> {
    let keys = |route: &config::Route| {
        route.checks().map(|checks| checks.keys.iter().map(|key| key.name.clone()).collect()).unwrap_or_default()
    };
    config.routes.iter().map(|route| RouteLabels { name: route.name.clone(), keys: keys(route) }).collect()
}
