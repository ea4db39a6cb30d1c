//! Bounds of size, time and number, each with both sides of its boundary.

use std::time::Instant;

use super::harness::*;

#[test]
fn a_body_may_be_as_large_as_max_body_and_no_byte_larger() {
    let yaml = "routes: [ { name: hooks, path: \"/*\", max_body: 1KiB } ]\n";
    let (sink, hookward) = pair_with(yaml);
    let (fits, over) = (signed(vec![b'x'; 1024]), signed(vec![b'x'; 1025]));
    for request in [fits.clone(), fits.clone().chunked(1024), fits.chunked(100)] {
        assert_eq!(hookward.post(&request).status, 200);
    }
    for request in [over.clone(), over.clone().chunked(1025), over.clone().chunked(1), over.chunked(1000)] {
        assert_refused(&hookward.post(&request), 413, "body_too_large");
    }
    hookward.await_metric("hookward_rejections_total", &[("route", "hooks"), ("reason", "body_too_large")], 4.0);
    let received = sink.wait_for(3);
    assert!(received.iter().all(|r| r.body == vec![b'x'; 1024]));
    let id = post_sentinel(&hookward, &sink);
    assert_eq!(sink.wait_for(4).pop().unwrap().event_id(), id);
}

#[test]
fn a_mebibyte_fits_by_default_and_arrives_identical() {
    let (sink, hookward) = pair();
    let body: Vec<u8> = (0..=250u8).cycle().take(1024 * 1024).collect();
    assert_accepted_nameless(&hookward.post(&signed(body.clone())));
    assert!(sink.first().body == body);
    assert_accepted_nameless(&hookward.post(&signed(body.clone()).chunked(10_007)));
    assert!(sink.wait_for(2)[1].body == body);
    let over = [body, b"x".to_vec()].concat();
    let mut wire = hookward.connect();
    wire.send(signed(over).head());
    assert_refused(&wire.answer(), 413, "body_too_large");
}

#[test]
fn a_target_may_be_as_long_as_uri_bytes_and_no_byte_longer() {
    let (sink, hookward) = pair();
    let target = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    assert_eq!(hookward.post(&event().target(target(8192))).status, 200);
    assert_eq!(sink.first().target, target(8192));
    assert_refused(&hookward.post(&event().target(target(8193))), 414, "uri_too_long");
    assert_refused(&hookward.post(&event().target(target(20_000))), 414, "uri_too_long");
    hookward.await_metric("hookward_rejections_total", &[("reason", "uri_too_long")], 2.0);
    post_sentinel(&hookward, &sink);
    assert_eq!(sink.count(), 2);
}

#[test]
fn a_header_beyond_header_bytes_or_header_count_is_431() {
    let yaml = "limits: { header_bytes: 4KiB, header_count: 20 }\n";
    let (sink, hookward) = pair_with(yaml);
    let bare = event();
    let padded = |bytes: usize| {
        let rest = bytes - bare.head().len() - "X-Pad: \r\n".len();
        bare.clone().header("X-Pad", "x".repeat(rest))
    };
    assert_eq!(padded(4096).head().len(), 4096);
    // Which of the last bytes count is the server's own affair, so the edge is left a little room.
    assert_eq!(hookward.post(&padded(4080)).status, 200);
    assert_refused(&hookward.post(&padded(4120)), 431, "headers_too_large");
    assert_refused(&hookward.post(&padded(60_000)), 431, "headers_too_large");

    // Host, Content-Type, User-Agent, the two of Telnyx and Content-Length are six.
    let fields = |more: usize| (0..more).fold(event(), |request, n| request.header(&format!("X-{n}"), "1"));
    assert_eq!(hookward.post(&fields(14)).status, 200);
    assert_refused(&hookward.post(&fields(15)), 431, "headers_too_large");
    hookward.await_metric("hookward_rejections_total", &[("reason", "headers_too_large")], 3.0);
    assert_eq!(sink.wait_for(2).len(), 2);
    post_sentinel(&hookward, &sink);
    assert_eq!(sink.count(), 3);
}

const SHORT: &str = "limits: { header_timeout: 300ms, body_timeout: 300ms, idle_timeout: 300ms }\n";

