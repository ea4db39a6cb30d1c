//! What the fault tests have found, each by the shortest way to it.

use std::path::Path;

use fuser::Errno;

use crate::harness::{Hookward, Received, Setup, Sink, assert_accepted, body, new_id, poll, signed};
use crate::powerfs::{Call, Loss, PowerFs};

/// A first start syncs less often than that.
const SYNCS: u64 = 24;

fn on(disk: &PowerFs, sink: &Sink) -> Setup {
    Setup::new(sink).data_at(&disk.path().join("data"))
}

fn post(hookward: &Hookward) -> String {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    id
}

fn lose_power(hookward: &mut Hookward, disk: &PowerFs) {
    disk.power_off();
    hookward.kill9();
    disk.power_on(0, Loss::Drop);
}

/// With the app back, every one of these arrives.
fn assert_delivered(setup: &Setup, sink: &mut Sink, ids: &[String]) {
    sink.start_again();
    let _hookward = setup.start();
    sink.wait_until(|received| {
        let arrived: Vec<String> = received.iter().map(Received::event_id).collect();
        ids.iter().all(|id| arrived.contains(id))
    });
}

/// The app is down, so that the buffer alone has what is acknowledged.
fn app_that_is_down() -> Sink {
    let mut sink = Sink::start();
    sink.stop();
    sink
}

/// A first start of which one sync fails, then one that succeeds if it does not.
fn start_with_a_failed_sync(nth: u64, setup: &Setup, disk: &PowerFs) -> Hookward {
    disk.fail(&[Call::Sync], nth, 1, Errno::EIO);
    setup.try_start().unwrap_or_else(|finished| {
        assert_eq!(finished.code, Some(1), "sync {nth}: {}", finished.stderr);
        setup.start()
    })
}

#[test]
fn a_data_directory_made_at_the_start_is_there_after_a_power_loss() {
    let (disk, mut sink) = (PowerFs::mount(0, 1 << 30).unwrap(), app_that_is_down());
    let setup = on(&disk, &sink);
    let mut hookward = setup.start();
    let id = post(&hookward);
    lose_power(&mut hookward, &disk);
    assert_delivered(&setup, &mut sink, &[id]);
}

#[test]
fn whichever_sync_of_a_first_start_fails_what_is_acknowledged_then_survives_a_power_loss() {
    for nth in 1..=SYNCS {
        let (disk, mut sink) = (PowerFs::mount(nth, 1 << 30).unwrap(), app_that_is_down());
        let setup = on(&disk, &sink);
        let mut hookward = start_with_a_failed_sync(nth, &setup, &disk);
        disk.heal();
        let id = post(&hookward);
        lose_power(&mut hookward, &disk);
        assert_delivered(&setup, &mut sink, &[id]);
    }
}

#[test]
fn whichever_sync_of_a_first_start_fails_hookward_does_not_run_without_its_log() {
    let length = |path: &Path| path.metadata().map_or(0, |found| found.len());
    for nth in 1..=SYNCS {
        let (disk, sink) = (PowerFs::mount(nth, 1 << 30).unwrap(), app_that_is_down());
        let setup = on(&disk, &sink);
        let hookward = start_with_a_failed_sync(nth, &setup, &disk);
        disk.heal();
        post(&hookward);
        assert!(length(&setup.data_dir().join("hookward.db-wal")) > 0, "sync {nth}");
        assert!(!setup.data_dir().join("hookward.db-journal").exists(), "sync {nth}");
    }
}

#[test]
fn what_a_failed_sync_of_an_earlier_life_left_unwritten_takes_nothing_acknowledged_along() {
    for seed in 0..4 {
        let (disk, mut sink) = (PowerFs::mount(seed, 1 << 30).unwrap(), app_that_is_down());
        let setup = on(&disk, &sink);
        let mut hookward = setup.start();
        let before = post(&hookward);
        disk.fail(&[Call::Sync], 1, u64::MAX, Errno::EIO);
        let answer = hookward.post(&signed(body(&new_id())));
        assert_eq!(answer.status, 503, "{answer:?}");
        // The kernel now takes the pages of the log for clean, and no process is left that knows.
        hookward.kill9();
        disk.heal();
        let mut hookward = setup.start();
        let after = post(&hookward);
        lose_power(&mut hookward, &disk);
        assert_delivered(&setup, &mut sink, &[before, after]);
    }
}

#[test]
fn a_start_on_a_full_disk_gives_up_the_ballast_and_delivers() {
    let (disk, mut sink) = (PowerFs::mount(0, 1 << 30).unwrap(), app_that_is_down());
    let setup = on(&disk, &sink);
    let mut hookward = setup.start();
    let id = post(&hookward);
    hookward.kill9();
    let ballast = setup.data_dir().join("ballast");
    std::fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    disk.set_capacity(disk.used_bytes());
    assert_delivered(&setup, &mut sink, &[id]);
    poll("the ballast is given up", || (!ballast.exists()).then_some(()));
}
