//! Published and recorded vectors, through the gates as the server calls them and, where the
//! message has no timestamp, through `verify_strict` itself.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test may end with a panic

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use hookward::gate::allowlist::{Admitted, Allowlist};
use hookward::gate::delivery::{BodySource, Delivery};
use hookward::gate::keys::{KeyError, NamedKey, decode_hex, parse_public_key};
use hookward::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, Verifier, sign, signed_message};
use hookward::gate::timestamp::Tolerance;
use hookward::gate::{Enforcement, Reports};
use hookward::rejection::Rejection;

/// The wall clock, in Unix seconds, at which the golden set was signed.
const SIGNED_AT_S: i64 = 1_700_000_000;
/// `big_1MiB` is larger than the default limit of a body.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list `{key}`"))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {value}"))
}

fn hex(value: &Value, key: &str) -> Vec<u8> {
    decode_hex(text(value, key)).unwrap()
}

/// A body that arrives in pieces of a prime number of bytes, so that no boundary means anything.
struct InPieces {
    declared: Option<u64>,
    rest: Bytes,
}

const PIECE_BYTES: usize = 4093;

impl BodySource for InPieces {
    fn declared_bytes(&self) -> Option<u64> {
        self.declared
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Rejection> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Ok((!piece.is_empty()).then_some(piece))
    }
}

fn admitted() -> Admitted {
    Allowlist::Off.admit(Err(Rejection::ClientIpUndetermined), &mut Reports::default()).unwrap()
}

fn verifier(key: &str) -> Verifier {
    Verifier {
        keys: vec![NamedKey { name: "key1".into(), key: parse_public_key(key).unwrap() }],
        signature: Enforcement::Enforce,
        timestamp: Enforcement::Enforce,
    }
}

