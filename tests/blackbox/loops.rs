//! Upstreams that lead back to hookward, and the `Via` by which a request is known that has been here.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::harness::*;

/// Sockets of instances that have to know one another's place before they start.
struct Places(TempDir);

impl Places {
    fn new() -> Places {
        Places(TempDir::with_prefix("hookward-loops-").unwrap())
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Listens at one of the sockets, and sends on to the other.
    fn setup(&self, name: &str, upstream: &str, more: &str) -> Setup {
        Setup::without_upstream()
            .flag("--listen", &format!("unix:{}", self.socket(name).display()))
            .config(&config(upstream, more))
    }

    fn url(&self, name: &str) -> String {
        format!("unix:{}", self.socket(name).display())
    }
}

fn config(upstream: &str, more: &str) -> String {
    format!("{QUICK_RETRIES}upstream: {{ url: \"{upstream}\" }}\n{more}")
}

/// A body without an event id: nothing but `Via` tells that it has been here.
fn nameless() -> Request {
    signed(b"CallSid=v3%3Aabc&CallStatus=completed".to_vec())
}

/// A front proxy that knows nothing of HTTP: connections to its TCP port end at a unix socket.
fn front_of(socket: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let socket = socket.to_owned();
    // Ends with the test's process.
    std::thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let Ok(far) = UnixStream::connect(&socket) else { continue };
            let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || carry(near, far));
            std::thread::spawn(move || carry(far_again, near_again));
        }
    });
    url
}

fn carry(mut from: impl Read, mut to: impl Write) {
    let _ = std::io::copy(&mut from, &mut to);
}

fn events(hookward: &Hookward) -> Vec<Value> {
    let listed = hookward.admin_socket(&Request::get("/api/v1/events")).json();
    listed["events"].as_array().unwrap().clone()
}

fn upstream_status(hookward: &Hookward) -> Value {
    hookward.admin_socket(&Request::get("/api/v1/status")).json()["upstream"][0].clone()
}

fn loops(hookward: &Hookward) -> f64 {
    hookward.metrics().value("hookward_delivery_loops_total", &[("route", "default")])
}

/// Waits until deliveries have come back this often.
fn await_loops(hookward: &Hookward, times: f64) {
    let series = "hookward_delivery_loops_total";
    hookward.await_metrics("loops", |metrics| metrics.value(series, &[("route", "default")]) >= times);
}

#[test]
fn an_event_that_comes_back_waits_and_says_why_until_the_upstream_is_right() {
    let places = Places::new();
    for upstream in [places.url("own"), front_of(&places.socket("own"))] {
        let hookward = places.setup("own", &upstream, "").start();
        assert_accepted_nameless(&hookward.post(&nameless()));
        let id = new_id();
        assert_accepted(&hookward.post(&signed(body(&id))), &id);
        await_loops(&hookward, 4.0);

        let metrics = hookward.metrics();
        assert_eq!(metrics.value("hookward_requests_total", &[("route", "default"), ("outcome", "accepted")]), 2.0);
        assert_eq!(metrics.value("hookward_requests_total", &[("route", "default"), ("outcome", "duplicate")]), 0.0);
        let refused = [("route", "default"), ("reason", "loop_detected")];
        assert!(metrics.value("hookward_rejections_total", &refused) >= 4.0);
        assert_eq!(metrics.value("hookward_delivery_attempts_total", &[("result", "delivered")]), 0.0);
        for event in events(&hookward) {
            assert_eq!(event["state"], "pending", "{event}");
            assert!(event["last_error"].as_str().unwrap().contains("leads back to hookward"), "{event}");
        }
        assert_eq!(upstream_status(&hookward)["problem"], "loop_detected");
        let told = hookward.await_log("its events wait").matches("its events wait").count();
        assert_eq!(told, 1, "{}", hookward.stderr());

        let sink = Sink::start();
        std::fs::write(hookward.setup().dir().join("hookward.yaml"), config(&sink.url(), "")).unwrap();
        hookward.signal(Signal::HUP);
        sink.wait_for(2);
        hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
        assert_eq!(upstream_status(&hookward)["problem"], Value::Null);
    }
}

#[test]
fn in_a_ring_of_replicas_each_event_waits_at_one_of_them_even_if_the_other_starts_again() {
    let places = Places::new();
    let mut first = places.setup("first", &places.url("second"), "").start();
    let second = places.setup("second", &places.url("first"), "").start();
    for _ in 0..3 {
        assert_eq!(first.post(&event()).status, 200);
    }
    assert_accepted_nameless(&first.post(&nameless()));
    await_loops(&second, 8.0);
    // What the first one has delivered it knows as duplicates; its name has to last as long.
    first.restart();
    await_loops(&second, loops(&second) + 8.0);
    for (hookward, waiting) in [(&first, 0), (&second, 4)] {
        let states: Vec<_> = events(hookward).iter().map(|event| event["state"].clone()).collect();
        assert_eq!(states.iter().filter(|state| **state == "pending").count(), waiting, "{states:?}");
        assert!(states.iter().all(|state| *state == "pending" || hookward.listeners == first.listeners), "{states:?}");
    }
}

