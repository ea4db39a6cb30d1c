use super::committer::*;
use super::*;
use crate::buffer::event::tests::{event, handed_out};
use crate::buffer::event::{Claimed, HandedOut, Outcome, Seq, Settlement, State};
use crate::buffer::pause::Pause;
use crate::buffer::record::{Detail, Filter, Listed, Repair, Repaired, Slice};
use crate::clock::{ManualClock, RunMs};
use crate::gate::identity::{DedupeKey, DedupeScope, Facts, Identified};
use crate::metrics::Metrics;
use crate::metrics::tests::metrics;
use crate::rejection::Rejection;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// An engine whose commits wait until they are let through, and end as told.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    groups: Mutex<Vec<usize>>,
    settled: Mutex<Vec<Seq>>,
    /// Looks of an operator: groups committed before each, and its rows.
    slices: Mutex<Vec<(usize, u32)>>,
    outcomes: Mutex<Vec<Option<BufferError>>>,
    entered: tokio::sync::Notify,
}

impl Gate {
    /// Waits until a commit has begun.
    async fn entered(&self) {
        self.entered.notified().await;
    }

    fn open(&self) {
        *self.open.lock() = true;
        self.changed.notify_all();
    }
}

struct Engine(Arc<Gate>, i64);

impl Buffer for Engine {
    fn commit(&mut self, work: &Work, _now: RunMs) -> Result<Vec<Appended>, BufferError> {
        self.0.entered.notify_one();
        let mut open = self.0.open.lock();
        while !*open {
            self.0.changed.wait(&mut open);
        }
        if let Some(Some(error)) = self.0.outcomes.lock().pop() {
            return Err(error);
        }
        if !work.appends.is_empty() {
            self.0.groups.lock().push(work.appends.len());
        }
        self.0.settled.lock().extend(work.settlements.iter().map(|settlement| settlement.event.seq));
        Ok(work
            .appends
            .iter()
            .map(|append| {
                self.1 += 1;
                Appended::Stored { seq: Seq(self.1), claimed: append.claim }
            })
            .collect())
    }

    fn share_among(&mut self, _: &[Arc<str>]) {}

    fn claim(&mut self, _: &str, _: ClaimLimit, _: RunMs) -> Result<Claims, BufferError> {
        Ok(Claims::default())
    }

    fn list(&mut self, _: &Filter, slice: Slice, _: RunMs) -> Result<Listed, BufferError> {
        self.0.slices.lock().push((self.0.groups.lock().len(), slice.rows));
        let next = slice.before.map_or(1_000_000, |seq| seq.0) - i64::from(slice.rows);
        Ok(Listed { records: vec![], rows: slice.rows, next: Some(Seq(next)) })
    }

    fn get(&mut self, _: Seq, _: RunMs) -> Result<Option<Detail>, BufferError> {
        Ok(None)
    }

    fn dead_after(&mut self, _: Seq, _: usize) -> Result<Vec<Seq>, BufferError> {
        Ok(vec![])
    }

    fn repair(&mut self, repairs: &[Repair], _: RunMs) -> Result<Vec<Repaired>, BufferError> {
        let done = Repaired::Done { route: "default".into(), was: State::Pending, handed_out: true };
        Ok(repairs.iter().map(|_| done.clone()).collect())
    }

    fn note_pause(&mut self, _: &str, _: Option<&Pause>) -> Result<(), BufferError> {
        Ok(())
    }

    fn is_pressed(&self) -> bool {
        false
    }

    fn maintain(&mut self, _: RunMs, _: bool) -> Result<Vec<Arc<str>>, BufferError> {
        Ok(vec![])
    }

    fn stats(&self, _: RunMs) -> Stats {
        let mut stats = Stats::default();
        stats.events[State::Pending as usize] = self.1.cast_unsigned();
        stats
    }

    fn abandon(self: Box<Self>) -> Vec<HandedOut> {
        vec![handed_out(Seq(self.1))]
    }

