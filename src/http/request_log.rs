//! One line per request: what was decided and why; never a body, a header's value or a key.

use std::sync::Arc;

use super::answer::Answer;
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
    pub fn write(
        &self,
        route: Option<&str>,
        decided: &Result<Accepted, Rejection>,
        answer: &Answer,
        known: &Known,
        id: DeliveryId,
        ack_us: i64,
    ) {
        let limit = if decided.is_ok() { &self.accepted } else { &self.refused };
        let Some(left_out) = limit.admit() else { return };
        let (outcome, reason, hint) = match decided {
            Ok(Accepted::New(_)) => ("accepted", None, None),
            Ok(Accepted::Duplicate(_)) => ("duplicate", None, None),
            Err(rejection) if rejection.is_ours() => ("failed", Some(rejection.reason()), Some(rejection.hint())),
            Err(rejection) => ("rejected", Some(rejection.reason()), Some(rejection.hint())),
        };
        let hint = known.hint.as_deref().or(hint);
        let would_reject: Vec<_> = known.reports.iter().map(Rejection::reason).collect();
        let would_reject = (!would_reject.is_empty()).then(|| would_reject.join(","));
        let client_ip = known.client.and_then(|ip| self.client_ip.show(ip));
        let refused_skew = decided.as_ref().err().and_then(|rejection| rejection.skew_s());
        let ack_ms = (ack_us.max(0) / 10) as f64 / 100.0;
        tracing::info!(
            route = route.unwrap_or(NO_ROUTE),
            outcome,
            reason,
            status = answer.status(),
            client_ip,
            event_id = known.facts.event_id,
            event_type = known.facts.event_type,
            body_bytes = known.body_bytes.map(|bytes| bytes as u64),
            skew_s = known.skew_s.or(refused_skew),
            ack_ms,
            request_id = %id,
            would_reject,
            hint,
            left_out = (left_out > 0).then_some(left_out),
            "request"
        );
    }
}
