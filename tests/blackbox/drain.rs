//! Out of service without an end: by the API, and by the command for exec hooks.

use super::harness::process::Finished;
use super::harness::*;

fn drain(hookward: &Hookward) -> Answer {
    hookward.admin_socket(&Request::post("/api/v1/drain").body("{}"))
}

fn command_for(hookward: &Hookward, args: &[&str]) -> Finished {
    let mut command = command(args);
    Process::finish(command.env("HOOKWARD_DATA_DIR", hookward.setup().data_dir()), b"")
}

#[test]
fn it_is_not_ready_at_once_refuses_after_the_delay_and_goes_on_delivering() {
    let mut sink = Sink::start();
    sink.stop();
    let hookward =
        Setup::new(&sink).config(&format!("{QUICK_RETRIES}shutdown: {{ delay: 1s }}\nhealth_path: /healthz\n")).start();
    let waiting = new_id();
    assert_accepted(&hookward.post(&signed(body(&waiting))), &waiting);
    for _ in 0..2 {
        assert_eq!(drain(&hookward).status, 202, "asked again, nothing changes");
    }
    let not_ready = hookward.admin(&Request::get("/readyz"));
    assert_eq!((not_ready.status, not_ready.reason().as_str()), (503, "draining"));
    assert_eq!(hookward.post(&Request::get("/healthz")).status, 503);
    assert_eq!(hookward.post(&event()).status, 200, "still accepting for shutdown.delay");
    let refusal = poll("refused", || {
        let answer = hookward.post(&event());
        (answer.status != 200).then_some(answer)
    });
    assert_refused(&refusal, 503, "draining");
    let status = hookward.admin_socket(&Request::get("/api/v1/status")).json();
    assert_eq!((&status["accepting"], &status["reason"]), (&false.into(), &"draining".into()), "{status}");
    sink.start_again();
    sink.wait_until(|received| received.iter().any(|r| r.event_id() == waiting));
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    assert_eq!(hookward.admin(&Request::get("/livez")).status, 200, "it runs on");
}

#[test]
fn a_signal_after_a_drain_does_not_wait_for_the_delay_again() {
    let (_sink, mut hookward) = pair_with("shutdown: { delay: 2s, drain: 1s }\n");
    let begun = std::time::Instant::now();
    assert_eq!(drain(&hookward).status, 202);
    poll("refused", || (hookward.post(&event()).status == 503).then_some(()));
    let signalled = std::time::Instant::now();
    hookward.stop();
    assert!(begun.elapsed() >= std::time::Duration::from_secs(2));
    assert!(signalled.elapsed() < std::time::Duration::from_millis(1_800), "{:?}", signalled.elapsed());
}

#[test]
fn the_command_waits_until_everything_is_delivered() {
    let sink = Sink::start();
    sink.behave(|_| Reply::Hold);
    let hookward = Setup::new(&sink).start();
    assert_eq!(hookward.post(&event()).status, 200);
    sink.first();
    let too_short = command_for(&hookward, &["drain", "--wait", "--timeout", "300ms"]);
    assert_eq!(too_short.code, Some(1), "{too_short:?}");
    assert!(too_short.stderr.contains("1 event still pending"), "{too_short:?}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| command_for(&hookward, &["drain", "--wait"]));
        poll("refused", || (hookward.post(&event()).status == 503).then_some(()));
        sink.release();
        let drained = waiting.join().unwrap();
        assert_eq!((drained.code, drained.stdout.as_str()), (Some(0), "drained\n"), "{drained:?}");
    });
}

#[test]
fn the_command_without_wait_only_asks() {
    let (_sink, mut hookward) = pair();
    let asked = command_for(&hookward, &["drain"]);
    assert_eq!((asked.code, asked.stdout.as_str()), (Some(0), "draining\n"), "{asked:?}");
    poll("refused", || (hookward.post(&event()).status == 503).then_some(()));
    hookward.kill9();
    let nobody = command_for(&hookward, &["drain"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("nothing answers on") && nobody.stderr.contains("admin.sock"), "{nobody:?}");
}
