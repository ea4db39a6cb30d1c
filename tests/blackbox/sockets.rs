//! Where it listens: unix sockets, several listeners, IPv6, sockets that systemd passes, and what
//! systemd is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use super::harness::*;

fn socket_of(setup: &Setup) -> PathBuf {
    setup.dir().join("in.sock")
}

/// On a unix socket in the test's directory, with further keys of the listener.
fn on_a_socket(sink: &Sink, keys: &str) -> Setup {
    let setup = Setup::new(sink).without_flag("--listen");
    let path = socket_of(&setup);
    setup.config(&format!("listen: [ {{ address: \"unix:{}\"{keys} }} ]\n", path.display()))
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn events_come_over_a_unix_socket_which_is_gone_at_the_end() {
    let sink = Sink::start();
    let mut hookward = on_a_socket(&sink, "").start();
    let path = socket_of(hookward.setup());
    assert_eq!(hookward.listeners, [At::Unix(path.clone())]);
    assert_eq!(mode_of(&path), 0o660, "the user and the group");
    let mut wire = Wire::connect_unix(&path);
    for _ in 0..2 {
        let id = new_id();
        assert_accepted(&wire.ask(&signed(body(&id))), &id);
    }
    sink.wait_for(2);
    assert_refused(&hookward.post(&forged()), 403, "signature_mismatch");
    hookward.stop();
    assert!(!path.exists());
    assert_eq!(wire.end(), b"");
}

#[test]
fn a_unix_socket_has_the_mode_that_is_written() {
    let sink = Sink::start();
    for (text, mode) in [("\"0600\"", 0o600), ("0666", 0o666)] {
        let hookward = on_a_socket(&sink, &format!(", mode: {text}")).start();
        assert_eq!(mode_of(&socket_of(hookward.setup())), mode);
        assert_eq!(hookward.post(&event()).status, 200);
    }
}

#[test]
fn a_peer_on_a_unix_socket_is_nobody_unless_trusted_to_name_the_client() {
    let sink = Sink::start();
    let forwarded = event().header("X-Forwarded-For", "192.76.120.200");
    let untrusted = on_a_socket(&sink, "").without_flag("--ip-allowlist").start();
    assert_refused(&untrusted.post(&forwarded), 403, "client_ip_undetermined");
    let trusted = on_a_socket(&sink, "").without_flag("--ip-allowlist").flag("--trusted-proxy", "unix").start();
    assert_refused(&trusted.post(&event()), 403, "client_ip_undetermined");
    assert_eq!(trusted.post(&forwarded).status, 200);
}

#[test]
fn proxy_headers_over_a_unix_socket_need_unix_to_be_trusted() {
    let sink = Sink::start();
    let setup = on_a_socket(&sink, ", proxy_protocol: required").without_flag("--ip-allowlist");
    let hookward = setup.flag("--trusted-proxy", "unix").start();
    let mut wire = hookward.connect();
    wire.send(b"PROXY TCP4 192.76.120.200 192.0.2.1 4711 443\r\n");
    assert_eq!(wire.ask(&event()).status, 200);
    assert_refused(&hookward.raw(event().bytes()), 400, "bad_request");
}

#[test]
fn a_socket_that_a_killed_run_has_left_is_replaced() {
    let sink = Sink::start();
    let mut hookward = on_a_socket(&sink, "").start();
    hookward.kill9();
    assert!(socket_of(hookward.setup()).exists());
    hookward.start_again();
    post_sentinel(&hookward, &sink);
}

#[test]
fn a_socket_that_somebody_serves_or_a_file_is_left_alone_and_named() {
    let sink = Sink::start();
    let setup = on_a_socket(&sink, "");
    let path = socket_of(&setup);
    let other = UnixListener::bind(&path).unwrap();
    let finished = setup.run_to_end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let named = |text: &str| text.contains(&*path.to_string_lossy());
    assert!(named(&finished.stderr) && finished.stderr.contains("stop what listens there"), "{finished:?}");
    drop(Wire::connect_unix(&path));
    drop(other);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let finished = setup.run_to_end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(named(&finished.stderr) && finished.stderr.contains("not a socket"), "{finished:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn several_listeners_are_named_and_served_in_the_order_of_the_file() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--listen");
    let path = socket_of(&setup);
    let yaml = format!(
        "listen: [ {{ address: \"[::1]:0\" }}, {{ address: \"unix:{}\" }}, {{ address: 127.0.0.1:0 }} ]\n",
        path.display()
    );
    let hookward = setup.config(&yaml).start();
    let [At::Tcp(v6), At::Unix(unix), At::Tcp(v4)] = hookward.listeners.as_slice() else {
        panic!("{:?}", hookward.listeners)
    };
    assert!(v6.is_ipv6() && *unix == path && v4.is_ipv4());
    for (index, at) in hookward.listeners.iter().enumerate() {
        assert_eq!(at.connect().ask(&event()).status, 200);
        sink.wait_for(index + 1);
    }
}

#[test]
fn the_flag_takes_unix_sockets_too() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let path = socket_of(&setup);
    let flag = format!("unix:{}", path.display());
    let hookward = setup.another("--listen", &flag).start();
    assert!(matches!(&hookward.listeners[..], [At::Tcp(_), At::Unix(unix)] if *unix == path));
    assert_eq!(hookward.listeners[1].connect().ask(&event()).status, 200);
}

