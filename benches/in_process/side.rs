//! The public side as `server.rs` puts it together, and connections to it in memory. They count as
//! those of a unix socket, since they have no address; a trusted proxy names the client.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hookward::clock::{Clock, ManualClock};
use hookward::gate::Enforcement;
use hookward::gate::allowlist::{Allowlist, parse_source};
use hookward::gate::forgers::Forgers;
use hookward::gate::hops::Pseudonym;
use hookward::gate::identity::{DedupeScope, Identity};
use hookward::gate::keys::NamedKey;
use hookward::gate::peer::TrustedProxies;
use hookward::gate::signature::Verifier;
use hookward::gate::timestamp::Tolerance;
use hookward::http::admin::drain::Drain;
use hookward::http::admin::{AdminState, ConfigurationView, Readiness};
use hookward::http::body_memory::{BodyLimits, BodyMemory};
use hookward::http::connection::{Limits, Live, PublicApp, PublicSide, REFUSING_MAX};
use hookward::http::head::HeadLimits;
use hookward::http::lingering::{DIRECT, Lingering, ProxyLinger};
use hookward::http::listener::Listener;
use hookward::http::open_connections::OpenConnections;
use hookward::http::proxy_protocol::ProxyProtocol;
use hookward::http::request_ids::RequestIds;
use hookward::http::request_log::RequestLog;
use hookward::ingress::{End, ForgeryLimit, Gates, Handling, Ingress, Route};
use hookward::logging::ClientIpLog;
use hookward::metrics::{Metrics, RouteLabels};
use hookward::router::PathPattern;
use pingora_core::apps::ServerApp as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, watch};

use super::sender::NOW_S;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// As the system's buffers of a socket: neither end waits for the other within a request.
const PIPE_BYTES: usize = 256 * 1024;

/// A clock that stands still: the same request is always fresh, and nothing is done for its age.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at_unix_s(NOW_S))
}

pub fn metrics() -> Arc<Metrics> {
    let route = RouteLabels { name: "default".into(), keys: vec!["key1".into()] };
    Arc::new(Metrics::new(&[route]).unwrap())
}

pub fn head_limits() -> HeadLimits {
    HeadLimits {
        timeout: MINUTE,
        idle: MINUTE,
        header_bytes: 16 * 1024,
        header_count: 100,
        uri_bytes: 8 * 1024,
        tls: false,
    }
}

pub fn verifier(key: NamedKey) -> Verifier {
    Verifier { keys: vec![key], signature: Enforcement::Enforce, timestamp: Enforcement::Enforce }
}

pub fn tolerance() -> Tolerance {
    Tolerance { past: 5 * MINUTE, future: 5 * MINUTE, mode: Enforcement::Enforce }
}

