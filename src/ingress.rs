//! The whole life of a request on the public side, top to bottom, in [`Ingress::accept`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use crate::buffer::committer::{Accepted, Committer, Receipt};
use crate::buffer::event::{DeliveryId, Event};
use crate::clock::Clock;
use crate::forward::headers::{Origin, end_to_end, moves_path};
use crate::forward::upstream::Upstream;
use crate::gate::allowlist::{Admitted, Allowlist};
use crate::gate::check_share::Turn;
use crate::gate::delivery::{BodySource, Delivery};
use crate::gate::forgers::{FailuresPerS, Forgers};
use crate::gate::hops::Pseudonym;
use crate::gate::identity::{Facts, Identified, Identity};
use crate::gate::keys::NamedKey;
use crate::gate::networks::Networks;
use crate::gate::peer::{ClientAddr, Peer, TrustedProxies};
use crate::gate::signature::{Signed, Verifier};
use crate::gate::timestamp::Tolerance;
use crate::gate::{Enforcement, Reports};
use crate::metrics::{IntCounter, RouteMetrics};
use crate::rejection::Rejection;
use crate::router::{Found, Guard, Miss, PathPattern, Router};

/// What happens to the requests of one path.
pub struct Route {
    /// Name in metrics and logs.
    pub name: Arc<str>,
    /// Which methods; `None` is any.
    pub methods: Option<Vec<Method>>,
    /// What is done with them.
    pub handling: Handling,
    /// Its series.
    pub metrics: Arc<RouteMetrics>,
}

/// What is done with a request of a route.
pub enum Handling {
    /// It passes every gate, and then goes where the end says.
    Verified(Box<Gates>, End),
    /// It goes to this app as it is, unverified.
    Passed(Arc<Upstream>),
}

/// What a verified request has to pass.
pub struct Gates {
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
    /// Whether other paths that end in the route's may be passed unverified.
    pub passes_ends: bool,
}

/// Where a verified request ends.
pub enum End {
    /// Stored durably, answered, forwarded later.
    Ack(Committer),
    /// Sent to this app now, whose answer goes back.
    Proxy(Arc<Upstream>),
    /// Answered: whoever asked passes it on itself.
    Verify,
}

impl Route {
    /// What it means for paths that are passed unverified.
    fn guard(&self) -> Guard {
        match &self.handling {
            Handling::Passed(_) => Guard::Open,
            Handling::Verified(gates, _) if gates.passes_ends => Guard::Path,
            Handling::Verified(..) => Guard::Ends,
        }
    }

    /// Whose signature counts; nobody's where nothing is verified.
    pub fn keys(&self) -> &[NamedKey] {
        match &self.handling {
            Handling::Verified(gates, _) => &gates.verifier.keys,
            Handling::Passed(_) => &[],
        }
    }

    /// The `Allow` header of a 405.
    pub fn allow(&self) -> String {
        self.methods.iter().flatten().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// What became of a request that was not refused.
pub enum Outcome {
    /// It is durable, by this request or by an earlier one.
    Stored(Accepted),
    /// Every check passed; nothing else is done with it.
    Verified(Verified),
    /// Every check passed; it goes to this app now.
    Proxy(Verified, Arc<Upstream>),
    /// Nothing was checked; it goes to this app, with these headers of the sender's.
    Pass(Vec<(Bytes, Bytes)>, Arc<Upstream>),
}

/// Proof that a request has passed every gate, for ends that store nothing. Made by
/// [`Ingress::accept`] only.
pub struct Verified {
    event: Event,
}

impl Verified {
    /// The request as an event.
    pub fn event(&self) -> &Event {
        &self.event
    }
}

/// The header of a request, as the gates need it.
pub struct Head<'r> {
    /// Method.
    pub method: &'r Method,
    /// Path and query, byte for byte.
    pub target: &'r [u8],
    /// The version that it was sent in.
    pub version: Version,
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
    /// The target without its query.
    pub fn path(&self) -> &[u8] {
        self.target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }
}

/// What became known of a request on its way, for its log line; nothing is decided by it.
#[derive(Debug, Default)]
pub struct Known {
    /// Who sent it.
    pub client: Option<IpAddr>,
    /// Whether a key has signed it in time, and no check had anything to report.
    pub is_verified: bool,
    /// The other end of the connection, where it does not say who did.
    pub nameless_peer: Option<IpAddr>,
    /// The path of a request without a route, for a log at level debug.
    pub path: Option<String>,
    /// What the body says of itself, once it is signed.
    pub facts: Facts,
    /// Length of the body, once read.
    pub body_bytes: Option<usize>,
    /// Now minus the signed timestamp.
    pub skew_s: Option<i64>,
    /// What checks in `report` mode would have refused.
    pub reports: Reports,
    /// The body that no key has signed, to find out why.
    pub unsigned_body: Option<Bytes>,
    /// What led to the refusal, where more is known than its reason says.
    pub hint: Option<String>,
}

impl Known {
    fn note(&mut self, identified: &Identified) {
        self.facts = identified.facts.clone();
        self.skew_s = identified.skew_s;
    }
}

/// Failed signatures that a route's clients may cause; outlives reloads.
pub struct ForgeryLimit {
    /// Who has failed.
    pub forgers: Arc<Forgers>,
    /// How often one client may before its checks come in turn.
    pub per_s: FailuresPerS,
    /// Counts checks that come in turn.
    pub checked_in_turn: IntCounter,
}

/// The public side: verifies, stores, and only then says yes.
pub struct Ingress {
    router: Router<Route>,
    /// The addresses that some route takes; `None` is any.
    welcome: Option<Networks>,
    trusted_proxies: TrustedProxies,
    forgery: ForgeryLimit,
    pseudonym: Pseudonym,
    clock: Arc<dyn Clock>,
    draining: Arc<AtomicBool>,
}

impl Ingress {
    /// Routes by their path. `pseudonym` is the name of this instance among the hops of a request;
    /// `draining` refuses everything once it is true.
    pub fn new(
        routes: Vec<(PathPattern, Route)>,
        trusted_proxies: TrustedProxies,
        forgery: ForgeryLimit,
        pseudonym: Pseudonym,
        clock: Arc<dyn Clock>,
        draining: Arc<AtomicBool>,
    ) -> Ingress {
        let welcome = welcome(routes.iter().map(|(_, route)| route));
        let router = Router::new(routes.into_iter().map(|(path, route)| (path, route.guard(), route)));
        Ingress { router, welcome, trusted_proxies, forgery, pseudonym, clock, draining }
    }

