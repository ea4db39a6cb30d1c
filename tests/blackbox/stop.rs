//! A stop while peers are talking: what one of them has begun is finished, on listeners of every kind.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use super::harness::event::TARGET;
use super::harness::tls::{Authority, client_config_of};
use super::harness::*;

const NAME: &str = "hooks.example";
const PROXY_HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n";

/// The listeners of a hookward, in the order of its configuration.
#[derive(Debug, Clone, Copy)]
enum Way {
    Plain,
    Tls,
    Unix,
    Proxied,
}

const WAYS: [Way; 4] = [Way::Plain, Way::Tls, Way::Unix, Way::Proxied];

/// A hookward that listens in every way.
struct Everywhere {
    _sink: Sink,
    ca: Authority,
    hookward: Hookward,
}

impl Everywhere {
    fn start(yaml: &str) -> Everywhere {
        let (sink, ca) = (Sink::start(), Authority::new());
        let setup = Setup::new(&sink).without_flag("--listen");
        let issued = ca.issue(NAME);
        let file = |name: &str, text: &str| {
            let path = setup.dir().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (cert, key) = (file("tls.crt", &issued.cert_pem), file("tls.key", &issued.key_pem));
        let socket = setup.dir().join("in.sock").display().to_string();
        let listen = format!(
            "listen:\n- {{ address: \"127.0.0.1:0\" }}\n\
             - {{ address: \"127.0.0.1:0\", tls: {{ cert: {cert}, key: {key} }} }}\n\
             - {{ address: \"unix:{socket}\" }}\n\
             - {{ address: \"127.0.0.1:0\", proxy_protocol: required }}\n\
             client_ip: {{ trusted_proxies: [127.0.0.1] }}\n"
        );
        let hookward = setup.config(&format!("{listen}{yaml}")).start();
        Everywhere { _sink: sink, ca, hookward }
    }

    fn at(&self, way: Way) -> &At {
        &self.hookward.listeners[way as usize]
    }

    /// A connection that can carry requests.
    fn try_connect(&self, way: Way) -> io::Result<Wire> {
        match (way, self.at(way)) {
            // With 1.3 something would come after the handshake, which a peer cannot tell from the end.
            (Way::Tls, at) => {
                let config = client_config_of(&self.ca.pem, None, &[&rustls::version::TLS12]);
                Wire::try_connect_tls(at.tcp(), config, NAME, b"")
            }
            (_, At::Unix(path)) => Wire::try_connect_unix(path),
            (_, At::Tcp(address)) => {
                let mut wire = Wire::try_connect(*address)?;
                if matches!(way, Way::Proxied) {
                    wire.try_send(PROXY_HEADER)?;
                }
                Ok(wire)
            }
        }
    }

    fn connect(&self, way: Way) -> Wire {
        self.try_connect(way).unwrap_or_else(|error| panic!("{way:?}: {error}"))
    }

    /// Sends the signal and waits until nobody new gets in.
    fn begin_to_stop(&self) {
        self.hookward.sigterm();
        poll("nobody new gets in", || self.try_connect(Way::Unix).is_err().then_some(()));
    }
}

/// What came of the requests of many peers.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    let_go: AtomicUsize,
    lost: Mutex<Vec<String>>,
}

