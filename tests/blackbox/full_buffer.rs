//! A buffer without room: who is refused, who goes on, and what its bound is.

use rustix::process::Signal;

use super::harness::*;

/// One event of many that fill a small buffer.
const BODY_BYTES: usize = 20_000;

/// A small buffer and two routes: the app of `dead` takes nothing, and that of `well` everything.
fn with_a_dead_route(sink: &Sink, dead: &Sink, name: &str) -> String {
    let url = dead.url();
    let config = format!(
        "buffer: {{ max_bytes: 4MiB }}
delivery: {{ retry: {{ base: 1m, max: 5m }} }}
routes:
  - {{ name: {name}, path: /dead, dedupe: off, upstream: {{ url: '{url}' }} }}
  - {{ name: well, path: /well, upstream: {{ url: '{}' }} }}
",
        sink.url()
    );
    config
}

fn large() -> Request {
    signed(vec![b'x'; BODY_BYTES])
}

/// Posts to this path until it is refused; how many were accepted.
fn fill(hookward: &Hookward, target: &str) -> usize {
    let mut wire = hookward.connect();
    for accepted in 0..4 * 1024 * 1024 / BODY_BYTES {
        let answer = wire.ask(&large().target(target));
        if answer.status != 200 {
            assert_refused(&answer, 503, "buffer_full");
            return accepted;
        }
    }
    panic!("more than fits was accepted at {target}");
}

/// Events of the other route are stored and delivered while this one is refused.
fn assert_goes_on(hookward: &Hookward, sink: &Sink, when: &str) {
    let before = sink.count();
    let mut wire = hookward.connect();
    let mut refused = 0;
    for n in 0..40 {
        assert_eq!(wire.ask(&event().target("/well")).status, 200, "event {n} of the route that is well, {when}");
        // A count of pages may find room for a few more.
        refused += usize::from(wire.ask(&large().target("/dead")).status == 503);
    }
    assert!(refused > 20, "{refused} of 40 of the other, {when}");
    assert_eq!(sink.wait_for(before + 40).len(), before + 40, "{when}");
}

#[test]
fn an_app_that_takes_nothing_fills_the_buffer_for_its_own_senders_only() {
    let (sink, mut dead) = (Sink::start(), Sink::start());
    dead.stop();
    let yaml = with_a_dead_route(&sink, &dead, "dead");
    let mut hookward = Setup::without_upstream().config(&yaml).start();
    let accepted = fill(&hookward, "/dead");
    assert!(accepted * BODY_BYTES > 2 << 20, "{accepted} events are more than half of it");
    assert_goes_on(&hookward, &sink, "at the bound");
    let metrics = hookward.metrics();
    let refused = |route| metrics.value("hookward_rejections_total", &[("route", route), ("reason", "buffer_full")]);
    assert!(refused("dead") > 20.0 && refused("well") == 0.0, "{metrics}");

    hookward.restart();
    fill(&hookward, "/dead");
    assert_goes_on(&hookward, &sink, "after a restart");

    // The backlog stays, of a route that is gone.
    let path = hookward.setup().dir().join("hookward.yaml");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("name: dead", "name: renamed")).unwrap();
    hookward.signal(Signal::HUP);
    hookward.await_metric("hookward_config_reloads_total", &[("result", "success")], 1.0);
    fill(&hookward, "/dead");
    assert_goes_on(&hookward, &sink, "after the route got another name");
}

fn buffer(hookward: &Hookward) -> serde_json::Value {
    hookward.admin_socket(&Request::get("/api/v1/status")).json()["buffer"].clone()
}

#[test]
fn a_bound_beyond_the_file_system_is_what_the_file_system_gives_and_that_is_told() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--buffer-max-bytes", "16TiB").start();
    let capacity = buffer(&hookward)["capacity_bytes"].as_u64().unwrap();
    assert!(capacity < 16 << 40, "{capacity}");
    #[allow(clippy::cast_precision_loss, reason = "as the metric has it")]
    let shown = capacity as f64;
    assert_eq!(hookward.metrics().value("hookward_buffer_capacity_bytes", &[]), shown);
    let log = hookward.await_log("the file system gives less than buffer.max_bytes");
    assert!(log.contains(&(16u64 << 40).to_string()) && log.contains(&capacity.to_string()), "both numbers: {log}");
}

#[test]
fn auto_is_a_share_of_the_file_system() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config("buffer: { max_bytes: auto }\n").start();
    let stat = rustix::fs::statvfs(hookward.setup().dir()).unwrap();
    let four_fifths = stat.f_blocks * stat.f_frsize / 5 * 4;
    let capacity = buffer(&hookward)["capacity_bytes"].as_u64().unwrap();
    assert!(capacity <= four_fifths, "{capacity} of {four_fifths}");
    hookward.await_log(&four_fifths.to_string());
}
