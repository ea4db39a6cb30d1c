//! Another configuration while requests come: by SIGHUP and by a changed file, all of it or nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ed25519_dalek::SigningKey;
use rustix::process::Signal;
use serde_json::Value;

use super::harness::event::{public_key, public_key_of, signed_by, telnyx_key};
use super::harness::tls::Authority;
use super::harness::*;

const SUCCESS: [(&str, &str); 1] = [("result", "success")];
const FAILURE: [(&str, &str); 1] = [("result", "failure")];

fn rewrite(hookward: &Hookward, yaml: &str) {
    // Into place at once, as an editor or a config management tool does it.
    let path = hookward.setup().dir().join("hookward.yaml");
    let new = path.with_extension("new");
    std::fs::write(&new, yaml).unwrap();
    std::fs::rename(&new, &path).unwrap();
}

/// Rewrites the configuration, sends SIGHUP and waits until it is in force.
fn reload(hookward: &Hookward, yaml: &str) {
    let before = hookward.metrics().value("hookward_config_reloads_total", &SUCCESS);
    rewrite(hookward, yaml);
    hookward.signal(Signal::HUP);
    hookward.await_metrics("reloaded", |metrics| metrics.value("hookward_config_reloads_total", &SUCCESS) > before);
}

fn config_status(hookward: &Hookward) -> Value {
    hookward.admin_socket(&Request::get("/api/v1/status")).json()["config"].clone()
}

/// Sends genuine events from several connections until told to stop; what was refused is kept.
struct Load {
    stop: Arc<AtomicBool>,
    next_key: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<Answer>>>,
}

impl Load {
    fn start(hookward: &Hookward, current: &SigningKey, next: &SigningKey) -> Load {
        let (stop, next_key, sent) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Load { stop, next_key, sent, threads: Vec::new() };
        for thread in 0..4 {
            let (stop, next_key, sent) = (load.stop.clone(), load.next_key.clone(), load.sent.clone());
            let (current, next, address) = (current.clone(), next.clone(), hookward.listen());
            load.threads.push(std::thread::spawn(move || {
                let mut refused = Vec::new();
                let mut wire = Wire::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    // During the overlap either key may sign.
                    let n = sent.load(Ordering::SeqCst);
                    let key = if next_key.load(Ordering::SeqCst) && n % 2 == thread % 2 { &next } else { &current };
                    // Half of them on a connection that lives through every reload.
                    if thread % 2 == 0 {
                        wire = Wire::connect(address);
                    }
                    let answer = wire.ask(&signed_by(key, now_s(), body(&new_id())));
                    if answer.status != 200 {
                        refused.push(answer);
                    }
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                refused
            }));
        }
        load
    }

    fn wait_for_more(&self, events: usize) {
        let until = self.sent.load(Ordering::SeqCst) + events;
        poll("the load goes on", || (self.sent.load(Ordering::SeqCst) >= until).then_some(()));
    }

