//! The headers that the app gets: contract §4.

use uuid::Uuid;

use super::harness::event::HOST;
use super::harness::*;

#[test]
fn hookward_says_who_verified_what_and_when() {
    let (sink, hookward) = pair();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let received = sink.first();
    assert_eq!(received.event_id(), id);
    assert_eq!(received.header("hookward-event-type"), "message.received");
    assert_eq!(received.header("hookward-attempt"), "1");
    assert_eq!(received.header("hookward-verified"), "telnyx; key=key1");
    assert!(!received.has("hookward-replay"));
    let delivery_id = Uuid::parse_str(&received.delivery_id()).unwrap();
    assert_eq!(delivery_id.get_version_num(), 7);
    assert_eq!(delivery_id.to_string(), received.delivery_id(), "lower case, with hyphens");

    let at = received.header("hookward-received-at");
    let shape: String = at.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{at}");
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(delivery_id.get_timestamp().unwrap().to_unix().0);
    let age = std::time::SystemTime::now().duration_since(at).unwrap();
    assert!(age.as_secs() < 60, "{age:?}");
}

#[test]
fn every_attempt_has_the_same_delivery_id_and_body_and_counts_up() {
    let sink = Sink::start();
    sink.replies([Reply::status(500), Reply::status(503), Reply::hang_up()]);
    let hookward = Setup::new(&sink).config(QUICK_RETRIES).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let received = sink.wait_for(4);
    assert_eq!(received.iter().map(Received::attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for again in &received[1..] {
        for name in ["hookward-delivery-id", "hookward-event-id", "hookward-received-at", "telnyx-signature-ed25519"] {
            assert_eq!(again.header(name), received[0].header(name), "{name}");
        }
        assert_eq!(again.body, received[0].body);
    }
}

#[test]
fn the_senders_own_headers_are_kept_in_order() {
    let (sink, hookward) = pair();
    let request = event()
        .header("X-Twice", "one")
        .header("Accept", "*/*")
        .header("x-twice", "two, three")
        .header("X-Empty", "")
        .header("X-Inner", "a  b\tc")
        .header("Content-Encoding", "identity")
        .header("Authorization", "Bearer of-the-sender")
        .header("Cookie", "a=b");
    assert_eq!(hookward.post(&request).status, 200);
    let received = sink.first();
    assert_eq!(received.all("x-twice"), ["one", "two, three"]);
    for (name, value) in [
        ("accept", "*/*"),
        ("x-empty", ""),
        ("x-inner", "a  b\tc"),
        ("content-encoding", "identity"),
        ("content-type", "application/json"),
        ("user-agent", "telnyx-webhooks"),
        ("authorization", "Bearer of-the-sender"),
        ("cookie", "a=b"),
        ("host", HOST),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    let length = received.body.len().to_string();
    assert_eq!(received.header("content-length"), length);
}

#[test]
fn both_telnyx_headers_arrive_once_and_unchanged() {
    let (sink, hookward) = pair();
    let timestamp = now_s() - 17;
    let sent = body(&new_id());
    assert_eq!(hookward.post(&signed_at(timestamp, sent.clone())).status, 200);
    let received = sink.first();
    assert_eq!(received.header("telnyx-timestamp"), timestamp.to_string());
    let signature = ::hookward::gate::signature::sign(&event::telnyx_key(), timestamp, &sent);
    assert_eq!(received.header("telnyx-signature-ed25519"), signature);
}

#[test]
fn a_value_beyond_ascii_arrives_as_the_bytes_it_is() {
    let (sink, hookward) = pair();
    assert_eq!(hookward.post(&event().header("X-Latin", b"caf\xe9")).status, 200);
    let received = sink.first();
    let latin = received.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-latin")).unwrap();
    assert_eq!(latin.1, b"caf\xe9");
}

#[test]
fn what_only_hookward_may_say_is_dropped_from_outside() {
    let (sink, hookward) = pair();
    let outside = [
        "hookward-verified",
        "Hookward-Replay",
        "HOOKWARD-ATTEMPT",
        "hookward-delivery-id",
        "hookward-event-id",
        "hookward-received-at",
        "hookward-anything",
        "hookward_verified",
        "Hookward_Event-Id",
        "hookward-event_id",
        "telnyx_timestamp",
        "Telnyx_Signature_Ed25519",
        "telnyx-signature_ed25519",
        "x_forwarded_for",
        "X-Forwarded_For",
        "x_forwarded_proto",
        "x_forwarded-host",
        "x_real_ip",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "x-http-method-override",
    ];
    let request = outside.iter().fold(event(), |request, name| request.header(name, "forged"));
    assert_eq!(hookward.post(&request).status, 200);
    let received = sink.first();
    for (name, value) in &received.headers {
        assert_ne!(value, b"forged", "`{name}` came through");
    }
    assert_eq!(received.header("hookward-verified"), "telnyx; key=key1");
    assert!(!received.has("hookward-replay") && !received.has("hookward-anything"));
    assert!(received.headers.iter().all(|(name, _)| !name.contains('_')), "{}", received.head());
}

#[test]
fn a_genuine_request_is_not_refused_for_an_alias_beside_the_real_header() {
    let (sink, hookward) = pair();
    let request = event().header("telnyx_timestamp", "1").header("telnyx_signature_ed25519", "x");
    assert_eq!(hookward.post(&request).status, 200);
    sink.first();
    let request = event().without("telnyx-timestamp").header("telnyx_timestamp", now_s().to_string());
    assert_refused(&hookward.post(&request), 403, "timestamp_missing");
}

#[test]
fn what_belongs_to_the_hop_stays_behind() {
    let (sink, hookward) = pair();
    let request = event()
        .header("Connection", "keep-alive, X-Of-This-Hop")
        .header("Keep-Alive", "timeout=5")
        .header("X-Of-This-Hop", "1")
        .header("TE", "trailers")
        .header("Trailer", "X-Trailer")
        .header("Proxy-Authorization", "Basic eDp5")
        .header("Proxy-Connection", "keep-alive")
        .header("Expect", "100-continue")
        .header("X-Of-The-End", "1");
    assert_eq!(hookward.post(&request).status, 200);
    let received = sink.first();
    for name in [
        "keep-alive",
        "x-of-this-hop",
        "te",
        "trailer",
        "proxy-authorization",
        "proxy-connection",
        "expect",
        "transfer-encoding",
    ] {
        assert!(!received.has(name), "{name} in {}", received.head());
    }
    assert_eq!(received.header("x-of-the-end"), "1");
}

#[test]
fn a_sender_cannot_have_hookwards_or_telnyxs_headers_dropped_as_its_hops() {
    let (sink, hookward) = pair();
    let nominated =
        "close, hookward-verified, telnyx-timestamp, telnyx-signature-ed25519, x-forwarded-for, host, content-length";
    let answer = hookward.post(&event().header("Connection", nominated));
    // To refuse such a request is as good as to take it without following it.
    if answer.status == 200 {
        let received = sink.first();
        for name in ["hookward-verified", "telnyx-timestamp", "telnyx-signature-ed25519", "x-forwarded-for", "host"] {
            received.header(name);
        }
    } else {
        assert_refused(&answer, 400, "bad_request");
        assert_nothing_arrived(&hookward, &sink);
    }
}

#[test]
fn forwarding_headers_of_an_untrusted_peer_are_overwritten() {
    let (sink, hookward) = pair();
    let request = event()
        .header("X-Forwarded-For", "192.76.120.200")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Real-IP", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6;proto=https;host=evil.example");
    assert_eq!(hookward.post(&request).status, 200);
    let received = sink.first();
    assert_eq!(received.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(received.header("x-forwarded-proto"), "http");
    assert_eq!(received.header("x-forwarded-host"), HOST);
    assert!(!received.head().contains("6.6.6.6") && !received.head().contains("evil"), "{}", received.head());
}

#[test]
fn forwarding_headers_of_a_trusted_peer_are_kept() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--trusted-proxy", "127.0.0.0/8").start();
    let request = event()
        .header("X-Forwarded-For", "192.76.120.200")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "public.example");
    assert_eq!(hookward.post(&request).status, 200);
    let received = sink.first();
    assert!(received.all("x-forwarded-for").join(", ").starts_with("192.76.120.200"), "{}", received.head());
    assert_eq!(received.header("x-forwarded-proto"), "https");
    assert_eq!(received.header("x-forwarded-host"), "public.example");
}

#[test]
fn the_upstream_may_be_sent_a_host_of_its_own() {
    let sink = Sink::start();
    let config = format!("upstream: {{ url: \"{}\", host: app.internal }}\n", sink.url());
    let hookward = Setup::new(&sink).without_flag("--upstream").config(&config).start();
    assert_eq!(hookward.post(&event()).status, 200);
    let received = sink.first();
    assert_eq!(received.header("host"), "app.internal");
    assert_eq!(received.header("x-forwarded-host"), HOST);
}
