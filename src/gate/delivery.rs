//! The body, bounded, exactly as it came.

use std::future::Future;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use super::signature::{Claim, Claimed};
use crate::rejection::Rejection;

/// Where the bytes of a body come from. The implementation owns the deadline: a body that is not
/// complete in time is [`Rejection::BodyTimeout`].
pub trait BodySource: Send {
    /// The client whose body it is, if its address is known; said before any of it is read.
    fn belongs_to(&mut self, _client: Option<IpAddr>) {}

    /// The length that the sender declared, if it did.
    fn declared_bytes(&self) -> Option<u64>;

    /// The next piece, or `None` at the end.
    fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Rejection>> + Send;
}

/// A request whose body has been read, and is not trusted yet.
#[derive(Debug)]
pub struct Delivery {
    claim: Option<Claim>,
    body: Bytes,
}

impl Delivery {
    /// Reads the whole body, never holding more than `max_body_bytes`.
    ///
    /// # Errors
    /// [`Rejection::BodyTooLarge`] as soon as the declared or the received length is beyond the
    /// bound, and what the source says.
    pub async fn read(
        claimed: Claimed,
        source: &mut impl BodySource,
        max_body_bytes: usize,
    ) -> Result<Delivery, Rejection> {
        let declared = match source.declared_bytes() {
            Some(length) => match usize::try_from(length) {
                Ok(length) if length <= max_body_bytes => length,
                _ => return Err(Rejection::BodyTooLarge),
            },
            None => 0,
        };
        let claim = claimed.into_claim();
        let Some(first) = source.next_chunk().await? else {
            return Ok(Delivery { claim, body: Bytes::new() });
        };
        if first.len() > max_body_bytes {
            return Err(Rejection::BodyTooLarge);
        }
        let Some(second) = source.next_chunk().await? else {
            return Ok(Delivery { claim, body: first });
        };
        let mut body = BytesMut::with_capacity(declared.max(first.len() + second.len()));
        body.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if body.len() + chunk.len() > max_body_bytes {
                return Err(Rejection::BodyTooLarge);
            }
            body.extend_from_slice(&chunk);
            next = source.next_chunk().await?;
        }
        Ok(Delivery { claim, body: body.freeze() })
    }

    /// A body that is there already, as a capture is.
    ///
    /// # Errors
    /// [`Rejection::BodyTooLarge`].
    pub fn whole(claimed: Claimed, body: Bytes, max_body_bytes: usize) -> Result<Delivery, Rejection> {
        if body.len() > max_body_bytes {
            return Err(Rejection::BodyTooLarge);
        }
        Ok(Delivery { claim: claimed.into_claim(), body })
    }

    /// Length of the body.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// The body, untrusted: another handle to the same bytes.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Whether the body is empty, which is a body like any other.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// What the header claims, and the bytes it claims it about.
    pub(super) fn into_parts(self) -> (Option<Claim>, Bytes) {
        (self.claim, self.body)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A body that is there already, in pieces.
    pub(crate) struct Pieces {
        pub(crate) declared: Option<u64>,
        pub(crate) chunks: VecDeque<Bytes>,
    }

    impl Pieces {
        pub(crate) fn of(chunks: &[&'static str]) -> Self {
            Pieces { declared: None, chunks: chunks.iter().map(|c| Bytes::from_static(c.as_bytes())).collect() }
        }
    }

    impl BodySource for Pieces {
        fn declared_bytes(&self) -> Option<u64> {
            self.declared
        }

        async fn next_chunk(&mut self) -> Result<Option<Bytes>, Rejection> {
            Ok(self.chunks.pop_front())
        }
    }

    async fn read(mut source: Pieces, max: usize) -> Result<Bytes, Rejection> {
        Delivery::read(Claimed::nothing_for_test(), &mut source, max).await.map(|delivery| delivery.into_parts().1)
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_bound_and_no_byte_larger() {
        assert_eq!(read(Pieces::of(&["abc", "de"]), 5).await.unwrap(), "abcde");
        assert_eq!(read(Pieces::of(&["abcde"]), 5).await.unwrap(), "abcde");
        assert_eq!(read(Pieces::of(&["abc", "d", "e", "f"]), 5).await, Err(Rejection::BodyTooLarge));
        assert_eq!(read(Pieces::of(&["abcdef"]), 5).await, Err(Rejection::BodyTooLarge));
        assert_eq!(read(Pieces::of(&[]), 5).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_declared_length_beyond_the_bound_is_refused_before_a_byte_is_read() {
        let mut source = Pieces::of(&["abc"]);
        source.declared = Some(u64::MAX);
        let refused = Delivery::read(Claimed::nothing_for_test(), &mut source, 5).await;
        assert_eq!(refused.err(), Some(Rejection::BodyTooLarge));
        assert_eq!(source.chunks.len(), 1);
    }

    #[test]
    fn a_body_that_is_there_already_has_the_same_bound() {
        let whole = |body: &'static str| {
            let delivery = Delivery::whole(Claimed::nothing_for_test(), Bytes::from_static(body.as_bytes()), 5);
            delivery.map(|delivery| delivery.into_parts().1)
        };
        assert_eq!(whole("abcde").unwrap(), "abcde");
        assert_eq!(whole("abcdef"), Err(Rejection::BodyTooLarge));
    }
}
