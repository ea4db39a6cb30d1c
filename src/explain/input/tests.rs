use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

const BODY: &str =
    "{\n  \"data\": {\n    \"id\": \"e1\",\n    \"text\": \"Grüße, a longer text than a few words\"\n  }\n}";
const REQUEST: &str =
    "POST /hooks HTTP/1.1\r\nHost: a\r\nTelnyx-Timestamp: 1700000000\r\nTelnyx-Signature-Ed25519: abc\r\n\r\n";
const HEADERS: &str = "telnyx-timestamp";

/// The readings with this body, each with the codes of its layers.
fn found(file: &[u8], body: &[u8]) -> Vec<(Vec<&'static str>, Reading)> {
    let readings = read(Bytes::copy_from_slice(file));
    let is_it = |reading: &Reading| reading.body == body;
    let codes = |reading: &Reading| reading.forms.iter().map(|form| form.code()).collect();
    readings.all.into_iter().filter(is_it).map(|reading| (codes(&reading), reading)).collect()
}

/// The layers around the body, its header line and its time of receipt.
fn opened(file: &[u8]) -> (Vec<&'static str>, bool, Option<i64>) {
    let (codes, reading) = found(file, BODY.as_bytes()).into_iter().next().expect("the body is found");
    (codes, reading.headers.get(HEADERS).is_some_and(|value| value == "1700000000"), reading.received_unix_ms)
}

fn bodiless(file: &str) -> Option<(Form, &'static str)> {
    let readings = read(Bytes::copy_from_slice(file.as_bytes()));
    assert_eq!(readings.all.len(), 1, "{file}");
    readings.bodiless
}

#[test]
fn each_form_gives_body_headers_and_time() {
    let lists = json!({"Telnyx-Timestamp": ["1700000000"], "Accept": ["a", "b"]});
    let texts = json!({"telnyx-timestamp": "1700000000"});
    let pairs = json!([[":path", "/"], ["telnyx-timestamp", "1700000000"]]);
    let named = json!([{"name": ":path", "value": "/"}, {"name": "Telnyx-Timestamp", "value": "1700000000"}]);
    let base64 = STANDARD.encode(BODY);
    let raw = STANDARD.encode(format!("{REQUEST}{BODY}"));
    let entry = json!({"startedDateTime": "2023-11-15T00:13:20.123+02:00",
        "request": {"method": "POST", "headers": named, "postData": {"mimeType": "application/json", "text": BODY}}});
    let at = Some(1_700_000_000_123);
    let cases = [
        (json!({"log": {"version": "1.2", "entries": [entry]}}), "har", at),
        (entry.clone(), "har", at),
        (entry["request"].clone(), "har", None),
        (
            json!({"version": "1.0", "httpMethod": "POST", "headers": {"telnyx-timestamp": "no"}, "multiValueHeaders": lists,
                "requestContext": {"requestTimeEpoch": 1_700_000_000_123_i64}, "body": BODY, "isBase64Encoded": false}),
            "lambda_event",
            at,
        ),
        (
            json!({"version": "2.0", "headers": texts, "requestContext": {"timeEpoch": 1_700_000_000_123_i64},
                "body": base64, "isBase64Encoded": true}),
            "lambda_event",
            at,
        ),
        (
            json!({"requestContext": {"elb": {"targetGroupArn": "a"}}, "httpMethod": "POST", "multiValueHeaders": lists,
                "headers": null, "body": BODY, "isBase64Encoded": false}),
            "lambda_event",
            None,
        ),
        (json!({"uri": "/a", "start": "2023-11-14T22:13:20.123456789Z", "request": {"raw": raw}}), "ngrok", at),
        (json!({"requests": [{"start": "2023-11-14T22:13:20.123Z", "request": {"raw": raw}}]}), "ngrok", at),
        (
            json!({"uuid": "u", "token_id": "t", "created_at": "2023-11-14 22:13:20", "headers": lists, "content": BODY}),
            "webhook_site",
            Some(1_700_000_000_000),
        ),
        (json!({"data": [{"headers": lists, "content": BODY}], "total": 1}), "webhook_site", None),
        (
            json!({"seq": 7, "delivery_id": "d", "route": "r", "received_at": "2023-11-14T22:13:20.123Z",
                "headers": pairs, "body": base64, "intact": true}),
            "hookward_events",
            at,
        ),
        (json!({"headers": texts, "body": BODY}), "request_object", None),
        (json!({"headers": texts, "rawBody": BODY, "body": {"data": {}}}), "request_object", None),
    ];
    for (file, code, received_unix_ms) in cases {
        for text in
            [file.to_string(), format!("\u{feff}{file:#}\n"), json!([file]).to_string(), format!("{file}\n{file}\n")]
        {
            assert_eq!(opened(text.as_bytes()), (vec![code], true, received_unix_ms), "{text}");
        }
    }
}

