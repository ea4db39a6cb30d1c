//! Signed towards the app: contract §4.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::process::Signal;
use serde_json::Value;
use sha2::Sha256;

use ::hookward::clock::Clock as _;
use ::hookward::gate::keys::{NamedKey, parse_public_key};
use ::hookward::gate::signature::{parse_signature, signed_message, signer};

use super::harness::event::{FORGER, public_key, public_key_of, signed_by};
use super::harness::process::Finished;
use super::harness::*;

const SIGNATURE: &str = "telnyx-signature-ed25519";
const TIMESTAMP: &str = "telnyx-timestamp";
/// The example of the standard, and its bytes.
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What a forger might send along.
const WEBHOOK_HEADERS: [&str; 6] =
    ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "webhook_id", "webhook_timestamp", "webhook-signature"];

/// hookward's own key.
fn own_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn secret(key: &SigningKey) -> String {
    STANDARD.encode(key.as_bytes())
}

/// The keys of a top-level upstream that signs.
fn sign(scheme: &str, key: &str) -> String {
    format!("upstream: {{ sign: {{ scheme: {scheme}, key: {{ value: \"{key}\" }} }} }}\n")
}

/// Whether these are Telnyx's headers under this key, by the gates' own check, with a timestamp that
/// is not older than the test.
fn is_signed_now_by(public: &str, received: &Received) -> bool {
    let timestamp = received.header(TIMESTAMP);
    let age_s = now_s() - timestamp.parse::<i64>().unwrap();
    let signature = parse_signature(Some(received.header(SIGNATURE).as_bytes())).unwrap();
    let keys = [NamedKey { name: "app".into(), key: parse_public_key(public).unwrap() }];
    let message = signed_message(timestamp.as_bytes(), &received.body);
    (0..=DEADLINE.as_secs() as i64).contains(&age_s) && signer(&keys, &message, &signature).is_some()
}

