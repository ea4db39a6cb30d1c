//! A configuration is read or has problems with a place in it; what is shown of it cannot forge
//! lines in a terminal.
#![no_main]

use std::time::Duration;

use hookward_fuzz::config_reader::problem::{Problem, Problems};
use hookward_fuzz::config_reader::schema::Kind;
use hookward_fuzz::config_reader::section::Section;
use hookward_fuzz::config_reader::value::{duration_text, parse_duration, parse_listen, parse_name, parse_text};
use hookward_fuzz::config_reader::{FILE_MAX_BYTES, Reader};
use libfuzzer_sys::fuzz_target;

/// Every kind of value that `config/resolve` asks for, under short names.
fn read(root: &Section<'_>) {
    let span = Duration::from_millis(1)..=Duration::from_secs(3600);
    let age = root.duration("age", Duration::from_secs(1), span.clone(), "");
    assert_eq!(parse_duration(&duration_text(age), &span), Ok(age), "what is shown reads as the same");
    let size = root.bytes("size", 10, 1..=1 << 30, "");
    assert!((1..=1 << 30).contains(&size));
    root.memory("memory", 10, 1..=1 << 20, "");
    root.count("count", 5, 1..=100, "");
    root.small_count("small", 5, 1..=100, "");
    root.choice("choice", 1, &[("one", 1), ("two", 2)], "");
    root.switch("switch", false, "");
    root.fixed("fixed", "off", "");
    root.to_come("later", None);
    root.list("list", Kind::Texts, &[], "", parse_listen);
    root.parsed("name", Kind::Text, None, "", parse_name);
    for item in root.sections("items", "").unwrap_or_default() {
        item.parsed("text", Kind::Text, None, "", parse_text);
        if let Some(inner) = item.section_or_off("inner", "") {
            inner.optional_text("text", "");
        }
    }
    root.section("secret", "").secret().optional_text("value", "");
}

fn judge(text: &str, problems: Vec<Problem>) {
    // A text ends with a line of its own, and one more is where an unfinished value is missed.
    let lines_max = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
    for problem in &problems {
        assert!(problem.line().is_none_or(|line| (1..=lines_max).contains(&line)), "{problem:?}");
        assert!(!problem.what.is_empty() && !problem.mend.is_empty(), "{problem:?}");
    }
    for line in Problems::new(Some("h.yaml"), problems).lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

fuzz_target!(|text: &str| {
    assert!(text.len() < FILE_MAX_BYTES);
    let (reader, problems) = Reader::lenient(text, &["name", "secret"]);
    read(&reader.root());
    judge(text, problems);
    judge(text, reader.into_problems());
    match Reader::new(text) {
        Ok(reader) => {
            read(&reader.root());
            judge(text, reader.into_problems());
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            judge(text, problems);
        }
    }
});
