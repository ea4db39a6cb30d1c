//! The account of a run: counts, expectations met and missed, exact latency percentiles.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::Seen;
use super::player::{Exchange, Finished};

/// Lags below this are the machine's own unrest.
const BEHIND: Duration = Duration::from_millis(10);

/// Which percentiles are shown, as (JSON name, shown name, per mille).
const PERCENTILES: [(&str, &str, usize); 4] =
    [("p50", "p50", 500), ("p90", "p90", 900), ("p99", "p99", 990), ("p99_9", "p99.9", 999)];

/// One kind of thing that was seen where something was expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    scenario: &'static str,
    expected: String,
    seen: String,
    met: bool,
}

/// Everything that is counted while events finish.
#[derive(Debug, Default)]
pub struct Tally {
    events: u64,
    accepted: u64,
    duplicate: u64,
    rejected: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
    retries: u64,
    rows: BTreeMap<Row, u64>,
    latencies_us: Vec<u32>,
    max_lag: Duration,
}

impl Tally {
    /// Counts an event that is over.
    pub fn add(&mut self, finished: &Finished) {
        self.events += 1;
        for (expected, answer) in finished.case.expected().iter().zip(&finished.answers) {
            let retried = answer.retries() > 0;
            self.retries += u64::try_from(answer.retries()).unwrap_or_default();
            self.count(&answer.seen);
            let row = Row {
                scenario: finished.case.name(),
                expected: expected.label(),
                seen: answer.seen.label(),
                met: expected.is_met_by(&answer.seen, retried),
            };
            *self.rows.entry(row).or_default() += 1;
            answer.exchanges.iter().for_each(|exchange| self.time(*exchange));
        }
    }

    fn count(&mut self, seen: &Seen) {
        match seen {
            Seen::Accepted { .. } => self.accepted += 1,
            Seen::Duplicate { .. } => self.duplicate += 1,
            Seen::Refused { status: 400..=499, .. } => *self.rejected.entry(seen.label()).or_default() += 1,
            Seen::Refused { .. } | Seen::NoAnswer(_) => *self.failed.entry(seen.label()).or_default() += 1,
        }
    }

    fn time(&mut self, exchange: Exchange) {
        self.latencies_us.push(u32::try_from(exchange.latency.as_micros()).unwrap_or(u32::MAX));
        self.max_lag = self.max_lag.max(exchange.lag);
    }

    /// Closes the account after this much time.
    pub fn close(mut self, elapsed: Duration) -> Summary {
        self.latencies_us.sort_unstable();
        Summary { tally: self, elapsed }
    }
}

