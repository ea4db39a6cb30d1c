//! Answers of the admin side.

use bytes::Bytes;
use http::Method;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use serde_json::{Value, json};

/// What goes back.
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: &'static str,
    allow: Option<&'static str>,
    body: Bytes,
}

impl Reply {
    pub(super) fn json(status: u16, value: &Value) -> Reply {
        Reply { status, content_type: "application/json", allow: None, body: value.to_string().into() }
    }

    pub(super) fn text(text: Vec<u8>) -> Reply {
        Reply { status: 200, content_type: "text/plain; version=0.0.4", allow: None, body: text.into() }
    }

    pub(super) fn error(status: u16, error: &str) -> Reply {
        Reply::json(status, &json!({"error": error}))
    }

    pub(super) fn not_found() -> Reply {
        Reply::error(404, "not_found")
    }

    pub(super) fn wrong_method(allow: &'static str) -> Reply {
        Reply { allow: Some(allow), ..Reply::error(405, "method_not_allowed") }
    }

    /// Writes it; a HEAD gets no body.
    pub(super) async fn write(self, session: &mut ServerSession) -> pingora_error::Result<()> {
        let mut header = ResponseHeader::build(self.status, Some(4))?;
        header.insert_header("content-type", self.content_type)?;
        header.insert_header("content-length", self.body.len())?;
        header.insert_header("cache-control", "no-store")?;
        if let Some(allow) = self.allow {
            header.insert_header("allow", allow)?;
        }
        session.write_response_header(Box::new(header)).await?;
        let head = session.req_header().method == Method::HEAD;
        session.write_response_body(if head { Bytes::new() } else { self.body }, true).await
    }
}
