//! `explain`: the verdict of a captured request, and what led to it.

use serde_json::Value;

use super::harness::event::{HOST, public_key, public_key_of, telnyx_key};
use super::harness::process::Finished;
use super::harness::*;

/// A request as somebody has noted it down.
#[derive(Clone)]
struct Capture {
    signature: String,
    timestamp: String,
    body: Vec<u8>,
}

impl Capture {
    fn genuine(timestamp_s: i64) -> Capture {
        let body = body(&new_id());
        let signature = ::hookward::gate::signature::sign(&telnyx_key(), timestamp_s, &body);
        Capture { signature, timestamp: timestamp_s.to_string(), body }
    }

    fn explain(&self, more: &[&str]) -> Finished {
        self.explain_with(&["--public-key", &public_key()], more)
    }

    fn explain_with(&self, keys: &[&str], more: &[&str]) -> Finished {
        let args = ["explain", "--timestamp", &self.timestamp, "--signature", &self.signature, "--body", "-"];
        Process::finish(&mut command(&[&args, keys, more].concat()), &self.body)
    }

    fn request(&self) -> Request {
        Request::post(event::TARGET)
            .header("Content-Type", "application/json")
            .header("Telnyx-Signature-Ed25519", self.signature.clone())
            .header("Telnyx-Timestamp", self.timestamp.clone())
            .body(self.body.clone())
    }
}

fn verdict(finished: &Finished, code: i32) -> &str {
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(code), ""), "{finished:?}");
    finished.stdout.lines().next().unwrap_or_default()
}

