//! What header names and shapes tell, without looking at a body or checking a signature.

use std::borrow::Cow;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use ed25519_dalek::{SIGNATURE_LENGTH, Signature};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::cause::Cause;
use crate::gate::keys::decode_hex;
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, parse_signature};
use crate::rejection::Rejection;

/// Longest value in which a signature is looked for: hex, percent-encoded, with something to spare.
const SIGNATURE_TEXT_MAX_BYTES: usize = 512;
/// Digits of a timestamp in milliseconds, until the year 2286.
const MILLISECONDS_DIGITS: usize = 13;

/// Base64 as lenient as can be without guessing: padded or not, whatever the unused bits.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What names and shapes of the headers say about a refusal. Costs next to nothing, and the text
/// never holds anything of the request.
pub fn header_hint(headers: &HeaderMap, rejection: Rejection) -> Option<&'static str> {
    header_cause(headers, rejection).map(Cause::found)
}

pub(super) fn header_cause(headers: &HeaderMap, rejection: Rejection) -> Option<Cause> {
    let value = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    match rejection {
        Rejection::BadRequest => {
            let list = |name: &str| {
                let mut values = headers.get_all(name).iter();
                let first = values.next().is_some_and(|value| value.as_bytes().contains(&b','));
                first || values.next().is_some()
            };
            (list(SIGNATURE_HEADER) || list(TIMESTAMP_HEADER)).then_some(Cause::HeaderTwice)
        }
        Rejection::SignatureMissing => names(headers, signature_name),
        Rejection::TimestampMissing => names(headers, timestamp_name),
        Rejection::SignatureMalformed => lenient_signature(value(SIGNATURE_HEADER)?)?.1,
        Rejection::TimestampMalformed => {
            plain_timestamp(value(TIMESTAMP_HEADER)?).is_some().then_some(Cause::TimestampRewritten)
        }
        Rejection::TimestampFuture { .. } => {
            (value(TIMESTAMP_HEADER)?.len() == MILLISECONDS_DIGITS).then_some(Cause::TimestampMilliseconds)
        }
        Rejection::SignatureMismatch => {
            let coded = value(CONTENT_ENCODING.as_str()).is_some_and(|value| !value.eq_ignore_ascii_case(b"identity"));
            coded.then_some(Cause::ContentCoding)
        }
        _ => None,
    }
}

/// The first of the names that says something; the most telling one, where there are several.
fn names(headers: &HeaderMap, judge: fn(&str) -> Option<Cause>) -> Option<Cause> {
    let found: Vec<Cause> = headers.keys().filter_map(|name| judge(name.as_str())).collect();
    let known = |cause: &&Cause| **cause != Cause::OtherScheme;
    found.iter().find(known).or(found.first()).copied()
}

/// The name as frameworks and CGI fold it back: `HTTP_X_TELNYX_…` is `telnyx-…`.
fn folded(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let name = name.strip_prefix("http-").unwrap_or(&name);
    name.strip_prefix("x-").unwrap_or(name).to_owned()
}

fn signature_name(name: &str) -> Option<Cause> {
    if name == SIGNATURE_HEADER {
        return None;
    }
    match folded(name).as_str() {
        // Without the X- it is the right header with its end cut off.
        "telnyx-signature" if !name.starts_with("telnyx") => Some(Cause::ApiV1),
        "telnyx-signature" | "telnyx-signature-ed25519" | "telnyx-signature-ed-25519" | "telnyx-ed25519-signature" => {
            Some(Cause::SignatureRenamed)
        }
        "meeting-bot-signature" => Some(Cause::MeetingBot),
        "signature-ed25519"
        | "stripe-signature"
        | "webhook-signature"
        | "svix-signature"
        | "hub-signature"
        | "hub-signature-256"
        | "twilio-signature"
        | "slack-signature"
        | "shopify-hmac-sha256" => Some(Cause::OtherScheme),
        _ => None,
    }
}

fn timestamp_name(name: &str) -> Option<Cause> {
    if name == TIMESTAMP_HEADER {
        return None;
    }
    match folded(name).as_str() {
        "telnyx-timestamp" | "telnyx-signature-timestamp" | "telnyx-time-stamp" => Some(Cause::TimestampRenamed),
        "signature-timestamp" | "webhook-timestamp" | "svix-timestamp" | "slack-request-timestamp" => {
            Some(Cause::OtherScheme)
        }
        _ => None,
    }
}

/// A header's value under its own name, or under one like it.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'h> {
    pub(super) value: &'h [u8],
    pub(super) renamed: Option<Cause>,
}

/// Where the signature may be.
pub(super) fn signature_candidate(headers: &HeaderMap) -> Option<Candidate<'_>> {
    candidate(headers, SIGNATURE_HEADER, signature_name, Cause::SignatureRenamed)
}

