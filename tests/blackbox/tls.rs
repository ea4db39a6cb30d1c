//! TLS towards clients, on a listener.

use super::harness::tls::{Authority, Issued, client_config, client_config_of};
use super::harness::*;

const NAME: &str = "hooks.example";

/// Writes the files of a listener and returns its `tls:` section.
fn section(setup: &Setup, issued: &Issued, client_ca: Option<&str>) -> String {
    let path = |name: &str, text: &str| {
        let path = setup.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (path("tls.crt", &issued.cert_pem), path("tls.key", &issued.key_pem));
    let client_ca = client_ca.map(|pem| format!(", client_ca: {}", path("ca.crt", pem))).unwrap_or_default();
    format!("tls: {{ cert: {cert}, key: {key}{client_ca} }}")
}

/// A hookward with one TLS listener, and further configuration.
fn start(sink: &Sink, issued: &Issued, client_ca: Option<&str>, yaml: &str) -> Hookward {
    let setup = Setup::new(sink).without_flag("--listen");
    let tls = section(&setup, issued, client_ca);
    setup.config(&format!("listen: [ {{ address: \"127.0.0.1:0\", {tls} }} ]\n{yaml}")).start()
}

fn connect(hookward: &Hookward, ca: &Authority) -> Wire {
    Wire::connect_tls(hookward.listen(), &ca.pem, NAME)
}

#[test]
fn events_come_over_tls_1_2_and_1_3_and_the_app_is_told() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client_config_of(&ca.pem, None, &[version]);
        let mut wire = Wire::try_connect_tls(hookward.listen(), config, NAME, b"").unwrap();
        for _ in 0..2 {
            let id = new_id();
            assert_accepted(&wire.ask(&signed(body(&id))), &id);
        }
    }
    for received in sink.wait_for(4) {
        assert_eq!(received.header("x-forwarded-proto"), "https");
    }
    assert_refused(&connect(&hookward, &ca).ask(&forged()), 403, "signature_mismatch");
    assert_eq!(hookward.metrics().value("hookward_tls_handshake_failures_total", &[]), 0.0);
}

#[test]
fn only_http_1_1_is_agreed_on() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "");
    let offering = |protocols: &[&[u8]]| {
        let mut config = client_config(&ca.pem);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Wire::try_connect_tls(hookward.listen(), config, NAME, b"")
    };
    assert_eq!(offering(&[b"h2", b"http/1.1"]).unwrap().ask(&event()).status, 200);
    let refused = offering(&[b"h2"]).err().expect("a client that speaks HTTP/2 alone was let in");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    hookward.await_metric("hookward_tls_handshake_failures_total", &[], 1.0);
}

#[test]
fn plain_http_on_a_tls_listener_is_closed_counted_and_not_quoted() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let setup = Setup::new(&sink).without_flag("--listen").flag("--log-level", "debug");
    let tls = section(&setup, &ca.issue(NAME), None);
    let hookward = setup.config(&format!("listen: [ {{ address: \"127.0.0.1:0\", {tls} }} ]\n")).start();
    let mut wire = hookward.connect();
    wire.send(event().header("X-Private", "hunter2").bytes());
    let came = String::from_utf8_lossy(&wire.end_or_reset()).into_owned();
    assert!(!came.contains("HTTP"), "{came:?}");
    hookward.await_metric("hookward_tls_handshake_failures_total", &[], 1.0);
    let stderr = poll("the line about it", || Some(hookward.stderr()).filter(|text| text.contains("handshake failed")));
    assert!(stderr.contains("does not speak TLS") && !stderr.contains("hunter2"), "{stderr}");
    assert_nothing_arrived_over(&connect(&hookward, &ca), &sink);
}

/// Nothing but a genuine event, posted now, has reached the sink.
fn assert_nothing_arrived_over(wire: &Wire, sink: &Sink) {
    let id = new_id();
    wire.send_meanwhile(signed(body(&id)).bytes()).join().unwrap();
    assert_eq!(sink.first().event_id(), id);
}

#[test]
fn a_handshake_that_takes_too_long_is_cut() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "limits: { header_timeout: 200ms }\n");
    let mut silent = hookward.connect();
    let mut half = hookward.connect();
    half.send(b"\x16\x03\x01\x02\x00");
    silent.end_or_reset();
    half.end_or_reset();
    hookward.await_metric("hookward_tls_handshake_failures_total", &[], 2.0);
    hookward.await_metric("hookward_connections", &[], 0.0);
}

#[test]
fn a_probe_that_hangs_up_at_once_is_no_failure_and_one_that_hangs_up_later_is() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "");
    let probe = |bytes: &[u8]| {
        let mut wire = hookward.connect();
        wire.send(bytes);
        hookward.await_metric("hookward_connections", &[], 1.0);
        drop(wire);
        hookward.await_metric("hookward_connections", &[], 0.0).value("hookward_tls_handshake_failures_total", &[])
    };
    assert_eq!(probe(b""), 0.0);
    assert_eq!(probe(b"\x16\x03\x01\x02\x00"), 1.0);
}

#[test]
fn a_handshake_that_nobody_finishes_does_not_hold_up_the_end() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let mut hookward = start(&sink, &ca.issue(NAME), None, "limits: { header_timeout: 1h }\nshutdown: { drain: 1h }\n");
    let mut silent = hookward.connect();
    hookward.await_metric("hookward_connections", &[], 1.0);
    hookward.stop();
    silent.end_or_reset();
}

#[test]
fn an_idle_connection_is_closed_with_the_alert_that_says_so() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "limits: { idle_timeout: 200ms }\n");
    let mut wire = connect(&hookward, &ca);
    assert_eq!(wire.ask(&event()).status, 200);
    // rustls reports an end without close_notify as an error.
    assert_eq!(wire.end(), b"");
}

