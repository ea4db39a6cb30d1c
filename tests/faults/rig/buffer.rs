//! What the buffer holds, as its admin side lists it.

use std::collections::HashSet;

use crate::harness::{Hookward, Request};

/// Events per page of the list.
const PAGE: usize = 1000;

/// The events that wait, are dead, or were found damaged, by their id.
#[derive(Default)]
pub struct Held {
    pending: HashSet<String>,
    dead: HashSet<String>,
    quarantined: HashSet<String>,
}

impl Held {
    pub fn by(hookward: &Hookward) -> Held {
        let mut held = Held::default();
        for state in ["pending", "dead", "quarantined"] {
            let into = match state {
                "pending" => &mut held.pending,
                "dead" => &mut held.dead,
                _ => &mut held.quarantined,
            };
            let mut cursor = String::new();
            loop {
                let target = format!("/api/v1/events?state={state}&limit={PAGE}{cursor}");
                let answer = hookward.admin_socket(&Request::get(&target));
                assert_eq!(answer.status, 200, "{answer:?}");
                let page = answer.json();
                for event in page["events"].as_array().unwrap() {
                    into.insert(event["event_id"].as_str().unwrap_or_default().to_owned());
                }
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
        }
        held
    }

    /// Whether the event is in the buffer with its claim to be delivered or repaired.
    pub fn still_holds(&self, id: &str) -> bool {
        self.pending.contains(id) || self.dead.contains(id) || self.quarantined.contains(id)
    }

    pub fn pending(&self) -> &HashSet<String> {
        &self.pending
    }

    pub fn dead(&self) -> usize {
        self.dead.len()
    }

    pub fn is_quarantined(&self, id: &str) -> bool {
        self.quarantined.contains(id)
    }

    pub fn quarantined(&self) -> usize {
        self.quarantined.len()
    }
}
