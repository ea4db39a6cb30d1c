//! The Prometheus text format, as far as hookward writes it.

use std::collections::BTreeMap;
use std::fmt;

/// One scrape.
pub struct Metrics {
    series: Vec<Series>,
}

struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Metrics { series: lines.map(Series::parse).collect() }
    }

    /// The sum of all series of that name which carry these labels, and perhaps others. Panics when
    /// there is none, since every series exists from the start.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no series {name} {labels:?}\n{self}"))
    }

    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.matching(name, labels).peekable();
        found.peek()?;
        Some(found.map(|series| series.value).sum())
    }

    /// The values of one label over all series of that name.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<&str> {
        let named = self.series.iter().filter(|series| series.name == name);
        named.filter_map(|series| series.labels.get(label).map(String::as_str)).collect()
    }

    fn matching<'m>(&'m self, name: &'m str, labels: &'m [(&str, &str)]) -> impl Iterator<Item = &'m Series> {
        self.series.iter().filter(move |series| {
            let has = |(label, value): &(&str, &str)| series.labels.get(*label).is_some_and(|have| have == value);
            series.name == name && labels.iter().all(has)
        })
    }
}

impl Series {
    /// `name{label="value",…} 1`; the values of hookward's labels hold neither quotes nor commas.
    fn parse(line: &str) -> Series {
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let pair = |pair: &str| {
            let (label, value) = pair.split_once('=').unwrap_or_else(|| panic!("{line}"));
            (label.to_owned(), value.trim_matches('"').to_owned())
        };
        let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(pair).collect();
        Series { name: name.to_owned(), labels, value: value.parse().unwrap() }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Series { name, labels, value } in &self.series {
            // What is zero would bury the rest.
            if !name.ends_with("_bucket") && *value != 0.0 {
                writeln!(f, "{name} {labels:?} {value}")?;
            }
        }
        Ok(())
    }
}
