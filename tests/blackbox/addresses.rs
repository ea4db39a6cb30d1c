//! An app by its name: several addresses, a resolver in every mood, connections that end.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::harness::*;

fn address(sink: &Sink) -> SocketAddr {
    sink.url().strip_prefix("http://").unwrap().parse().unwrap()
}

fn post_event(hookward: &Hookward) {
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
}

#[test]
fn an_app_that_listens_on_the_ipv6_address_of_its_name_only_is_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return eprintln!("no IPv6 here") };
    let sink = Sink::start_on(listener);
    let url = format!("http://app.internal:{}", address(&sink).port());
    let setup = Setup::without_upstream().flag("--upstream", &url).hosts("127.0.0.1 app.internal\n::1 app.internal\n");
    let hookward = setup.start();
    post_event(&hookward);
    sink.first();
    let metrics = hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 1.0);
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]), 0.0);
}

#[test]
fn where_one_of_two_addresses_is_gone_no_attempt_fails_and_no_request_is_502() {
    for mode in ["ack", "proxy"] {
        let sink = Sink::start();
        let (ip, port) = (address(&sink).ip(), address(&sink).port());
        let setup = Setup::without_upstream()
            .flag("--upstream", &format!("http://app.internal:{port}"))
            .flag("--mode", mode)
            // So that there are new connections, and every other one is tried at the other address first.
            .config("upstream: { connection_max_requests: 2 }\n")
            .hosts(&format!("127.255.0.1 app.internal\n{ip} app.internal\n"));
        let hookward = setup.start();
        for _ in 0..20 {
            let answer = hookward.post(&signed(body(&new_id())));
            assert_eq!(answer.status, 200, "{mode}");
        }
        sink.wait_for(20);
        let metrics = hookward.await_metric("hookward_upstream_addresses_set_aside", &[], 1.0);
        assert_eq!(metrics.value("hookward_upstream_addresses", &[]), 2.0);
        assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]), 0.0);
        hookward.await_log("an address of the app cannot be reached");
    }
}

#[test]
fn a_connection_ends_after_its_requests() {
    let sink = Sink::start();
    let yaml = format!("upstream: {{ url: \"{}\", connection_max_requests: 5 }}\n", sink.url());
    let hookward = Setup::new(&sink).without_flag("--upstream").config(&yaml).start();
    for sent in 1..=20 {
        post_event(&hookward);
        sink.wait_for(sent);
    }
    let connections = sink.connections();
    assert!((4..=7).contains(&connections), "20 requests over {connections} connections, of 4 or 5 each");
}

/// A resolver that knows one name and an IPv4 address of it.
struct Resolver {
    ip: std::net::IpAddr,
    asked: Arc<AtomicUsize>,
    is_silent: Arc<AtomicBool>,
}

impl Resolver {
    fn start(name: &'static str) -> Resolver {
        // Another one for each test, beside the addresses of sinks. Port 53 takes root, as mounting does.
        let socket = UdpSocket::bind(("127.254.0.1", 53)).unwrap();
        let ip = socket.local_addr().unwrap().ip();
        let (asked, is_silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let resolver = Resolver { ip, asked: asked.clone(), is_silent: is_silent.clone() };
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                asked.fetch_add(1, Ordering::SeqCst);
                if !is_silent.load(Ordering::SeqCst) {
                    socket.send_to(&answer_to(&query[..length], name), client).unwrap();
                }
            }
        });
        resolver
    }
}

/// `name` is 127.0.0.1 and has no IPv6 address; there is no other.
fn answer_to(query: &[u8], name: &str) -> Vec<u8> {
    let (mut asked, mut at) = (String::new(), 12);
    while query[at] > 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        asked += &format!("{}.", std::str::from_utf8(label).unwrap());
        at += 1 + label.len();
    }
    let is_known = asked.trim_end_matches('.') == name;
    let is_answered = is_known && query[at + 1..at + 3] == [0, 1];
    let flags = if is_known { [0x81, 0x80] } else { [0x81, 0x83] };
    let counts = [0, 1, 0, u8::from(is_answered), 0, 0, 0, 0];
    let record: &[u8] = if is_answered { &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 127, 0, 0, 1] } else { &[] };
    [&query[..2], &flags, &counts, &query[12..at + 5], record].concat()
}

#[test]
fn a_name_is_looked_up_now_and_then_and_not_at_all_while_the_resolver_is_gone() {
    let sink = Sink::start_on(TcpListener::bind("127.0.0.1:0").unwrap());
    let resolver = Resolver::start("my-app.shop.svc.cluster.local");
    let search = "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    let setup = Setup::without_upstream()
        .flag("--upstream", &format!("http://my-app.shop:{}", address(&sink).port()))
        .resolv_conf(&format!("nameserver {}\n{search}", resolver.ip));
    let hookward = setup.start();
    for _ in 0..100 {
        post_event(&hookward);
    }
    sink.wait_for(100);
    let asked = resolver.asked.load(Ordering::SeqCst);
    assert!((4..=20).contains(&asked), "four queries find the name: {asked} for 100 events");
    resolver.is_silent.store(true, Ordering::SeqCst);
    for sent in 101..=110 {
        post_event(&hookward);
        sink.wait_for(sent);
    }
    let metrics = hookward.await_metric("hookward_delivery_attempts_total", &[("result", "delivered")], 110.0);
    assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]), 0.0);
}