/// A peer as proxies are: sends one request after the other over a connection until it hears of its end, and then
/// makes another, until it cannot.
fn send_until_refused(everywhere: &Everywhere, way: Way, bytes: impl Fn() -> Vec<u8>, tally: &Tally) {
    while let Ok(mut wire) = everywhere.try_connect(way) {
        while !wire.has_news() {
            let answer = match wire.try_send(bytes()).and_then(|()| wire.try_answer()) {
                Ok(Some(answer)) if answer.status == 200 => answer,
                other => {
                    tally.lost.lock().unwrap().push(format!("{way:?}: {other:?}"));
                    break;
                }
            };
            tally.answered.fetch_add(1, Ordering::Relaxed);
            if answer.header("connection") == Some("close") {
                tally.let_go.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// Two peers on each way send without a pause while it stops.
fn assert_nothing_is_lost(yaml: &str, bytes: fn() -> Vec<u8>) {
    const BEFORE_THE_STOP: usize = 300;
    let mut everywhere = Everywhere::start(yaml);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for way in [WAYS, WAYS].concat() {
            let (everywhere, tally) = (&everywhere, &tally);
            scope.spawn(move || send_until_refused(everywhere, way, bytes, tally));
        }
        poll("they are sending", || (tally.answered.load(Ordering::Relaxed) >= BEFORE_THE_STOP).then_some(()));
        everywhere.hookward.sigterm();
    });
    let lost = tally.lost.into_inner().unwrap();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), tally.answered.into_inner());
    let let_go = tally.let_go.into_inner();
    assert!(let_go >= 2 * WAYS.len(), "{let_go} connections were let go of by an answer");
    assert_eq!(everywhere.hookward.wait_exit(), Some(0), "{}", everywhere.hookward.stderr());
}

#[test]
fn peers_that_keep_their_connections_lose_nothing_over_a_stop() {
    assert_nothing_is_lost("", || event().bytes());
}

#[test]
fn peers_that_keep_their_connections_lose_nothing_over_a_stop_with_a_delay() {
    assert_nothing_is_lost("shutdown: { delay: 300ms }\n", || event().bytes());
}

#[test]
fn peers_that_speak_http_1_0_lose_nothing_over_a_stop() {
    assert_nothing_is_lost("", || event().bytes_of_http_1_0());
}

#[test]
fn a_header_of_which_half_is_there_at_the_stop_is_read_to_its_end() {
    let mut everywhere = Everywhere::start("");
    let request = event().bytes();
    let mut wires: Vec<(Way, Wire)> = Vec::new();
    for way in WAYS {
        let mut used = everywhere.connect(way);
        assert_eq!(used.ask(&event()).status, 200);
        for (mut wire, half) in [(everywhere.connect(way), 1), (used, 40)] {
            wire.send(&request[..half]);
            wires.push((way, wire));
        }
    }
    let halves: Vec<usize> = wires.iter().enumerate().map(|(n, _)| if n % 2 == 0 { 1 } else { 40 }).collect();
    everywhere.begin_to_stop();
    // Longer than a silent connection is kept.
    std::thread::sleep(Duration::from_millis(1_500));
    for ((way, wire), half) in wires.iter_mut().zip(halves) {
        wire.send(&request[half..]);
        let answer = wire.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{way:?} from {half}");
    }
    assert_eq!(everywhere.hookward.wait_exit(), Some(0), "{}", everywhere.hookward.stderr());
}

#[test]
fn a_handshake_and_a_proxy_header_under_way_at_the_stop_are_finished() {
    let mut everywhere = Everywhere::start("");
    let (begun, stopping) = (Barrier::new(2), Barrier::new(2));
    let mut proxied = Wire::connect(everywhere.at(Way::Proxied).tcp());
    proxied.send(&PROXY_HEADER[..7]);
    std::thread::scope(|scope| {
        let shaking = scope.spawn(|| {
            Wire::connect_tls_in_halves(everywhere.at(Way::Tls).tcp(), &everywhere.ca.pem, NAME, || {
                begun.wait();
                stopping.wait();
            })
        });
        begun.wait();
        everywhere.hookward.await_metric("hookward_connections", &[], 2.0);
        everywhere.begin_to_stop();
        std::thread::sleep(Duration::from_millis(1_500));
        stopping.wait();
        assert_eq!(shaking.join().unwrap().ask(&event()).status, 200);
        proxied.send(&PROXY_HEADER[7..]);
        assert_eq!(proxied.ask(&event()).status, 200);
    });
    assert_eq!(everywhere.hookward.wait_exit(), Some(0), "{}", everywhere.hookward.stderr());
}

