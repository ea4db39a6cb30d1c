//! A disk that fails and heals: nothing is acknowledged meanwhile, and it goes on by itself.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use super::harness::*;

/// Posts events, each with an id of its own, until `enough`; returns the ids that were answered 200
/// and the reasons of those that were not.
fn post_until(hookward: &Hookward, mut enough: impl FnMut(&[String], &[String]) -> bool) -> (Vec<String>, Vec<String>) {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    let until = Instant::now() + DEADLINE;
    while !enough(&accepted, &refused) {
        assert!(Instant::now() < until, "{} accepted, refused: {refused:?}", accepted.len());
        let id = new_id();
        let answer = hookward.post(&signed(body(&id)));
        match answer.status {
            200 => accepted.push(id),
            _ => {
                assert_refused(&answer, 503, "buffer_failed");
                refused.push(answer.reason());
                std::thread::sleep(POLL);
            }
        }
    }
    (accepted, refused)
}

#[test]
fn syncs_that_fail_are_never_acknowledged_and_the_buffer_is_opened_again() {
    let sink = Sink::start();
    // Of each thread: those of the start and of some events pass, then five fail.
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).inject("fdatasync:error=EIO:when=60..64").start();
    let (before, refused) = post_until(&hookward, |_, refused| !refused.is_empty());
    assert!(!before.is_empty(), "{refused:?}");
    let failed = Instant::now();
    let not_ready = hookward.admin(&Request::get("/readyz"));
    let (after, _) = post_until(&hookward, |accepted, _| accepted.len() >= 20);
    assert!(failed.elapsed() < Duration::from_secs(10), "{:?}", failed.elapsed());
    // It may have healed between the two requests.
    assert!(not_ready.status == 200 || not_ready.text().contains("buffer_failed"), "{not_ready:?}");
    assert_eq!(hookward.admin(&Request::get("/readyz")).status, 200);
    let arrived = sink.wait_until(|received| {
        let ids: std::collections::HashSet<_> = received.iter().map(Received::event_id).collect();
        before.iter().chain(&after).all(|id| ids.contains(id))
    });
    assert!(arrived.len() >= before.len() + after.len());
    let metrics = hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    assert!(metrics.value("hookward_buffer_errors_total", &[("kind", "failed")]) >= 1.0, "{metrics}");
    hookward.await_log("the buffer failed");
    hookward.await_log("has been opened again");
}

#[test]
fn what_was_acknowledged_around_a_failed_sync_survives_a_kill() {
    let mut sink = Sink::start();
    sink.stop();
    let setup = Setup::new(&sink).config(QUICK_RETRIES);
    let mut hookward = setup.clone().inject("fdatasync:error=EIO:when=60..62").start();
    let (before, _) = post_until(&hookward, |_, refused| !refused.is_empty());
    let (after, _) = post_until(&hookward, |accepted, _| accepted.len() >= 10);
    hookward.kill9();
    sink.start_again();
    let again = setup.start();
    sink.wait_until(|received| {
        let ids: std::collections::HashSet<_> = received.iter().map(Received::event_id).collect();
        before.iter().chain(&after).all(|id| ids.contains(id))
    });
    assert_eq!(again.metrics().value("hookward_buffer_errors_total", &[("kind", "damaged")]), 0.0);
}

/// Lets no file of it grow beyond this; `None` is as much as we may.
fn limit_file_size(hookward: &Hookward, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(hookward.pid()), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[test]
fn a_limit_on_the_size_of_files_refuses_events_and_does_not_end_the_process() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let (before, _) = post_until(&hookward, |accepted, _| accepted.len() >= 5);
    limit_file_size(&hookward, Some(4096));
    post_until(&hookward, |_, refused| refused.len() >= 3);
    limit_file_size(&hookward, None);
    let healed = Instant::now();
    let (after, _) = post_until(&hookward, |accepted, _| !accepted.is_empty());
    assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
    sink.wait_until(|received| {
        let ids: std::collections::HashSet<_> = received.iter().map(Received::event_id).collect();
        before.iter().chain(&after).all(|id| ids.contains(id))
    });
}
