//! A JSON text as another serialiser would write it: other white space and other escapes, but the
//! same tokens in the same order. Parsing into values would not do: it reorders members and writes
//! numbers anew. Source: RFC 8259.

use serde::de::IgnoredAny;

/// White space between tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// As it is.
    Kept,
    /// None.
    Compact,
    /// One space behind `:` and `,`, on one line: Python's default.
    Spaced,
    /// A line for each member, indented by two spaces: what Telnyx sends for messages.
    TwoSpaces,
    /// The same with four: PHP's pretty print.
    FourSpaces,
}

/// How characters beyond ASCII stand in strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unicode {
    /// As they are.
    Kept,
    /// Themselves, in UTF-8; escapes of printable ASCII are undone too.
    Raw,
    /// `\u00e9`: Python, PHP.
    EscapedLower,
    /// `\u00E9`: .NET.
    EscapedUpper,
}

/// How a slash stands in strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slashes {
    /// As it is.
    Kept,
    /// `/`
    Plain,
    /// `\/`: PHP.
    Escaped,
}

/// A way to write JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Style {
    /// Between tokens.
    pub layout: Layout,
    /// In strings.
    pub unicode: Unicode,
    /// In strings.
    pub slashes: Slashes,
}

/// A text that is well-formed JSON.
#[derive(Debug, Clone, Copy)]
pub struct JsonText<'t>(&'t str);

impl<'t> JsonText<'t> {
    /// The text, if it is UTF-8 and JSON.
    pub fn parse(text: &'t [u8]) -> Option<JsonText<'t>> {
        let text = std::str::from_utf8(text).ok()?;
        // Skipping values takes neither recursion nor memory.
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(JsonText(text))
    }

    /// The text itself.
    pub fn as_str(self) -> &'t str {
        self.0
    }

    /// The same tokens in another style; `None` once that is longer than `max_bytes`.
    pub fn rewrite(self, style: Style, max_bytes: usize) -> Option<String> {
        let mut writer = Writer { style, out: String::new(), max_bytes, depth: 0, opened: false };
        let mut rest = self.0;
        while let Some((token, behind)) = split_token(rest) {
            writer.token(token)?;
            rest = behind;
        }
        Some(writer.out)
    }
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The first token of a JSON text, or the white space before it.
fn split_token(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => string_end(bytes),
        b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
        first => {
            let blank = is_white_space(*first);
            let ends = |byte: &u8| is_white_space(*byte) != blank || b"{}[]:,\"".contains(byte);
            bytes.iter().position(ends).unwrap_or(bytes.len())
        }
    };
    Some(text.split_at(end))
}

/// Where the string ends that begins here, its quotes included.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

struct Writer {
    style: Style,
    out: String,
    max_bytes: usize,
    /// Objects and lists that are open.
    depth: usize,
    /// Whether the token before opened one of them: an empty one stays on its line.
    opened: bool,
}

