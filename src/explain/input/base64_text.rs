//! Base64, padded or not, in either alphabet, on one line or many.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::explain::headers::LENIENT;

/// Shorter texts are words that happen to be base64.
const LEAST_CHARS: usize = 16;
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The content of a text that is base64 of something to read.
pub(super) fn content(text: &str) -> Option<Vec<u8>> {
    let dense: String = text.split_ascii_whitespace().collect::<String>().replace('-', "+").replace('_', "/");
    if dense.len() < LEAST_CHARS {
        return None;
    }
    LENIENT.decode(dense).ok().filter(|bytes| is_readable(bytes))
}

/// The content of a member that is said to be base64.
pub(super) fn declared(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.trim_ascii()).ok()
}

/// Text without control characters, gzip or UTF-16: random words that are base64 decode to none of it.
fn is_readable(bytes: &[u8]) -> bool {
    let is_text = || std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(is_unprintable));
    bytes.starts_with(GZIP_MAGIC) || UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) || is_text()
}

fn is_unprintable(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\r' | '\n')
}
