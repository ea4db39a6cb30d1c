//! Events as Telnyx sends them, and its signature.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hookward::gate::signature::sign;
use uuid::Uuid;

use super::wire::Request;

/// Where requests go unless a test says otherwise.
pub const TARGET: &str = "/webhooks/telnyx";
pub const HOST: &str = "hooks.example.com";

/// The key that hookward is told; [`FORGER`] is one that it is not.
const TELNYX: [u8; 32] = [7; 32];
pub const FORGER: [u8; 32] = [66; 32];

pub fn telnyx_key() -> SigningKey {
    SigningKey::from_bytes(&TELNYX)
}

/// As it stands in the portal.
pub fn public_key() -> String {
    public_key_of(&telnyx_key())
}

/// Its secret, as the commands take it.
pub fn secret_key() -> String {
    STANDARD.encode(TELNYX)
}

pub fn public_key_of(key: &SigningKey) -> String {
    STANDARD.encode(key.verifying_key().as_bytes())
}

pub fn now_s() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A `message.received` with this id, as Telnyx prints it.
pub fn body(id: &str) -> Vec<u8> {
    body_of(id, "message.received")
}

pub fn body_of(id: &str, event_type: &str) -> Vec<u8> {
    let event = serde_json::json!({
        "data": {
            "event_type": event_type,
            "id": id,
            "occurred_at": "2026-05-19T23:30:15.038+00:00",
            "payload": {
                "id": format!("payload-of-{id}"),
                "direction": "inbound",
                "from": { "phone_number": "+13125550001", "carrier": "Example, Inc." },
                "to": [{ "phone_number": "+13125550002", "status": "webhook_delivered" }],
                "text": "Grüße 🐕\u{2028}|",
                "media": [],
                "cost": null,
            },
            "record_type": "event",
        },
        "meta": { "attempt": 1, "delivered_to": format!("https://{HOST}{TARGET}") },
    });
    serde_json::to_vec_pretty(&event).unwrap()
}

/// A genuine request with this body, signed now.
pub fn signed(body: impl Into<Vec<u8>>) -> Request {
    signed_by(&telnyx_key(), now_s(), body)
}

pub fn signed_at(timestamp_s: i64, body: impl Into<Vec<u8>>) -> Request {
    signed_by(&telnyx_key(), timestamp_s, body)
}

pub fn signed_by(key: &SigningKey, timestamp_s: i64, body: impl Into<Vec<u8>>) -> Request {
    let body = body.into();
    Request::post(TARGET)
        .header("Content-Type", "application/json")
        .header("User-Agent", "telnyx-webhooks")
        .header("Telnyx-Signature-Ed25519", sign(key, timestamp_s, &body))
        .header("Telnyx-Timestamp", timestamp_s.to_string())
        .body(body)
}

/// A genuine event with a new id.
pub fn event() -> Request {
    signed(body(&new_id()))
}

/// The same, from somebody without the key.
pub fn forged() -> Request {
    signed_by(&SigningKey::from_bytes(&FORGER), now_s(), body(&new_id()))
}
