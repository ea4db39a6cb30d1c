//! What waits on one route, and what is done about it next. Pure: time is handed in, and the shell
//! in `mod.rs` carries out each step.
//!
//! New events come from memory, the others are claimed from the buffer, a few at a time. While the
//! app is not tried, what waits waits in the buffer; only an ordered lane keeps what it has, since
//! it has taken it up in order.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::breaker::Leave;
use super::kind::Kinds;
use super::order::Order;
use super::order_key::{Ordering, PlaceReader};
use super::scheduler::{Class, LaneId, Scheduler, Slot, Turn, Wants};
use super::waiting::Waiting;
use crate::buffer::ClaimLimit;
use crate::buffer::event::{Claimed, Seq};
use crate::clock::RunMs;

/// What a lane takes from the buffer at once.
const CLAIM: ClaimLimit = ClaimLimit { events: 64, bytes: 4 << 20, untried_first: false };
/// What it takes for a probe: rather what the app has not found fault with yet.
const CLAIM_PROBE: ClaimLimit = ClaimLimit { events: 1, bytes: 1, untried_first: true };
/// It takes more as soon as it has fewer than this.
const CLAIM_BELOW: usize = 16;
/// New events that stay in memory as probes while the app is not tried, the newest of each kind.
pub const PROBES_MAX: usize = 4;
/// Events of a kind that stay in memory of each half while their kind is crowded; more wait in the
/// buffer, out of the way of other kinds.
const CROWD_MAX: usize = 16;
/// Events of an ordered lane that are kept in memory though they may begin.
const READY_MAX: usize = 64;
/// Bytes of events of an ordered lane that wait in memory for others; more wait in the buffer.
const PARKED_MAX_BYTES: usize = 8 << 20;
/// How long an event for which there is no room waits in the buffer, if nobody knows better.
const PUT_BACK_FOR: Duration = Duration::from_secs(1);

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Try this event.
    Begin(Claimed, Slot),
    /// Connect to the app without an event, and tell [`Scheduler::end_connect`] with this period how it ended.
    Connect(u32),
    /// Claim from the buffer and tell [`Lane::claimed`].
    Claim(ClaimLimit),
    /// Give an untried event back to the buffer until it is due.
    PutBack(Claimed, Class, RunMs),
    /// Nothing, until then or until something happens.
    Rest {
        /// When time alone brings something to do.
        until: Option<RunMs>,
        /// A lane whose turn it is.
        wake: Option<LaneId>,
    },
}

/// One route's side of the scheduler.
#[derive(Debug)]
pub struct Lane {
    id: LaneId,
    /// From memory, not looked at yet.
    fresh: VecDeque<Claimed>,
    /// From the buffer, not looked at yet.
    backlog: VecDeque<Claimed>,
    /// What may begin, by class.
    ready: [Waiting; 2],
    /// When the buffer has something, as it said last.
    next_due: Option<RunMs>,
    /// Until when an operator has stopped it.
    paused_until: Option<RunMs>,
    /// Whether the buffer may have something that it has not said.
    look: bool,
    is_claiming: bool,
    sequence: Option<Sequence>,
}

impl Lane {
    /// A lane that has yet to look into the buffer.
    pub fn new(id: LaneId, ordering: Option<&Ordering>) -> Lane {
        Lane {
            id,
            fresh: VecDeque::new(),
            backlog: VecDeque::new(),
            ready: [Waiting::new(), Waiting::new()],
            next_due: None,
            paused_until: None,
            look: true,
            is_claiming: false,
            sequence: ordering.map(Sequence::new),
        }
    }

    /// Its name among the lanes of an app.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// True of an event that waits for others of its key.
    pub fn is_behind(&self, seq: Seq) -> bool {
        self.sequence.as_ref().is_some_and(|sequence| sequence.order.is_behind(seq))
    }

    /// Whether it needs to know how its attempts end.
    pub fn is_ordered(&self) -> bool {
        self.sequence.is_some()
    }

    /// Whether an answer to [`Step::Claim`] is to come.
    pub fn is_claiming(&self) -> bool {
        self.is_claiming
    }

    /// New events, in order of their storing.
    pub fn add_fresh(&mut self, events: &mut VecDeque<Claimed>) {
        self.fresh.append(events);
    }