fn headers(signature: &str, timestamp: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [(SIGNATURE_HEADER, signature), (TIMESTAMP_HEADER, timestamp)] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// One request through every gate behind the address, at this time, with 300 s either way.
async fn judge(key: &str, signature: &str, timestamp: &str, body: &[u8], now_s: i64) -> Result<(), Rejection> {
    judge_within(Duration::from_secs(300), key, signature, timestamp, body, now_s).await
}

async fn judge_within(
    tolerance: Duration,
    key: &str,
    signature: &str,
    timestamp: &str,
    body: &[u8],
    now_s: i64,
) -> Result<(), Rejection> {
    let mut reports = Reports::default();
    let verifier = verifier(key);
    let claimed = verifier.claim(&admitted(), &headers(signature, timestamp), &mut reports)?;
    let mut source = InPieces { declared: Some(body.len() as u64), rest: Bytes::copy_from_slice(body) };
    let delivery = Delivery::read(claimed, &mut source, MAX_BODY_BYTES).await?;
    let signed = verifier.verify(delivery, &mut reports)?;
    let tolerance = Tolerance { past: tolerance, future: tolerance, mode: Enforcement::Enforce };
    tolerance.check(signed, now_s * 1000, &mut reports)?;
    assert!(reports.is_empty(), "nothing is only reported where everything is enforced");
    Ok(())
}

/// The body of a golden vector: inline, or rebuilt from its recipe.
fn golden_body(vector: &Value) -> Vec<u8> {
    let body = match vector["body_b64"].as_str() {
        Some(inline) => STANDARD.decode(inline).unwrap(),
        None => {
            let recipe = &vector["body_recipe"];
            let times = usize::try_from(recipe["times"].as_u64().unwrap()).unwrap();
            [text(recipe, "prefix"), &text(recipe, "repeat").repeat(times), text(recipe, "suffix")]
                .concat()
                .into_bytes()
        }
    };
    if let Some(length) = vector["body_len"].as_u64() {
        assert_eq!(body.len() as u64, length, "{}", vector["name"]);
    }
    body
}

/// What hookward answers to a golden vector whose signature is valid, at the time it was signed.
fn golden_verdict(name: &str) -> Result<(), Rejection> {
    match name {
        "ts_millis" => Err(Rejection::TimestampFuture { skew_s: SIGNED_AT_S - SIGNED_AT_S * 1000 }),
        _ if name.starts_with("ts_") => Err(Rejection::TimestampMalformed),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn every_golden_vector_gets_its_verdict_whatever_its_body() {
    let golden = load("telnyx_golden");
    let vectors = list(&golden, "vectors");
    assert_eq!(vectors.len(), 20);
    for vector in vectors {
        let name = text(vector, "name");
        assert_eq!(vector["valid_signature"], true, "{name}");
        let (key, signature, timestamp) =
            (text(vector, "public_key_b64"), text(vector, "signature_b64"), text(vector, "timestamp"));
        let body = golden_body(vector);
        assert_eq!(judge(key, signature, timestamp, &body, SIGNED_AT_S).await, golden_verdict(name), "{name}");
    }
}

#[tokio::test]
async fn one_changed_byte_anywhere_in_a_golden_body_is_a_mismatch() {
    let golden = load("telnyx_golden");
    for vector in list(&golden, "vectors").iter().filter(|v| golden_verdict(text(v, "name")).is_ok()) {
        let name = text(vector, "name");
        let (key, signature, timestamp) =
            (text(vector, "public_key_b64"), text(vector, "signature_b64"), text(vector, "timestamp"));
        let body = golden_body(vector);
        let mut changes = vec![[body.as_slice(), b"\n"].concat()];
        if !body.is_empty() {
            changes.push(body[..body.len() - 1].to_vec());
            for at in [0, body.len() / 2, body.len() - 1] {
                let mut changed = body.clone();
                changed[at] ^= 1;
                changes.push(changed);
            }
        }
        for changed in changes {
            let verdict = judge(key, signature, timestamp, &changed, SIGNED_AT_S).await;
            assert_eq!(verdict, Err(Rejection::SignatureMismatch), "{name}");
        }
        let later = (timestamp.parse::<i64>().unwrap() + 1).to_string();
        let verdict = judge(key, signature, &later, &body, SIGNED_AT_S).await;
        assert_eq!(verdict, Err(Rejection::SignatureMismatch), "{name}: the timestamp is signed too");
    }
}

#[tokio::test]
async fn a_signature_has_one_form_and_every_other_has_its_reason() {
    let golden = load("telnyx_golden");
    let variants = list(&golden, "signature_header_variants");
    assert_eq!(variants.len(), 10);
    for variant in variants {
        let name = text(variant, "name");
        let header = text(variant, "signature_header");
        if name == "sig_trailing_newline" {
            assert!(HeaderValue::from_bytes(header.as_bytes()).is_err(), "no HTTP parser delivers it");
            continue;
        }
        let expected = match name {
            "sig_padded_standard" => Ok(()),
            "sig_bitflip_R" | "sig_all_zero" => Err(Rejection::SignatureMismatch),
            "sig_empty" => Err(Rejection::SignatureMissing),
            "sig_unpadded" | "sig_urlsafe" | "sig_inner_space" | "sig_hex" | "sig_65_bytes" => {
                Err(Rejection::SignatureMalformed)
            }
            other => panic!("`{other}` has no verdict here yet"),
        };
        let body = STANDARD.decode(text(variant, "body_b64")).unwrap();
        let verdict = judge(text(variant, "public_key_b64"), header, text(variant, "timestamp"), &body, SIGNED_AT_S);
        assert_eq!(verdict.await, expected, "{name}");
    }
}

#[test]
fn a_key_is_read_in_every_form_that_people_paste_and_refused_with_its_reason() {
    let golden = load("telnyx_golden");
    let variants = list(&golden, "public_key_format_variants");
    assert_eq!(variants.len(), 9);
    let key = parse_public_key("jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=").unwrap();
    for variant in variants {
        let name = text(variant, "name");
        let expected = match name {
            "key_b64" | "key_b64_trailing_newline" | "key_unpadded" | "key_hex" | "key_spki_der_b64" => Ok(key),
            "key_api_key" => Err(KeyError::ApiKey),
            "key_all_zero" => Err(KeyError::Weak),
            "key_not_on_curve" => Err(KeyError::OffCurve),
            "key_empty" => Err(KeyError::Empty),
            other => panic!("`{other}` has no verdict here yet"),
        };
        assert_eq!(parse_public_key(text(variant, "configured_value")), expected, "{name}");
    }
}

#[tokio::test]
async fn the_tolerance_ends_where_the_sdks_end_it() {
    let keys = load("telnyx_keys");
    let pair = &keys["sdk_test_keypairs"][0];
    let key = SigningKey::from_bytes(&STANDARD.decode(text(pair, "seed_b64")).unwrap().try_into().unwrap());
    let golden = load("telnyx_golden");
    let cases = list(&golden["tolerance_boundaries"], "cases");
    assert_eq!(cases.len(), 9);
    for case in cases {
        let (now_s, timestamp) = (case["now"].as_i64().unwrap(), text(case, "timestamp"));
        let age_s = case["age_seconds"].as_i64().unwrap();
        let expected = match (case["within"].as_bool().unwrap(), age_s > 0) {
            (true, _) => Ok(()),
            (false, true) => Err(Rejection::TimestampStale { skew_s: age_s }),
            (false, false) => Err(Rejection::TimestampFuture { skew_s: age_s }),
        };
        let tolerance = Duration::from_secs(case["tolerance"].as_u64().unwrap());
        let signature = sign(&key, timestamp.parse().unwrap(), b"{}");
        let verdict = judge_within(tolerance, text(pair, "public_b64"), &signature, timestamp, b"{}", now_s);
        assert_eq!(verdict.await, expected, "{}", case["name"]);
    }
}

#[tokio::test]
async fn the_key_pairs_of_the_sdks_sign_what_the_gates_accept() {
    let keys = load("telnyx_keys");
    for pair in list(&keys, "sdk_test_keypairs") {
        let name = text(pair, "name");
        let key = SigningKey::from_bytes(&STANDARD.decode(text(pair, "seed_b64")).unwrap().try_into().unwrap());
        for form in ["public_b64", "public_hex", "public_spki_der_b64"] {
            assert_eq!(parse_public_key(text(pair, form)), Ok(key.verifying_key()), "{name} {form}");
        }
        let signature = sign(&key, SIGNED_AT_S, b"body");
        let timestamp = SIGNED_AT_S.to_string();
        let verdict = judge(text(pair, "public_b64"), &signature, &timestamp, b"body", SIGNED_AT_S).await;
        assert_eq!(verdict, Ok(()), "{name}");
    }
    for printed in list(&keys, "public_keys_seen_in_docs") {
        assert!(parse_public_key(text(printed, "public_b64")).is_ok(), "{printed}");
    }
}

#[test]
fn headers_captured_from_telnyx_are_well_formed() {
    let captures = load("telnyx_real_captures");
    let verifier = verifier("jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=");
    let mut with_signature = 0;
    for capture in list(&captures, "captures") {
        let mut headers = HeaderMap::new();
        for (name, value) in capture["headers"].as_object().unwrap() {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.as_str().unwrap().parse().unwrap());
        }
        // One public note left its signature out.
        let expected = if headers.contains_key(SIGNATURE_HEADER) {
            with_signature += 1;
            None
        } else {
            Some(Rejection::SignatureMissing)
        };
        let claimed = verifier.claim(&admitted(), &headers, &mut Reports::default());
        assert_eq!(claimed.err(), expected, "{}", capture["when"]);
    }
    assert_eq!(with_signature, 3);
}

fn strict(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = <&[u8; 32]>::try_from(key) else { return false };
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(key), Signature::from_slice(signature)) else {
        return false;
    };
    key.verify_strict(message, &signature).is_ok()
}

#[test]
fn rfc_8032_signs_and_verifies_byte_for_byte() {
    let rfc = load("rfc8032_ed25519");
    let vectors = list(&rfc, "vectors");
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let (message, signature) = (hex(vector, "message_hex"), hex(vector, "signature"));
        let key = SigningKey::from_bytes(&hex(vector, "secret").try_into().unwrap());
        assert_eq!(key.verifying_key().as_bytes().as_slice(), hex(vector, "public"), "{}", vector["name"]);
        assert_eq!(key.sign(&message).to_bytes().as_slice(), signature, "{}", vector["name"]);
        assert!(strict(&hex(vector, "public"), &message, &signature), "{}", vector["name"]);
    }
}

#[test]
fn wycheproof_agrees_on_all_151() {
    let wycheproof = load("wycheproof_ed25519_test");
    let mut judged = 0;
    for group in list(&wycheproof, "testGroups") {
        let key = hex(&group["publicKey"], "pk");
        for test in list(group, "tests") {
            let valid = text(test, "result") == "valid";
            assert_eq!(strict(&key, &hex(test, "msg"), &hex(test, "sig")), valid, "tcId {}", test["tcId"]);
            judged += 1;
        }
    }
    assert_eq!(judged, 151);
}

#[test]
fn of_the_speccheck_edge_cases_only_the_fourth_passes() {
    let cases = load("ed25519_speccheck_cases");
    let accepted: Vec<usize> = cases
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .filter(|(_, case)| strict(&hex(case, "pub_key"), &hex(case, "message"), &hex(case, "signature")))
        .map(|(index, _)| index)
        .collect();
    assert_eq!(accepted, [3]);
}

#[test]
fn the_signed_message_is_timestamp_bar_body() {
    assert_eq!(signed_message(b"1700000000", b"|a\0b"), b"1700000000||a\0b");
    assert_eq!(signed_message(b"1", b""), b"1|");
}
