//! Problems as they are found. One that aliases bring to several places is reported once, at the line
//! where the value is written, and a value that stands in a secret too is not shown.

use std::collections::{BTreeMap, HashSet};

use super::node::Written;
use super::problem::{Fault, Place, Problem};

/// Problems found so far.
#[derive(Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// Lines of which something stands in a secret, and whether it got there by an alias.
    secret_lines: BTreeMap<usize, bool>,
}

struct Finding {
    problem: Problem,
    alias_line: Option<usize>,
    /// Whether its text may repeat what the file says.
    may_show: bool,
}

impl Findings {
    /// Adds a problem that no alias has a part in.
    pub(super) fn add(&mut self, problem: Problem) {
        self.list.push(Finding { problem, alias_line: None, may_show: false });
    }

    /// Adds a problem with something that is written there. `may_show` says that the fault's texts may
    /// repeat it; those of a section of secrets never do.
    pub(super) fn add_written(&mut self, path: String, written: Written, fault: Fault, may_show: bool) {
        let problem = Problem { place: Place::Line(written.line), path, what: fault.what, mend: fault.mend };
        self.list.push(Finding { problem, alias_line: written.alias_line, may_show });
    }

    /// Notes that this stands in a secret.
    pub(super) fn note_secret(&mut self, written: Written) {
        let by_alias = self.secret_lines.entry(written.line).or_default();
        *by_alias |= written.alias_line.is_some();
    }

    /// The problems as they are reported: each once, none with a secret in it.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let Findings { list, secret_lines } = self;
        let own = list.iter().filter(|finding| finding.alias_line.is_none());
        let mut reported: HashSet<_> = own.map(|finding| text_and_place(&finding.problem)).collect();
        let mut problems = Vec::new();
        for Finding { mut problem, alias_line, may_show } in list {
            let is_again = alias_line.is_some() && !reported.insert(text_and_place(&problem));
            if is_again {
                continue;
            }
            let in_secret = problem.line().and_then(|line| secret_lines.get(&line));
            if may_show && in_secret.is_some_and(|by_alias| *by_alias || alias_line.is_some()) {
                conceal(&mut problem);
            }
            if let Some(line) = alias_line {
                problem.what.push_str(&format!(" (used on line {line})"));
            }
            problems.push(problem);
        }
        problems
    }
}

fn text_and_place(problem: &Problem) -> (Place, String, String) {
    (problem.place, problem.what.clone(), problem.mend.clone())
}

/// Leaves line and section, which say enough to find it.
fn conceal(problem: &mut Problem) {
    problem.path.truncate(problem.path.rfind('.').unwrap_or(0));
    problem.what =
        "has something that cannot stand there, not shown since a secret uses this line by an alias".to_owned();
    problem.mend = "correct it, or write the secret out where it is used".to_owned();
}
