//! Looking at events and repairing them.

use super::*;
use crate::buffer::event::{Event, EventHead};
use crate::buffer::record::Record;

const NEWEST: Slice = Slice { before: None, events: 100, rows: 500 };

fn of_route(id: &str, route: &str) -> Append {
    let mut event: Event = event(id, b"a body");
    event.route = route.into();
    Append { event: NewEvent::new(event, Some((print(id), DAY))), claim: true }
}

fn seqs(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.seq.0).collect()
}

fn list(engine: &mut SqliteBuffer, filter: &Filter, slice: Slice) -> Listed {
    engine.list(filter, slice, RunMs(0)).unwrap()
}

fn dead() -> Outcome {
    Outcome::Dead { error: "the app answered 400".into() }
}

/// A dead letter that has been tried three times.
fn dead_letter(engine: &mut SqliteBuffer, id: &str, now: i64) -> Seq {
    let Appended::Stored { seq, claimed: true } = store(engine, id, true, now) else { panic!("not claimed") };
    let last = Some(Attempt { ended_unix_ms: 1_700_000_000_500, status: Some(400), duration_ms: 12 });
    let settlements = vec![Settlement { event: handed_out(seq), outcome: dead(), attempts: 3, last }];
    engine.commit(&Work { appends: vec![], settlements }, RunMs(now)).unwrap();
    seq
}

fn redrive(engine: &mut SqliteBuffer, seq: Seq, now: i64) -> Repaired {
    engine.repair(&[Repair::Redrive(seq)], RunMs(now)).unwrap().remove(0)
}

fn discard(engine: &mut SqliteBuffer, seq: Seq, now: i64) -> Repaired {
    engine.repair(&[Repair::Discard(seq)], RunMs(now)).unwrap().remove(0)
}

fn state_of(engine: &mut SqliteBuffer, seq: Seq) -> State {
    engine.get(seq, RunMs(0)).unwrap().unwrap().record.state
}

#[test]
fn a_list_is_newest_first_and_goes_on_where_it_ended() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    for n in 0..7 {
        store(&mut engine, &format!("e{n}"), false, 0);
    }
    let page = Slice { events: 3, ..NEWEST };
    let first = list(&mut engine, &Filter::default(), page);
    assert_eq!((seqs(&first.records), first.next), (vec![7, 6, 5], Some(Seq(5))));
    let second = list(&mut engine, &Filter::default(), Slice { before: first.next, ..page });
    assert_eq!(seqs(&second.records), [4, 3, 2]);
    let last = list(&mut engine, &Filter::default(), Slice { before: second.next, ..page });
    assert_eq!((seqs(&last.records), last.next), (vec![1], None));
}

#[test]
fn a_list_looks_at_so_many_rows_whether_they_match_or_not() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    for n in 0..10 {
        store(&mut engine, &format!("e{n}"), false, 0);
    }
    let first = Filter { event_id: Some("e0".into()), ..Filter::default() };
    let listed = list(&mut engine, &first, Slice { rows: 4, ..NEWEST });
    assert_eq!((listed.records.len(), listed.rows, listed.next), (0, 4, Some(Seq(7))));
    let listed = list(&mut engine, &first, Slice { before: Some(Seq(3)), rows: 4, ..NEWEST });
    assert_eq!((seqs(&listed.records), listed.next), (vec![1], None));
}

#[test]
fn every_filter_leaves_out_what_it_says() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let appends = vec![of_route("a", "one"), of_route("b", "two"), of_route("c", "two")];
    engine.commit(&Work { appends, settlements: vec![] }, RunMs(0)).unwrap();
    settle(&mut engine, Seq(2), dead(), 1);
    settle(&mut engine, Seq(3), Outcome::Delivered, 1);
    let by_state = |state| Filter { state: Some(state), ..Filter::default() };
    let by_route = |route: &str| Filter { route: Some(route.into()), ..Filter::default() };
    let by_type = |kind: &str| Filter { event_type: Some(kind.into()), ..Filter::default() };
    for (filter, expected) in [
        (by_state(State::Pending), vec![1]),
        (by_state(State::Dead), vec![2]),
        (by_state(State::Delivered), vec![3]),
        (by_state(State::Discarded), vec![]),
        (by_route("two"), vec![3, 2]),
        (Filter { state: Some(State::Dead), ..by_route("one") }, vec![]),
        (by_type("message.sent"), vec![3, 2, 1]),
        (by_type("message"), vec![]),
        (Filter { event_id: Some("b".into()), ..Filter::default() }, vec![2]),
    ] {
        assert_eq!(seqs(&list(&mut engine, &filter, NEWEST).records), expected, "{filter:?}");
    }
}