/// One route, with the limits and gates of the default configuration. Lines of accepted requests are
/// left out, as they are beyond the first hundred of a second.
pub fn public_app(key: NamedKey, end: End, clock: &Arc<dyn Clock>, metrics: &Arc<Metrics>) -> Arc<PublicApp> {
    let drain = Drain::new(Duration::ZERO);
    let dedupe = matches!(end, End::Ack(_)).then(|| DedupeScope {
        scope: "default".into(),
        window: DAY,
        key: Default::default(),
    });
    let gates = Gates {
        allowlist: Allowlist::Only { nets: parse_source("telnyx").unwrap().into(), mode: Enforcement::Enforce },
        verifier: verifier(key),
        tolerance: tolerance(),
        identity: Identity { dedupe },
        max_body_bytes: 1 << 20,
        passes_ends: false,
    };
    let route = Route {
        name: "default".into(),
        methods: Some(vec![http::Method::POST]),
        handling: Handling::Verified(Box::new(gates), end),
        metrics: metrics.route("default"),
    };
    let failures_per_s = std::num::NonZeroU32::new(10);
    let ingress = Ingress::new(
        vec![(PathPattern::Prefix("/webhooks/".to_owned()), route)],
        TrustedProxies { unix: true, ..TrustedProxies::default() },
        ForgeryLimit {
            forgers: Arc::new(Forgers::new(1)),
            per_s: failures_per_s,
            checked_in_turn: metrics.signature_checks_in_turn.clone(),
        },
        Pseudonym::new(0),
        clock.clone(),
        drain.refusing(),
    );
    let head = head_limits();
    let limits = Limits {
        connections: 1_000,
        connections_per_client: None,
        header_timeout: head.timeout,
        body_timeout: MINUTE,
        header_bytes: head.header_bytes,
        header_count: head.header_count,
        uri_bytes: head.uri_bytes,
        idle_timeout: head.idle,
        body_memory_bytes: 64 << 20,
        refusals: ProxyLinger { bounds: DIRECT, connections: 1 },
        failed_signatures_per_client: failures_per_s,
    };
    let log = RequestLog::new(0, ClientIpLog::Full, clock.clone());
    let admin = AdminState {
        readiness: watch::Sender::new(Readiness::Ready),
        buffer: std::sync::OnceLock::new(),
        metrics: metrics.clone(),
        clock: clock.clone(),
        upstreams: ArcSwap::from_pointee(vec![]),
        limits: ArcSwap::default(),
        configuration: ArcSwap::from_pointee(ConfigurationView::default()),
        drain,
        redrives: hookward::buffer::redrive::Redrives::default(),
    };
    let body_limits = BodyLimits {
        all_bytes: limits.body_memory_bytes,
        largest_bytes: 1 << 20,
        awaited_per_client: limits.of_connections().per_client,
    };
    let side = PublicSide {
        open: OpenConnections::new(metrics, limits.connections, clock.clone()),
        body_memory: Arc::new(BodyMemory::new(body_limits, metrics.bodies_gave_way.clone(), clock.clone())),
        live: Arc::new(ArcSwap::from_pointee(Live { ingress, limits, health_path: None, log })),
        refusing: Semaphore::new(REFUSING_MAX),
        lingering: Lingering::new(metrics.refusals_cut.clone()),
        closing: Arc::default(),
        admin: Arc::new(admin),
        metrics: metrics.clone(),
        ids: RequestIds::default(),
        clock: clock.clone(),
    };
    let failures = metrics.tls_handshake_failures.clone();
    let listener = Listener::new("memory".to_owned(), true, ProxyProtocol::Off, None, failures, clock.clone());
    Arc::new(PublicApp { side: Arc::new(side), listener: Arc::new(listener) })
}

/// A connection that is kept from request to request.
pub struct Connection {
    client: DuplexStream,
    answer: Vec<u8>,
    _running: watch::Sender<bool>,
}

impl Connection {
    /// Serves it as a task of this runtime.
    pub fn open(app: &Arc<PublicApp>) -> Connection {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let (running, shutdown) = watch::channel(false);
        let app = app.clone();
        tokio::spawn(async move { app.process_new(Box::new(server), &shutdown).await });
        Connection { client, answer: Vec::with_capacity(4096), _running: running }
    }

    /// Sends a request and reads the whole of its answer, which has to be a 200.
    pub async fn request(&mut self, wire: &[u8]) {
        self.client.write_all(wire).await.unwrap();
        self.answer.clear();
        while !is_whole(&self.answer) {
            assert!(self.client.read_buf(&mut self.answer).await.unwrap() > 0, "the connection has ended");
        }
        assert!(self.answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.answer));
    }
}

/// Whether a message with a Content-Length is there as a whole.
pub fn is_whole(message: &[u8]) -> bool {
    let Some(header_len) = message.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4) else { return false };
    let is_length = |line: &&[u8]| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:");
    let length = message[..header_len].split(|byte| *byte == b'\n').find(is_length);
    let length: usize = length.map_or(0, |line| std::str::from_utf8(&line[15..]).unwrap().trim().parse().unwrap());
    message.len() >= header_len + length
}
