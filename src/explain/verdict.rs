//! Judges a captured request by the gates that judge a live one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::gate::allowlist::Allowlist;
use crate::gate::delivery::Delivery;
use crate::gate::identity::Identity;
use crate::gate::keys::NamedKey;
use crate::gate::signature::Verifier;
use crate::gate::timestamp::Tolerance;
use crate::gate::{Enforcement, Reports};
use crate::rejection::Rejection;

/// Largest body that is judged; a route's `max_body` is 1 MiB unless set.
pub const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A captured request, and what it is judged with.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Its header.
    pub headers: HeaderMap,
    /// Its body, exactly as it came.
    pub body: Bytes,
    /// Whose signature counts.
    pub keys: Vec<NamedKey>,
    /// How old the signature may be.
    pub past: Duration,
    /// How far ahead of the clock it may be.
    pub future: Duration,
    /// When it came, milliseconds since the Unix epoch.
    pub received_unix_ms: i64,
}

/// A request that a route with these keys and this tolerance takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The key that has signed it.
    pub key: Arc<str>,
    /// The time of receipt minus the signed time, seconds.
    pub skew_s: i64,
}

/// Takes a capture through the gates as a live request goes through them; its address is nobody's,
/// so that gate is open.
///
/// # Errors
/// The refusal that a live request would get.
pub fn judge(capture: &Capture) -> Result<Verified, Rejection> {
    let mode = Enforcement::Enforce;
    let verifier = Verifier { keys: capture.keys.clone(), signature: mode, timestamp: mode };
    let tolerance = Tolerance { past: capture.past, future: capture.future, mode };
    let mut reports = Reports::default();
    let admitted = Allowlist::Off.admit(Err(Rejection::ClientIpUndetermined), &mut reports)?;
    let claimed = verifier.claim(&admitted, &capture.headers, &mut reports)?;
    let delivery = Delivery::whole(claimed, capture.body.clone(), BODY_MAX_BYTES)?;
    let signed = verifier.verify(delivery, &mut reports)?;
    let fresh = tolerance.check(signed, capture.received_unix_ms, &mut reports)?;
    let identified = Identity { dedupe: None }.name(fresh, &capture.headers, &reports);
    match (identified.key, identified.skew_s) {
        (Some(key), Some(skew_s)) => Ok(Verified { key, skew_s }),
        // Where everything is enforced, what passes has a key and a time; nothing less is verified.
        _ => Err(Rejection::SignatureMismatch),
    }
}
