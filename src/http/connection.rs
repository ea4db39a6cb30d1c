//! Connections of the public side: the cap, the header deadline, keep-alive, and an orderly end
//! whatever the client does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::Method;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::admin::AdminState;
use super::answer::{Answer, Behind};
use super::body::SessionBody;
use super::body_memory::BodyMemory;
use super::closing::{Closing, ClosingWatch};
use super::head::{self, HeadLimits, NoHead};
use super::lingering::{DIRECT, LingerBounds, Lingering, ProxyLinger};
use super::listener::{Listener, NotOpened};
use super::open_connections::{ConnectionLimits, Evicted, OpenConnection, OpenConnections, Party};
use super::request_ids::RequestIds;
use super::request_log::{Decided, RequestLog};
use super::respond::{Request, Response};
use super::session::{self, Bare};
use crate::buffer::event::DeliveryId;
use crate::clock::Clock;
use crate::gate::forgers::FailuresPerS;
use crate::gate::peer::Peer;
use crate::ingress::{Head, Ingress, Known, Route};
use crate::metrics::Metrics;
use crate::rejection::Rejection;

/// Bounds of the public side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections of one client; `None` is a share of all.
    pub connections_per_client: Option<usize>,
    /// From the first byte of a request to the end of its header.
    pub header_timeout: Duration,
    /// Total time of a body.
    pub body_timeout: Duration,
    /// Size of a request header, bytes.
    pub header_bytes: usize,
    /// Fields of a request header.
    pub header_count: usize,
    /// Length of a request target, bytes.
    pub uri_bytes: usize,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Bytes of bodies that are held at once.
    pub body_memory_bytes: usize,
    /// How an answer reaches a trusted proxy that is still sending.
    pub refusals: ProxyLinger,
    /// Signatures of one client that may fail per second.
    pub failed_signatures_per_client: FailuresPerS,
}

/// Connections of one client that are always its share, where a quarter of all would be fewer.
const CLIENT_SHARE_MIN: usize = 64;

impl Limits {
    /// Those of the table of connections.
    pub fn of_connections(&self) -> ConnectionLimits {
        let all = self.connections;
        let share = (all / 4).max(CLIENT_SHARE_MIN);
        ConnectionLimits { all, per_client: self.connections_per_client.unwrap_or(share) }
    }

    fn of_head(&self, tls: bool) -> HeadLimits {
        HeadLimits {
            timeout: self.header_timeout,
            idle: self.idle_timeout,
            header_bytes: self.header_bytes,
            header_count: self.header_count,
            uri_bytes: self.uri_bytes,
            tls,
        }
    }
}

/// How long closing our half of a connection may take; over TLS that is a message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take to take an answer.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection over the cap may take to take its 503.
const REFUSE_TIMEOUT: Duration = Duration::from_millis(100);

/// Connections over the cap that are answered at once; any more are closed, or a flood of them would
/// take the open files that the cap is to leave to the buffer, the apps and the admin side.
pub const REFUSING_MAX: usize = 32;

/// One listener of the public side.
#[derive(Clone)]
pub struct PublicApp {
    /// What all listeners share.
    pub side: Arc<PublicSide>,
    /// What this one demands first.
    pub listener: Arc<Listener>,
}

/// What a reload replaces as a whole: every request is judged by one configuration.
pub struct Live {
    /// What requests go through.
    pub ingress: Ingress,
    /// Bounds.
    pub limits: Limits,
    /// Path whose GET answers as `/readyz` does.
    pub health_path: Option<String>,
    /// One line per request.
    pub log: RequestLog,
}

