//! The log: one line a request, and nothing in it that is a secret or a person's.

use serde_json::Value;

use super::harness::*;

fn lines(hookward: &Hookward) -> Vec<Value> {
    let stderr = hookward.stderr();
    stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The line of the request that was answered so; it may be written after the answer.
fn line_of(hookward: &Hookward, answer: &Answer) -> Value {
    let id = answer.header("hookward-request-id").unwrap();
    poll("the request's line", || {
        let whole = hookward.stderr().ends_with('\n');
        let of_it: Vec<_> = if whole { lines(hookward) } else { Vec::new() };
        let mut of_it = of_it.into_iter().filter(|line| line.to_string().contains(id));
        let line = of_it.next()?;
        assert!(of_it.next().is_none(), "one line a request");
        Some(line)
    })
}

#[test]
fn each_request_has_one_line_that_its_answer_names() {
    let (sink, hookward) = pair();
    let id = new_id();
    let accepted = hookward.post(&signed(body(&id)));
    let line = line_of(&hookward, &accepted);
    sink.first();
    for key in ["ts", "level", "msg", "route", "ack_ms"] {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
    assert_eq!((line["outcome"].as_str(), line["status"].as_u64()), (Some("accepted"), Some(200)), "{line}");
    assert_eq!((line["event_id"].as_str(), line["event_type"].as_str()), (Some(id.as_str()), Some("message.received")));
    assert_eq!(
        (line["client_ip"].as_str(), line["body_bytes"].as_u64()),
        (Some("127.0.0.1"), Some(body(&id).len() as u64))
    );

    let refused = hookward.post(&signed_at(now_s() - 400, "x"));
    let line = line_of(&hookward, &refused);
    assert_eq!(
        (line["outcome"].as_str(), line["reason"].as_str()),
        (Some("rejected"), Some("timestamp_stale")),
        "{line}"
    );
    assert_eq!((line["status"].as_u64(), &line["skew_s"]), (Some(403), &refused.json()["skew_s"]), "{line}");
    let hint = ::hookward::rejection::Rejection::TimestampStale { skew_s: 0 }.hint();
    assert!(line.to_string().contains(hint), "{line}");
}

#[test]
fn a_refusals_line_says_what_explain_would_say() {
    let (_sink, hookward) = pair();
    let genuine = event();
    let hint = |request: &Request| {
        let line = line_of(&hookward, &hookward.post(request));
        line["hint"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    let value: Value = serde_json::from_slice(&genuine.body_bytes()).unwrap();
    let compact = genuine.clone().body(value.to_string());
    // One search a second is made: what else is refused meanwhile has its usual hint.
    assert!(hint(&compact).contains("indented by two spaces"));
    assert!(hint(&forged()).contains("no key verifies this body"));
    let renamed = genuine.without("Telnyx-Signature-Ed25519").header("X-Telnyx-Signature", "t=MARK,h=MARK");
    let told = hint(&renamed);
    assert!(told.contains("API version to 2") && !told.contains("MARK"), "{told}");
}

#[test]
fn no_body_header_value_key_or_token_is_logged() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let yaml = "delivery: { retry: { client_errors: 1 } }\n";
    let setup = Setup::new(&sink).env("HOOKWARD_ADMIN_TOKEN", "MARK-token").flag("--log-level", "debug");
    let mut hookward = setup.config(yaml).start();
    let marked = |request: Request| request.header("X-Any", "MARK-header").header("Authorization", "MARK-auth");
    let body = r#"{"data":{"id":"x","payload":{"text":"MARK-text","from":"+15551234567"}}}"#;
    hookward.post(&marked(signed(body)));
    hookward.post(&marked(forged().body(body)));
    hookward.post(&marked(signed("MARK-not-json {\"data\":")));
    hookward.post(&marked(event().replace("Telnyx-Timestamp", "MARK-timestamp")));
    hookward.post(&marked(event().replace("Telnyx-Signature-Ed25519", "MARK-signature")));
    for broken in [
        "MARK-line\r\n\r\n",
        "POST /a HTTP/1.1\r\nMARK-name\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: MARK-te\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nMARK: MARK\r\n\r\nMARK-chunk\r\n",
    ] {
        let mut wire = hookward.connect();
        wire.send(broken);
        assert!(wire.answer().status >= 400);
    }
    hookward.admin(&Request::get("/api/v1/status").header("Authorization", "Bearer MARK-wrong-token"));
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 2.0);
    hookward.stop();
    let stderr = hookward.stderr();
    assert!(!stderr.is_empty());
    for secret in ["MARK", "5551234567", &event::public_key()] {
        let told: Vec<_> = stderr.lines().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:#?}");
    }
}

#[test]
fn text_for_people_is_one_flag_away() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--log-format", "text").start();
    let answer = hookward.post(&forged());
    let id = answer.header("hookward-request-id").unwrap();
    let line =
        poll("the request's line", || hookward.stderr().lines().find(|line| line.contains(id)).map(str::to_owned));
    assert!(serde_json::from_str::<Value>(&line).is_err(), "{line}");
    assert!(line.contains("signature_mismatch"), "{line}");
}

#[test]
fn the_clients_address_may_be_left_out_or_cut() {
    for (setting, logged) in [("truncated", Some("127.0.0.0")), ("off", None)] {
        let (_sink, hookward) = pair_with(&format!("log: {{ client_ip: {setting} }}\n"));
        let answer = hookward.post(&forged());
        let line = line_of(&hookward, &answer);
        let told = line["client_ip"].as_str();
        assert!(told.is_none_or(|told| logged.is_some_and(|logged| told.starts_with(logged))), "{line}");
        assert!(!line.to_string().contains("127.0.0.1"), "{line}");
    }
}
