//! YAML text as a tree of nodes with their lines. Aliases and merge keys are expanded; what makes
//! files hard to judge otherwise (tags, several documents) is a problem.

use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::anchors::{Anchors, Refused};
use super::merge::{self, MERGE_KEY};

use super::FILE_MAX_BYTES;
use super::problem::{Place, Problem};

/// Deepest nesting, aliases expanded; the configuration itself needs six.
pub(super) const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is written.
    pub place: Written,
    /// What it is.
    pub value: Value,
    /// Whether an anchor (`&name`) stands before it.
    pub is_anchored: bool,
}

/// Where something is written, and where it is used if that is by an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Line, from 1.
    pub line: usize,
    /// The line of the alias that has brought a copy of it elsewhere.
    pub alias_line: Option<usize>,
}

impl Written {
    fn at(line: usize) -> Written {
        Written { line, alias_line: None }
    }
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// Raw text: nothing is guessed from it, so `off` stays `off`.
    Scalar {
        /// After escapes. Copies share it.
        text: Rc<str>,
        /// Whether it stood in quotes (or is a block).
        quoted: bool,
    },
    /// `- item` lines or `[a, b]`.
    List(Vec<Node>),
    /// `key: value` lines or `{ a: b }`, in order, duplicates included.
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: Rc<str>,
    /// Where the key stands.
    pub place: Written,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Nothing, as an empty document is.
    pub fn null() -> Node {
        Node { place: Written::at(1), value: Value::Scalar { text: "".into(), quoted: false }, is_anchored: false }
    }

    /// Whether an anchor stands before it or within it.
    pub fn holds_anchor(&self) -> bool {
        self.is_anchored
            || match &self.value {
                Value::Scalar { .. } => false,
                Value::List(items) => items.iter().any(Node::holds_anchor),
                Value::Map(entries) => entries.iter().any(|entry| entry.value.holds_anchor()),
            }
    }

    /// Whether it is YAML's nothing: `key:`, `key: ~`, `key: null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false } if matches!(&**text, "" | "~" | "null"))
    }

    /// Calls `see` with this node and every node below it.
    pub(super) fn visit(&self, see: &mut impl FnMut(&Node)) {
        see(self);
        match &self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter().for_each(|item| item.visit(see)),
            Value::Map(entries) => entries.iter().for_each(|entry| entry.value.visit(see)),
        }
    }

    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }
}

/// Reads a text. `None` if it is no YAML, with the reason among the problems; lesser problems leave
/// a tree.
pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let options = granit_parser::options! { emit_unresolved_aliases: true };
    let events = Parser::new_from_str_with_options(text, options);
    let mut tree = Tree { events, anchors: Anchors::default(), problems };
    if text.len() > FILE_MAX_BYTES {
        tree.problem(1, "is larger than 1 MiB", "is this the right file?");
        return None;
    }
    tree.document().ok()
}

/// Reading cannot go on; the reason is among the problems.
struct Stop;

struct Tree<'a, I> {
    events: I,
    anchors: Anchors,
    problems: &'a mut Vec<Problem>,
}

