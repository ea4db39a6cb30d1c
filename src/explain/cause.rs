//! What may have gone wrong between signing and arriving: one table.

use super::json_text::Layout;

/// A known cause of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The signature stands under another header name.
    SignatureRenamed,
    /// The timestamp stands under another header name.
    TimestampRenamed,
    /// `X-Telnyx-Signature`: the HMAC scheme of Telnyx's API v1.
    ApiV1,
    /// `X-Meeting-Bot-Signature`: Telnyx's meeting scheme.
    MeetingBot,
    /// The signature header of another provider.
    OtherScheme,
    /// The signature or timestamp header is there twice.
    HeaderTwice,
    /// Content coding: what was signed is the body before it, or behind it.
    ContentCoding,

    /// 128 hex digits.
    SignatureHex,
    /// `-` and `_` for `+` and `/`.
    SignatureUrlSafe,
    /// No `==`.
    SignatureUnpadded,
    /// White space or quotes.
    SignatureWhiteSpace,
    /// Spaces for `+`.
    SignaturePlusLost,
    /// `%2B`, `%2F`, `%3D`.
    SignaturePercentEncoded,
    /// Bits that base64 leaves unused are set.
    SignatureLooseBits,

    /// The header has milliseconds.
    TimestampMilliseconds,
    /// The header has seconds and milliseconds were signed.
    TimestampWasMilliseconds,
    /// The same number, written otherwise.
    TimestampRewritten,

    /// `{timestamp}.{body}` was signed.
    DotSeparator,
    /// `{timestamp}{body}` was signed.
    NoSeparator,
    /// Only the body was signed.
    BodyOnly,

    /// A line end was added behind the body.
    NewlineAdded,
    /// The line end behind the body was removed.
    NewlineRemoved,
    /// LF became CRLF, or CRLF LF.
    LineEnds,
    /// A byte order mark was added.
    BomAdded,
    /// The byte order mark was removed.
    BomRemoved,
    /// The body is gzip, and its content was signed.
    Gzipped,
    /// JSON with other white space; it was signed with this layout.
    JsonLayout(Layout),
    /// Characters were escaped as `\u…`.
    UnicodeEscaped,
    /// `\u…` escapes were undone, or written otherwise.
    UnicodeUnescaped,
    /// `/` became `\/`.
    SlashesEscaped,
    /// `\/` became `/`.
    SlashesUnescaped,

    /// A key of another route has signed it.
    OtherKey,
    /// Genuine and old.
    Old,
    /// Genuine and ahead of the clock.
    Ahead,
    /// The body is not such as Telnyx sends, so nothing can be said of its signature.
    NotUnderstood,
    /// Nothing that was tried verifies.
    Unknown,
}

const PASS_RAW: &str = "take the raw bytes of the request before any JSON parser and pass them on unchanged, or put hookward before that hop";
const PASS_HEADER: &str = "make the hop pass the header on as it came";
const SIGN_RIGHT: &str = "no webhook of Telnyx looks so: make the signer sign the timestamp, a pipe and the raw body";

