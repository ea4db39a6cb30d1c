//! Why an app may have refused a genuine event, as far as its answer, the event and what the app has taken before
//! tell. Pure.
//!
//! A status alone does not say who refused: the app's verifier, its framework's check of hosts or of CSRF tokens, or
//! its handler. A hint names what can be told apart, and else everything that answers so.

use http::HeaderValue;

use crate::buffer::event::Event;
use crate::gate::signature::{TIMESTAMP_HEADER, parse_timestamp};

/// Age of Telnyx's signature from which a hint names it, seconds: the 300 that its SDKs allow, less a margin for
/// clocks that differ.
const OLD_FROM_S: i64 = 240;
/// How much of an answer's body is looked through.
const LOOKED_AT_BYTES: usize = 16 << 10;

const REDIRECT: &str =
    "a redirect is never followed: the webhook URL has to name the app's own place (https, the slash at its end)";
const PATH: &str =
    "the app does not know this path, which is that of the webhook URL in the portal (`hookward events show` has it)";
const METHOD: &str = "the app takes another method at this path, which is that of the webhook URL in the portal";
const HOST: &str = "the app refuses the host that it is asked for: set upstream.host to one that it allows, and upstream.forwarded: client";
const CSRF: &str = "the app asks for a CSRF token, which no webhook has: exempt this path from that check";
const FORM: &str =
    "it is a form (TeXML), which `unwrap` of Telnyx's SDKs cannot read: let the app only verify it (docs/apps.md)";
const UNSIGNED: &str = "the event is unverified (a check in report mode), so it was not signed";
const FRESH: &str = "Telnyx's signature is as it came and not too old: the app's key or verifier (docs/apps.md), a check of hosts (upstream.host, upstream.forwarded) or of CSRF tokens answers so";
const UNTAKEN: &str = "it was signed again with hookward's key, and the app has taken nothing so signed since hookward started: its key is not what `hookward pubkey` prints, its clock is wrong, its verifier fails (docs/apps.md), or it checks hosts (upstream.host, upstream.forwarded) or CSRF tokens";
const TAKEN: &str = "it was signed again with hookward's key, and the app has taken events so signed: unless its key or clock was changed since, something other than the signature is refused";

/// What frameworks say that refuse a host, in lower case: Sinatra and Rack, Rails, Django, Starlette and development
/// servers, ASP.NET, Symfony, Vite.
const HOST_PHRASES: [&str; 8] = [
    "host not permitted",
    "blocked host",
    "disallowedhost",
    "invalid http_host",
    "invalid host",
    "untrusted host",
    "this host (",
    "host is not allowed",
];
/// What frameworks say that miss a token of a form, in lower case: Django and others, Rails.
const CSRF_PHRASES: [&str; 2] = ["csrf", "authenticity"];

/// The signature that an app finds on its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Telnyx's own.
    Senders,
    /// hookward's, of which the app has taken none yet.
    Untaken,
    /// hookward's, which the app has taken before.
    Taken,
}

/// An answer that is no 2xx.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// Its status.
    pub status: u16,
    /// Its body, as far as it is known.
    pub body: &'a [u8],
    /// Its `Date`, as far as it is known.
    pub date: Option<&'a HeaderValue>,
}

/// A hint for an answer; `None` where the status says all that is known.
pub fn hint(refusal: Refusal<'_>, event: &Event, signing: Signing, now_unix_ms: i64) -> Option<String> {
    let of_verifier = || of_verifier(refusal, event, signing, now_unix_ms);
    let told_by_body = || told_by_body(refusal.body).map(ToOwned::to_owned);
    match refusal.status {
        300..=399 => Some(REDIRECT.to_owned()),
        404 => Some(PATH.to_owned()),
        405 => Some(METHOD.to_owned()),
        400 | 401 | 403 => told_by_body().or_else(of_verifier),
        419 | 421 | 422 => told_by_body(),
        // A verifier that throws, or a handler.
        500 => of_verifier(),
        _ => None,
    }
}

/// A check that names itself.
fn told_by_body(body: &[u8]) -> Option<&'static str> {
    let text = body[..body.len().min(LOOKED_AT_BYTES)].to_ascii_lowercase();
    let says = |phrases: &[&str]| {
        phrases.iter().any(|phrase| text.windows(phrase.len()).any(|part| part == phrase.as_bytes()))
    };
    if says(&HOST_PHRASES) {
        return Some(HOST);
    }
    says(&CSRF_PHRASES).then_some(CSRF)
}

