//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;

/// Where a problem is. Ordered as problems are shown: by line, then what concerns the whole, then
/// flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// This line of the file, from 1.
    Line(usize),
    /// No line: something is missing.
    Whole,
    /// A flag or its environment variable; the path is the flag's name.
    Flag,
}

/// What is wrong with one value. Ends up as a [`Problem`] once its place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, without a subject: `is not a duration`.
    pub what: String,
    /// What to write instead.
    pub mend: String,
}

impl Fault {
    /// A fault.
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Fault {
        Fault { what: what.into(), mend: mend.into() }
    }

    /// A fault from one sentence `what; mend`, as the gates write them.
    pub fn from_sentence(sentence: &str, mend: &str) -> Fault {
        match sentence.split_once("; ") {
            Some((what, mend)) => Fault::new(what, mend),
            None => Fault::new(sentence, mend),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Which key (`routes[0].path`) or flag (`--listen`); empty for the file itself.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

impl Problem {
    /// The line, if there is one.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Place::Line(line) => Some(line),
            Place::Whole | Place::Flag => None,
        }
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    name: Option<String>,
    list: Vec<Problem>,
}

impl Problems {
    /// Problems of the file with this name, or of flags alone.
    pub fn new(name: Option<&str>, mut list: Vec<Problem>) -> Problems {
        list.sort_by_key(|problem| problem.place);
        Problems { name: name.map(str::to_owned), list }
    }

    /// A single problem with the file as a whole.
    pub fn of_file(name: &str, fault: Fault) -> Problems {
        let problem = Problem { place: Place::Whole, path: String::new(), what: fault.what, mend: fault.mend };
        Problems::new(Some(name), vec![problem])
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// One line for each: `hookward.yaml:12: limits.connections: what; mend`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|problem| {
            let mut parts = Vec::new();
            match (problem.place, &self.name) {
                (Place::Line(line), Some(name)) => parts.push(format!("{name}:{line}")),
                (Place::Line(line), None) => parts.push(format!("line {line}")),
                (Place::Whole, Some(name)) => parts.push(name.clone()),
                (Place::Whole, None) | (Place::Flag, _) => {}
            }
            if !problem.path.is_empty() {
                parts.push(problem.path.clone());
            }
            parts.push(format!("{}; {}", problem.what, problem.mend));
            printable(&parts.join(": "))
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A line break or an escape sequence in a value must not forge lines in a terminal or a log.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(place: Place, path: &str) -> Problem {
        Problem { place, path: path.into(), what: "is wrong".into(), mend: "write it right".into() }
    }

    #[test]
    fn problems_are_shown_by_line_then_what_is_missing_then_flags() {
        let list = vec![
            problem(Place::Flag, "--listen"),
            problem(Place::Whole, "upstream.url"),
            problem(Place::Line(7), "b"),
            problem(Place::Line(2), ""),
        ];
        let shown = Problems::new(Some("h.yaml"), list).to_string();
        let expected = "h.yaml:2: is wrong; write it right\n\
                        h.yaml:7: b: is wrong; write it right\n\
                        h.yaml: upstream.url: is wrong; write it right\n\
                        --listen: is wrong; write it right";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let mut forged = problem(Place::Line(1), "a");
        forged.what = "`\n\u{1b}[2Jconfiguration ok`".into();
        assert_eq!(Problems::new(None, vec![forged]).lines().next().unwrap().lines().count(), 1);
    }
}
