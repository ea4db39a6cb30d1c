//! Typed reading of one section, key by key.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Reader;
use super::node::{Entry, Node, Value, Written};
use super::problem::{Fault, Place, Problem};
use super::schema::{Kind, Record};
use super::value::{
    AUTO, bytes_text, did_you_mean, duration_text, is_off, or, parse_bytes, parse_choice, parse_count, parse_duration,
    parse_or_auto, shown,
};

/// Longest text of one value, bytes: a key in PEM form has room, a pasted file has not.
const VALUE_MAX_BYTES: usize = 4096;

/// Beginning of top-level keys that are free for anchored values: they mean nothing by themselves.
pub(super) const ANYTHING: &str = "x-";

/// A section being read. Every read names the key, its default and its meaning; a bad value is
/// reported and the default returned. When the section is dropped, what has not been asked for is
/// reported as unknown.
pub struct Section<'a> {
    reader: &'a Reader,
    /// As shown in problems: `routes[0]`.
    path: String,
    /// As recorded: `routes[]`.
    pattern: String,
    /// Where the section begins, if it is written.
    begins: Option<Written>,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
    /// Whether a stray word in it may be a secret, and so is never shown.
    secret: bool,
    /// Whether something else than a section stands there, which has been reported.
    broken: bool,
}