#[test]
fn encodings_are_opened_too() {
    let quoted = json!(BODY).to_string();
    let inside = quoted.trim_matches('"').to_owned();
    let lines = STANDARD.encode(BODY).as_bytes().chunks(20).map(|line| [line, b"\r\n"].concat()).collect::<Vec<_>>();
    for (file, code) in [
        (quoted, "json_string"),
        (inside, "json_string"),
        (STANDARD.encode(BODY), "base64"),
        (URL_SAFE_NO_PAD.encode(BODY), "base64"),
        (String::from_utf8(lines.concat()).unwrap(), "base64"),
    ] {
        assert_eq!(opened(file.as_bytes()).0, [code], "{file}");
    }
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let powershell = format!("{}\r\n", BODY.replace('\n', "\r\n"));
    for text in [BODY, &powershell] {
        for (mark, bytes) in [("\u{feff}", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("\u{feff}", u16::to_be_bytes)] {
            assert_eq!(opened(&utf16(&format!("{mark}{text}"), bytes)).0, ["utf16"], "{text}");
            let ascii = text.replace("Grüße, a", "Gr");
            let unmarked = utf16(&ascii, bytes);
            assert!(!found(&unmarked, BODY.replace("Grüße, a", "Gr").as_bytes()).is_empty(), "{text}");
        }
    }
}

#[test]
fn layers_are_opened_one_within_the_other() {
    let event =
        json!({"headers": {"telnyx-timestamp": "1700000000"}, "body": STANDARD.encode(BODY), "isBase64Encoded": false});
    let utf16: Vec<u8> = event.to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(opened(&utf16), (vec!["utf16", "lambda_event", "base64"], true, None), "headers are handed down");
    let mut deep = BODY.to_owned();
    for _ in 0..LAYERS_MAX {
        deep = json!(deep).to_string();
    }
    assert_eq!(opened(deep.as_bytes()).0, vec!["json_string"; LAYERS_MAX]);
    assert!(found(json!(deep).to_string().as_bytes(), BODY.as_bytes()).is_empty(), "a layer too many");
}

#[test]
fn a_file_of_many_requests_is_read_up_to_a_bound() {
    let line = json!({"headers": {"telnyx-timestamp": "1700000000"}, "body": BODY}).to_string();
    let found = found(vec![line; 1000].join("\n").as_bytes(), BODY.as_bytes());
    assert_eq!((found.len(), found[1].1.place), (READINGS_MAX - 1, (2, 1000)));
}

#[test]
fn a_request_is_read_with_its_framing() {
    let opened_of = |request: &str| {
        found(request.as_bytes(), BODY.as_bytes()).into_iter().next().map(|(_, reading)| reading.remark)
    };
    let with = |line: &str, body: &str| REQUEST.replace("Host: a", line) + body;
    let length = format!("Content-Length: {}", BODY.len());
    assert_eq!(opened_of(&with("Host: a", BODY)), Some(None));
    assert_eq!(opened_of(&with("Host: a", BODY).replace('\r', "")), Some(None), "LF alone");
    assert_eq!(
        opened_of(&with("Host: a", BODY).replacen("POST /hooks HTTP/1.1\r\n", "", 1)),
        Some(None),
        "no request line"
    );
    assert_eq!(opened_of(&with("Host: a", BODY).replacen("HTTP/1.1", "HTTP/2", 1)), Some(None));
    assert_eq!(opened_of(&with(&length, BODY)), Some(None));
    assert!(opened_of(&with(&length, &format!("{BODY}\n"))).unwrap().is_some_and(|remark| remark.contains("left out")));
    let short = with(&length, &BODY[..20]);
    assert!(
        found(short.as_bytes(), &BODY.as_bytes()[..20])[0].1.remark.is_some_and(|remark| remark.contains("missing"))
    );
    let (first, rest) = BODY.split_at(10);
    let chunks = format!("{:x}\r\n{first}\r\n{:X};x=y\r\n{rest}\r\n0\r\n\r\n", first.len(), rest.len());
    assert_eq!(opened_of(&with("Transfer-Encoding: chunked", &chunks)), Some(None));
    assert_eq!(opened_of(&with("Transfer-Encoding: chunked", BODY)), Some(None), "joined already");
}

#[test]
fn a_request_without_its_body_is_named_for_what_it_is() {
    for (file, form, what_to_do) in [
        (r#"{"log":{"entries":[{"request":{"method":"GET","headers":[]}}]}}"#.to_owned(), Form::Har, "postData.text"),
        (r#"{"httpMethod":"POST","headers":{},"body":null}"#.to_owned(), Form::LambdaEvent, "log the event"),
        (r#"{"request":{"raw":"!"}}"#.to_owned(), Form::Ngrok, "save it again"),
        (r#"{"token_id":"t","headers":{},"content":null}"#.to_owned(), Form::WebhookSite, "raw content"),
        (r#"{"seq":7,"delivery_id":"d","route":"r","body":null}"#.to_owned(), Form::Own, "not kept"),
        (
            r#"{"events":[{"seq":7,"delivery_id":"d","route":"r"}],"next_cursor":null}"#.to_owned(),
            Form::Own,
            "events export",
        ),
        ("SEQ  STATE  ROUTE\n7    dead   r\n".to_owned(), Form::Own, "events export"),
        ("seq              7\nstate            dead\n".to_owned(), Form::Own, "--json"),
        (r#"{"headers":{"a":"b"}}"#.to_owned(), Form::RequestObject, "body alone"),
        (REQUEST.trim_end().to_owned() + "\r\n", Form::HttpRequest, "empty line"),
    ] {
        let (found, said) = bodiless(&file).unwrap_or_else(|| panic!("{file}"));
        assert_eq!(found, form, "{file}");
        assert!(said.contains(what_to_do), "{file}: {said}");
    }
}

#[test]
fn a_body_is_not_taken_for_a_wrapping() {
    for body in [
        BODY,
        "",
        "{}",
        r#"{"data":{"event_type":"call.hangup"},"meta":{"attempt":1}}"#,
        "CallSid=v3%3Aab&From=%2B13125550001&CallStatus=completed",
        "YWJj",
        "internationalization",
        "Header: value\n\nbody",
        "POST it\nnow",
    ] {
        let readings = read(Bytes::copy_from_slice(body.as_bytes()));
        assert!(readings.all.len() == 1 && readings.bodiless.is_none(), "{body}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(bytes.into()).all.len() <= READINGS_MAX);
    }

    #[test]
    fn whatever_the_body_a_declared_wrapping_gives_it_back(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let event = json!({"headers": {}, "requestContext": {}, "body": STANDARD.encode(&body), "isBase64Encoded": true});
        prop_assert!(!found(event.to_string().as_bytes(), &body).is_empty());
        let request = [format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
        prop_assert!(!found(&request, &body).is_empty());
    }
}
