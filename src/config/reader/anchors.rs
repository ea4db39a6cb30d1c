//! Anchored values and the copies that aliases make of them. Copies share their texts, and their
//! number is bounded: a few lines of aliases of aliases could stand for more than memory holds.

use std::collections::HashMap;

use super::node::{DEPTH_MAX, Entry, Node, Value};

/// Values that all anchors and aliases of a file may copy together; 500 routes with 50 keys each are
/// 50,000.
const COPIED_NODES_MAX: usize = 100_000;

/// The anchored values of a document, by the number that the parser gives an anchor.
#[derive(Default)]
pub(super) struct Anchors {
    defined: HashMap<usize, Anchored>,
    copied_nodes: usize,
}

struct Anchored {
    node: Node,
    size: Size,
}

/// How much a value is.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    /// Levels below it.
    height: usize,
}

/// Why there is no copy.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    /// The anchored value is not complete: the alias stands in it.
    Cycle,
    /// It would be nested more than [`DEPTH_MAX`] deep.
    TooDeep,
    /// More than this many values in copies.
    TooMany(usize),
}

impl Anchors {
    /// A complete value has this anchor.
    pub(super) fn define(&mut self, id: usize, node: &Node) -> Result<(), Refused> {
        let size = size(node);
        self.spend(size.nodes)?;
        self.defined.insert(id, Anchored { node: node.clone(), size });
        Ok(())
    }

    /// A copy of what is anchored, for an alias on this line at this depth.
    pub(super) fn copy(&mut self, id: usize, alias_line: usize, depth: usize) -> Result<Node, Refused> {
        let Size { nodes, height } = self.defined.get(&id).ok_or(Refused::Cycle)?.size;
        if depth + height > DEPTH_MAX {
            return Err(Refused::TooDeep);
        }
        self.spend(nodes)?;
        let mut copy = self.defined.get(&id).ok_or(Refused::Cycle)?.node.clone();
        mark(&mut copy, alias_line);
        Ok(copy)
    }

    fn spend(&mut self, nodes: usize) -> Result<(), Refused> {
        self.copied_nodes = self.copied_nodes.saturating_add(nodes);
        if self.copied_nodes > COPIED_NODES_MAX { Err(Refused::TooMany(COPIED_NODES_MAX)) } else { Ok(()) }
    }
}

fn size(node: &Node) -> Size {
    let below: Vec<Size> = match &node.value {
        Value::Scalar { .. } => Vec::new(),
        Value::List(items) => items.iter().map(size).collect(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.value)).collect(),
    };
    Size {
        nodes: 1 + below.iter().map(|size| size.nodes).sum::<usize>(),
        height: below.iter().map(|size| size.height + 1).max().unwrap_or(0),
    }
}

/// Notes the outermost alias in all of it.
fn mark(node: &mut Node, alias_line: usize) {
    node.place.alias_line = Some(alias_line);
    match &mut node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(|item| mark(item, alias_line)),
        Value::Map(entries) => {
            for Entry { place, value, .. } in entries {
                place.alias_line = Some(alias_line);
                mark(value, alias_line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::node;

    /// The tree of a text, and its problems.
    fn read(text: &str) -> (Option<Node>, String) {
        let mut problems = Vec::new();
        let node = node::parse(text, &mut problems);
        (node, problems.iter().map(|problem| problem.what.as_str()).collect::<Vec<_>>().join("; "))
    }

    /// Lists of lists, each of ten times the one before: ten to the power of `levels` values.
    fn tenfold(levels: usize) -> String {
        let mut text = "l0: &l0 x\n".to_owned();
        for level in 1..=levels {
            let alias = format!("*l{}", level - 1);
            text.push_str(&format!("l{level}: &l{level} [{}]\n", vec![alias; 10].join(", ")));
        }
        text
    }

    #[test]
    fn a_copy_keeps_its_lines_and_knows_the_alias() {
        let (node, problems) = read("a: &x\n  b: 1\nc: *x\nd: [*x]\n");
        assert_eq!(problems, "");
        let Some(Node { value: Value::Map(entries), .. }) = node else { panic!() };
        let places = |node: &Node| {
            let Value::Map(entries) = &node.value else { panic!("{node:?}") };
            let place = entries[0].value.place;
            assert_eq!(place, entries[0].place);
            (place.line, place.alias_line)
        };
        let Value::List(items) = &entries[2].value.value else { panic!() };
        assert_eq!(
            [places(&entries[0].value), places(&entries[1].value), places(&items[0])],
            [(2, None), (2, Some(3)), (2, Some(4))]
        );
        assert_eq!(entries[1].place.alias_line, None, "the key is written where it stands");
    }

    #[test]
    fn an_anchor_may_be_defined_again() {
        let (node, problems) = read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n");
        assert_eq!(problems, "");
        let Some(Node { value: Value::Map(entries), .. }) = node else { panic!() };
        let texts = entries.iter().map(|entry| match &entry.value.value {
            Value::Scalar { text, .. } => text.to_string(),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["1", "1", "2", "2"]);
    }

    #[test]
    fn what_aliases_make_is_bounded_in_number_and_depth() {
        assert!(read(&tenfold(4)).0.is_some());
        let (node, problem) = read(&tenfold(9));
        assert!(node.is_none() && problem.contains("more than 100000 values"), "{problem}");
        let mut deep = "l0: &l0 x\n".to_owned();
        (1..100).for_each(|level| deep.push_str(&format!("l{level}: &l{level} [*l{}]\n", level - 1)));
        let (node, problem) = read(&deep);
        assert!(node.is_none() && problem.contains("nested too deeply"), "{problem}");
    }

    #[test]
    fn copies_of_a_long_text_share_it() {
        let long = "x".repeat(500_000);
        let (node, problems) = read(&format!("a: &x {long}\nb: [{}]\n", vec!["*x"; 50_000].join(",")));
        assert_eq!(problems, "");
        let Some(Node { value: Value::Map(entries), .. }) = node else { panic!() };
        let Value::Scalar { text, .. } = &entries[0].value.value else { panic!() };
        let Value::List(items) = &entries[1].value.value else { panic!() };
        assert!(
            items
                .iter()
                .all(|item| matches!(&item.value, Value::Scalar { text: copy, .. } if std::rc::Rc::ptr_eq(copy, text)))
        );
    }
}
