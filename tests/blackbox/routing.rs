//! Which route a request takes, and what has none.

use super::harness::*;

const ONE_PATH: &str = "
routes:
  - name: hooks
    path: /webhooks
";

#[test]
fn an_exact_path_takes_itself_with_any_query_and_nothing_else() {
    let (sink, hookward) = pair_with(ONE_PATH);
    let others = [
        "/webhooks/",
        "/webhooks2",
        "/webhook",
        "/Webhooks",
        "//webhooks",
        "/webhooks//",
        "/%77ebhooks",
        "/webhooks%2f",
        "/x/../webhooks",
        "/./webhooks",
        "/webhooks;a=b",
        "/webhooks/..",
        "/",
    ];
    for target in others {
        assert_refused(&hookward.post(&event().target(target)), 404, "no_route");
    }
    let labels = [("route", "none"), ("reason", "no_route")];
    hookward.await_metric("hookward_rejections_total", &labels, others.len() as f64);
    assert_nothing_arrived_at("/webhooks?x=1", &hookward, &sink);
    hookward.await_metric("hookward_requests_total", &[("route", "hooks"), ("outcome", "accepted")], 1.0);
    hookward.await_metric("hookward_requests_total", &[("route", "none"), ("outcome", "rejected")], 13.0);
}

#[test]
fn the_longest_match_wins_and_each_route_has_its_own_upstream() {
    let (all, inner, exact) = (Sink::start(), Sink::start(), Sink::start());
    let yaml = format!(
        "
routes:
  - {{ name: all, path: \"/*\" }}
  - {{ name: inner, path: \"/a/*\", upstream: {{ url: \"{}\" }} }}
  - {{ name: exact, path: /a/b, upstream: {{ url: \"{}\" }} }}
",
        inner.url(),
        exact.url()
    );
    let hookward = Setup::new(&all).config(&yaml).start();
    for (target, name, sink) in
        [("/x", "all", &all), ("/a/c", "inner", &inner), ("/a/b", "exact", &exact), ("/a/b/c", "inner", &inner)]
    {
        let before = sink.count();
        assert_eq!(hookward.post(&event().target(target)).status, 200, "{target}");
        assert_eq!(sink.wait_for(before + 1).pop().unwrap().target, target);
        let labels = [("route", name), ("outcome", "accepted")];
        hookward.await_metrics(name, |metrics| metrics.value("hookward_requests_total", &labels) >= 1.0);
    }
    assert_eq!((all.count(), inner.count(), exact.count()), (1, 2, 1));
}

#[test]
fn another_method_is_405_and_says_which_one_is_taken() {
    let (sink, hookward) = pair();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post"] {
        let answer = hookward.post(&event().method(method));
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}: {answer:?}");
        if method == "HEAD" {
            assert!(answer.body.is_empty() && answer.header("hookward-request-id").is_some());
        } else {
            assert_refused(&answer, 405, "method_not_allowed");
        }
    }
    hookward.await_metric("hookward_rejections_total", &[("reason", "method_not_allowed")], 9.0);
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn a_route_may_take_other_methods_that_carry_a_body() {
    let (sink, hookward) = pair_with("routes: [ { name: hooks, path: \"/*\", methods: [POST, PUT] } ]\n");
    assert_eq!(hookward.post(&event().method("PUT")).status, 200);
    assert_eq!(sink.first().method, "PUT");
    let answer = hookward.post(&event().method("PATCH"));
    assert_refused(&answer, 405, "method_not_allowed");
    let allow = answer.header("allow").unwrap();
    assert!(allow.contains("POST") && allow.contains("PUT"), "{allow}");
}

#[test]
fn no_route_comes_before_the_method_and_the_method_before_the_address() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(ONE_PATH).start();
    assert_refused(&hookward.post(&Request::get("/elsewhere")), 404, "no_route");
    assert_refused(&hookward.post(&Request::get("/webhooks")), 405, "method_not_allowed");
    assert_refused(&hookward.post(&event().target("/webhooks")), 403, "ip_denied");
}

#[test]
fn the_path_may_come_from_the_flag() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--path", "/hooks/*").another("--path", "/one").start();
    for (target, status) in [("/hooks/a", 200), ("/one", 200), ("/two", 404), ("/hooks", 404)] {
        assert_eq!(hookward.post(&event().target(target)).status, status, "{target}");
    }
    assert_eq!(sink.wait_for(2).len(), 2);
}

#[test]
fn each_route_has_its_own_keys_and_allowlist() {
    let other = ed25519_dalek::SigningKey::from_bytes(&[8; 32]);
    let yaml = format!(
        "
routes:
  - name: first
    path: /first
  - name: second
    path: /second
    keys: [ {{ name: other, value: \"{}\" }} ]
  - name: third
    path: /third
    ip_allowlist: {{ sources: [203.0.113.0/24] }}
",
        event::public_key_of(&other)
    );
    let (sink, hookward) = pair_with(&yaml);
    let by_other = || event::signed_by(&other, now_s(), body(&new_id()));
    assert_refused(&hookward.post(&by_other().target("/first")), 403, "signature_mismatch");
    assert_refused(&hookward.post(&event().target("/second")), 403, "signature_mismatch");
    assert_refused(&hookward.post(&event().target("/third")), 403, "ip_denied");
    assert_eq!(hookward.post(&by_other().target("/second")).status, 200);
    assert_eq!(sink.first().header("hookward-verified"), "telnyx; key=other");
    let labels = [("route", "second"), ("reason", "signature_mismatch")];
    hookward.await_metric("hookward_rejections_total", &labels, 1.0);
}
