//! Many clients at once: nobody takes what the others need.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::harness::*;

/// The genuine sender.
const GENUINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Nobody whom an allowlist takes.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// An allowlist of the genuine sender alone.
const GENUINE_ONLY: &str = "routes: [ { name: hooks, path: \"/*\", ip_allowlist: { sources: [127.0.0.2] } } ]\n";

fn start(yaml: &str) -> (Sink, Hookward) {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(yaml).start();
    (sink, hookward)
}

fn connect(hookward: &Hookward, from: Ipv4Addr) -> Wire {
    Wire::connect_from(from, hookward.listen())
}

/// Connections that say nothing, or this.
fn hold(hookward: &Hookward, from: Ipv4Addr, count: usize, opening: &[u8]) -> Vec<Wire> {
    let open = |_| {
        let mut wire = connect(hookward, from);
        let _ = wire.try_send(opening);
        wire
    };
    (0..count).map(open).collect()
}

fn gave_way(hookward: &Hookward, bound: &str) -> f64 {
    hookward.metrics().value("hookward_connections_gave_way_total", &[("bound", bound)])
}

/// Waits until so many have given way: a connection is there for us before hookward has taken it up.
fn await_gave_way(hookward: &Hookward, bound: &str, count: f64) {
    hookward.await_metric("hookward_connections_gave_way_total", &[("bound", bound)], count);
}

#[test]
fn silent_or_slow_connections_of_a_denied_address_leave_the_others_to_the_genuine() {
    let (sink, hookward) = start(&format!("{GENUINE_ONLY}limits: {{ connections: 64, connections_per_client: 64 }}\n"));
    let mut kept = connect(&hookward, GENUINE);
    assert_eq!(kept.ask(&event()).status, 200);
    let silent = hold(&hookward, STRANGER, 100, b"");
    await_gave_way(&hookward, "strangers", 96.0);
    let slow = hold(&hookward, STRANGER, 100, b"POST / HTTP/1.1\r\nHost: ");
    for _ in 0..50 {
        assert_eq!(connect(&hookward, GENUINE).ask(&event()).status, 200);
    }
    assert_eq!(kept.ask(&event()).status, 200, "it was there before them");
    sink.wait_for(52);
    assert_eq!(gave_way(&hookward, "connections"), 0.0);
    drop((silent, slow));
}

#[test]
fn a_stranger_that_says_something_gets_its_403_among_silent_ones_and_the_end_of_the_connection() {
    let (sink, hookward) = start(&format!("{GENUINE_ONLY}health_path: /healthz\nlimits: {{ connections: 64 }}\n"));
    let _silent = hold(&hookward, STRANGER, 100, b"");
    for request in [event(), signed("")] {
        let mut wire = connect(&hookward, STRANGER);
        let answer = wire.ask(&request);
        assert_refused(&answer, 403, "ip_denied");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(wire.end_or_reset(), b"");
    }
    let mut probe = connect(&hookward, STRANGER);
    for _ in 0..2 {
        assert_eq!(probe.ask(&Request::get("/healthz")).status, 200, "as ever, over one connection");
    }
    assert_eq!(connect(&hookward, GENUINE).ask(&event()).status, 200);
    sink.first();
}

#[test]
fn nobody_is_a_stranger_where_a_route_takes_any_address_or_only_reports_them() {
    for other in ["mode: off", "mode: report, sources: [127.0.0.2]", "sources: [127.0.0.66]"] {
        let yaml = format!(
            "routes:\n- {{ name: a, path: /a, ip_allowlist: {{ sources: [127.0.0.2] }} }}\n- {{ name: b, path: /b, ip_allowlist: {{ {other} }} }}\nlimits: {{ connections: 64 }}\n"
        );
        let (_sink, hookward) = start(&yaml);
        let held = hold(&hookward, STRANGER, 40, b"");
        hookward.await_metric("hookward_connections", &[], 40.0);
        assert_eq!(gave_way(&hookward, "strangers"), 0.0, "{other}");
        let mut wire = connect(&hookward, STRANGER);
        assert_refused(&wire.ask(&event().target("/a")), 403, "ip_denied");
        assert_eq!(connect(&hookward, STRANGER).ask(&event().target("/b")).status, 200, "{other}");
        drop(held);
    }
}