    fn end(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

#[test]
fn keys_are_rotated_under_load_without_a_refused_genuine_event() {
    let (current, next) = (telnyx_key(), SigningKey::from_bytes(&[9; 32]));
    let key = |name: &str, key: &SigningKey| format!("{{ name: {name}, value: \"{}\" }}", public_key_of(key));
    let keys = |keys: &[String]| format!("routes: [ {{ name: hooks, keys: [ {} ] }} ]\n", keys.join(", "));
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--public-key");
    let hookward = setup.config(&keys(&[key("current", &current)])).start();
    let load = Load::start(&hookward, &current, &next);
    load.wait_for_more(50);
    reload(&hookward, &keys(&[key("current", &current), key("next", &next)]));
    load.next_key.store(true, Ordering::SeqCst);
    load.wait_for_more(100);
    // Reloads that change nothing, in the thick of it.
    for _ in 0..10 {
        reload(&hookward, &keys(&[key("current", &current), key("next", &next)]));
    }
    load.wait_for_more(100);
    let refused = load.end();
    assert!(refused.is_empty(), "{} refused, first {:?}", refused.len(), refused.first());
    let mut idle = hookward.connect();
    assert_eq!(idle.ask(&signed_by(&current, now_s(), body(&new_id()))).status, 200);
    reload(&hookward, &keys(&[key("next", &next)]));
    // The old key is out at once, on a connection that was open before, too.
    assert_refused(&idle.ask(&signed_by(&current, now_s(), body(&new_id()))), 403, "signature_mismatch");
    assert_eq!(hookward.post(&signed_by(&next, now_s(), body(&new_id()))).status, 200);
    let metrics = hookward.metrics();
    let of_key = |name| [("route", "hooks"), ("key", name), ("result", "valid")];
    let name = "hookward_signature_verifications_total";
    assert!(metrics.value(name, &of_key("next")) > 10.0, "the series goes on");
    assert_eq!(metrics.get(name, &of_key("current")), None, "it goes with its key");
}

#[test]
fn a_broken_configuration_keeps_the_old_one_and_says_so_everywhere() {
    let good = "routes: [ { name: hooks, path: /a } ]\n";
    let (_sink, hookward) = pair_with(good);
    let read_at = config_status(&hookward)["read_at"].clone();
    rewrite(&hookward, "routes: [ { name: hooks, path: b, mode: proxi } ]\nlimts: {}\n");
    hookward.signal(Signal::HUP);
    hookward.await_metric("hookward_config_reloads_total", &FAILURE, 1.0);
    assert_eq!(hookward.post(&event().target("/a")).status, 200);
    let status = config_status(&hookward);
    assert_eq!(status["read_at"], read_at, "the one in force is the old one");
    let refused = status["reload_refused"].as_str().unwrap();
    for words in ["routes[0].path", "did you mean", "`limits`", "proxi"] {
        assert!(refused.contains(words), "{words} in {refused}");
    }
    assert!(hookward.await_log("the old one stays in force").contains("routes[0].path"));
    assert_eq!(hookward.metrics().value("hookward_config_reloads_total", &SUCCESS), 0.0);

    reload(&hookward, &good.replace("/a", "/b"));
    assert_refused(&hookward.post(&event().target("/a")), 404, "no_route");
    assert_eq!(hookward.post(&event().target("/b")).status, 200);
    let status = config_status(&hookward);
    assert!(status["reload_refused"].is_null() && status["read_at"] != read_at, "{status}");
    let at = hookward.metrics().value("hookward_config_last_reload_success_timestamp_seconds", &[]);
    assert!((at - now_s() as f64).abs() < 20.0);
}

#[test]
fn routes_allowlists_proxies_and_limits_are_read_again() {
    let sink = Sink::start();
    let first = "client_ip: { trusted_proxies: [127.0.0.1] }\nroutes: [ { name: one, path: /one, ip_allowlist: { sources: [192.0.2.0/24] } } ]\n";
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(first).start();
    let from = |client: &str, target: &str| event().target(target).header("X-Forwarded-For", client);
    assert_eq!(hookward.post(&from("192.0.2.1", "/one")).status, 200);
    let second = "limits: { header_count: 12 }\nroutes: [ { name: two, path: /two, max_body: 1KiB, ip_allowlist: { sources: [127.0.0.0/8] } } ]\n";
    reload(&hookward, second);
    assert_refused(&hookward.post(&from("192.0.2.1", "/one")), 404, "no_route");
    assert_eq!(hookward.post(&from("192.0.2.1", "/two")).status, 200, "the peer counts: it is trusted no more");
    assert_refused(&hookward.post(&signed(vec![b'x'; 1025]).target("/two")), 413, "body_too_large");
    let many = (0..12).fold(event().target("/two"), |request, n| request.header(&format!("X-{n}"), "x"));
    assert_refused(&hookward.post(&many), 431, "headers_too_large");
    hookward.await_metric("hookward_requests_total", &[("route", "two"), ("outcome", "accepted")], 1.0);
    assert_eq!(hookward.metrics().get("hookward_requests_total", &[("route", "one")]), None, "its series are gone");
}

#[test]
fn bounds_of_the_whole_process_are_read_again() {
    let (_sink, hookward) = pair_with("routes: [ { name: hooks, max_body: 64KiB } ]\n");
    let mut first = hookward.connect();
    assert_eq!(first.ask(&signed(vec![b'x'; 60_000])).status, 200);
    let yaml = "limits: { connections: 1, body_memory: 64KiB, failed_signatures_per_client: 1/s }\n\
                routes: [ { name: hooks, max_body: 64KiB } ]\n";
    reload(&hookward, yaml);
    let busy = signed("busy");
    first.send(busy.head());
    hookward.await_metric("hookward_requests_in_flight", &[], 1.0);
    let mut second = hookward.connect();
    let _ = second.try_send(event().bytes());
    assert_refused(&second.answer(), 503, "overloaded");
    first.send(busy.framed_body());
    assert_eq!(first.answer().status, 200);
    (0..10).for_each(|_| assert_refused(&first.ask(&forged()), 403, "signature_mismatch"));
    assert!(hookward.metrics().value("hookward_signature_checks_in_turn_total", &[]) > 0.0);
    drop(first);
    hookward.await_metric("hookward_connections", &[], 0.0);
    reload(&hookward, "limits: { connections: 2 }\n");
    let _held = [hookward.connect(), hookward.connect()];
    let metrics = hookward.await_metric("hookward_connections", &[], 2.0);
    assert_eq!(metrics.value("hookward_connections_refused_total", &[]), 1.0);
}

#[test]
fn events_follow_their_route_to_another_app_and_wait_where_there_is_none() {
    let (old, new) = (Sink::start(), Sink::start());
    old.behave(|_| Reply::status(500));
    let config = |routes: &str| format!("{QUICK_RETRIES}{routes}\n");
    let to = |sink: &Sink| config(&format!("routes: [ {{ name: hooks, upstream: {{ url: \"{}\" }} }} ]", sink.url()));
    let hookward = Setup::without_upstream().config(&to(&old)).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    old.wait_for(2);
    // Another app is there now, and gets what the first one did not take.
    reload(&hookward, &to(&new));
    assert_eq!(new.first().event_id(), id);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);

    // The route goes away while an event waits: it is held, since no other app is named.
    new.behave(|_| Reply::status(500));
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    new.wait_until(|received| received.iter().any(|r| r.event_id() == id));
    let third = Sink::start();
    reload(
        &hookward,
        &config(&format!("routes: [ {{ name: other, path: /other, upstream: {{ url: \"{}\" }} }} ]", third.url())),
    );
    hookward.await_log("events of a route that is gone are held");
    assert_accepted(&hookward.post(&event().target("/other").replace("X", "y")), &third.first().event_id());
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 1.0);
    // And comes through once there is a top-level upstream.
    let fourth = Sink::start();
    let upstream = format!("upstream: {{ url: \"{}\" }}\nroutes: [ {{ name: other, path: /other }} ]", fourth.url());
    reload(&hookward, &config(&upstream));
    assert_eq!(fourth.first().event_id(), id);
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
}

