//! YAML text to values with their place, collecting every problem on the way.
//!
//! [`node`] turns text into a tree with line numbers, [`section`] reads typed values out of it, and
//! [`schema`] describes what was read. A value is asked for once, with its default and its meaning
//! in the same call, so the JSON Schema and the documentation cannot say anything else than what
//! the program does.

mod anchors;
mod findings;
mod merge;
pub mod node;
pub mod problem;
mod salvage;
pub mod schema;
pub mod section;
pub mod value;

use std::cell::RefCell;

use findings::Findings;
use node::Node;
use problem::{Place, Problem};
use schema::Record;
use section::Section;

/// Largest configuration file.
pub const FILE_MAX_BYTES: usize = 1024 * 1024;

/// One document being read. Problems pile up here, and reading goes on with defaults.
pub struct Reader {
    root: Node,
    findings: RefCell<Findings>,
    /// What has been asked for; only when describing.
    records: Option<RefCell<Vec<Record>>>,
}

impl Reader {
    /// A reader of this text.
    ///
    /// # Errors
    /// When the text is not YAML at all, so that reading on would only invent more problems.
    pub fn new(text: &str) -> Result<Reader, Vec<Problem>> {
        let mut problems = Vec::new();
        match node::parse(text, &mut problems) {
            Some(root) => {
                let reader = Reader { root, ..Reader::empty() };
                problems.into_iter().for_each(|problem| reader.report(problem));
                Ok(reader)
            }
            None => Err(problems),
        }
    }

    /// A reader of these top-level keys as far as they can be read, and the problem of a text that
    /// is not YAML as a whole.
    pub fn lenient(text: &str, keys: &[&str]) -> (Reader, Vec<Problem>) {
        Reader::new(text).map_or_else(
            |problems| (Reader { root: salvage::salvage(text, keys), ..Reader::empty() }, problems),
            |reader| (reader, Vec::new()),
        )
    }

    /// A reader of an empty document.
    pub fn empty() -> Reader {
        Reader { root: Node::null(), findings: RefCell::default(), records: None }
    }

    /// A reader of an empty document that records what is asked for, and shows every list of
    /// sections as one empty section so that its keys are asked for too.
    pub fn describing() -> Reader {
        Reader { records: Some(RefCell::default()), ..Reader::empty() }
    }

    /// The document's top level.
    pub fn root(&self) -> Section<'_> {
        Section::root(self, &self.root)
    }

    /// Adds a problem.
    pub fn report(&self, problem: Problem) {
        self.findings.borrow_mut().add(problem);
    }

    /// Adds a problem of a flag or its environment variable.
    pub fn report_flag(&self, flag: &str, fault: problem::Fault) {
        self.report(Problem { place: Place::Flag, path: flag.to_owned(), what: fault.what, mend: fault.mend });
    }

    /// All problems; every section has been dropped by then, and so has reported its unknown keys.
    pub fn into_problems(self) -> Vec<Problem> {
        self.findings.into_inner().into_problems()
    }

    /// What was asked for, in order.
    pub fn into_records(self) -> Vec<Record> {
        self.records.map(RefCell::into_inner).unwrap_or_default()
    }

    fn record(&self, record: impl FnOnce() -> Record) {
        if let Some(records) = &self.records {
            records.borrow_mut().push(record());
        }
    }

    fn is_describing(&self) -> bool {
        self.records.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}|[ -~\\n\\t]{0,300}|([a-c:{}\\[\\]\\-&*!|>'\"#,? \\n]){0,120}") {
            if let Ok(reader) = Reader::new(&text) {
                reader.root().section("a", "").optional_text("b", "");
            }
            let (reader, _) = Reader::lenient(&text, &["a", "b"]);
            reader.root().section("a", "").optional_text("b", "");
        }
    }
}
