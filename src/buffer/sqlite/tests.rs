use super::*;
use crate::buffer::event::tests::{event, handed_out};
use crate::buffer::event::{Attempt, Claimed, NewEvent, Outcome};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);

fn settings() -> Settings {
    Settings {
        max_bytes: MaxBytes::Fixed(1 << 30),
        reserve: Reserve::Percent(10),
        dedupe_entries: 10_000,
        tombstone_keep: DAY,
        dead_letter_keep: 14 * DAY,
        delivered_keep: Duration::ZERO,
        in_order: false,
    }
}

fn open(dir: &TempDir) -> (SqliteBuffer, Recovery) {
    SqliteBuffer::open(dir.path(), settings()).unwrap()
}

/// A folder in memory where there is room for one: these tests kill processes and damage files, so that
/// syncs would cost time and show nothing.
fn in_memory_dir() -> TempDir {
    const ENOUGH_BYTES: u64 = 1 << 30;
    let memory = std::path::Path::new("/dev/shm");
    let fits = Space::of(memory).is_ok_and(|space| space.free_bytes > ENOUGH_BYTES && !space.is_low());
    fits.then(|| TempDir::new_in(memory).ok()).flatten().unwrap_or_else(|| TempDir::new().unwrap())
}

fn print(id: &str) -> Fingerprint {
    let mut bytes = [0; 16];
    bytes[..id.len().min(16)].copy_from_slice(&id.as_bytes()[..id.len().min(16)]);
    Fingerprint(bytes)
}

fn append(id: &str, body: &[u8], claim: bool) -> Append {
    Append { event: NewEvent::new(event(id, body), Some((print(id), DAY))), claim }
}

fn store(engine: &mut SqliteBuffer, id: &str, claim: bool, now: i64) -> Appended {
    let work = Work { appends: vec![append(id, b"a body", claim)], settlements: vec![] };
    engine.commit(&work, RunMs(now)).unwrap()[0]
}

fn settle(engine: &mut SqliteBuffer, seq: Seq, outcome: Outcome, now: i64) {
    let settlements = vec![Settlement { event: handed_out(seq), outcome, attempts: 1, last: None }];
    engine.commit(&Work { appends: vec![], settlements }, RunMs(now)).unwrap();
}

fn claim_all(engine: &mut SqliteBuffer, now: i64) -> Vec<Claimed> {
    engine
        .claim("default", ClaimLimit { events: 100, bytes: 1 << 20, untried_first: false }, RunMs(now))
        .unwrap()
        .events
}

/// What the committer does after a commit.
fn relieve(engine: &mut SqliteBuffer, now: i64) {
    if engine.is_pressed() {
        engine.maintain(RunMs(now), false).unwrap();
    }
}

fn count(engine: &SqliteBuffer, sql: &str) -> i64 {
    engine.db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_was_stored_comes_back_as_it_was_after_the_process_is_gone() {
    let dir = TempDir::new().unwrap();
    let (mut engine, fresh) = open(&dir);
    assert_eq!((fresh.pending, fresh.unclean), (0, false));
    assert_eq!(store(&mut engine, "one", false, 5), Appended::Stored { seq: Seq(1), claimed: false });
    drop(engine); // no close: as after kill -9

    let (mut engine, recovery) = open(&dir);
    assert_eq!((recovery.pending, recovery.unclean), (1, true));
    assert_eq!(recovery.fingerprint_key, fresh.fingerprint_key);
    assert_eq!(&*recovery.routes[0], "default");
    let claimed = claim_all(&mut engine, 10);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].event.head, event("one", b"a body").head);
    assert_eq!(claimed[0].event.body, "a body");
    assert_eq!(claimed[0].event.event_id.as_deref(), Some("one"));
    assert!(claim_all(&mut engine, 10).is_empty(), "handed out once only");
    engine.close(RunMs(20)).unwrap();
    drop(engine);
    let (_, recovery) = open(&dir);
    assert!(!recovery.unclean);
    assert_eq!(recovery.run_base, RunMs(20));
}