impl Writer {
    fn token(&mut self, token: &str) -> Option<()> {
        let first = token.as_bytes().first().copied()?;
        if is_white_space(first) {
            return if self.style.layout == Layout::Kept { self.put(token) } else { Some(()) };
        }
        let opened = std::mem::take(&mut self.opened);
        match first {
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !opened {
                    self.line_break()?;
                }
                self.put(token)
            }
            _ if opened => {
                self.line_break()?;
                self.within(first, token)
            }
            _ => self.within(first, token),
        }
    }

    fn within(&mut self, first: u8, token: &str) -> Option<()> {
        match first {
            b'{' | b'[' => {
                self.depth += 1;
                self.opened = true;
                self.put(token)
            }
            b',' => {
                self.put(",")?;
                if self.style.layout == Layout::Spaced { self.put(" ") } else { self.line_break() }
            }
            b':' => self.put(if matches!(self.style.layout, Layout::Kept | Layout::Compact) { ":" } else { ": " }),
            b'"' => self.string(token),
            _ => self.put(token),
        }
    }

    fn line_break(&mut self) -> Option<()> {
        let indent = match self.style.layout {
            Layout::TwoSpaces => 2,
            Layout::FourSpaces => 4,
            Layout::Kept | Layout::Compact | Layout::Spaced => return Some(()),
        };
        let spaces = self.depth.saturating_mul(indent);
        if self.out.len().saturating_add(spaces) >= self.max_bytes {
            return None;
        }
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', spaces));
        Some(())
    }

    fn string(&mut self, token: &str) -> Option<()> {
        if self.style.unicode == Unicode::Kept && self.style.slashes == Slashes::Kept {
            return self.put(token);
        }
        let mut rest = token;
        while let Some((character, behind)) = split_character(rest) {
            match character {
                Character::Plain("/") | Character::Escaped("\\/") => self.slash(character.as_written())?,
                Character::Plain(text) => self.plain(text)?,
                Character::Unicode(text, meaning) => self.unicode(text, meaning)?,
                Character::Escaped(text) => self.put(text)?,
            }
            rest = behind;
        }
        Some(())
    }

    fn slash(&mut self, as_written: &str) -> Option<()> {
        self.put(match self.style.slashes {
            Slashes::Kept => as_written,
            Slashes::Plain => "/",
            Slashes::Escaped => "\\/",
        })
    }

    /// Characters that stand for themselves.
    fn plain(&mut self, text: &str) -> Option<()> {
        match self.style.unicode {
            Unicode::EscapedLower | Unicode::EscapedUpper if !text.is_ascii() => {
                text.chars().try_for_each(|character| self.escape(character))
            }
            _ => self.put(text),
        }
    }

    /// A `\u` escape, or a pair of them; `None` is half a pair, which means no character.
    fn unicode(&mut self, as_written: &str, meaning: Option<char>) -> Option<()> {
        match (self.style.unicode, meaning) {
            (Unicode::Raw, Some('/')) => self.slash("/"),
            (Unicode::Raw, Some(character)) if character >= ' ' && !matches!(character, '"' | '\\') => {
                self.put(character.encode_utf8(&mut [0; 4]))
            }
            (Unicode::EscapedLower | Unicode::EscapedUpper, Some(character)) => self.escape(character),
            _ => self.put(as_written),
        }
    }

    fn escape(&mut self, character: char) -> Option<()> {
        let digits =
            if self.style.unicode == Unicode::EscapedUpper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        for unit in character.encode_utf16(&mut [0; 2]) {
            if self.out.len() + UNICODE_ESCAPE > self.max_bytes {
                return None;
            }
            self.out.push_str("\\u");
            let nibbles = [12, 8, 4, 0].map(|shift| digits[usize::from(*unit >> shift & 0xf)]);
            self.out.extend(nibbles.map(char::from));
        }
        Some(())
    }

    fn put(&mut self, text: &str) -> Option<()> {
        if self.out.len() + text.len() > self.max_bytes {
            return None;
        }
        self.out.push_str(text);
        Some(())
    }
}