    fn close(&mut self, _: RunMs) -> Result<(), BufferError> {
        Ok(())
    }
}

#[derive(Default)]
struct Taken(AtomicUsize);

impl Handover for Taken {
    fn reserve(&self, _: &str, _: usize) -> bool {
        true
    }
    fn release(&self, _: usize) {}
    fn take(&self, _: Claimed) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn wake(&self, _: &str) {}
    fn wake_all(&self) {}
}

fn start(gate: &Arc<Gate>) -> (Committer, Arc<Taken>) {
    let (committer, taken, _) = start_with_clock(gate, Box::new(|_| Err("still broken".to_owned())));
    (committer, taken)
}

fn start_with_clock(gate: &Arc<Gate>, reopen: Reopen) -> (Committer, Arc<Taken>, Arc<ManualClock>) {
    let recovery = Recovery {
        pending: 0,
        dead: 0,
        unclean: false,
        run_base: RunMs(0),
        routes: vec![],
        damage: vec![],
        quarantined: 0,
        fingerprint_key: [3; 16],
        pauses: vec![],
    };
    let taken = Arc::new(Taken::default());
    let clock = Arc::new(ManualClock::at_unix_s(0));
    let engine = Box::new(Engine(gate.clone(), 0));
    let metrics = Arc::new(metrics());
    let (committer, _) = Committer::start(engine, reopen, &recovery, taken.clone(), clock.clone(), metrics).unwrap();
    (committer, taken, clock)
}

fn identified(id: &str) -> (Identified, Receipt) {
    let event = event(id, b"body");
    let scope = DedupeScope { scope: "s".into(), window: Duration::from_secs(60), key: Default::default() };
    let identified = Identified {
        body: event.body,
        key: event.head.key,
        skew_s: None,
        facts: Facts { event_id: event.event_id.clone(), event_type: None, provider_attempt: None },
        dedupe: event.event_id.map(|id| DedupeKey { scope, id }),
        no_key: None,
    };
    let receipt = Receipt {
        delivery_id: event.delivery_id,
        received_unix_ms: 0,
        route: event.route,
        method: "POST".into(),
        target: event.head.target,
        headers: vec![],
    };
    (identified, receipt)
}

