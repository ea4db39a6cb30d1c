//! What every engine promises, over a plain map: an engine is conformant when no sequence of calls,
//! kills and failures makes it differ from [`Model`]. An engine's test is a [`Rig`] and one call of
//! [`run`] per plan.
//!
//! A kill leaves the files as the system has them, so nothing here needs a sync: what a power loss may
//! leave behind is another test's matter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::event::tests::event;
use super::event::{Claimed, DeliveryId, Fingerprint, HandedOut, NewEvent, Outcome, Seq, Settlement, State};
use super::pause::Pause;
use super::record::{Filter, Repair, Repaired, Slice};
use super::{Append, Appended, Buffer, ClaimLimit, Recovery, Work};
use crate::clock::RunMs;

/// What decides how an engine behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeps {
    /// The duplicate window, for which tombstones stay.
    pub(crate) window: Duration,
    /// How long dead letters are kept, counted from when they were given up.
    pub(crate) dead: Duration,
    /// How long delivered bodies are kept.
    pub(crate) delivered: Duration,
    /// Whether order matters.
    pub(crate) in_order: bool,
}

/// An engine and its files, in a folder of its own that goes with it.
pub(crate) trait Rig {
    /// Nothing stored yet.
    fn new(keeps: Keeps) -> Self;
    /// Opens what is there, as a start does.
    fn open(&mut self) -> (Box<dyn Buffer>, Recovery);
    /// The process is gone in the middle of its work; the next [`Rig::open`] gets what it left.
    fn kill(&mut self, engine: Box<dyn Buffer>);
    /// The engine has failed and is opened again in the same process.
    fn reopen(&mut self, engine: Box<dyn Buffer>) -> Box<dyn Buffer>;
}

/// One call, or what befalls the process. Numbers choose among what there is, modulo its count.
#[derive(Debug, Clone)]
enum Step {
    /// One group: these ids on these routes, some to be claimed; and what became of handed-out events.
    Commit(Vec<(u8, bool, bool)>, Vec<(usize, What)>),
    /// What became of any event is told, handed out or not.
    SettleAny(usize, What),
    /// What became of an event of another database is told, which stood where this one's stands.
    SettleStray(usize, What),
    Claim(bool, usize),
    Redrive(usize),
    Discard(usize),
    Forget(usize),
    /// The deliveries of a route are stopped for some reason, or go on.
    Pause(bool, Option<u16>),
    /// Time goes on, milliseconds.
    Tick(u32),
    Maintain(bool),
    Close,
    Kill,
    Fail,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Deliver,
    Retry(u16),
    GiveUp,
    Release,
    PutBack(u16),
}

/// A way to go.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    in_order: bool,
    keeps_delivered: bool,
    steps: Vec<Step>,
}

/// All ways, the probable ones more often.
pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let what = || {
        prop_oneof![
            4 => Just(What::Deliver),
            2 => (1u16..3_000).prop_map(What::Retry),
            2 => Just(What::GiveUp),
            1 => Just(What::Release),
            1 => (1u16..3_000).prop_map(What::PutBack),
        ]
    };
    let appends = prop::collection::vec((0u8..24, any::<bool>(), any::<bool>()), 0..6);
    let settlements = prop::collection::vec((0usize..8, what()), 0..4);
    let step = prop_oneof![
        8 => (appends, settlements).prop_map(|(appends, settlements)| Step::Commit(appends, settlements)),
        1 => (0usize..40, what()).prop_map(|(n, what)| Step::SettleAny(n, what)),
        1 => (0usize..8, what()).prop_map(|(n, what)| Step::SettleStray(n, what)),
        5 => (any::<bool>(), 1usize..5).prop_map(|(route, events)| Step::Claim(route, events)),
        2 => (0usize..40).prop_map(Step::Redrive),
        2 => (0usize..40).prop_map(Step::Discard),
        2 => (0usize..40).prop_map(Step::Forget),
        1 => (any::<bool>(), any::<Option<u16>>()).prop_map(|(route, pause)| Step::Pause(route, pause)),
        2 => prop_oneof![3 => 1u32..5_000, 1 => 5_000u32..100_000_000].prop_map(Step::Tick),
        2 => any::<bool>().prop_map(Step::Maintain),
        1 => Just(Step::Close),
        2 => Just(Step::Kill),
        1 => Just(Step::Fail),
    ];
    (any::<bool>(), any::<bool>(), prop::collection::vec(step, 1..48))
        .prop_map(|(in_order, keeps_delivered, steps)| Plan { in_order, keeps_delivered, steps })
}