impl<'a> Section<'a> {
    pub(super) fn root(reader: &'a Reader, node: &'a Node) -> Section<'a> {
        let mut root = Section {
            reader,
            path: String::new(),
            pattern: String::new(),
            begins: None,
            entries: &[],
            asked: RefCell::default(),
            secret: false,
            broken: false,
        };
        root.fill(node);
        // What is missing at the top level is missing from the file, not from its first line.
        root.begins = None;
        root
    }

    fn child(&self, path: String, pattern: String, node: Option<&'a Node>) -> Section<'a> {
        let mut child = Section {
            reader: self.reader,
            path,
            pattern,
            begins: None,
            entries: &[],
            asked: RefCell::default(),
            secret: self.secret,
            broken: false,
        };
        if let Some(node) = node {
            child.fill(node);
        }
        child
    }

    fn fill(&mut self, node: &'a Node) {
        self.begins = Some(node.place);
        match &node.value {
            Value::Map(entries) => self.entries = entries,
            _ if node.is_null() => {}
            // Never repeated: it may be a secret that should have stood behind `value:`.
            _ => {
                self.broken = true;
                let what = format!("is {}, expected a section", node.kind());
                self.own_fault(Fault::new(what, "write `key: value` lines under it"));
            }
        }
    }

    /// Whether something else than a section stands there, which has been reported.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The same section, whose stray words are never shown.
    pub fn secret(mut self) -> Section<'a> {
        self.secret = true;
        self.begins.into_iter().for_each(|place| self.reader.findings.borrow_mut().note_secret(place));
        self.entries.iter().for_each(|entry| self.note_secret(entry));
        self
    }

    fn note_secret(&self, entry: &Entry) {
        let note = |place| self.reader.findings.borrow_mut().note_secret(place);
        note(entry.place);
        entry.value.visit(&mut |node| note(node.place));
    }

    /// Whether the key is written, with something behind it.
    pub fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// Whether the key is written as a list without items.
    pub fn is_empty_list(&self, key: &str) -> bool {
        matches!(self.node(key), Some(Node { value: Value::List(items), .. }) if items.is_empty())
    }

    /// Whether the key's raw text is this.
    pub fn is_text(&self, key: &str, expected: &str) -> bool {
        matches!(self.node(key), Some(Node { value: Value::Scalar { text, .. }, .. }) if &**text == expected)
    }

    /// Whether a key is written as `off`.
    pub fn is_off(&self, key: &str) -> bool {
        matches!(self.node(key), Some(Node { value: Value::Scalar { text, .. }, .. }) if is_off(text))
    }

    /// Reports a fault of a key, at its line, or at the section's if the key is not written.
    pub fn fault(&self, key: &str, fault: Fault) {
        self.fault_at(self.path_of(key), self.entry(key).map(|entry| entry.place).or(self.begins), fault);
    }

    /// Reports a fault of the section as a whole.
    pub fn own_fault(&self, fault: Fault) {
        self.fault_at(self.path.clone(), self.begins, fault);
    }

    fn fault_at(&self, path: String, written: Option<Written>, Fault { what, mend }: Fault) {
        match written {
            Some(written) => {
                self.reader.findings.borrow_mut().add_written(path, written, Fault { what, mend }, !self.secret);
            }
            None => self.reader.report(Problem { place: Place::Whole, path, what, mend }),
        }
    }

    /// A value that `parse` understands; `None` if it is absent or bad.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        kind: Kind,
        default: Option<Json>,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.ask(key, kind, default, doc);
        let node = self.node(key)?;
        match scalar(node).and_then(parse) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault_at(self.path_of(key), Some(node.place), fault);
                None
            }
        }
    }

    /// A text as it stands, without a default.
    pub fn optional_text(&self, key: &'static str, doc: &'static str) -> Option<String> {
        self.parsed(key, Kind::Text, None, doc, |text| Ok(text.to_owned()))
    }

    /// A duration within a range.
    pub fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
        doc: &'static str,
    ) -> Duration {
        let shown = json!(duration_text(default));
        self.parsed(key, Kind::Duration, Some(shown), doc, |text| parse_duration(text, &range)).unwrap_or(default)
    }

    /// A size within a range, bytes.
    pub fn bytes(&self, key: &'static str, default: u64, range: RangeInclusive<u64>, doc: &'static str) -> u64 {
        let shown = json!(bytes_text(default));
        self.parsed(key, Kind::Bytes, Some(shown), doc, |text| parse_bytes(text, &range)).unwrap_or(default)
    }

    /// A whole number within a range, or `auto`, which is the default and `None`.
    pub fn count_or_auto(&self, key: &'static str, range: RangeInclusive<usize>, doc: &'static str) -> Option<usize> {
        let kind = Kind::CountOrAuto { min: *range.start(), max: *range.end() };
        self.parsed(key, kind, Some(json!(AUTO)), doc, |text| parse_or_auto(text, |text| parse_count(text, &range)))
            .flatten()
    }

    /// A size of something that is held in memory, or `auto`, which is the default and `None`.
    pub fn memory_or_auto(&self, key: &'static str, range: RangeInclusive<u64>, doc: &'static str) -> Option<usize> {
        let parse = |text: &str| parse_or_auto(text, |text| parse_bytes(text, &range));
        let bytes = self.parsed(key, Kind::BytesOrAuto, Some(json!(AUTO)), doc, parse).flatten()?;
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// A size of something that is held in memory.
    pub fn memory(&self, key: &'static str, default: u32, range: RangeInclusive<u32>, doc: &'static str) -> usize {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        usize::try_from(self.bytes(key, u64::from(default), range, doc)).unwrap_or(usize::MAX)
    }

    /// A whole number within a range.
    pub fn count(&self, key: &'static str, default: usize, range: RangeInclusive<usize>, doc: &'static str) -> usize {
        self.optional_count(key, Some(default), range, doc).unwrap_or(default)
    }

    /// A whole number within a range, whose default is not fixed.
    pub fn optional_count(
        &self,
        key: &'static str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
        doc: &'static str,
    ) -> Option<usize> {
        let kind = Kind::Count { min: *range.start(), max: *range.end() };
        self.parsed(key, kind, default.map(|default| json!(default)), doc, |text| parse_count(text, &range))
    }

    /// A small whole number.
    pub fn small_count(&self, key: &'static str, default: u16, range: RangeInclusive<u16>, doc: &'static str) -> u32 {
        let range = usize::from(*range.start())..=usize::from(*range.end());
        u32::try_from(self.count(key, usize::from(default), range, doc)).unwrap_or(u32::MAX)
    }

    /// One of several names.
    pub fn choice<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        default: T,
        choices: &'static [(&'static str, T)],
        doc: &'static str,
    ) -> T {
        self.optional_choice(key, Some(default), choices, doc).unwrap_or(default)
    }

    /// One of several names; `None` if absent, whatever the documented default.
    pub fn optional_choice<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        default: Option<T>,
        choices: &'static [(&'static str, T)],
        doc: &'static str,
    ) -> Option<T> {
        let kind = Kind::Choice(choices.iter().map(|(name, _)| *name).collect());
        let shown = choices.iter().find(|(_, value)| Some(*value) == default).map(|(name, _)| json!(name));
        self.parsed(key, kind, shown, doc, |text| parse_choice(text, choices))
    }

    /// `true` or `false`; `on` and `off` too.
    pub fn switch(&self, key: &'static str, default: bool, doc: &'static str) -> bool {
        const WORDS: [(&str, bool); 4] = [("true", true), ("false", false), ("on", true), ("off", false)];
        self.parsed(key, Kind::Switch, Some(json!(default)), doc, |text| parse_choice(text, &WORDS)).unwrap_or(default)
    }

    /// A key that has one value in this version; the others of its kind are to come.
    pub fn fixed(&self, key: &'static str, only: &'static str, doc: &'static str) {
        self.parsed(key, Kind::Choice(vec![only]), Some(json!(only)), doc, |text| fixed(text, only));
    }

    /// A key that is to come, and so is not an unknown one. What a file may copy from the
    /// documentation of a later version passes: `off`, or the given default.
    ///
    /// Returns whether it is written.
    pub fn to_come(&self, key: &'static str, default: Option<&str>) -> bool {
        self.asked.borrow_mut().push(key);
        let written = self.has(key);
        if written && !self.is_off(key) && !default.is_some_and(|default| self.is_text(key, default)) {
            self.fault(key, Fault::new("is not available in this version", "leave it out"));
        }
        written
    }

    /// A list of texts, each understood by `parse`, bad ones reported and left out; `None` if the
    /// key is absent.
    pub fn list<T>(
        &self,
        key: &'static str,
        kind: Kind,
        default: &[&str],
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        self.ask(key, kind, Some(json!(default)), doc);
        let mut values = Vec::new();
        for (index, node) in self.items(key)?.iter().enumerate() {
            match scalar(node).and_then(&parse) {
                Ok(value) => values.push(value),
                Err(fault) => self.fault_at(format!("{}[{index}]", self.path_of(key)), Some(node.place), fault),
            }
        }
        Some(values)
    }

    /// A section of this section; an absent one is empty.
    pub fn section(&self, key: &'static str, doc: &'static str) -> Section<'a> {
        self.ask(key, Kind::Section, None, doc);
        self.child(self.path_of(key), self.pattern_of(key), self.node(key))
    }

    /// A section that may be `off`, and then is `None`.
    pub fn section_or_off(&self, key: &'static str, doc: &'static str) -> Option<Section<'a>> {
        self.ask(key, Kind::SectionOrOff, None, doc);
        let node = self.node(key).filter(|_| !self.is_off(key));
        let off = self.has(key) && node.is_none();
        (!off).then(|| self.child(self.path_of(key), self.pattern_of(key), node))
    }

    /// A list of sections; `None` if the key is absent.
    pub fn sections(&self, key: &'static str, doc: &'static str) -> Option<Vec<Section<'a>>> {
        self.ask(key, Kind::Sections, Some(json!([])), doc);
        if self.reader.is_describing() {
            return Some(vec![self.unwritten_item(key, 0)]);
        }
        let pattern = format!("{}[]", self.pattern_of(key));
        let items = self.items(key)?.iter().enumerate();
        Some(
            items
                .map(|(index, node)| self.child(format!("{}[{index}]", self.path_of(key)), pattern.clone(), Some(node)))
                .collect(),
        )
    }

    /// An item of a list that is not written, so that its defaults can be read like any other's.
    pub fn unwritten_item(&self, key: &str, index: usize) -> Section<'a> {
        self.child(format!("{}[{index}]", self.path_of(key)), format!("{}[]", self.pattern_of(key)), None)
    }

    fn items(&self, key: &str) -> Option<&'a [Node]> {
        let node = self.node(key)?;
        if let Value::List(items) = &node.value {
            return Some(items);
        }
        self.fault_at(
            self.path_of(key),
            Some(node.place),
            Fault::new(format!("is {}, expected a list", node.kind()), "write one `- ` line for each, or [a, b]"),
        );
        None
    }

    fn ask(&self, key: &'static str, kind: Kind, default: Option<Json>, doc: &'static str) {
        self.asked.borrow_mut().push(key);
        self.reader.record(|| Record { path: self.pattern_of(key), kind, default, doc });
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| &*entry.key == key)
    }

    fn node(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// The key's path, as problems show it.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn pattern_of(&self, key: &str) -> String {
        join(&self.pattern, key)
    }

    fn report_strays(&self) {
        let asked = self.asked.borrow();
        for (index, entry) in self.entries.iter().enumerate() {
            let known = asked.contains(&&*entry.key) || (self.path.is_empty() && entry.key.starts_with(ANYTHING));
            let suggestion = did_you_mean(&entry.key, asked.iter().copied());
            let path = if self.secret && !known { self.path.clone() } else { self.path_of(&short(&entry.key)) };
            if let Some(first) = self.entries[..index].iter().find(|earlier| earlier.key == entry.key) {
                let what = format!("is written twice, first on line {}", first.place.line);
                self.fault_at(path, Some(entry.place), Fault::new(what, "keep one of the two"));
            } else if !known {
                let what = if self.secret { "has an unknown key" } else { "is an unknown key" };
                let mend = match suggestion {
                    Some(suggestion) => format!("did you mean `{suggestion}`?"),
                    None if self.path.is_empty() && entry.value.holds_anchor() => {
                        format!(
                            "what only holds an anchor may stand under a key that begins with {ANYTHING}, such as {ANYTHING}{}",
                            short(&entry.key)
                        )
                    }
                    None => format!("known here: {}", or(&asked)),
                };
                self.fault_at(path, Some(entry.place), Fault::new(what, mend));
            }
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.report_strays();
    }
}

