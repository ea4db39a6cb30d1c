//! HTTP/1.1 on one connection: reuse, pipelining, `Expect`, early answers.

use super::harness::event::TARGET;
use super::harness::*;

#[test]
fn a_connection_is_used_again_and_again() {
    let (sink, hookward) = pair();
    let mut wire = hookward.connect();
    let mut request_ids = std::collections::HashSet::new();
    for index in 0..50 {
        let id = new_id();
        let request = if index % 2 == 0 { signed(body(&id)) } else { signed(body(&id)).chunked(100) };
        let answer = wire.ask(&request);
        assert_accepted(&answer, &id);
        assert!(request_ids.insert(answer.header("hookward-request-id").unwrap().to_owned()));
    }
    assert_eq!(hookward.metrics().value("hookward_connections", &[]), 1.0);
    assert_eq!(sink.wait_for(50).len(), 50);
}

#[test]
fn a_refusal_that_has_read_the_body_leaves_the_connection_usable_or_closes_it() {
    let (sink, hookward) = pair();
    let mut wire = hookward.connect();
    let mut refused = 0;
    while refused < 10 {
        wire.send(forged().bytes());
        match wire.answer_or_end() {
            Some(answer) => {
                assert_refused(&answer, 403, "signature_mismatch");
                refused += 1;
            }
            None => wire = hookward.connect(),
        }
    }
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn a_refused_body_is_never_read_as_the_next_request() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config("routes: [ { name: hooks, path: /hooks, max_body: 100B } ]\n").start();
    let smuggled = signed(body("smuggled")).target("/hooks").bytes();
    let outer = Request::post("/elsewhere").body(smuggled.clone());
    let unsigned = Request::post("/hooks").body(smuggled.clone());
    let wrong_method = Request::new("PUT", "/hooks").body(smuggled.clone());
    let get = Request::get("/hooks").body(smuggled);
    for request in [&outer, &unsigned, &wrong_method, &get, &outer.clone().chunked(5000)] {
        let mut wire = hookward.connect();
        wire.send(request.bytes());
        assert!((400..500).contains(&wire.answer().status));
        assert_eq!(String::from_utf8_lossy(&wire.end_or_reset()), "", "one answer only");
    }
    let id = "ok";
    let small = format!(r#"{{"data":{{"id":"{id}"}}}}"#);
    assert_accepted(&hookward.post(&signed(small).target("/hooks")), id);
    assert_eq!(sink.first().event_id(), id);
    hookward.await_metric("hookward_requests_total", &[("outcome", "accepted")], 1.0);
}

#[test]
fn pipelined_requests_are_answered_in_order_or_the_connection_ends_cleanly() {
    let (sink, hookward) = pair();
    let ids: Vec<_> = (0..5).map(|_| new_id()).collect();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| signed(body(id)).bytes()).collect();
    let mut wire = hookward.connect();
    wire.send(bytes);
    let mut answered = 0;
    for id in &ids {
        let Some(answer) = wire.answer_or_end() else { break };
        assert_accepted(&answer, id);
        answered += 1;
    }
    assert!(answered >= 1);
    let received = sink.wait_for(answered);
    for id in &ids[..answered] {
        assert!(received.iter().any(|r| r.event_id() == *id));
    }
    // What was not answered may be sent again, without harm.
    for (index, id) in ids.iter().enumerate() {
        let status = hookward.post(&signed(body(id))).json()["status"].as_str().unwrap().to_owned();
        assert!(status == "duplicate" || index >= answered, "{status}");
    }
    assert_eq!(sink.wait_for(5).len(), 5);
}

#[test]
fn a_client_that_is_refused_anyway_is_never_asked_for_its_body() {
    let expect = |request: Request| request.header("Expect", "100-continue").head();
    let (_sink, hookward) = pair();
    let large = signed(vec![b'x'; 1024 * 1024 + 1]);
    let cases = [
        (expect(large), 413, "body_too_large"),
        (expect(event().without("Telnyx-Timestamp")), 403, "timestamp_missing"),
        (expect(event().replace("Telnyx-Signature-Ed25519", "x")), 403, "signature_malformed"),
        (expect(event().header("Telnyx-Timestamp", "1")), 400, "bad_request"),
        (expect(event().method("PUT")), 405, "method_not_allowed"),
    ];
    for (head, status, reason) in cases {
        let mut wire = hookward.connect();
        wire.send(head);
        assert_refused(&wire.answer(), status, reason);
    }
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").start();
    let mut wire = hookward.connect();
    wire.send(expect(event()));
    assert_refused(&wire.answer(), 403, "ip_denied");
}

#[test]
fn a_refused_client_that_goes_on_sending_still_gets_its_answer() {
    let sink = Sink::start();
    let denying = Setup::new(&sink).without_flag("--ip-allowlist").start();
    let open = Setup::new(&sink).start();
    let small = signed(vec![b'x'; 200 * 1024]);
    let large = signed(vec![b'x'; 8 * 1024 * 1024]);
    let cases = [
        (&denying, small, 403, "ip_denied"),
        (&denying, large.clone(), 403, "ip_denied"),
        (&open, large.clone(), 413, "body_too_large"),
        (&open, large.clone().chunked(100_000), 413, "body_too_large"),
        (&open, large.without("Telnyx-Timestamp"), 403, "timestamp_missing"),
    ];
    for (hookward, request, status, reason) in cases {
        let mut wire = hookward.connect();
        let writer = wire.send_meanwhile(request.bytes());
        assert_refused(&wire.answer(), status, reason);
        drop(wire);
        writer.join().unwrap();
    }
    assert_eq!(sink.count(), 0);
}

#[test]
fn a_refused_client_may_finish_a_body_of_moderate_size_before_it_reads() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").start();
    let body = vec![b'x'; 200 * 1024];
    let too_many = (0..120).fold(signed(body.clone()), |request, n| request.header(&format!("X-{n}"), "1"));
    for (request, status, reason) in [(signed(body), 403, "ip_denied"), (too_many, 431, "headers_too_large")] {
        let mut wire = hookward.connect();
        wire.send(request.head());
        // The refusal is here before the body has begun; a plain close would now reset the connection,
        // and many clients drop an answer when their sending fails.
        let answer = wire.answer();
        for (sent, piece) in request.framed_body().chunks(8192).enumerate() {
            wire.try_send(piece).unwrap_or_else(|error| panic!("{reason}: cut off after {sent} pieces: {error}"));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_refused(&answer, status, reason);
    }
}

#[test]
fn get_and_head_without_a_body_are_answered_and_the_connection_goes_on() {
    let (sink, hookward) = pair();
    let mut wire = hookward.connect();
    assert_refused(&wire.ask(&Request::get(TARGET)), 405, "method_not_allowed");
    let mut wire = hookward.connect();
    let head = wire.ask(&Request::new("HEAD", TARGET));
    assert_eq!((head.status, head.body.len()), (405, 0));
    assert_eq!(head.header("allow"), Some("POST"));
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn many_connections_at_once_each_get_their_own_answer() {
    let (sink, hookward) = pair();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut wire = hookward.connect();
                for index in 0..10 {
                    let id = new_id();
                    if index % 3 == 2 {
                        assert_refused(&hookward.post(&forged()), 403, "signature_mismatch");
                    }
                    assert_accepted(&wire.ask(&signed(body(&id))), &id);
                }
            });
        }
    });
    let received = sink.wait_for(160);
    let ids: std::collections::HashSet<_> = received.iter().map(Received::event_id).collect();
    assert_eq!((received.len(), ids.len()), (160, 160));
    hookward.await_metric("hookward_requests_in_flight", &[], 0.0);
}
