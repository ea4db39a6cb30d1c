//! Bodies that may have been signed where this one came: what hops are known to do, undone.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::cause::Cause;
use super::json_text::{JsonText, Layout, Slashes, Style, Unicode};

/// Variants of one body at most; the likely ones come first.
const VARIANTS_MAX: usize = 96;
/// How much longer than the body a variant may be: indentation makes JSON grow.
const GROWTH_MAX: usize = 4;
/// Below this, growth does not count.
const GROWTH_FREE_BYTES: usize = 4096;

const BOM: &[u8] = b"\xef\xbb\xbf";
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// A body that may have been signed.
pub(super) struct Variant {
    pub(super) body: Vec<u8>,
    /// What then has happened to it.
    pub(super) causes: Vec<Cause>,
}

/// The variants of a body, the likely ones first, made one at a time. None is longer than
/// `max_bytes`; one that is what came may be among them.
pub(super) fn variants(body: &[u8], max_bytes: usize) -> impl Iterator<Item = Variant> + '_ {
    let max_bytes = max_bytes.min(body.len().saturating_mul(GROWTH_MAX).max(GROWTH_FREE_BYTES));
    let json = JsonText::parse(body);
    let styles = json.map(restyled).unwrap_or_default();
    let edits = [Edit::Trim, Edit::Lf, Edit::CrLf, Edit::NoBom, Edit::Bom, Edit::ToLf, Edit::ToCrLf, Edit::Gunzip];
    let edited = edits.into_iter().filter_map(move |edit| edit.apply(body, max_bytes));
    let restyled = styles.into_iter().filter_map(move |restyle| restyle.apply(json?, max_bytes));
    edited.chain(restyled).take(VARIANTS_MAX)
}

/// Undoes one change to the bytes.
#[derive(Clone, Copy)]
enum Edit {
    Trim,
    Lf,
    CrLf,
    NoBom,
    Bom,
    ToLf,
    ToCrLf,
    Gunzip,
}

impl Edit {
    fn apply(self, body: &[u8], max_bytes: usize) -> Option<Variant> {
        let (body, cause) = match self {
            Edit::Trim => (body.trim_ascii_end().to_vec(), Cause::NewlineAdded),
            Edit::Lf => ([body, b"\n"].concat(), Cause::NewlineRemoved),
            Edit::CrLf => ([body, b"\r\n"].concat(), Cause::NewlineRemoved),
            Edit::NoBom => (body.strip_prefix(BOM)?.to_vec(), Cause::BomAdded),
            Edit::Bom => ([BOM, body].concat(), Cause::BomRemoved),
            Edit::ToLf => (to_lf(body), Cause::LineEnds),
            Edit::ToCrLf => (to_crlf(body, max_bytes)?, Cause::LineEnds),
            Edit::Gunzip => (gunzip(body, max_bytes)?, Cause::Gzipped),
        };
        Some(Variant { body, causes: vec![cause] })
    }
}

fn to_lf(body: &[u8]) -> Vec<u8> {
    let before_lf = |at: usize| body.get(at + 1) == Some(&b'\n');
    body.iter().enumerate().filter(|(at, byte)| **byte != b'\r' || !before_lf(*at)).map(|(_, byte)| *byte).collect()
}

fn to_crlf(body: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    let body = to_lf(body);
    let added = body.iter().filter(|byte| **byte == b'\n').count();
    if added == 0 || body.len() + added > max_bytes {
        return None;
    }
    let ended = |byte: &u8| if *byte == b'\n' { b"\r\n".to_vec() } else { vec![*byte] };
    Some(body.iter().flat_map(ended).collect())
}

fn gunzip(body: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    if !body.starts_with(GZIP_MAGIC) {
        return None;
    }
    let mut inflated = Vec::new();
    MultiGzDecoder::new(body).take(max_bytes as u64 + 1).read_to_end(&mut inflated).ok()?;
    (inflated.len() <= max_bytes).then_some(inflated)
}

/// JSON in another style, with or without a line end behind it.
struct Restyle {
    style: Style,
    line_end: bool,
}

/// The styles that change this text, those with few changes first.
fn restyled(json: JsonText<'_>) -> Vec<Restyle> {
    let text = json.as_str();
    let mut unicode = vec![Unicode::Kept];
    if text.contains("\\u") {
        unicode.push(Unicode::Raw);
    }
    if !text.is_ascii() || text.contains("\\u") {
        unicode.extend([Unicode::EscapedLower, Unicode::EscapedUpper]);
    }
    let mut slashes = vec![Slashes::Kept];
    if text.contains("\\/") {
        slashes.push(Slashes::Plain);
    }
    if text.contains('/') {
        slashes.push(Slashes::Escaped);
    }
    let mut all = Vec::new();
    for line_end in [false, true] {
        for layout in [Layout::Kept, Layout::TwoSpaces, Layout::Compact, Layout::Spaced, Layout::FourSpaces] {
            for unicode in &unicode {
                for slashes in &slashes {
                    all.push(Restyle { style: Style { layout, unicode: *unicode, slashes: *slashes }, line_end });
                }
            }
        }
    }
    all.retain(|restyle| restyle.changes() > usize::from(restyle.line_end));
    all.sort_by_key(Restyle::changes);
    all
}