#[test]
fn a_request_that_is_passed_in_a_circle_is_refused_at_its_first_return() {
    let places = Places::new();
    for route in ["mode: pass", "mode: proxy"] {
        let routes = format!("routes: [ {{ name: default, path: \"/*\", methods: [GET, POST], {route} }} ]\n");
        let routes = if route == "mode: proxy" { routes.replace("GET, ", "") } else { routes };
        let upstream = front_of(&places.socket("own"));
        let hookward = places.setup("own", &upstream, &routes).start();
        let mut requests = vec![event(), nameless()];
        if route == "mode: pass" {
            let upgrade = Request::get("/chat").header("Connection", "Upgrade").header("Upgrade", "websocket");
            requests.extend([Request::get("/"), upgrade]);
        }
        for (n, request) in requests.iter().enumerate() {
            let got = hookward.post(request);
            assert_eq!((got.status, got.reason().as_str()), (508, "loop_detected"), "{route} {n}: {got:?}");
        }
        let reason = [("route", "default"), ("reason", "loop_detected")];
        let once_each = f64::from(u32::try_from(requests.len()).unwrap());
        hookward.await_metric("hookward_rejections_total", &reason, once_each);
        hookward.await_metric("hookward_requests_total", &[("route", "default"), ("outcome", "passed")], once_each);
    }
}

#[test]
fn a_gateway_before_a_sidecar_is_no_loop_and_the_app_sees_both_in_via() {
    let places = Places::new();
    let sink = Sink::start();
    let sidecar = places.setup("sidecar", &sink.url(), "").start();
    let gateway = places.setup("gateway", &places.url("sidecar"), "").start();
    let id = new_id();
    assert_accepted(&gateway.post(&signed(body(&id)).header("Via", "1.1 Caddy")), &id);
    let via = sink.first().all("via");
    let hops: Vec<_> = via.iter().map(String::as_str).collect();
    let [caddy, of_gateway, of_sidecar] = hops[..] else { panic!("{hops:?}") };
    assert_eq!(caddy, "1.1 Caddy");
    assert!(of_gateway.starts_with("1.1 hookward-") && of_sidecar.starts_with("1.1 hookward-"), "{hops:?}");
    assert_ne!(of_gateway, of_sidecar);
    for hookward in [&gateway, &sidecar] {
        hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
        assert_eq!(loops(hookward), 0.0);
    }
}

#[test]
fn whatever_other_hops_write_into_via_a_genuine_event_is_taken_and_via_is_passed_on() {
    let (sink, mut hookward) = pair();
    let lines: [&[u8]; 7] = [
        b"",
        b",, ,",
        b"no list at all (\"",
        b"1.1 hookward-000000000000, 1.0 fred (a, b)",
        b"HTTP/1.1 proxy.example:80 (Varnish/7.1)",
        b"\xff\xfe\t,",
        b"hookward",
    ];
    for (n, line) in lines.iter().enumerate() {
        let id = new_id();
        let request = signed(body(&id)).header("Via", line).header("Connection", "Via");
        assert_accepted(&hookward.post(&request), &id);
        let received = sink.wait_for(n + 1).pop().unwrap();
        let via = received.all("via");
        assert_eq!(via.len(), 2, "{via:?}");
        assert_eq!(via[0], String::from_utf8_lossy(line.trim_ascii()));
    }
    let ours = |received: &Received| received.all("via").pop().unwrap();
    let name = ours(&sink.first());
    assert!(name.strip_prefix("1.1 hookward-").is_some_and(|hex| hex.len() == 12), "{name}");
    hookward.restart();
    let mut wire = hookward.connect();
    wire.send(String::from_utf8(event().bytes()).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1));
    assert_eq!(wire.answer().status, 200);
    let last = sink.wait_for(lines.len() + 1).pop().unwrap();
    assert_eq!(ours(&last), name.replacen("1.1", "1.0", 1), "the version is the one received, the name that of before");
}

#[test]
fn a_via_of_many_hookwards_is_a_loop_and_is_refused_before_the_body_is_read() {
    let (sink, hookward) = pair();
    let hops = |count: usize| (0..count).map(|n| format!("1.1 hookward-{n:012x}")).collect::<Vec<_>>().join(", ");
    assert_eq!(hookward.post(&event().header("Via", hops(8))).status, 200);
    sink.wait_for(1);
    let mut wire = hookward.connect();
    wire.send(event().header("Via", hops(9)).head());
    assert_refused(&wire.answer(), 508, "loop_detected");
}

#[test]
fn check_warns_where_an_upstream_is_a_public_listener() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("hookward.yaml");
    let key = event::public_key();
    let yaml = format!(
        "listen: [ {{ address: 0.0.0.0:8080 }} ]\nupstream: {{ url: \"http://localhost:8080\" }}\nroutes: [ {{ keys: [ {{ value: \"{key}\" }} ] }} ]\n"
    );
    std::fs::write(&file, yaml).unwrap();
    let checked = run_to_end(&["check", "--config", file.to_str().unwrap()]);
    let shown = format!("{}{}", checked.stdout, checked.stderr);
    assert_eq!(checked.code, Some(0), "{shown}");
    assert!(shown.contains("is the public listener 0.0.0.0:8080 of this configuration"), "{shown}");
}