#[test]
fn a_duplicate_is_known_in_the_group_later_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let work = Work { appends: vec![append("one", b"a", false), append("one", b"b", false)], settlements: vec![] };
    let first = Seq(1);
    assert_eq!(
        engine.commit(&work, RunMs(0)).unwrap(),
        [Appended::Stored { seq: first, claimed: false }, Appended::Duplicate { seq: first }]
    );
    assert_eq!(store(&mut engine, "one", false, 1), Appended::Duplicate { seq: first });
    let claimed = claim_all(&mut engine, 2);
    settle(&mut engine, claimed[0].seq, Outcome::Delivered, 3);
    assert_eq!(store(&mut engine, "one", false, 4), Appended::Duplicate { seq: first }, "of a delivered one too");
    drop(engine);
    let (mut engine, _) = open(&dir);
    assert_eq!(store(&mut engine, "one", false, 5), Appended::Duplicate { seq: first });
    let beyond = 86_401_000;
    assert!(matches!(store(&mut engine, "one", false, beyond), Appended::Stored { .. }));
}

#[test]
fn a_delivered_body_is_deleted_and_its_tombstone_goes_with_the_window() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let Appended::Stored { seq, claimed: true } = store(&mut engine, "one", true, 0) else { panic!("not claimed") };
    settle(&mut engine, seq, Outcome::Delivered, 10);
    assert_eq!(count(&engine, "SELECT count(*) FROM body"), 0);
    assert_eq!(count(&engine, "SELECT count(*) FROM event"), 1);
    engine.maintain(RunMs(86_400_000), true).unwrap();
    assert_eq!(count(&engine, "SELECT count(*) FROM event"), 1, "the window is not over");
    engine.maintain(RunMs(86_411_000), true).unwrap();
    assert_eq!(count(&engine, "SELECT count(*) FROM event"), 0);
    assert_eq!(engine.stats(RunMs(86_411_000)).of(State::Delivered), 0);
    // The number is never used again.
    assert!(matches!(store(&mut engine, "two", false, 86_412_000), Appended::Stored { seq: Seq(2), .. }));
}

#[test]
fn a_retry_waits_until_it_is_due_and_a_dead_letter_until_its_keep_ends() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let Appended::Stored { seq, .. } = store(&mut engine, "one", true, 0) else { panic!() };
    settle(&mut engine, seq, Outcome::RetryAt { due: RunMs(500), client_errors: 1, error: "503".into() }, 10);
    assert!(claim_all(&mut engine, 499).is_empty());
    drop(engine);
    let (mut engine, recovery) = open(&dir);
    assert_eq!(recovery.pending, 1);
    assert!(claim_all(&mut engine, 499).is_empty(), "after a restart too");
    let claimed = claim_all(&mut engine, 500);
    assert_eq!((claimed[0].attempts, claimed[0].client_errors), (1, 1));
    settle(&mut engine, seq, Outcome::Dead { error: "given up".into() }, 600);
    assert_eq!((engine.stats(RunMs(600)).of(State::Dead), engine.stats(RunMs(600)).of(State::Pending)), (1, 0));
    assert_eq!(count(&engine, "SELECT count(*) FROM body"), 1, "a dead letter keeps its body");
    let keep_over = 600 + 14 * 86_400_000 + 1_000;
    let expired = engine.maintain(RunMs(keep_over), true).unwrap();
    assert_eq!(expired.iter().map(|route| &**route).collect::<Vec<_>>(), ["default"]);
    assert_eq!(count(&engine, "SELECT count(*) FROM body") + count(&engine, "SELECT count(*) FROM event"), 0);
}

#[test]
fn settling_twice_or_what_was_not_handed_out_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", false, 0);
    settle(&mut engine, Seq(1), Outcome::Delivered, 1);
    assert_eq!(engine.stats(RunMs(1)).of(State::Pending), 1, "not handed out");
    let seq = claim_all(&mut engine, 2)[0].seq;
    settle(&mut engine, seq, Outcome::Delivered, 3);
    settle(&mut engine, seq, Outcome::Dead { error: String::new() }, 4);
    let stats = engine.stats(RunMs(4));
    assert_eq!((stats.of(State::Delivered), stats.of(State::Dead), stats.of(State::Pending)), (1, 0, 0));
}

