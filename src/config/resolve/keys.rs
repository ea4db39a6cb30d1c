//! The public keys of routes. No text about them repeats them: one may be a secret pasted by mistake.

use super::{Sources, secret};
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::value::parse_name;
use crate::gate::keys::{KeyError, NamedKey, parse_public_key};

/// Most keys of a route: every one is tried for every request.
const KEYS_MAX: usize = 8;

/// Keys of `--public-key` and `TELNYX_PUBLIC_KEY`, for routes that have none of their own.
pub(super) struct FlagKeys {
    keys: Vec<NamedKey>,
    /// Whether any key was given, good or bad.
    given: bool,
}

impl FlagKeys {
    pub(super) fn read(sources: &Sources<'_>) -> FlagKeys {
        let texts = &sources.overrides.public_key;
        let mut keys = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let named = |key| NamedKey { name: format!("key{}", index + 1).into(), key };
            keys.extend(
                sources.flag("--public-key", text, |text| parse_public_key(text).map(named).map_err(key_fault)),
            );
        }
        if keys.len() > KEYS_MAX {
            sources.reader.report_flag("--public-key", too_many_keys());
        }
        FlagKeys { keys, given: !texts.is_empty() }
    }
}

/// The keys of a route, its own or else those of the flags; none is a problem if `required`.
pub(super) fn read(
    route: &Section<'_>,
    sources: &Sources<'_>,
    flags: &FlagKeys,
    required: bool,
    warnings: &mut Vec<String>,
) -> Vec<NamedKey> {
    const DOC: &str = "Telnyx's public keys, at most 8, each from `value`, `env` or `file`; `--public-key` or `TELNYX_PUBLIC_KEY` where none are written.";
    let mut keys: Vec<NamedKey> = Vec::new();
    let written = route.has("keys");
    for (index, section) in route.sections("keys", DOC).unwrap_or_default().into_iter().enumerate() {
        let section = section.secret();
        let name = section.parsed(
            "name",
            Kind::Text,
            None,
            "Name in metrics and headers; `key1`, `key2` unless set.",
            |text| {
                // Not repeated: a key pasted into the wrong place is no name either.
                parse_name(text).map_err(|fault| Fault::new("is not a name", fault.mend))
            },
        );
        let name = name.unwrap_or_else(|| format!("key{}", index + 1));
        let Some(text) = secret::read(&section, sources, true) else { continue };
        // A variable may hold several, as TELNYX_PUBLIC_KEY does on its own.
        for (part, text) in text.split(',').filter(|text| !text.trim().is_empty()).enumerate() {
            let name = if part == 0 { name.clone() } else { format!("{name}-{}", part + 1) };
            match parse_public_key(text) {
                Err(error) => section.own_fault(key_fault(error)),
                Ok(_) if keys.iter().any(|key| *key.name == *name) => {
                    section.own_fault(Fault::new(
                        format!("has the name `{name}` of another key"),
                        "give every key its own `name:`",
                    ));
                }
                Ok(key) => keys.push(NamedKey { name: name.into(), key }),
            }
        }
    }
    if !written {
        keys.clone_from(&flags.keys);
    }
    let has_any = if written { !route.is_empty_list("keys") } else { flags.given };
    if required && !has_any {
        route.fault("keys", Fault::new("is missing: a route that verifies needs a public key", "set --public-key or TELNYX_PUBLIC_KEY, or write `keys: [{ file: … }]`; it is in Telnyx's portal under Keys & Credentials > Public Key"));
    }
    if written && keys.len() > KEYS_MAX {
        route.fault("keys", too_many_keys());
    }
    let repeated = |(index, key): (usize, &NamedKey)| keys[..index].iter().any(|earlier| earlier.key == key.key);
    if keys.iter().enumerate().any(repeated) {
        warnings.push(format!("{}: has the same key twice", route.path_of("keys")));
    }
    keys
}

#[allow(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn key_fault(error: KeyError) -> Fault {
    Fault::from_sentence(&error.to_string(), "copy the key from Keys & Credentials > Public Key in Telnyx's portal")
}

fn too_many_keys() -> Fault {
    Fault::new(format!("has more than {KEYS_MAX} keys"), "keep the current one and the next")
}
