//! The gates a request passes, in this order. Each takes the proof that the gate before it made,
//! so the compiler keeps the order; none does I/O but reading the body, none reads a clock.
//!
//! | gate | makes | which says |
//! |---|---|---|
//! | [`hops`] | | it has not been here before |
//! | [`peer`] | `ClientAddr` | who the sender is, through trusted proxies only |
//! | [`allowlist`] | `Admitted` | the sender's address is on the list; only now is more looked at |
//! | [`signature`] (header) | `Claimed` | the two Telnyx headers are there once and well formed |
//! | [`forgers`] | `Turn` | one whose signatures keep failing waits for a share of the time |
//! | [`delivery`] | `Delivery` | the body, bounded, exactly as received |
//! | [`signature`] (body) | `Signed` | a configured key covers timestamp and body |
//! | [`timestamp`] | `Fresh` | signed within the tolerance |
//! | [`identity`] | `Identified` | has a duplicate key, or is known to have none |
//!
//! A check in `report` mode notes what it would have refused in [`Reports`] and lets it pass;
//! whoever has a note is unverified from there on.

pub mod allowlist;
pub mod check_share;
pub mod client_key;
pub mod delivery;
pub mod event_key;
pub mod forgers;
pub mod hops;
pub mod identity;
pub mod keys;
pub mod networks;
pub mod peer;
pub mod signature;
pub mod timestamp;

use crate::rejection::Rejection;

/// What a check does with a request that fails it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// Refuse it.
    Enforce,
    /// Count and log it, and let it pass as unverified.
    Report,
}

impl Enforcement {
    /// Refuses, or notes the refusal and goes on.
    pub(crate) fn apply(self, rejection: Rejection, reports: &mut Reports) -> Result<(), Rejection> {
        match self {
            Enforcement::Enforce => Err(rejection),
            Enforcement::Report => {
                reports.0.push(rejection);
                Ok(())
            }
        }
    }
}

/// What checks in `report` mode would have refused about one request.
#[derive(Debug, Default)]
pub struct Reports(Vec<Rejection>);

impl Reports {
    /// True if every check passed in earnest.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What would have been refused, in the order of the checks.
    pub fn iter(&self) -> impl Iterator<Item = Rejection> + '_ {
        self.0.iter().copied()
    }
}