/// An event as it must stand.
#[derive(Debug, Clone)]
struct Known {
    id: u8,
    /// Which of the events with this id it is, so that its body is its own.
    serial: usize,
    route: &'static str,
    state: State,
    stored: i64,
    settled: i64,
    attempts: u32,
    client_errors: u32,
    /// As it is written, and as it is in force in this run.
    due: (i64, i64),
    tried_since: i64,
    replay: bool,
    handed_out: bool,
    /// Never handed out in this run, so that its place alone decides its turn.
    fresh: bool,
}

impl Known {
    fn waits(&self, route: &str) -> bool {
        self.state == State::Pending && !self.handed_out && self.route == route
    }
}

type Checked = Result<(), TestCaseError>;

struct Model {
    keeps: Keeps,
    now: i64,
    events: BTreeMap<Seq, Known>,
    /// Where and when an id was last stored.
    ids: HashMap<u8, (Seq, i64)>,
    /// Ids whose event has been dropped at the end of its window. After a kill the running time goes on
    /// from when it was last noted, so that the window seems to begin again.
    forgotten: HashSet<u8>,
    pauses: BTreeMap<Arc<str>, Pause>,
    highest: Seq,
    serial: usize,
    key: [u8; 16],
}

/// Goes one way with an engine and holds every answer against the model.
pub(crate) fn run<R: Rig>(plan: &Plan) -> Checked {
    let hour = Duration::from_secs(3_600);
    let delivered = if plan.keeps_delivered { hour } else { Duration::ZERO };
    let keeps = Keeps { window: 4 * hour, dead: 8 * hour, delivered, in_order: plan.in_order };
    let mut rig = R::new(keeps);
    let (mut engine, recovery) = rig.open();
    let (events, ids, forgotten) = (BTreeMap::new(), HashMap::new(), HashSet::new());
    let key = recovery.fingerprint_key;
    let pauses = BTreeMap::new();
    let mut model = Model { keeps, now: 1_000, events, ids, forgotten, pauses, highest: Seq(0), serial: 0, key };
    prop_assert!(!recovery.unclean);
    for step in &plan.steps {
        model.now += 1;
        engine = model.step(&mut rig, engine, step)?;
        model.check_counts(&*engine)?;
    }
    model.check_records(&mut *engine)?;
    engine = model.step(&mut rig, engine, &Step::Kill)?;
    model.check_records(&mut *engine)?;
    model.end(&mut *engine)
}