#[test]
fn what_a_running_process_cannot_change_is_reported_and_the_rest_takes_effect() {
    let (_sink, hookward) = pair_with("routes: [ { name: a, path: /a } ]\n");
    let yaml = "buffer: { dedupe_entries: 5 }\nshutdown: { drain: 1s }\nlog: { level: warn }\n\
                routes: [ { name: b, path: /b, dedupe: { window: 48h } } ]\n";
    reload(&hookward, yaml);
    assert_eq!(hookward.post(&event().target("/b")).status, 200);
    let needs: Vec<_> = config_status(&hookward)["needs_restart"].as_array().unwrap().clone();
    assert_eq!(needs.len(), 4, "{needs:?}");
    assert!(needs.contains(&"buffer".into()) && needs.contains(&"shutdown".into()));
    reload(&hookward, &format!("{yaml}limits: {{ connections: 99 }}\n"));
    assert_eq!(config_status(&hookward)["needs_restart"], serde_json::json!(needs), "as long as it is not restarted");
    hookward.await_log("buffer has changed, which takes effect after a restart only");
    reload(&hookward, "routes: [ { name: b, path: /b } ]\n");
    assert_eq!(config_status(&hookward)["needs_restart"], serde_json::json!([]), "it is as it was at the start");
}

#[test]
fn a_gateway_without_a_buffer_refuses_a_route_that_needs_one() {
    let verify = "routes: [ { path: /decide, mode: verify } ]\n";
    let hookward = Setup::without_upstream().config(verify).start();
    rewrite(&hookward, "upstream: { url: \"http://127.0.0.1:1\" }\nroutes: [ { path: /hooks } ]\n");
    hookward.signal(Signal::HUP);
    hookward.await_metric("hookward_config_reloads_total", &FAILURE, 1.0);
    let refused = config_status(&hookward)["reload_refused"].clone();
    assert!(refused.as_str().unwrap().contains("restart"), "{refused}");
    assert_eq!(hookward.post(&event().target("/decide")).status, 200);
}

