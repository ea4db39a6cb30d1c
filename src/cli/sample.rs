//! Events as Telnyx sends them, with invented content: for `send` and `demo`.
//!
//! Source: Telnyx, "Receiving webhooks for messaging" (developers.telnyx.com), whose field names,
//! order (alphabetical) and two-space indentation are kept. Numbers are from the fictional 555 range.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::clock::rfc3339_ms;

/// The events that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EventType {
    /// A message for us has arrived.
    #[value(name = "message.received")]
    Received,
    /// A message of ours has been handed to the carrier.
    #[value(name = "message.sent")]
    Sent,
    /// A message of ours has reached its last state, with its cost.
    #[value(name = "message.finalized")]
    Finalized,
}

impl EventType {
    /// As in `data.event_type`.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Received => "message.received",
            EventType::Sent => "message.sent",
            EventType::Finalized => "message.finalized",
        }
    }
}

/// With or without pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Text only.
    Sms,
    /// Text and links to media.
    Mms,
}

impl MessageType {
    /// The type of the n-th of a series of events: every fifth is an MMS.
    pub fn nth(index: usize) -> MessageType {
        if index % 5 == 4 { MessageType::Mms } else { MessageType::Sms }
    }

    fn name(self) -> &'static str {
        match self {
            MessageType::Sms => "SMS",
            MessageType::Mms => "MMS",
        }
    }
}

/// One event. Every attempt to deliver it has its own body, under the same id.
#[derive(Debug, Clone)]
pub struct Sample {
    id: String,
    data: Value,
}

/// Some need more than GSM-7, some need escapes in JSON.
const TEXTS: [&str; 5] = [
    "Hello from Telnyx!",
    "Your code is 482913. It expires in 10 minutes.",
    "Grüße aus Köln — bis später 👋",
    "See \"the offer\" at https://shop.example.com/a?b=1&c=2",
    "STOP",
];

impl Sample {
    /// An event that happened at this wall time.
    pub fn new(event_type: EventType, message: MessageType, occurred_unix_ms: i64, random: &mut Rng) -> Sample {
        let id = uuid(random);
        let data = json!({
            "event_type": event_type.name(),
            "id": id,
            "occurred_at": time(occurred_unix_ms),
            "payload": payload(event_type, message, occurred_unix_ms, random),
            "record_type": "event",
        });
        Sample { id, data }
    }

    /// The two events of one message of ours: sent, then, so much later, finalized.
    pub fn sent_and_finalized(
        message: MessageType,
        sent_unix_ms: i64,
        later_ms: i64,
        random: &mut Rng,
    ) -> (Sample, Sample) {
        let sent = Sample::new(EventType::Sent, message, sent_unix_ms, random);
        let mut finalized = Sample::new(EventType::Finalized, message, sent_unix_ms + later_ms, random);
        let (told, payload) = (&sent.data["payload"], &mut finalized.data["payload"]);
        for same in ["encoding", "id", "media", "messaging_profile_id", "organization_id", "sent_at", "text"] {
            payload[same] = told[same].clone();
        }
        payload["from"]["phone_number"] = told["from"]["phone_number"].clone();
        payload["to"][0]["phone_number"] = told["to"][0]["phone_number"].clone();
        (sent, finalized)
    }

    /// `data.id`: the same on every attempt.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The body of one attempt, counted from 1, at the URL that it is sent to.
    pub fn body(&self, attempt: u32, delivered_to: &str) -> Vec<u8> {
        let event = json!({ "data": self.data, "meta": { "attempt": attempt, "delivered_to": delivered_to } });
        format!("{event:#}").into_bytes()
    }
}

fn payload(event_type: EventType, message: MessageType, now: i64, random: &mut Rng) -> Value {
    let text = TEXTS[random.usize(..TEXTS.len())];
    let inbound = event_type == EventType::Received;
    let (us, them) = (phone_number(random), phone_number(random));
    let (from, to) = if inbound { (them, us) } else { (us, them) };
    let usd = |amount: &str| json!({ "amount": amount, "currency": "USD" });
    let mut payload = json!({
        "autoresponse_type": null,
        "cc": [],
        "completed_at": null,
        "cost": null,
        "direction": if inbound { "inbound" } else { "outbound" },
        "encoding": if text.is_ascii() { "GSM-7" } else { "UCS-2" },
        "errors": [],
        "from": { "carrier": "T-Mobile USA", "line_type": "Wireless", "phone_number": from },
        "id": uuid(random),
        "is_spam": false,
        "media": media(message, random),
        "messaging_profile_id": uuid(random),
        "organization_id": uuid(random),
        "parts": 1,
        "received_at": time(now - random.i64(20..400)),
        "record_type": "message",
        "sent_at": null,
        "subject": if message == MessageType::Mms { Value::from("Pictures") } else { Value::Null },
        "tags": [],
        "text": text,
        "to": [{
            "carrier": "Telnyx",
            "line_type": "Wireless",
            "phone_number": to,
            "status": if inbound { "webhook_delivered" } else { "sent" },
        }],
        "type": message.name(),
        "valid_until": null,
        "webhook_failover_url": null,
        "webhook_url": "https://hooks.example.com/telnyx",
    });
    if !inbound {
        payload["sent_at"] = time(now - random.i64(1..20)).into();
        payload["valid_until"] = time(now + 3_600_000).into();
    }
    if event_type == EventType::Finalized {
        payload["completed_at"] = time(now).into();
        payload["cost"] = usd("0.0075");
        payload["cost_breakdown"] = json!({ "carrier_fee": usd("0.0035"), "rate": usd("0.0040") });
        payload["from"]["status"] = "delivered".into();
        payload["tcr_campaign_billable"] = true.into();
        payload["tcr_campaign_id"] = "CEXMPL1".into();
        payload["tcr_campaign_registered"] = "REGISTERED".into();
        payload["to"][0]["status"] = "delivered".into();
    }
    payload
}

