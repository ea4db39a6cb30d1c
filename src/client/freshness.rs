//! The age of a name's addresses: until when they are used, and when the resolver is asked again. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::network::LookUpError;

/// An answer of this age is refreshed, and nobody waits for that. getaddrinfo hides the time to live; this
/// is that of CoreDNS for names of a cluster.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// The shortest time between two look-ups: after one that failed, or where an address cannot be reached.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// An answer of this age is not used before the resolver has been asked again: the address may be
/// another's by now.
const TRUSTED_FOR: Duration = Duration::from_secs(30);
/// But not for longer than this where there is an old answer: the resolver may be down.
const OLD_ANSWER_AFTER: Duration = Duration::from_millis(500);
/// An answer is kept this long while the resolver fails.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// A name is gone once the resolver has said so this often in a row: one of several servers may not know it.
const DENIALS: u32 = 2;

/// The part of the resolver in an exchange that needs an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing: there is an answer, or there was none a moment ago.
    Not,
    /// It takes the answer that is there; another is looked up in the background.
    InBackground,
    /// It waits for a look-up, but at most so long if there is an old answer.
    First(Option<Duration>),
}

/// The history of a name's look-ups.
#[derive(Default)]
pub(super) struct Freshness {
    is_asking: bool,
    /// An exchange has waited in vain for the one under way.
    is_slow: bool,
    /// When the last look-up ended.
    asked: Option<Instant>,
    /// When the last one that brought addresses ended.
    answered: Option<Instant>,
    /// The reason why the last one brought none.
    failure: Option<LookUpError>,
    denials: u32,
    /// One of the addresses could not be reached since.
    is_doubtful: bool,
    /// None of them could.
    is_wrong: bool,
}

impl Freshness {
    /// For an exchange that needs an address; one `is_known`, or none.
    pub(super) fn ask(&self, is_known: bool, now: Instant) -> Ask {
        let may_ask = self.is_asking || self.is_due(now);
        let answer_age = self.answered.map_or(Duration::MAX, |answered| now - answered);
        let keeps = self.failure().is_some() || (!self.is_wrong && answer_age < TRUSTED_FOR);
        match is_known {
            _ if !may_ask => Ask::Not,
            true if keeps && self.is_asking => Ask::Not,
            true if keeps => Ask::InBackground,
            // The old answer is known to be wrong: there is nothing to go on with meanwhile.
            true => Ask::First((!self.is_wrong).then_some(OLD_ANSWER_AFTER)),
            false => Ask::First(None),
        }
    }