#[test]
fn dead_letters_are_found_without_a_look_at_the_others() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let oldest = dead_letter(&mut engine, "dead", 0);
    for n in 0..50 {
        store(&mut engine, &format!("e{n}"), false, 0);
    }
    let filter = Filter { state: Some(State::Dead), ..Filter::default() };
    let listed = list(&mut engine, &filter, Slice { rows: 10, ..NEWEST });
    assert_eq!((seqs(&listed.records), listed.rows, listed.next), (vec![oldest.0], 1, None));
    assert_eq!(engine.dead_after(Seq(0), 10).unwrap(), [oldest]);
    assert_eq!(engine.dead_after(oldest, 10).unwrap(), []);
}

#[test]
fn an_event_is_shown_with_its_last_attempt_and_what_is_kept_of_it() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let seq = dead_letter(&mut engine, "one", 0);
    drop(engine);
    let (mut engine, _) = open(&dir);
    let detail = engine.get(seq, RunMs(5)).unwrap().unwrap();
    let expected = Attempt { ended_unix_ms: 1_700_000_000_500, status: Some(400), duration_ms: 12 };
    assert_eq!(detail.last_attempt, Some(expected));
    assert_eq!(detail.record.last_error.as_deref(), Some("the app answered 400"));
    assert_eq!((detail.record.state, detail.record.attempts, detail.record.due_in), (State::Dead, 3, None));
    let content = detail.content.unwrap();
    let head: EventHead = event("one", b"").head;
    assert_eq!((content.head, &content.body[..], content.intact), (Some(head), &b"a body"[..], true));
    assert!(engine.get(Seq(99), RunMs(5)).unwrap().is_none());
}

#[test]
fn a_pending_event_tells_when_it_is_due() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", true, 0);
    let due_in = |engine: &mut SqliteBuffer, now| engine.get(Seq(1), RunMs(now)).unwrap().unwrap().record.due_in;
    assert_eq!(due_in(&mut engine, 5), Some(Duration::ZERO));
    let later = Outcome::RetryAt { due: RunMs(500), client_errors: 0, error: "503".into() };
    settle(&mut engine, Seq(1), later, 10);
    assert_eq!(due_in(&mut engine, 100), Some(Duration::from_millis(400)));
    assert_eq!(due_in(&mut engine, 900), Some(Duration::ZERO));
}

#[test]
fn a_dead_letter_that_is_sent_again_begins_anew_under_its_old_name() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let seq = dead_letter(&mut engine, "one", 100);
    let before = engine.get(seq, RunMs(100)).unwrap().unwrap();
    assert!(matches!(redrive(&mut engine, seq, 7_000), Repaired::Done { was: State::Dead, .. }));
    assert_eq!(redrive(&mut engine, seq, 7_000), Repaired::NotIn(State::Pending), "once");
    drop(engine); // no close: as after kill -9
    let (mut engine, recovery) = open(&dir);
    assert_eq!((recovery.pending, recovery.dead), (1, 0));
    let claimed = claim_all(&mut engine, 7_000).remove(0);
    assert_eq!((claimed.seq, claimed.attempts, claimed.client_errors), (seq, 0, 0));
    assert_eq!((claimed.stored_at, claimed.tried_since), (RunMs(100), RunMs(7_000)));
    assert!(claimed.event.replay, "over a restart too");
    assert_eq!(claimed.event.delivery_id, before.record.delivery_id);
    let after = engine.get(seq, RunMs(7_000)).unwrap().unwrap();
    assert_eq!(after.last_attempt, before.last_attempt, "what happened before is still told");
    assert_eq!(store(&mut engine, "one", false, 7_001), Appended::Duplicate { seq });
}

#[test]
fn a_dead_letter_that_dies_again_has_its_whole_keep_again() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let keep_ms = 14 * 86_400_000;
    let seq = dead_letter(&mut engine, "one", 0);
    redrive(&mut engine, seq, keep_ms - 1_000);
    claim_all(&mut engine, keep_ms);
    settle(&mut engine, seq, dead(), keep_ms);
    assert!(engine.maintain(RunMs(2 * keep_ms), true).unwrap().is_empty());
    assert_eq!(engine.maintain(RunMs(2 * keep_ms + 11_000), true).unwrap().len(), 1);
}