impl Model {
    fn step<R: Rig>(
        &mut self,
        rig: &mut R,
        mut engine: Box<dyn Buffer>,
        step: &Step,
    ) -> Result<Box<dyn Buffer>, TestCaseError> {
        match step {
            Step::Commit(appends, settlements) => self.commit(&mut *engine, appends, settlements)?,
            Step::SettleAny(n, what) => {
                if let Some(seq) = self.nth(*n) {
                    let settlements = vec![self.settle(seq, *what)];
                    engine.commit(&Work { appends: vec![], settlements }, RunMs(self.now)).unwrap();
                }
            }
            Step::SettleStray(n, what) => {
                let held: Vec<Seq> = self.all(|known| known.handed_out).collect();
                if let Some(seq) = held.get(n % held.len().max(1)) {
                    let event = HandedOut { seq: *seq, delivery_id: delivery_id(usize::MAX) };
                    let settlement = Settlement { event, outcome: self.outcome(*what), attempts: 1, last: None };
                    let work = Work { appends: vec![], settlements: vec![settlement] };
                    engine.commit(&work, RunMs(self.now)).unwrap();
                }
            }
            Step::Claim(route, events) => self.claim(&mut *engine, route_of(*route), *events)?,
            Step::Redrive(n) => self.repair(&mut *engine, *n, Repair::Redrive)?,
            Step::Discard(n) => self.repair(&mut *engine, *n, Repair::Discard)?,
            Step::Forget(n) => self.forget(&mut *engine, *n)?,
            Step::Pause(route, pause) => self.pause(&mut *engine, route_of(*route), *pause),
            Step::Tick(ms) => self.now += i64::from(*ms),
            Step::Maintain(idle) => self.maintain(&mut *engine, *idle)?,
            Step::Close => {
                engine.close(RunMs(self.now)).unwrap();
                drop(engine);
                let (opened, recovery) = rig.open();
                prop_assert_eq!((recovery.unclean, recovery.run_base), (false, RunMs(self.now)));
                self.check_recovery(&recovery)?;
                engine = opened;
            }
            Step::Kill => {
                rig.kill(engine);
                let (opened, recovery) = rig.open();
                prop_assert!(recovery.unclean);
                self.check_recovery(&recovery)?;
                engine = opened;
            }
            Step::Fail => {
                engine = rig.reopen(engine);
                for known in self.events.values_mut().filter(|known| !known.handed_out) {
                    known.starts_again(self.keeps.in_order);
                }
            }
        }
        Ok(engine)
    }

    fn commit(
        &mut self,
        engine: &mut dyn Buffer,
        appends: &[(u8, bool, bool)],
        settlements: &[(usize, What)],
    ) -> Checked {
        let mut settled = Vec::new();
        for (n, what) in settlements {
            let held: Vec<Seq> = self.all(|known| known.handed_out).collect();
            if !held.is_empty() {
                settled.push(self.settle(held[n % held.len()], *what));
            }
        }
        let new: Vec<Append> = appends.iter().map(|(id, route, claim)| self.append(*id, *route, *claim)).collect();
        let work = Work { appends: new, settlements: settled };
        let appended = engine.commit(&work, RunMs(self.now)).unwrap();
        prop_assert_eq!(appended.len(), appends.len());
        for (n, (appended, (id, route, claim))) in appended.into_iter().zip(appends).enumerate() {
            let known = self.ids.get(id).filter(|_| *id != NO_ID).copied();
            let age = known.map(|(_, stored)| Duration::from_millis((self.now - stored).max(0).unsigned_abs()));
            match appended {
                Appended::Duplicate { seq } => {
                    prop_assert_eq!(known.map(|(seq, _)| seq), Some(seq));
                    // A window may end a little late, since whole seconds are counted.
                    prop_assert!(age <= Some(self.keeps.window + Duration::from_secs(1)), "{:?}", age);
                }
                Appended::Stored { seq, claimed } => {
                    let is_over = self.forgotten.remove(id) || age.is_none_or(|age| age > self.keeps.window);
                    prop_assert!(is_over, "a repeat after {:?}", age);
                    prop_assert!(seq > self.highest, "{:?} was given away before", seq);
                    let route = route_of(*route);
                    let waits = self.events.values().any(|known| known.waits(route) && known.fresh);
                    let may_claim = *claim && !(self.keeps.in_order && waits);
                    // Where order matters an engine may be more careful than it must.
                    prop_assert!(claimed == may_claim || (self.keeps.in_order && !claimed), "{:?}", appended);
                    self.highest = seq;
                    self.ids.insert(*id, (seq, self.now));
                    self.events.insert(seq, self.new_event(*id, route, self.serial - appends.len() + n, claimed));
                }
                Appended::Full => prop_assert!(false, "full"),
            }
        }
        Ok(())
    }

    fn append(&mut self, id: u8, route: bool, claim: bool) -> Append {
        let mut new = event(&format!("id{id}"), &body(id, self.serial));
        new.delivery_id = delivery_id(self.serial);
        self.serial += 1;
        new.route = route_of(route).into();
        new.received_unix_ms = received(self.now);
        let dedupe = (id != NO_ID).then_some((Fingerprint([id; 16]), self.keeps.window));
        Append { event: NewEvent::new(new, dedupe), claim }
    }

