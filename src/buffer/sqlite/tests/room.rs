//! At the bound: what gives way, what it costs to find it, and who is refused.

use super::*;
use crate::buffer::record::Repair;

const SMALL_BYTES: u64 = 4 << 20;
/// Bodies of which the small buffer holds thousands.
const BODY: [u8; 100] = [b'x'; 100];

fn open_small(dir: &TempDir) -> SqliteBuffer {
    SqliteBuffer::open(dir.path(), Settings { max_bytes: MaxBytes::Fixed(SMALL_BYTES), ..settings() }).unwrap().0
}

fn open_shared(dir: &TempDir, routes: &[&str]) -> SqliteBuffer {
    let mut engine = open_small(dir);
    engine.share_among(&routes.iter().map(|route| (*route).into()).collect::<Vec<_>>());
    engine
}

fn offer(engine: &mut SqliteBuffer, route: &str, body: &[u8], claim: bool) -> Appended {
    let mut new = event("", body);
    new.route = route.into();
    let appends = vec![Append { event: NewEvent::new(new, None), claim }];
    let appended = engine.commit(&Work { appends, settlements: vec![] }, RunMs(1)).unwrap()[0];
    relieve(engine, 1);
    appended
}

/// Stores events that wait until one is refused; how many were stored.
fn fill_with_waiting(engine: &mut SqliteBuffer, route: &str, body: &[u8]) -> usize {
    let stored = (0..100_000).take_while(|_| offer(engine, route, body, false) != Appended::Full).count();
    assert!(stored < 100_000, "never refused");
    stored
}

/// As full as it can be; what is written is counted only now and then.
fn pretend_to_be_full(engine: &mut SqliteBuffer) {
    engine.used_pages = SMALL_BYTES / schema::PAGE_BYTES + 1;
}

#[test]
fn where_nothing_can_give_way_no_row_is_read_however_many_events_are_refused() {
    let dir = in_memory_dir();
    let mut engine = open_small(&dir);
    let stored = fill_with_waiting(&mut engine, "a", &BODY);
    assert!(stored > 5_000, "{stored}");
    let read_before = engine.give_way.rows_read;
    for _ in 0..200 {
        assert_eq!(offer(&mut engine, "a", &[0; 1_000], false), Appended::Full);
        pretend_to_be_full(&mut engine);
        assert!(!engine.is_pressed(), "nothing can be done about it");
        engine.maintain(RunMs(2), false).unwrap();
    }
    assert_eq!(engine.give_way.rows_read, read_before);
}

#[test]
fn what_can_give_way_is_found_a_slice_at_a_time_and_not_with_every_commit() {
    const SLICE_ROWS: usize = 512;
    let dir = in_memory_dir();
    let mut engine = open_small(&dir);
    let stored = fill_with_waiting(&mut engine, "a", &BODY);
    // A tombstone at the very end, past all events that wait.
    let last = engine.last_seq;
    engine.repair(&[Repair::Discard(last)], RunMs(2)).unwrap();
    engine.checkpoint().unwrap();
    let slices = stored.div_ceil(SLICE_ROWS);
    for slice in 1..=slices {
        pretend_to_be_full(&mut engine);
        assert_eq!(engine.is_pressed(), slice == 1, "a search that finds nothing waits for housekeeping");
        let before = engine.give_way.rows_read;
        engine.maintain(RunMs(3), false).unwrap();
        let read = engine.give_way.rows_read - before;
        assert!((1..=SLICE_ROWS).contains(&read), "{read} rows in one slice");
        assert_eq!(engine.stats(RunMs(3)).of(State::Discarded), u64::from(slice < slices), "slice {slice} of {slices}");
    }
    pretend_to_be_full(&mut engine);
    engine.maintain(RunMs(4), false).unwrap();
    assert!(engine.give_way.rows_read <= stored, "nothing is left to be found");
}

#[test]
fn a_route_whose_app_takes_nothing_leaves_room_to_the_others_before_and_after_a_restart() {
    let dir = in_memory_dir();
    let mut engine = open_shared(&dir, &["dead", "well"]);
    // A history of both, so that pages are not as full as they could be.
    for _ in 0..300 {
        offer(&mut engine, "dead", &[b'x'; 700], false);
        let Appended::Stored { seq, .. } = offer(&mut engine, "well", &[b'x'; 700], true) else { panic!("refused") };
        settle(&mut engine, seq, Outcome::Delivered, 1);
    }
    fill_with_waiting(&mut engine, "dead", &[b'x'; 700]);
    for restarted in [false, true] {
        if restarted {
            drop(engine);
            engine = open_shared(&dir, &["dead", "well"]);
        }
        for n in 0..2_000 {
            if n % 10 == 0 {
                assert_eq!(offer(&mut engine, "dead", &[b'x'; 700], false), Appended::Full, "restarted: {restarted}");
            }
            match offer(&mut engine, "well", &[b'x'; 700], true) {
                Appended::Stored { seq, .. } => settle(&mut engine, seq, Outcome::Delivered, 2),
                other => panic!("{other:?} after {n}, restarted: {restarted}"),
            }
        }
        assert!(engine.stats(RunMs(2)).used_bytes <= SMALL_BYTES + SMALL_BYTES / 8);
    }
    let waits = fill_with_waiting(&mut engine, "well", &[b'x'; 700]) as u64 * 1_100;
    assert!(waits > SMALL_BYTES / 20, "{waits} bytes of the reserve may wait");
}