impl<'t, I: Iterator<Item = Result<(Event<'t>, Span), ScanError>>> Tree<'_, I> {
    fn problem(&mut self, line: usize, what: &str, mend: &str) {
        self.problems.push(Problem {
            place: Place::Line(line),
            path: String::new(),
            what: what.into(),
            mend: mend.into(),
        });
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(root.unwrap_or_else(Node::null)),
                Event::DocumentStart(..) if root.is_some() => {
                    self.problem(line, "begins a second document", "write one document and no further `---`");
                    return root.ok_or(Stop);
                }
                Event::DocumentStart(..) => {
                    let (event, line) = self.next()?;
                    root = Some(self.node(event, line, 0)?);
                }
                _ => return Err(self.stop(line)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, usize), Stop> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                // The scanner's texts name at most one character of the input, never a value.
                let what = format!("is not valid YAML ({})", error.kind());
                self.problem(
                    error.marker().line(),
                    &what,
                    "check indentation, quotes and brackets on this line and before",
                );
                Err(Stop)
            }
            None => Err(self.stop(1)),
        }
    }

    fn stop(&mut self, line: usize) -> Stop {
        self.problem(line, "is not valid YAML", "check indentation, quotes and brackets");
        Stop
    }

    fn node(&mut self, event: Event<'t>, line: usize, depth: usize) -> Result<Node, Stop> {
        if depth > DEPTH_MAX {
            return Err(self.too_deep(line));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(line, tag.is_some());
                (Value::Scalar { text: text.into(), quoted: style != ScalarStyle::Plain }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(line, tag.is_some());
                (Value::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(line, tag.is_some());
                (Value::Map(self.map(depth)?), anchor)
            }
            Event::Alias(id) => return self.alias(id, line, depth),
            Event::UnresolvedAlias(_) => {
                self.problem(
                    line,
                    "has an alias (`*name`) without an anchor (`&name`) before it",
                    "write the anchor at the first place of the value",
                );
                (Node::null().value, 0)
            }
            _ => return Err(self.stop(line)),
        };
        // The parser numbers anchors from 1; 0 is none.
        let node = Node { place: Written::at(line), value, is_anchored: anchor != 0 };
        if node.is_anchored {
            self.anchors.define(anchor, &node).map_err(|refused| self.stop_at(line, refused))?;
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, line: usize, depth: usize) -> Result<Node, Stop> {
        match self.anchors.copy(id, line, depth) {
            Err(Refused::Cycle) => {
                self.problem(
                    line,
                    "has an alias (`*name`) of the value that it stands in",
                    "a value cannot contain itself: write out what is meant",
                );
                Ok(Node { place: Written::at(line), ..Node::null() })
            }
            copied => copied.map_err(|refused| self.stop_at(line, refused)),
        }
    }

    /// Reports a copy that would be too deep or too much.
    fn stop_at(&mut self, line: usize, refused: Refused) -> Stop {
        if let Refused::TooMany(most) = refused {
            let what = format!("has anchors and aliases that stand for more than {most} values");
            self.problem(line, &what, "write fewer aliases of what has aliases in it");
            return Stop;
        }
        self.too_deep(line)
    }

    fn too_deep(&mut self, line: usize) -> Stop {
        self.problem(line, "is nested too deeply", "no key of the configuration is deeper than six levels");
        Stop
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries = Vec::new();
        let mut merged = None;
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(merge::with_merged(entries, merged.unwrap_or_default()));
            }
            let key = self.node(event, line, depth + 1)?;
            let (event, value_line) = self.next()?;
            let value = self.node(event, value_line, depth + 1)?;
            match key.value {
                Value::Scalar { text, quoted: false } if &*text == MERGE_KEY => match merge::maps_of(value) {
                    _ if merged.is_some() => {
                        self.problem(line, "has `<<` twice in one section", "write `<<: [*one, *other]`");
                    }
                    Some(maps) => merged = Some(maps),
                    None => self.problem(
                        line,
                        "has a `<<` that is no section",
                        "write `<<: *name`, or `<<: [*one, *other]`",
                    ),
                },
                Value::Scalar { text, .. } => entries.push(Entry { key: text, place: key.place, value }),
                Value::List(_) | Value::Map(_) => {
                    self.problem(line, "has a key that is not a word", "write `key: value`");
                }
            }
        }
    }

    fn refuse_tag(&mut self, line: usize, tagged: bool) {
        if tagged {
            self.problem(line, "has a tag (`!name`)", "leave the tag out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut problems = Vec::new();
        let node = parse(text, &mut problems);
        let shown = problems.iter().map(|problem| format!("{}: {}", problem.line().unwrap(), problem.what)).collect();
        (node, shown)
    }

    #[test]
    fn values_keep_their_text_and_line() {
        let (node, problems) = read("a: off\nb:\n  - 'x'\n  - ~\n");
        assert_eq!(problems, [""; 0]);
        let Some(Node { value: Value::Map(entries), .. }) = node else { panic!("{node:?}") };
        assert!(matches!(&entries[0].value.value, Value::Scalar { text, quoted: false } if &**text == "off"));
        let Value::List(items) = &entries[1].value.value else { panic!() };
        let lines = (items[0].place.line, items[1].place.line);
        assert_eq!((lines, items[1].is_null(), items[0].is_null()), ((3, 4), true, false));
    }

    #[test]
    fn nothing_is_an_empty_document() {
        for text in ["", "\n", "# only a comment\n", "---\n", "~", "\u{feff}"] {
            let (node, problems) = read(text);
            assert!(node.unwrap().is_null(), "{text:?}");
            assert!(problems.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_plain_is_a_problem_with_its_line() {
        let cases = [
            ("a: !!str 1\n", &["1: has a tag (`!name`)"][..]),
            ("a:\n  - *x\n", &["2: has an alias (`*name`) without an anchor (`&name`) before it"]),
            ("a: &x\n  b: [*x]\n", &["2: has an alias (`*name`) of the value that it stands in"]),
            (
                "a: &x\n  <<: *x\n",
                &["2: has an alias (`*name`) of the value that it stands in", "2: has a `<<` that is no section"],
            ),
            ("a:\n  <<: [{ b: 1 }, 2]\n", &["2: has a `<<` that is no section"]),
            ("<<: { a: 1 }\n<<: { b: 1 }\n", &["2: has `<<` twice in one section"]),
            ("a: 1\n---\nb: 2\n", &["2: begins a second document"]),
            ("? [a]\n: 1\n", &["1: has a key that is not a word"]),
        ];
        for (text, expected) in cases {
            let (node, problems) = read(text);
            assert!(node.is_some());
            assert_eq!(problems, expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_stops_with_one_problem() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        let large = " ".repeat(FILE_MAX_BYTES + 1);
        for text in ["a: [1, 2\n", "a: 'x\n", "a: b: c\n", "a:\n\tb: 1\n", deep.as_str(), large.as_str()] {
            let (node, problems) = read(text);
            assert!(node.is_none(), "{:.40} {problems:?}", text.escape_debug());
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
    }

    #[test]
    fn a_syntax_error_never_repeats_a_value() {
        for text in ["token: { value: 'hunter2 }\n", "token: [hunter2\n", "hunter2: *hunter2\n", "a: \"hunter2\\q\"\n"]
        {
            let (_, problems) = read(text);
            assert!(!problems.is_empty() && !problems.concat().contains("hunter2"), "{problems:?}");
        }
    }
}