/// `v1` of the standard, worked out here.
fn v1(received: &Received) -> String {
    let key = STANDARD.decode(WHSEC.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.", received.header("webhook-id"), received.header("webhook-timestamp")).as_bytes());
    mac.update(&received.body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn with_webhook_headers(request: Request) -> Request {
    WEBHOOK_HEADERS.iter().fold(request, |request, name| request.header(name, "of-the-sender"))
}

fn webhook_headers(received: &Received) -> Vec<&str> {
    let names = received.headers.iter().map(|(name, _)| name.as_str());
    names.filter(|name| name.to_ascii_lowercase().starts_with("webhook")).collect()
}

#[test]
fn every_attempt_carries_a_signature_of_its_own_time() {
    let sink = Sink::start();
    sink.replies([Reply::status(503), Reply::hang_up(), Reply::status(500)]);
    let routes = "routes: [ { name: hooks, timestamp: { past: 1h }, dedupe: { window: 2h } } ]\n";
    let yaml = format!("{QUICK_RETRIES}{routes}{}", sign("telnyx", &secret(&own_key())));
    let hookward = Setup::new(&sink).config(&yaml).start();
    // As old as if it had waited for ten minutes: its own signature is of no use any more.
    let id = new_id();
    assert_accepted(&hookward.post(&signed_at(now_s() - 600, body(&id))), &id);
    let received = sink.wait_for(4);
    for attempt in &received {
        assert!(is_signed_now_by(&public_key_of(&own_key()), attempt), "{}", attempt.head());
        assert!(!is_signed_now_by(&public_key(), attempt));
        assert_eq!(attempt.body, body(&id));
        assert_eq!(attempt.header("hookward-verified"), "telnyx; key=key1", "who verified it stays known");
    }
    assert_eq!(received.iter().map(Received::attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn what_waited_in_the_buffer_over_a_restart_is_signed_too() {
    let mut sink = Sink::start();
    let yaml = format!("{QUICK_RETRIES}{}", sign("telnyx", &secret(&own_key())));
    let mut hookward = Setup::new(&sink).config(&yaml).start();
    sink.stop();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    hookward.kill9();
    sink.start_again();
    hookward.start_again();
    let received = sink.first();
    assert_eq!(received.event_id(), id);
    assert!(is_signed_now_by(&public_key_of(&own_key()), &received), "{}", received.head());
}

#[test]
fn a_proxied_request_is_signed_and_what_passes_unverified_is_not() {
    let sink = Sink::start();
    let routes = "routes: [ { name: voice, path: /voice, mode: proxy }, { name: open, path: /open, mode: pass } ]\n\
                  unmatched: pass\n";
    let hookward = Setup::new(&sink).config(&format!("{routes}{}", sign("telnyx", &secret(&own_key())))).start();
    assert_eq!(hookward.post(&event().target("/voice")).status, 200);
    assert!(is_signed_now_by(&public_key_of(&own_key()), &sink.first()));
    for target in ["/open", "/elsewhere"] {
        let request = with_webhook_headers(signed_by(&SigningKey::from_bytes(&FORGER), now_s(), body("x")));
        let before = sink.count();
        assert_eq!(hookward.post(&request.target(target)).status, 200);
        let received = sink.wait_for(before + 1).pop().unwrap();
        assert!(!is_signed_now_by(&public_key_of(&own_key()), &received));
        assert!(is_signed_now_by(&public_key_of(&SigningKey::from_bytes(&FORGER)), &received), "as it came");
        assert_eq!(webhook_headers(&received).len(), WEBHOOK_HEADERS.len());
    }
}

#[test]
fn what_report_mode_lets_pass_has_no_signature_of_anybodys() {
    for (scheme, key, own) in [
        ("telnyx", secret(&own_key()), vec![SIGNATURE, TIMESTAMP]),
        ("standard-webhooks", WHSEC.to_owned(), vec!["webhook-id", "webhook-timestamp", "webhook-signature"]),
    ] {
        let sink = Sink::start();
        let routes = "routes: [ { name: hooks, signature: report, timestamp: { mode: report } } ]\n";
        let hookward = Setup::new(&sink).config(&format!("{routes}{}", sign(scheme, &key))).start();
        let unverified = [
            forged(),
            event().without("Telnyx-Signature-Ed25519"),
            // Genuine, and too old for any check that was made in earnest.
            signed_at(now_s() - 400, body(&new_id())),
        ];
        for (index, request) in unverified.into_iter().enumerate() {
            assert_eq!(hookward.post(&with_webhook_headers(request)).status, 200);
            let received = sink.wait_for(index + 1).pop().unwrap();
            assert_eq!(received.header("hookward-verified"), "none");
            for name in &own {
                assert!(!received.has(name), "{scheme}: {}", received.head());
            }
            let left = if scheme == "telnyx" { WEBHOOK_HEADERS.len() } else { 0 };
            assert_eq!(webhook_headers(&received).len(), left, "{}", received.head());
        }
        let before = sink.count();
        assert_eq!(hookward.post(&event()).status, 200);
        let verified = sink.wait_for(before + 1).pop().unwrap();
        for name in &own {
            assert!(verified.has(name), "{scheme}: {}", verified.head());
        }
    }
}

#[test]
fn standard_webhooks_come_beside_telnyxs_headers_with_one_id_for_all_attempts() {
    let sink = Sink::start();
    sink.replies([Reply::status(503), Reply::status(503)]);
    let hookward = Setup::new(&sink).config(&format!("{QUICK_RETRIES}{}", sign("standard-webhooks", WHSEC))).start();
    let id = new_id();
    let request = with_webhook_headers(signed(body(&id)));
    assert_accepted(&hookward.post(&request), &id);
    for received in sink.wait_for(3) {
        assert_eq!(received.header("webhook-id"), id);
        assert_eq!(received.header("webhook-signature"), v1(&received));
        let age_s = now_s() - received.header("webhook-timestamp").parse::<i64>().unwrap();
        assert!((0..=20).contains(&age_s), "{age_s}");
        assert_eq!(webhook_headers(&received).len(), 3, "of the sender's none: {}", received.head());
        assert!(is_signed_now_by(&public_key(), &received), "Telnyx's own signature stays");
    }
    // Without an id of its own the event goes by that of its delivery.
    let nameless = b"{}".to_vec();
    assert_accepted_nameless(&hookward.post(&signed(nameless)));
    let received = sink.wait_for(4).pop().unwrap();
    assert_eq!(received.header("webhook-id"), received.delivery_id());
    assert_eq!(received.header("webhook-signature"), v1(&received));
}

#[test]
fn an_event_that_waits_is_signed_with_the_key_in_force_when_its_attempt_begins() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(503));
    let setup = Setup::new(&sink);
    let path = setup.dir().join("app.key");
    std::fs::write(&path, format!("{}\n", secret(&own_key()))).unwrap();
    let sign = format!("upstream: {{ sign: {{ scheme: telnyx, key: {{ file: \"{}\" }} }} }}\n", path.display());
    let hookward = setup.config(&format!("{QUICK_RETRIES}{sign}")).start();
    assert_eq!(hookward.post(&event()).status, 200);
    assert!(is_signed_now_by(&public_key_of(&own_key()), &sink.first()));

    let next = SigningKey::from_bytes(&[10; 32]);
    let new = path.with_extension("new");
    std::fs::write(&new, secret(&next)).unwrap();
    std::fs::rename(&new, &path).unwrap();
    hookward.signal(Signal::HUP);
    sink.wait_until(|received| is_signed_now_by(&public_key_of(&next), received.last().unwrap()));

    // A key that is none leaves the one in force where it is.
    std::fs::write(&path, "hunter2").unwrap();
    hookward.signal(Signal::HUP);
    hookward.await_metric("hookward_config_reloads_total", &[("result", "failure")], 1.0);
    let count = sink.count();
    let last = sink.wait_for(count + 2).pop().unwrap();
    assert!(is_signed_now_by(&public_key_of(&next), &last));
    hookward.await_log("upstream.sign.key");
    assert!(!hookward.stderr().contains("hunter2"), "{}", hookward.stderr());
}

#[test]
fn an_app_with_another_key_is_named_as_the_cause_and_what_it_refused_is_signed_anew_when_it_is_redriven() {
    let sink = Sink::start();
    sink.replies([Reply::status(401)]);
    let retry = "delivery: { retry: { client_errors: 1 } }\n";
    let yaml = format!("{retry}{}", sign("telnyx", &secret(&own_key())));
    let hookward = Setup::new(&sink).flag("--log-level", "trace").config(&yaml).start();
    assert_eq!(hookward.post(&event()).status, 200);
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    let dead = hookward.admin_socket(&Request::get("/api/v1/events?state=dead")).json()["events"][0].clone();
    let why = dead["last_error"].as_str().unwrap();
    assert!(why.contains("401") && why.contains("is not what `hookward pubkey` prints"), "{why}");

    let redrive = Request::post(&format!("/api/v1/events/{}/redrive", dead["seq"])).body("{}");
    assert_eq!(hookward.admin_socket(&redrive).status, 202);
    let received = sink.wait_for(2);
    assert_eq!(received[1].header("hookward-replay"), "true");
    for attempt in &received {
        assert!(is_signed_now_by(&public_key_of(&own_key()), attempt), "{}", attempt.head());
        assert!(!hookward.stderr().contains(&attempt.header(SIGNATURE)), "no signature in any log");
    }
    assert!(!hookward.await_log("signed again").contains(&secret(&own_key())));
}

#[test]
fn an_event_that_waited_ten_minutes_on_a_test_clock_is_signed_as_of_its_attempt() {
    const RECEIVED_S: i64 = 1_700_000_000;
    let sink = Sink::start();
    sink.replies([Reply::status(503)]);
    let yaml = format!("{QUICK_RETRIES}{}", sign("telnyx", &secret(&own_key())));
    let hookward = OnTestClock::start(RECEIVED_S, &sink.url(), &yaml);
    let id = new_id();
    assert_accepted(&hookward.post(&signed_at(RECEIVED_S, body(&id))), &id);
    assert_eq!(sink.first().header(TIMESTAMP), RECEIVED_S.to_string());
    hookward.clock.advance(Duration::from_secs(600));
    hookward.advance_until_tried(&sink, 2);
    let received = sink.wait_for(2).pop().unwrap();
    let timestamp = received.header(TIMESTAMP);
    let waited_s = timestamp.parse::<i64>().unwrap() - RECEIVED_S;
    assert!((600..=hookward.clock.unix_ms() / 1000 - RECEIVED_S).contains(&waited_s), "{waited_s}");
    let signature = parse_signature(Some(received.header(SIGNATURE).as_bytes())).unwrap();
    let message = signed_message(timestamp.as_bytes(), &received.body);
    own_key().verifying_key().verify_strict(&message, &signature).unwrap();
}

#[test]
fn pubkey_prints_every_form_that_libraries_read() {
    let (key, public) = (secret(&own_key()), public_key_of(&own_key()));
    let of = |format: &str| run_to_end(&["pubkey", "--secret-key", &key, "--format", format]).stdout;
    assert_eq!(of("raw"), public);
    let spki = of("spki");
    let der = STANDARD.decode(&spki).unwrap();
    assert_eq!((der.len(), &der[12..]), (44, own_key().verifying_key().as_bytes().as_slice()));
    assert_eq!(of("pem"), format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"));
    for form in [of("raw"), spki, of("pem")] {
        assert_eq!(parse_public_key(&form).unwrap(), own_key().verifying_key());
    }
    let json = run_to_end(&["pubkey", "--secret-key", &key, "--format", "spki", "--json"]);
    assert_eq!(json.stdout.parse::<Value>().unwrap()["keys"][0]["public_key"], STANDARD.encode(der));
}

/// Runs `pubkey` with this configuration.
fn pubkey(yaml: &str, more: &[&str]) -> Finished {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let path = file.path().display().to_string();
    let public = public_key();
    let flags = ["pubkey", "--config", &path, "--upstream", "http://127.0.0.1:1", "--public-key", &public];
    run_to_end(&[&flags[..], more].concat())
}

#[test]
fn pubkey_prints_what_the_app_verifies_with() {
    let public = public_key_of(&own_key());
    let one = pubkey(&sign("telnyx", &secret(&own_key())), &[]);
    assert_eq!((one.code, one.stdout.as_str(), one.stderr.as_str()), (Some(0), public.as_str(), ""));

    let asymmetric = format!("whsk_{}", STANDARD.encode(own_key().to_keypair_bytes()));
    let several = format!(
        "{}routes:\n  - {{ name: a, path: /a }}\n  - {{ name: b, path: /b, mode: proxy }}\n  - {{ name: open, path: /open, mode: pass }}\n\
         \x20 - {{ name: c, path: /c, upstream: {{ sign: {{ scheme: standard-webhooks, key: {{ value: \"{asymmetric}\" }} }} }} }}\n\
         \x20 - {{ name: d, path: /d, upstream: {{ sign: {{ scheme: standard-webhooks, key: {{ value: {WHSEC} }} }} }} }}\n\
         \x20 - {{ name: e, path: /e, upstream: {{ sign: off }} }}\n",
        sign("telnyx", &secret(&own_key()))
    );
    let printed = pubkey(&several, &[]);
    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert_eq!(lines[0], format!("a, b: {public}"));
    assert_eq!(lines[1], format!("c: whpk_{public}"));
    assert!(lines[2].starts_with("d: the secret is symmetric") && lines.len() == 3, "{printed:?}");
    let json = pubkey(&several, &["--json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["keys"][0], serde_json::json!({"scheme": "telnyx", "public_key": public, "routes": ["a", "b"]}));
    assert_eq!(json["keys"][2]["public_key"], Value::Null);
    assert!(!printed.stdout.contains(WHSEC) && !json.to_string().contains(&asymmetric));
}

#[test]
fn pubkey_says_why_there_is_no_public_key() {
    let symmetric = pubkey(&sign("standard-webhooks", WHSEC), &[]);
    assert_eq!((symmetric.code, symmetric.stdout.as_str()), (Some(1), ""));
    assert!(symmetric.stderr.contains("symmetric") && !symmetric.stderr.contains(WHSEC), "{symmetric:?}");
    let none = pubkey("", &[]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""));
    assert!(none.stderr.contains("`upstream.sign`"), "{none:?}");
    let bad = pubkey(&sign("telnyx", "hunter2"), &[]);
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(78), ""));
    assert!(bad.stderr.contains("upstream.sign.key") && !bad.stderr.contains("hunter2"), "{bad:?}");
}

#[test]
fn pubkey_of_a_key_needs_no_configuration() {
    let public = public_key_of(&own_key());
    let of = |key: &str| run_to_end(&["pubkey", "--secret-key", key]);
    assert_eq!(of(&secret(&own_key())).stdout, public, "no newline, which most SDKs refuse");
    assert_eq!(of(&format!("whsk_{}", secret(&own_key()))).stdout, format!("whpk_{public}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n", secret(&own_key()))).unwrap();
    assert_eq!(of(&format!("@{}", file.path().display())).stdout, public);
    assert_eq!(of(WHSEC).code, Some(1));
    let bad = of("whsec_aHVudGVyMg==");
    assert_eq!(bad.code, Some(2));
    assert!(
        bad.stderr.starts_with("hookward: the secret key decodes to") && !bad.stderr.contains("aHVudGVyMg"),
        "{bad:?}"
    );
}