#[test]
fn a_genuine_capture_is_verified() {
    let capture = Capture::genuine(1_700_000_000);
    let finished = capture.explain(&["--now", "1700000012"]);
    assert_eq!(verdict(&finished, 0), "verified");
    assert!(finished.stdout.contains("12 s before"), "{finished:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &capture.body).unwrap();
    let path = file.path().to_string_lossy();
    let forger = public_key_of(&ed25519_dalek::SigningKey::from_bytes(&event::FORGER));
    let mut from_file =
        command(&["explain", "--timestamp", &capture.timestamp, "--signature", &capture.signature, "--body", &path]);
    let from_file = from_file.args(["--now", "1700000000"]);
    let finished = Process::finish(from_file.env("TELNYX_PUBLIC_KEY", format!("{forger},{}", public_key())), b"");
    assert_eq!(verdict(&finished, 0), "verified");
    assert!(finished.stdout.contains("key2 of 2"), "{finished:?}");

    assert_eq!(verdict(&Capture::genuine(now_s()).explain(&[]), 0), "verified", "now, unless told otherwise");
    let late = ["--now", "1700000301"];
    assert_eq!(verdict(&capture.explain(&late), 1), "rejected: timestamp_stale");
    assert_eq!(verdict(&capture.explain(&[&late[..], &["--past", "301s"]].concat()), 0), "verified");
}

#[test]
fn what_a_hop_has_done_is_told_and_is_still_refused() {
    let genuine = Capture::genuine(1_700_000_000);
    let value: Value = serde_json::from_slice(&genuine.body).unwrap();
    let compact = value.to_string();
    let php = compact.replace('/', "\\/").replace('ü', "\\u00fc").replace('ß', "\\u00df");
    let php = php.replace('🐕', "\\ud83d\\udc15").replace('\u{2028}', "\\u2028");
    let with_body = |body: &[u8]| Capture { body: body.to_vec(), ..genuine.clone() };
    let at_now = ["--now", "1700000000"];
    for (capture, reason, told) in [
        (with_body(compact.as_bytes()), "signature_mismatch", "indented by two spaces"),
        (with_body(php.as_bytes()), "signature_mismatch", "slashes came as"),
        (with_body(&[&genuine.body[..], b"\n"].concat()), "signature_mismatch", "line end"),
        (with_body(&[b"\xef\xbb\xbf", &genuine.body[..]].concat()), "signature_mismatch", "byte order mark"),
        (with_body(br#"{"data":{}}"#), "signature_mismatch", "Public Key"),
        (
            Capture { timestamp: "1700000000000".to_owned(), ..genuine.clone() },
            "signature_mismatch",
            "the timestamp is in milliseconds",
        ),
        (
            Capture { signature: genuine.signature.trim_end_matches('=').to_owned(), ..genuine.clone() },
            "signature_malformed",
            "has lost the ==",
        ),
    ] {
        let finished = capture.explain(&at_now);
        assert_eq!(verdict(&finished, 1), format!("rejected: {reason}"));
        assert!(finished.stdout.contains(told), "{told}: {finished:?}");
        assert_eq!(finished.stdout.matches("\n  do:").count(), 1, "one remedy is said once: {finished:?}");
    }
}

#[test]
fn near_misses_among_the_header_names_are_told() {
    let genuine = Capture::genuine(1_700_000_000);
    let explain = |name: &str, value: &str| {
        let line = format!("{name}: {value}");
        let args = ["explain", "--public-key", &public_key(), "--timestamp", "1700000000", "--header", &line];
        Process::finish(&mut command(&[&args[..], &["--now", "1700000000", "--body", "-"]].concat()), &genuine.body)
    };
    let finished = explain("X-Telnyx-Signature-Ed25519", &genuine.signature);
    assert_eq!(verdict(&finished, 1), "rejected: signature_missing");
    assert!(finished.stdout.contains("under a name like") && finished.stdout.contains("key1"), "{finished:?}");
    let finished = explain("X-Telnyx-Signature", "t=1700000000,h=MARK");
    assert_eq!(verdict(&finished, 1), "rejected: signature_missing");
    assert!(finished.stdout.contains("API version to 2") && !finished.stdout.contains("MARK"), "{finished:?}");
    assert_eq!(verdict(&explain("Telnyx-Signature-Ed25519", &genuine.signature), 0), "verified");
}

#[test]
fn the_verdict_is_what_a_running_hookward_answers() {
    let (_sink, hookward) = pair();
    let now = now_s();
    let genuine = Capture::genuine(now);
    let unpadded = genuine.signature.trim_end_matches('=').to_owned();
    let with_signature = |signature: &str| Capture { signature: signature.to_owned(), ..genuine.clone() };
    let with_timestamp = |timestamp: &str| Capture { timestamp: timestamp.to_owned(), ..genuine.clone() };
    let captures = [
        genuine.clone(),
        Capture { body: b"{}".to_vec(), ..genuine.clone() },
        Capture { body: Vec::new(), ..genuine.clone() },
        with_signature(&unpadded),
        with_signature(""),
        with_signature("a,b"),
        with_signature(&genuine.signature.replace("==", "=A")),
        with_timestamp(""),
        with_timestamp("0"),
        with_timestamp(&format!("{now}000")),
        with_timestamp(&format!("{now}.0")),
        with_timestamp("99999999999999"),
        Capture::genuine(now - 400),
        Capture::genuine(now + 400),
    ];
    for capture in captures {
        let answer = hookward.post(&capture.request());
        let expected = match answer.json()["error"].as_str() {
            Some(reason) => format!("rejected: {reason}"),
            None => "verified".to_owned(),
        };
        let code = i32::from(answer.status != 200);
        let what = format!("{} {} {:?}", capture.timestamp, capture.signature, capture.body.len());
        assert_eq!(verdict(&capture.explain(&[]), code), expected, "{what}");
    }
}

#[test]
fn explain_prints_json_too() {
    let genuine = Capture::genuine(1_700_000_000);
    let json = |capture: &Capture| {
        let finished = capture.explain(&["--json", "--now", "1700000005"]);
        let json: Value =
            serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        (finished.code, json)
    };
    let (code, verified) = json(&genuine);
    assert_eq!((code, verified["verdict"].as_str(), &verified["reason"]), (Some(0), Some("verified"), &Value::Null));
    assert_eq!((verified["key"].as_str(), verified["skew_s"].as_i64()), (Some("key1"), Some(5)));
    let dotted = Capture {
        signature: {
            use base64::Engine as _;
            use ed25519_dalek::Signer as _;
            let message = [b"1700000000.", &genuine.body[..]].concat();
            base64::engine::general_purpose::STANDARD.encode(telnyx_key().sign(&message).to_bytes())
        },
        ..genuine
    };
    let (code, rejected) = json(&dotted);
    assert_eq!((code, rejected["reason"].as_str()), (Some(1), Some("signature_mismatch")), "{rejected}");
    assert_eq!(rejected["findings"][0]["cause"], "dot_separator", "{rejected}");
    assert!(rejected["findings"][0]["do"].as_str().is_some_and(|remedy| remedy.contains("pipe")), "{rejected}");
}

#[test]
fn what_cannot_be_judged_is_wrong_usage_and_nothing_secret_is_repeated() {
    let genuine = Capture::genuine(1_700_000_000);
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(16 * 1024 * 1024 + 1).unwrap();
    let refused = |finished: Finished, told: &str| {
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{finished:?}");
        assert!(finished.stderr.contains(told) && !finished.stderr.contains("MARK"), "{finished:?}");
    };
    refused(genuine.explain_with(&["--public-key", "KEY0123MARK"], &[]), "is an API key");
    refused(genuine.explain_with(&["--public-key", ""], &[]), "Public Key");
    refused(genuine.explain_with(&[], &[]), "--public-key");
    refused(genuine.explain(&["--header", "MARK"]), "Name: value");
    refused(genuine.explain(&["--header", "a: MARK\nb"]), "one line");
    let key = public_key();
    for (file, told) in [("/nonexistent/body", "/nonexistent/body"), (large.to_str().unwrap(), "larger than")] {
        refused(run_to_end(&["explain", "--public-key", &key, "--body", file]), told);
    }
}

#[test]
fn a_capture_may_be_pasted_as_header_lines() {
    let genuine = Capture::genuine(now_s());
    let lines = [
        format!("Host: {HOST}"),
        format!("Telnyx-Signature-Ed25519: {}", genuine.signature),
        format!("Telnyx-Timestamp: {}", genuine.timestamp),
    ];
    let mut explain = command(&["explain", "--public-key", &public_key(), "--body", "-"]);
    explain.args(lines.iter().flat_map(|line| ["--header", line]));
    assert_eq!(verdict(&Process::finish(&mut explain, &genuine.body), 0), "verified");
}

/// The genuine request in files as tools write them; nothing but the file is given.
#[test]
fn a_request_is_found_in_the_file_that_a_tool_has_saved() {
    let genuine = Capture::genuine(1_700_000_000);
    let (text, base64) = (std::str::from_utf8(&genuine.body).unwrap(), base64_of(&genuine.body));
    let lines = [("Telnyx-Signature-Ed25519", &genuine.signature), ("Telnyx-Timestamp", &genuine.timestamp)];
    let headers: serde_json::Map<String, Value> =
        lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).as_str().into())).collect();
    let named: Vec<Value> =
        lines.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
    let header: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("POST /webhooks HTTP/1.1\r\nHost: {HOST}\r\n{header}\r\n{text}");
    let saved_at = "2023-11-14T22:13:25Z";
    let har = serde_json::json!({"log": {"entries": [
        {"startedDateTime": saved_at, "request": {"method": "GET", "headers": [], "postData": {"text": "a=b"}}},
        {"startedDateTime": saved_at, "request": {"method": "POST", "headers": named, "postData": {"text": text}}},
    ]}});
    let ngrok = serde_json::json!({"start": saved_at, "request": {"raw": base64_of(request.as_bytes())}});
    let event = serde_json::json!({"version": "2.0", "headers": headers, "body": base64, "isBase64Encoded": true});
    let utf16: Vec<u8> = format!("\u{feff}{event}\r\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let now = ["--now", "1700000005"];
    for (file, more, read_as) in [
        (request.clone().into_bytes(), &now[..], "an HTTP request"),
        (har.to_string().into_bytes(), &[], "a HAR (request 2 of 2)"),
        (ngrok.to_string().into_bytes(), &[], "an export of ngrok"),
        (utf16, &now, "UTF-16, as PowerShell writes it, in it an event of API Gateway or an ALB"),
    ] {
        let mut explain = command(&["explain", "--public-key", &public_key(), "--body", "-"]);
        let finished = Process::finish(explain.args(more), &file);
        assert_eq!(verdict(&finished, 0), "verified");
        assert!(finished.stdout.contains(&format!("read:   the file as {read_as}\n")), "{finished:?}");
        assert!(finished.stdout.contains("5 s before it came"), "the time is the file's: {finished:?}");
    }
    let of_another = Capture::genuine(1_700_000_000).signature;
    let wrong = Capture { body: request.into_bytes(), signature: of_another, ..genuine.clone() };
    let finished = wrong.explain(&now);
    assert!(verdict(&finished, 1).starts_with("rejected: signature_m"), "flags go before the file: {finished:?}");
    let finished = Process::finish(
        command(&["explain", "--json", "--public-key", &public_key(), "--body", "-"]).args(now),
        event.to_string().as_bytes(),
    );
    let json: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(json["read_as"], serde_json::json!(["lambda_event"]), "{json}");
}

#[test]
fn what_is_not_understood_is_not_called_forged() {
    let genuine = Capture::genuine(1_700_000_000);
    for file in ["{\"level\":\"info\"}", "<xml/>", "{\"data\":{\"id\":\"cut sh"] {
        let finished = Capture { body: file.as_bytes().to_vec(), ..genuine.clone() }.explain(&["--now", "1700000000"]);
        assert_eq!(verdict(&finished, 1), "rejected: signature_mismatch");
        assert!(finished.stdout.contains("nothing is known of this body"), "{finished:?}");
        assert!(!finished.stdout.contains("forged") && finished.stdout.contains("a HAR"), "{finished:?}");
    }
    let other = br#"{"data":{"id":"other"}}"#.to_vec();
    let finished = Capture { body: other, ..genuine.clone() }.explain(&["--now", "1700000000"]);
    assert!(finished.stdout.contains("forged"), "{finished:?}");
    let list = Capture { body: b"SEQ  STATE  ROUTE\n7  dead  r\n".to_vec(), ..genuine }.explain(&[]);
    assert_eq!((list.code, list.stdout.as_str()), (Some(2), ""), "{list:?}");
    assert!(list.stderr.contains("hookward events export"), "{list:?}");
}

#[test]
fn an_exported_event_is_explained_as_it_is() {
    let (sink, hookward) = pair();
    // So that its body is kept.
    sink.behave(|_| Reply::status(503));
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let mut export = command(&["events", "export"]);
    let export = Process::finish(export.env("HOOKWARD_DATA_DIR", hookward.setup().data_dir()), b"");
    let mut explain = command(&["explain", "--public-key", &public_key(), "--body", "-"]);
    let finished = Process::finish(&mut explain, export.stdout.as_bytes());
    assert_eq!(verdict(&finished, 0), "verified");
    assert!(finished.stdout.contains("output of `hookward events`"), "{finished:?}");
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
