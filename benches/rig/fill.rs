//! A buffer with many events, written through the engine: a sender would take minutes.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hookward::buffer::capacity::{MaxBytes, Reserve};
use hookward::buffer::event::{DeliveryId, Event, EventHead, Fingerprint, HandedOut, NewEvent, Outcome, Settlement};
use hookward::buffer::sqlite::{Settings, SqliteBuffer};
use hookward::buffer::{Append, Appended, Buffer as _, Work};
use hookward::clock::RunMs;

/// What is stored at once.
const GROUP: u64 = 5_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What the buffer is to hold.
pub struct Filling<'a> {
    pub events: u64,
    pub route: &'a str,
    /// One event of so many is a dead letter; 0 for none.
    pub dead_every: u64,
}

/// Events whose bodies are made by `body`.
pub fn fill(dir: &Path, filling: &Filling<'_>, body: impl Fn(u64) -> Vec<u8>) {
    let settings = Settings {
        max_bytes: MaxBytes::Fixed(16 << 30),
        reserve: Reserve::Percent(10),
        dedupe_entries: 1_000_000,
        tombstone_keep: DAY,
        dead_letter_keep: 14 * DAY,
        delivered_keep: Duration::ZERO,
        in_order: false,
    };
    let (mut engine, _) = SqliteBuffer::open(dir, settings).unwrap();
    let mut dead: Vec<Settlement> = Vec::new();
    for first in (0..filling.events).step_by(usize::try_from(GROUP).unwrap()) {
        let group = first..(first + GROUP).min(filling.events);
        let appends = group.map(|n| append(n, filling, body(n))).collect();
        let work = Work { appends, settlements: std::mem::take(&mut dead) };
        let appended = engine.commit(&work, RunMs(1)).unwrap();
        for (append, appended) in work.appends.iter().zip(appended) {
            let delivery_id = append.event.event.delivery_id;
            match appended {
                Appended::Stored { seq, claimed: true } => dead.push(given_up(HandedOut { seq, delivery_id })),
                Appended::Stored { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        if engine.is_pressed() {
            engine.maintain(RunMs(1), false).unwrap();
        }
    }
    engine.commit(&Work { appends: vec![], settlements: dead }, RunMs(2)).unwrap();
    engine.close(RunMs(3)).unwrap();
}

/// Dead letters are of a route of their own, where nothing older waits, so that they can be claimed.
fn append(n: u64, filling: &Filling<'_>, body: Vec<u8>) -> Append {
    let is_dead = filling.dead_every > 0 && n.is_multiple_of(filling.dead_every);
    let mut print = [0; 16];
    print[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    print[8..].copy_from_slice(&n.to_le_bytes());
    let event = Event {
        delivery_id: DeliveryId(print),
        received_unix_ms: 1_700_000_000_000,
        route: if is_dead { "dead".into() } else { filling.route.into() },
        event_id: Some(format!("{n:032x}")),
        event_type: Some("message.received".to_owned()),
        head: EventHead {
            method: "POST".into(),
            target: Bytes::from_static(b"/webhooks"),
            headers: vec![(Bytes::from_static(b"content-type"), Bytes::from_static(b"application/json")); 8],
            key: Some("key1".into()),
        },
        body: Bytes::from(body),
        replay: false,
    };
    Append { event: NewEvent::new(event, Some((Fingerprint(print), DAY))), claim: is_dead }
}

fn given_up(event: HandedOut) -> Settlement {
    let outcome = Outcome::Dead { error: "the app answered 400 Bad Request".to_owned() };
    Settlement { event, outcome, attempts: 8, last: None }
}