    /// Something may be due in the buffer.
    pub fn look_into_buffer(&mut self) {
        self.look = true;
    }

    /// An operator stops it until then, or lets it go on.
    pub fn pause(&mut self, until: Option<RunMs>) {
        self.paused_until = until;
    }

    /// The answer to [`Step::Claim`].
    pub fn claimed(&mut self, events: Vec<Claimed>, next_due: Option<RunMs>) {
        self.is_claiming = false;
        self.next_due = next_due;
        self.backlog.extend(events);
    }

    /// An attempt of this lane has ended: with a retry at some time, or for good. Only an ordered
    /// lane needs to know.
    pub fn ended(&mut self, seq: Seq, retry: Option<RunMs>, now: RunMs) {
        if let Some(sequence) = &mut self.sequence {
            sequence.order.ended(seq, retry, now);
        }
    }

    /// It goes to another app, which has other kinds.
    pub fn join(&mut self, scheduler: &mut Scheduler) {
        for ready in &mut self.ready {
            for claimed in ready.drain() {
                ready.push(scheduler.kind(self.id, claimed.event.event_type.as_deref()), claimed);
            }
        }
    }

    /// What is to be done next. To be asked until it says [`Step::Rest`].
    pub fn step(&mut self, scheduler: &mut Scheduler, now: RunMs) -> Step {
        let paused_until = self.paused_until.filter(|until| *until > now);
        let leave = paused_until.map_or_else(|| scheduler.leave(now), Leave::NotBefore);
        let is_stopped = paused_until.is_some() || scheduler.is_stopped(now);
        let put_back = self.arrange(scheduler, is_stopped, now).or_else(|| match is_stopped {
            true => self.put_back_one(paused_until.is_none() && scheduler.takes_probes(now)),
            false => self.put_off_one(scheduler, now),
        });
        if let Some(step) = put_back {
            return step;
        }
        if leave == Leave::Connect {
            return Step::Connect(scheduler.begin_connect(now));
        }
        let wants = if paused_until.is_some() { Wants::default() } else { self.wants() };
        let (until, wake) = match scheduler.ask(self.id, wants, now) {
            Turn::Yours { class, kinds } => match self.ready[index(class)].pop_oldest(kinds) {
                Some((kind, claimed)) => {
                    let slot = scheduler.begin(self.id, class, kind, claimed.attempts == 0, now);
                    return Step::Begin(claimed, slot);
                }
                // Cannot be: it wants what it has.
                None => (None, None),
            },
            Turn::Wait { until, instead } => (until, instead),
        };
        let may_claim = match leave {
            Leave::Free => self.free_backlog(scheduler, now) < CLAIM_BELOW,
            // One of another kind than those that have failed may be in the buffer.
            Leave::Probe => wants.backlog.is_empty() && scheduler.have_failed(wants.fresh),
            Leave::NotBefore(_) | Leave::AfterProbe | Leave::Connect => false,
        };
        if may_claim && !self.is_claiming && (self.look || self.next_due.is_some_and(|due| due <= now)) {
            (self.is_claiming, self.look) = (true, false);
            let is_for_probe = leave == Leave::Probe && !self.is_ordered();
            return Step::Claim(if is_for_probe { CLAIM_PROBE } else { CLAIM });
        }
        let due = self.next_due.filter(|_| may_claim && !self.is_claiming);
        let tick = self.sequence.as_ref().and_then(|sequence| sequence.order.next_tick());
        // A lane that wants nothing now has to look when it may want something again.
        let stop_ends = match leave {
            Leave::NotBefore(at) => Some(at),
            _ => None,
        };
        Step::Rest { until: [until, due, tick, stop_ends].into_iter().flatten().min(), wake }
    }

    /// Everything that it holds, to be given back at the end.
    pub fn drain(&mut self) -> Vec<(Claimed, Class)> {
        let [fresh, backlog] = &mut self.ready;
        let fresh = self.fresh.drain(..).chain(fresh.drain()).map(|claimed| (claimed, Class::Fresh));
        let backlog = self.backlog.drain(..).chain(backlog.drain()).map(|claimed| (claimed, Class::Backlog));
        let mut all: Vec<_> = fresh.chain(backlog).collect();
        if let Some(sequence) = &mut self.sequence {
            all.extend(sequence.drain());
        }
        all
    }

