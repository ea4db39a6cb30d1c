//! `report` mode: counted, passed, marked as unverified, and never looked up as a duplicate.

use super::harness::*;

fn route(settings: &str) -> (Sink, Hookward) {
    pair_with(&format!("routes:\n  - name: hooks\n    path: /*\n    {settings}\n"))
}

/// Passes twice, both times to the app, unverified, and counted under this reason.
fn passes_unverified(sink: &Sink, hookward: &Hookward, request: &Request, reason: &str) {
    let labels = [("route", "hooks"), ("reason", reason)];
    let before = hookward.metrics().value("hookward_would_reject_total", &labels);
    let at_sink = sink.count();
    for repeat in 1..=2 {
        let answer = hookward.post(request);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("accepted")), "{reason} {answer:?}");
        let received = sink.wait_for(at_sink + repeat).pop().unwrap();
        assert_eq!(received.header("hookward-verified"), "none", "{reason}");
        assert_eq!(received.body, request.body_bytes());
        assert!(!received.has("hookward-event-id"), "only a verified body names its event: {}", received.head());
    }
    hookward.await_metric("hookward_would_reject_total", &labels, before + 2.0);
    assert_eq!(hookward.metrics().value("hookward_rejections_total", &[]), 0.0);
}

/// What passes every check in earnest is as if nothing were only reported.
fn genuine_is_verified(sink: &Sink, hookward: &Hookward) {
    let (id, before) = (new_id(), sink.count());
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let received = sink.wait_for(before + 1).pop().unwrap();
    assert_eq!(received.header("hookward-verified"), "telnyx; key=key1");
    assert_eq!(received.event_id(), id);
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
}

#[test]
fn a_reported_signature_passes_unverified() {
    let (sink, hookward) = route("signature: report");
    passes_unverified(&sink, &hookward, &forged(), "signature_mismatch");
    let unsigned = event().without("Telnyx-Signature-Ed25519");
    passes_unverified(&sink, &hookward, &unsigned, "signature_missing");
    let malformed = event().replace("Telnyx-Signature-Ed25519", "hex");
    passes_unverified(&sink, &hookward, &malformed, "signature_malformed");
    genuine_is_verified(&sink, &hookward);
    let stale = signed_at(now_s() - 400, body(&new_id()));
    assert_refused(&hookward.post(&stale), 403, "timestamp_stale");
}

#[test]
fn a_reported_timestamp_passes_unverified() {
    let (sink, hookward) = route("timestamp: { mode: report }");
    passes_unverified(&sink, &hookward, &signed_at(now_s() - 400, body(&new_id())), "timestamp_stale");
    passes_unverified(&sink, &hookward, &signed_at(now_s() + 400, body(&new_id())), "timestamp_future");
    genuine_is_verified(&sink, &hookward);
    assert_refused(&hookward.post(&forged()), 403, "signature_mismatch");
}

#[test]
fn a_request_without_either_header_passes_where_both_are_reported() {
    let (sink, hookward) = route("signature: report\n    timestamp: { mode: report }");
    let bare = Request::post(event::TARGET).body(body(&new_id()));
    passes_unverified(&sink, &hookward, &bare, "signature_missing");
    hookward.await_metric("hookward_would_reject_total", &[("reason", "timestamp_missing")], 2.0);
    genuine_is_verified(&sink, &hookward);
}

#[test]
fn a_reported_address_passes_unverified() {
    let sink = Sink::start();
    let yaml = "routes: [ { name: hooks, path: \"/*\", ip_allowlist: { sources: [telnyx], mode: report } } ]\n";
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(yaml).start();
    passes_unverified(&sink, &hookward, &event(), "ip_denied");
    assert_refused(&hookward.post(&forged()), 403, "signature_mismatch");
}

#[test]
fn a_reported_address_that_cannot_be_found_out_passes_too() {
    let sink = Sink::start();
    let yaml = "routes: [ { name: hooks, path: \"/*\", ip_allowlist: { sources: [telnyx], mode: report } } ]\n";
    let setup = Setup::new(&sink).without_flag("--ip-allowlist").flag("--trusted-proxy", "127.0.0.0/8");
    let hookward = setup.config(yaml).start();
    passes_unverified(&sink, &hookward, &event(), "client_ip_undetermined");
    let named = signed(body("named")).header("X-Forwarded-For", "192.76.120.200");
    assert_accepted(&hookward.post(&named), "named");
    assert_eq!(sink.wait_for(3).pop().unwrap().header("hookward-verified"), "telnyx; key=key1");
}

#[test]
fn an_unverified_event_does_not_take_the_place_of_the_genuine_one() {
    let (sink, hookward) = route("signature: report");
    let id = new_id();
    let forger = ed25519_dalek::SigningKey::from_bytes(&event::FORGER);
    let forged = event::signed_by(&forger, now_s(), body(&id));
    assert_eq!(hookward.post(&forged).json()["status"], "accepted");
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    assert_eq!(hookward.post(&forged).json()["status"], "accepted");
    assert_duplicate(&hookward.post(&signed(body(&id))), &id);
    let received = sink.wait_for(3);
    let verified = received.iter().filter(|r| r.header("hookward-verified") != "none").count();
    assert_eq!((received.len(), verified), (3, 1));
}