    /// Whether this peer may name the client.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.trusted_proxies.trusts(peer)
    }

    /// Whether no route would take anything from a client of this address: each has an allowlist that does not
    /// hold it, and enforces it.
    pub fn is_stranger(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.welcome.as_ref().is_some_and(|nets| !nets.contains(ip))
    }

    /// The keys of all routes.
    pub fn keys(&self) -> impl Iterator<Item = &NamedKey> {
        self.router.targets().iter().flat_map(Route::keys)
    }

    /// The route of a request.
    ///
    /// # Errors
    /// [`Rejection::NoRoute`], also for a path that would be passed unverified and that the app may
    /// take for one that is verified.
    pub fn route(&self, head: &Head<'_>) -> Result<&Route, Rejection> {
        match self.router.find(head.path()) {
            Found::Route(route) => Ok(route),
            Found::Nowhere | Found::Confusable => Err(Rejection::NoRoute),
        }
    }

    /// Why a request has no route, where more can be said than that none has its path.
    pub fn path_hint(&self, head: &Head<'_>) -> Option<String> {
        if matches!(self.router.find(head.path()), Found::Confusable) {
            return Some(match self.router.confused_with(head.path()) {
                Some(Route { name, .. }) => format!(
                    "an app may take this path for that of the route {name}, which is verified, so it is not passed; send to the path as it is configured, or see path_ends"
                ),
                None => "the path has a control character or is written so that apps read it in many ways, so it is not passed unverified; correct the sender".to_owned(),
            });
        }
        let (route, miss) = self.router.near_miss(head.path())?;
        let name = &route.name;
        Some(match miss {
            Miss::Spelling => format!(
                "no route has this path, but that of the route {name} differs from it only in a slash, the case of letters or an escape"
            ),
            Miss::Before => format!(
                "no route has this path, but that of the route {name} has the same end: does a proxy add or take away what stands before it?"
            ),
        })
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
    ) -> Result<Outcome, Rejection> {
        self.takes(route, head.method)?;
        // Before the address, which would refuse a hop's own more vaguely, and long before the event
        // could be taken for a duplicate and so count as delivered.
        self.pseudonym.refuse_loop(head.headers)?;
        let client = self.trusted_proxies.client_addr(head.peer, head.headers);
        match client {
            Ok(client) => known.client = Some(client.ip()),
            Err(_) => known.nameless_peer = known.client.take(),
        }
        let (gates, end) = match &route.handling {
            Handling::Verified(gates, end) => (gates, end),
            Handling::Passed(upstream) => {
                let mut headers = self.headers(head, known.client);
                headers.retain(|(name, _)| !moves_path(name));
                return Ok(Outcome::Pass(headers, upstream.clone()));
            }
        };
        let admitted = gates.allowlist.admit(client, &mut known.reports)?;
        end.takes(head.headers)?;
        let claimed = gates.verifier.claim(&admitted, head.headers, &mut known.reports)?;
        let turn = self.turn(gates, admitted.client()).await?;
        body.belongs_to(known.client);
        let delivery = Delivery::read(claimed, body, gates.max_body_bytes).await?;
        known.body_bytes = Some(delivery.len());
        let unsigned = delivery.body();
        let begun_us = turn.map(|_| self.clock.uptime_us());
        let signed = gates.verifier.verify(delivery, &mut known.reports);
        if let (Some(turn), Some(begun_us)) = (turn, begun_us) {
            self.forgery.forgers.settle(turn, self.clock.uptime_us() - begun_us);
        }
        known.unsigned_body = signed.is_err().then_some(unsigned);
        self.note_verification(route, gates, &admitted, &signed);
        let fresh = gates.tolerance.check(signed?, self.clock.unix_ms(), &mut known.reports)?;
        known.is_verified = known.reports.is_empty();
        let identified = gates.identity.name(fresh, head.headers, &known.reports);
        known.note(&identified);
        route.metrics.named(identified.no_key);
        let receipt = self.receipt(route, head, known.client);
        match end {
            End::Ack(committer) => committer.store(identified, receipt).await.map(Outcome::Stored),
            End::Proxy(upstream) => {
                Ok(Outcome::Proxy(Verified { event: receipt.event(identified).0 }, upstream.clone()))
            }
            End::Verify => Ok(Outcome::Verified(Verified { event: receipt.event(identified).0 })),
        }
    }

