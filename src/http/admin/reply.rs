//! Answers of the admin side.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use pingora_core::protocols::Stream;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::encoding::Coding;
use crate::http::answer::date;

/// The methods of a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Allowed {
    /// It only shows something.
    Look,
    /// It changes something.
    Change,
}

/// What goes back.
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: &'static str,
    /// Fields that not every reply has.
    more: &'static [(&'static str, &'static str)],
    body: Bytes,
}

impl Reply {
    pub(super) fn json(status: u16, value: &Value) -> Reply {
        Reply { status, content_type: "application/json", more: &[], body: value.to_string().into() }
    }

    pub(super) fn metrics(text: Vec<u8>, coding: Coding) -> Reply {
        let more: &[_] = match coding {
            Coding::Identity => &[("Vary", "Accept-Encoding")],
            Coding::Gzip => &[("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")],
        };
        Reply { status: 200, content_type: "text/plain; version=0.0.4", more, body: text.into() }
    }

    pub(super) fn error(status: u16, error: &str) -> Reply {
        Reply::json(status, &json!({"error": error}))
    }

    pub(super) fn not_found() -> Reply {
        Reply::error(404, "not_found")
    }

    pub(super) fn wrong_method(allowed: Allowed) -> Reply {
        let more: &[_] = match allowed {
            Allowed::Look => &[("Allow", "GET, HEAD")],
            Allowed::Change => &[("Allow", "POST")],
        };
        Reply { more, ..Reply::error(405, "method_not_allowed") }
    }

    /// Writes it as the last one of a connection; a HEAD gets no body.
    pub(super) async fn write(self, stream: &mut Stream, is_head: bool, unix_ms: i64) -> io::Result<()> {
        stream.write_all(self.head(unix_ms).as_bytes()).await?;
        if !is_head {
            stream.write_all(&self.body).await?;
        }
        stream.flush().await
    }

    fn head(&self, unix_ms: i64) -> String {
        let status = StatusCode::from_u16(self.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
        let fields = [
            ("Content-Type", self.content_type.to_owned()),
            ("Content-Length", self.body.len().to_string()),
            ("Cache-Control", "no-store".to_owned()),
            ("Date", date(unix_ms).to_string()),
            ("Connection", "close".to_owned()),
        ];
        let more = self.more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let lines = fields.into_iter().chain(more).map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("HTTP/1.1 {} {reason}\r\n{}\r\n", self.status, lines.collect::<String>())
    }
}
