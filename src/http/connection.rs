//! Connections of the public side: the cap, the header deadline, keep-alive, and an orderly end
//! whatever the client does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use http::{HeaderMap, Method};
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::Answer;
use super::body::SessionBody;
use super::head::{self, HeadLimits, NoHead};
use super::request_log::RequestLog;
use crate::buffer::committer::Accepted;
use crate::buffer::event::DeliveryId;
use crate::clock::Clock;
use crate::explain::live::Refused;
use crate::gate::peer::Peer;
use crate::ingress::{Head, Ingress, Known, Route};
use crate::metrics::Metrics;
use crate::rejection::Rejection;

/// Bounds of the public side.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
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
}

/// How long a client that is refused while it sends may go on before the connection is cut: a
/// plain close would reset it and could swallow the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away meanwhile.
const LINGER_BYTES: usize = 256 * 1024;
/// How long a client may take to take an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection over the cap may take to take its 503.
const REFUSE_TIMEOUT: Duration = Duration::from_millis(100);

/// The public side over connections.
pub struct PublicApp {
    /// What requests go through.
    pub ingress: Arc<Ingress>,
    /// Bounds.
    pub limits: Limits,
    /// One permit per connection.
    pub permits: Arc<Semaphore>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Ids and durations.
    pub clock: Arc<dyn Clock>,
    /// One line per request.
    pub log: Arc<RequestLog>,
}

#[async_trait]
impl ServerApp for PublicApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(_permit) = self.permits.clone().try_acquire_owned() else {
            self.metrics.connections_refused.inc();
            self.refuse_connection(stream).await;
            return None;
        };
        self.metrics.connections.inc();
        let _open = CountDown(&self.metrics.connections);
        self.serve(stream, shutdown).await;
        None
    }
}

struct CountDown<'m>(&'m prometheus::IntGauge);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl PublicApp {
    /// Requests of one connection, one after the other, until either side has enough.
    async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let peer = peer_of(&stream);
        let tls = stream.get_ssl_digest().is_some();
        let limits = HeadLimits {
            timeout: self.limits.header_timeout,
            idle: self.limits.idle_timeout,
            header_bytes: self.limits.header_bytes,
            header_count: self.limits.header_count,
            uri_bytes: self.limits.uri_bytes,
        };
        let mut buffer = BytesMut::new();
        let mut shutting_down = shutdown.clone();
        loop {
            let read = tokio::select! {
                biased;
                read = head::read(&mut stream, &mut buffer, &limits) => read,
                // Only a connection between requests is closed for a shutdown.
                _ = shutting_down.wait_for(|down| *down), if buffer.is_empty() => Err(NoHead::Closed),
            };
            match read {
                Ok(()) => {}
                Err(NoHead::Closed) => return,
                Err(NoHead::Refused(rejection)) => return self.refuse_head(stream, rejection, peer).await,
            }
            let mut session = ServerSession::new_http1(stream);
            if let ServerSession::H1(h1) = &mut session {
                h1.set_pipelined_prefix(std::mem::take(&mut buffer));
                // Requests sent ahead are answered one by one, in their order.
                h1.set_pipelining_enabled(true);
            }
            let Ok(true) = session.read_request().await.map_err(|_| ()) else {
                // What our own judgement let through and pingora does not take.
                let answer = self.refusal_outside(Rejection::BadRequest, peer);
                session.set_keepalive(None);
                let _ = timeout(WRITE_TIMEOUT, answer.write(&mut session, false)).await;
                return;
            };
            if *shutdown.borrow() {
                session.set_keepalive(None);
            }
            let Some((next, leftover)) = self.serve_request(session, peer, tls).await else { return };
            stream = next;
            buffer = leftover.unwrap_or_default();
        }
    }

    /// One request; the connection afterwards, if it can carry another, with what was sent ahead.
    async fn serve_request(
        &self,
        mut session: ServerSession,
        peer: Peer,
        tls: bool,
    ) -> Option<(Stream, Option<BytesMut>)> {
        let begun_us = self.clock.uptime_us();
        self.metrics.requests_in_flight.inc();
        let _in_flight = CountDown(&self.metrics.requests_in_flight);

        let header = session.req_header().clone();
        let id = self.new_id();
        let head = Head { method: &header.method, target: header.raw_path(), headers: &header.headers, peer, tls, id };
        let mut known = Known { client: peer_ip(peer), ..Known::default() };
        let mut body = SessionBody::new(&mut session, self.limits.body_timeout);
        let (route, decided) = match self.ingress.route(&head) {
            Ok(route) => (Some(route), self.ingress.accept(route, &head, &mut body, &mut known).await),
            Err(rejection) => (None, Err(rejection)),
        };
        let spent = body.is_spent();
        let answer = answer_to(&decided, route, &known, id);
        if !spent {
            session.set_keepalive(None);
        }
        let is_head = header.method == Method::HEAD;
        let written = timeout(WRITE_TIMEOUT, answer.write(&mut session, is_head)).await;
        let ack_us = self.clock.uptime_us() - begun_us;
        self.count(route, &decided, &known, ack_us);
        if let (Some(route), Err(rejection)) = (route, &decided) {
            known.hint = self.hint(route, *rejection, &header.headers, &known);
        }
        self.log.write(route.map(|route| &*route.name), &decided, &answer, &known, id, ack_us);
        if !matches!(written, Ok(Ok(()))) {
            return None;
        }
        if !spent {
            linger(&mut session).await;
            return None;
        }
        let reusable = session.finish().await.ok().flatten()?;
        Some(reusable.into_parts())
    }

    fn hint(&self, route: &Route, rejection: Rejection, headers: &HeaderMap, known: &Known) -> Option<String> {
        let body = known.unsigned_body.as_deref();
        let refused = Refused { rejection, headers, body, keys: &route.verifier.keys };
        self.log.hints.of(refused, self.ingress.keys())
    }

    fn count(&self, route: Option<&Route>, decided: &Result<Accepted, Rejection>, known: &Known, ack_us: i64) {
        let metrics = route.map_or_else(|| self.metrics.no_route(), |route| &route.metrics);
        match decided {
            Ok(Accepted::New(_)) => {
                metrics.accepted.inc();
                metrics.event(known.facts.event_type.as_deref(), known.facts.provider_attempt);
            }
            Ok(Accepted::Duplicate(_)) => {
                metrics.duplicate.inc();
                metrics.repeat(known.facts.provider_attempt);
            }
            Err(rejection) => metrics.reject(*rejection),
        }
        for report in known.reports.iter() {
            metrics.would_reject(report);
        }
        #[allow(clippy::cast_precision_loss, reason = "for histograms")]
        {
            metrics.ack_duration_s.observe(ack_us as f64 / 1e6);
            if let Some(bytes) = known.body_bytes {
                metrics.body_bytes.observe(bytes as f64);
            }
            let refused_skew = decided.as_ref().err().and_then(|rejection| rejection.skew_s());
            if let Some(skew_s) = known.skew_s.or(refused_skew) {
                metrics.skew_s.observe(skew_s as f64);
            }
        }
    }

    /// UUIDv7 (RFC 9562 §5.7) of a request and of the event it may bring.
    fn new_id(&self) -> DeliveryId {
        let mut random = [0; 10];
        if getrandom::fill(&mut random).is_err() {
            fastrand::fill(&mut random);
        }
        let ms = u64::try_from(self.clock.unix_ms()).unwrap_or(0);
        DeliveryId(*uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid().as_bytes())
    }

    /// Counts and logs a refusal of what never became a request, and makes its answer.
    fn refusal_outside(&self, rejection: Rejection, peer: Peer) -> Answer {
        let id = self.new_id();
        let answer = Answer::refused(rejection, None, id);
        self.metrics.no_route().reject(rejection);
        let known = Known { client: peer_ip(peer), ..Known::default() };
        self.log.write(None, &Err(rejection), &answer, &known, id, 0);
        answer
    }

    async fn refuse_head(&self, mut stream: Stream, rejection: Rejection, peer: Peer) {
        let answer = self.refusal_outside(rejection, peer);
        let _ = timeout(LINGER, write_and_linger(&mut stream, &answer)).await;
    }

    async fn refuse_connection(&self, mut stream: Stream) {
        let answer = self.refusal_outside(Rejection::Overloaded, peer_of(&stream));
        let _ = timeout(REFUSE_TIMEOUT, write_and_linger(&mut stream, &answer)).await;
    }
}