fn media(message: MessageType, random: &mut Rng) -> Value {
    if message == MessageType::Sms {
        return json!([]);
    }
    let one = |(content_type, extension): (&str, &str), random: &mut Rng| {
        json!({
            "content_type": content_type,
            "sha256": std::iter::repeat_with(|| format!("{:016x}", random.u64(..))).take(4).collect::<String>(),
            "size": random.u32(20_000..600_000),
            "url": format!("https://media.example.com/{}.{extension}", uuid(random)),
        })
    };
    let kinds = [("image/jpeg", "jpg"), ("image/png", "png"), ("video/mp4", "mp4")];
    kinds.into_iter().take(random.usize(1..=kinds.len())).map(|kind| one(kind, random)).collect()
}

/// `+1 312 555 xxxx`.
fn phone_number(random: &mut Rng) -> String {
    format!("+1312555{:04}", random.u16(..10_000))
}

/// A random (version 4) UUID.
fn uuid(random: &mut Rng) -> String {
    uuid::Builder::from_random_bytes(random.u128(..).to_ne_bytes()).into_uuid().to_string()
}

/// As messaging events write it: milliseconds and a numeric offset.
fn time(unix_ms: i64) -> String {
    rfc3339_ms(unix_ms).replace('Z', "+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ALL: [EventType; 3] = [EventType::Received, EventType::Sent, EventType::Finalized];

    fn parsed(sample: &Sample, attempt: u32) -> Value {
        serde_json::from_slice(&sample.body(attempt, "https://hooks.example.com/telnyx")).unwrap()
    }

    #[test]
    fn every_sample_is_json_with_an_id_of_its_own() {
        let mut random = Rng::with_seed(1);
        let mut ids = HashSet::new();
        for index in 0..500 {
            let event_type = ALL[index % 3];
            let sample = Sample::new(event_type, MessageType::nth(index), 1_700_000_000_123, &mut random);
            let event = parsed(&sample, 1);
            assert_eq!(event["data"]["id"], sample.id());
            assert_eq!(event["data"]["event_type"], event_type.name());
            assert_eq!(event["data"]["occurred_at"], "2023-11-14T22:13:20.123+00:00");
            let id: uuid::Uuid = sample.id().parse().unwrap();
            assert_eq!(id.get_version_num(), 4);
            for number in [&event["data"]["payload"]["from"], &event["data"]["payload"]["to"][0]] {
                assert!(number["phone_number"].as_str().unwrap().starts_with("+1312555"));
                assert_eq!(number["phone_number"].as_str().unwrap().len(), 12);
            }
            ids.insert(sample.id().to_owned());
        }
        assert_eq!(ids.len(), 500);
    }

    #[test]
    fn attempts_differ_in_meta_only() {
        let sample = Sample::new(EventType::Received, MessageType::Sms, 0, &mut Rng::with_seed(2));
        let (first, second) = (parsed(&sample, 1), parsed(&sample, 2));
        assert_eq!(first["data"], second["data"]);
        assert_eq!(second["meta"]["attempt"], 2);
        assert_eq!(second["meta"]["delivered_to"], "https://hooks.example.com/telnyx");
    }

    #[test]
    fn every_fifth_is_an_mms_with_media_links() {
        let mut random = Rng::with_seed(3);
        let mms = (0..100).filter(|index| {
            let event = parsed(&Sample::new(EventType::Received, MessageType::nth(*index), 0, &mut random), 1);
            let payload = &event["data"]["payload"];
            let media = payload["media"].as_array().unwrap();
            assert_eq!(payload["type"] == "MMS", !media.is_empty());
            assert!(media.iter().all(|media| media["sha256"].as_str().unwrap().len() == 64));
            !media.is_empty()
        });
        assert_eq!(mms.count(), 20);
    }

    #[test]
    fn a_finalized_message_tells_its_cost_and_state() {
        let sample = Sample::new(EventType::Finalized, MessageType::Sms, 0, &mut Rng::with_seed(4));
        let payload = &parsed(&sample, 1)["data"]["payload"];
        assert_eq!(payload["cost"]["currency"], "USD");
        assert!(payload["cost"]["amount"].is_string());
        assert_eq!(payload["from"]["status"], "delivered");
        assert_eq!(payload["to"][0]["status"], "delivered");
    }

    #[test]
    fn the_two_events_of_a_message_have_its_id_and_the_later_one_says_so() {
        let (sent, finalized) = Sample::sent_and_finalized(MessageType::Sms, 1_000, 500, &mut Rng::with_seed(6));
        let (sent, finalized) = (parsed(&sent, 1), parsed(&finalized, 1));
        assert_eq!(sent["data"]["payload"]["id"], finalized["data"]["payload"]["id"]);
        assert_ne!(sent["data"]["id"], finalized["data"]["id"]);
        assert_eq!(sent["data"]["event_type"], "message.sent");
        assert_eq!(finalized["data"]["event_type"], "message.finalized");
        assert_eq!(sent["data"]["occurred_at"], "1970-01-01T00:00:01.000+00:00");
        assert_eq!(finalized["data"]["occurred_at"], "1970-01-01T00:00:01.500+00:00");
    }

    #[test]
    fn the_body_is_indented_by_two_spaces() {
        let sample = Sample::new(EventType::Sent, MessageType::Sms, 0, &mut Rng::with_seed(5));
        let body = String::from_utf8(sample.body(1, "u")).unwrap();
        assert!(body.starts_with("{\n  \"data\": {\n    \"event_type\": \"message.sent\",\n    \"id\": "), "{body}");
    }
}