#[test]
fn every_other_end_is_said_too() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "");
    for (request, status) in [
        (event().header("Connection", "close").bytes(), 200),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), 400),
        (event().target("no-slash").bytes(), 400),
    ] {
        let mut wire = connect(&hookward, &ca);
        wire.send(request);
        assert_eq!(wire.answer().status, status);
        assert_eq!(wire.end(), b"");
    }
}

#[test]
fn a_client_that_is_refused_while_it_sends_gets_to_read_why() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "");
    let mut wire = connect(&hookward, &ca);
    let request = signed(vec![b'x'; 1_100_000]);
    wire.send(request.head());
    let sending = wire.send_meanwhile(request.framed_body());
    assert_refused(&wire.answer(), 413, "body_too_large");
    wire.end_or_reset();
    sending.join().unwrap();
}

#[test]
fn with_a_client_ca_only_its_clients_get_in() {
    let (sink, ca, clients) = (Sink::start(), Authority::new(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), Some(&clients.pem), "");
    let ask = |own: Option<&Issued>| {
        let config = client_config_of(&ca.pem, own, rustls::ALL_VERSIONS);
        Wire::try_connect_tls(hookward.listen(), config, NAME, b"")?.try_ask(&event())
    };
    assert_eq!(ask(Some(&clients.issue("telnyx"))).unwrap().status, 200);
    assert!(ask(None).is_err());
    assert!(ask(Some(&Authority::new().issue("telnyx"))).is_err(), "another authority's");
    hookward.await_metric("hookward_tls_handshake_failures_total", &[], 2.0);
    sink.wait_for(1);
    assert_eq!(hookward.metrics().value("hookward_requests_total", &[("outcome", "accepted")]), 1.0);
}

#[test]
fn another_client_ca_counts_for_new_connections_without_a_restart() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let (old, new) = (Authority::new(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), Some(&old.pem), "");
    let connect = |clients: &Authority| {
        let config = client_config_of(&ca.pem, Some(&clients.issue("telnyx")), rustls::ALL_VERSIONS);
        Wire::try_connect_tls(hookward.listen(), config, NAME, b"")
    };
    let ask = |clients: &Authority| connect(clients)?.try_ask(&event());
    let mut open = connect(&old).unwrap();
    assert_eq!(open.ask(&event()).status, 200);
    assert!(ask(&new).is_err());
    std::fs::write(hookward.setup().dir().join("ca.crt"), &new.pem).unwrap();
    hookward.await_metric("hookward_config_reloads_total", &[("result", "success")], 1.0);
    assert_eq!(ask(&new).unwrap().status, 200);
    assert!(ask(&old).is_err());
    assert_eq!(open.ask(&event()).status, 200, "what was open goes on");
}

#[test]
fn a_connection_over_the_cap_is_closed_before_it_costs_a_handshake() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "limits: { connections: 1 }\n");
    let mut first = connect(&hookward, &ca);
    let request = event();
    first.send(request.head());
    hookward.await_metric("hookward_requests_in_flight", &[], 1.0);
    let second = Wire::try_connect_tls(hookward.listen(), client_config(&ca.pem), NAME, b"");
    assert!(second.is_err());
    let metrics = hookward.await_metric("hookward_connections_refused_total", &[], 1.0);
    assert_eq!(metrics.value("hookward_tls_handshake_failures_total", &[]), 0.0);
    first.send(request.framed_body());
    assert_eq!(first.answer().status, 200);
}

#[test]
fn silent_connections_do_not_keep_others_from_their_handshake() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue(NAME), None, "limits: { connections: 10 }\n");
    let _silent: Vec<_> = (0..20).map(|_| hookward.connect()).collect();
    // Ten of them have given way to the others: whoever comes now is the last to come.
    hookward.await_metric("hookward_connections_gave_way_total", &[("bound", "connections")], 10.0);
    let _greeted: Vec<_> = (0..20).map(|_| connect(&hookward, &ca)).collect();
    for _ in 0..10 {
        assert_eq!(connect(&hookward, &ca).ask(&event()).status, 200);
    }
    sink.wait_for(10);
    assert_eq!(hookward.metrics().value("hookward_connections_refused_total", &[]), 0.0);
}

#[test]
fn the_end_of_each_certificate_is_a_metric_by_the_listeners_configured_address() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let hookward = start(&sink, &ca.issue_until(NAME, 2050), None, "");
    let metrics = hookward.metrics();
    let name = "hookward_tls_certificate_not_after_timestamp_seconds";
    assert_eq!(metrics.value(name, &[("listener", "127.0.0.1:0")]), 2_524_608_000.0);
    let expired = start(&sink, &ca.issue_until(NAME, 2020), None, "");
    assert_eq!(expired.metrics().value(name, &[("listener", "127.0.0.1:0")]), 1_577_836_800.0);
    expired.await_log("the TLS certificate has expired");
}

#[test]
fn a_key_of_another_certificate_is_exit_78_and_never_shown() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let setup = Setup::new(&sink).without_flag("--listen");
    let mixed = Issued { key_pem: ca.issue(NAME).key_pem, ..ca.issue(NAME) };
    let tls = section(&setup, &mixed, None);
    let finished = setup.config(&format!("listen: [ {{ {tls} }} ]\n")).run_to_end();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("listen[0].tls.key: is not the key of the first certificate"), "{finished:?}");
    let secret = mixed.key_pem.lines().nth(1).unwrap();
    assert!(!finished.stderr.contains(secret), "{finished:?}");
}