/// The public side over connections.
pub struct PublicSide {
    /// The configuration in force.
    pub live: Arc<ArcSwap<Live>>,
    /// Counts connections.
    pub open: Arc<OpenConnections>,
    /// Turns to refuse a connection; there are [`REFUSING_MAX`].
    pub refusing: Semaphore,
    /// Ends connections of clients that are still sending.
    pub lingering: Lingering,
    /// Ends connections when the process stops.
    pub closing: Arc<Closing>,
    /// Bounds bodies.
    pub body_memory: Arc<BodyMemory>,
    /// For `health_path`, and for the way out of service.
    pub admin: Arc<AdminState>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// One for each request.
    pub ids: RequestIds,
    /// Their time, and durations.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl ServerApp for PublicApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        let PublicApp { side, listener } = &**self;
        // Without an address the client is gone already.
        let peer = listener.peer_of(&stream)?;
        let live = side.live.load_full();
        let Some(mut open) = side.open.admit(live.party(peer), &live.limits.of_connections()) else {
            side.metrics.connections_refused.inc();
            side.refuse_connection(listener, stream, peer).await;
            return None;
        };
        let mut closing = side.closing.watch();
        let (is_proxy, header_timeout) = (live.ingress.trusts(peer), live.limits.header_timeout);
        let opened = tokio::select! {
            biased;
            opened = listener.open(stream, peer, is_proxy, header_timeout, closing.silence_is_over()) => opened,
            () = open.evicted() => Err(NotOpened::Closed),
        };
        let (stream, peer) = match opened {
            Ok(opened) => opened,
            Err(NotOpened::Closed) => return None,
            Err(NotOpened::Refused(stream, rejection)) => {
                let remote = Remote { peer, is_proxy, is_stranger: open.is_of_strangers() };
                open.end(side.refuse_unopened(listener, stream, rejection, remote)).await;
                return None;
            }
        };
        let has_room = open.counts_for(live.party(peer), &live.limits.of_connections());
        drop(live);
        let remote = Remote { peer, is_proxy, is_stranger: open.is_of_strangers() };
        if has_room {
            side.serve(stream, remote, &mut open, closing).await;
        } else {
            side.metrics.connections_refused.inc();
            open.end(side.refuse_head(stream, Rejection::Overloaded, None, remote)).await;
        }
        None
    }
}

impl Live {
    /// Whom a connection from this peer counts for.
    fn party(&self, peer: Peer) -> Party {
        match peer {
            Peer::Ip(ip) if !self.ingress.trusts(peer) => match self.ingress.is_stranger(ip) {
                true => Party::Strangers,
                false => Party::Client(ip.into()),
            },
            // Everybody is behind them.
            Peer::Ip(_) | Peer::Unix => Party::Shared,
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy)]
struct Remote {
    /// Who it is, or whom its PROXY header names.
    peer: Peer,
    /// Whether it is itself a trusted proxy.
    is_proxy: bool,
    /// Whether no route takes anything from it, as it was when it came.
    is_stranger: bool,
}

struct CountDown<'m>(&'m prometheus::IntGauge);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl PublicSide {
    /// Requests of one connection, one after the other, until either side has enough.
    async fn serve(&self, mut stream: Stream, remote: Remote, open: &mut OpenConnection, mut closing: ClosingWatch) {
        let tls = stream.get_ssl_digest().is_some();
        let mut buffer = BytesMut::new();
        loop {
            let limits = self.live.load().limits.of_head(tls);
            let begun = tokio::select! {
                biased;
                begun = head::begin(&mut stream, &mut buffer, &limits) => begun,
                () = closing.silence_is_over() => Err(NoHead::Closed),
                () = open.evicted() => Err(NoHead::Closed),
            };
            let read = match begun.and_then(|()| open.begin().map_err(|Evicted| NoHead::Closed)) {
                Ok(()) => head::read(&mut stream, &mut buffer, &limits).await,
                Err(no_head) => Err(no_head),
            };
            let head = match read {
                Ok(head) => head,
                Err(NoHead::Closed) => {
                    // Over TLS the client is told, so that it can tell this end from a cut.
                    let _ = timeout(CLOSE_TIMEOUT, AsyncWriteExt::shutdown(&mut stream)).await;
                    return;
                }
                Err(NoHead::Refused(rejection)) => {
                    return self.refuse_head(stream, rejection, head::hint(&buffer), remote).await;
                }
            };
            let session = match session::open(stream, &mut buffer, head).await {
                Ok(session) => session,
                Err(session) => {
                    let Some(stream) = session::abandon(session) else { return };
                    return self.refuse_head(stream, Rejection::BadRequest, None, remote).await;
                }
            };
            let Some((next, leftover)) = self.serve_request(session, remote, tls).await else { return };
            stream = next;
            buffer = leftover;
            open.rest();
        }
    }

