//! Answers of the public side: short JSON, our own writer (pingora's would say more and less).

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use httpdate::HttpDate;
use serde::Serialize;
use serde_json::json;

use crate::buffer::committer::Accepted;
use crate::buffer::event::DeliveryId;
use crate::forward::headers::own;
use crate::ingress::Verified;
use crate::rejection::Rejection;

/// Seconds after which a sender may try again what we could not take.
const RETRY_AFTER_S: &str = "5";

/// Carries the id of a request on every answer, the app's too.
pub const REQUEST_ID: &str = "hookward-request-id";

/// Room for the status line and the fields of an answer, so that one allocation does.
const FIELDS_BYTES: usize = 320;

/// The end of the year 9999: no later one can be written (RFC 9110 §5.6.7), whatever the clock says.
const LAST_DATE_UNIX_MS: u64 = 253_402_300_799_000;

/// A time of the clock as a `Date` field says it.
pub(super) fn date(unix_ms: i64) -> HttpDate {
    HttpDate::from(UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0).min(LAST_DATE_UNIX_MS)))
}

/// What comes behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Perhaps another request over this connection.
    Next,
    /// Its end.
    End,
}

/// What goes back to the sender.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    request_id: DeliveryId,
    allow: Option<String>,
    retry_after: bool,
    /// What hookward says of a verified request.
    own: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// The body of a 200 to an event.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    status: &'static str,
}

impl Answer {
    /// 200: durable, by this request or by an earlier one. Needs the proof.
    pub fn accepted(accepted: &Accepted, event_id: Option<&str>, request_id: DeliveryId) -> Answer {
        let status = match accepted {
            Accepted::New(_) => "accepted",
            Accepted::Duplicate(_) => "duplicate",
        };
        // A string and a word always have a form as JSON.
        let body = serde_json::to_string(&Told { event_id, status }).unwrap_or_default();
        Answer { body: body.into(), ..Answer::new(200, request_id) }
    }

    /// 200 to whoever asked whether the request is genuine. Empty: gateways throw the body away.
    pub fn verified(verified: &Verified, request_id: DeliveryId) -> Answer {
        Answer { own: own(verified.event(), 1), ..Answer::new(200, request_id) }
    }

    /// What `/readyz` says, for load balancers that only see the public side.
    pub fn health(not_ready: Option<&'static str>, request_id: DeliveryId) -> Answer {
        let (status, body) = match not_ready {
            None => (200, json!({"status": "ready"})),
            Some(reason) => (503, json!({"error": reason})),
        };
        Answer { body: body.to_string().into(), ..Answer::new(status, request_id) }
    }

    fn new(status: u16, request_id: DeliveryId) -> Answer {
        Answer { status, request_id, allow: None, retry_after: false, own: Vec::new(), body: Bytes::new() }
    }

    /// A refusal; `allow` goes with a 405.
    pub fn refused(rejection: Rejection, allow: Option<String>, request_id: DeliveryId) -> Answer {
        Answer {
            allow,
            retry_after: rejection.is_passing(),
            body: rejection.body().into(),
            ..Answer::new(rejection.status(), request_id)
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The whole of it as it goes over the wire, at `unix_ms` of the clock, to be written at once: our own writer,
    /// since a session's makes a map of a few known fields and a buffer for each part. `is_head` says that the
    /// request was a HEAD, which gets no body.
    pub fn to_bytes(&self, behind: Behind, is_head: bool, unix_ms: i64) -> Vec<u8> {
        let mut text = String::with_capacity(FIELDS_BYTES + self.body.len());
        // Writing to a string cannot fail.
        let _ = self.write_fields(&mut text, behind, unix_ms);
        let mut bytes = text.into_bytes();
        for (name, value) in &self.own {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    fn write_fields(&self, text: &mut String, behind: Behind, unix_ms: i64) -> std::fmt::Result {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or("");
        write!(text, "HTTP/1.1 {} {reason}\r\n", self.status)?;
        write!(text, "Content-Length: {}\r\n{REQUEST_ID}: {}\r\n", self.body.len(), self.request_id)?;
        if !self.body.is_empty() {
            text.push_str("Content-Type: application/json\r\n");
        }
        if let Some(allow) = &self.allow {
            write!(text, "Allow: {allow}\r\n")?;
        }
        if self.retry_after {
            write!(text, "Retry-After: {RETRY_AFTER_S}\r\n")?;
        }
        write!(text, "Date: {}\r\n", date(unix_ms))?;
        text.push_str(match behind {
            Behind::Next => "Connection: keep-alive\r\n",
            Behind::End => "Connection: close\r\n",
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DeliveryId = DeliveryId([1; 16]);

    fn text(answer: &Answer, behind: Behind) -> String {
        String::from_utf8(answer.to_bytes(behind, false, 784_111_777_000)).unwrap()
    }

    #[test]
    fn an_answer_says_how_long_it_is_when_it_was_made_and_whether_another_may_follow() {
        let answer = Answer::refused(Rejection::SignatureMissing, None, ID);
        let whole = "HTTP/1.1 403 Forbidden\r\nContent-Length: 29\r\n\
            hookward-request-id: 01010101-0101-0101-0101-010101010101\r\nContent-Type: application/json\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\r\n{\"error\":\"signature_missing\"}";
        assert_eq!(text(&answer, Behind::Next), whole);
        assert_eq!(text(&answer, Behind::End), whole.replace("keep-alive", "close"));
        let head = answer.to_bytes(Behind::Next, true, 784_111_777_000);
        assert_eq!(head, whole.split_inclusive("\r\n\r\n").next().unwrap().as_bytes(), "a HEAD gets no body");
    }

    #[test]
    fn a_clock_that_is_wrong_beyond_every_date_still_lets_answers_be_written() {
        let answer = Answer::refused(Rejection::SignatureMissing, None, ID);
        for (unix_ms, date) in
            [(i64::MIN, "Thu, 01 Jan 1970 00:00:00 GMT"), (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT")]
        {
            let bytes = answer.to_bytes(Behind::End, false, unix_ms);
            assert!(String::from_utf8(bytes).unwrap().contains(&format!("Date: {date}\r\n")), "{unix_ms}");
        }
    }

    #[test]
    fn a_refusal_of_ours_says_when_to_come_back_and_a_405_what_is_allowed() {
        let full = text(&Answer::refused(Rejection::BufferFull, None, ID), Behind::End);
        assert!(full.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{full}");
        assert!(full.contains("Retry-After: 5\r\n") && full.ends_with("\r\n\r\n{\"error\":\"buffer_full\"}"));
        let method = text(&Answer::refused(Rejection::MethodNotAllowed, Some("POST".into()), ID), Behind::End);
        assert!(method.contains("Allow: POST\r\n") && !method.contains("Retry-After"));
    }
}