/// A directory as Kubernetes mounts a Secret: files hang on `..data`, which is swapped as a whole.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path) -> Mounted {
        let mounted = Mounted(dir.join("mounted"));
        std::fs::create_dir(&mounted.0).unwrap();
        mounted
    }

    fn swap(&self, version: &str, files: &[(&str, &str)]) {
        let dir = self.0.join(format!("..{version}"));
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
            let link = self.0.join(name);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(format!("..data/{name}"), link).unwrap();
            }
        }
        std::os::unix::fs::symlink(format!("..{version}"), self.0.join("..data_tmp")).unwrap();
        std::fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

#[test]
fn a_swapped_secret_is_noticed_without_a_signal_keys_and_certificates_alike() {
    let (sink, ca) = (Sink::start(), Authority::new());
    let (one, two) = (ca.issue_until("hooks.example", 2040), ca.issue_until("hooks.example", 2050));
    let next = SigningKey::from_bytes(&[9; 32]);
    let setup = Setup::new(&sink).without_flag("--listen").without_flag("--public-key");
    let mounted = Mounted::new(setup.dir());
    mounted.swap("v1", &[("key", &public_key()), ("tls.crt", &one.cert_pem), ("tls.key", &one.key_pem)]);
    let yaml = format!(
        "listen: [ {{ address: \"127.0.0.1:0\", tls: {{ cert: {}, key: {} }} }} ]\nroutes: [ {{ keys: [ {{ file: {} }} ] }} ]\n",
        mounted.path("tls.crt"),
        mounted.path("tls.key"),
        mounted.path("key")
    );
    let hookward = setup.config(&yaml).start();
    let connect = || Wire::connect_tls(hookward.listen(), &ca.pem, "hooks.example");
    let mut open = connect();
    assert_eq!(open.ask(&event()).status, 200);
    let until = |hookward: &Hookward| {
        let metrics = hookward.metrics();
        metrics.value("hookward_tls_certificate_not_after_timestamp_seconds", &[("listener", "127.0.0.1:0")])
    };
    let before = until(&hookward);

    // A key that is not the certificate's is refused, and everything stays.
    mounted.swap("v2", &[("key", &public_key()), ("tls.crt", &one.cert_pem), ("tls.key", &two.key_pem)]);
    hookward.await_metric("hookward_config_reloads_total", &FAILURE, 1.0);
    assert_eq!(connect().ask(&event()).status, 200);

    mounted.swap("v3", &[("key", &public_key_of(&next)), ("tls.crt", &two.cert_pem), ("tls.key", &two.key_pem)]);
    hookward.await_metric("hookward_config_reloads_total", &SUCCESS, 1.0);
    assert!(until(&hookward) > before + 5.0 * 365.0 * 86400.0, "the new certificate is shown");
    let genuine = signed_by(&next, now_s(), body(&new_id()));
    assert_eq!(open.ask(&genuine).status, 200, "the connection that was open goes on, under the new keys");
    assert_refused(&open.ask(&event()), 403, "signature_mismatch");
    assert_eq!(connect().ask(&signed_by(&next, now_s(), body(&new_id()))).status, 200);
}