    /// One request; the connection afterwards, if it can carry another, with what was sent ahead.
    async fn serve_request(&self, mut session: ServerSession, remote: Remote, tls: bool) -> Option<(Stream, BytesMut)> {
        let begun_us = self.clock.uptime_us();
        self.metrics.requests_in_flight.inc();
        let _in_flight = CountDown(&self.metrics.requests_in_flight);

        let live = self.live.load_full();
        let header = session.req_header();
        // The session is needed while these are: not the whole of its header.
        let (method, headers) = (header.method.clone(), header.headers.clone());
        let target = Bytes::copy_from_slice(header.raw_path());
        let version = header.version;
        let id = self.new_id();
        let head = Head { method: &method, target: &target, version, headers: &headers, peer: remote.peer, tls, id };
        let mut known = Known { client: peer_ip(remote.peer), ..Known::default() };
        let mut body = SessionBody::new(&mut session, live.limits.body_timeout, &self.body_memory);
        let request = Request { live: &live, admin: &self.admin, clock: &*self.clock, head: &head };
        let Response { route, decided, answer } = request.respond(&mut body, &mut known).await;
        let spent = body.is_spent();
        drop(body);
        self.note_verified(&known, decided);
        if remote.is_stranger && decided.is_denial() {
            session.set_keepalive(None);
        }
        let note = |is_ours: bool| {
            let ack_us = self.clock.uptime_us() - begun_us;
            self.count(route, decided, &known, is_ours.then_some(ack_us));
            live.log.write(route.map(|route| &*route.name), decided, &known, id, ack_us);
        };
        let Some(answer) = answer else {
            // The app's has been written.
            note(false);
            return match spent {
                _ if decided.is_cut_off() => None,
                true if !self.is_leaving() => session::finish(session).await.ok().flatten(),
                _ => {
                    self.close(session::abandon(session)?, remote).await;
                    None
                }
            };
        };
        let answered = self.answer(session, &answer, method == Method::HEAD, spent).await;
        note(true);
        let Bare { mut stream, next } = answered?;
        let Some(ahead) = next else {
            // To a connection that ends for our sake another request may be on its way.
            if spent && !self.is_leaving() {
                let _ = timeout(CLOSE_TIMEOUT, AsyncWriteExt::shutdown(&mut stream)).await;
            } else {
                self.close(stream, remote).await;
            }
            return None;
        };
        Some((stream, ahead))
    }

    /// Writes an answer of ours; the connection behind it, if it is whole.
    async fn answer(&self, session: ServerSession, answer: &Answer, is_head: bool, spent: bool) -> Option<Bare> {
        let mut bare = session::into_bare(session, spent).await?;
        // What was sent ahead is still answered.
        if self.is_leaving() && bare.next.as_ref().is_some_and(BytesMut::is_empty) {
            bare.next = None;
        }
        let behind = if bare.next.is_some() { Behind::Next } else { Behind::End };
        let bytes = answer.to_bytes(behind, is_head, self.clock.unix_ms());
        let written = timeout(WRITE_TIMEOUT, write(&mut bare.stream, &bytes)).await;
        matches!(written, Ok(Ok(()))).then_some(bare)
    }

    /// A client is known by its verified events. A duplicate may be anybody's who has seen the first copy.
    fn note_verified(&self, known: &Known, decided: Decided) {
        if let Some(ip) = known.client.filter(|_| known.is_verified && decided != Decided::Duplicate) {
            self.body_memory.note_verified(ip.into());
        }
    }