    /// Events that were delivered without their place, since too many were known; since the last
    /// time this was asked.
    pub fn take_unordered(&mut self) -> u64 {
        self.sequence.as_mut().map_or(0, |sequence| std::mem::take(&mut sequence.unordered))
    }

    /// Finds out what may begin: everything, but for what waits for another one in an ordered lane.
    fn arrange(&mut self, scheduler: &mut Scheduler, is_stopped: bool, now: RunMs) -> Option<Step> {
        if self.sequence.is_some() {
            return self.arrange_in_order(scheduler, is_stopped, now);
        }
        for (class, new) in [(Class::Fresh, &mut self.fresh), (Class::Backlog, &mut self.backlog)] {
            for claimed in new.drain(..) {
                let kind = scheduler.kind(self.id, claimed.event.event_type.as_deref());
                self.ready[index(class)].push(kind, claimed);
            }
        }
        None
    }

    fn arrange_in_order(&mut self, scheduler: &mut Scheduler, is_stopped: bool, now: RunMs) -> Option<Step> {
        let sequence = self.sequence.as_mut()?;
        if is_stopped {
            sequence.order.pause(now);
        } else {
            sequence.order.resume(now);
        }
        let let_go = |sequence: &mut Sequence, ready: &mut [Waiting; 2], scheduler: &mut Scheduler| {
            for (claimed, class) in sequence.let_go.drain(..) {
                let kind = scheduler.kind(self.id, claimed.event.event_type.as_deref());
                ready[index(class)].push(kind, claimed);
            }
        };
        let_go(sequence, &mut self.ready, scheduler);
        while self.ready.iter().map(Waiting::total).sum::<usize>() < READY_MAX {
            // In order of their storing.
            let (from, class) = match (self.fresh.front(), self.backlog.front()) {
                (None, None) => break,
                (Some(fresh), Some(backlog)) if backlog.seq < fresh.seq => (&mut self.backlog, Class::Backlog),
                (None, Some(_)) => (&mut self.backlog, Class::Backlog),
                // A claim under way may bring older ones than memory has.
                (Some(_), _) if self.is_claiming => break,
                (Some(_), _) => (&mut self.fresh, Class::Fresh),
            };
            let claimed = from.pop_front()?;
            let put_back = sequence.arrive(claimed, class, now);
            let_go(sequence, &mut self.ready, scheduler);
            if let Some((claimed, due)) = put_back {
                return Some(Step::PutBack(claimed, class, due));
            }
        }
        let buffer_has_more = self.look || self.is_claiming || self.next_due == Some(RunMs(0));
        sequence.order.tick(!buffer_has_more && self.fresh.is_empty() && self.backlog.is_empty(), now);
        sequence.settle_ready();
        let_go(sequence, &mut self.ready, scheduler);
        None
    }

    /// While the app is not tried, events wait in the buffer, but for those of probes.
    fn put_back_one(&mut self, takes_probes: bool) -> Option<Step> {
        if self.is_ordered() {
            return None;
        }
        let [fresh, backlog] = &mut self.ready;
        let repeated = fresh.kinds().filter(|kind| fresh.count(kind) > 1);
        let surplus = match takes_probes {
            false => fresh.pop_newest(Kinds::ALL),
            true if !repeated.is_empty() => fresh.pop_oldest(repeated),
            true if fresh.total() > PROBES_MAX => fresh.pop_oldest(Kinds::ALL),
            true => None,
        };
        if let Some((_, claimed)) = surplus {
            return Some(Step::PutBack(claimed, Class::Fresh, RunMs(0)));
        }
        // One that was claimed for a probe waits for its turn.
        if backlog.total() <= usize::from(takes_probes) {
            return None;
        }
        let (_, claimed) = backlog.pop_newest(Kinds::ALL)?;
        // What was tried is told from what was not by its due time.
        let due = claimed.due;
        Some(Step::PutBack(claimed, Class::Backlog, due))
    }

