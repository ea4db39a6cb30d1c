//! Refusals of bodies that are still being sent: they reach whoever sent them, through a proxy too.

use super::harness::event::TARGET;
use super::harness::*;

const MIB: usize = 1 << 20;
/// What is sent before the answer is read, and in one piece afterwards.
const PIECE_BYTES: usize = 64 << 10;
/// So long that no slow machine is cut off for it.
const PATIENT: &str = "limits: { refusal_time: 60s }\n";

/// A request that is refused by its header, with a body of so many bytes.
fn refused(bytes: usize) -> Request {
    Request::post(TARGET).body(vec![b'x'; bytes])
}

/// Sends the beginning of a request that is refused, and reads the answer; what is left to send.
fn send_until_refused(wire: &mut Wire, request: &Request) -> Vec<u8> {
    let mut bytes = request.bytes();
    let rest = bytes.split_off(PIECE_BYTES);
    wire.send(bytes);
    assert_refused(&wire.answer(), 403, "signature_missing");
    rest
}

/// Sends the rest as a proxy does that does not look at the answer; how much of it was taken.
fn send_on(wire: &mut Wire, rest: &[u8]) -> usize {
    rest.chunks(PIECE_BYTES).take_while(|piece| wire.try_send(piece).is_ok()).map(<[u8]>::len).sum()
}

fn assert_is_read_to_its_end(wire: &mut Wire, bytes: usize) {
    let rest = send_until_refused(wire, &refused(bytes));
    assert_eq!(send_on(wire, &rest), rest.len(), "the connection was reset");
    wire.end_of_sending();
    assert_eq!(wire.end(), b"");
}

#[test]
fn a_trusted_proxy_is_read_to_the_end_of_two_mebibytes_or_twice_the_largest_body() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--listen");
    let socket = setup.dir().join("in.sock").display().to_string();
    let listen = format!(
        "listen:\n- {{ address: \"127.0.0.1:0\" }}\n- {{ address: \"unix:{socket}\" }}\n\
         - {{ address: \"127.0.0.1:0\", proxy_protocol: required }}\n\
         client_ip: {{ trusted_proxies: [127.0.0.1, unix] }}\n{PATIENT}"
    );
    for (routes, bytes) in [("", 2 * MIB), ("routes: [ { path: \"/*\", max_body: 2MiB } ]\n", 4 * MIB)] {
        let hookward = setup.clone().config(&format!("{listen}{routes}")).start();
        for (n, at) in hookward.listeners.iter().enumerate() {
            let mut wire = at.connect();
            if n == 2 {
                wire.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n");
            }
            assert_is_read_to_its_end(&mut wire, bytes - 1);
        }
        assert_eq!(hookward.metrics().value("hookward_refusals_cut_total", &[]), 0.0);
        let mut wire = hookward.connect();
        let rest = send_until_refused(&mut wire, &refused(4 * bytes));
        send_on(&mut wire, &rest);
        hookward.await_metric("hookward_refusals_cut_total", &[], 1.0);
    }
}

#[test]
fn a_sender_that_is_no_proxy_is_read_for_a_shorter_while() {
    let (_sink, hookward) = pair_with(PATIENT);
    assert_is_read_to_its_end(&mut hookward.connect(), 200 << 10);
    let mut wire = hookward.connect();
    let rest = send_until_refused(&mut wire, &refused(MIB));
    send_on(&mut wire, &rest);
    hookward.await_metric("hookward_refusals_cut_total", &[], 1.0);
}

#[test]
fn no_more_than_refusal_connections_are_read_on_and_the_others_for_a_shorter_while() {
    let (_sink, hookward) = pair_with(
        "client_ip: { trusted_proxies: [127.0.0.1] }\nlimits: { refusal_connections: 1, refusal_time: 60s }\n",
    );
    let mut first = hookward.connect();
    let rest = send_until_refused(&mut first, &refused(MIB));
    let mut second = hookward.connect();
    let more = send_until_refused(&mut second, &refused(MIB));
    send_on(&mut second, &more);
    hookward.await_metric("hookward_refusals_cut_total", &[], 1.0);
    assert_eq!(send_on(&mut first, &rest), rest.len());
    first.end_of_sending();
    assert_eq!(first.end(), b"");
    // There is a turn again.
    assert_is_read_to_its_end(&mut hookward.connect(), MIB);
}

#[test]
fn nginx_hears_a_refusal_while_it_is_still_writing_the_body() {
    const FRONT: &str = "front.sock";
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--listen");
    let socket = setup.dir().join("in.sock").display().to_string();
    let config = format!(
        "listen:\n- {{ address: \"127.0.0.1:0\" }}\n- {{ address: \"unix:{socket}\", mode: \"0666\" }}\n\
         client_ip: {{ trusted_proxies: [127.0.0.1, unix] }}\n{PATIENT}"
    );
    let hookward = setup.config(&config).start();
    for at in [hookward.listen().to_string(), format!("unix:{socket}")] {
        let nginx = Nginx::start(&[], &[FRONT], |place| {
            format!(
                "upstream hookward {{ server {at}; keepalive 8; }}
                 server {{
                     listen unix:{}/{FRONT};
                     client_max_body_size 20m;
                     location / {{
                         proxy_pass http://hookward;
                         proxy_http_version 1.1;
                         proxy_set_header Connection \"\";
                     }}
                 }}",
                place.display()
            )
        });
        for n in 0..20 {
            for (request, status) in [(refused(MIB), 403), (signed(vec![b'x'; MIB + 1]), 413)] {
                assert_eq!(nginx.connect(FRONT).ask(&request).status, status, "{at} {n}");
            }
        }
    }
    assert_eq!(hookward.metrics().value("hookward_refusals_cut_total", &[]), 0.0);
}
