//! PROXY protocol on a listener that requires it: who may name a client, and what happens to
//! everything else.

use super::harness::tls::{Authority, client_config};
use super::harness::*;

const V1: &[u8] = b"PROXY TCP4 192.76.120.200 192.0.2.1 4711 443\r\n";
const V1_DENIED: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, rest].concat()
}

fn v2_from(source: [u8; 4]) -> Vec<u8> {
    v2(0x21, 0x11, &[source.as_slice(), &[192, 0, 2, 1, 0x12, 0x67, 1, 187]].concat())
}

/// Telnyx's addresses only, loopback is the load balancer.
const TRUSTED: &str = "client_ip: { trusted_proxies: [127.0.0.0/8] }\n";

fn start_with(sink: &Sink, yaml: &str) -> Hookward {
    let setup = Setup::new(sink).without_flag("--listen").without_flag("--ip-allowlist");
    setup.config(&format!("listen: [ {{ address: \"127.0.0.1:0\", proxy_protocol: required }} ]\n{yaml}")).start()
}

/// A connection that begins with this header.
fn through(hookward: &Hookward, header: &[u8]) -> Wire {
    let mut wire = hookward.connect();
    wire.send(header);
    wire
}

#[test]
fn the_address_that_the_header_names_is_the_client_of_every_request() {
    let sink = Sink::start();
    let hookward = start_with(&sink, TRUSTED);
    for (index, header) in [V1.to_vec(), v2_from([192, 76, 120, 200])].iter().enumerate() {
        let mut wire = through(&hookward, header);
        for _ in 0..2 {
            let id = new_id();
            assert_accepted(&wire.ask(&signed(body(&id)).header("X-Forwarded-For", "6.6.6.6")), &id);
        }
        for received in &sink.wait_for(2 * (index + 1)) {
            assert_eq!(
                received.header("x-forwarded-for"),
                "192.76.120.200",
                "it is no proxy, and says nothing of others"
            );
        }
    }
    for header in [V1_DENIED.to_vec(), v2_from([198, 51, 100, 7])] {
        let spoof = event().header("X-Forwarded-For", "192.76.120.200");
        assert_refused(&through(&hookward, &header).ask(&spoof), 403, "ip_denied");
    }
    assert!(
        poll("the lines", || Some(hookward.stderr()).filter(|text| text.contains("198.51.100.7")))
            .contains("192.76.120.200")
    );
}

#[test]
fn header_and_request_may_come_in_one_piece_or_byte_by_byte() {
    let sink = Sink::start();
    let hookward = start_with(&sink, TRUSTED);
    for header in [V1.to_vec(), v2_from([192, 76, 120, 200])] {
        let whole = [header, event().bytes()].concat();
        let mut wire = through(&hookward, &whole);
        assert_eq!(wire.answer().status, 200);
        let mut wire = hookward.connect();
        let dripping = wire.dripping(whole, std::time::Duration::from_micros(200));
        assert_eq!(wire.answer().status, 200);
        dripping.join().unwrap();
    }
    sink.wait_for(2);
}

#[test]
fn local_and_unknown_keep_the_sockets_peer() {
    let sink = Sink::start();
    let hookward = start_with(&sink, TRUSTED);
    for header in [V1_UNKNOWN.to_vec(), v2(0x20, 0, &[]), v2(0x21, 0, &[])] {
        let mut wire = through(&hookward, &header);
        // The proxy itself: it may name a client as any trusted proxy may, and must.
        assert_refused(&wire.ask(&event()), 403, "client_ip_undetermined");
        let mut wire = through(&hookward, &header);
        assert_eq!(wire.ask(&event().header("X-Forwarded-For", "192.76.120.200")).status, 200);
    }
}

#[test]
fn a_proxy_named_by_a_proxy_names_the_client_in_its_turn() {
    let sink = Sink::start();
    let hookward = start_with(&sink, "client_ip: { trusted_proxies: [127.0.0.0/8, 10.0.0.0/8] }\n");
    let mut wire = through(&hookward, b"PROXY TCP4 10.1.2.3 192.0.2.1 4711 443\r\n");
    assert_eq!(wire.ask(&event().header("X-Forwarded-For", "192.76.120.200")).status, 200);
    assert_eq!(sink.first().header("x-forwarded-for"), "192.76.120.200, 10.1.2.3");
}