/// The text of a value that is one. What stands there otherwise is not repeated.
fn scalar(node: &Node) -> Result<&str, Fault> {
    match &node.value {
        Value::Scalar { text, .. } if text.len() > VALUE_MAX_BYTES => Err(Fault::new(
            format!("is longer than {VALUE_MAX_BYTES} bytes"),
            "write a shorter one, or use a file where one can be named",
        )),
        Value::Scalar { text, .. } => Ok(text),
        Value::List(_) | Value::Map(_) => {
            Err(Fault::new(format!("is {}, expected one value", node.kind()), "write the value behind the colon"))
        }
    }
}

/// Accepts the only value that this version has.
///
/// # Errors
/// Anything else.
pub fn fixed(text: &str, only: &str) -> Result<(), Fault> {
    if text == only {
        return Ok(());
    }
    Err(Fault::new(
        format!("{} is not available in this version", shown(text)),
        format!("write {only}, or leave it out"),
    ))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key as problems show it.
fn short(key: &str) -> String {
    key.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Problems of a text, read by `read`.
    fn problems(text: &str, read: impl FnOnce(&Section<'_>)) -> Vec<String> {
        let reader = Reader::new(text).ok().unwrap();
        read(&reader.root());
        let problems = reader.into_problems();
        problems.iter().map(|p| format!("{}: {}: {}; {}", p.line().unwrap_or(0), p.path, p.what, p.mend)).collect()
    }

    #[test]
    fn a_bad_value_is_reported_and_the_default_taken() {
        let shown = problems("a: many\nb: [1]\nc: 7\n", |root| {
            assert_eq!(root.count("a", 5, 1..=9, ""), 5);
            assert_eq!(root.count("b", 6, 1..=9, ""), 6);
            assert_eq!(root.count("c", 5, 1..=9, ""), 7);
        });
        assert_eq!(
            shown,
            [
                "1: a: `many` is not a whole number; write a whole number from 1 to 9",
                "2: b: is a list, expected one value; write the value behind the colon"
            ]
        );
    }

    #[test]
    fn absent_sections_and_null_ones_are_empty() {
        for text in ["", "s:\n", "s: ~\n", "s: {}\n"] {
            let shown = problems(text, |root| assert_eq!(root.section("s", "").count("a", 5, 1..=9, ""), 5));
            assert!(shown.is_empty(), "{shown:?}");
        }
    }

    #[test]
    fn unknown_and_repeated_keys_are_found_when_the_section_ends() {
        let shown = problems("s:\n  colour: 1\n  cuont: 2\n  count: 3\n  count: 4\n", |root| {
            root.section("s", "").count("count", 5, 1..=9, "");
        });
        assert_eq!(
            shown,
            [
                "2: s.colour: is an unknown key; known here: count",
                "3: s.cuont: is an unknown key; did you mean `count`?",
                "5: s.count: is written twice, first on line 4; keep one of the two"
            ]
        );
    }

    #[test]
    fn stray_words_in_a_secret_are_never_shown() {
        for text in [
            "token: hunter2\n",
            "token: [hunter2]\n",
            "token: { hunter2 }\n",
            "token: { hunter2, hunter2 }\n",
            "token: { value: [hunter2] }\n",
        ] {
            let shown = problems(text, |root| {
                root.section("token", "").secret().optional_text("value", "");
            });
            assert!(!shown.is_empty() && !shown.concat().contains("hunter2"), "{shown:?}");
        }
    }

    /// Problems of sections `a` and `b` with a count each, and a token in `t`.
    fn shared_problems(text: &str) -> Vec<String> {
        problems(text, |root| {
            root.section("a", "").count("n", 5, 1..=9, "");
            root.section("b", "").count("n", 5, 1..=9, "");
            root.section("t", "").secret().optional_text("value", "");
        })
    }

    #[test]
    fn what_an_alias_brings_is_reported_once_and_where_it_is_written() {
        let written_in_a = shared_problems("a: &x\n  n: many\n  m: 1\nb: *x\n");
        assert_eq!(written_in_a.len(), 2, "{written_in_a:?}");
        assert!(written_in_a[0].starts_with("2: a.n: `many` is not a whole number;"), "{written_in_a:?}");
        let template = shared_problems("x-common: &x\n  n: many\na: *x\nb: { <<: *x }\n");
        assert_eq!(
            template,
            ["2: a.n: `many` is not a whole number (used on line 3); write a whole number from 1 to 9"]
        );
        let misused = shared_problems("x-y: &y { value: k }\na: { n: 7 }\nb: *y\nt: { value: k }\n");
        assert_eq!(misused, ["1: b.value: is an unknown key (used on line 3); known here: n"]);
        for misplaced in ["common: &x\n  n: 7\na: *x\n", "common:\n  - &x { n: 7 }\na: *x\n"] {
            let told = shared_problems(misplaced);
            assert!(told[0].ends_with("may stand under a key that begins with x-, such as x-common"), "{told:?}");
        }
    }

    #[test]
    fn what_stands_in_a_secret_too_is_not_shown() {
        for text in [
            "t: { value: &s hunter2 }\na: { n: *s }\n",
            "a: { n: &s hunter2 }\nt: { value: *s }\n",
            "x-s: &s hunter2\na: { n: *s }\nt: { value: *s }\n",
            "t: &s\n  hunter2: x\na: *s\nb:\n  <<: *s\n",
            "x-s: &s hunter2\nt: *s\nb: *s\na: { n: *s }\n",
            "x-s: &s\n  value: hunter2\nt: *s\na:\n  n: *s\nb: *s\n",
        ] {
            let shown = shared_problems(text);
            assert!(!shown.is_empty() && !shown.concat().contains("hunter2"), "{text:?} {shown:#?}");
        }
    }

    #[test]
    fn off_is_never_a_boolean() {
        let shown = problems("a: off\nb: off\nc: off\n", |root| {
            assert_eq!(root.choice("a", 1, &[("on", 1), ("off", 2)], ""), 2);
            assert!(root.section_or_off("b", "").is_none());
            assert!(!root.switch("c", true, ""));
        });
        assert!(shown.is_empty(), "{shown:?}");
    }

    #[test]
    fn off_that_helm_has_rewritten_to_false_is_still_off() {
        let shown = problems("a: false\nb: false\nc: true\nd: 'false'\n", |root| {
            assert_eq!(root.choice("a", 1, &[("on", 1), ("off", 2)], ""), 2);
            assert!(root.section_or_off("b", "").is_none());
            assert_eq!(root.choice("c", 1, &[("on", 1), ("off", 2)], ""), 1);
            root.choice("d", 1, &[("enforce", 1), ("report", 2)], "");
        });
        assert_eq!(
            shown,
            [
                "3: c: `true` is not known here; write on or off",
                "4: d: `false` is not known here; write enforce or report"
            ]
        );
    }

    #[test]
    fn what_is_to_come_is_refused_unless_it_says_the_default() {
        let read = |root: &Section<'_>| {
            root.fixed("mode", "ack", "");
            root.to_come("memory", Some("64MiB"));
        };
        assert!(problems("mode: ack\nmemory: 64MiB\n", read).is_empty());
        let shown = problems("mode: proxy\nmemory: 1GiB\n", read);
        assert_eq!(
            shown,
            [
                "1: mode: `proxy` is not available in this version; write ack, or leave it out",
                "2: memory: is not available in this version; leave it out"
            ]
        );
    }
}
