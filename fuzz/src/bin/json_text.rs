//! JSON in another style means the same, and a style is one form: writing it again changes nothing.
#![no_main]

use hookward_fuzz::explain::json_text::{JsonText, Layout, Slashes, Style, Unicode};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const MAX_BYTES: usize = 1 << 20;

fn rewrite(text: &str, style: Style) -> Option<String> {
    JsonText::parse(text.as_bytes()).expect("what was JSON stays JSON").rewrite(style, MAX_BYTES)
}

fuzz_target!(|input: &[u8]| {
    let Some(json) = JsonText::parse(input) else { return };
    let text = json.as_str();
    let kept = Style { layout: Layout::Kept, unicode: Unicode::Kept, slashes: Slashes::Kept };
    assert_eq!(rewrite(text, kept).as_deref(), Some(text));
    assert!(json.rewrite(kept, text.len().saturating_sub(1)).is_none(), "the bound is kept");

    let value = serde_json::from_str::<Value>(text).ok();
    for layout in [Layout::Kept, Layout::Compact, Layout::Spaced, Layout::TwoSpaces, Layout::FourSpaces] {
        for unicode in [Unicode::Kept, Unicode::Raw, Unicode::EscapedLower, Unicode::EscapedUpper] {
            for slashes in [Slashes::Kept, Slashes::Plain, Slashes::Escaped] {
                let style = Style { layout, unicode, slashes };
                let Some(written) = rewrite(text, style) else { continue };
                assert_eq!(serde_json::from_str::<Value>(&written).ok(), value, "{style:?}");
                assert_eq!(rewrite(&written, style).as_deref(), Some(written.as_str()), "{style:?}");
                assert!(written.is_ascii() || matches!(unicode, Unicode::Kept | Unicode::Raw));
            }
        }
    }
});