#[test]
fn a_client_has_its_share_of_connections_and_gives_way_to_itself_only() {
    let yaml = "routes: [ { path: \"/*\", ip_allowlist: { mode: off } } ]\nlimits: { connections: 40, connections_per_client: 10, body_timeout: 60s }\n";
    let (sink, hookward) = start(yaml);
    let mut kept = connect(&hookward, GENUINE);
    assert_eq!(kept.ask(&event()).status, 200);
    let mut busy = connect(&hookward, STRANGER);
    let request = event();
    busy.send(request.head());
    hookward.await_metric("hookward_requests_in_flight", &[], 1.0);
    let _held = hold(&hookward, STRANGER, 100, b"");
    await_gave_way(&hookward, "connections_per_client", 91.0);
    // Who shares its address gets in as well.
    assert_eq!(connect(&hookward, STRANGER).ask(&event()).status, 200);
    busy.send(request.framed_body());
    assert_eq!(busy.answer().status, 200, "a request in progress is never cut");
    assert_eq!(kept.ask(&event()).status, 200, "nor is another client");
    sink.wait_for(4);
    assert_eq!(gave_way(&hookward, "connections"), 0.0);
}

#[test]
fn a_full_table_has_room_for_one_more_while_anybody_in_it_only_waits() {
    let yaml = "routes: [ { path: \"/*\", ip_allowlist: { mode: off } } ]\nlimits: { connections: 20 }\n";
    let (sink, hookward) = start(yaml);
    // From as many addresses as there are connections.
    let held: Vec<_> = (1..=60).map(|n| connect(&hookward, Ipv4Addr::new(127, 66, 0, n))).collect();
    await_gave_way(&hookward, "connections", 40.0);
    for _ in 0..20 {
        assert_eq!(connect(&hookward, GENUINE).ask(&event()).status, 200);
    }
    sink.wait_for(20);
    assert!(gave_way(&hookward, "connections") >= 41.0);
    assert_eq!(hookward.metrics().value("hookward_connections_refused_total", &[]), 0.0);
    drop(held);
}