/// The smallest value that at least so many per mille of the (sorted) values do not exceed.
fn percentile(sorted: &[u32], per_mille: usize) -> Option<u32> {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn ms(us: u32) -> f64 {
    f64::from(us) / 1000.0
}

/// A run that is over.
#[derive(Debug)]
pub struct Summary {
    tally: Tally,
    elapsed: Duration,
}

impl Summary {
    /// Whether every answer is what its scenario expects.
    pub fn is_as_expected(&self) -> bool {
        self.tally.events > 0 && self.tally.rows.keys().all(|row| row.met)
    }

    fn rate_per_s(&self) -> f64 {
        // At most 10 million events: exact.
        self.tally.latencies_us.len() as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }

    fn fell_behind(&self) -> bool {
        self.tally.max_lag > BEHIND
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let tally = &self.tally;
        let mut latency: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|(name, _, per_mille)| {
                ((*name).to_owned(), percentile(&tally.latencies_us, *per_mille).map(ms).into())
            })
            .collect();
        latency.insert("max".to_owned(), tally.latencies_us.last().copied().map(ms).into());
        let expectations: Vec<Value> = tally
            .rows
            .iter()
            .map(|(row, count)| {
                json!({ "scenario": row.scenario, "expected": row.expected, "seen": row.seen, "count": count, "met": row.met })
            })
            .collect();
        json!({
            "as_expected": self.is_as_expected(),
            "events": tally.events,
            "requests": tally.latencies_us.len(),
            "outcomes": {
                "accepted": tally.accepted,
                "duplicate": tally.duplicate,
                "rejected": tally.rejected,
                "failed": tally.failed,
            },
            "retries": tally.retries,
            "expectations": expectations,
            "latency_ms": latency,
            "elapsed_s": self.elapsed.as_secs_f64(),
            "requests_per_s": self.rate_per_s(),
            "schedule": { "behind": self.fell_behind(), "max_lag_ms": tally.max_lag.as_secs_f64() * 1000.0 },
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let tally = &self.tally;
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} events in {:.2} s: {} requests, {:.1} a second",
            tally.events,
            self.elapsed.as_secs_f64(),
            tally.latencies_us.len(),
            self.rate_per_s()
        );
        if self.fell_behind() {
            let _ = writeln!(
                text,
                "the schedule fell behind by up to {:.0} ms: the receiver is too slow for this rate and --concurrency (latencies count from the scheduled time)",
                tally.max_lag.as_secs_f64() * 1000.0
            );
        }
        let _ = writeln!(text);
        self.outcomes(&mut text);
        self.expectations(&mut text);
        self.latencies(&mut text);
        text
    }

    fn outcomes(&self, text: &mut String) {
        let tally = &self.tally;
        let groups = [("rejected", &tally.rejected), ("failed", &tally.failed)];
        for (name, count) in [("accepted", tally.accepted), ("duplicate", tally.duplicate)] {
            let _ = writeln!(text, "{name:<12}{count:>9}");
        }
        for (name, labels) in groups {
            let _ = writeln!(text, "{name:<12}{:>9}", labels.values().sum::<u64>());
            for (label, count) in labels {
                let _ = writeln!(text, "{:<12}{count:>9}  {label}", "");
            }
        }
        let _ = writeln!(text, "{:<12}{:>9}", "retries", tally.retries);
    }

    fn expectations(&self, text: &mut String) {
        let width = |title: &str, cell: fn(&Row) -> &str| {
            self.tally.rows.keys().map(|row| cell(row).len()).chain([title.len()]).max().unwrap_or_default()
        };
        let titles = ("scenario", "expected", "seen");
        let scenario = width(titles.0, |row| row.scenario);
        let expected = width(titles.1, |row| &row.expected);
        let seen = width(titles.2, |row| &row.seen);
        let _ =
            writeln!(text, "\n{:<scenario$}  {:<expected$}  {:<seen$}  {:>9}", titles.0, titles.1, titles.2, "count");
        for (row, count) in &self.tally.rows {
            let verdict = match (row.met, row.expected == row.seen) {
                (true, true) => "",
                (true, false) => "  after a retry",
                (false, _) => "  NOT EXPECTED",
            };
            let _ = writeln!(
                text,
                "{:<scenario$}  {:<expected$}  {:<seen$}  {count:>9}{verdict}",
                row.scenario, row.expected, row.seen
            );
        }
    }

    fn latencies(&self, text: &mut String) {
        let sorted = &self.tally.latencies_us;
        let _ = write!(text, "\nlatency in ms:");
        for (_, name, per_mille) in PERCENTILES {
            let _ = write!(text, " {name} {:.3} ", percentile(sorted, per_mille).map_or(0.0, ms));
        }
        let _ = writeln!(text, " max {:.3}", sorted.last().copied().map_or(0.0, ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::plan::Case;
    use crate::cli::send::player::Answer;
    use crate::client::ExchangeError;

    fn answer(seen: Seen, latencies_ms: &[u64]) -> Answer {
        let exchange = |ms: &u64| Exchange { latency: Duration::from_millis(*ms), lag: Duration::ZERO };
        Answer { seen, exchanges: latencies_ms.iter().map(exchange).collect() }
    }

    fn refused(status: u16, reason: &str) -> Seen {
        Seen::Refused { status, reason: Some(reason.to_owned()) }
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 500), Some(50));
        assert_eq!(percentile(&hundred, 900), Some(90));
        assert_eq!(percentile(&hundred, 990), Some(99));
        assert_eq!(percentile(&hundred, 999), Some(100));
        let thousand: Vec<u32> = (1..=1000).collect();
        assert_eq!(percentile(&thousand, 999), Some(999));
        assert_eq!(percentile(&[7], 500), Some(7));
        assert_eq!(percentile(&[7, 9], 500), Some(7));
        assert_eq!(percentile(&[], 500), None);
    }

    #[test]
    fn a_run_is_as_expected_only_if_every_answer_is() {
        let mut tally = Tally::default();
        tally.add(&Finished {
            case: Case::DuplicateAfter,
            answers: vec![answer(Seen::Accepted { status: 200 }, &[2]), answer(Seen::Duplicate { status: 200 }, &[1])],
        });
        tally.add(&Finished { case: Case::Ok, answers: vec![answer(Seen::Duplicate { status: 200 }, &[2000, 3])] });
        tally.add(&Finished { case: Case::Stale, answers: vec![answer(refused(403, "timestamp_stale"), &[1])] });
        let summary = tally.close(Duration::from_secs(2));
        assert!(summary.is_as_expected());
        let json = summary.json();
        assert_eq!(json["events"], 3);
        assert_eq!(json["requests"], 5);
        assert_eq!(json["retries"], 1);
        assert_eq!(json["outcomes"]["accepted"], 1);
        assert_eq!(json["outcomes"]["duplicate"], 2);
        assert_eq!(json["outcomes"]["rejected"]["403 timestamp_stale"], 1);
        assert_eq!(json["latency_ms"]["p50"], 2.0);
        assert_eq!(json["latency_ms"]["max"], 2000.0);
        assert_eq!(json["requests_per_s"], 2.5);
        assert!(summary.text().contains("after a retry"));
    }

    #[test]
    fn what_was_not_expected_is_pointed_out() {
        let mut tally = Tally::default();
        tally.add(&Finished { case: Case::BadSignature, answers: vec![answer(Seen::Accepted { status: 200 }, &[1])] });
        tally.add(&Finished {
            case: Case::Ok,
            answers: vec![answer(Seen::NoAnswer(ExchangeError::Timeout), &[1, 1, 1])],
        });
        tally.add(&Finished { case: Case::Ok, answers: vec![answer(refused(503, "buffer_full"), &[1, 1, 1])] });
        let summary = tally.close(Duration::from_secs(1));
        assert!(!summary.is_as_expected());
        let text = summary.text();
        assert_eq!(text.matches("NOT EXPECTED").count(), 3, "{text}");
        assert!(text.contains("403 signature_mismatch"), "{text}");
        assert!(text.contains("503 buffer_full"), "{text}");
        assert_eq!(summary.json()["outcomes"]["failed"]["503 buffer_full"], 1);
    }

    #[test]
    fn a_schedule_that_fell_behind_is_told() {
        let mut tally = Tally::default();
        let late = Exchange { latency: Duration::from_millis(80), lag: Duration::from_millis(75) };
        tally.add(&Finished {
            case: Case::Ok,
            answers: vec![Answer { seen: Seen::Accepted { status: 200 }, exchanges: vec![late] }],
        });
        let summary = tally.close(Duration::from_secs(1));
        assert!(summary.text().contains("fell behind by up to 75 ms"));
        assert_eq!(summary.json()["schedule"]["behind"], true);
    }

    #[test]
    fn the_columns_stand_in_line() {
        let mut tally = Tally::default();
        for case in [Case::RewrittenJson, Case::Future] {
            tally.add(&Finished { case, answers: vec![answer(refused(403, "signature_mismatch"), &[1])] });
        }
        let text = tally.close(Duration::from_secs(1)).text();
        let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("scenario")).take(3).collect();
        let column = |title: &str| table[0].find(title).unwrap();
        for row in &table[1..] {
            assert_eq!(row.find("403 "), Some(column("expected")), "{text}");
            assert_eq!(row.rfind("403 "), Some(column("seen")), "{text}");
            assert_eq!(row.find(" 1").map(|at| at + 2), Some(column("count") + "count".len()), "{text}");
        }
    }

    #[test]
    fn a_run_without_events_is_not_a_success() {
        assert!(!Tally::default().close(Duration::ZERO).is_as_expected());
    }
}