#[test]
fn who_is_connected_before_the_stop_is_served_although_nobody_has_looked_yet() {
    for way in [Way::Plain, Way::Unix] {
        let mut everywhere = Everywhere::start("");
        everywhere.hookward.signal(Signal::STOP);
        let mut wires: Vec<Wire> = (0..20).map(|_| everywhere.connect(way)).collect();
        wires.iter_mut().for_each(|wire| wire.send(event().bytes()));
        everywhere.hookward.sigterm();
        everywhere.hookward.signal(Signal::CONT);
        for (n, mut wire) in wires.into_iter().enumerate() {
            assert_eq!(wire.try_answer().ok().flatten().map(|answer| answer.status), Some(200), "{way:?} {n}");
        }
        assert_eq!(everywhere.hookward.wait_exit(), Some(0), "{}", everywhere.hookward.stderr());
    }
}

#[test]
fn over_a_passed_socket_who_is_not_served_before_the_end_is_served_by_the_next_process() {
    let sink = Sink::start();
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&sink);
    let mut hookward = setup.start_with_passed(OwnedFd::from(passed.try_clone().unwrap()));
    let connect = |hookward: &Hookward| {
        let mut wire = hookward.connect();
        wire.send(event().bytes());
        wire
    };
    hookward.signal(Signal::STOP);
    let mut wires: Vec<Wire> = (0..20).map(|_| connect(&hookward)).collect();
    hookward.sigterm();
    hookward.signal(Signal::CONT);
    assert_eq!(hookward.wait_exit(), Some(0), "{}", hookward.stderr());
    wires.push(connect(&hookward));
    let _next = setup.start_with_passed(OwnedFd::from(passed));
    for (n, mut wire) in wires.into_iter().enumerate() {
        assert_eq!(wire.answer().status, 200, "{n}");
    }
}

#[test]
fn what_was_sent_ahead_is_answered_before_the_connection_ends() {
    let everywhere = Everywhere::start("shutdown: { delay: 60s }\n");
    let mut wire = everywhere.connect(Way::Plain);
    everywhere.hookward.sigterm();
    poll("not ready", || (everywhere.hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    wire.send([event().bytes(), event().bytes()].concat());
    let answers: Vec<_> = (0..2).map(|_| wire.answer()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(answers[1].header("connection"), Some("close"));
    assert_eq!(wire.end(), b"");
}

#[test]
fn a_drain_lets_go_of_connections_by_their_next_answer_and_refuses_each_once_afterwards() {
    let everywhere = Everywhere::start("shutdown: { delay: 3s }\n");
    let versions = [Request::bytes as fn(&Request) -> Vec<u8>, |request| request.clone().bytes_of_http_1_0()];
    let open = || WAYS.map(|way| versions.map(|version| (version, everywhere.connect(way)))).into_iter().flatten();
    let (early, late): (Vec<_>, Vec<_>) = (open().collect(), open().collect());
    let asked = |(version, mut wire): (fn(&Request) -> Vec<u8>, Wire)| {
        wire.send(version(&event()));
        let answer = wire.answer();
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        assert_eq!(wire.end(), b"");
        answer
    };
    assert_eq!(everywhere.hookward.admin_socket(&Request::post("/api/v1/drain").body("{}")).status, 202);
    early.into_iter().for_each(|connection| assert_eq!(asked(connection).status, 200));
    poll("refused", || (everywhere.hookward.post(&event()).status == 503).then_some(()));
    late.into_iter().for_each(|connection| assert_refused(&asked(connection), 503, "draining"));
}

#[test]
fn an_answer_of_the_app_says_too_that_the_connection_ends() {
    let (sink, mut hookward) = pair_with("routes: [ { name: hooks, path: \"/*\", mode: proxy } ]\nunmatched: pass\n");
    sink.behave(|_| Reply::Hold);
    let mut wire = hookward.connect();
    wire.send(event().target(TARGET).bytes());
    sink.first();
    hookward.sigterm();
    poll("not ready", || (hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    sink.release();
    let answer = wire.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(hookward.wait_exit(), Some(0), "{}", hookward.stderr());
}
