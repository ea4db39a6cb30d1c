//! Refusals of the gates, in contract §3's words; nothing of them reaches the app.

use super::harness::event::{FORGER, TARGET};
use super::harness::*;

const SIGNATURE: &str = "Telnyx-Signature-Ed25519";
const TIMESTAMP: &str = "Telnyx-Timestamp";

/// Refused so, counted so, and nothing came through.
fn refused(hookward: &Hookward, request: &Request, status: u16, reason: &str) -> Answer {
    let before = hookward.metrics().value("hookward_rejections_total", &[("reason", reason)]);
    let answer = hookward.post(request);
    assert_refused(&answer, status, reason);
    hookward.await_metric("hookward_rejections_total", &[("reason", reason)], before + 1.0);
    answer
}

#[test]
fn a_missing_or_empty_signature_is_signature_missing() {
    let (sink, hookward) = pair();
    refused(&hookward, &event().without(SIGNATURE), 403, "signature_missing");
    refused(&hookward, &event().replace(SIGNATURE, ""), 403, "signature_missing");
    refused(&hookward, &Request::post(TARGET).body("x"), 403, "signature_missing");
    for near in ["X-Telnyx-Signature-Ed25519", "Telnyx-Signature", "Signature-Ed25519"] {
        let signature = "A".repeat(86) + "==";
        refused(&hookward, &event().without(SIGNATURE).header(near, signature), 403, "signature_missing");
    }
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn a_signature_in_any_other_form_is_signature_malformed() {
    let (sink, hookward) = pair();
    let good = ::hookward::gate::signature::sign(&event::telnyx_key(), now_s(), b"x");
    let forms = [
        good.trim_end_matches('=').to_owned(),
        format!("{}==", "-_".repeat(43)),
        "ab".repeat(64),
        format!("{} {}", &good[..40], &good[40..]),
        format!("{good}="),
        format!("\"{good}\""),
        format!("v1{good}"),
        format!("{}==", "B".repeat(86)),
        "x".to_owned(),
        "x".repeat(4000),
    ];
    for form in forms {
        refused(&hookward, &event().replace(SIGNATURE, form), 403, "signature_malformed");
    }
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn what_no_key_signed_is_signature_mismatch() {
    let (sink, hookward) = pair();
    refused(&hookward, &forged(), 403, "signature_mismatch");
    let id = new_id();
    let genuine = signed(body(&id));
    let mut changed = body(&id);
    *changed.last_mut().unwrap() = b' ';
    refused(&hookward, &genuine.clone().body(changed), 403, "signature_mismatch");
    refused(&hookward, &genuine.clone().body(body(&id)[1..].to_vec()), 403, "signature_mismatch");
    refused(&hookward, &genuine.clone().body(""), 403, "signature_mismatch");
    let later = (now_s() + 1).to_string();
    refused(&hookward, &signed_at(now_s(), "x").replace(TIMESTAMP, later), 403, "signature_mismatch");
    let compact: serde_json::Value = serde_json::from_slice(&body(&id)).unwrap();
    refused(&hookward, &genuine.body(compact.to_string()), 403, "signature_mismatch");
    hookward.await_metric("hookward_requests_total", &[("outcome", "rejected")], 6.0);
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn a_missing_or_empty_timestamp_is_timestamp_missing() {
    let (sink, hookward) = pair();
    refused(&hookward, &event().without(TIMESTAMP), 403, "timestamp_missing");
    refused(&hookward, &event().replace(TIMESTAMP, ""), 403, "timestamp_missing");
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn a_timestamp_in_any_other_form_is_timestamp_malformed_even_if_it_was_signed() {
    let (sink, hookward) = pair();
    let now = now_s();
    let forms = [
        format!("0{now}"),
        format!("+{now}"),
        format!("-{now}"),
        format!("{now}.0"),
        format!("{now}e0"),
        format!("{now}s"),
        format!("0x{now:x}"),
        format!("{now}00000"),
        "1_700_000_000".to_owned(),
        "0".to_owned(),
        "NaN".to_owned(),
        "١٧٠٠٠٠٠٠٠٠".to_owned(),
    ];
    for form in forms {
        use base64::Engine as _;
        use ed25519_dalek::Signer as _;
        let message = ::hookward::gate::signature::signed_message(form.as_bytes(), b"x");
        let signature = event::telnyx_key().sign(&message).to_bytes();
        let signature = base64::engine::general_purpose::STANDARD.encode(signature);
        let request = event().body("x").replace(SIGNATURE, signature).replace(TIMESTAMP, form);
        refused(&hookward, &request, 403, "timestamp_malformed");
    }
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn what_is_genuine_but_old_or_early_is_told_by_how_much() {
    let (sink, hookward) = pair();
    for (offset_s, reason) in [
        (-301, "timestamp_stale"),
        (-86_400, "timestamp_stale"),
        (330, "timestamp_future"),
        (86_400, "timestamp_future"),
    ] {
        let answer = refused(&hookward, &signed_at(now_s() + offset_s, body(&new_id())), 403, reason);
        let skew_s = answer.json()["skew_s"].as_i64().unwrap();
        // Now minus timestamp; the clock goes on while the request is under way.
        assert!((-offset_s..-offset_s + 20).contains(&skew_s), "{answer:?}");
    }
    let answer = refused(&hookward, &signed_at(now_s() * 1000, "x"), 403, "timestamp_future");
    assert!(answer.json()["skew_s"].as_i64().unwrap() < -1_000_000_000, "milliseconds: {answer:?}");
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn only_a_genuine_timestamp_tells_its_skew() {
    let (_sink, hookward) = pair();
    let forger = ed25519_dalek::SigningKey::from_bytes(&FORGER);
    let answer = refused(&hookward, &event::signed_by(&forger, now_s() - 4000, "x"), 403, "signature_mismatch");
    assert_eq!(answer.json().as_object().unwrap().len(), 1, "{answer:?}");
}

#[test]
fn the_tolerance_may_be_set_on_each_side() {
    let yaml = "
routes:
  - name: hooks
    path: /*
    timestamp: { past: 20s, future: 100s }
";
    let (sink, hookward) = pair_with(yaml);
    refused(&hookward, &signed_at(now_s() - 21, "x"), 403, "timestamp_stale");
    refused(&hookward, &signed_at(now_s() + 120, "x"), 403, "timestamp_future");
    assert_eq!(hookward.post(&signed_at(now_s() + 90, "x")).status, 200);
    assert_eq!(hookward.post(&signed_at(now_s() - 1, "x")).status, 200);
    assert_eq!(sink.wait_for(2).len(), 2);
}

#[test]
fn two_signatures_or_two_timestamps_are_a_bad_request_even_if_equal() {
    let (sink, hookward) = pair();
    let now = now_s();
    let signature = ::hookward::gate::signature::sign(&event::telnyx_key(), now, b"x");
    let genuine = signed_at(now, "x");
    for (name, value) in [
        (SIGNATURE, signature.clone()),
        (SIGNATURE, String::new()),
        (SIGNATURE, "A".repeat(86) + "=="),
        (TIMESTAMP, now.to_string()),
        (TIMESTAMP, "1".to_owned()),
        ("telnyx-timestamp", String::new()),
    ] {
        refused(&hookward, &genuine.clone().header(name, value), 400, "bad_request");
    }
    refused(&hookward, &genuine.clone().replace(SIGNATURE, format!("{signature},{signature}")), 400, "bad_request");
    refused(&hookward, &genuine.replace(TIMESTAMP, format!("{now}, {now}")), 400, "bad_request");
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn an_address_off_the_allowlist_is_ip_denied_before_anything_else_is_looked_at() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").start();
    refused(&hookward, &event(), 403, "ip_denied");
    refused(&hookward, &event().header("X-Forwarded-For", "192.76.120.200"), 403, "ip_denied");
    refused(&hookward, &event().without(SIGNATURE), 403, "ip_denied");
    refused(&hookward, &event().header(SIGNATURE, "second"), 403, "ip_denied");
    assert_eq!(sink.count(), 0);
}

#[test]
fn an_allowlist_of_addresses_and_ranges_admits_those() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).flag("--ip-allowlist", "203.0.113.0/24");
    refused(&setup.start(), &event(), 403, "ip_denied");
    let hookward = setup.another("--ip-allowlist", "127.0.0.1").start();
    assert_nothing_arrived(&hookward, &sink);
}

#[test]
fn behind_a_trusted_proxy_the_rightmost_untrusted_address_counts() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--ip-allowlist").flag("--trusted-proxy", "127.0.0.0/8");
    let hookward = setup.another("--trusted-proxy", "10.0.0.0/8").start();
    let from = |chain: &str| event().header("X-Forwarded-For", chain);
    let mut admitted = 0;
    for chain in [
        "192.76.120.200",
        "6.6.6.6, 192.76.120.200",
        "garbage,192.76.120.200, 10.1.2.3",
        "::ffff:192.76.120.200",
        "192.76.120.200:4711",
    ] {
        assert_eq!(hookward.post(&from(chain)).status, 200, "{chain}");
        admitted += 1;
    }
    let lines = from("6.6.6.6").header("X-Forwarded-For", "192.76.120.200");
    assert_eq!(hookward.post(&lines).status, 200);
    admitted += 1;
    for chain in ["6.6.6.6", "192.76.120.200, 6.6.6.6", "192.76.120.200, 6.6.6.6, 10.1.2.3", "::1"] {
        refused(&hookward, &from(chain), 403, "ip_denied");
    }
    let lines = from("192.76.120.200").header("X-Forwarded-For", "6.6.6.6");
    refused(&hookward, &lines, 403, "ip_denied");
    // An alias with an underscore names nobody.
    refused(&hookward, &event().header("x_forwarded_for", "192.76.120.200"), 403, "client_ip_undetermined");
    assert_eq!(sink.wait_for(admitted).len(), admitted);
}

#[test]
fn a_trusted_proxy_that_names_nobody_usable_is_client_ip_undetermined() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--ip-allowlist").flag("--trusted-proxy", "127.0.0.0/8");
    let hookward = setup.start();
    refused(&hookward, &event(), 403, "client_ip_undetermined");
    for chain in ["", "unknown", "192.76.120.200,", "192.76.120.200, _hidden", "127.0.0.9", "1.2.3.4.5"] {
        refused(&hookward, &event().header("X-Forwarded-For", chain), 403, "client_ip_undetermined");
    }
    assert_eq!(sink.count(), 0);
}

#[test]
fn a_refusal_tells_nothing_about_the_event() {
    let (_sink, hookward) = pair();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let forger = ed25519_dalek::SigningKey::from_bytes(&FORGER);
    let known = refused(&hookward, &event::signed_by(&forger, now_s(), body(&id)), 403, "signature_mismatch");
    let unknown = refused(&hookward, &forged(), 403, "signature_mismatch");
    assert_eq!(known.body, unknown.body);
    let names = |answer: &Answer| answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&known), names(&unknown));
}
