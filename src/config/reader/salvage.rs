//! Single top-level keys out of a text that is no YAML as a whole.

use super::node::{self, Node, Value};

/// A document of those of the `keys` whose own lines are good. Of a key that is written twice the
/// first one counts.
pub(super) fn salvage(text: &str, keys: &[&str]) -> Node {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    for key in keys {
        // The empty lines before it keep its line numbers.
        let Some((lines_before, section)) = section(text, key) else { continue };
        let alone = "\n".repeat(lines_before) + section;
        if let Some(Node { value: Value::Map(read), .. }) = node::parse(&alone, &mut Vec::new()) {
            entries.extend(read);
        }
    }
    Node { value: Value::Map(entries), ..Node::null() }
}

/// The lines from `key:` to the next line that is not indented, and how many lines stand before.
fn section<'t>(text: &'t str, key: &str) -> Option<(usize, &'t str)> {
    let begins = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let mut lines = text.split_inclusive('\n');
    let mut start_bytes = 0;
    let mut lines_before = 0;
    let mut end_bytes = loop {
        let line = lines.next()?;
        if begins(line) {
            break start_bytes + line.len();
        }
        start_bytes += line.len();
        lines_before += 1;
    };
    let is_inside = |line: &&str| line.trim().is_empty() || line.starts_with([' ', '\t', '#']);
    end_bytes += lines.take_while(is_inside).map(str::len).sum::<usize>();
    Some((lines_before, &text[start_bytes..end_bytes]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "a: [\n\nadmin: # here\n  token:\n\n  # more\n    x: 1\ndata_dir : /d\n}";
        assert_eq!(section(text, "admin"), Some((2, "admin: # here\n  token:\n\n  # more\n    x: 1\n")));
        assert_eq!(section(text, "data_dir"), Some((7, "data_dir : /d\n")));
        assert_eq!((section(text, "token"), section(text, "adm"), section("", "a")), (None, None, None));
    }

    #[test]
    fn what_is_salvaged_has_the_line_that_it_stands_on() {
        let Value::Map(entries) = salvage("}\nb: 1\na: 2\na: 3\nc: [\n", &["a", "b", "c"]).value else { panic!() };
        let found: Vec<_> = entries.iter().map(|entry| (&*entry.key, entry.place.line)).collect();
        assert_eq!(found, [("a", 3), ("b", 2)]);
    }
}
