//! How old a signature may be.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::signature::Signed;
use super::{Enforcement, Reports};
use crate::rejection::Rejection;

/// How far the signed time may be from ours. Telnyx and its SDKs use 300 s.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// How old a signature may be; judged in whole seconds, the boundary passes.
    pub past: Duration,
    /// How far ahead of our clock it may be.
    pub future: Duration,
    /// What happens beyond.
    pub mode: Enforcement,
}

/// A body signed within the tolerance.
#[derive(Debug)]
pub struct Fresh {
    body: Bytes,
    key: Option<Arc<str>>,
    skew_s: Option<i64>,
}

impl Fresh {
    /// The body, the name of the key that signed it, and now minus its timestamp in seconds.
    pub(super) fn into_parts(self) -> (Bytes, Option<Arc<str>>, Option<i64>) {
        (self.body, self.key, self.skew_s)
    }
}

impl Tolerance {
    /// Judges the signed time against the clock, cut to whole seconds: with 300 s, 300 passes and
    /// 301 fails, either way.
    ///
    /// # Errors
    /// [`Rejection::TimestampStale`], [`Rejection::TimestampFuture`].
    pub fn check(&self, signed: Signed, now_unix_ms: i64, reports: &mut Reports) -> Result<Fresh, Rejection> {
        let skew_s = signed.timestamp_s().map(|timestamp| now_unix_ms.div_euclid(1000).saturating_sub(timestamp));
        if let Some(skew_s) = skew_s {
            if skew_s > whole_seconds(self.past) {
                self.mode.apply(Rejection::TimestampStale { skew_s }, reports)?;
            } else if -skew_s > whole_seconds(self.future) {
                self.mode.apply(Rejection::TimestampFuture { skew_s }, reports)?;
            }
        }
        let (body, key) = signed.into_parts();
        Ok(Fresh { body, key, skew_s })
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::allowlist::Allowlist;
    use crate::gate::delivery::Delivery;
    use crate::gate::delivery::tests::Pieces;
    use crate::gate::keys::NamedKey;
    use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, Verifier, sign};
    use ed25519_dalek::SigningKey;
    use http::HeaderMap;

    async fn signed_at(timestamp_s: i64) -> Signed {
        let key = SigningKey::from_bytes(&[7; 32]);
        let verifier = Verifier {
            keys: vec![NamedKey { name: "k".into(), key: key.verifying_key() }],
            signature: Enforcement::Enforce,
            timestamp: Enforcement::Enforce,
        };
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE_HEADER, sign(&key, timestamp_s, b"b").parse().unwrap());
        headers.insert(TIMESTAMP_HEADER, timestamp_s.to_string().parse().unwrap());
        let mut reports = Reports::default();
        let admitted = Allowlist::Off.admit(Err(Rejection::IpDenied), &mut reports).unwrap();
        let claimed = verifier.claim(&admitted, &headers, &mut reports).unwrap();
        let delivery = Delivery::read(claimed, &mut Pieces::of(&["b"]), 10).await.unwrap();
        verifier.verify(delivery, &mut reports).unwrap()
    }

    #[tokio::test]
    async fn the_tolerance_passes_at_its_boundary_and_fails_one_second_beyond() {
        let tolerance =
            Tolerance { past: Duration::from_secs(300), future: Duration::from_secs(60), mode: Enforcement::Enforce };
        let now_ms = 1_700_000_000_999;
        let cases = [
            (-300, None),
            (-301, Some(Rejection::TimestampStale { skew_s: 301 })),
            (0, None),
            (60, None),
            (61, Some(Rejection::TimestampFuture { skew_s: -61 })),
        ];
        for (offset_s, refused) in cases {
            let signed = signed_at(1_700_000_000 + offset_s).await;
            assert_eq!(tolerance.check(signed, now_ms, &mut Reports::default()).err(), refused, "{offset_s}");
        }
    }

    #[tokio::test]
    async fn milliseconds_are_always_in_the_future() {
        let tolerance =
            Tolerance { past: Duration::from_secs(300), future: Duration::from_secs(300), mode: Enforcement::Report };
        let mut reports = Reports::default();
        let fresh = tolerance.check(signed_at(1_700_000_000_000).await, 1_700_000_000_000, &mut reports).unwrap();
        assert!(matches!(reports.iter().next(), Some(Rejection::TimestampFuture { .. })));
        assert!(fresh.into_parts().2.unwrap() < -1_000_000_000);
    }
}
