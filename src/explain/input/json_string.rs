//! A body within a JSON string, as loggers write it.

/// The content of a JSON string, with or without its quotes.
pub(super) fn content(text: &str) -> Option<String> {
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    // Cut out of a log line: `{\"data\":…}`, `{\n  \"data\":…}`.
    if !text.starts_with("{\\") {
        return None;
    }
    serde_json::from_str(&format!("\"{text}\"")).ok()
}
