//! What came of attackers.

use std::collections::BTreeMap;

/// What came of attackers: their number, by the status of the answer they got, if any.
#[derive(Default)]
pub struct Came(BTreeMap<Option<u16>, usize>);

impl Came {
    pub fn note(&mut self, status: Option<u16>) {
        *self.0.entry(status).or_default() += 1;
    }

    pub fn of(statuses: impl IntoIterator<Item = Option<u16>>) -> Came {
        let mut came = Came::default();
        statuses.into_iter().for_each(|status| came.note(status));
        came
    }

    pub fn add(&mut self, other: Came) {
        for (status, count) in other.0 {
            *self.0.entry(status).or_default() += count;
        }
    }

    /// All of them together.
    pub fn sum(parts: impl IntoIterator<Item = Came>) -> Came {
        let mut all = Came::default();
        parts.into_iter().for_each(|part| all.add(part));
        all
    }

    pub fn statuses(&self) -> impl Iterator<Item = u16> {
        self.0.keys().filter_map(|status| *status)
    }

    pub fn all(&self) -> usize {
        self.0.values().sum()
    }

    pub fn with(&self, status: u16) -> usize {
        self.0.get(&Some(status)).copied().unwrap_or(0)
    }

    /// `400×12 408×3 none×4`
    pub fn summary(&self) -> String {
        let name = |status: &Option<u16>| status.map_or("none".to_owned(), |status| status.to_string());
        self.0.iter().map(|(status, count)| format!("{}×{count}", name(status))).collect::<Vec<_>>().join(" ")
    }
}