/// Where the timestamp may be.
pub(super) fn timestamp_candidate(headers: &HeaderMap) -> Option<Candidate<'_>> {
    candidate(headers, TIMESTAMP_HEADER, timestamp_name, Cause::TimestampRenamed)
}

fn candidate<'h>(
    headers: &'h HeaderMap,
    name: &str,
    judge: fn(&str) -> Option<Cause>,
    renamed: Cause,
) -> Option<Candidate<'h>> {
    if let Some(value) = headers.get(name).map(http::HeaderValue::as_bytes).filter(|value| !value.is_empty()) {
        return Some(Candidate { value, renamed: None });
    }
    let mut like = headers.iter().filter(|(name, _)| judge(name.as_str()) == Some(renamed));
    like.next().map(|(_, value)| Candidate { value: value.as_bytes(), renamed: Some(renamed) })
}

/// A signature in any of the forms that hops make of it, and what was done to it; `None` for the
/// one form that is accepted.
pub(super) fn lenient_signature(value: &[u8]) -> Option<(Signature, Option<Cause>)> {
    if let Ok(signature) = parse_signature(Some(value)) {
        return Some((signature, None));
    }
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= SIGNATURE_TEXT_MAX_BYTES)?;
    let (signature, cause) = decode_signature(text)?;
    Some((signature, Some(cause)))
}

fn decode_signature(text: &str) -> Option<(Signature, Cause)> {
    let bare = text.trim_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\''));
    if bare.len() == 2 * SIGNATURE_LENGTH && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return from_bytes(&decode_hex(bare)?, Cause::SignatureHex);
    }
    if bare.contains('%') {
        let plain = bare.replace("%2B", "+").replace("%2b", "+").replace("%2F", "/").replace("%2f", "/");
        let plain = plain.replace("%3D", "=").replace("%3d", "=");
        return decode_base64(&plain, Cause::SignaturePercentEncoded);
    }
    if bare.contains(['-', '_']) {
        return decode_base64(&bare.replace('-', "+").replace('_', "/"), Cause::SignatureUrlSafe);
    }
    if bare.contains(' ')
        && let Some(found) = decode_base64(&bare.replace(' ', "+"), Cause::SignaturePlusLost)
    {
        return Some(found);
    }
    let dense: String = bare.split_ascii_whitespace().collect();
    let cause = if dense != text {
        Cause::SignatureWhiteSpace
    } else if !dense.ends_with("==") {
        Cause::SignatureUnpadded
    } else {
        Cause::SignatureLooseBits
    };
    decode_base64(&dense, cause)
}

fn decode_base64(text: &str, cause: Cause) -> Option<(Signature, Cause)> {
    from_bytes(&LENIENT.decode(text).ok()?, cause)
}

fn from_bytes(bytes: &[u8], cause: Cause) -> Option<(Signature, Cause)> {
    Some((Signature::from_slice(bytes).ok()?, cause))
}

/// The digits of a timestamp that is malformed for what stands around them; `None` where it is
/// plain already, or is no number.
pub(super) fn plain_timestamp(value: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(value).ok()?;
    let bare = text.trim_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\''));
    let whole = bare.split(['.', ',']).next()?;
    let digits = whole.trim_start_matches(['+', '0']);
    let is_number = (1..=MILLISECONDS_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    (is_number && digits != text).then_some(digits.as_bytes())
}