    /// `ack_us` is the time of an answer of our own.
    fn count(&self, route: Option<&Route>, decided: Decided, known: &Known, ack_us: Option<i64>) {
        let metrics = route.map_or_else(|| self.metrics.no_route(), |route| &route.metrics);
        match decided {
            Decided::Health => return,
            Decided::Accepted => {
                metrics.accepted.inc();
                metrics.event(known.facts.event_type.as_deref(), known.facts.provider_attempt);
            }
            Decided::Duplicate => {
                metrics.duplicate.inc();
                metrics.repeat(known.facts.provider_attempt);
            }
            Decided::Passed(_) => metrics.passed.inc(),
            Decided::Refused(rejection) | Decided::CutOff(rejection) => metrics.reject(rejection),
        }
        for report in known.reports.iter() {
            metrics.would_reject(report);
        }
        #[allow(clippy::cast_precision_loss, reason = "for histograms")]
        {
            if let Some(ack_us) = ack_us {
                metrics.ack_duration_s.observe(ack_us as f64 / 1e6);
            }
            if let Some(bytes) = known.body_bytes {
                metrics.body_bytes.observe(bytes as f64);
            }
            if let Some(skew_s) = known.skew_s.or(decided.skew_s()) {
                metrics.skew(skew_s);
            }
        }
    }

    /// Whether clients are to find another instance: every answer says that its connection ends.
    fn is_leaving(&self) -> bool {
        self.admin.drain.has_begun()
    }

    fn new_id(&self) -> DeliveryId {
        self.ids.next(self.clock.unix_ms())
    }

    /// Counts and logs a refusal of what never became a request, and makes its answer.
    fn refusal_outside(&self, rejection: Rejection, hint: Option<&str>, peer: Peer) -> Answer {
        let id = self.new_id();
        let answer = Answer::refused(rejection, None, id);
        self.metrics.no_route().reject(rejection);
        let known = Known { client: peer_ip(peer), hint: hint.map(str::to_owned), ..Known::default() };
        self.live.load().log.write(None, Decided::Refused(rejection), &known, id, 0);
        answer
    }

    async fn refuse_head(&self, mut stream: Stream, rejection: Rejection, hint: Option<&str>, remote: Remote) {
        let answer = self.refusal_outside(rejection, hint, remote.peer);
        if let Ok(Ok(())) = timeout(WRITE_TIMEOUT, self.write_last(&mut stream, &answer)).await {
            self.close(stream, remote).await;
        }
    }

    /// A connection over the cap; over TLS a 503 would cost a handshake, so it is closed.
    async fn refuse_connection(&self, listener: &Listener, mut stream: Stream, peer: Peer) {
        let answer = self.refusal_outside(Rejection::Overloaded, None, peer);
        if listener.speaks_plain()
            && let Ok(_turn) = self.refusing.try_acquire()
            && let Ok(Ok(())) = timeout(REFUSE_TIMEOUT, self.write_last(&mut stream, &answer)).await
        {
            self.lingering.close(stream, LingerBounds { time: REFUSE_TIMEOUT, ..DIRECT }).await;
        }
    }

    /// A connection that did not begin as its listener demands.
    async fn refuse_unopened(&self, listener: &Listener, stream: Stream, rejection: Rejection, remote: Remote) {
        if listener.speaks_plain() {
            self.refuse_head(stream, rejection, None, remote).await;
        } else {
            self.refusal_outside(rejection, None, remote.peer);
        }
    }

    async fn write_last(&self, stream: &mut Stream, answer: &Answer) -> std::io::Result<()> {
        write(stream, &answer.to_bytes(Behind::End, false, self.clock.unix_ms())).await
    }

    /// Closes a connection whose client may still be sending, so that it gets to read the answer.
    async fn close(&self, stream: Stream, remote: Remote) {
        if remote.is_proxy {
            let live = self.live.load_full();
            self.lingering.close_proxy(stream, &live.limits.refusals).await;
        } else {
            self.lingering.close(stream, DIRECT).await;
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn peer_ip(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Ip(ip) => Some(ip.to_canonical()),
        Peer::Unix => None,
    }
}