#[test]
fn a_damaged_row_is_set_aside_and_the_others_go_on() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    for id in ["one", "two", "three"] {
        store(&mut engine, id, false, 0);
    }
    engine.db.execute("UPDATE body SET body = x'00' WHERE seq = 2", []).unwrap();
    let claimed = claim_all(&mut engine, 1);
    assert_eq!(claimed.iter().map(|claimed| claimed.seq).collect::<Vec<_>>(), [Seq(1), Seq(3)]);
    let stats = engine.stats(RunMs(1));
    assert_eq!((stats.quarantined, stats.of(State::Quarantined), stats.of(State::Pending)), (1, 1, 2));
    assert!(matches!(store(&mut engine, "two", false, 2), Appended::Stored { .. }), "a repeat is stored anew");
}

#[test]
fn at_the_bound_tombstones_give_way_and_only_then_events_are_refused() {
    let dir = TempDir::new().unwrap();
    let mut small = settings();
    small.max_bytes = MaxBytes::Fixed(1 << 20);
    let (mut engine, _) = SqliteBuffer::open(dir.path(), small).unwrap();
    let body = vec![b'x'; 2_000];
    // Far more delivered events than the bound could hold.
    for n in 0..12_000 {
        let work = Work { appends: vec![append(&format!("d{n}"), &body, true)], settlements: vec![] };
        let Appended::Stored { seq, claimed: true } = engine.commit(&work, RunMs(n)).unwrap()[0] else {
            panic!("refused at {n}: {:?}", engine.stats(RunMs(n)));
        };
        settle(&mut engine, seq, Outcome::Delivered, n);
        relieve(&mut engine, n);
    }
    assert!(engine.stats(RunMs(0)).of(State::Delivered) < 12_000);
    // Now the app is down.
    let mut stored = 0;
    let refused = loop {
        let work = Work { appends: vec![append(&format!("p{stored}"), &body, false)], settlements: vec![] };
        match engine.commit(&work, RunMs(20_000)).unwrap()[0] {
            Appended::Stored { .. } => stored += 1,
            other => break other,
        }
        relieve(&mut engine, 20_000);
        assert!(stored < 1_000, "never refused");
    };
    assert_eq!(refused, Appended::Full);
    assert!(stored > 280, "{stored} events of 2.4 KB in 1 MiB, an eighth of which is the log's");
    let claimed = claim_all(&mut engine, 20_001);
    for claimed in claimed {
        settle(&mut engine, claimed.seq, Outcome::Delivered, 20_002);
        relieve(&mut engine, 20_002);
    }
    assert!(matches!(store(&mut engine, "again", false, 20_003), Appended::Stored { .. }), "room is made");
}

/// A small buffer, filled with events that end so; how many it took.
fn fill(engine: &mut SqliteBuffer, outcome: impl Fn() -> Option<Outcome>) -> u64 {
    for n in 0..1_000 {
        let work = Work { appends: vec![append(&format!("f{n}"), &[b'x'; 2_000], true)], settlements: vec![] };
        match (engine.commit(&work, RunMs(n)).unwrap()[0], outcome()) {
            (Appended::Stored { seq, .. }, Some(outcome)) => settle(engine, seq, outcome, n),
            (Appended::Stored { .. }, None) => {}
            (Appended::Full, _) => return n.cast_unsigned(),
            (other, _) => panic!("{other:?}"),
        }
        relieve(engine, n);
    }
    panic!("never refused");
}

#[test]
fn dead_letters_have_all_the_room_there_is_and_never_give_way() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [mut other, mut engine] = dirs.each_ref().map(|dir| {
        SqliteBuffer::open(dir.path(), Settings { max_bytes: MaxBytes::Fixed(1 << 20), ..settings() }).unwrap().0
    });
    let pending = fill(&mut other, || None);
    let dead = fill(&mut engine, || Some(Outcome::Dead { error: "400".into() }));
    assert!(dead.abs_diff(pending) <= pending / 20, "{dead} dead letters, or {pending} that wait");
    // What is offered now finds the room that the log has left, and none of theirs.
    for n in 2_000..2_500 {
        engine.maintain(RunMs(n), true).unwrap();
        let work = Work { appends: vec![append(&format!("p{n}"), &[b'x'; 2_000], false)], settlements: vec![] };
        engine.commit(&work, RunMs(n)).unwrap();
    }
    let waits = engine.stats(RunMs(20_000)).of(State::Pending);
    assert!(waits < 200, "{waits} of 500 were taken");
    assert_eq!(engine.stats(RunMs(20_000)).of(State::Dead), dead);
}