    /// A look-up is to be begun.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let wait =
            if self.failure.is_some() || self.is_doubtful || self.is_wrong { ASK_AGAIN_AFTER } else { FRESH_FOR };
        !self.is_asking && self.asked.is_none_or(|asked| now - asked >= wait)
    }

    /// A look-up has begun.
    pub(super) fn begin(&mut self) {
        self.is_asking = true;
    }

    /// A look-up has brought addresses.
    pub(super) fn answered(&mut self, now: Instant) {
        *self = Freshness { asked: Some(now), answered: Some(now), ..Freshness::default() };
    }

    /// A look-up has brought none; true if the addresses of earlier ones are to be forgotten.
    pub(super) fn failed(&mut self, error: LookUpError, now: Instant) -> bool {
        (self.is_asking, self.is_slow) = (false, false);
        self.asked = Some(now);
        self.failure = Some(error);
        self.denials = if error == LookUpError::NoSuchName { self.denials + 1 } else { 0 };
        self.denials >= DENIALS || self.answered.is_none_or(|answered| now - answered >= KEPT_FOR)
    }

    /// An exchange has waited long enough for the look-up that is under way.
    pub(super) fn gave_up_waiting(&mut self) {
        self.is_slow = self.is_asking;
    }

    /// One of the addresses could not be reached, or all.
    pub(super) fn unreachable(&mut self, are_all: bool) {
        self.is_doubtful = true;
        self.is_wrong |= are_all;
    }

    /// The reason why there is no newer answer.
    pub(super) fn failure(&self) -> Option<LookUpError> {
        self.failure.or(self.is_slow.then_some(LookUpError::NoAnswer))
    }

    /// The last look-up that ended has brought no addresses.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered_at(now: Instant) -> Freshness {
        let mut freshness = Freshness::default();
        freshness.answered(now);
        freshness
    }

    #[test]
    fn an_answer_is_used_while_fresh_then_refreshed_in_the_background_then_not_used_before_the_resolver_is_asked() {
        let start = Instant::now();
        let mut freshness = Freshness::default();
        assert_eq!(freshness.ask(false, start), Ask::First(None));
        freshness.begin();
        assert_eq!(freshness.ask(false, start), Ask::First(None), "everybody waits for the same look-up");
        assert!(!freshness.is_due(start));
        freshness.answered(start);
        assert_eq!(freshness.ask(true, start + FRESH_FOR - Duration::from_millis(1)), Ask::Not);
        assert_eq!(freshness.ask(true, start + FRESH_FOR), Ask::InBackground);
        assert_eq!(freshness.ask(true, start + TRUSTED_FOR), Ask::First(Some(OLD_ANSWER_AFTER)));
        freshness.begin();
        assert_eq!(freshness.ask(true, start + FRESH_FOR), Ask::Not, "one look-up at a time");
    }

    #[test]
    fn an_old_answer_is_used_while_the_resolver_fails_and_it_is_asked_each_second() {
        let start = Instant::now();
        let mut freshness = answered_at(start);
        let mut now = start + TRUSTED_FOR;
        while now < start + KEPT_FOR - SECOND {
            freshness.begin();
            assert!(!freshness.failed(LookUpError::NoAnswer, now));
            assert_eq!(freshness.ask(true, now), Ask::Not);
            now += SECOND;
            assert_eq!(freshness.ask(true, now), Ask::InBackground);
        }
        assert!(freshness.failed(LookUpError::NoAnswer, start + KEPT_FOR), "but not for ever");
    }

    #[test]
    fn a_name_that_is_gone_is_forgotten_at_the_second_denial_in_a_row() {
        let now = Instant::now();
        let mut freshness = answered_at(now);
        assert!(!freshness.failed(LookUpError::NoSuchName, now));
        assert!(!freshness.failed(LookUpError::NoAnswer, now));
        assert!(!freshness.failed(LookUpError::NoSuchName, now));
        assert!(freshness.failed(LookUpError::NoSuchName, now));
        assert_eq!(freshness.ask(false, now), Ask::Not, "nor asked for by everybody who comes");
        assert_eq!(freshness.ask(false, now + SECOND), Ask::First(None));
    }

    #[test]
    fn addresses_that_cannot_be_reached_are_looked_up_again_within_a_second() {
        let start = Instant::now();
        let mut freshness = answered_at(start);
        freshness.unreachable(false);
        assert_eq!(freshness.ask(true, start), Ask::Not);
        assert_eq!(freshness.ask(true, start + SECOND), Ask::InBackground, "another one can be reached");
        freshness.unreachable(true);
        assert_eq!(freshness.ask(true, start + SECOND), Ask::First(None));
        freshness.failed(LookUpError::NoAnswer, start + SECOND);
        assert_eq!(
            freshness.ask(true, start + 2 * SECOND),
            Ask::InBackground,
            "while the resolver fails they are all there is"
        );
    }

    #[test]
    fn a_look_up_that_takes_too_long_counts_as_failed_until_it_ends() {
        let start = Instant::now();
        let mut freshness = answered_at(start);
        let now = start + TRUSTED_FOR;
        freshness.begin();
        assert_eq!(freshness.ask(true, now), Ask::First(Some(OLD_ANSWER_AFTER)));
        freshness.gave_up_waiting();
        assert_eq!(freshness.ask(true, now), Ask::Not, "only the first one waits");
        freshness.answered(now);
        assert_eq!(freshness.failure(), None);
    }
}