/// The texts that may have been signed where this one came, each with what happened to it.
pub(super) fn timestamps(value: &[u8]) -> Vec<(Cow<'_, [u8]>, Option<Cause>)> {
    let (base, rewritten) = match plain_timestamp(value) {
        Some(digits) => (digits, Some(Cause::TimestampRewritten)),
        None => (value, None),
    };
    let mut texts = vec![(Cow::Borrowed(value), None)];
    if rewritten.is_some() {
        texts.push((Cow::Borrowed(base), rewritten));
    }
    match base.len() {
        MILLISECONDS_DIGITS => texts.push((Cow::Borrowed(&base[..10]), Some(Cause::TimestampMilliseconds))),
        10 => texts.push((Cow::Owned([base, b"000"].concat()), Some(Cause::TimestampWasMilliseconds))),
        _ => {}
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const SIGNATURE: &str = "PYq6hBF9ZQLVucPO/FF9FZLTfkZvrXSVipKkJ5mO/VuQjYYc2YYsUf8Ec2l2D9j5GREoohUhe1d9tbeXZ7CB+A==";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn near_misses_of_the_signatures_name_are_told_apart() {
        for (name, cause) in [
            ("x-telnyx-signature-ed25519", Some(Cause::SignatureRenamed)),
            ("telnyx_signature_ed25519", Some(Cause::SignatureRenamed)),
            ("HTTP_TELNYX_SIGNATURE_ED25519", Some(Cause::SignatureRenamed)),
            ("telnyx-signature", Some(Cause::SignatureRenamed)),
            ("x-telnyx-signature", Some(Cause::ApiV1)),
            ("x_telnyx_signature", Some(Cause::ApiV1)),
            ("x-meeting-bot-signature", Some(Cause::MeetingBot)),
            ("X-Signature-Ed25519", Some(Cause::OtherScheme)),
            ("stripe-signature", Some(Cause::OtherScheme)),
            ("telnyx-timestamp", None),
            ("user-agent", None),
        ] {
            let there = headers(&[("host", "a"), (name, "MARK")]);
            assert_eq!(header_cause(&there, Rejection::SignatureMissing), cause, "{name}");
        }
        let both = headers(&[("stripe-signature", "MARK"), ("x-telnyx-signature", "MARK")]);
        assert_eq!(header_cause(&both, Rejection::SignatureMissing), Some(Cause::ApiV1), "the more telling one");
        for (name, cause) in [
            ("telnyx-signature-timestamp", Some(Cause::TimestampRenamed)),
            ("x_telnyx_timestamp", Some(Cause::TimestampRenamed)),
            ("webhook-timestamp", Some(Cause::OtherScheme)),
            ("date", None),
        ] {
            assert_eq!(header_cause(&headers(&[(name, "1")]), Rejection::TimestampMissing), cause, "{name}");
        }
    }

    #[test]
    fn each_form_of_a_signature_has_its_cause_and_is_the_same_signature() {
        let bytes = STANDARD.decode(SIGNATURE).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        for (form, cause) in [
            (SIGNATURE.to_owned(), None),
            (hex, Some(Cause::SignatureHex)),
            (SIGNATURE.replace('/', "_").replace('+', "-"), Some(Cause::SignatureUrlSafe)),
            (SIGNATURE.replace('/', "_").trim_end_matches('=').to_owned(), Some(Cause::SignatureUrlSafe)),
            (SIGNATURE.trim_end_matches('=').to_owned(), Some(Cause::SignatureUnpadded)),
            (format!("\"{SIGNATURE}\""), Some(Cause::SignatureWhiteSpace)),
            (SIGNATURE.replacen('F', "F ", 1), Some(Cause::SignatureWhiteSpace)),
            (SIGNATURE.replace('+', " "), Some(Cause::SignaturePlusLost)),
            (
                SIGNATURE.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D"),
                Some(Cause::SignaturePercentEncoded),
            ),
            (SIGNATURE.replace("A==", "B=="), Some(Cause::SignatureLooseBits)),
        ] {
            let (signature, found) = lenient_signature(form.as_bytes()).unwrap_or_else(|| panic!("{form}"));
            assert_eq!((signature.to_bytes().as_slice(), found), (bytes.as_slice(), cause), "{form}");
            let there = headers(&[(SIGNATURE_HEADER, &form)]);
            assert_eq!(header_cause(&there, Rejection::SignatureMalformed), cause, "{form}");
        }
        for none in ["", "abc", "Bearer x", &"A".repeat(2000), &STANDARD.encode([1; 65])] {
            assert!(lenient_signature(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn a_timestamp_is_read_through_what_stands_around_it() {
        for rewritten in ["\"1700000000\"", "+1700000000", "01700000000", "1700000000.0", "1700000000,5", " 1700000000"]
        {
            assert_eq!(plain_timestamp(rewritten.as_bytes()), Some(b"1700000000".as_slice()), "{rewritten}");
        }
        for other in ["1700000000", "", "0", "-5", "2023-11-14T22:13:20Z", "1e9", "17000000000000"] {
            assert_eq!(plain_timestamp(other.as_bytes()), None, "{other}");
        }
        let texts = |value: &'static str| -> Vec<String> {
            timestamps(value.as_bytes())
                .into_iter()
                .map(|(text, _)| String::from_utf8(text.into_owned()).unwrap())
                .collect()
        };
        assert_eq!(texts("1700000000123"), ["1700000000123", "1700000000"]);
        assert_eq!(texts("1700000000"), ["1700000000", "1700000000000"]);
        assert_eq!(texts("1700000000.0"), ["1700000000.0", "1700000000", "1700000000000"]);
        assert_eq!(texts("5"), ["5"]);
    }

    #[test]
    fn no_hint_holds_a_value_of_the_request() {
        let marked = headers(&[
            ("x-telnyx-signature", "MARK"),
            ("x-telnyx-timestamp", "MARK"),
            (SIGNATURE_HEADER, "MARK, MARK"),
            (TIMESTAMP_HEADER, "+1700000001"),
            ("content-encoding", "MARK"),
        ]);
        let mut hints = 0;
        for rejection in Rejection::ALL {
            if let Some(hint) = header_hint(&marked, rejection) {
                assert!(!hint.contains("MARK") && !hint.contains("1700000001"), "{hint}");
                hints += 1;
            }
        }
        assert_eq!(hints, 5, "bad request, both missing, timestamp malformed, mismatch");
        assert_eq!(header_hint(&HeaderMap::new(), Rejection::SignatureMissing), None);
    }
}
