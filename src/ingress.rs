//! The whole life of a request on the public side, top to bottom, in [`Ingress::accept`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::buffer::committer::{Accepted, Committer, Receipt};
use crate::buffer::event::DeliveryId;
use crate::clock::Clock;
use crate::forward::headers::{Origin, end_to_end};
use crate::gate::Reports;
use crate::gate::allowlist::Allowlist;
use crate::gate::delivery::{BodySource, Delivery};
use crate::gate::identity::{Facts, Identified, Identity};
use crate::gate::peer::{Peer, TrustedProxies};
use crate::gate::signature::Verifier;
use crate::gate::timestamp::Tolerance;
use crate::metrics::RouteMetrics;
use crate::rejection::Rejection;

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// This path, byte for byte.
    Exact(String),
    /// Every path that begins so (`/hooks/*`).
    Prefix(String),
}

impl PathPattern {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathPattern::Exact(exact) => path == exact.as_bytes(),
            PathPattern::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
        }
    }

    /// Exact before prefix, long before short.
    fn rank(&self) -> (bool, usize) {
        match self {
            PathPattern::Exact(exact) => (true, exact.len()),
            PathPattern::Prefix(prefix) => (false, prefix.len()),
        }
    }
}

/// What happens to the requests of one path.
pub struct Route {
    /// Name in metrics and logs.
    pub name: Arc<str>,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods.
    pub methods: Vec<Method>,
    /// Who may send.
    pub allowlist: Allowlist,
    /// Whose signature counts.
    pub verifier: Verifier,
    /// How old it may be.
    pub tolerance: Tolerance,
    /// How events are named.
    pub identity: Identity,
    /// Largest body.
    pub max_body_bytes: usize,
    /// Its series.
    pub metrics: Arc<RouteMetrics>,
}

impl Route {
    /// The `Allow` header of a 405.
    pub fn allow(&self) -> String {
        self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The header of a request, as the gates need it.
pub struct Head<'r> {
    /// Method.
    pub method: &'r Method,
    /// Path and query, byte for byte.
    pub target: &'r [u8],
    /// Headers.
    pub headers: &'r HeaderMap,
    /// The other end of the connection.
    pub peer: Peer,
    /// Whether it came over TLS.
    pub tls: bool,
    /// UUIDv7 of this request, which its event gets too.
    pub id: DeliveryId,
}

impl Head<'_> {
    fn path(&self) -> &[u8] {
        self.target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }
}

/// What became known of a request on its way, for its log line; nothing is decided by it.
#[derive(Debug, Default)]
pub struct Known {
    /// Who sent it.
    pub client: Option<IpAddr>,
    /// What the body says of itself, once it is signed.
    pub facts: Facts,
    /// Length of the body, once read.
    pub body_bytes: Option<usize>,
    /// Now minus the signed timestamp.
    pub skew_s: Option<i64>,
    /// What checks in `report` mode would have refused.
    pub reports: Reports,
}

/// The public side: verifies, stores, and only then says yes.
pub struct Ingress {
    routes: Vec<Route>,
    trusted_proxies: TrustedProxies,
    committer: Committer,
    clock: Arc<dyn Clock>,
    draining: AtomicBool,
}

impl Ingress {
    /// Routes are tried exact before prefix, long before short.
    pub fn new(
        mut routes: Vec<Route>,
        trusted_proxies: TrustedProxies,
        committer: Committer,
        clock: Arc<dyn Clock>,
    ) -> Ingress {
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.rank()));
        Ingress { routes, trusted_proxies, committer, clock, draining: AtomicBool::new(false) }
    }

    /// From now on every event is answered 503 `draining`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether this peer may name the client.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.trusted_proxies.trusts(peer)
    }

    /// The route of a request.
    ///
    /// # Errors
    /// [`Rejection::NoRoute`].
    pub fn route(&self, head: &Head<'_>) -> Result<&Route, Rejection> {
        self.routes.iter().find(|route| route.path.matches(head.path())).ok_or(Rejection::NoRoute)
    }

    /// Takes a request through every gate in their order; the types see to it that none is left
    /// out.
    ///
    /// # Errors
    /// The first refusal. A body is read only once address and header syntax have passed.
    pub async fn accept(
        &self,
        route: &Route,
        head: &Head<'_>,
        body: &mut impl BodySource,
        known: &mut Known,
    ) -> Result<Accepted, Rejection> {
        self.takes(route, head.method)?;
        let client = self.trusted_proxies.client_addr(head.peer, head.headers);
        known.client = client.ok().map(super::gate::peer::ClientAddr::ip);
        let admitted = route.allowlist.admit(client, &mut known.reports)?;
        let claimed = route.verifier.claim(&admitted, head.headers, &mut known.reports)?;
        let delivery = Delivery::read(claimed, body, route.max_body_bytes).await?;
        known.body_bytes = Some(delivery.len());
        let signed = route.verifier.verify(delivery, &mut known.reports);
        route.metrics.verified(signed.as_ref().ok().and_then(|signed| signed.key()));
        let fresh = route.tolerance.check(signed?, self.clock.unix_ms(), &mut known.reports)?;
        let identified = route.identity.name(fresh, &known.reports);
        self.note(&identified, known);
        let receipt = self.receipt(route, head, known.client);
        self.committer.store(identified, receipt).await
    }

    fn takes(&self, route: &Route, method: &Method) -> Result<(), Rejection> {
        if !route.methods.contains(method) {
            return Err(Rejection::MethodNotAllowed);
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(Rejection::Draining);
        }
        Ok(())
    }

    fn note(&self, identified: &Identified, known: &mut Known) {
        known.facts = identified.facts.clone();
        known.skew_s = identified.skew_s;
    }

    fn receipt(&self, route: &Route, head: &Head<'_>, client: Option<IpAddr>) -> Receipt {
        let peer_is_trusted = self.trusted_proxies.trusts(head.peer);
        let client_ip_header = self.trusted_proxies.header.name();
        let origin = Origin { peer: head.peer, peer_is_trusted, client, tls: head.tls, client_ip_header };
        Receipt {
            delivery_id: head.id,
            received_unix_ms: self.clock.unix_ms(),
            route: route.name.clone(),
            method: head.method.as_str().to_owned(),
            target: Bytes::copy_from_slice(head.target),
            headers: end_to_end(head.headers, &origin),
        }
    }
}