#[test]
fn a_changed_configuration_file_is_noticed_without_a_signal() {
    let (_sink, hookward) = pair_with("routes: [ { path: /a } ]\n");
    rewrite(&hookward, "routes: [ { path: /b } ]\n");
    hookward.await_metric("hookward_config_reloads_total", &SUCCESS, 1.0);
    assert_eq!(hookward.post(&event().target("/b")).status, 200);
    // One that goes away is reported and changes nothing.
    std::fs::remove_file(hookward.setup().dir().join("hookward.yaml")).unwrap();
    hookward.await_metric("hookward_config_reloads_total", &FAILURE, 1.0);
    assert_eq!(hookward.post(&event().target("/b")).status, 200);
    rewrite(&hookward, "routes: [ { path: /c } ]\n");
    hookward.await_metric("hookward_config_reloads_total", &SUCCESS, 2.0);
    assert_eq!(hookward.post(&event().target("/c")).status, 200);
}

/// A route at `/NAME` whose events go to that app.
fn route_to(name: &str, app: &str) -> String {
    format!("{{ name: {name}, path: /{name}, upstream: {{ url: \"{app}\" }} }}")
}

#[test]
fn the_series_of_a_route_go_with_the_route_and_begin_at_zero_when_it_comes_back() {
    let mut down = Sink::start();
    down.stop();
    let app = Sink::start();
    let upstream = format!("{QUICK_RETRIES}upstream: {{ url: \"{}\" }}\n", app.url());
    let good = route_to("good", &app.url());
    let both = format!("{upstream}routes: [ {good}, {} ]\n", route_to("old", &down.url()));
    let hookward = Setup::without_upstream().config(&both).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id)).target("/old")), &id);
    hookward.await_metric("hookward_upstream_state", &[("route", "old")], 2.0);
    assert_eq!(hookward.post(&event().target("/good")).status, 200);
    app.wait_for(1);

    reload(&hookward, &format!("{upstream}routes: [ {good} ]\n"));
    // The event that waited is delivered, and counts for no route.
    app.wait_until(|received| received.iter().any(|received| received.event_id() == id));
    let delivered = [("route", "none"), ("result", "delivered")];
    let metrics = hookward.await_metric("hookward_delivery_attempts_total", &delivered, 1.0);
    assert_eq!(metrics.get("hookward_upstream_state", &[]), Some(0.0), "nobody's app is down");
    assert!(!hookward.admin(&Request::get("/metrics")).text().contains("\"old\""));
    let accepted = |route| [("route", route), ("outcome", "accepted")];
    assert_eq!(metrics.value("hookward_requests_total", &accepted("good")), 1.0, "it goes on");

    reload(&hookward, &both);
    let metrics = hookward.metrics();
    assert_eq!(metrics.value("hookward_requests_total", &accepted("old")), 0.0);
    assert_eq!(metrics.value("hookward_requests_total", &accepted("good")), 1.0);
}