#[test]
fn a_delivered_event_is_sent_again_while_its_body_is_kept() {
    let dir = TempDir::new().unwrap();
    let hour_ms = 3_600_000;
    let keeping = Settings { delivered_keep: Duration::from_secs(3_600), ..settings() };
    let (mut engine, _) = SqliteBuffer::open(dir.path(), keeping).unwrap();
    let Appended::Stored { seq, .. } = store(&mut engine, "one", true, 0) else { panic!() };
    settle(&mut engine, seq, Outcome::Delivered, 10);
    engine.maintain(RunMs(hour_ms), true).unwrap();
    assert!(matches!(redrive(&mut engine, seq, hour_ms), Repaired::Done { was: State::Delivered, .. }));
    let claimed = claim_all(&mut engine, hour_ms).remove(0);
    assert_eq!((claimed.event.replay, &claimed.event.body[..]), (true, &b"a body"[..]));
    let delivered_again = 2 * hour_ms;
    settle(&mut engine, seq, Outcome::Delivered, delivered_again);
    engine.maintain(RunMs(delivered_again + hour_ms), true).unwrap();
    assert!(engine.get(seq, RunMs(0)).unwrap().unwrap().content.is_some(), "the keep begins anew");
    engine.maintain(RunMs(delivered_again + hour_ms + 11_000), true).unwrap();
    assert_eq!(redrive(&mut engine, seq, delivered_again + hour_ms + 12_000), Repaired::NoBody);
    assert_eq!(state_of(&mut engine, seq), State::Delivered);
}

#[test]
fn a_delivered_event_is_not_sent_again_where_pending_ones_need_the_room() {
    let dir = TempDir::new().unwrap();
    let keeping = Settings { delivered_keep: DAY, max_bytes: MaxBytes::Fixed(1 << 20), ..settings() };
    let (mut engine, _) = SqliteBuffer::open(dir.path(), keeping).unwrap();
    let Appended::Stored { seq, .. } = store(&mut engine, "kept", true, 0) else { panic!() };
    settle(&mut engine, seq, Outcome::Delivered, 0);
    engine.counts.room.add("other", 1 << 20, true);
    assert_eq!(redrive(&mut engine, seq, 1), Repaired::NoRoom);
    engine.counts.room.remove("other", 1 << 20, true);
    assert!(matches!(redrive(&mut engine, seq, 1), Repaired::Done { .. }));
}

#[test]
fn what_is_thrown_away_is_counted_has_no_body_and_is_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let dead = dead_letter(&mut engine, "dead", 0);
    for id in ["waits", "handed out", "stays"] {
        store(&mut engine, id, id == "handed out", 0);
    }
    let (waits, stays) = (Seq(2), Seq(4));
    let held = claim_all(&mut engine, 0);
    assert_eq!(held.len(), 2, "the third was handed out when it came");
    settle(&mut engine, waits, Outcome::Released, 0);
    settle(&mut engine, stays, Outcome::Released, 0);
    let discarded = |was, handed_out| Repaired::Done { route: "default".into(), was, handed_out };
    assert_eq!(discard(&mut engine, dead, 1), discarded(State::Dead, false));
    assert_eq!(discard(&mut engine, waits, 1), discarded(State::Pending, false));
    assert_eq!(discard(&mut engine, Seq(3), 1), discarded(State::Pending, true));
    assert_eq!(discard(&mut engine, Seq(3), 1), Repaired::NotIn(State::Discarded), "once");
    settle(&mut engine, Seq(3), Outcome::Delivered, 2);
    assert_eq!(state_of(&mut engine, Seq(3)), State::Discarded, "an attempt that was under way changes nothing");
    let stats = engine.stats(RunMs(2));
    let counted = [State::Pending, State::Dead, State::Discarded, State::Delivered].map(|state| stats.of(state));
    assert_eq!(counted, [1, 0, 3, 0]);
    assert_eq!(count(&engine, "SELECT count(*) FROM body"), 1);
    let left: Vec<Seq> = claim_all(&mut engine, 3).iter().map(|claimed| claimed.seq).collect();
    assert_eq!(left, [stays]);
    assert_eq!(redrive(&mut engine, dead, 4), Repaired::NotIn(State::Discarded));
    assert_eq!(store(&mut engine, "waits", false, 5), Appended::Duplicate { seq: waits }, "it had been there");
}