#[test]
fn kept_bodies_of_delivered_events_give_way_before_anything_is_refused() {
    let dir = TempDir::new().unwrap();
    let keeping = Settings { max_bytes: MaxBytes::Fixed(1 << 20), delivered_keep: DAY, ..settings() };
    let (mut engine, _) = SqliteBuffer::open(dir.path(), keeping).unwrap();
    for n in 0..2_000 {
        let work = Work { appends: vec![append(&format!("d{n}"), &[b'x'; 2_000], true)], settlements: vec![] };
        let Appended::Stored { seq, .. } = engine.commit(&work, RunMs(n)).unwrap()[0] else {
            panic!("refused at {n}: {:?}", engine.stats(RunMs(n)));
        };
        settle(&mut engine, seq, Outcome::Delivered, n);
        relieve(&mut engine, n);
    }
    let kept = count(&engine, "SELECT count(*) FROM body");
    assert!((1..1_000).contains(&kept), "{kept} bodies in 1 MiB");
}

#[test]
fn unverified_events_take_at_most_a_tenth() {
    let dir = TempDir::new().unwrap();
    let mut small = settings();
    small.max_bytes = MaxBytes::Fixed(4 << 20);
    let (mut engine, _) = SqliteBuffer::open(dir.path(), small).unwrap();
    let mut unverified = event("x", &[0; 4_000]);
    unverified.head.key = None;
    let mut stored = 0;
    loop {
        let appends = vec![Append { event: NewEvent::new(unverified.clone(), None), claim: false }];
        match engine.commit(&Work { appends, settlements: vec![] }, RunMs(0)).unwrap()[0] {
            Appended::Stored { .. } => stored += 1,
            _ => break,
        }
    }
    assert!((80..=100).contains(&stored), "{stored}");
    assert!(matches!(store(&mut engine, "genuine", false, 0), Appended::Stored { .. }));
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", false, 0);
    engine.close(RunMs(0)).unwrap();
    drop(engine);
    let path = dir.path().join(DATABASE_FILE);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9999).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteBuffer::open(dir.path(), settings()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 9999, .. }), "{error}");
    assert!(error.to_string().contains("hookward.db"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=1; CREATE TABLE t(x); ").unwrap();
    let error = SqliteBuffer::open(dir.path(), settings()).err().unwrap();
    assert!(matches!(error, OpenError::Failed(_)), "{error}");
}

#[test]
fn the_log_is_written_back_before_it_grows_beyond_its_bound() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let body = vec![7; 100_000];
    for n in 0..200 {
        let work = Work { appends: vec![append(&format!("{n}"), &body, false)], settlements: vec![] };
        engine.commit(&work, RunMs(n)).unwrap();
        relieve(&mut engine, n);
        assert!(engine.wal_bytes() < CHECKPOINT_WAL_BYTES + 1_000_000);
    }
    let wal = std::fs::metadata(dir.path().join("hookward.db-wal")).unwrap().len();
    assert!(wal < CHECKPOINT_WAL_BYTES + 1_000_000, "{wal}");
}

#[test]
fn the_oldest_pending_event_is_found_without_counting_the_others() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    engine.maintain(RunMs(0), true).unwrap();
    assert_eq!(engine.stats(RunMs(0)).oldest_pending_unix_ms, None);
    for id in ["one", "two"] {
        store(&mut engine, id, true, 0);
    }
    settle(&mut engine, Seq(1), Outcome::Delivered, 1);
    engine.maintain(RunMs(2), false).unwrap();
    assert_eq!(engine.stats(RunMs(2)).oldest_pending_unix_ms, Some(1_700_000_000_000));
    settle(&mut engine, Seq(2), Outcome::Delivered, 3);
    engine.maintain(RunMs(4), false).unwrap();
    assert_eq!(engine.stats(RunMs(4)).oldest_pending_unix_ms, None);
}

mod conformance;
mod damage;
mod failures;
mod operator;
mod room;

