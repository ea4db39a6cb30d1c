//! Calls that fail half-way: nothing that is durable is taken back, nothing that was taken is stranded.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::*;
use crate::buffer::event::Event;

/// SQLite fails whatever is this.
fn deny(engine: &mut SqliteBuffer, is_denied: impl Fn(&AuthAction<'_>) -> bool + Send + 'static) {
    let judge = move |context: AuthContext<'_>| match is_denied(&context.action) {
        true => Authorization::Deny,
        false => Authorization::Allow,
    };
    engine.db.authorizer(Some(judge)).unwrap();
}

fn deny_counting(engine: &mut SqliteBuffer) {
    deny(engine, |action| matches!(action, AuthAction::Pragma { pragma_name, .. } if pragma_name.ends_with("_count")));
}

fn allow_all(engine: &mut SqliteBuffer) {
    deny(engine, |_| false);
}

fn damage_body(engine: &SqliteBuffer, seq: i64) {
    engine.db.execute("UPDATE body SET body = x'00' WHERE seq = ?1", [seq]).unwrap();
}

fn seqs(claimed: &[Claimed]) -> Vec<i64> {
    claimed.iter().map(|claimed| claimed.seq.0).collect()
}

#[test]
fn a_commit_stands_although_the_pages_cannot_be_counted_behind_it() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    deny_counting(&mut engine);
    let large = vec![b'x'; usize::try_from(MEASURE_AFTER_BYTES).unwrap()];
    let work = Work { appends: vec![append("one", &large, true)], settlements: vec![] };
    assert_eq!(engine.commit(&work, RunMs(0)).unwrap(), [Appended::Stored { seq: Seq(1), claimed: true }]);
    assert!(engine.maintain(RunMs(1), false).is_err(), "whoever needs the count is told");
    allow_all(&mut engine);
    settle(&mut engine, Seq(1), Outcome::Delivered, 2);
    assert_eq!(engine.stats(RunMs(2)).of(State::Delivered), 1);
}

#[test]
fn a_repair_stands_although_the_pages_cannot_be_counted_behind_it() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", false, 0);
    deny_counting(&mut engine);
    let repaired = engine.repair(&[Repair::Discard(Seq(1))], RunMs(1)).unwrap();
    assert!(matches!(repaired[0], Repaired::Done { .. }), "{repaired:?}");
}

#[test]
fn dead_letters_that_were_dropped_are_told_although_the_housekeeping_fails() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", true, 0);
    settle(&mut engine, Seq(1), Outcome::Dead { error: "400".into() }, 1);
    let over = 15 * 86_400_000;
    deny_counting(&mut engine);
    assert!(engine.maintain(RunMs(over), false).is_err());
    allow_all(&mut engine);
    let dropped = engine.maintain(RunMs(over), false).unwrap();
    assert_eq!(dropped.iter().map(|route| &**route).collect::<Vec<_>>(), ["default"]);
}

#[test]
fn events_wait_again_if_a_damaged_one_among_them_cannot_be_set_aside() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    for id in ["one", "two", "three"] {
        store(&mut engine, id, false, 0);
    }
    damage_body(&engine, 2);
    deny(&mut engine, |action| matches!(action, AuthAction::Update { table_name: "event", .. }));
    let limit = ClaimLimit { events: 100, bytes: 1 << 20, untried_first: false };
    assert!(engine.claim("default", limit, RunMs(1)).is_err());
    assert_eq!(engine.lanes.all_handed_out(), [], "nobody holds them");
    allow_all(&mut engine);
    let mut claimed = seqs(&claim_all(&mut engine, 2));
    claimed.sort_unstable();
    assert_eq!(claimed, [1, 3]);
    assert_eq!(engine.stats(RunMs(2)).of(State::Quarantined), 1);
}

#[test]
fn on_a_full_disk_a_damaged_event_holds_up_nothing_that_follows_it() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let events = 400;
    for n in 0..events {
        store(&mut engine, &format!("event {n}"), false, 0);
    }
    // More of them than there is room to set aside in the pages as they are.
    engine.db.execute("UPDATE body SET body = x'00' WHERE seq % 2 = 0", []).unwrap();
    let pages: i64 = engine.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit_pages = |pages: i64| format!("PRAGMA max_page_count={pages}");
    engine.db.query_row(&limit_pages(pages), [], |_| Ok(())).unwrap();
    let limit = ClaimLimit { events: 1_000, bytes: 1 << 20, untried_first: false };
    let claims = engine.claim("default", limit, RunMs(1)).unwrap();
    assert_eq!(seqs(&claims.events), (1..=events).step_by(2).collect::<Vec<_>>());
    let aside = engine.stats(RunMs(1)).of(State::Quarantined);
    assert!(aside < 200, "the disk was to be full");
    assert!(claims.next_due.is_some_and(|due| due > RunMs(1)), "{:?}", claims.next_due);
    engine.db.query_row(&limit_pages(1 << 20), [], |_| Ok(())).unwrap();
    let later = RunMs(1).plus(SET_ASIDE_AGAIN_AFTER);
    assert_eq!(seqs(&engine.claim("default", limit, later).unwrap().events), Vec::<i64>::new());
    assert_eq!(engine.stats(later).of(State::Quarantined), 200);
}

#[test]
fn the_settlement_of_an_event_changes_nothing_for_another_one_in_its_place() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [mut old, mut new] = dirs.each_ref().map(|dir| open(dir).0);
    store(&mut old, "old", true, 0);
    let held = old.lanes.all_handed_out()[0];
    let mut other = append("new", b"a body", true);
    other.event = NewEvent::new(Event { delivery_id: DeliveryId([8; 16]), ..event("new", b"a body") }, None);
    let appended = new.commit(&Work { appends: vec![other], settlements: vec![] }, RunMs(0)).unwrap();
    assert_eq!(appended, [Appended::Stored { seq: held.seq, claimed: true }]);
    let outcomes = [
        Outcome::Delivered,
        Outcome::Dead { error: "400".into() },
        Outcome::RetryAt { due: RunMs(9), client_errors: 3, error: "503".into() },
        Outcome::Released,
        Outcome::PutBack { due: RunMs(9) },
    ];
    for outcome in outcomes {
        let settlements = vec![Settlement { event: held, outcome, attempts: 5, last: None }];
        new.commit(&Work { appends: vec![], settlements }, RunMs(1)).unwrap();
        let record = new.get(held.seq, RunMs(1)).unwrap().unwrap().record;
        assert_eq!((record.state, record.attempts), (State::Pending, 0));
        assert_eq!(seqs(&claim_all(&mut new, 100)), Vec::<i64>::new(), "it stays with who holds it");
    }
    // Nor does whoever holds it hold what stands there now.
    let place = new.place();
    Box::new(new).abandon();
    let (mut reopened, _) = SqliteBuffer::reopen(&place, settings(), &[held]).unwrap();
    assert_eq!(seqs(&claim_all(&mut reopened, 100)), [1]);
}