#[test]
fn the_wildcard_of_ipv6_takes_ipv4_too_and_knows_its_addresses() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).flag("--listen", "[::]:0").flag("--ip-allowlist", "127.0.0.1");
    let hookward = setup.start();
    let port = hookward.listen().port();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(Wire::connect(v4).ask(&event()).status, 200, "::ffff:127.0.0.1 is 127.0.0.1");
    assert_eq!(sink.first().header("x-forwarded-for"), "127.0.0.1");
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    assert_refused(&Wire::connect(v6).ask(&event()), 403, "ip_denied");
}

#[test]
fn a_passed_tcp_socket_takes_the_place_of_the_first_listener_and_its_settings() {
    let sink = Sink::start();
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let setup = Setup::new(&sink).without_flag("--listen").without_flag("--ip-allowlist");
    // Nobody could bind the first of these.
    let yaml = "
listen: [ { address: 192.0.2.1:443, proxy_protocol: required }, { address: 127.0.0.1:0 } ]
client_ip: { trusted_proxies: [127.0.0.0/8] }
";
    let hookward = setup.config(yaml).start_with_passed(OwnedFd::from(passed));
    assert_eq!(hookward.listeners[0], At::Tcp(address));
    assert_eq!(hookward.listeners.len(), 2);
    let mut wire = hookward.connect();
    wire.send(b"PROXY TCP4 192.76.120.200 192.0.2.1 4711 443\r\n");
    assert_eq!(wire.ask(&event()).status, 200);
    let second = event().header("X-Forwarded-For", "192.76.120.200");
    assert_eq!(hookward.listeners[1].connect().ask(&second).status, 200, "the second is bound as written");
    sink.wait_for(2);
}

#[test]
fn a_passed_unix_socket_is_served_as_it_is_and_stays() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let path = socket_of(&setup);
    let passed = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mut hookward = setup.start_with_passed(OwnedFd::from(passed.try_clone().unwrap()));
    assert_eq!(hookward.listeners, [At::Unix(path.clone())], "in place of the flag's");
    post_sentinel(&hookward, &sink);
    assert_eq!(mode_of(&path), 0o640, "it is systemd's");
    hookward.stop();
    assert!(path.exists());
    // Who comes while nobody serves is served by the next.
    let mut early = Wire::connect_unix(&path);
    early.send(event().bytes());
    let next = hookward.setup().start_with_passed(OwnedFd::from(passed));
    assert_eq!(early.answer().status, 200);
    drop(next);
}

#[test]
fn a_passed_socket_whose_file_is_anothers_or_gone_is_served_all_the_same() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let path = socket_of(&setup);
    let passed = UnixListener::bind(&path).unwrap();
    let mut wire = Wire::connect_unix(&path);
    std::fs::remove_file(&path).unwrap();
    let _hookward = setup.start_with_passed(OwnedFd::from(passed));
    assert_eq!(wire.ask(&event()).status, 200);
}

#[test]
fn what_is_no_listening_stream_socket_is_refused_and_says_so() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let datagram = UnixDatagram::bind(setup.dir().join("datagram")).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for passed in [OwnedFd::from(datagram), OwnedFd::from(file)] {
        let mut process = setup.spawn_with_passed(passed);
        assert_eq!(process.wait_exit(), Some(1));
        assert!(process.stderr().contains("socket 1 of LISTEN_FDS"), "{}", process.stderr());
    }
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let path = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut piece = [0; 256];
        let read = manager.recv(&mut piece).unwrap();
        String::from_utf8_lossy(&piece[..read]).into_owned()
    };
    let mut hookward = setup.env("NOTIFY_SOCKET", &path.to_string_lossy()).start();
    assert_eq!(told().trim(), "READY=1");
    hookward.signal(rustix::process::Signal::HUP);
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(told().trim(), "READY=1");
    sink.behave(|_| Reply::Hold);
    assert_eq!(hookward.post(&event()).status, 200);
    sink.wait_for(1);
    hookward.sigterm();
    assert_eq!(told().trim(), "STOPPING=1", "while it still drains");
    sink.release();
    assert_eq!(hookward.wait_exit(), Some(0));
}

#[test]
fn a_service_manager_that_is_not_there_is_no_trouble() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let nowhere = setup.dir().join("nowhere");
    let hookward = setup.env("NOTIFY_SOCKET", &nowhere.to_string_lossy()).start();
    post_sentinel(&hookward, &sink);
}