    /// More events of a crowded kind than may stand in the way of others wait in the buffer.
    fn put_off_one(&mut self, scheduler: &mut Scheduler, now: RunMs) -> Option<Step> {
        for class in [Class::Fresh, Class::Backlog] {
            let ready = &mut self.ready[index(class)];
            if ready.total() <= CROWD_MAX {
                continue;
            }
            let is_crowded = |kind| ready.count(kind) > CROWD_MAX && scheduler.is_crowded(kind, class, now);
            let crowded = ready.kinds().filter(is_crowded);
            if crowded.is_empty() {
                continue;
            }
            let (kind, claimed) = ready.pop_newest(crowded)?;
            let due = scheduler.next_turn(kind, now);
            if let Some(sequence) = &mut self.sequence {
                sequence.order.put_back(claimed.seq, due, now);
            }
            return Some(Step::PutBack(claimed, class, due));
        }
        None
    }

    fn wants(&self) -> Wants {
        let [fresh, backlog] = &self.ready;
        Wants { fresh: fresh.kinds(), backlog: backlog.kinds() }
    }

    /// How many events from the buffer may begin as soon as there is a slot.
    fn free_backlog(&self, scheduler: &Scheduler, now: RunMs) -> usize {
        let [_, backlog] = &self.ready;
        let crowded = backlog.kinds().filter(|kind| scheduler.is_crowded(kind, Class::Backlog, now));
        self.backlog.len() + backlog.total() - crowded.iter().map(|kind| backlog.count(kind)).sum::<usize>()
    }
}

fn index(class: Class) -> usize {
    match class {
        Class::Fresh => 0,
        Class::Backlog => 1,
    }
}

/// The events of an ordered lane that are in memory.
#[derive(Debug)]
struct Sequence {
    places: PlaceReader,
    order: Order,
    /// What waits for another one, or for time to pass.
    parked: HashMap<Seq, (Claimed, Class)>,
    parked_bytes: usize,
    /// What may begin from now on.
    let_go: Vec<(Claimed, Class)>,
    unordered: u64,
}

impl Sequence {
    fn new(ordering: &Ordering) -> Sequence {
        Sequence {
            places: PlaceReader::new(ordering),
            order: Order::new(ordering.max_block, ordering.reorder_window),
            parked: HashMap::new(),
            parked_bytes: 0,
            let_go: Vec::new(),
            unordered: 0,
        }
    }

    /// Takes an event up. What can neither begin nor wait here is returned, with the time until
    /// which it waits in the buffer.
    fn arrive(&mut self, claimed: Claimed, class: Class, now: RunMs) -> Option<(Claimed, RunMs)> {
        let Claimed { seq, due, stored_at, .. } = claimed;
        let place = self.places.place(&claimed.event);
        let is_placed = place.is_some_and(|place| self.order.arrive(seq, place, stored_at, due, now));
        if !is_placed {
            self.unordered += u64::from(place.is_some());
            if due > now {
                return Some((claimed, due));
            }
            self.let_go.push((claimed, class));
            return None;
        }
        self.park(claimed, class);
        self.settle_ready();
        let has_room = self.parked_bytes <= PARKED_MAX_BYTES && due <= now;
        if has_room || !self.parked.contains_key(&seq) {
            return None;
        }
        let due = if due > now { due } else { self.back_until(seq, now) };
        self.order.put_back(seq, due, now);
        self.unpark(seq).map(|(claimed, _)| (claimed, due))
    }

    /// Moves to the ready ones what its order lets go.
    fn settle_ready(&mut self) {
        while let Some(seq) = self.order.next_ready() {
            let unparked = self.unpark(seq);
            self.let_go.extend(unparked);
        }
    }

    fn park(&mut self, claimed: Claimed, class: Class) {
        self.parked_bytes += claimed.event.body.len();
        self.parked.insert(claimed.seq, (claimed, class));
    }

    fn unpark(&mut self, seq: Seq) -> Option<(Claimed, Class)> {
        let (claimed, class) = self.parked.remove(&seq)?;
        self.parked_bytes -= claimed.event.body.len();
        Some((claimed, class))
    }

    fn back_until(&self, seq: Seq, now: RunMs) -> RunMs {
        self.order.not_before(seq, now).unwrap_or(now.plus(PUT_BACK_FOR))
    }