#[test]
fn who_is_refused_before_its_first_request_holds_nobody_else_up() {
    const PROXIED: &str = "\
listen: [ { address: \"127.0.0.1:0\", proxy_protocol: required } ]
client_ip: { trusted_proxies: [127.0.0.1] }
limits: { connections: 200, connections_per_client: 4 }
routes: [ { name: hooks, path: \"/*\", ip_allowlist: { sources: [10.9.9.0/24] } } ]
";
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--ip-allowlist").without_flag("--listen").config(PROXIED);
    let hookward = setup.start();
    let named = |header: &str, opening: &str| {
        let mut wire = Wire::connect_from(Ipv4Addr::LOCALHOST, hookward.listen());
        let _ = wire.try_send(format!("PROXY TCP4 {header} 10.0.0.1 1000 80\r\n{opening}"));
        wire
    };
    let genuine = || named("10.9.9.9", "");
    let mut idle = Vec::new();
    let mut ask_over_another = || {
        let mut wire = genuine();
        let status = wire.try_ask(&event()).map_or(0, |answer| answer.status);
        idle.push(wire);
        status
    };
    for _ in 0..4 {
        assert_eq!(ask_over_another(), 200);
    }
    // Past the load balancer, and through it with a header that does not end: more than may be on their way out.
    let direct = hold(&hookward, STRANGER, 150, b"");
    let unfinished: Vec<_> = (0..150).map(|_| named("10.8.8.8", "POST / HTTP/1.1\r\nHost: a\r\nX:")).collect();
    for n in 0..20 {
        assert_eq!(ask_over_another(), 200, "{n}");
    }
    sink.wait_for(24);
    drop((direct, unfinished));
}

#[test]
fn behind_proxy_protocol_the_client_is_whom_the_header_names() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--listen").without_flag("--ip-allowlist");
    let yaml = "listen: [ { address: \"127.0.0.1:0\", proxy_protocol: required } ]\nclient_ip: { trusted_proxies: [127.0.0.1] }\nlimits: { connections: 64, connections_per_client: 10 }\n";
    let hookward = setup.config(yaml).start();
    let through = |named: &str| {
        let mut wire = hookward.connect();
        wire.send(format!("PROXY TCP4 {named} 192.0.2.1 4711 443\r\n"));
        wire
    };
    let _strangers: Vec<_> = (0..30).map(|_| through("198.51.100.7")).collect();
    let _same: Vec<_> = (0..30).map(|_| through("192.76.120.200")).collect();
    hookward.await_metrics("each has its share", |metrics| {
        let gave_way = |bound| metrics.value("hookward_connections_gave_way_total", &[("bound", bound)]);
        (gave_way("strangers"), gave_way("connections_per_client"), gave_way("connections")) == (26.0, 20.0, 0.0)
    });
    assert_refused(&through("198.51.100.7").ask(&event()), 403, "ip_denied");
    assert_eq!(through("192.76.120.201").ask(&event()).status, 200);
    assert_eq!(through("192.76.120.200").ask(&event()).status, 200);
    sink.wait_for(2);
}

#[test]
fn connections_of_a_trusted_proxy_have_no_share() {
    let yaml = "client_ip: { trusted_proxies: [127.0.0.1] }\nlimits: { connections: 64, connections_per_client: 2 }\n";
    let (sink, hookward) = start(yaml);
    let _held: Vec<_> = (0..60).map(|_| hookward.connect()).collect();
    hookward.await_metric("hookward_connections", &[], 60.0);
    let answer = hookward.post(&event().header("X-Forwarded-For", "192.76.120.200"));
    assert_eq!(answer.status, 200);
    sink.first();
    assert_eq!(gave_way(&hookward, "connections_per_client"), 0.0);
}

/// Bodies of a mebibyte that lack their last byte, each held over a connection of its own.
fn hold_bodies(hookward: &Hookward, from: impl Iterator<Item = Ipv4Addr>) -> Vec<Wire> {
    let request = forged_large();
    from.map(|from| {
        let mut wire = connect(hookward, from);
        let (bytes, all_but_one) = (request.bytes(), request.bytes().len() - 1);
        // It may be refused before it has sent them.
        let _ = wire.try_send(&bytes[..all_but_one]);
        wire
    })
    .collect()
}

/// A mebibyte that nobody has signed.
fn forged_large() -> Request {
    signed("x").body(vec![b'x'; 1 << 20])
}

const OPEN_TO_ALL: &str = "routes: [ { path: \"/*\", ip_allowlist: { mode: off } } ]\n";

#[test]
fn slow_bodies_of_one_client_leave_memory_to_the_others() {
    let (sink, hookward) = start(&format!("{OPEN_TO_ALL}limits: {{ body_memory: 8MiB, body_timeout: 60s }}\n"));
    let _held = hold_bodies(&hookward, std::iter::repeat_n(STRANGER, 12));
    for _ in 0..30 {
        assert_eq!(connect(&hookward, GENUINE).ask(&event()).status, 200);
    }
    assert_eq!(connect(&hookward, GENUINE).ask(&signed(vec![b'y'; 1_000_000])).status, 200);
    sink.wait_for(31);
}

#[test]
fn slow_bodies_of_many_clients_leave_memory_to_one_that_has_had_a_verified_event() {
    let (sink, hookward) = start(&format!("{OPEN_TO_ALL}limits: {{ body_memory: 8MiB, body_timeout: 60s }}\n"));
    assert_eq!(connect(&hookward, GENUINE).ask(&event()).status, 200);
    let _held = hold_bodies(&hookward, (1..=12).map(|n| Ipv4Addr::new(127, 66, 0, n)));
    hookward.await_metrics("some are refused", |metrics| {
        metrics.value("hookward_rejections_total", &[("route", "default"), ("reason", "overloaded")]) >= 1.0
    });
    for _ in 0..10 {
        assert_eq!(connect(&hookward, GENUINE).ask(&signed(vec![b'y'; 1_000_000])).status, 200);
    }
    sink.wait_for(11);
}

#[test]
fn a_body_without_progress_gives_way_to_who_shares_its_address() {
    let (_sink, hookward) = start(&format!("{OPEN_TO_ALL}limits: {{ body_memory: 4MiB, body_timeout: 60s }}\n"));
    let mut held = hold_bodies(&hookward, std::iter::repeat_n(STRANGER, 3));
    poll("the bodies that stand still give way", || {
        (connect(&hookward, STRANGER).ask(&signed(vec![b'y'; 1_000_000])).status == 200).then_some(())
    });
    hookward.await_metrics("they are counted", |metrics| metrics.value("hookward_bodies_gave_way_total", &[]) >= 1.0);
    assert_refused(&held[0].answer(), 503, "overloaded");
}

#[test]
fn behind_a_trusted_proxy_bodies_are_those_of_whom_it_names() {
    let yaml = "client_ip: { trusted_proxies: [127.0.0.1] }\nlimits: { body_memory: 8MiB, body_timeout: 60s, connections_per_client: 4 }\n";
    let (sink, hookward) = start(yaml);
    let from = |request: Request, client: &str| request.header("X-Forwarded-For", client);
    let mut held: Vec<_> = (0..12)
        .map(|_| {
            let mut wire = hookward.connect();
            let request = from(forged_large(), "192.76.120.201");
            let _ = wire.try_send([request.head(), request.framed_body()[..500_000].to_vec()].concat());
            wire
        })
        .collect();
    hookward.await_metrics("it may let wait for four", |metrics| {
        metrics.value("hookward_rejections_total", &[("route", "default"), ("reason", "overloaded")]) >= 8.0
    });
    let genuine = from(signed(vec![b'y'; 1_000_000]), "192.76.120.200");
    assert_eq!(hookward.post(&genuine).status, 200);
    sink.first();
    held.clear();
}

/// Set when this ends, in a panic too.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Silent connections of a stranger; slow bodies and forgeries of somebody whom the allowlist takes; connections to the
/// admin side that say nothing.
#[test]
fn a_hundred_genuine_events_a_second_are_all_answered_under_all_of_it_at_once() {
    const INSIDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
    const EVENTS: usize = 200;
    let pause = || std::thread::sleep(Duration::from_millis(5));
    let yaml = "routes: [ { path: \"/*\", ip_allowlist: { sources: [127.0.0.2, 127.0.0.3] } } ]\nlimits: { connections: 256, body_memory: 16MiB }\n";
    let (sink, hookward) = start(yaml);
    let over = AtomicBool::new(false);
    let statuses = std::thread::scope(|scope| {
        let (over, hookward) = (&over, &hookward);
        let keep_up = |attack: &dyn Fn() -> Vec<Wire>, held_max: usize| {
            let mut held = VecDeque::new();
            while !over.load(Ordering::SeqCst) {
                held.extend(attack());
                held.drain(..held.len().saturating_sub(held_max));
                pause();
            }
        };
        scope.spawn(move || keep_up(&|| hold(hookward, STRANGER, 4, b""), 400));
        scope.spawn(move || keep_up(&|| hold_bodies(hookward, std::iter::once(INSIDER)), 40));
        scope.spawn(move || keep_up(&|| hold(hookward, INSIDER, 1, &forged().bytes()), 10));
        scope.spawn(move || keep_up(&|| vec![Wire::connect(hookward.admin)], 1));
        let _until_here = EndsWith(over);
        let begun = Instant::now();
        (0..EVENTS)
            .map(|n| {
                std::thread::sleep(Duration::from_millis(10 * n as u64).saturating_sub(begun.elapsed()));
                connect(hookward, GENUINE).ask(&event()).status
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(statuses, [200; EVENTS]);
    sink.wait_for(EVENTS);
    assert!(gave_way(&hookward, "strangers") >= 1.0, "there was an attack");
}