#[test]
fn nobody_else_may_send_a_header() {
    let sink = Sink::start();
    let hookward = start_with(&sink, "client_ip: { trusted_proxies: [10.0.0.0/8] }\n");
    for bytes in [V1.to_vec(), event().bytes(), [V1.to_vec(), event().bytes()].concat()] {
        assert_refused(&hookward.raw(bytes), 403, "client_ip_undetermined");
    }
    hookward.await_metric("hookward_rejections_total", &[("route", "none"), ("reason", "client_ip_undetermined")], 3.0);
    assert_eq!(sink.count(), 0);
}

#[test]
fn without_a_good_header_it_is_a_bad_request() {
    let sink = Sink::start();
    let hookward = start_with(&sink, TRUSTED);
    let cases: Vec<Vec<u8>> = vec![
        event().bytes(),
        b"PROXY TCP4 192.76.120.200 192.0.2.1 4711\r\n".to_vec(),
        b"PROXY TCP4 192.76.120.200 192.0.2.1 4711 443\nPOST / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(),
        [b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x11, &[0; 4097]),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
    ];
    let count = cases.len();
    for bytes in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let answer = hookward.raw(&bytes);
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request"), "{shown:?}");
    }
    let counted = f64::from(u32::try_from(count).unwrap());
    hookward.await_metric("hookward_rejections_total", &[("route", "none"), ("reason", "bad_request")], counted);
}

#[test]
fn two_headers_are_one_too_many_and_none_is_taken_where_none_is_expected() {
    let (sink, plain) = pair();
    let hookward = start_with(&sink, TRUSTED);
    assert_refused(&hookward.raw([V1, V1, &event().bytes()].concat()), 400, "bad_request");
    for header in [V1.to_vec(), v2_from([192, 76, 120, 200])] {
        assert_refused(&plain.raw([header, event().bytes()].concat()), 400, "bad_request");
    }
    assert_nothing_arrived(&plain, &sink);
}

#[test]
fn a_header_that_does_not_come_is_a_timeout_and_a_probe_that_hangs_up_is_nothing() {
    let sink = Sink::start();
    let hookward = start_with(&sink, &format!("{TRUSTED}limits: {{ header_timeout: 200ms }}\n"));
    assert_refused(&hookward.raw(b""), 408, "header_timeout");
    assert_refused(&hookward.raw(b"PROXY TCP4 192."), 408, "header_timeout");
    let patient = start_with(&sink, TRUSTED);
    let probe = patient.connect();
    patient.await_metric("hookward_connections", &[], 1.0);
    drop(probe);
    let metrics = patient.await_metric("hookward_connections", &[], 0.0);
    assert_eq!(metrics.value("hookward_requests_total", &[("route", "none")]), 0.0);
}

#[test]
fn a_connection_that_never_sends_its_header_does_not_hold_up_the_end() {
    let sink = Sink::start();
    let yaml = format!("{TRUSTED}limits: {{ header_timeout: 1h }}\nshutdown: {{ drain: 1h }}\n");
    let mut hookward = start_with(&sink, &yaml);
    let mut silent = hookward.connect();
    hookward.await_metric("hookward_connections", &[], 1.0);
    hookward.stop();
    assert_eq!(silent.end(), b"");
}

#[test]
fn the_header_comes_before_the_handshake() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let issued = ca.issue("hooks.example");
    let setup = Setup::new(&sink).without_flag("--listen").without_flag("--ip-allowlist");
    let (cert, key) = (setup.dir().join("tls.crt"), setup.dir().join("tls.key"));
    std::fs::write(&cert, issued.cert_pem).unwrap();
    std::fs::write(&key, issued.key_pem).unwrap();
    let tls = format!("tls: {{ cert: {}, key: {} }}", cert.display(), key.display());
    let yaml = format!("listen: [ {{ address: \"127.0.0.1:0\", proxy_protocol: required, {tls} }} ]\n{TRUSTED}");
    let hookward = setup.config(&yaml).start();
    let connect =
        |header: &[u8]| Wire::try_connect_tls(hookward.listen(), client_config(&ca.pem), "hooks.example", header);
    assert_eq!(connect(V1).unwrap().ask(&event()).status, 200);
    assert_refused(&connect(V1_DENIED).unwrap().ask(&event()), 403, "ip_denied");
    assert!(connect(b"").is_err());
    // The refusal cannot be said in the clear, but it is counted.
    let mut wire = hookward.connect();
    wire.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(wire.end_or_reset(), b"");
    hookward.await_metric("hookward_rejections_total", &[("route", "none"), ("reason", "bad_request")], 2.0);
    assert_eq!(sink.first().header("x-forwarded-proto"), "https");
}