impl Cause {
    /// A stable name, what was found, and what to do about it.
    fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Cause::SignatureRenamed => (
                "signature_renamed",
                "the signature has come under a name like Telnyx-Signature-Ed25519 and not under it",
                "make the hop pass the header on under its own name",
            ),
            Cause::TimestampRenamed => (
                "timestamp_renamed",
                "the timestamp has come under a name like Telnyx-Timestamp and not under it",
                "make the hop pass the header on under its own name",
            ),
            Cause::ApiV1 => (
                "api_v1",
                "X-Telnyx-Signature is there: Telnyx API v1, which signs with HMAC",
                "set the webhook API version to 2 in the portal (messaging profile or connection)",
            ),
            Cause::MeetingBot => (
                "meeting_bot",
                "X-Meeting-Bot-Signature is there: Telnyx's meeting scheme, which signs with HMAC",
                "send meeting webhooks to the app directly; this route verifies Ed25519",
            ),
            Cause::OtherScheme => (
                "other_scheme",
                "the signature header of another provider is there (Discord, Stripe, GitHub, Standard Webhooks …)",
                "not a webhook of Telnyx: give that provider another URL",
            ),
            Cause::HeaderTwice => (
                "header_twice",
                "the signature or the timestamp header is there twice, or as a list",
                "a hop adds a copy: make it replace the header or leave it alone",
            ),
            Cause::ContentCoding => (
                "content_coding",
                "the request has a Content-Encoding; what is signed are the bytes on the wire",
                "a hop compressed the body, or inflated it and left the header: switch that off",
            ),
            Cause::SignatureHex => {
                ("signature_hex", "the signature is written in hex; Telnyx sends base64", PASS_HEADER)
            }
            Cause::SignatureUrlSafe => (
                "signature_url_safe",
                "the signature is in the URL-safe alphabet (- and _); Telnyx sends + and /",
                PASS_HEADER,
            ),
            Cause::SignatureUnpadded => ("signature_unpadded", "the signature has lost the == at its end", PASS_HEADER),
            Cause::SignatureWhiteSpace => {
                ("signature_white_space", "the signature has white space or quotes in it", PASS_HEADER)
            }
            Cause::SignaturePlusLost => (
                "signature_plus_lost",
                "the signature has spaces where + stood: it was decoded as a form field",
                PASS_HEADER,
            ),
            Cause::SignaturePercentEncoded => {
                ("signature_percent_encoded", "the signature is percent-encoded", PASS_HEADER)
            }
            Cause::SignatureLooseBits => (
                "signature_loose_bits",
                "the last character of the signature is not the one that an encoder writes",
                PASS_HEADER,
            ),
            Cause::TimestampMilliseconds => (
                "timestamp_milliseconds",
                "the timestamp is in milliseconds; Telnyx signs whole seconds",
                "make the hop pass the header on as it came, or the signer sign seconds",
            ),
            Cause::TimestampWasMilliseconds => (
                "timestamp_was_milliseconds",
                "milliseconds were signed and the header has seconds",
                "no webhook of Telnyx looks so: make the signer sign the seconds that it sends",
            ),
            Cause::TimestampRewritten => (
                "timestamp_rewritten",
                "the timestamp is not plain digits (quotes, white space, sign, leading zero or fraction)",
                PASS_HEADER,
            ),
            Cause::DotSeparator => {
                ("dot_separator", "signed with a dot between timestamp and body; Telnyx puts a pipe there", SIGN_RIGHT)
            }
            Cause::NoSeparator => {
                ("no_separator", "signed with nothing between timestamp and body; Telnyx puts a pipe there", SIGN_RIGHT)
            }
            Cause::BodyOnly => ("body_only", "the body alone was signed, without the timestamp", SIGN_RIGHT),
            Cause::NewlineAdded => (
                "newline_added",
                "a line end (or other white space) was added at the end of the body",
                "an editor, `echo` or a logging hop adds it: save and send exactly the bytes that came",
            ),
            Cause::NewlineRemoved => (
                "newline_removed",
                "the line end at the end of the body was removed",
                "a trim() or $(…) on the way removes it: pass the bytes on as they came",
            ),
            Cause::LineEnds => (
                "line_ends",
                "the line ends of the body were changed between LF and CRLF",
                "a text-mode copy or git's autocrlf does so: save and send the body as binary",
            ),
            Cause::BomAdded => (
                "bom_added",
                "a byte order mark was added before the body",
                "an editor or a text writer adds it: save and send UTF-8 without one",
            ),
            Cause::BomRemoved => (
                "bom_removed",
                "the byte order mark before the body was removed",
                "pass the bytes on as they came, and do not decode them to text",
            ),
            Cause::Gzipped => (
                "gzipped",
                "the body is gzip, and its content is what was signed: a hop compressed it",
                "switch request compression off on that hop",
            ),
            Cause::JsonLayout(layout) => ("json_layout", signed_layout(layout), PASS_RAW),
            Cause::UnicodeEscaped => (
                "unicode_escaped",
                "a hop rewrote the body: characters were escaped as \\u…, the signed JSON has them raw",
                PASS_RAW,
            ),
            Cause::UnicodeUnescaped => (
                "unicode_unescaped",
                "a hop rewrote the body: the signed JSON has characters escaped as \\u… that came otherwise",
                PASS_RAW,
            ),
            Cause::SlashesEscaped => (
                "slashes_escaped",
                "a hop rewrote the body: slashes came as \\/, the signed JSON has them plain (PHP's json_encode does so)",
                PASS_RAW,
            ),
            Cause::SlashesUnescaped => (
                "slashes_unescaped",
                "a hop rewrote the body: slashes came plain, the signed JSON has them as \\/",
                PASS_RAW,
            ),
            Cause::OtherKey => (
                "other_key",
                "genuine, but signed with a key of another route",
                "give this route that key too, or correct the webhook's URL",
            ),
            Cause::Old => (
                "old",
                "genuine, but signed too long ago",
                "one such: a replay or a slow hop; all of them: this machine's clock is ahead, set it by NTP; an old capture: give the time of its receipt with --now",
            ),
            Cause::Ahead => (
                "ahead",
                "genuine, but signed in the future",
                "this machine's clock is behind: set it by NTP; an old capture: give the time of its receipt with --now",
            ),
            Cause::NotUnderstood => (
                "not_understood",
                "nothing is known of this body: it is neither JSON with a `data` object nor a form, which is what Telnyx signs",
                "give the body alone, byte for byte, or a file that is read: a whole HTTP request, a HAR, an event of API Gateway or an ALB, an export of ngrok or webhook.site, `hookward events export`; UTF-16, base64 or a JSON string of any of them",
            ),
            Cause::Unknown => (
                "unknown",
                "nothing that was tried verifies",
                "check that the key is this account's (portal: Keys & Credentials > Public Key; a rotation leaves two valid for an hour); else it is forged, or a hop changed it beyond undoing (members reordered, numbers rewritten)",
            ),
        }
    }

    /// A stable name, `snake_case`.
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// What was found. Never repeats anything of the request.
    pub fn found(self) -> &'static str {
        self.row().1
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        self.row().2
    }
}

fn signed_layout(layout: Layout) -> &'static str {
    match layout {
        Layout::Kept => "a hop rewrote the body: its white space is not what was signed",
        Layout::Compact => "a hop rewrote the body: the signed JSON is compact, without white space",
        Layout::Spaced => "a hop rewrote the body: the signed JSON is on one line, with a space behind : and ,",
        Layout::TwoSpaces => "a hop rewrote the body: the signed JSON is indented by two spaces",
        Layout::FourSpaces => "a hop rewrote the body: the signed JSON is indented by four spaces",
    }
}