#[test]
fn a_new_event_goes_past_those_that_wait_unless_order_matters() {
    for in_order in [false, true] {
        let dir = TempDir::new().unwrap();
        let (mut engine, _) = SqliteBuffer::open(dir.path(), Settings { in_order, ..settings() }).unwrap();
        store(&mut engine, "waits", false, 0);
        let new = store(&mut engine, "new", true, 0);
        assert_eq!(new, Appended::Stored { seq: Seq(2), claimed: !in_order });
        claim_all(&mut engine, 0);
        let appends = vec![append("a", b"a", true), append("b", b"b", false), append("c", b"c", true)];
        let appended = engine.commit(&Work { appends, settlements: vec![] }, RunMs(0)).unwrap();
        let claimed = |n: usize| matches!(appended[n], Appended::Stored { claimed: true, .. });
        assert_eq!([claimed(0), claimed(1), claimed(2)], [true, false, !in_order], "within a group too");
    }
}

#[test]
fn where_order_matters_a_restart_hands_out_everything_by_seq_and_says_what_is_not_due() {
    let dir = TempDir::new().unwrap();
    let in_order = || SqliteBuffer::open(dir.path(), Settings { in_order: true, ..settings() }).unwrap().0;
    let mut engine = in_order();
    for id in ["one", "two"] {
        store(&mut engine, id, false, 0);
    }
    let claimed = claim_all(&mut engine, 0);
    settle(&mut engine, Seq(1), Outcome::RetryAt { due: RunMs(500), client_errors: 0, error: "503".into() }, 1);
    settle(&mut engine, Seq(2), Outcome::Released, 1);
    assert_eq!(claimed.len(), 2);
    drop(engine);
    let mut engine = in_order();
    let claimed = claim_all(&mut engine, 2);
    let found: Vec<_> = claimed.iter().map(|claimed| (claimed.seq, claimed.due)).collect();
    assert_eq!(found, [(Seq(1), RunMs(500)), (Seq(2), RunMs(0))]);
}

#[test]
fn what_was_put_back_is_handed_out_when_it_is_due_and_as_it_was() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let Appended::Stored { seq, .. } = store(&mut engine, "one", true, 0) else { panic!() };
    settle(&mut engine, seq, Outcome::PutBack { due: RunMs(500) }, 1);
    assert!(claim_all(&mut engine, 499).is_empty());
    assert_eq!(claim_all(&mut engine, 500)[0].attempts, 0);
}

#[test]
fn what_a_backlog_took_is_given_back_in_small_slices_while_events_go_on() {
    let dir = in_memory_dir();
    let (mut engine, _) = open(&dir);
    let body = vec![b'x'; 30_000];
    for n in 0..600 {
        let work = Work { appends: vec![append(&format!("{n}"), &body, true)], settlements: vec![] };
        engine.commit(&work, RunMs(n)).unwrap();
        relieve(&mut engine, n);
    }
    for n in 1..=600 {
        settle(&mut engine, Seq(n), Outcome::Delivered, 1_000 + n);
        relieve(&mut engine, 1_000 + n);
    }
    let pages = |engine: &SqliteBuffer| count(engine, "PRAGMA page_count");
    let full = pages(&engine);
    assert!(full > 2_000, "{full}");
    let mut now = 2_000;
    let mut shrink = |engine: &mut SqliteBuffer, idle: bool| {
        now += 50;
        assert!(matches!(store(engine, &format!("new {now}"), true, now), Appended::Stored { .. }));
        let before = pages(engine);
        engine.maintain(RunMs(now), idle).unwrap();
        before - pages(engine)
    };
    let busy: Vec<i64> = (0..20).map(|_| shrink(&mut engine, false)).collect();
    assert!(busy.iter().all(|pages| *pages == i64::from(VACUUM_PAGES_BUSY)), "{busy:?}");
    let idle = shrink(&mut engine, true);
    assert!(idle >= i64::from(VACUUM_PAGES), "{idle} pages in an idle slice");
    while engine.free_pages > 0 {
        let given_back = shrink(&mut engine, true);
        // A page of SQLite's own map may go along.
        assert!((1..=i64::from(VACUUM_PAGES) + 1).contains(&given_back), "{given_back}");
    }
    assert!(pages(&engine) < 100, "{}", pages(&engine));
    engine.checkpoint().unwrap();
    let size = dir.path().join(DATABASE_FILE).metadata().unwrap().len();
    assert!(size < 1_000_000, "{size} bytes on the disk");
}