fn of_verifier(refusal: Refusal<'_>, event: &Event, signing: Signing, now_unix_ms: i64) -> Option<String> {
    if signing != Signing::Senders && !event.is_verified() {
        return Some(UNSIGNED.to_owned());
    }
    if let Some(off) = clock_that_is_off(refusal.date, now_unix_ms) {
        return Some(off);
    }
    let may_be_verifier = refusal.status != 500;
    let text = match signing {
        Signing::Senders => match old_signature(event, now_unix_ms) {
            Some(old) => return Some(old),
            None if is_form(event) => FORM,
            None => return may_be_verifier.then(|| FRESH.to_owned()),
        },
        Signing::Untaken if is_form(event) => return Some(format!("{UNTAKEN}; {FORM}")),
        Signing::Untaken => UNTAKEN,
        Signing::Taken if is_form(event) => FORM,
        Signing::Taken => return may_be_verifier.then(|| TAKEN.to_owned()),
    };
    Some(text.to_owned())
}

/// A clock of the app by which every timestamp is too old or too new.
fn clock_that_is_off(date: Option<&HeaderValue>, now_unix_ms: i64) -> Option<String> {
    let date = httpdate::parse_http_date(date?.to_str().ok()?).ok()?;
    let date_s = i64::try_from(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let ahead_s = date_s - now_unix_ms.div_euclid(1000);
    let way = if ahead_s > 0 { "ahead of" } else { "behind" };
    (ahead_s.abs() > OLD_FROM_S).then(|| {
        format!(
            "by the Date of its answer the app's clock is {} s {way} this machine's, and SDKs refuse 300 s: set it right",
            ahead_s.abs()
        )
    })
}

/// A signature that the app's SDK finds too old, or too new.
fn old_signature(event: &Event, now_unix_ms: i64) -> Option<String> {
    let age_s = (now_unix_ms.div_euclid(1000)).saturating_sub(signed_at_s(event));
    if age_s > OLD_FROM_S {
        return Some(format!(
            "Telnyx signed it {age_s} s ago, and its SDKs refuse that from the 300th second on: upstream.sign signs anew for every attempt"
        ));
    }
    (age_s < -OLD_FROM_S).then(|| {
        format!(
            "it is signed for {} s ahead of this machine's clock, and SDKs refuse 300 s: compare the clocks",
            -age_s
        )
    })
}

/// The signed time, or that of its receipt where there is none.
fn signed_at_s(event: &Event) -> i64 {
    let signed = header(event, TIMESTAMP_HEADER).and_then(|value| parse_timestamp(Some(value)).ok());
    signed.and_then(|text| text.parse().ok()).unwrap_or(event.received_unix_ms.div_euclid(1000))
}

fn is_form(event: &Event) -> bool {
    const FORM_TYPE: &[u8] = b"application/x-www-form-urlencoded";
    header(event, "content-type")
        .is_some_and(|value| value.len() >= FORM_TYPE.len() && value[..FORM_TYPE.len()].eq_ignore_ascii_case(FORM_TYPE))
}

fn header<'e>(event: &'e Event, name: &str) -> Option<&'e [u8]> {
    event.head.headers.iter().find(|(have, _)| &have[..] == name.as_bytes()).map(|(_, value)| &value[..])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::buffer::event::tests::event;

    const RECEIVED_S: i64 = 1_700_000_000;

    fn with(name: &'static str, value: &str) -> Event {
        let mut event = event("e", b"");
        event.received_unix_ms = RECEIVED_S * 1000;
        event.head.headers.retain(|(have, _)| &have[..] != name.as_bytes());
        event.head.headers.push((Bytes::from_static(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
        event
    }

    /// An event that came `late_s` after it was signed.
    fn late(late_s: i64) -> Event {
        with(TIMESTAMP_HEADER, &(RECEIVED_S - late_s).to_string())
    }

    fn form() -> Event {
        with("content-type", "Application/x-www-form-urlencoded; charset=UTF-8")
    }

    fn hint_at(status: u16, event: &Event, signing: Signing, after_s: i64) -> String {
        let refusal = Refusal { status, body: b"", date: None };
        hint(refusal, event, signing, (RECEIVED_S + after_s) * 1000).unwrap_or_default()
    }

    #[test]
    fn an_old_signature_is_named_by_its_own_time_however_late_it_came() {
        for status in [400, 401, 403, 500] {
            assert!(hint_at(status, &late(0), Signing::Senders, 241).contains("signed it 241 s ago"));
            assert!(hint_at(status, &late(290), Signing::Senders, 1).contains("signed it 291 s ago"));
            assert!(!hint_at(status, &late(200), Signing::Senders, 40).contains("ago"));
        }
        assert!(hint_at(401, &late(-250), Signing::Senders, 0).contains("250 s ahead"));
        assert!(!hint_at(404, &late(600), Signing::Senders, 0).contains("ago"));
        let without = with("x-other", "1");
        assert!(hint_at(401, &without, Signing::Senders, 241).contains("241 s ago"), "since its receipt");
        assert!(!hint_at(403, &without, Signing::Senders, -3600).contains("ago"), "a clock that was set back");
    }

    #[test]
    fn of_what_hookward_has_signed_a_hint_says_what_the_app_has_taken_before() {
        for status in [400, 401, 403] {
            assert_eq!(hint_at(status, &late(600), Signing::Untaken, 600), UNTAKEN);
            assert_eq!(hint_at(status, &late(600), Signing::Taken, 600), TAKEN);
        }
        assert_eq!(hint_at(500, &late(0), Signing::Untaken, 0), UNTAKEN, "a verifier that throws");
        assert_eq!(hint_at(500, &late(0), Signing::Taken, 0), "", "a handler that throws");
        let mut unverified = late(0);
        unverified.head.key = None;
        for signing in [Signing::Untaken, Signing::Taken] {
            assert_eq!(hint_at(401, &unverified, signing, 0), UNSIGNED);
        }
    }

    #[test]
    fn a_clock_of_the_app_that_is_off_is_told_by_the_date_of_its_answer() {
        let told = |status, off_s: i64, signing| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs((RECEIVED_S + off_s).cast_unsigned());
            let date = HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap();
            let refusal = Refusal { status, body: b"", date: Some(&date) };
            hint(refusal, &late(0), signing, RECEIVED_S * 1000).unwrap_or_default()
        };
        for signing in [Signing::Senders, Signing::Untaken, Signing::Taken] {
            for status in [400, 401, 403, 500] {
                assert!(told(status, 412, signing).contains("412 s ahead of this machine's"));
                assert!(told(status, -412, signing).contains("412 s behind this machine's"));
                assert!(!told(status, 240, signing).contains("clock is 2"));
            }
            assert_eq!(told(404, 412, signing), PATH);
        }
        let bad = HeaderValue::from_static("yesterday");
        let refusal = Refusal { status: 401, body: b"", date: Some(&bad) };
        assert_eq!(hint(refusal, &late(0), Signing::Senders, RECEIVED_S * 1000).as_deref(), Some(FRESH));
    }

    #[test]
    fn a_form_is_named_where_an_sdk_would_want_json() {
        for status in [400, 401, 403, 500] {
            assert_eq!(hint_at(status, &form(), Signing::Senders, 0), FORM);
            assert_eq!(hint_at(status, &form(), Signing::Taken, 0), FORM);
            assert!(hint_at(status, &form(), Signing::Untaken, 0).ends_with(FORM));
        }
        assert!(hint_at(401, &form(), Signing::Senders, 300).contains("300 s ago"), "for its age first");
    }

    #[test]
    fn a_check_of_hosts_or_of_tokens_that_names_itself_is_named() {
        let named = |status, body: &str| {
            let refusal = Refusal { status, body: body.as_bytes(), date: None };
            hint(refusal, &late(0), Signing::Untaken, RECEIVED_S * 1000).unwrap_or_default()
        };
        for (status, body, expected) in [
            (403, "Host not permitted", HOST),
            (403, "<h1>Blocked hosts: hooks.example</h1>", HOST),
            (400, "<title>DisallowedHost at /webhooks</title>", HOST),
            (400, "Invalid host header", HOST),
            (400, "<h2>Bad Request - Invalid Hostname</h2>", HOST),
            (403, "Blocked request. This host (\"hooks.example\") is not allowed.", HOST),
            (403, "CSRF verification failed. Request aborted.", CSRF),
            (422, "ActionController::InvalidAuthenticityToken", CSRF),
            (403, "Forbidden", UNTAKEN),
            (422, "{\"error\":\"no such order\"}", ""),
            (500, "Host not permitted", UNTAKEN),
        ] {
            assert_eq!(named(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn other_answers_say_all_themselves_or_name_the_path() {
        for status in [301, 302, 307, 308] {
            assert_eq!(hint_at(status, &late(0), Signing::Senders, 0), REDIRECT);
        }
        assert_eq!(hint_at(404, &late(0), Signing::Taken, 0), PATH);
        assert_eq!(hint_at(405, &late(0), Signing::Taken, 0), METHOD);
        for status in [402, 408, 409, 410, 413, 429, 502, 503, 504] {
            let refusal = Refusal { status, body: b"csrf", date: None };
            assert_eq!(hint(refusal, &late(600), Signing::Untaken, RECEIVED_S * 1000), None, "{status}");
        }
        assert_eq!(hint_at(500, &late(0), Signing::Senders, 0), "");
        assert_eq!(hint_at(403, &late(0), Signing::Senders, 0), FRESH);
    }
}