/// Answers, closes our half, and reads on for a while so that the client gets to read the answer.
async fn write_and_linger(stream: &mut Stream, answer: &Answer) -> std::io::Result<()> {
    stream.write_all(&answer.to_closing_bytes()).await?;
    stream.flush().await?;
    tokio::io::AsyncWriteExt::shutdown(stream).await?;
    let mut scratch = [0; 4096];
    let mut read = 0;
    while read < LINGER_BYTES {
        match stream.read(&mut scratch).await? {
            0 => break,
            n => read += n,
        }
    }
    Ok(())
}

/// The same on a session that has answered and whose client may still be sending its body.
async fn linger(session: &mut ServerSession) {
    let reading = async {
        if let ServerSession::H1(h1) = session {
            h1.shutdown().await;
        }
        let mut read = 0;
        while read < LINGER_BYTES {
            match session.read_request_body().await {
                Ok(Some(chunk)) => read += chunk.len(),
                _ => break,
            }
        }
    };
    let _ = timeout(LINGER, reading).await;
}

fn answer_to(decided: &Result<Accepted, Rejection>, route: Option<&Route>, known: &Known, id: DeliveryId) -> Answer {
    match decided {
        Ok(accepted) => Answer::accepted(accepted, known.facts.event_id.as_deref(), id),
        Err(Rejection::MethodNotAllowed) => Answer::refused(Rejection::MethodNotAllowed, route.map(Route::allow), id),
        Err(rejection) => Answer::refused(*rejection, None, id),
    }
}

fn peer_of(stream: &Stream) -> Peer {
    let digest = stream.get_socket_digest();
    match digest.as_ref().and_then(|digest| digest.peer_addr()) {
        Some(PingoraAddr::Inet(address)) => Peer::Ip(address.ip()),
        // Nothing is trusted that has no address, unless unix peers are.
        _ => Peer::Unix,
    }
}

fn peer_ip(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Ip(ip) => Some(ip.to_canonical()),
        Peer::Unix => None,
    }
}