#[test]
fn a_quarantined_event_can_only_be_thrown_away() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", false, 0);
    engine.db.execute("UPDATE body SET body = x'00' WHERE seq = 1", []).unwrap();
    assert!(claim_all(&mut engine, 1).is_empty());
    let shown = engine.get(Seq(1), RunMs(1)).unwrap().unwrap();
    assert_eq!((shown.record.state, shown.content.unwrap().intact), (State::Quarantined, false));
    assert_eq!(redrive(&mut engine, Seq(1), 2), Repaired::NotIn(State::Quarantined));
    assert!(matches!(discard(&mut engine, Seq(1), 2), Repaired::Done { was: State::Quarantined, .. }));
    assert_eq!(engine.counts.room.bytes(), 0, "its room is free");
}

#[test]
fn a_quarantined_event_goes_with_the_keep_of_dead_letters_and_that_is_told() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let keep_ms = 14 * 86_400_000;
    store(&mut engine, "one", false, 0);
    engine.db.execute("UPDATE body SET body = x'00' WHERE seq = 1", []).unwrap();
    assert!(claim_all(&mut engine, 1_000).is_empty());
    assert!(engine.maintain(RunMs(keep_ms), true).unwrap().is_empty());
    assert_eq!(state_of(&mut engine, Seq(1)), State::Quarantined);
    let told = engine.maintain(RunMs(keep_ms + 11_000), true).unwrap();
    assert_eq!(told, ["default".into()], "it was answered 200, so it does not leave without a word");
    assert!(engine.get(Seq(1), RunMs(0)).unwrap().is_none());
}

#[test]
fn an_old_event_that_is_sent_again_is_the_oldest_pending_until_it_is_settled() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let mut old: Event = event("old", b"");
    old.received_unix_ms = 1_000;
    let appends = vec![Append { event: NewEvent::new(old, None), claim: true }];
    engine.commit(&Work { appends, settlements: vec![] }, RunMs(0)).unwrap();
    settle(&mut engine, Seq(1), dead(), 0);
    store(&mut engine, "new", true, 1);
    let oldest = |engine: &SqliteBuffer| engine.stats(RunMs(9)).oldest_pending_unix_ms;
    assert_eq!(oldest(&engine), Some(1_700_000_000_000));
    redrive(&mut engine, Seq(1), 2);
    assert_eq!(oldest(&engine), Some(1_000));
    claim_all(&mut engine, 3);
    settle(&mut engine, Seq(1), Outcome::Delivered, 4);
    assert_eq!(oldest(&engine), Some(1_700_000_000_000));
    settle(&mut engine, Seq(2), Outcome::Delivered, 4);
    assert_eq!(oldest(&engine), None);
}

#[test]
fn an_event_that_is_sent_again_is_due_at_once_though_the_process_was_killed_right_after() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    let seq = dead_letter(&mut engine, "one", 100);
    redrive(&mut engine, seq, 50_000);
    drop(engine); // no close: the time was last noted long ago
    let (mut engine, recovery) = open(&dir);
    assert_eq!(recovery.run_base, RunMs(50_000));
    assert_eq!(claim_all(&mut engine, 50_000).len(), 1);
}

#[test]
fn a_route_that_has_only_dead_letters_is_known_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    dead_letter(&mut engine, "one", 0);
    drop(engine);
    let (_, recovery) = open(&dir);
    assert_eq!(recovery.routes, ["default".into()], "a redrive of them needs a lane");
}