    fn new_event(&self, id: u8, route: &'static str, serial: usize, handed_out: bool) -> Known {
        let (stored, tried_since) = (self.now, self.now);
        let state = State::Pending;
        let (settled, attempts, client_errors, due, replay, fresh) = (0, 0, 0, (0, 0), false, true);
        Known {
            id,
            serial,
            route,
            state,
            stored,
            settled,
            attempts,
            client_errors,
            due,
            tried_since,
            replay,
            handed_out,
            fresh,
        }
    }

    /// Settles in the model and returns what to tell the engine. Nothing changes but what is handed out.
    fn settle(&mut self, seq: Seq, what: What) -> Settlement {
        let now = self.now;
        let mut attempts = 1;
        let outcome = self.outcome(what);
        if let Some(known) = self.events.get_mut(&seq).filter(|known| known.handed_out) {
            known.handed_out = false;
            known.fresh = false;
            attempts = known.attempts + 1;
            match &outcome {
                Outcome::Delivered => known.end(State::Delivered, now, attempts),
                Outcome::Dead { .. } => known.end(State::Dead, now, attempts),
                Outcome::RetryAt { due, client_errors, .. } => {
                    known.attempts = attempts;
                    known.client_errors = *client_errors;
                    known.due = (due.0, due.0);
                }
                Outcome::Released => known.due.1 = 0,
                Outcome::PutBack { due } => known.due.1 = due.0,
            }
        }
        let delivery_id = delivery_id(self.events[&seq].serial);
        Settlement { event: HandedOut { seq, delivery_id }, outcome, attempts, last: None }
    }

    fn outcome(&self, what: What) -> Outcome {
        let later = |ms: u16| RunMs(self.now + i64::from(ms));
        match what {
            What::Deliver => Outcome::Delivered,
            What::Retry(ms) => {
                Outcome::RetryAt { due: later(ms), client_errors: u32::from(ms % 3), error: "503".into() }
            }
            What::GiveUp => Outcome::Dead { error: "given up".into() },
            What::Release => Outcome::Released,
            What::PutBack(ms) => Outcome::PutBack { due: later(ms) },
        }
    }

    fn claim(&mut self, engine: &mut dyn Buffer, route: &'static str, events: usize) -> Checked {
        let limit = ClaimLimit { events, bytes: 1 << 30, untried_first: false };
        let claims = engine.claim(route, limit, RunMs(self.now)).unwrap();
        let mut fresh = Vec::new();
        for claimed in &claims.events {
            let Some(known) = self.events.get_mut(&claimed.seq) else {
                return Err(TestCaseError::fail(format!("{:?} does not exist", claimed.seq)));
            };
            prop_assert!(known.waits(route), "{:?} is handed out: {:?}", claimed.seq, known);
            prop_assert!(known.due.1 <= self.now, "{:?} is not due", known);
            check_claimed(claimed, known)?;
            fresh.extend(known.fresh.then_some(claimed.seq));
            known.handed_out = true;
            known.fresh = false;
        }
        prop_assert!(fresh.is_sorted(), "never-tried events go by their place: {:?}", fresh);
        let waits: Vec<(Seq, &Known)> =
            self.events.iter().filter(|(_, known)| known.waits(route)).map(|(seq, known)| (*seq, known)).collect();
        if let Some(last) = fresh.last() {
            prop_assert!(!waits.iter().any(|(seq, known)| known.fresh && seq < last), "an older one was passed over");
        }
        let due_left = waits.iter().any(|(_, known)| known.due.1 <= self.now);
        prop_assert!(claims.events.len() == events || !due_left, "some that are due were not handed out");
        if let Some(earliest) = waits.iter().map(|(_, known)| known.due.1.max(self.now)).min() {
            let next = claims.next_due.map(|next| next.0);
            prop_assert!(next.is_some_and(|next| next <= earliest), "{:?} would be late for {}", next, earliest);
        }
        Ok(())
    }

