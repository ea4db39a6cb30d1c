//! A captured request is judged and searched within the budget, whatever it holds; what was signed
//! is found behind changes that are known, and is refused all the same.
#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use hookward_fuzz::explain::cause::Cause;
use hookward_fuzz::explain::search::{Budget, search};
use hookward_fuzz::explain::verdict::{Capture, judge};
use hookward_fuzz::gate::keys::NamedKey;
use hookward_fuzz::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

const SIGNED_S: i64 = 1_700_000_000;
const BUDGET: Budget = Budget { body_max_bytes: 4096, checks_max: 24 };

static SIGNING: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));

/// The signature and timestamp headers, if these are values that a header can have.
fn headers(signature: &[u8], timestamp: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE_HEADER, HeaderValue::from_bytes(signature).ok()?);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from_bytes(timestamp).ok()?);
    Some(headers)
}

fn capture(headers: HeaderMap, body: &[u8]) -> Capture {
    Capture {
        headers,
        body: body.to_vec().into(),
        keys: vec![NamedKey { name: "key1".into(), key: SIGNING.verifying_key() }],
        past: Duration::from_secs(300),
        future: Duration::from_secs(300),
        received_unix_ms: SIGNED_S * 1000,
    }
}

/// Two lines of header values, the rest is the body.
fn split(input: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

fuzz_target!(|input: &[u8]| {
    let Some((signature, timestamp, body)) = split(input) else { return };
    if let Some(headers) = headers(signature, timestamp) {
        let capture = capture(headers, body);
        let outcome = search(&capture.headers, body, &capture.keys, BUDGET);
        assert!(outcome.tried <= BUDGET.checks_max);
        if judge(&capture).is_ok() {
            let found = outcome.found.expect("what is verified is found");
            assert!(found.causes.is_empty(), "{found:?}");
        }
    }

    let genuine = sign(&SIGNING, SIGNED_S, body);
    let headers = headers(genuine.as_bytes(), SIGNED_S.to_string().as_bytes()).unwrap();
    assert!(judge(&capture(headers.clone(), body)).is_ok());
    let came = [body, b"\n"].concat();
    let changed = capture(headers, &came);
    assert!(judge(&changed).is_err(), "a changed body is refused, whatever is found out about it");
    let found = search(&changed.headers, &came, &changed.keys, BUDGET).found;
    // Trimming takes every white space at the end, so other than a line end hides what was signed.
    if came.len() <= BUDGET.body_max_bytes && body.trim_ascii_end().len() == body.len() {
        assert_eq!(found.unwrap().causes, [Cause::NewlineAdded]);
    }
});