#[test]
fn a_database_of_the_first_release_is_brought_up_to_date_once_and_for_all() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(&format!(
        "PRAGMA page_size=8192; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; {}
         PRAGMA application_id=0x484b5744; PRAGMA user_version=1;
         INSERT INTO meta(key, value) VALUES ('run_ms', 50), ('fingerprint_key', x'000102030405060708090a0b0c0d0e0f');",
        schema::TABLES
    ))
    .unwrap();
    // In the first release's own words; one of three had been dropped.
    for seq in 1..=3 {
        old.execute(
            "INSERT INTO event(delivery_id, received_ms, stored_run_ms, route, event_id, event_type, fingerprint,
             verified, size, crc, state, attempts, client_errors, due_run_ms)
             VALUES (zeroblob(16), 5, 6, 'default', 'old', NULL, NULL, 1, 400, 0, 2, 3, 0, 0)",
            [],
        )
        .unwrap();
        old.execute("INSERT INTO body(seq, head, body) VALUES (?1, x'01', x'02')", [seq]).unwrap();
    }
    old.execute("DELETE FROM event WHERE seq = 2", []).unwrap();
    drop(old);

    for _ in 0..2 {
        let (mut engine, recovery) = open(&dir);
        assert_eq!((recovery.dead, recovery.quarantined, &recovery.damage[..]), (2, 0, &[][..]));
        assert_eq!(recovery.run_base, RunMs(50));
        assert_eq!(recovery.fingerprint_key, std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let shown = engine.get(Seq(1), RunMs(60)).unwrap().unwrap();
        assert_eq!((shown.last_attempt, shown.replay), (None, false));
        drop(engine); // no close: as after kill -9
    }
    let (mut engine, _) = open(&dir);
    assert!(matches!(redrive(&mut engine, Seq(1), 70), Repaired::Done { .. }));
    let mut version = [0; 4];
    let mut file = std::fs::File::open(&path).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(60)).unwrap();
    std::io::Read::read_exact(&mut file, &mut version).unwrap();
    assert_eq!(version, [0, 0, 0, 2], "in the file itself, where the first release sees and refuses it");
}

fn forget(engine: &mut SqliteBuffer, seq: i64) -> Repaired {
    engine.repair(&[Repair::Forget(Seq(seq))], RunMs(5)).unwrap().remove(0)
}

fn is_duplicate_of(appended: Appended, seq: i64) -> bool {
    appended == Appended::Duplicate { seq: Seq(seq) }
}

#[test]
fn after_an_event_is_forgotten_exactly_one_repeat_is_stored_though_the_process_is_killed_in_between() {
    for is_killed in [false, true] {
        let dir = TempDir::new().unwrap();
        let (mut engine, _) = open(&dir);
        store(&mut engine, "one", true, 0);
        settle(&mut engine, Seq(1), Outcome::Delivered, 1);
        assert!(is_duplicate_of(store(&mut engine, "one", false, 2), 1));
        assert!(matches!(forget(&mut engine, 1), Repaired::Done { was: State::Delivered, handed_out: false, .. }));
        assert_eq!(forget(&mut engine, 1), Repaired::NotRemembered, "once");
        if is_killed {
            drop(engine);
            engine = open(&dir).0;
        }
        assert_eq!(store(&mut engine, "one", true, 6), Appended::Stored { seq: Seq(2), claimed: true });
        assert!(is_duplicate_of(store(&mut engine, "one", false, 7), 2));
        assert_eq!(forget(&mut engine, 1), Repaired::NotRemembered, "the newer one stands for it");
        assert!(is_duplicate_of(store(&mut engine, "one", false, 8), 2));
        drop(engine);
        engine = open(&dir).0;
        assert!(is_duplicate_of(store(&mut engine, "one", false, 9), 2));
        assert_eq!(engine.stats(RunMs(9)).quarantined, 0, "its row is whole");
    }
}

#[test]
fn only_what_is_done_with_can_be_forgotten() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = open(&dir);
    store(&mut engine, "one", false, 0);
    assert_eq!(forget(&mut engine, 1), Repaired::NotIn(State::Pending));
    assert_eq!(forget(&mut engine, 2), Repaired::Unknown);
    discard(&mut engine, Seq(1), 1);
    assert!(matches!(forget(&mut engine, 1), Repaired::Done { was: State::Discarded, .. }));
    let seq = dead_letter(&mut engine, "two", 2);
    assert_eq!(forget(&mut engine, seq.0), Repaired::NotIn(State::Dead));
    let unnamed = Append { event: NewEvent::new(event("three", b""), None), claim: true };
    engine.commit(&Work { appends: vec![unnamed], settlements: vec![] }, RunMs(3)).unwrap();
    settle(&mut engine, Seq(3), Outcome::Delivered, 4);
    assert_eq!(forget(&mut engine, 3), Repaired::NotRemembered, "it has no key");
}
