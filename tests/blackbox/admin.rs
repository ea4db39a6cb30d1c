//! The admin side: probes, metrics, status.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::harness::*;

const TOKEN: &str = "s3cret-of-the-admin-side";

fn with_token() -> (Sink, Hookward) {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let file = setup.dir().join("token");
    // Editors and `kubectl create secret` leave a newline.
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let hookward = setup.flag("--admin-token-file", &file.to_string_lossy()).start();
    (sink, hookward)
}

fn bearer(target: &str, token: &str) -> Request {
    Request::get(target).header("Authorization", format!("Bearer {token}"))
}

#[test]
fn probes_and_metrics_are_open_on_tcp_and_socket() {
    let (_sink, hookward) = with_token();
    for target in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(hookward.admin(&Request::get(target)).status, 200, "{target}");
        assert_eq!(hookward.admin_socket(&Request::get(target)).status, 200, "{target}");
    }
    let metrics = hookward.admin(&Request::get("/metrics"));
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"), "{metrics:?}");
}

#[test]
fn probes_and_api_are_not_on_the_public_side() {
    let (sink, hookward) = pair();
    for target in ["/livez", "/readyz", "/metrics", "/api/v1/status"] {
        assert_refused(&hookward.post(&Request::get(target)), 405, "method_not_allowed");
    }
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn the_api_over_tcp_needs_the_token_and_nothing_but_the_token() {
    let (_sink, hookward) = with_token();
    let target = "/api/v1/status";
    let longer = format!("{TOKEN}x");
    let wrong = [
        Request::get(target),
        bearer(target, "wrong"),
        bearer(target, ""),
        bearer(target, &TOKEN[..10]),
        bearer(target, &longer),
        bearer(target, &TOKEN.to_uppercase()),
        Request::get(target).header("Authorization", format!("Basic {TOKEN}")),
        Request::get(target).header("Authorization", TOKEN),
        Request::get(&format!("{target}?token={TOKEN}")),
    ];
    for request in wrong {
        let answer = hookward.admin(&request);
        assert_eq!(answer.status, 401, "{request:?} {answer:?}");
        assert!(!answer.reason().is_empty());
    }
    for request in [bearer(target, TOKEN), Request::get(target).header("authorization", format!("bearer {TOKEN}"))] {
        assert_eq!(hookward.admin(&request).status, 200, "{request:?}");
    }
}

#[test]
fn the_token_may_come_from_the_environment() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).env("HOOKWARD_ADMIN_TOKEN", TOKEN).start();
    assert_eq!(hookward.admin(&Request::get("/api/v1/status")).status, 401);
    assert_eq!(hookward.admin(&bearer("/api/v1/status", TOKEN)).status, 200);
}

#[test]
fn an_empty_token_opens_nothing() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let file = setup.dir().join("token");
    std::fs::write(&file, "\n").unwrap();
    for setup in
        [setup.clone().flag("--admin-token-file", &file.to_string_lossy()), setup.env("HOOKWARD_ADMIN_TOKEN", "")]
    {
        let process = setup.spawn();
        // To refuse to start is as good as to start without a token.
        let Some(line) = process.next_line(DEADLINE) else { continue };
        let (_, admin) = hookward::parse_ready(&line).unwrap();
        for authorization in ["Bearer ", "Bearer", "Bearer x", ""] {
            let request = Request::get("/api/v1/status").header("Authorization", authorization);
            let answer = Wire::connect(admin).ask(&request);
            assert!(answer.status == 401 || answer.status == 404, "{authorization:?} {answer:?}");
        }
    }
}