/// A part of a string.
#[derive(Clone, Copy)]
enum Character<'t> {
    /// A slash, or a run of characters without slash and escape that are all ASCII or all not.
    Plain(&'t str),
    /// `\n`, `\"`, `\/` and their like.
    Escaped(&'t str),
    /// `\u0041`, `\ud83d\udc4b`, and what it means.
    Unicode(&'t str, Option<char>),
}

impl<'t> Character<'t> {
    fn as_written(self) -> &'t str {
        match self {
            Character::Plain(text) | Character::Escaped(text) | Character::Unicode(text, _) => text,
        }
    }
}

fn split_character(text: &str) -> Option<(Character<'_>, &str)> {
    let first = text.chars().next()?;
    if first == '\\' {
        return Some(split_escape(text));
    }
    let end = match first {
        '/' => 1,
        _ => {
            // Between ASCII and not, a text may be cut anywhere.
            let ends = |byte: &u8| matches!(byte, b'\\' | b'/') || byte.is_ascii() != first.is_ascii();
            text.as_bytes().iter().position(ends).unwrap_or(text.len())
        }
    };
    let (plain, behind) = text.split_at(end);
    Some((Character::Plain(plain), behind))
}

/// Length of `\uXXXX`.
const UNICODE_ESCAPE: usize = 6;

fn split_escape(text: &str) -> (Character<'_>, &str) {
    let Some(unit) = code_unit(text) else {
        // A backslash and the character behind it, which in JSON is ASCII.
        let (escape, behind) = text.split_at_checked(2).unwrap_or((text, ""));
        return (Character::Escaped(escape), behind);
    };
    let low = text.get(UNICODE_ESCAPE..).and_then(code_unit);
    let pair = low.and_then(|low| char::decode_utf16([unit, low]).next()?.ok().filter(|c| c.len_utf16() == 2));
    let (end, meaning) = match pair {
        Some(character) => (2 * UNICODE_ESCAPE, Some(character)),
        None => (UNICODE_ESCAPE, char::from_u32(unit.into())),
    };
    let (escape, behind) = text.split_at(end);
    (Character::Unicode(escape, meaning), behind)
}

/// The code unit of a text that begins with `\uXXXX`.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const KEPT: Style = Style { layout: Layout::Kept, unicode: Unicode::Kept, slashes: Slashes::Kept };

    fn rewrite(text: &str, style: Style) -> String {
        JsonText::parse(text.as_bytes()).unwrap().rewrite(style, 1 << 20).unwrap()
    }

    fn laid_out(text: &str, layout: Layout) -> String {
        rewrite(text, Style { layout, ..KEPT })
    }

    #[test]
    fn each_layout_is_that_of_a_known_serialiser() {
        let odd = "{ \"a\" :[ ] ,\"b\":{\r\n},\t\"c\":[1.0,-2e+05,{\"d\":null}],\"e\":\"x: y, {z}\"}\n";
        assert_eq!(laid_out(odd, Layout::Kept), odd);
        let compact = r#"{"a":[],"b":{},"c":[1.0,-2e+05,{"d":null}],"e":"x: y, {z}"}"#;
        assert_eq!(laid_out(odd, Layout::Compact), compact);
        let spaced = r#"{"a": [], "b": {}, "c": [1.0, -2e+05, {"d": null}], "e": "x: y, {z}"}"#;
        assert_eq!(laid_out(odd, Layout::Spaced), spaced);
        let two = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1.0,\n    -2e+05,\n    {\n      \"d\": null\n    }\n  ],\n  \"e\": \"x: y, {z}\"\n}";
        assert_eq!(laid_out(odd, Layout::TwoSpaces), two);
        assert_eq!(laid_out(odd, Layout::FourSpaces), two.replace("  ", "    "));
    }

    #[test]
    fn strings_are_escaped_as_by_known_serialisers() {
        let raw = r#"{"a/b":"Grüße 👋 \\/ \" \n <&>"}"#;
        let php = r#"{"a\/b":"Gr\u00fc\u00dfe \ud83d\udc4b \\\/ \" \n <&>"}"#;
        let dot_net = r#"{"a/b":"Gr\u00FC\u00DFe \uD83D\uDC4B \\/ \" \n <&>"}"#;
        let style = |unicode, slashes| Style { layout: Layout::Kept, unicode, slashes };
        assert_eq!(rewrite(raw, style(Unicode::EscapedLower, Slashes::Escaped)), php);
        assert_eq!(rewrite(raw, style(Unicode::EscapedUpper, Slashes::Kept)), dot_net);
        assert_eq!(rewrite(php, style(Unicode::Raw, Slashes::Plain)), raw);
        assert_eq!(rewrite(dot_net, style(Unicode::Raw, Slashes::Kept)), raw);
        assert_eq!(rewrite(dot_net, style(Unicode::EscapedLower, Slashes::Escaped)), php);
        assert_eq!(
            rewrite(r#""\u0026\u003c\u0022\u005c\u0007""#, style(Unicode::Raw, Slashes::Kept)),
            r#""&<\u0022\u005c\u0007""#
        );
        // Found by fuzzing: an escape that is undone to a slash is a slash like any other.
        assert_eq!(rewrite(r#""\u002f""#, style(Unicode::Raw, Slashes::Escaped)), r#""\/""#);
        let halves = r#""\ud83d \udc4b\ud83d\ud83d\udc4b""#;
        assert_eq!(rewrite(halves, style(Unicode::Raw, Slashes::Kept)), r#""\ud83d \udc4b\ud83d👋""#);
    }

    #[test]
    fn only_json_is_taken() {
        for bad in ["", "{", "{}x", "{\"a\"}", "\u{feff}{}", "\"\\x\""] {
            assert!(JsonText::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(JsonText::parse(b"\"\xff\"").is_none());
        for good in ["1", " null ", "\"\"", "[{}]"] {
            assert!(JsonText::parse(good.as_bytes()).is_some(), "{good:?}");
        }
    }

    #[test]
    fn what_is_written_is_bounded_however_deep_the_text() {
        let deep = "[".repeat(5_000) + "1" + &"]".repeat(5_000);
        let json = JsonText::parse(deep.as_bytes()).unwrap();
        let two_spaces = Style { layout: Layout::TwoSpaces, ..KEPT };
        assert_eq!(json.rewrite(two_spaces, 1 << 20), None);
        assert_eq!(json.rewrite(KEPT, deep.len()).as_deref(), Some(deep.as_str()));
        assert_eq!(json.rewrite(KEPT, deep.len() - 1), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[ -~]{0,8}", "\\PC{0,4}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_layouts_are_serde_jsons_own(value in json()) {
            let (compact, pretty) = (value.to_string(), format!("{value:#}"));
            prop_assert_eq!(laid_out(&pretty, Layout::Compact), compact.clone());
            prop_assert_eq!(laid_out(&compact, Layout::TwoSpaces), pretty);
        }

        #[test]
        fn a_rewritten_text_means_the_same_and_escapes_can_be_undone(value in json()) {
            let text = value.to_string();
            let escaped = Style { layout: Layout::Spaced, unicode: Unicode::EscapedUpper, slashes: Slashes::Escaped };
            let php = rewrite(&text, escaped);
            prop_assert!(php.is_ascii());
            prop_assert_eq!(serde_json::from_str::<Value>(&php).unwrap(), value);
            let raw = Style { layout: Layout::Compact, unicode: Unicode::Raw, slashes: Slashes::Plain };
            // serde_json escapes control characters as we keep them.
            prop_assert_eq!(rewrite(&php, raw), text);
        }
    }
}