async fn store(committer: &Committer, id: &str) -> Result<Accepted, Rejection> {
    let (identified, receipt) = identified(id);
    committer.store(identified, receipt).await
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit_and_those_who_wait_share_the_next_one() {
    let gate = Arc::new(Gate::default());
    let (committer, taken) = start(&gate);
    let stores: Vec<_> = (0..20)
        .map(|n| {
            let committer = committer.clone();
            tokio::spawn(async move { store(&committer, &n.to_string()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(stores.iter().all(|store| !store.is_finished()));
    assert_eq!(taken.0.load(Ordering::SeqCst), 0, "nothing is forwarded before it is durable");
    gate.open();
    for store in stores {
        assert!(matches!(store.await.unwrap(), Ok(Accepted::New(_))));
    }
    assert_eq!(gate.groups.lock().iter().sum::<usize>(), 20);
    assert_eq!(taken.0.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn an_event_whose_commit_does_not_begin_in_time_is_refused_and_not_stored() {
    let gate = Arc::new(Gate::default());
    let (committer, _) = start(&gate);
    let first = tokio::spawn({
        let committer = committer.clone();
        async move { store(&committer, "first").await }
    });
    gate.entered().await;
    assert_eq!(store(&committer, "second").await.err(), Some(Rejection::Overloaded));
    assert_eq!(first.await.unwrap().err(), Some(Rejection::BufferFailed), "begun and late: the outcome is unknown");
    gate.open();
    committer.close().await;
    assert_eq!(*gate.groups.lock(), [1], "what was refused as overloaded is never stored");
    assert_eq!(committer.queued_bytes(), 0, "nor does it take room in the queue");
}

#[tokio::test]
async fn a_failed_commit_refuses_its_group_and_everything_after_it() {
    let gate = Arc::new(Gate::default());
    gate.outcomes.lock().push(Some(BufferError::Failed("disk".into())));
    gate.open();
    let (committer, taken) = start(&gate);
    assert_eq!(store(&committer, "one").await.err(), Some(Rejection::BufferFailed));
    assert_eq!(store(&committer, "two").await.err(), Some(Rejection::BufferFailed));
    assert_eq!(*committer.health().borrow(), Health::Failed("disk".into()));
    assert_eq!(taken.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_failed_engine_is_opened_again_with_what_it_had_handed_out_and_completions_are_not_lost() {
    let gate = Arc::new(Gate::default());
    gate.outcomes.lock().extend([Some(BufferError::Failed("disk".into())), None]);
    gate.open();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let (noted, reopened) = (tries.clone(), gate.clone());
    let reopen: Reopen = Box::new(move |handed_out| {
        noted.lock().push(handed_out.to_vec());
        // The disk heals between the second and the third try.
        if noted.lock().len() < 3 { Err("still broken".to_owned()) } else { Ok(Box::new(Engine(reopened.clone(), 7))) }
    });
    let (committer, _, clock) = start_with_clock(&gate, reopen);
    assert!(store(&committer, "one").await.is_ok());
    committer.settle(Settlement { event: handed_out(Seq(1)), outcome: Outcome::Delivered, attempts: 1, last: None });
    assert_eq!(store(&committer, "two").await.err(), Some(Rejection::BufferFailed));
    let mut health = committer.health();
    assert_eq!(*health.borrow(), Health::Failed("disk".into()));
    // Each wait is twice the last: 100, 200, 400 ms.
    for (ms, tried) in [(99, 0), (1, 1), (199, 1), (1, 2), (399, 2), (1, 3)] {
        clock.advance(Duration::from_millis(ms));
        // Whatever it is asked, it looks at the clock first.
        assert_eq!(
            committer
                .claim("default".into(), ClaimLimit { events: 1, bytes: 1, untried_first: false })
                .await
                .events
                .len(),
            0
        );
        assert_eq!(tries.lock().len(), tried);
    }
    health.wait_for(|health| *health == Health::Good).await.unwrap();
    assert_eq!(*tries.lock(), vec![vec![handed_out(Seq(1))]; 3]);
    assert!(store(&committer, "three").await.is_ok());
    committer.close().await;
    assert_eq!(*gate.settled.lock(), [Seq(1)], "written once the engine was there again");
}

#[tokio::test]
async fn completions_survive_a_full_disk() {
    let gate = Arc::new(Gate::default());
    gate.outcomes.lock().push(Some(BufferError::DiskFull));
    gate.open();
    let (committer, _) = start(&gate);
    committer.settle(Settlement { event: handed_out(Seq(9)), outcome: Outcome::Delivered, attempts: 1, last: None });
    assert_eq!(store(&committer, "one").await.err(), Some(Rejection::BufferFull));
    committer.close().await;
    assert_eq!(*gate.settled.lock(), [Seq(9)]);
}

#[tokio::test]
async fn a_page_is_looked_for_in_slices_and_given_up_short_after_its_bound() {
    let gate = Arc::new(Gate::default());
    gate.open();
    let (committer, _) = start(&gate);
    let filter = Filter { event_id: Some("nowhere".into()), ..Filter::default() };
    let page = committer.list(&filter, None, 100).await.unwrap();
    assert!(page.records.is_empty());
    assert_eq!(page.next, Some(Seq(1_000_000 - 5_000)), "goes on where it ended");
    let slices = std::mem::take(&mut *gate.slices.lock());
    assert_eq!(slices, [(0, 500); 10]);
    assert_eq!(committer.list(&filter, page.next, 100).await.unwrap().next, Some(Seq(1_000_000 - 10_000)));
}

#[tokio::test]
async fn a_commit_waits_for_one_slice_at_most() {
    let gate = Arc::new(Gate::default());
    let (committer, _) = start(&gate);
    let stored = tokio::spawn({
        let committer = committer.clone();
        async move { store(&committer, "one").await }
    });
    gate.entered().await;
    // Two operators ask while the commit is under way; they take turns, slice by slice.
    let pages: Vec<_> = (0..2)
        .map(|_| {
            let committer = committer.clone();
            tokio::spawn(async move { committer.list(&Filter::default(), None, 10).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(gate.slices.lock().is_empty());
    gate.open();
    stored.await.unwrap().unwrap();
    for page in pages {
        page.await.unwrap().unwrap();
    }
    assert!(gate.slices.lock().iter().all(|(groups, rows)| *groups == 1 && *rows == 500));
}

#[tokio::test]
async fn what_an_operator_has_thrown_away_is_known_until_it_is_settled() {
    let gate = Arc::new(Gate::default());
    gate.open();
    let (committer, _) = start(&gate);
    assert!(!committer.is_withdrawn(Seq(3)));
    committer.repair(vec![Repair::Discard(Seq(3))]).await.unwrap();
    assert!(committer.is_withdrawn(Seq(3)));
    committer.settle(Settlement { event: handed_out(Seq(3)), outcome: Outcome::Released, attempts: 0, last: None });
    committer.close().await;
    assert!(!committer.is_withdrawn(Seq(3)));
    assert_eq!(committer.repair(vec![]).await, Err(DeskError::Failed), "closed");
}

#[tokio::test]
async fn nothing_is_repaired_before_what_became_of_events_is_written() {
    let gate = Arc::new(Gate::default());
    gate.outcomes.lock().push(Some(BufferError::DiskFull));
    gate.open();
    let (committer, _) = start(&gate);
    committer.settle(Settlement { event: handed_out(Seq(9)), outcome: Outcome::Delivered, attempts: 1, last: None });
    assert_eq!(committer.repair(vec![Repair::Discard(Seq(9))]).await, Err(DeskError::Full));
    assert!(!committer.is_withdrawn(Seq(9)));
    assert!(committer.repair(vec![Repair::Discard(Seq(8))]).await.is_ok(), "once there is room");
    gate.outcomes.lock().push(Some(BufferError::Failed("gone".into())));
    committer.settle(Settlement { event: handed_out(Seq(7)), outcome: Outcome::Delivered, attempts: 1, last: None });
    assert_eq!(committer.repair(vec![Repair::Discard(Seq(7))]).await, Err(DeskError::Failed), "not a lack of room");
}

const DAY_S: u64 = 86_400;

/// The real engine on this clock, with a keep of 14 days for dead letters.
fn start_engine(dir: &std::path::Path, clock: &Arc<ManualClock>, metrics: &Arc<Metrics>) -> Committer {
    let settings = crate::buffer::sqlite::Settings {
        max_bytes: crate::buffer::capacity::MaxBytes::Fixed(1 << 30),
        reserve: crate::buffer::capacity::Reserve::Percent(10),
        dedupe_entries: 1_000,
        tombstone_keep: Duration::from_secs(DAY_S),
        dead_letter_keep: Duration::from_secs(14 * DAY_S),
        delivered_keep: Duration::ZERO,
        in_order: false,
    };
    let (engine, recovery) = crate::buffer::sqlite::SqliteBuffer::open(dir, settings).unwrap();
    let handover = Arc::new(Taken::default());
    let reopen: Reopen = Box::new(|_| Err("not in this test".to_owned()));
    Committer::start(Box::new(engine), reopen, &recovery, handover, clock.clone(), metrics.clone()).unwrap().0
}

async fn await_dead(committer: &Committer, dead: u64) {
    committer.stats().wait_for(|stats| stats.of(State::Dead) == dead).await.unwrap();
}

#[tokio::test]
async fn neither_a_clock_step_nor_a_downtime_expires_a_dead_letter_but_its_keep_does_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Arc::new(metrics());
    let clock = Arc::new(ManualClock::at_unix_s(1_000_000_000));
    let committer = start_engine(dir.path(), &clock, &metrics);
    let Ok(Accepted::New(stored)) = store(&committer, "one").await else { panic!("not stored") };
    let outcome = Outcome::Dead { error: "400".into() };
    committer.settle(Settlement { event: handed_out(stored.seq()), outcome, attempts: 1, last: None });
    // Rides on the next commit: the clock stands still, so that no quiet passes.
    store(&committer, "two").await.unwrap();
    await_dead(&committer, 1).await;
    // Ten years ahead, a year back.
    for unix_s in [1_315_360_000, 970_000_000] {
        clock.step_to_unix_s(unix_s);
        clock.advance(Duration::from_secs(DAY_S));
        // Answered behind a slice of housekeeping that saw the new time.
        store(&committer, &unix_s.to_string()).await.unwrap();
        committer.event(stored.seq()).await.unwrap().unwrap();
    }
    committer.close().await;

    // Down for a year; the uptime begins at zero.
    let clock = Arc::new(ManualClock::at_unix_s(1_032_000_000));
    let committer = start_engine(dir.path(), &clock, &metrics);
    clock.advance(Duration::from_secs(11 * DAY_S));
    store(&committer, "three").await.unwrap();
    assert_eq!(committer.event(stored.seq()).await.unwrap().unwrap().record.state, State::Dead);
    assert_eq!(metrics.route("default").expired.get(), 0);
    clock.advance(Duration::from_secs(2 * DAY_S));
    await_dead(&committer, 0).await;
    assert_eq!(committer.event(stored.seq()).await.unwrap(), None);
    assert_eq!(metrics.route("default").expired.get(), 1);
    committer.close().await;
}

#[tokio::test]
async fn scopes_and_ids_do_not_run_into_each_other() {
    let gate = Arc::new(Gate::default());
    let (committer, _) = start(&gate);
    let print = |scope: &str, id: &str| {
        let scope = DedupeScope { scope: scope.into(), window: Duration::ZERO, key: Default::default() };
        committer.fingerprint(&DedupeKey { scope, id: id.into() })
    };
    assert_eq!(print("a", "bc"), print("a", "bc"));
    assert_ne!(print("a", "bc"), print("ab", "c"));
    gate.open();
}

#[tokio::test]
async fn an_event_that_the_medium_has_altered_is_counted_and_its_repeat_is_stored_anew() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Arc::new(metrics());
    let clock = Arc::new(ManualClock::at_unix_s(0));
    let committer = start_engine(dir.path(), &clock, &metrics);
    let (mut identified, receipt) = identified("one");
    identified.body = bytes::Bytes::from_static(b"the altered one");
    committer.store(identified, receipt).await.unwrap();
    store(&committer, "two").await.unwrap();
    committer.close().await;
    let file = dir.path().join(crate::buffer::sqlite::DATABASE_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(15).position(|bytes| bytes == b"the altered one").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let committer = start_engine(dir.path(), &clock, &metrics);
    let claims =
        committer.claim("default".into(), ClaimLimit { events: 10, bytes: 1 << 20, untried_first: false }).await;
    assert_eq!(claims.events.iter().map(|claimed| claimed.seq).collect::<Vec<_>>(), [Seq(2)]);
    committer.stats().wait_for(|stats| stats.quarantined == 1).await.unwrap();
    metrics.set_buffer(&committer.stats().borrow());
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    assert!(text.contains("hookward_buffer_quarantined_events_total 1"), "{text}");
    assert!(matches!(store(&committer, "one").await, Ok(Accepted::New(_))));
    assert!(matches!(store(&committer, "two").await, Ok(Accepted::Duplicate(_))));
    committer.close().await;
}
