//! What the cases stand on: the binary, an app behind it, a sender in front of it.

pub mod event;
pub mod hookward;
pub mod metrics;
pub mod nginx;
pub mod process;
pub mod raw_app;
pub mod received;
pub mod sink;
pub mod socket;
pub mod test_clock;
pub mod tls;
pub mod wire;

use std::time::{Duration, Instant};

use serde_json::Value;

pub use event::{body, event, forged, new_id, now_s, signed, signed_at};
pub use hookward::{At, Hookward, Setup, command, run_to_end};
pub use nginx::{Nginx, installed};
pub use process::{Process, allow_open_files};
pub use received::Received;
pub use sink::{Reply, Sink};
pub use test_clock::OnTestClock;
pub use wire::{Answer, Request, Wire};

/// For everything that must happen at some time; far beyond what it takes.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at something that cannot tell when it changes.
pub const POLL: Duration = Duration::from_millis(10);

/// A configuration that repeats soon, so that a test need not wait.
pub const QUICK_RETRIES: &str = "delivery: { retry: { base: 20ms, max: 200ms } }\n";

/// A sink and a hookward in front of it, from flags alone.
pub fn pair() -> (Sink, Hookward) {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).start();
    (sink, hookward)
}

/// The same with a configuration file.
pub fn pair_with(yaml: &str) -> (Sink, Hookward) {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config(yaml).start();
    (sink, hookward)
}

/// Looks until it is so.
pub fn poll<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll_within(DEADLINE, what, look)
}

pub fn poll_within<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Every answer of the public side has an id that the log line has too, and short JSON.
fn check_form(answer: &Answer) {
    let id = answer.header("hookward-request-id").unwrap_or_else(|| panic!("no hookward-request-id: {answer:?}"));
    assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()), "{answer:?}");
    assert!(answer.header("server").is_none_or(|server| !server.contains("ingora")), "{answer:?}");
    let json = answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    assert!(json, "not JSON: {answer:?}");
    assert!(answer.body.len() < 500, "not short: {answer:?}");
}

fn assert_status(answer: &Answer, status: &str, event_id: Option<&str>) {
    check_form(answer);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["status"], status, "{answer:?}");
    assert_eq!(answer.json()["event_id"], event_id.map_or(Value::Null, Value::from), "{answer:?}");
}

pub fn assert_accepted(answer: &Answer, event_id: &str) {
    assert_status(answer, "accepted", Some(event_id));
}

/// Accepted, and without an id that could be told.
pub fn assert_accepted_nameless(answer: &Answer) {
    assert_status(answer, "accepted", None);
}

pub fn assert_duplicate(answer: &Answer, event_id: &str) {
    assert_status(answer, "duplicate", Some(event_id));
}

pub fn assert_refused(answer: &Answer, status: u16, reason: &str) {
    check_form(answer);
    assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
}

/// Posts a genuine event and waits until it is at the sink: what was to come before it has come.
pub fn post_sentinel(hookward: &Hookward, sink: &Sink) -> String {
    post_sentinel_to(event::TARGET, hookward, sink)
}

pub fn post_sentinel_to(target: &str, hookward: &Hookward, sink: &Sink) -> String {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id)).target(target)), &id);
    sink.wait_until(|received| received.iter().any(|r| r.all("hookward-event-id") == [id.as_str()]));
    id
}

/// Nothing but a genuine event, posted now, has reached the sink.
pub fn assert_nothing_arrived(hookward: &Hookward, sink: &Sink) {
    assert_nothing_arrived_at(event::TARGET, hookward, sink);
}

pub fn assert_nothing_arrived_at(target: &str, hookward: &Hookward, sink: &Sink) {
    let id = post_sentinel_to(target, hookward, sink);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    let received = sink.received();
    let ids: Vec<_> = received.iter().map(|r| r.all("hookward-event-id").concat()).collect();
    assert_eq!(ids, [id], "{}", Received::list(&received));
}
