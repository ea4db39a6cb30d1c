//! A sender: requests as Telnyx sends them, each with an event of its own, behind a proxy that names
//! the client. The same ones every time.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use hookward::buffer::event::{DeliveryId, Event, EventHead};
use hookward::cli::sample::{EventType, MessageType, Sample};
use hookward::gate::keys::NamedKey;
use hookward::gate::signature::sign;

/// The time at which everything happens.
pub const NOW_S: i64 = 1_790_000_000;
const TARGET: &str = "/webhooks/telnyx";
/// Within the preset `telnyx`.
const CLIENT: &str = "192.76.120.200";

pub struct Sender {
    key: SigningKey,
    random: fastrand::Rng,
}

/// A request as it goes over the wire, and where its parts are.
pub struct Request {
    pub wire: Vec<u8>,
    pub header_len: usize,
    pub signature: String,
}

impl Request {
    pub fn header(&self) -> &[u8] {
        &self.wire[..self.header_len]
    }

    pub fn body(&self) -> &[u8] {
        &self.wire[self.header_len..]
    }
}

impl Sender {
    pub fn new() -> Sender {
        Sender { key: SigningKey::from_bytes(&[7; 32]), random: fastrand::Rng::with_seed(1) }
    }

    pub fn public(&self) -> NamedKey {
        NamedKey { name: "key1".into(), key: self.key.verifying_key() }
    }

    fn body(&mut self) -> (Sample, Vec<u8>) {
        let sample = Sample::new(EventType::Received, MessageType::Sms, NOW_S * 1000, &mut self.random);
        let body = sample.body(1, "https://hooks.example.com/webhooks/telnyx");
        (sample, body)
    }

    pub fn request(&mut self) -> Request {
        let (_, body) = self.body();
        let signature = sign(&self.key, NOW_S, &body);
        let mut wire = format!(
            "POST {TARGET} HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: telnyx-webhooks\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nTelnyx-Signature-Ed25519: {signature}\r\n\
             Telnyx-Timestamp: {NOW_S}\r\nX-Forwarded-For: {CLIENT}\r\nX-Forwarded-Proto: https\r\n\r\n",
            body.len()
        )
        .into_bytes();
        let header_len = wire.len();
        wire.extend_from_slice(&body);
        Request { wire, header_len, signature }
    }

    pub fn requests(&mut self, count: usize) -> Vec<Request> {
        (0..count).map(|_| self.request()).collect()
    }

    /// An event as it is stored once its request has been verified.
    pub fn event(&mut self) -> Event {
        let (sample, body) = self.body();
        let signature = sign(&self.key, NOW_S, &body);
        let timestamp = NOW_S.to_string();
        let headers = [
            ("host", "hooks.example.com"),
            ("user-agent", "telnyx-webhooks"),
            ("content-type", "application/json"),
            ("telnyx-signature-ed25519", &signature),
            ("telnyx-timestamp", &timestamp),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", CLIENT),
            ("x-forwarded-host", "hooks.example.com"),
        ];
        let field = |(name, value): (&str, &str)| {
            (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
        };
        let mut id = [0; 16];
        self.random.fill(&mut id);
        Event {
            delivery_id: DeliveryId(id),
            received_unix_ms: NOW_S * 1000,
            route: "default".into(),
            event_id: Some(sample.id().to_owned()),
            event_type: Some("message.received".to_owned()),
            head: EventHead {
                method: "POST".to_owned(),
                target: Bytes::from_static(TARGET.as_bytes()),
                headers: headers.into_iter().map(field).collect(),
                key: Some("key1".into()),
            },
            body: body.into(),
            replay: false,
        }
    }
}