#[test]
fn what_a_route_holds_follows_every_way_an_event_may_go() {
    let dir = in_memory_dir();
    let keeping = Settings { delivered_keep: DAY, ..settings() };
    let (mut engine, _) = SqliteBuffer::open(dir.path(), keeping.clone()).unwrap();
    let check = |engine: &SqliteBuffer, when: &str| {
        for route in ["a", "b"] {
            let rows = count(
                engine,
                &format!("SELECT coalesce(sum(size), 0) FROM event WHERE route = '{route}' AND state IN (0, 2, 3)"),
            );
            assert_eq!(engine.counts.room.held(route), rows.unsigned_abs(), "{route} {when}");
        }
        let kept = count(engine, "SELECT coalesce(sum(size), 0) FROM event JOIN body USING (seq) WHERE state = 1");
        assert_eq!(engine.counts.kept_bytes, kept.unsigned_abs(), "{when}");
    };
    let seqs: Vec<Seq> = (0..12)
        .map(|n| match offer(&mut engine, if n % 2 == 0 { "a" } else { "b" }, &[b'x'; 500], n < 10) {
            Appended::Stored { seq, .. } => seq,
            other => panic!("{other:?}"),
        })
        .collect();
    check(&engine, "stored");
    for (n, outcome) in [
        Outcome::Delivered,
        Outcome::Delivered,
        Outcome::Dead { error: "given up".into() },
        Outcome::Dead { error: "given up".into() },
        Outcome::RetryAt { due: RunMs(500), client_errors: 0, error: "503".into() },
        Outcome::Released,
    ]
    .into_iter()
    .enumerate()
    {
        settle(&mut engine, seqs[n], outcome, 2);
    }
    check(&engine, "settled");
    settle(&mut engine, seqs[0], Outcome::Dead { error: String::new() }, 3);
    check(&engine, "settled twice");
    engine.repair(&[Repair::Redrive(seqs[1]), Repair::Redrive(seqs[2]), Repair::Discard(seqs[3])], RunMs(4)).unwrap();
    engine.repair(&[Repair::Discard(seqs[5]), Repair::Discard(seqs[8])], RunMs(4)).unwrap();
    check(&engine, "repaired");
    engine.db.execute("UPDATE body SET body = x'00' WHERE seq = ?1", [seqs[10].0]).unwrap();
    engine.claim("a", ClaimLimit { events: 100, bytes: 1 << 20, untried_first: false }, RunMs(600)).unwrap();
    assert_eq!(engine.stats(RunMs(600)).of(State::Quarantined), 1);
    check(&engine, "set aside");
    drop(engine);
    let (mut engine, _) = SqliteBuffer::open(dir.path(), keeping).unwrap();
    check(&engine, "opened again");
    let keeps_over = 15 * 86_400_000 + 1_000;
    engine.maintain(RunMs(keeps_over), true).unwrap();
    check(&engine, "dropped at the end of the keeps");
    assert_eq!(engine.counts.kept_bytes, 0);
}

#[test]
fn what_the_file_system_gives_bounds_the_buffer_and_is_shown() {
    let dir = TempDir::new().unwrap();
    let all = Space::of(dir.path()).unwrap().total_bytes;
    let beyond = Settings { max_bytes: MaxBytes::Fixed(2 * all), ..settings() };
    let (engine, _) = SqliteBuffer::open(dir.path(), beyond).unwrap();
    assert!(engine.stats(RunMs(0)).capacity_bytes < all, "no more than there is");
    drop(engine);
    let auto = Settings { max_bytes: MaxBytes::Auto, ..settings() };
    let (mut engine, _) = SqliteBuffer::open(dir.path(), auto).unwrap();
    assert!(engine.stats(RunMs(0)).capacity_bytes <= all / 5 * 4);
    // Somebody else has filled the disk.
    engine.look_at_capacity(Some(Space { free_bytes: 0, total_bytes: all }));
    assert_eq!(engine.stats(RunMs(0)).capacity_bytes, 0);
    assert_eq!(store(&mut engine, "one", false, 1), Appended::Full);
    engine.maintain(RunMs(900), true).unwrap();
    assert_eq!(engine.stats(RunMs(0)).capacity_bytes, 0);
    engine.maintain(RunMs(1_100), true).unwrap();
    assert_ne!(engine.stats(RunMs(0)).capacity_bytes, 0, "it is looked at again each second while it is less");
}