    fn repair(&mut self, engine: &mut dyn Buffer, n: usize, repair: impl Fn(Seq) -> Repair) -> Checked {
        let unknown = Seq(self.highest.0 + 1);
        let seq = self.nth(n).unwrap_or(unknown);
        let repaired = engine.repair(&[repair(seq), repair(unknown)], RunMs(self.now)).unwrap();
        prop_assert_eq!(&repaired[1], &Repaired::Unknown);
        let now = self.now;
        let keep_is_over = |known: &Known, keep: Duration| now - known.settled > ms(keep);
        let Some(known) = self.events.get_mut(&seq) else { return Ok(()) };
        let (was, route, handed_out) = (known.state, known.route.into(), known.handed_out);
        let done = Repaired::Done { route, was, handed_out };
        let is_redrive = matches!(repair(seq), Repair::Redrive(_));
        let expected = match (is_redrive, was) {
            (true, State::Dead) | (false, State::Pending | State::Dead) => done,
            (true, State::Delivered) if self.keeps.delivered.is_zero() => Repaired::NoBody,
            // Its body may have been swept, or not yet.
            (true, State::Delivered) if keep_is_over(known, self.keeps.delivered) && repaired[0] != done => {
                Repaired::NoBody
            }
            (true, State::Delivered) => done,
            (_, state) => Repaired::NotIn(state),
        };
        prop_assert_eq!(&repaired[0], &expected);
        match (&repaired[0], is_redrive) {
            (Repaired::Done { .. }, true) => {
                let due = now.max(1);
                known.state = State::Pending;
                (known.attempts, known.client_errors, known.due) = (0, 0, (due, due));
                (known.tried_since, known.replay, known.fresh) = (due, true, false);
            }
            (Repaired::Done { .. }, false) => {
                known.handed_out = false;
                known.end(State::Discarded, now, known.attempts);
            }
            _ => {}
        }
        Ok(())
    }

    /// Of the events with one id only the one that was stored last stands for them.
    fn forget(&mut self, engine: &mut dyn Buffer, n: usize) -> Checked {
        let Some(seq) = self.nth(n) else { return Ok(()) };
        let repaired = engine.repair(&[Repair::Forget(seq)], RunMs(self.now)).unwrap().remove(0);
        let known = &self.events[&seq];
        let (id, was) = (known.id, known.state);
        let done = Repaired::Done { route: known.route.into(), was, handed_out: false };
        let newest = self.ids.get(&id).filter(|_| id != NO_ID).copied();
        match (was, newest) {
            (State::Delivered | State::Discarded, Some((stands, _))) if stands == seq => {
                prop_assert_eq!(repaired, done);
                self.ids.remove(&id);
            }
            // The engine may not know the newer one any more.
            (State::Delivered | State::Discarded, Some((_, stored))) if self.now - stored > ms(self.keeps.window) => {
                prop_assert!(repaired == done || repaired == Repaired::NotRemembered, "{:?}", repaired);
            }
            (State::Delivered | State::Discarded, _) => prop_assert_eq!(repaired, Repaired::NotRemembered),
            (state, _) => prop_assert_eq!(repaired, Repaired::NotIn(state)),
        }
        Ok(())
    }

    /// Remembered until it is over, whatever befalls the process.
    fn pause(&mut self, engine: &mut dyn Buffer, route: &'static str, pause: Option<u16>) {
        let until = pause.filter(|n| n % 2 == 0).map(|n| RunMs(self.now + i64::from(n)));
        let pause = pause.map(|n| Pause { since_unix_ms: received(self.now), until, reason: Some(n.to_string()) });
        engine.note_pause(route, pause.as_ref()).unwrap();
        match pause {
            Some(pause) => drop(self.pauses.insert(route.into(), pause)),
            None => drop(self.pauses.remove(route)),
        }
    }