    fn drain(&mut self) -> Vec<(Claimed, Class)> {
        let let_go = std::mem::take(&mut self.let_go);
        let_go.into_iter().chain(std::mem::take(&mut self.parked).into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::breaker::ConnectEnd;
    use super::super::hold::Asks;
    use super::super::scheduler::tests::scheduler_of;
    use super::super::signal::Signal;
    use super::*;
    use crate::buffer::event::tests::event;

    const NOW: RunMs = RunMs(1_000);

    fn claimed(seq: i64) -> Claimed {
        let event = Arc::new(event("e", br#"{"data":{"payload":{"id":"one key"}}}"#));
        let (stored_at, tried_since, due) = (NOW, NOW, RunMs(0));
        Claimed { seq: Seq(seq), event, attempts: 0, client_errors: 0, stored_at, tried_since, due }
    }

    fn ordered() -> (Lane, Scheduler) {
        let (max_block, reorder_window) = (Duration::from_secs(30), Duration::ZERO);
        let ordering = Ordering { key: "/data/payload/id".to_owned(), max_block, reorder_window };
        (Lane::new(LaneId(1), Some(&ordering)), scheduler_of(16))
    }

    fn begun(lane: &mut Lane, scheduler: &mut Scheduler) -> Option<i64> {
        match lane.step(scheduler, NOW) {
            Step::Begin(claimed, _) => Some(claimed.seq.0),
            _ => None,
        }
    }

    #[test]
    fn an_event_of_which_the_buffer_tells_while_a_claim_is_under_way_is_claimed_after_it() {
        let mut lane = Lane::new(LaneId(1), None);
        let mut scheduler = scheduler_of(16);
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Claim(_)));
        lane.look_into_buffer();
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Rest { .. }), "one at a time");
        lane.claimed(vec![], None);
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Claim(_)));
    }

    #[test]
    fn what_memory_has_waits_for_a_claim_that_may_bring_older_events_of_its_key() {
        let (mut lane, mut scheduler) = ordered();
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Claim(_)));
        lane.add_fresh(&mut [claimed(5)].into());
        assert_eq!(begun(&mut lane, &mut scheduler), None);
        lane.claimed(vec![claimed(4)], None);
        assert_eq!(begun(&mut lane, &mut scheduler), Some(4));
        lane.ended(Seq(4), None, NOW);
        assert_eq!(begun(&mut lane, &mut scheduler), Some(5));
    }

    #[test]
    fn what_a_claim_brings_does_not_go_past_older_events_that_memory_has() {
        let (mut lane, mut scheduler) = ordered();
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Claim(_)));
        lane.add_fresh(&mut [claimed(3)].into());
        lane.claimed(vec![claimed(4)], Some(RunMs(0)));
        // The next claim is under way before 3 and 4 are looked at.
        lane.is_claiming = true;
        assert_eq!(begun(&mut lane, &mut scheduler), None);
        lane.claimed(vec![], None);
        assert_eq!(begun(&mut lane, &mut scheduler), Some(3));
    }

    #[test]
    fn a_full_window_sends_nothing_back_to_the_buffer() {
        let mut lane = Lane::new(LaneId(1), None);
        let mut scheduler = scheduler_of(8);
        let quick = Duration::from_millis(1);
        let mut under_way = Vec::new();
        for round in 0..50 {
            // Two types, far more of them than there are slots.
            let mut other = claimed(round * 100);
            Arc::get_mut(&mut other.event).unwrap().event_type = Some("call.hangup".to_owned());
            lane.add_fresh(&mut (1..60).map(|n| claimed(round * 100 + n)).chain([other]).collect());
            loop {
                match lane.step(&mut scheduler, NOW) {
                    Step::Begin(_, slot) => under_way.push(slot),
                    Step::PutBack(back, ..) => panic!("{:?} had room", back.seq),
                    Step::Claim(_) => lane.claimed(vec![], None),
                    Step::Connect(_) => panic!("the app is up"),
                    Step::Rest { .. } => break,
                }
            }
            for slot in under_way.drain(..) {
                scheduler.end(&slot, Signal::Good, quick, NOW);
            }
        }
    }

    #[test]
    fn while_the_app_is_down_the_newest_event_of_each_type_stays_as_a_probe() {
        let mut lane = Lane::new(LaneId(1), None);
        let mut scheduler = scheduler_of(16);
        lane.claimed(vec![claimed(1)], None);
        let Step::Begin(_, slot) = lane.step(&mut scheduler, NOW) else { panic!() };
        for _ in 0..5 {
            let slot = scheduler.begin(lane.id(), slot.class, slot.kind, true, NOW);
            scheduler.end(&slot, Signal::Unreachable, Duration::ZERO, NOW);
        }
        let mut other = claimed(4);
        Arc::get_mut(&mut other.event).unwrap().event_type = Some("call.hangup".to_owned());
        lane.add_fresh(&mut [claimed(2), claimed(3), other].into());
        let Step::PutBack(back, Class::Fresh, RunMs(0)) = lane.step(&mut scheduler, NOW) else { panic!() };
        assert_eq!(back.seq, Seq(2), "3 is newer and of its type");
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Rest { .. }));
        let Step::Connect(period) = lane.step(&mut scheduler, RunMs(2_000)) else { panic!() };
        assert!(matches!(lane.step(&mut scheduler, RunMs(2_000)), Step::Rest { .. }), "one at a time");
        scheduler.end_connect(ConnectEnd::Reached, period, RunMs(2_000));
        let mut tried = Vec::new();
        for now in [RunMs(2_000), RunMs(4_000)] {
            let Step::Begin(probe, slot) = lane.step(&mut scheduler, now) else { panic!() };
            scheduler.end(&slot, Signal::Failed, Duration::ZERO, now);
            tried.push(probe.seq.0);
        }
        tried.sort_unstable();
        assert_eq!(tried, [3, 4], "one of each type, not one type again and again");
    }

    #[test]
    fn a_paused_lane_gives_back_what_it_has_is_in_no_other_lanes_way_and_goes_on_by_itself_when_that_is_over() {
        let (mut lane, mut other) = (Lane::new(LaneId(1), None), Lane::new(LaneId(2), None));
        let mut scheduler = scheduler_of(2);
        lane.add_fresh(&mut [claimed(1)].into());
        let Step::Begin(_, slot) = lane.step(&mut scheduler, NOW) else { panic!() };
        lane.add_fresh(&mut [claimed(2)].into());
        lane.pause(Some(RunMs(2_000)));
        let Step::PutBack(back, Class::Fresh, RunMs(0)) = lane.step(&mut scheduler, NOW) else { panic!() };
        assert_eq!(back.seq, Seq(2));
        lane.look_into_buffer();
        let Step::Rest { until: Some(RunMs(2_000)), wake: None } = lane.step(&mut scheduler, NOW) else { panic!() };
        scheduler.end(&slot, Signal::Good, Duration::ZERO, NOW);
        other.add_fresh(&mut [claimed(3)].into());
        assert_eq!(begun(&mut other, &mut scheduler), Some(3));
        assert!(matches!(lane.step(&mut scheduler, RunMs(2_000)), Step::Claim(_)));
        lane.pause(Some(RunMs(i64::MAX)));
        assert!(matches!(lane.step(&mut scheduler, RunMs(2_000)), Step::Rest { .. }), "paused again");
        lane.pause(None);
        lane.claimed(vec![claimed(4)], None);
        assert_eq!(begun(&mut lane, &mut scheduler), Some(4));
    }

    #[test]
    fn a_paused_lane_in_order_keeps_what_it_has_taken_up() {
        let (mut lane, mut scheduler) = ordered();
        lane.claimed(vec![claimed(4), claimed(5)], None);
        lane.look = false;
        lane.pause(Some(RunMs(i64::MAX)));
        assert!(matches!(lane.step(&mut scheduler, NOW), Step::Rest { until: Some(RunMs(i64::MAX)), .. }));
        lane.pause(None);
        assert_eq!(begun(&mut lane, &mut scheduler), Some(4));
    }

    #[test]
    fn while_the_app_wants_to_be_left_alone_new_events_go_back_to_the_buffer() {
        let mut lane = Lane::new(LaneId(1), None);
        let mut scheduler = scheduler_of(16);
        scheduler.hold(Asks::App, Duration::from_secs(60), NOW);
        lane.add_fresh(&mut [claimed(1), claimed(2)].into());
        for seq in [2, 1] {
            let Step::PutBack(back, Class::Fresh, RunMs(0)) = lane.step(&mut scheduler, NOW) else { panic!("{seq}") };
            assert_eq!(back.seq, Seq(seq));
        }
        let Step::Rest { until, .. } = lane.step(&mut scheduler, NOW) else { panic!() };
        assert_eq!(until, Some(RunMs(61_000)));
    }
}
