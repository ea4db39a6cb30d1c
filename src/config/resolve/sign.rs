//! The signature towards an app. No text about the key repeats it.

use std::sync::Arc;

use super::{Sources, secret};
use crate::config::Signer;
use crate::config::reader::problem::Fault;
use crate::config::reader::section::Section;
use crate::forward::sign::Scheme;

const SCHEMES: [(&str, Scheme); 2] = [("telnyx", Scheme::Telnyx), ("standard-webhooks", Scheme::StandardWebhooks)];

/// What an upstream's section says of its signature.
pub(super) enum Written {
    /// Nothing.
    No,
    /// `off`, or something bad, which has been reported.
    Off,
    /// A usable key.
    With(Arc<Signer>),
}

/// Reads `sign` of an upstream.
pub(super) fn read(upstream: &Section<'_>, sources: &Sources<'_>) -> Written {
    const DOC: &str =
        "Signs every attempt anew for an app that verifies itself; `off` in a route does not. Of verified events only.";
    let written = upstream.has("sign");
    let Some(section) = upstream.section_or_off("sign", DOC) else { return Written::Off };
    let scheme = section.optional_choice(
        "scheme",
        None,
        &SCHEMES,
        "`telnyx` replaces Telnyx's two headers, `standard-webhooks` adds `webhook-id`, `-timestamp` and `-signature`.",
    );
    const KEY: &str =
        "hookward's own key: an Ed25519 secret key (`hookward keygen`); for `standard-webhooks` `whsec_…` or `whsk_…`.";
    let key = section.section("key", KEY).secret();
    if written && !section.is_broken() {
        for (key, mend) in [
            ("scheme", "write `scheme: telnyx` or `scheme: standard-webhooks`"),
            ("key", "write `key: { file: /keys/app }`, or `env:` instead of `file:`"),
        ] {
            if !section.has(key) {
                section.fault(key, Fault::new("is missing", mend));
            }
        }
    }
    let text = secret::read(&key, sources, section.has("key"));
    let signer = scheme.zip(text).and_then(|(scheme, text)| {
        let mend = "write a key of `hookward keygen`";
        Signer::parse(scheme, &text).map_err(|error| key.own_fault(Fault::from_sentence(&error.to_string(), mend))).ok()
    });
    match signer {
        Some(signer) => Written::With(Arc::new(signer)),
        None if written => Written::Off,
        None => Written::No,
    }
}