impl Restyle {
    fn changes(&self) -> usize {
        let Style { layout, unicode, slashes } = self.style;
        usize::from(layout != Layout::Kept)
            + usize::from(unicode != Unicode::Kept)
            + usize::from(slashes != Slashes::Kept)
            + usize::from(self.line_end)
    }

    fn apply(&self, json: JsonText<'_>, max_bytes: usize) -> Option<Variant> {
        let mut text = json.rewrite(self.style, max_bytes)?;
        if self.line_end {
            text.truncate(text.trim_ascii_end().len());
            text.push('\n');
        }
        Some(Variant { body: text.into_bytes(), causes: self.causes() })
    }

    /// What has happened to a text that was signed in this style.
    fn causes(&self) -> Vec<Cause> {
        let Style { layout, unicode, slashes } = self.style;
        let layout = (layout != Layout::Kept).then_some(Cause::JsonLayout(layout));
        let unicode = match unicode {
            Unicode::Kept => None,
            Unicode::Raw => Some(Cause::UnicodeEscaped),
            Unicode::EscapedLower | Unicode::EscapedUpper => Some(Cause::UnicodeUnescaped),
        };
        let slashes = match slashes {
            Slashes::Kept => None,
            Slashes::Plain => Some(Cause::SlashesEscaped),
            Slashes::Escaped => Some(Cause::SlashesUnescaped),
        };
        let line_end = self.line_end.then_some(Cause::NewlineRemoved);
        [layout, unicode, slashes, line_end].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn causes_of(came: &[u8], signed: &[u8]) -> Option<Vec<Cause>> {
        variants(came, 1 << 20).find(|variant| variant.body == signed).map(|variant| variant.causes)
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_known_to_happen_to_bytes_is_undone() {
        for (came, signed, cause) in [
            ("{}\n", "{}", Cause::NewlineAdded),
            ("a\r\n", "a", Cause::NewlineAdded),
            ("{}", "{}\n", Cause::NewlineRemoved),
            ("{}", "{}\r\n", Cause::NewlineRemoved),
            ("\u{feff}{}", "{}", Cause::BomAdded),
            ("{}", "\u{feff}{}", Cause::BomRemoved),
            ("{\r\n\"a\r\":1\r\n}", "{\n\"a\r\":1\n}", Cause::LineEnds),
            ("{\n}\n", "{\r\n}\r\n", Cause::LineEnds),
        ] {
            assert_eq!(causes_of(came.as_bytes(), signed.as_bytes()), Some(vec![cause]), "{came:?}");
        }
        assert_eq!(causes_of(&gzip(b"body"), b"body"), Some(vec![Cause::Gzipped]));
    }

    #[test]
    fn what_serialisers_do_to_json_is_undone() {
        let telnyx = "{\n  \"text\": \"Grüße\",\n  \"url\": \"https://a/b\"\n}";
        for (came, causes) in [
            (r#"{"text":"Grüße","url":"https://a/b"}"#, vec![Cause::JsonLayout(Layout::TwoSpaces)]),
            (
                r#"{"text": "Gr\u00fc\u00dfe", "url": "https://a/b"}"#,
                vec![Cause::JsonLayout(Layout::TwoSpaces), Cause::UnicodeEscaped],
            ),
            (
                r#"{"text":"Gr\u00fc\u00dfe","url":"https:\/\/a\/b"}"#,
                vec![Cause::JsonLayout(Layout::TwoSpaces), Cause::UnicodeEscaped, Cause::SlashesEscaped],
            ),
        ] {
            assert_eq!(causes_of(came.as_bytes(), telnyx.as_bytes()), Some(causes), "{came}");
        }
        let compact = r#"{"text":"Gr\u00FC\u00DFe","url":"https:\/\/a\/b"}"#;
        let causes = [Cause::JsonLayout(Layout::Compact), Cause::UnicodeUnescaped, Cause::SlashesUnescaped];
        assert_eq!(causes_of(telnyx.as_bytes(), compact.as_bytes()).as_deref(), Some(&causes[..]));
        let with_end = format!("{telnyx}\n");
        let causes = [Cause::JsonLayout(Layout::TwoSpaces), Cause::NewlineRemoved];
        let came = r#"{"text":"Grüße","url":"https://a/b"}"#;
        assert_eq!(causes_of(came.as_bytes(), with_end.as_bytes()).as_deref(), Some(&causes[..]));
    }

    #[test]
    fn variants_are_bounded_in_number_and_size() {
        let worst = r#"{"a":"\u00e9é\/ /"}"#;
        let all: Vec<_> = variants(worst.as_bytes(), 1 << 20).collect();
        assert!((60..=VARIANTS_MAX).contains(&all.len()), "{}", all.len());
        let bomb = gzip(&vec![b' '; 10 << 20]);
        assert!(variants(&bomb, 1 << 20).all(|variant| variant.body.len() <= 1 << 20));
        let deep = "[".repeat(2000) + &"]".repeat(2000);
        assert!(variants(deep.as_bytes(), 1 << 20).all(|variant| variant.body.len() <= 16_000 + 3));
    }
}
