//! What the reader asks for, as a JSON Schema and as a table.

use serde_json::{Map, Value as Json, json};

use super::section::ANYTHING;
use super::value::AUTO;

/// One key that was asked for.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where, `[]` for the items of a list: `routes[].path`.
    pub path: String,
    /// What it takes.
    pub kind: Kind,
    /// What it is without being written; `None` where that depends.
    pub default: Option<Json>,
    /// What it means.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// `5m`.
    Duration,
    /// `64KiB` or a number.
    Bytes,
    /// The same, or `auto`.
    BytesOrAuto,
    /// `10%`, or the same as a size.
    Share,
    /// A whole number.
    Count {
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// A whole number, or `auto`.
    CountOrAuto {
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// `50/s`, or `off`.
    RateOrOff,
    /// `50/s`, `600/min`, or `off`.
    EventRateOrOff,
    /// One of these.
    Choice(Vec<&'static str>),
    /// `true` or `false`.
    Switch,
    /// A list of texts.
    Texts,
    /// A list of some of these.
    Choices(Vec<&'static str>),
    /// Keys below it.
    Section,
    /// Keys below it, or `off`.
    SectionOrOff,
    /// A list of sections.
    Sections,
}

impl Kind {
    /// Whether it is a value, not a section.
    pub fn is_value(&self) -> bool {
        !matches!(self, Kind::Section | Kind::SectionOrOff | Kind::Sections)
    }
}

/// The JSON Schema (draft 2020-12) of a file in which these keys may stand.
pub fn json_schema(records: &[Record]) -> Json {
    let mut schema = object(records, "");
    if let Json::Object(schema) = &mut schema {
        schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".into(), json!("hookward configuration"));
        schema.insert("patternProperties".into(), json!({ format!("^{ANYTHING}"): {} }));
    }
    schema
}

fn object(records: &[Record], parent: &str) -> Json {
    let prefix = if parent.is_empty() { String::new() } else { format!("{parent}.") };
    let mut properties = Map::new();
    for record in records {
        match record.path.strip_prefix(&prefix) {
            Some(key) if !key.contains(['.', '[']) => {
                properties.insert(key.to_owned(), property(records, record));
            }
            _ => {}
        }
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// An empty key (`retry:`) counts as absent everywhere, so null is allowed everywhere.
fn property(records: &[Record], record: &Record) -> Json {
    // An editor that reads YAML 1.1 sees a boolean where `off` stands.
    let choice = |names: &[&str]| {
        let boolean = names.contains(&"off").then_some(json!(false));
        json!({ "enum": names.iter().map(|name| json!(name)).chain(boolean).collect::<Vec<_>>() })
    };
    let bytes = || json!({ "type": ["string", "integer"], "pattern": "^[0-9.]+ *([kKMGT]i?)?B?$", "minimum": 0 });
    let shape = match &record.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Duration => json!({ "type": "string", "pattern": "^([0-9]+ *[a-z]+ *)+$" }),
        Kind::Bytes => bytes(),
        Kind::BytesOrAuto => json!({ "anyOf": [choice(&[AUTO]), bytes()] }),
        Kind::Share => json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]+ *%$" }, bytes()] }),
        Kind::RateOrOff => json!({ "anyOf": [choice(&["off"]), { "type": "string", "pattern": "^[0-9]+ */s$" }] }),
        Kind::EventRateOrOff => {
            json!({ "anyOf": [choice(&["off"]), { "type": "string", "pattern": "^[0-9]+ */(s|min)$" }] })
        }
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::CountOrAuto { min, max } => {
            json!({ "anyOf": [choice(&[AUTO]), { "type": "integer", "minimum": min, "maximum": max }] })
        }
        Kind::Choice(names) => choice(names),
        Kind::Switch => json!({ "enum": [true, false, "on", "off"] }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Choices(names) => json!({ "type": "array", "items": choice(names) }),
        Kind::Section => object(records, &record.path),
        Kind::SectionOrOff => json!({ "anyOf": [choice(&["off"]), object(records, &record.path)] }),
        Kind::Sections => json!({ "type": "array", "items": object(records, &format!("{}[]", record.path)) }),
    };
    let mut property = json!({ "description": record.doc, "anyOf": [shape, { "type": "null" }] });
    if let (Json::Object(property), Some(default)) = (&mut property, &record.default) {
        property.insert("default".into(), default.clone());
    }
    property
}

/// The same as a table in Markdown: key, default, meaning.
pub fn markdown_table(records: &[Record]) -> String {
    let mut table = "| key | default | meaning |\n|---|---|---|\n".to_owned();
    for Record { path, kind, default, doc } in records {
        let default = match default {
            Some(Json::String(text)) => format!("`{text}`"),
            Some(Json::Array(items)) if items.is_empty() => "none".to_owned(),
            Some(value) => format!("`{value}`").replace('"', ""),
            None => String::new(),
        };
        let values = match kind {
            Kind::Choice(names) | Kind::Choices(names) if names.len() > 1 => {
                format!(" One of `{}`.", names.join("`, `"))
            }
            _ => String::new(),
        };
        table.push_str(&format!("| `{path}` | {default} | {doc}{values} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    #[test]
    fn the_schema_is_what_was_asked_for() {
        let reader = Reader::describing();
        {
            let root = reader.root();
            root.count("threads", 2, 1..=8, "Worker threads.");
            for route in root.sections("routes", "Routes.").unwrap() {
                route.choice("mode", 1, &[("a", 1), ("b", 2)], "Mode.");
                assert!(route.section_or_off("dedupe", "Duplicates.").is_some());
            }
        }
        let records = reader.into_records();
        let schema = json_schema(&records);
        assert_eq!(schema["additionalProperties"], json!(false));
        let threads = &schema["properties"]["threads"];
        assert_eq!(threads["default"], json!(2));
        assert_eq!(threads["description"], json!("Worker threads."));
        let route = &schema["properties"]["routes"]["anyOf"][0]["items"];
        assert_eq!(route["properties"]["mode"]["anyOf"][0]["enum"], json!(["a", "b"]));
        assert_eq!(route["properties"]["dedupe"]["anyOf"][0]["anyOf"][0]["enum"], json!(["off", false]));
        let table = markdown_table(&records);
        assert!(table.contains("| `routes[].mode` | `a` | Mode. One of `a`, `b`. |"), "{table}");
    }
}
