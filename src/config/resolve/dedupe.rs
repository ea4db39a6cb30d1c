//! How duplicates of a route are found.

use std::time::Duration;

use super::routes::Mode;
use super::{HOUR, SECOND};
use crate::config::Dedupe;
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::value::{duration_text, parse_name};
use crate::gate::event_key::{EventKey, KeyPart, PARTS_MAX};
use crate::gate::timestamp::Tolerance;

const KEY_DOC: &str = "What tells an event from others where `data.id` does not (TeXML forms have none): up to 4 of a JSON pointer (`/data/payload/id`), a form field (`form:CallSid`) and a header (`header:x-event-id`), which count together. An event without them all is known by `data.id`.";

pub(super) fn read(
    route: &Section<'_>,
    name: &str,
    mode: Mode,
    tolerance: &Tolerance,
    warnings: &mut Vec<String>,
) -> Option<Dedupe> {
    let section = route.section_or_off(
        "dedupe",
        "How an event that comes twice is found, in mode `ack`; `off` forwards every copy.",
    )?;
    if matches!(mode, Mode::Proxy | Mode::Verify) && route.has("dedupe") {
        let (path, mode) = (route.path_of("dedupe"), mode.name());
        warnings.push(format!("{path}: is not looked at in mode {mode}: a repeat needs an answer of its own"));
    }
    let window = section.duration(
        "window",
        HOUR * 24,
        SECOND..=HOUR * 24 * 90,
        "How long an event id is remembered, running time.",
    );
    let scope = section.parsed(
        "scope",
        Kind::Text,
        None,
        "Routes with the same scope share their ids; the route's name unless set.",
        parse_name,
    );
    let key = key(&section, warnings);
    let least = tolerance.past + tolerance.future;
    if mode == Mode::Ack && window < least {
        let least = duration_text(least.max(Duration::from_secs(1)));
        let what = format!("is shorter than timestamp.past and future together ({least}): a replay could outlive it");
        section.fault("window", Fault::new(what, format!("write {least} or more, or `dedupe: off`")));
    }
    Some(Dedupe { window, scope: scope.as_deref().unwrap_or(name).into(), key })
}

fn key(section: &Section<'_>, warnings: &mut Vec<String>) -> EventKey {
    const MEND: &str = "write /data/payload/id, form:CallSid or header:x-event-id";
    let parts = section.list("key", Kind::Texts, &[], KEY_DOC, |text| {
        KeyPart::parse(text).map_err(|sentence| Fault::from_sentence(&sentence, MEND))
    });
    let parts = parts.unwrap_or_default();
    if parts.len() > PARTS_MAX {
        let fault = Fault::new(format!("has {} parts, more than {PARTS_MAX}", parts.len()), "leave some out");
        section.fault("key", fault);
    }
    if parts.iter().any(KeyPart::is_unsigned) {
        warnings.push(format!(
            "{}: names a header, which the signature does not cover: whoever repeats a webhook can choose it",
            section.path_of("key")
        ));
    }
    EventKey(parts)
}