#[test]
fn without_a_token_the_api_is_on_the_socket_only() {
    let (_sink, hookward) = pair();
    for request in [Request::get("/api/v1/status"), bearer("/api/v1/status", ""), bearer("/api/v1/status", "x")] {
        let answer = hookward.admin(&request);
        assert!(answer.status == 401 || answer.status == 404, "{answer:?}");
        assert!(!answer.reason().is_empty());
    }
    assert_eq!(hookward.admin_socket(&Request::get("/api/v1/status")).status, 200);
    let mode = std::fs::metadata(hookward.setup().admin_socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn status_tells_version_readiness_buffer_and_upstream() {
    let mut sink = Sink::start();
    sink.stop();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    for _ in 0..3 {
        assert_eq!(hookward.post(&event()).status, 200);
    }
    let status = hookward.admin_socket(&Request::get("/api/v1/status"));
    assert!(status.header("content-type").unwrap().starts_with("application/json"), "{status:?}");
    let status = status.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"), "{status}");
    let has = |prefix: &str| status.as_object().unwrap().keys().any(|key| key.starts_with(prefix));
    assert!(has("uptime") && has("read"), "{status}");
    let buffer = &status["buffer"];
    assert_eq!(buffer["engine"], "sqlite", "{status}");
    let level = buffer["durability"].as_str().unwrap_or_else(|| panic!("{status}"));
    assert!(["volume", "pod", "process"].contains(&level), "{status}");
    assert_eq!((buffer["pending"].as_u64(), buffer["dead"].as_u64()), (Some(3), Some(0)), "{status}");
    assert!(buffer["bytes"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(buffer["capacity_bytes"].as_u64(), Some(1 << 30), "{status}");
    assert!(buffer["oldest_pending_age_s"].as_f64().is_some_and(|age| (0.0..60.0).contains(&age)), "{status}");
    // One upstream or one for each route.
    let upstream = match &status["upstream"] {
        serde_json::Value::Array(each) => &each[0],
        one => one,
    };
    assert!(!upstream["state"].is_null() && upstream["concurrency"].is_number(), "{status}");
    sink.start_again();
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    assert_eq!(hookward.admin_socket(&Request::get("/api/v1/status")).json()["buffer"]["pending"], 0);
}

#[test]
fn what_does_not_exist_is_404_in_json() {
    let (_sink, hookward) = with_token();
    for target in ["/", "/api/v1/nothing", "/api/v2/status", "/livez/x", "/metricsx"] {
        let answer = hookward.admin(&bearer(target, TOKEN));
        assert_eq!(answer.status, 404, "{target} {answer:?}");
        assert!(!answer.reason().is_empty());
        assert_eq!(hookward.admin_socket(&Request::get(target)).status, 404, "{target}");
    }
}

#[test]
fn a_wrong_method_or_a_broken_request_does_no_harm() {
    let (_sink, hookward) = with_token();
    for method in ["POST", "DELETE", "PUT"] {
        let request = bearer("/api/v1/status", TOKEN).method(method).body("");
        let answer = hookward.admin(&request);
        assert!((400..500).contains(&answer.status), "{method} {answer:?}");
    }
    let head = hookward.admin(&Request::new("HEAD", "/livez"));
    assert!(head.status == 200 || head.status == 405, "{head:?}");
    for bytes in [&b"nonsense\r\n\r\n"[..], b"GET /livez\r\n\r\n", b"\x16\x03\x01\x00\x05hello\r\n\r\n"] {
        let mut wire = Wire::connect(hookward.admin);
        wire.send(bytes);
        if let Ok(Some(answer)) = wire.try_answer() {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(hookward.admin(&Request::get("/livez")).status, 200);
}

#[test]
fn every_reason_and_outcome_is_counted_from_zero() {
    let (_sink, hookward) = pair();
    let metrics = hookward.metrics();
    for outcome in ["accepted", "duplicate", "rejected", "failed"] {
        assert_eq!(metrics.value("hookward_requests_total", &[("outcome", outcome)]), 0.0, "{outcome}");
    }
    for rejection in ::hookward::rejection::Rejection::ALL {
        let reason = rejection.reason();
        assert_eq!(metrics.value("hookward_rejections_total", &[("reason", reason)]), 0.0, "{reason}");
    }
    for rejection in ::hookward::rejection::Rejection::REPORTABLE {
        let reason = rejection.reason();
        assert_eq!(metrics.value("hookward_would_reject_total", &[("reason", reason)]), 0.0, "{reason}");
    }
    for attempt in ["1", "2", "3+"] {
        assert_eq!(metrics.value("hookward_provider_attempts_total", &[("attempt", attempt)]), 0.0);
    }
    for state in ["pending", "delivered", "dead", "quarantined", "discarded"] {
        assert_eq!(metrics.value("hookward_buffer_events", &[("state", state)]), 0.0, "{state}");
    }
    for result in ["delivered", "retry", "dead"] {
        assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", result)]), 0.0, "{result}");
    }
    for event_type in ["message.received", "message.sent", "message.finalized", "other"] {
        assert_eq!(metrics.value("hookward_events_total", &[("event_type", event_type)]), 0.0, "{event_type}");
    }
    let mut routes = metrics.label_values("hookward_requests_total", "route");
    routes.sort_unstable();
    routes.dedup();
    assert!(routes.len() == 2 && routes.contains(&"none"), "{routes:?}");
}

#[test]
fn the_skew_of_timestamps_is_counted_by_its_side_and_never_falls() {
    let (_sink, hookward) = pair();
    for offset_s in [-120, -60, 60] {
        assert_eq!(hookward.post(&signed_at(now_s() + offset_s, body(&new_id()))).status, 200);
    }
    let series = "hookward_timestamp_skew_seconds";
    let metrics = hookward.await_metric(&format!("{series}_count"), &[("side", "past")], 2.0);
    assert_eq!(metrics.value(&format!("{series}_count"), &[("side", "future")]), 1.0);
    assert!((180.0..240.0).contains(&metrics.value(&format!("{series}_sum"), &[("side", "past")])));
    assert!((1.0..61.0).contains(&metrics.value(&format!("{series}_sum"), &[("side", "future")])));
}

#[test]
fn every_other_series_exists_from_the_start() {
    let (_sink, hookward) = pair();
    let metrics = hookward.metrics();
    let mut wrong: Vec<String> = Vec::new();
    let mut is_zero = |name: &str, labels: &[(&str, &str)]| match metrics.get(name, labels) {
        Some(0.0) => {}
        other => wrong.push(format!("{name} is {other:?}")),
    };
    for name in [
        "hookward_requests_in_flight",
        "hookward_connections",
        "hookward_connections_refused_total",
        "hookward_refusals_cut_total",
        "hookward_signature_checks_in_turn_total",
        "hookward_signature_verifications_total",
        "hookward_buffer_oldest_pending_timestamp_seconds",
        "hookward_buffer_errors_total",
        "hookward_buffer_recovered_events",
        "hookward_buffer_quarantined_events_total",
        "hookward_events_discarded_total",
        "hookward_events_expired_total",
        "hookward_dedupe_entries",
        "hookward_process_panics_total",
        "hookward_upstream_state",
        "hookward_upstream_held_until_timestamp_seconds",
        "hookward_upstream_paused_since_timestamp_seconds",
    ] {
        is_zero(name, &[]);
    }
    for histogram in [
        "hookward_ack_duration_seconds",
        "hookward_request_body_bytes",
        "hookward_timestamp_skew_seconds",
        "hookward_delivery_duration_seconds",
        "hookward_end_to_end_seconds",
    ] {
        is_zero(&format!("{histogram}_count"), &[]);
        is_zero(&format!("{histogram}_bucket"), &[("le", "+Inf")]);
    }
    // These have something to say at once.
    for name in [
        "hookward_buffer_commit_duration_seconds_count",
        "hookward_buffer_commit_events_count",
        "hookward_buffer_bytes",
        "hookward_dedupe_effective_window_seconds",
        "hookward_upstream_concurrency_limit",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        if metrics.get(name, &[]).is_none() {
            wrong.push(format!("{name} is missing"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(metrics.value("hookward_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(metrics.value("hookward_buffer_capacity_bytes", &[]), f64::from(1 << 30));
}

#[test]
fn no_request_adds_a_series() {
    let (sink, hookward) = pair();
    let series = |hookward: &Hookward| hookward.admin(&Request::get("/metrics")).text().lines().count();
    let before = series(&hookward);
    for n in 0..5 {
        assert_eq!(
            hookward.post(&signed(event::body_of(&new_id(), &format!("my.type.{n}"))).target(format!("/{n}"))).status,
            200
        );
        hookward.post(&forged().method(&format!("METHOD{n}")));
        hookward.post(&forged().header("hookward-route", n.to_string()));
    }
    sink.wait_for(5);
    hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 5.0);
    assert_eq!(series(&hookward), before);
}

#[test]
fn the_socket_is_there_again_after_kill_9() {
    let (_sink, mut hookward) = pair();
    hookward.kill9();
    assert!(hookward.setup().admin_socket().exists(), "nobody tidied up");
    hookward.start_again();
    assert_eq!(hookward.admin_socket(&Request::get("/api/v1/status")).status, 200);
}

/// Connections to the admin side over TCP and over its socket.
fn doors(hookward: &Hookward) -> [Box<dyn Fn() -> Wire + '_>; 2] {
    [Box::new(|| Wire::connect(hookward.admin)), Box::new(|| Wire::connect_unix(&hookward.setup().admin_socket()))]
}

#[test]
fn a_connection_that_ends_before_a_whole_request_is_no_panic() {
    let (_sink, hookward) = pair();
    let many = format!("GET /livez HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(300));
    for door in doors(&hookward) {
        for bytes in [
            &b""[..],
            b"GET /liv",
            b"GET /livez HTTP/1.1\r\nHost: a\r\n",
            b"\x16\x03\x01\0\0",
            b"\r\n\r\n",
            b"GET /livez HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /api/v1/drain HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{",
            b"POST /api/v1/drain HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            many.as_bytes(),
        ] {
            for is_half_closed in [false, true] {
                let mut wire = door();
                let _ = wire.try_send(bytes);
                if is_half_closed {
                    wire.end_of_sending();
                    let _ = wire.try_answer();
                }
            }
        }
        assert_eq!(door().ask(&Request::get("/livez")).status, 200);
    }
    // The scrape is one.
    let metrics = hookward.await_metric("hookward_admin_connections", &[], 1.0);
    assert_eq!(metrics.value("hookward_process_panics_total", &[]), 0.0, "{}", hookward.stderr());
}

#[test]
fn an_admin_request_that_is_none_or_breaks_a_bound_is_refused_by_name_and_counted() {
    let (_sink, hookward) = pair();
    let fields = "x: y\r\n".repeat(300);
    for (door, count) in doors(&hookward).iter().zip([1.0, 2.0]) {
        for (bytes, status, reason) in [
            ("\x16\x03\x01\0\0".to_owned(), 400, "bad_request"),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000)), 414, "uri_too_long"),
            (format!("GET /livez HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), 431, "headers_too_large"),
            ("GET /livez HT".to_owned(), 408, "header_timeout"),
        ] {
            let mut wire = door();
            wire.send(bytes);
            let answer = wire.answer();
            assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{answer:?}");
            wire.end_or_reset();
            hookward.await_metric("hookward_admin_rejections_total", &[("reason", reason)], count);
        }
    }
}

#[test]
fn silent_connections_keep_nobody_out_and_end_by_themselves() {
    let (_sink, hookward) = pair();
    for door in doors(&hookward) {
        let mut silent: Vec<Wire> = (0..::hookward::http::admin::CONNECTIONS_MAX + 10).map(|_| door()).collect();
        for target in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(door().ask(&Request::get(target)).status, 200, "{target}");
        }
        // The oldest made room.
        assert_eq!(silent[0].end_or_reset(), b"");
    }
    let metrics = hookward.await_metric("hookward_admin_connections", &[], 1.0);
    assert!(metrics.value("hookward_admin_connections_refused_total", &[]) >= 20.0, "{metrics}");
    // One that nobody drives out ends at its deadline.
    let mut silent = Wire::connect(hookward.admin);
    poll_within(Duration::from_secs(20), "the end of a silent connection", || {
        silent.end_or_reset().is_empty().then_some(())
    });
}

#[test]
fn metrics_are_compressed_for_those_who_ask_for_it() {
    use std::io::Read as _;
    let (_sink, hookward) = pair();
    let ask = |accepted: &str| hookward.admin(&Request::get("/metrics").header("Accept-Encoding", accepted));
    let compressed = ask("br;q=1.0, gzip;q=0.8, *;q=0.1");
    assert_eq!(compressed.header("content-encoding"), Some("gzip"), "{compressed:?}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&compressed.body[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("hookward_process_panics_total 0\n") && text.len() > 4 * compressed.body.len());
    for accepted in ["identity", "gzip;q=0", "deflate"] {
        let plain = ask(accepted);
        assert_eq!(plain.header("content-encoding"), None, "{accepted}");
        assert!(plain.text().contains("hookward_process_panics_total 0\n"));
    }
    for answer in [compressed, ask("identity")] {
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    }
    let probe = hookward.admin(&Request::get("/livez").header("Accept-Encoding", "gzip"));
    assert_eq!((probe.header("content-encoding"), probe.json()["status"].as_str()), (None, Some("alive")));
}
