//! A request as it goes out: whole, or as a header for a session that sends its body piece by piece.

use http::{HeaderName, HeaderValue, Method};
use pingora_http::RequestHeader;

use super::destination::Destination;
use super::error::ExchangeError;

/// Room for a request line and the fields that are not the sender's, so that one allocation does.
const REQUEST_OVERHEAD_BYTES: usize = 128;

/// How the end of a request's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length, bytes.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// A request without its body.
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a [u8],
    /// They go out as they are.
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    pub(super) framing: Framing,
}

impl Request<'_> {
    /// The header for a session.
    pub(super) fn header(&self, destination: &Destination) -> Result<RequestHeader, ExchangeError> {
        let broken = |_| ExchangeError::Broken;
        let fields = Some(self.headers.len() + 2);
        let mut header = RequestHeader::build_no_case(self.method.clone(), self.target, fields).map_err(broken)?;
        for (name, value) in self.headers.iter().chain(self.own_fields(destination)?.iter().flatten()) {
            header.append_header(name.clone(), value.clone()).map_err(broken)?;
        }
        Ok(header)
    }

    /// Header and body, to be written at once: in two writes they are two packets, and the other
    /// side wakes up for each.
    pub(super) fn whole(&self, body: &[u8], destination: &Destination) -> Result<Vec<u8>, ExchangeError> {
        if self.target.is_empty() || !self.target.iter().all(u8::is_ascii_graphic) {
            return Err(ExchangeError::Broken);
        }
        let fields: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let mut wire = Vec::with_capacity(self.target.len() + fields + body.len() + REQUEST_OVERHEAD_BYTES);
        wire.extend_from_slice(self.method.as_str().as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(self.target);
        wire.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in self.headers.iter().chain(self.own_fields(destination)?.iter().flatten()) {
            wire.extend_from_slice(name.as_str().as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(value.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(body);
        Ok(wire)
    }

    /// The fields that are not the caller's: Host if it is missing, and the framing.
    fn own_fields(&self, destination: &Destination) -> Result<[Option<(HeaderName, HeaderValue)>; 2], ExchangeError> {
        use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
        let host = if self.headers.iter().any(|(name, _)| name == HOST) {
            None
        } else {
            let authority = destination.authority().try_into().map_err(|_| ExchangeError::Broken)?;
            Some((HOST, authority))
        };
        let framing = match self.framing {
            // RFC 9110 §8.6: a method that has no use for a body says nothing about an empty one.
            Framing::Length(0) if matches!(*self.method, Method::GET | Method::HEAD) => None,
            Framing::Length(bytes) => Some((CONTENT_LENGTH, bytes.into())),
            Framing::Chunked => Some((TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        };
        Ok([host, framing])
    }
}
