//! JSON of which only some members matter; each stays the text that it is until it is asked for.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::clock::rfc3339_us;

/// An object of JSON; of members with one name the last counts.
pub(super) struct Object<'j>(HashMap<String, &'j RawValue>);

/// The objects of a text: one, an array of them, or one on each line.
pub(super) fn objects(text: &str) -> Vec<Object<'_>> {
    if let Some(object) = Object::parse(text) {
        return vec![object];
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return items.into_iter().filter_map(|item| Object::parse(item.get())).collect();
    }
    text.lines().filter_map(Object::parse).collect()
}

impl<'j> Object<'j> {
    pub(super) fn parse(text: &'j str) -> Option<Object<'j>> {
        serde_json::from_str(text).ok().map(Object)
    }

    /// The text of a member that is there and not null.
    pub(super) fn member(&self, name: &str) -> Option<&'j str> {
        self.0.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null")
    }

    pub(super) fn object(&self, name: &str) -> Option<Object<'j>> {
        Object::parse(self.member(name)?)
    }

    /// The objects of an array.
    pub(super) fn list(&self, name: &str) -> Option<Vec<Object<'j>>> {
        let items: Vec<&'j RawValue> = serde_json::from_str(self.member(name)?).ok()?;
        Some(items.into_iter().filter_map(|item| Object::parse(item.get())).collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.member(name)?).ok()
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.member(name)?.parse().ok()
    }

    /// A time of RFC 3339, or without a zone (`2023-11-14 22:13:20`), which tools write in UTC:
    /// milliseconds since the Unix epoch.
    pub(super) fn time_ms(&self, name: &str) -> Option<i64> {
        let text = self.text(name)?;
        let us = rfc3339_us(&text).or_else(|| rfc3339_us(&format!("{text}Z")))?;
        Some(us.div_euclid(1000))
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.member(name) == Some("true")
    }

    /// Header lines as tools write them: an object of texts or of lists, a list of pairs, or a list of
    /// objects with `name` and `value`.
    pub(super) fn headers(&self, name: &str) -> Option<Vec<(String, String)>> {
        let raw = self.member(name)?;
        if let Ok(pairs) = serde_json::from_str::<Vec<(String, String)>>(raw) {
            return Some(pairs);
        }
        if let Some(lines) = self.list(name) {
            return Some(lines.iter().filter_map(|line| Some((line.text("name")?, line.text("value")?))).collect());
        }
        let object = Object::parse(raw)?;
        let values = |name: &String| -> Vec<(String, String)> {
            let values = object.text(name).map(|value| vec![value]);
            let values = values.or_else(|| serde_json::from_str(object.member(name)?).ok()).unwrap_or_default();
            values.into_iter().map(|value| (name.clone(), value)).collect()
        };
        Some(object.0.keys().flat_map(values).collect())
    }
}