    fn takes(&self, route: &Route, method: &Method) -> Result<(), Rejection> {
        if route.methods.as_ref().is_some_and(|methods| !methods.contains(method)) {
            return Err(Rejection::MethodNotAllowed);
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(Rejection::Draining);
        }
        Ok(())
    }

    /// A client whose signatures keep failing waits for its turn, before it costs memory, unless failed signatures are
    /// only reported.
    async fn turn(&self, gates: &Gates, client: Option<ClientAddr>) -> Result<Option<Turn>, Rejection> {
        if gates.verifier.signature == Enforcement::Report {
            return Ok(None);
        }
        let turn = self.forgery.forgers.turn(client, self.forgery.per_s, self.clock.uptime_us())?;
        if let Some(turn) = turn {
            self.forgery.checked_in_turn.inc();
            if !turn.wait.is_zero() {
                tokio::time::sleep(turn.wait).await;
            }
        }
        Ok(turn)
    }

    fn note_verification(&self, route: &Route, gates: &Gates, admitted: &Admitted, signed: &Result<Signed, Rejection>) {
        route.metrics.verified(signed.as_ref().ok().and_then(Signed::key));
        if signed.is_err() && gates.verifier.signature == Enforcement::Enforce {
            self.forgery.forgers.note(admitted.client(), self.forgery.per_s, self.clock.uptime_us());
        }
    }

    fn receipt(&self, route: &Route, head: &Head<'_>, client: Option<IpAddr>) -> Receipt {
        Receipt {
            delivery_id: head.id,
            received_unix_ms: self.clock.unix_ms(),
            route: route.name.clone(),
            method: head.method.as_str().to_owned(),
            target: Bytes::copy_from_slice(head.target),
            headers: self.headers(head, client),
        }
    }

    /// The sender's headers that go to the app.
    fn headers(&self, head: &Head<'_>, client: Option<IpAddr>) -> Vec<(Bytes, Bytes)> {
        let peer_is_trusted = self.trusted_proxies.trusts(head.peer);
        let client_ip_header = self.trusted_proxies.header.name();
        let via = self.pseudonym.via(head.version);
        let origin = Origin { peer: head.peer, peer_is_trusted, client, tls: head.tls, client_ip_header, via };
        end_to_end(head.headers, &origin)
    }
}

/// The addresses that one of these routes takes; `None` where one takes any.
fn welcome<'r>(routes: impl Iterator<Item = &'r Route>) -> Option<Networks> {
    let nets: Option<Vec<&Networks>> = routes
        .map(|route| match &route.handling {
            Handling::Verified(gates, _) => gates.allowlist.enforced(),
            Handling::Passed(_) => None,
        })
        .collect();
    nets.map(|nets| nets.iter().flat_map(|nets| nets.as_slice()).copied().collect())
}

impl End {
    /// A gateway that sends only the beginning of a body says so; that beginning proves nothing.
    /// Source: Envoy, ext_authz `with_request_body`.
    fn takes(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let is_partial = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"true");
        match self {
            End::Verify if headers.get_all("x-envoy-auth-partial-body").iter().any(is_partial) => {
                Err(Rejection::BodyTooLarge)
            }
            _ => Ok(()),
        }
    }
}
