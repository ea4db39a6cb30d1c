//! Answers of the public side: short JSON, our own writer (pingora's would say more and less).

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
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

    fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        // An id is visible ASCII, and so are methods.
        let id = self.request_id.to_string().try_into().ok().map(|id| (HeaderName::from_static(REQUEST_ID), id));
        let json = HeaderValue::from_static("application/json");
        let json = (!self.body.is_empty()).then_some((header::CONTENT_TYPE, json));
        let allow = self.allow.as_deref().and_then(|allow| Some((header::ALLOW, allow.try_into().ok()?)));
        let retry = self.retry_after.then(|| (header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S)));
        let length = [(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()))];
        length.into_iter().chain(id).chain(json).chain(allow).chain(retry)
    }

    /// Writes it to a session; `head` says that the request was a HEAD, which gets no body.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn write(&self, session: &mut ServerSession, head: bool) -> pingora_error::Result<()> {
        let mut header = ResponseHeader::build_no_case(self.status, Some(5))?;
        for (name, value) in self.fields() {
            header.insert_header(name, value)?;
        }
        for (name, value) in &self.own {
            header.insert_header(name.clone(), value.clone())?;
        }
        session.write_response_header(Box::new(header)).await?;
        let body = if head { Bytes::new() } else { self.body.clone() };
        session.write_response_body(body, true).await
    }

    /// The same as bytes that close the connection, for requests that no session can be made of.
    pub fn to_closing_bytes(&self) -> Vec<u8> {
        let reason = http::StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in self.fields() {
            let _ = write!(text, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        text.push_str("connection: close\r\n\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_ours_says_when_to_come_back_and_a_405_what_is_allowed() {
        let id = DeliveryId([1; 16]);
        let text = |answer: Answer| String::from_utf8(answer.to_closing_bytes()).unwrap();
        let full = text(Answer::refused(Rejection::BufferFull, None, id));
        assert!(full.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{full}");
        assert!(full.contains("retry-after: 5\r\n") && full.ends_with("\r\n\r\n{\"error\":\"buffer_full\"}"));
        assert!(full.contains("hookward-request-id: 01010101-0101-0101-0101-010101010101\r\n"));
        let method = text(Answer::refused(Rejection::MethodNotAllowed, Some("POST".into()), id));
        assert!(method.contains("allow: POST\r\n") && !method.contains("retry-after"));
    }
}
