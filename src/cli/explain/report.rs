//! The explanation as it is printed.

use std::fmt::Write as _;

use serde_json::json;

use crate::clock::rfc3339_ms;
use crate::explain::Explanation;
use crate::explain::input::{Form, Reading};
use crate::explain::verdict::Capture;

/// What a route takes unless its `max_body` says otherwise.
const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;

/// An explanation with what it is about.
pub(super) struct Report<'r> {
    pub(super) explanation: &'r Explanation,
    pub(super) capture: &'r Capture,
    pub(super) reading: &'r Reading,
    /// Whether the time of receipt is the file's, where it names one.
    pub(super) is_time_of_file: bool,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let Report { explanation, capture, .. } = self;
        let mut text = match &explanation.verdict {
            Ok(_) => "verified\n".to_owned(),
            Err(rejection) => format!("rejected: {}\n", rejection.reason()),
        };
        let mut line = |what: &str, said: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {what:<7} {said}");
        };
        if let Some(read_as) = self.read_as() {
            line("read:", &read_as);
        }
        let mut causes = explanation.causes.iter().peekable();
        while let Some(cause) = causes.next() {
            line("found:", cause.found());
            // Said once where several causes have one remedy.
            if causes.peek().is_none_or(|next| next.remedy() != cause.remedy()) {
                line("do:", cause.remedy());
            }
        }
        if let (Err(rejection), []) = (&explanation.verdict, explanation.causes.as_slice()) {
            line("found:", rejection.hint());
        }
        let (key, skew_s) = self.signed();
        if let Some(key) = key {
            line("key:", &format!("{key} of {} has signed it", capture.keys.len()));
        }
        if let Some(skew_s) = skew_s {
            line("signed:", &self.skew_text(skew_s));
        }
        for note in self.notes() {
            line("note:", &note);
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let Report { explanation, capture, reading, .. } = self;
        let refusal = explanation.verdict.as_ref().err();
        let findings: Vec<_> = explanation
            .causes
            .iter()
            .map(|cause| json!({"cause": cause.code(), "found": cause.found(), "do": cause.remedy()}))
            .collect();
        let (key, skew_s) = self.signed();
        let json = json!({
            "verdict": if refusal.is_none() { "verified" } else { "rejected" },
            "reason": refusal.map(|rejection| rejection.reason()),
            "hint": refusal.map(|rejection| rejection.hint()),
            "read_as": reading.forms.iter().map(|form| form.code()).collect::<Vec<_>>(),
            "findings": findings,
            "key": key,
            "skew_s": skew_s,
            "body_bytes": capture.body.len(),
            "tried": explanation.tried,
            "notes": self.notes(),
        });
        format!("{json}\n")
    }

    /// What the file was taken for, where it is not the body itself.
    fn read_as(&self) -> Option<String> {
        let names: Vec<_> = self.reading.forms.iter().map(|form: &Form| form.name()).collect();
        if names.is_empty() {
            return None;
        }
        let (number, of) = self.reading.place;
        let which = if of > 1 { format!(" (request {number} of {of})") } else { String::new() };
        Some(format!("the file as {}{which}", names.join(", in it ")))
    }

    /// The key and the skew of what was signed, whether or not that is what came.
    fn signed(&self) -> (Option<String>, Option<i64>) {
        let Report { explanation, capture, .. } = self;
        if let Ok(verified) = &explanation.verdict {
            return (Some(verified.key.to_string()), Some(verified.skew_s));
        }
        let found = explanation.genuine.as_ref();
        let received_s = capture.received_unix_ms.div_euclid(1000);
        let skew_s = found.and_then(|found| found.timestamp_s).map(|signed_s| received_s.saturating_sub(signed_s));
        let refused_skew_s = explanation.verdict.as_ref().err().and_then(|rejection| rejection.skew_s());
        (found.map(|found| found.key.to_string()), refused_skew_s.or(skew_s))
    }

    fn skew_text(&self, skew_s: i64) -> String {
        let (past_s, future_s) = (self.capture.past.as_secs(), self.capture.future.as_secs());
        let (direction, bound_s) = if skew_s < 0 { ("after", future_s) } else { ("before", past_s) };
        format!("{} s {direction} it came; up to {bound_s} s pass", skew_s.unsigned_abs())
    }

    fn notes(&self) -> Vec<String> {
        let Report { explanation, capture, reading, .. } = self;
        let mut notes: Vec<String> = reading.remark.map(str::to_owned).into_iter().collect();
        if let (Some(received_ms), true) = (reading.received_unix_ms, self.is_time_of_file) {
            notes.push(format!("it came at {}, as the file says", rfc3339_ms(received_ms)));
        }
        if explanation.tried > 0 && explanation.genuine.is_none() {
            notes.push(format!("{} messages were tried with {} key(s)", explanation.tried, capture.keys.len()));
        }
        if explanation.too_long_to_search {
            notes.push("the body is too long for known changes of it to be tried".to_owned());
        }
        if capture.body.len() > DEFAULT_MAX_BODY_BYTES {
            notes
                .push("a route refuses a body of this size as body_too_large unless its max_body is raised".to_owned());
        }
        notes
    }
}