#[test]
fn reloads_that_rename_routes_and_keys_leave_as_many_series_as_there_were() {
    let (_sink, hookward) = pair_with("");
    let key = public_key();
    let named = |generation: i32| {
        let route = |n: i32| {
            format!("{{ path: /{n}, name: g{generation}-{n}, keys: [ {{ name: k{generation}, value: \"{key}\" }} ] }}")
        };
        format!("routes: [ {} ]\n", (0..5).map(route).collect::<Vec<_>>().join(", "))
    };
    let series = || hookward.admin(&Request::get("/metrics")).text().lines().count();
    reload(&hookward, &named(0));
    let before = series();
    for generation in 1..=6 {
        reload(&hookward, &named(generation));
    }
    assert_eq!(series(), before);
}

#[test]
fn a_refused_configuration_is_a_state_and_leaves_no_series() {
    let proxy = "{ name: a, path: /a, mode: proxy }";
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config(&format!("routes: [ {proxy} ]\n")).start();
    let state =
        |metrics: &super::harness::metrics::Metrics| metrics.value("hookward_config_last_reload_successful", &[]);
    assert_eq!(state(&hookward.metrics()), 1.0, "a start counts");
    // The first route of mode ack wants a restart.
    rewrite(&hookward, &format!("routes: [ {proxy}, {{ name: b, path: /b }} ]\n"));
    hookward.signal(Signal::HUP);
    let metrics = hookward.await_metric("hookward_config_reloads_total", &FAILURE, 1.0);
    assert_eq!((state(&metrics), metrics.get("hookward_requests_total", &[("route", "b")])), (0.0, None));
    // A file that cannot be read is refused as well, and the old one put back ends it.
    rewrite(&hookward, "routes: nonsense\n");
    hookward.signal(Signal::HUP);
    assert_eq!(state(&hookward.await_metric("hookward_config_reloads_total", &FAILURE, 2.0)), 0.0);
    reload(&hookward, &format!("routes: [ {proxy} ]\n"));
    assert_eq!(state(&hookward.metrics()), 1.0);
}

#[test]
fn the_admin_token_is_read_again_and_a_refused_configuration_leaves_the_old_one() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let file = setup.dir().join("token");
    std::fs::write(&file, "first").unwrap();
    let yaml = format!("admin: {{ token: {{ file: {} }} }}\n", file.display());
    let hookward = setup.config(&yaml).start();
    let opens = |token: &str| {
        let request = Request::get("/api/v1/status").header("Authorization", format!("Bearer {token}"));
        hookward.admin(&request).status == 200
    };
    assert!(opens("first"));
    std::fs::write(&file, "second").unwrap();
    hookward.await_metric("hookward_config_reloads_total", &SUCCESS, 1.0);
    assert!(opens("second") && !opens("first"));
    assert_eq!(config_status(&hookward)["needs_restart"], serde_json::json!([]));
    std::fs::write(&file, "").unwrap();
    hookward.await_metric("hookward_config_reloads_total", &FAILURE, 1.0);
    assert!(opens("second"));
    reload(&hookward, "");
    assert!(!opens("second"), "without a token the API is on the socket only");
    std::fs::write(&file, "third").unwrap();
    reload(&hookward, &yaml);
    assert!(opens("third"));
}

#[test]
fn another_key_among_duplicates_takes_effect_and_makes_other_events_of_repeats() {
    let by = |key: &str| format!("routes: [{{ name: hooks, path: /*, dedupe: {{ key: {key} }} }}]\n");
    let (sink, hookward) = pair_with(&by("[form:CallSid, form:CallStatus]"));
    let status_of = |form: &str| hookward.post(&signed(form)).json()["status"].clone();
    assert_eq!(status_of("CallSid=c1&CallStatus=ringing"), "accepted");
    assert_eq!(status_of("CallSid=c1&CallStatus=ringing"), "duplicate");
    reload(&hookward, &by("[form:CallSid]"));
    assert_eq!(status_of("CallSid=c1&CallStatus=ringing"), "accepted");
    assert_eq!(status_of("CallSid=c1&CallStatus=completed"), "duplicate");
    assert_eq!(sink.wait_for(2).len(), 2);
}
