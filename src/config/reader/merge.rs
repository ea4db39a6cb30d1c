//! Merge keys (`<<`, yaml.org/type/merge): what a section takes from others. A key that it writes
//! itself wins, then that of the section that is named first.

use std::collections::HashSet;
use std::rc::Rc;

use super::node::{Entry, Node, Value};

/// The key that names the others.
pub(super) const MERGE_KEY: &str = "<<";

/// The sections that stand at a merge key, one or a list; `None` if anything else stands there.
pub(super) fn maps_of(node: Node) -> Option<Vec<Vec<Entry>>> {
    let nodes = match node.value {
        Value::List(items) => items,
        value => vec![Node { value, ..node }],
    };
    let maps = nodes.into_iter().map(|node| match node.value {
        Value::Map(entries) => Some(entries),
        Value::Scalar { .. } | Value::List(_) => None,
    });
    maps.collect()
}

/// A section's own entries and those of the others that it does not have.
pub(super) fn with_merged(own: Vec<Entry>, others: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut known: HashSet<Rc<str>> = own.iter().map(|entry| entry.key.clone()).collect();
    let mut entries = own;
    for other in others {
        // Not one by one: a key that is written twice there stays a problem.
        let new: Vec<Entry> = other.into_iter().filter(|entry| !known.contains(&entry.key)).collect();
        known.extend(new.iter().map(|entry| entry.key.clone()));
        entries.extend(new);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::node;

    /// The entries of the section `s` as `key value@line`.
    fn section(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let Some(Node { value: Value::Map(entries), .. }) = node::parse(text, &mut problems) else { panic!() };
        assert!(problems.is_empty(), "{problems:?}");
        let section = &entries.iter().find(|entry| &*entry.key == "s").unwrap().value;
        let Value::Map(entries) = &section.value else { panic!("{section:?}") };
        let shown = entries.iter().map(|entry| match &entry.value.value {
            Value::Scalar { text, .. } => format!("{} {text}@{}", entry.key, entry.place.line),
            other => panic!("{other:?}"),
        });
        shown.collect()
    }

    #[test]
    fn own_keys_win_then_those_of_the_first() {
        let text = "one: &one { a: 1, b: 1 }\ntwo: &two { b: 2, c: 2 }\ns:\n  <<: [*one, *two]\n  a: 0\n";
        assert_eq!(section(text), ["a 0@5", "b 1@1", "c 2@2"]);
    }

    #[test]
    fn one_section_may_stand_there_and_what_it_has_merged_comes_along() {
        let text = "one: &one { a: 1 }\ntwo: &two\n  <<: *one\n  b: 2\ns:\n  c: 3\n  <<: *two\n";
        assert_eq!(section(text), ["c 3@6", "b 2@4", "a 1@1"]);
        assert_eq!(section("s:\n  <<: { a: 1 }\n  <<b: 2\n  '<<': 3\n"), ["<<b 2@3", "<< 3@4", "a 1@2"]);
        assert_eq!(section("s:\n  <<: []\n  a: 1\n"), ["a 1@3"]);
    }
}
