//! Deliveries of a route that an operator has stopped, as that is kept over restarts. Pure.

use crate::clock::RunMs;

/// A stop of the deliveries of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// When it began, wall clock.
    pub since_unix_ms: i64,
    /// When it ends by itself, running time; `None` until somebody ends it.
    pub until: Option<RunMs>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// Stands for no end.
const NEVER: i64 = i64::MAX;

impl Pause {
    /// True from its end on.
    pub fn is_over(&self, now: RunMs) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Its bytes in a note: both times, then the reason.
    pub fn encode(&self) -> Vec<u8> {
        let until = self.until.map_or(NEVER, |until| until.0);
        let reason = self.reason.as_deref().unwrap_or_default();
        [&self.since_unix_ms.to_le_bytes()[..], &until.to_le_bytes(), reason.as_bytes()].concat()
    }

    /// From such bytes.
    pub fn decode(noted: &[u8]) -> Option<Pause> {
        let (since_unix_ms, noted) = noted.split_first_chunk()?;
        let (until, reason) = noted.split_first_chunk()?;
        let until = i64::from_le_bytes(*until);
        let reason = std::str::from_utf8(reason).ok()?;
        Some(Pause {
            since_unix_ms: i64::from_le_bytes(*since_unix_ms),
            until: (until != NEVER).then_some(RunMs(until)),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_back_as_it_was_noted_and_anything_shorter_is_none() {
        for (until, reason) in [(None, None), (Some(RunMs(7)), Some("migration of the app".to_owned()))] {
            let pause = Pause { since_unix_ms: 1_700_000_000_123, until, reason };
            assert_eq!(Pause::decode(&pause.encode()), Some(pause));
        }
        assert_eq!(Pause::decode(&[0; 15]), None);
        assert_eq!(Pause::decode(&[0xff; 17]), None, "no text");
    }
}