#[test]
fn a_header_that_is_not_complete_in_time_is_header_timeout() {
    let (sink, hookward) = pair_with(SHORT);
    let head = event().head();
    let started = Instant::now();
    for sent in [1, 4, head.len() / 2, head.len() - 1] {
        let mut wire = hookward.connect();
        wire.send(&head[..sent]);
        assert_refused(&wire.answer(), 408, "header_timeout");
        assert_eq!(wire.end(), b"", "closed");
    }
    assert!(started.elapsed().as_millis() >= 4 * 300, "{:?}", started.elapsed());
    hookward.await_metric("hookward_rejections_total", &[("reason", "header_timeout")], 4.0);
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn a_request_that_is_wrong_already_is_not_waited_for() {
    let (_sink, hookward) = pair();
    let lines: [&[u8]; 7] = [
        b"hello world\r\n",
        b"POST /webhooks HTTP/2.0\r\nHost: a\r\n",
        b"POST /webhooks HTTP/3",
        b"POST  /webhooks",
        b"POST /web hooks HTTP",
        b"CONNECT a:443",
        b"POST /webhooks HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n",
    ];
    for line in lines {
        let mut wire = hookward.connect();
        wire.send(line);
        assert_refused(&wire.answer(), 400, "bad_request");
    }
    assert_eq!(hookward.metrics().value("hookward_rejections_total", &[("reason", "header_timeout")]), 0.0);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let (_sink, hookward) = pair_with(SHORT);
    let mut wire = hookward.connect();
    assert_eq!(wire.answer_or_end(), None, "never used");
    let mut wire = hookward.connect();
    assert_eq!(wire.ask(&event()).status, 200);
    assert_eq!(wire.answer_or_end(), None, "used once");
    assert_eq!(hookward.metrics().value("hookward_rejections_total", &[("reason", "header_timeout")]), 0.0);
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let (sink, hookward) = pair();
    let request = event();
    let bytes = request.bytes();
    for sent in [0, 1, request.head().len() - 1, request.head().len(), bytes.len() - 1] {
        let mut wire = hookward.connect();
        wire.send(&bytes[..sent]);
        drop(wire);
        let mut wire = hookward.connect();
        wire.send(&bytes[..sent]);
        wire.end_of_sending();
        if let Some(answer) = wire.answer_or_end() {
            assert_refused(&answer, 400, "bad_request");
        }
    }
    hookward.await_metric("hookward_connections", &[], 0.0);
    hookward.await_metric("hookward_requests_in_flight", &[], 0.0);
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn connections_beyond_the_cap_are_turned_away_and_counted() {
    let (sink, hookward) = pair_with("limits: { connections: 2 }\n");
    let head = event().head();
    let mut open: Vec<Wire> = (0..2).map(|_| hookward.connect()).collect();
    for wire in &mut open {
        wire.send(&head[..20]);
    }
    hookward.await_metric("hookward_connections", &[], 2.0);
    let mut refused = hookward.connect();
    // It is turned away with a 503 where that is cheap, else closed.
    let _ = refused.try_send(event().bytes());
    if let Ok(Some(answer)) = refused.try_answer() {
        assert_refused(&answer, 503, "overloaded");
    }
    hookward.await_metric("hookward_connections_refused_total", &[], 1.0);
    drop(open);
    hookward.await_metric("hookward_connections", &[], 0.0);
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn the_admin_side_answers_while_the_public_side_is_full() {
    let (_sink, hookward) = pair_with("limits: { connections: 1 }\n");
    let _held = hookward.connect();
    hookward.await_metric("hookward_connections", &[], 1.0);
    assert_eq!(hookward.admin(&Request::get("/livez")).status, 200);
    assert_eq!(hookward.admin(&Request::get("/readyz")).status, 200);
}

#[test]
fn a_full_buffer_refuses_keeps_what_it_has_and_takes_more_when_there_is_room_again() {
    let mut sink = Sink::start();
    sink.stop();
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).flag("--buffer-max-bytes", "4MiB").start();
    let mut wire = hookward.connect();
    let mut accepted = 0;
    let refusal = loop {
        let answer = wire.ask(&signed(vec![b'x'; 50_000]));
        if answer.status != 200 {
            break answer;
        }
        accepted += 1;
        assert!(accepted * 50_000 <= 4 * 1024 * 1024, "{accepted} are more than fit");
    };
    assert!(accepted > 10, "{accepted} {refusal:?}");
    assert_refused(&refusal, 503, "buffer_full");
    hookward
        .await_metrics("buffer_full", |m| m.value("hookward_rejections_total", &[("reason", "buffer_full")]) >= 1.0);
    assert_eq!(hookward.metrics().value("hookward_buffer_capacity_bytes", &[]), f64::from(4 << 20));
    sink.start_again();
    sink.wait_for(accepted);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    poll("room again", || (hookward.post(&signed("y")).status == 200).then_some(()));
    let received = sink.wait_for(accepted + 1);
    assert_eq!(received.iter().filter(|r| r.body == vec![b'x'; 50_000]).count(), accepted);
}

#[test]
fn limits_fit_the_memory_and_the_status_says_where_they_come_from() {
    allow_open_files(5_000);
    let (_sink, hookward) = pair();
    let status = hookward.admin_socket(&Request::get("/api/v1/status")).json();
    let limits = &status["limits"];
    for from in ["connections_from", "body_memory_from", "dedupe_entries_from"] {
        assert_eq!(limits[from], "auto", "{limits}");
    }
    let number = |name: &str| limits[name].as_u64().unwrap_or_else(|| panic!("{name}: {limits}"));
    assert!((64..=4096).contains(&number("connections")), "{limits}");
    assert!((1 << 20..=64 << 20).contains(&number("body_memory_bytes")), "{limits}");
    assert!(number("memory_bytes") > 1 << 20 && !limits["memory_from"].as_str().unwrap().is_empty(), "{limits}");
    #[allow(clippy::cast_precision_loss, reason = "small enough")]
    let connections = number("connections") as f64;
    assert_eq!(hookward.metrics().value("hookward_connections_limit", &[]), connections);
    assert!(!hookward.stderr().contains("limits want"), "{}", hookward.stderr());
}

#[test]
fn limits_that_do_not_fit_the_memory_are_warned_of_with_their_sum() {
    let too_much = "limits: { connections: 1000000, header_bytes: 1MiB, body_memory: 4000MiB }\nbuffer: { dedupe_entries: 100000000 }\n";
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config(too_much).open_files(19_000).start();
    hookward.await_log("limits want");
    let limits = hookward.admin_socket(&Request::get("/api/v1/status")).json()["limits"].clone();
    assert_eq!(limits["connections_from"], "open files", "{limits}");
    assert!(limits["connections_per_client"].as_u64() <= limits["connections"].as_u64(), "{limits}");
    assert_eq!(hookward.post(&event()).status, 200, "it serves all the same");
    sink.first();
}
