//! One line per request: what was decided and why; never a body, a header's value or a key.

use std::sync::Arc;

use tracing::Level;

use crate::buffer::committer::Accepted;
use crate::buffer::event::DeliveryId;
use crate::clock::Clock;
use crate::explain::live::DeepHint;
use crate::ingress::Known;
use crate::logging::{ClientIpLog, LineLimit};
use crate::metrics::NO_ROUTE;
use crate::rejection::Rejection;

/// Refusals logged per second at most: a flood of forgeries must not fill the log.
const REFUSED_PER_S: u32 = 50;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// `health_path`: neither counted nor logged.
    Health,
    /// Stored by this request.
    Accepted,
    /// An equal one had been stored.
    Duplicate,
    /// Found genuine, or passed on: the status that the client got.
    Passed(u16),
    /// Refused by us.
    Refused(Rejection),
    /// The app's answer broke off on its way.
    CutOff(Rejection),
}

impl Decided {
    /// Of an event that is durable.
    pub fn of(accepted: &Accepted) -> Decided {
        match accepted {
            Accepted::New(_) => Decided::Accepted,
            Accepted::Duplicate(_) => Decided::Duplicate,
        }
    }

    /// Whether only closing the connection tells the client.
    pub fn is_cut_off(self) -> bool {
        matches!(self, Decided::CutOff(_))
    }

    /// Whether the client's address is what it was refused for.
    pub fn is_denial(self) -> bool {
        matches!(self, Decided::Refused(Rejection::IpDenied))
    }

    /// Now minus the signed timestamp, seconds, where the timestamp was the trouble.
    pub fn skew_s(self) -> Option<i64> {
        self.rejection().and_then(Rejection::skew_s)
    }

    fn rejection(self) -> Option<Rejection> {
        match self {
            Decided::Refused(rejection) | Decided::CutOff(rejection) => Some(rejection),
            _ => None,
        }
    }

    fn outcome(self) -> &'static str {
        match self {
            Decided::Health | Decided::Passed(_) => "passed",
            Decided::Accepted => "accepted",
            Decided::Duplicate => "duplicate",
            Decided::Refused(rejection) | Decided::CutOff(rejection) if rejection.is_ours() => "failed",
            Decided::Refused(_) | Decided::CutOff(_) => "rejected",
        }
    }

    fn status(self) -> u16 {
        match self {
            Decided::Health | Decided::Accepted | Decided::Duplicate => 200,
            Decided::Passed(status) => status,
            Decided::Refused(rejection) | Decided::CutOff(rejection) => rejection.status(),
        }
    }
}

/// Writes the lines.
pub struct RequestLog {
    accepted: LineLimit,
    refused: LineLimit,
    client_ip: ClientIpLog,
    /// Finds out more about refusals.
    pub hints: DeepHint,
}

impl RequestLog {
    /// At most so many accepted requests per second.
    pub fn new(accepted_per_s: u32, client_ip: ClientIpLog, clock: Arc<dyn Clock>) -> RequestLog {
        RequestLog {
            accepted: LineLimit::new(accepted_per_s, clock.clone()),
            refused: LineLimit::new(REFUSED_PER_S, clock.clone()),
            client_ip,
            hints: DeepHint::new(clock),
        }
    }

    /// The line of one request.
    pub fn write(&self, route: Option<&str>, decided: Decided, known: &Known, id: DeliveryId, ack_us: i64) {
        if decided == Decided::Health || !tracing::enabled!(Level::INFO) {
            return;
        }
        let rejection = decided.rejection();
        let limit = if rejection.is_none() { &self.accepted } else { &self.refused };
        let Some(left_out) = limit.admit() else { return };
        let hint = known.hint.as_deref().or(rejection.map(Rejection::hint));
        let would_reject: Vec<_> = known.reports.iter().map(Rejection::reason).collect();
        let would_reject = (!would_reject.is_empty()).then(|| would_reject.join(","));
        let client_ip = known.client.and_then(|ip| self.client_ip.show(ip));
        let ack_ms = (ack_us.max(0) / 10) as f64 / 100.0;
        tracing::info!(
            route = route.unwrap_or(NO_ROUTE),
            outcome = decided.outcome(),
            reason = rejection.map(Rejection::reason),
            status = decided.status(),
            client_ip,
            peer = known.nameless_peer.and_then(|ip| self.client_ip.show(ip)),
            path = known.path,
            event_id = known.facts.event_id,
            event_type = known.facts.event_type,
            body_bytes = known.body_bytes.map(|bytes| bytes as u64),
            skew_s = known.skew_s.or(decided.skew_s()),
            ack_ms,
            request_id = %id,
            would_reject,
            hint,
            left_out = (left_out > 0).then_some(left_out),
            "request"
        );
    }
}