    fn maintain(&mut self, engine: &mut dyn Buffer, idle: bool) -> Checked {
        let mut told: Vec<Arc<str>> = engine.maintain(RunMs(self.now), idle).unwrap();
        let mut gone: Vec<Arc<str>> = Vec::new();
        let (now, keeps) = (self.now, self.keeps);
        for seq in self.all(|_| true).collect::<Vec<_>>() {
            if engine.get(seq, RunMs(now)).unwrap().is_none() {
                let known = self.events.remove(&seq).expect("one of all");
                prop_assert!(known.may_be_gone(now, keeps), "{:?} was dropped before its time", known);
                if self.ids.get(&known.id).is_some_and(|(last, _)| *last == seq) {
                    self.forgotten.insert(known.id);
                }
                gone.extend((known.state == State::Dead).then(|| Arc::<str>::from(known.route)));
            }
        }
        told.sort();
        gone.sort();
        prop_assert_eq!(told, gone, "dead letters that were dropped");
        let oldest = self.all(|known| known.state == State::Pending).next();
        let received = oldest.map(|seq| received(self.events[&seq].stored));
        prop_assert_eq!(engine.stats(RunMs(now)).oldest_pending_unix_ms, received);
        Ok(())
    }

    fn check_recovery(&mut self, recovery: &Recovery) -> Checked {
        // What the process had noted of the time, and never less than what is stored says.
        prop_assert!(recovery.run_base.0 <= self.now, "{:?}", recovery.run_base);
        let written = self.events.values().flat_map(|known| [known.stored, known.settled, known.tried_since]);
        prop_assert!(written.max().is_none_or(|written| written <= recovery.run_base.0));
        self.now = recovery.run_base.0;
        for known in self.events.values_mut() {
            known.handed_out = false;
            known.starts_again(self.keeps.in_order);
        }
        prop_assert_eq!(recovery.pending, self.count(State::Pending));
        prop_assert_eq!(recovery.dead, self.count(State::Dead));
        prop_assert_eq!((&recovery.damage[..], recovery.quarantined), (&[][..], 0));
        prop_assert_eq!(recovery.fingerprint_key, self.key);
        let pauses: Vec<_> = self.pauses.clone().into_iter().collect();
        prop_assert_eq!(&recovery.pauses, &pauses);
        let routes: BTreeSet<&str> = recovery.routes.iter().map(|route| &**route).collect();
        let waits = |known: &&Known| matches!(known.state, State::Pending | State::Dead);
        prop_assert!(self.events.values().filter(waits).all(|known| routes.contains(known.route)));
        Ok(())
    }

    fn check_counts(&self, engine: &dyn Buffer) -> Checked {
        let stats = engine.stats(RunMs(self.now));
        for state in State::ALL {
            prop_assert_eq!(stats.of(state), self.count(state), "{}", state.name());
        }
        prop_assert_eq!(stats.quarantined, 0);
        prop_assert_eq!(stats.oldest_pending_unix_ms.is_some(), self.count(State::Pending) > 0);
        Ok(())
    }

    /// Every event is shown as it stands, newest first.
    fn check_records(&self, engine: &mut dyn Buffer) -> Checked {
        let slice = Slice { before: None, events: 10_000, rows: 10_000 };
        let listed = engine.list(&Filter::default(), slice, RunMs(self.now)).unwrap();
        let shown: Vec<_> = listed.records.iter().map(|record| (record.seq, record.state, record.attempts)).collect();
        let expected: Vec<_> =
            self.events.iter().rev().map(|(seq, known)| (*seq, known.state, known.attempts)).collect();
        prop_assert_eq!(shown, expected);
        let dead: Vec<Seq> = self.all(|known| known.state == State::Dead).collect();
        prop_assert_eq!(engine.dead_after(Seq(0), 10_000).unwrap(), dead);
        for (seq, known) in &self.events {
            let detail = engine.get(*seq, RunMs(self.now)).unwrap().unwrap();
            prop_assert_eq!(detail.replay, known.replay);
            prop_assert_eq!(detail.record.due_in.is_some(), known.state == State::Pending);
            let content = detail.content.map(|content| (content.body.to_vec(), content.intact));
            let whole = Some((body(known.id, known.serial), true));
            match known.state {
                State::Pending | State::Dead => prop_assert_eq!(content, whole),
                State::Delivered if !self.keeps.delivered.is_zero() => {
                    prop_assert!(content == whole || content.is_none());
                }
                _ => prop_assert_eq!(content, None, "kept for nobody"),
            }
        }
        Ok(())
    }

