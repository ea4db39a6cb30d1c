//! Ids of requests and of the events that they may bring: UUIDv7 (RFC 9562 §5.7).

use parking_lot::Mutex;

use crate::buffer::event::DeliveryId;

/// Random bytes of an id: 74 of its bits.
const RANDOM_BYTES: usize = 10;
/// Ids for which the system is asked at once: a system call for every request would cost more than all else here.
const AHEAD: usize = 100;

/// Makes them.
#[derive(Debug, Default)]
pub struct RequestIds {
    /// For the next ids.
    random: Mutex<Vec<[u8; RANDOM_BYTES]>>,
}

impl RequestIds {
    /// A new id, for this time.
    pub fn next(&self, unix_ms: i64) -> DeliveryId {
        let random = {
            let mut random = self.random.lock();
            random.pop().unwrap_or_else(|| {
                *random = fresh();
                random.pop().unwrap_or_default()
            })
        };
        let unix_ms = u64::try_from(unix_ms).unwrap_or(0);
        DeliveryId(*uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid().as_bytes())
    }
}

fn fresh() -> Vec<[u8; RANDOM_BYTES]> {
    let mut bytes = [0; RANDOM_BYTES * AHEAD];
    if getrandom::fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    bytes.as_chunks().0.to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_say_their_time_are_version_7_and_none_comes_twice() {
        let ids = RequestIds::default();
        let made: HashSet<[u8; 16]> = (0..10 * AHEAD).map(|_| ids.next(0x0123_4567_89ab).0).collect();
        assert_eq!(made.len(), 10 * AHEAD);
        for id in made {
            assert_eq!(id[..6], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab]);
            assert_eq!((id[6] >> 4, id[8] >> 6), (7, 2), "version and variant");
        }
    }
}
