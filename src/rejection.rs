//! Every refusal of the public side, and what it looks like from outside: one table.

/// Why a request was refused. The reason is the metric label, the log field and the body of the
/// answer, so it is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The request's framing or header is not what HTTP/1.1 allows at an edge, or a signature or
    /// timestamp header came twice.
    BadRequest,
    /// The client's address is not on the allowlist.
    IpDenied,
    /// Nothing trustworthy says who the client is.
    ClientIpUndetermined,
    /// No `Telnyx-Signature-Ed25519` header, or an empty one.
    SignatureMissing,
    /// The signature header is not base64 of 64 bytes.
    SignatureMalformed,
    /// No configured key made this signature over this timestamp and body.
    SignatureMismatch,
    /// No `Telnyx-Timestamp` header, or an empty one.
    TimestampMissing,
    /// The timestamp header is not a whole number of seconds.
    TimestampMalformed,
    /// Genuine, but signed too long ago: `now - timestamp`, seconds.
    TimestampStale {
        /// Now minus the timestamp, seconds.
        skew_s: i64,
    },
    /// Genuine, but signed too far in the future: `now - timestamp`, seconds (negative).
    TimestampFuture {
        /// Now minus the timestamp, seconds.
        skew_s: i64,
    },
    /// No route has this path.
    NoRoute,
    /// The route does not take this method; the `Allow` header says which it takes.
    MethodNotAllowed,
    /// The request header was not complete in time.
    HeaderTimeout,
    /// The body was not complete in time.
    BodyTimeout,
    /// The body is larger than the route's `max_body`, or only its beginning was sent for a decision.
    BodyTooLarge,
    /// The request target is longer than `limits.uri_bytes`.
    UriTooLong,
    /// The header is larger than `limits.header_bytes` or has more than `limits.header_count` fields.
    HeadersTooLarge,
    /// The app could not be reached, or broke off (modes that pass its answer on).
    UpstreamFailed,
    /// The app did not answer in time (modes that pass its answer on).
    UpstreamTimeout,
    /// This instance has forwarded the request before, or too many others have: an upstream leads
    /// back to hookward.
    LoopDetected,
    /// The buffer has no room for events of this route, or the disk is near its end.
    BufferFull,
    /// The disk refused or failed: what was not answered 200 may or may not be stored.
    BufferFailed,
    /// Going down: no new events.
    Draining,
    /// A bound of this process is reached: connections, the commit queue or its deadline.
    Overloaded,
}

impl Rejection {
    /// One of each, for metrics that exist from the start and for tests.
    pub const ALL: [Rejection; 24] = [
        Rejection::BadRequest,
        Rejection::IpDenied,
        Rejection::ClientIpUndetermined,
        Rejection::SignatureMissing,
        Rejection::SignatureMalformed,
        Rejection::SignatureMismatch,
        Rejection::TimestampMissing,
        Rejection::TimestampMalformed,
        Rejection::TimestampStale { skew_s: 0 },
        Rejection::TimestampFuture { skew_s: 0 },
        Rejection::NoRoute,
        Rejection::MethodNotAllowed,
        Rejection::HeaderTimeout,
        Rejection::BodyTimeout,
        Rejection::BodyTooLarge,
        Rejection::UriTooLong,
        Rejection::HeadersTooLarge,
        Rejection::UpstreamFailed,
        Rejection::UpstreamTimeout,
        Rejection::LoopDetected,
        Rejection::BufferFull,
        Rejection::BufferFailed,
        Rejection::Draining,
        Rejection::Overloaded,
    ];

    /// The reasons that a check in `report` mode can only have counted.
    pub const REPORTABLE: [Rejection; 9] = [
        Rejection::IpDenied,
        Rejection::ClientIpUndetermined,
        Rejection::SignatureMissing,
        Rejection::SignatureMalformed,
        Rejection::SignatureMismatch,
        Rejection::TimestampMissing,
        Rejection::TimestampMalformed,
        Rejection::TimestampStale { skew_s: 0 },
        Rejection::TimestampFuture { skew_s: 0 },
    ];

    /// The refusals of a request header as such, of the admin side too.
    pub const OF_HEADERS: [Rejection; 4] =
        [Rejection::BadRequest, Rejection::HeaderTimeout, Rejection::UriTooLong, Rejection::HeadersTooLarge];

    /// HTTP status and stable reason. Forgeries get 4xx, which a sender gives up on; our own
    /// trouble gets 503, which it retries.
    fn row(self) -> (u16, &'static str) {
        match self {
            Rejection::BadRequest => (400, "bad_request"),
            Rejection::IpDenied => (403, "ip_denied"),
            Rejection::ClientIpUndetermined => (403, "client_ip_undetermined"),
            Rejection::SignatureMissing => (403, "signature_missing"),
            Rejection::SignatureMalformed => (403, "signature_malformed"),
            Rejection::SignatureMismatch => (403, "signature_mismatch"),
            Rejection::TimestampMissing => (403, "timestamp_missing"),
            Rejection::TimestampMalformed => (403, "timestamp_malformed"),
            Rejection::TimestampStale { .. } => (403, "timestamp_stale"),
            Rejection::TimestampFuture { .. } => (403, "timestamp_future"),
            Rejection::NoRoute => (404, "no_route"),
            Rejection::MethodNotAllowed => (405, "method_not_allowed"),
            Rejection::HeaderTimeout => (408, "header_timeout"),
            Rejection::BodyTimeout => (408, "body_timeout"),
            Rejection::BodyTooLarge => (413, "body_too_large"),
            Rejection::UriTooLong => (414, "uri_too_long"),
            Rejection::HeadersTooLarge => (431, "headers_too_large"),
            Rejection::UpstreamFailed => (502, "upstream_failed"),
            Rejection::UpstreamTimeout => (504, "upstream_timeout"),
            Rejection::LoopDetected => (508, "loop_detected"),
            Rejection::BufferFull => (503, "buffer_full"),
            Rejection::BufferFailed => (503, "buffer_failed"),
            Rejection::Draining => (503, "draining"),
            Rejection::Overloaded => (503, "overloaded"),
        }
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// The snake_case reason.
    pub fn reason(self) -> &'static str {
        self.row().1
    }

