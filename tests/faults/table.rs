//! The table: one row for each kind of fault.

use std::time::Duration;

use super::rig::Verdict;

/// What one kind of fault came to.
#[derive(Debug, Default)]
pub struct Row {
    fault: String,
    cycles: usize,
    acked: usize,
    lost: usize,
    duplicated: usize,
    quarantined: usize,
    reported: usize,
    recoveries: Vec<Duration>,
    note: String,
}

impl Row {
    /// How often the fault was brought about, and what the checker found.
    pub fn new(fault: &str, cycles: usize, verdict: &Verdict) -> Row {
        Row {
            fault: fault.to_owned(),
            cycles,
            acked: verdict.acked,
            lost: verdict.lost.len(),
            duplicated: verdict.delivered_again,
            quarantined: verdict.quarantined,
            ..Row::default()
        }
    }

    /// From the moment the fault was over to the next answer 200.
    pub fn recovered_in(mut self, recoveries: Vec<Duration>) -> Row {
        self.recoveries = recoveries;
        self
    }

    /// Losses that hookward itself has reported, where the medium was damaged.
    pub fn reported(mut self, events: usize) -> Row {
        self.reported = events;
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    pub fn acked(&self) -> usize {
        self.acked
    }

    pub fn print(&self) {
        let ms = |duration: Option<&Duration>| duration.map_or("-".to_owned(), |time| time.as_millis().to_string());
        let mut recoveries = self.recoveries.clone();
        recoveries.sort();
        println!(
            "{:<26} {:>6} {:>8} {:>5} {:>10} {:>11} {:>8} {:>6} / {:<6}  {}",
            self.fault,
            self.cycles,
            self.acked,
            self.lost,
            self.duplicated,
            self.quarantined,
            self.reported,
            ms(recoveries.get(recoveries.len() / 2)),
            ms(recoveries.last()),
            self.note,
        );
    }
}

pub fn print_header() {
    println!(
        "{:<26} {:>6} {:>8} {:>5} {:>10} {:>11} {:>8} {:>6} / {:<6}",
        "fault", "cycles", "acked", "lost", "duplicated", "quarantined", "reported", "p50", "max ms"
    );
}