    /// In the end all that is pending comes out, and everything else leaves with its keep.
    fn end(&mut self, engine: &mut dyn Buffer) -> Checked {
        self.now += 1_000_000;
        for route in [false, true] {
            self.claim(engine, route_of(route), 10_000)?;
        }
        prop_assert!(self.events.values().all(|known| known.state != State::Pending || known.handed_out));
        for _ in 0..2 {
            // Bodies first, then what is left of the event.
            self.now += ms(self.keeps.dead + self.keeps.window);
            self.maintain(engine, true)?;
        }
        prop_assert!(self.events.values().all(|known| known.state == State::Pending), "{:?}", self.events);
        self.check_counts(engine)
    }

    fn all(&self, which: impl Fn(&Known) -> bool) -> impl Iterator<Item = Seq> {
        self.events.iter().filter(move |(_, known)| which(known)).map(|(seq, _)| *seq)
    }

    fn nth(&self, n: usize) -> Option<Seq> {
        self.events.keys().nth(n % self.events.len().max(1)).copied()
    }

    fn count(&self, state: State) -> u64 {
        self.all(|known| known.state == state).count() as u64
    }
}

impl Known {
    fn end(&mut self, state: State, now: i64, attempts: u32) {
        self.state = state;
        self.settled = now;
        self.attempts = attempts;
        self.due = (0, 0);
    }

    /// Another run knows only what is written.
    fn starts_again(&mut self, in_order: bool) {
        self.due.1 = if in_order { 0 } else { self.due.0 };
        self.fresh = self.due.1 == 0;
    }

    fn may_be_gone(&self, now: i64, keeps: Keeps) -> bool {
        match self.state {
            State::Dead => now - self.settled > ms(keeps.dead),
            State::Delivered | State::Discarded => now - self.stored > ms(keeps.window),
            State::Pending | State::Quarantined => false,
        }
    }
}

/// An event that has no key among duplicates.
const NO_ID: u8 = 0;

fn route_of(second: bool) -> &'static str {
    if second { "calls" } else { "messages" }
}

fn received(stored: i64) -> i64 {
    1_700_000_000_000 + stored
}

fn ms(duration: Duration) -> i64 {
    crate::clock::duration_ms(duration)
}

/// Of every size, some larger than a page.
fn body(id: u8, serial: usize) -> Vec<u8> {
    let length = if id % 8 == 7 { 20_000 } else { usize::from(id) * 37 };
    (0..length).map(|at| ((at * 31 + serial) % 251).to_le_bytes()[0]).collect()
}

/// Of the event that was made as the n-th.
fn delivery_id(serial: usize) -> DeliveryId {
    DeliveryId((serial as u128).to_be_bytes())
}

fn check_claimed(claimed: &Claimed, known: &Known) -> Checked {
    let came = event(&format!("id{}", known.id), &[]);
    prop_assert_eq!(&claimed.event.body[..], &body(known.id, known.serial)[..]);
    prop_assert_eq!(&claimed.event.head, &came.head);
    prop_assert_eq!(&claimed.event.event_id, &came.event_id);
    prop_assert_eq!(claimed.handed_out().delivery_id, delivery_id(known.serial));
    prop_assert_eq!(claimed.event.received_unix_ms, received(known.stored));
    prop_assert_eq!(&*claimed.event.route, known.route);
    prop_assert_eq!((claimed.attempts, claimed.client_errors), (known.attempts, known.client_errors));
    prop_assert_eq!((claimed.stored_at.0, claimed.tried_since.0), (known.stored, known.tried_since));
    prop_assert_eq!((claimed.due.0, claimed.event.replay), (known.due.0, known.replay));
    Ok(())
}
