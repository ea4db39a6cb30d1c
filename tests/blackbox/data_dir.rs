//! The data directory goes away under a running hookward: nothing is answered 200 that the next start would not find.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::harness::*;

/// A hookward whose app is down, and the ids of the events that it holds.
fn holding(events: usize) -> (Sink, Hookward, Vec<String>) {
    let mut sink = Sink::start();
    sink.stop();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let ids = post_accepted(&hookward, events);
    (sink, hookward, ids)
}

fn post_accepted(hookward: &Hookward, events: usize) -> Vec<String> {
    let ids: Vec<String> = (0..events).map(|_| new_id()).collect();
    for id in &ids {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    ids
}

fn assert_buffer_failed(hookward: &Hookward) {
    assert_refused(&hookward.post(&event()), 503, "buffer_failed");
    let readiness = hookward.admin(&Request::get("/readyz"));
    assert_eq!((readiness.status, readiness.text().contains("buffer_failed")), (503, true), "{readiness:?}");
}

fn await_ready(hookward: &Hookward) {
    poll("ready", || (hookward.admin(&Request::get("/readyz")).status == 200).then_some(()));
}

fn error_lines(hookward: &Hookward) -> Vec<String> {
    let log = hookward.await_log("\"level\":\"error\"");
    log.lines().filter(|line| line.contains("\"level\":\"error\"")).map(str::to_owned).collect()
}

/// Each of these has come, once.
fn assert_delivered_once(sink: &Sink, ids: &[String]) {
    let received = sink.wait_until(|received| {
        let came: Vec<String> = received.iter().map(Received::event_id).collect();
        ids.iter().all(|id| came.contains(id))
    });
    let mut came: Vec<String> = received.iter().map(Received::event_id).filter(|id| ids.contains(id)).collect();
    came.sort();
    let mut expected = ids.to_vec();
    expected.sort();
    assert_eq!(came, expected);
}

fn aside(hookward: &Hookward) -> PathBuf {
    hookward.setup().dir().join("aside")
}

#[test]
fn nothing_is_answered_200_once_the_next_start_would_not_find_it() {
    type Act = fn(&Path);
    let acts: [(&str, &str, Act); 7] = [
        ("the directory is removed", "hookward.db", |dir| fs::remove_dir_all(dir).unwrap()),
        ("the directory is moved", "hookward.db", |dir| fs::rename(dir, dir.with_extension("away")).unwrap()),
        ("an empty one stands in its place", "hookward.db", |dir| {
            fs::rename(dir, dir.with_extension("away")).unwrap();
            fs::create_dir(dir).unwrap();
        }),
        ("database and log are unlinked", "hookward.db", |dir| {
            fs::remove_file(dir.join("hookward.db")).unwrap();
            fs::remove_file(dir.join("hookward.db-wal")).unwrap();
        }),
        ("a copy stands in the place of the database", "hookward.db", |dir| {
            fs::copy(dir.join("hookward.db"), dir.join("copy")).unwrap();
            fs::rename(dir.join("copy"), dir.join("hookward.db")).unwrap();
        }),
        ("the log is unlinked", "hookward.db-wal", |dir| fs::remove_file(dir.join("hookward.db-wal")).unwrap()),
        ("the lock is unlinked", "hookward.lock", |dir| fs::remove_file(dir.join("hookward.lock")).unwrap()),
    ];
    for (name, file, act) in acts {
        let (_sink, hookward, _) = holding(3);
        let path = hookward.setup().data_dir();
        act(&path);
        for _ in 0..3 {
            assert_buffer_failed(&hookward);
        }
        let told = error_lines(&hookward);
        let line = told.first().unwrap_or_else(|| panic!("{name}: nothing was told"));
        assert!(line.contains(&format!("{}:", path.join(file).display())), "{name}: {line}");
        assert_eq!(told.len(), 1, "{name}: once, not for each event: {told:?}");
        let metrics = hookward.metrics();
        assert_eq!(metrics.value("hookward_buffer_errors_total", &[("kind", "failed")]), 1.0, "{name}\n{metrics}");
        assert_eq!(metrics.value("hookward_buffer_failed", &[]), 1.0, "{name}");
        // Whatever stands there now, nothing is made of it.
        let database = path.join("hookward.db");
        assert_eq!(database.exists(), name.contains("copy") || file != "hookward.db", "{name}");
    }
}

#[test]
fn it_is_seen_without_an_event() {
    let (_sink, hookward, _) = holding(0);
    fs::remove_dir_all(hookward.setup().data_dir()).unwrap();
    poll("not ready", || (hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    assert_eq!(error_lines(&hookward).len(), 1);
}

#[test]
fn the_directory_that_is_moved_back_goes_on_with_everything_that_was_in_it() {
    let (mut sink, hookward, mut ids) = holding(20);
    let (dir, aside) = (hookward.setup().data_dir(), aside(&hookward));
    for _ in 0..2 {
        fs::rename(&dir, &aside).unwrap();
        fs::create_dir(&dir).unwrap();
        assert_buffer_failed(&hookward);
        fs::remove_dir(&dir).unwrap();
        fs::rename(&aside, &dir).unwrap();
        await_ready(&hookward);
        ids.extend(post_accepted(&hookward, 5));
    }
    sink.start_again();
    assert_delivered_once(&sink, &ids);
    hookward.await_log("has been opened again");
}

#[test]
fn what_memory_holds_goes_to_the_app_meanwhile_and_that_is_noted_when_the_directory_is_back() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let hookward = Setup::new(&sink).start();
    // Some are under way, the others wait their turn.
    let ids = post_accepted(&hookward, 40);
    sink.wait_for(1);
    let (dir, aside) = (hookward.setup().data_dir(), aside(&hookward));
    fs::rename(&dir, &aside).unwrap();
    assert_buffer_failed(&hookward);
    sink.release();
    assert_delivered_once(&sink, &ids);
    fs::rename(&aside, &dir).unwrap();
    // The one that was answered 503 may be in the files too.
    hookward.await_metrics("all noted", |metrics| {
        let events = |state| metrics.value("hookward_buffer_events", &[("state", state)]);
        events("delivered") >= 40.0 && events("pending") < 1.0
    });
    assert_eq!(hookward.metrics().value("hookward_buffer_failed", &[]), 0.0);
    let after = post_accepted(&hookward, 1);
    assert_delivered_once(&sink, &[ids, after].concat());
}

#[test]
fn another_instance_in_the_new_directory_and_the_first_never_mix() {
    let (_sink, mut first, of_first) = holding(5);
    let (dir, aside) = (first.setup().data_dir(), aside(&first));
    fs::rename(&dir, &aside).unwrap();
    let mut second = first.setup().start();
    let of_second = post_accepted(&second, 7);
    assert_buffer_failed(&first);
    // It leaves nothing in the other's directory, and takes nothing away, log and socket included.
    first.sigterm();
    assert_eq!(first.wait_exit(), Some(0), "{}", first.stderr());
    assert_eq!(held(&second), of_second);
    second.kill9();
    second.start_again();
    assert_eq!(held(&second), of_second);
    let again = first.setup().clone().data_at(&aside).start();
    assert_eq!(held(&again), of_first);
}

/// The ids that it has, oldest first, all of them pending.
fn held(hookward: &Hookward) -> Vec<String> {
    let listed = hookward.admin_socket(&Request::get("/api/v1/events?state=pending&limit=1000")).json();
    let events = listed["events"].as_array().unwrap();
    events.iter().rev().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_only_an_unlinked_log_held_is_found_by_the_next_start() {
    let (_sink, mut hookward, ids) = holding(10);
    fs::remove_file(hookward.setup().data_dir().join("hookward.db-wal")).unwrap();
    assert_buffer_failed(&hookward);
    hookward.await_log("has been written into the database");
    hookward.kill9();
    hookward.start_again();
    let found = held(&hookward);
    assert!(found.starts_with(&ids), "{found:?}");
    post_accepted(&hookward, 1);
}

#[test]
fn what_was_unlinked_can_be_copied_from_proc_as_long_as_the_process_lives() {
    let (_sink, mut hookward, ids) = holding(10);
    let rescued = hookward.setup().dir().join("rescued");
    fs::create_dir(&rescued).unwrap();
    fs::remove_dir_all(hookward.setup().data_dir()).unwrap();
    poll("not ready", || (hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    for entry in fs::read_dir(format!("/proc/{}/fd", hookward.pid().as_raw_nonzero())).unwrap() {
        let entry = entry.unwrap().path();
        let Ok(target) = fs::read_link(&entry) else { continue };
        let target = target.to_string_lossy().into_owned();
        for name in ["hookward.db", "hookward.db-wal"] {
            if target.ends_with(&format!("/{name} (deleted)")) {
                fs::copy(&entry, rescued.join(name)).unwrap();
            }
        }
    }
    hookward.kill9();
    assert_eq!(held(&hookward.setup().clone().data_at(&rescued).start()), ids);
}

#[test]
fn a_removed_lock_lets_nobody_in_beside_an_instance_that_has_the_database_open() {
    let (_sink, mut hookward, ids) = holding(5);
    // It stands still, as a machine that is suspended, and cannot see what happens.
    hookward.signal(Signal::STOP);
    fs::remove_file(hookward.setup().data_dir().join("hookward.lock")).unwrap();
    let refused = hookward.setup().run_to_end();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("is open in another process"), "{refused:?}");
    hookward.signal(Signal::CONT);
    assert_buffer_failed(&hookward);
    hookward.kill9();
    hookward.start_again();
    assert_eq!(held(&hookward)[..5], ids);
}