    /// Whether the fault is ours (5xx): outcome `failed` rather than `rejected`. Anybody can write a
    /// `Via` that looks like a loop, and must not be able to raise an alert on failures.
    pub fn is_ours(self) -> bool {
        self.status() >= 500 && self != Rejection::LoopDetected
    }

    /// Whether the sender is told to come back soon.
    pub fn is_passing(self) -> bool {
        self.status() == 503
    }

    /// Now minus the signed timestamp, seconds, where the timestamp was the trouble.
    pub fn skew_s(self) -> Option<i64> {
        match self {
            Rejection::TimestampStale { skew_s } | Rejection::TimestampFuture { skew_s } => Some(skew_s),
            _ => None,
        }
    }

    /// The short JSON body of the answer. Contains nothing of the request.
    pub fn body(self) -> String {
        match self.skew_s() {
            Some(skew) => format!(r#"{{"error":"{}","skew_s":{skew}}}"#, self.reason()),
            None => format!(r#"{{"error":"{}"}}"#, self.reason()),
        }
    }

    /// What an operator who reads this in the log should look at first.
    pub fn hint(self) -> &'static str {
        match self {
            Rejection::BadRequest => "the request is not valid HTTP/1.1, or carries a signature header twice",
            Rejection::IpDenied => {
                "the address is on no allowlist; behind a proxy set --trusted-proxy, else add it with --ip-allowlist"
            }
            Rejection::ClientIpUndetermined => {
                "no trusted proxy names a usable client (client_ip.header, PROXY header, unix peers); make it append the address"
            }
            Rejection::SignatureMissing => "no Telnyx-Signature-Ed25519 header: not from Telnyx, or a hop dropped it",
            Rejection::SignatureMalformed => "the signature is not base64 of 64 bytes: a hop changed the header",
            Rejection::SignatureMismatch => {
                "no key verifies this body: another account's key, a rotated key, or a hop rewrote the body"
            }
            Rejection::TimestampMissing => "no Telnyx-Timestamp header: not from Telnyx, or a hop dropped it",
            Rejection::TimestampMalformed => "the timestamp is not whole Unix seconds: a hop changed the header",
            Rejection::TimestampStale { .. } => {
                "genuine but old: a replay, a slow hop, or this machine's clock is ahead"
            }
            Rejection::TimestampFuture { .. } => "genuine but ahead: this machine's clock is behind, or milliseconds",
            Rejection::NoRoute => "no route has this path; see `routes` in the configuration",
            Rejection::MethodNotAllowed => "the route does not take this method",
            Rejection::HeaderTimeout => "the client sent its header too slowly (limits.header_timeout)",
            Rejection::BodyTimeout => "the client sent its body too slowly (limits.body_timeout)",
            Rejection::BodyTooLarge => {
                "the body is larger than the route's max_body, or a gateway sent only its beginning"
            }
            Rejection::UriTooLong => "the target is longer than limits.uri_bytes",
            Rejection::HeadersTooLarge => "the header is beyond limits.header_bytes or limits.header_count",
            Rejection::UpstreamFailed => "the app could not be reached or broke off its answer (upstream.url)",
            Rejection::UpstreamTimeout => "the app did not answer within upstream.timeout",
            Rejection::LoopDetected => {
                "hookward has forwarded this request before: an upstream leads back to it; name the app's own address"
            }
            Rejection::BufferFull => {
                "the buffer has no room for this route, or the disk is nearly full: is the app taking events?"
            }
            Rejection::BufferFailed => "the data directory could not be written: see the error before this line",
            Rejection::Draining => "shutting down",
            Rejection::Overloaded => "more at once than the limits allow, or the disk is too slow",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_is_snake_case_and_its_own() {
        let reasons: HashSet<_> = Rejection::ALL.iter().map(|r| r.reason()).collect();
        assert_eq!(reasons.len(), Rejection::ALL.len());
        for reason in reasons {
            assert!(reason.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{reason}");
        }
    }

    #[test]
    fn only_timestamp_reasons_tell_the_skew() {
        assert_eq!(Rejection::IpDenied.body(), r#"{"error":"ip_denied"}"#);
        assert_eq!(Rejection::TimestampStale { skew_s: 301 }.body(), r#"{"error":"timestamp_stale","skew_s":301}"#);
    }

    #[test]
    fn forgeries_are_4xx_our_own_trouble_is_503_the_apps_is_502_or_504_and_a_loop_508() {
        for rejection in Rejection::ALL {
            if rejection == Rejection::LoopDetected {
                assert_eq!((rejection.status(), rejection.is_ours()), (508, false));
                continue;
            }
            let app = matches!(rejection, Rejection::UpstreamFailed | Rejection::UpstreamTimeout);
            let status = rejection.status();
            assert!((400..500).contains(&status) || (status == 503 && !app) || (app && [502, 504].contains(&status)));
            assert_eq!(rejection.is_ours(), status >= 500);
            assert_eq!(rejection.is_passing(), status == 503);
        }
    }
}
