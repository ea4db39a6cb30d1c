//! Between a connection and pingora's sessions: a session begins behind a judged header, with the
//! body's framing watched, and the connection comes back when it is over.

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::{ReusableHttpStream, ServerSession};
use pingora_error::Result;

use super::chunked::ChunkedStream;
use super::head::Head;

/// Opens the session of the request whose header stands first in `buffer`; takes all of `buffer`.
///
/// # Errors
/// What our own judgement let through and pingora does not take; the session can only be answered.
pub async fn open(
    stream: Stream,
    buffer: &mut BytesMut,
    head: Head,
) -> std::result::Result<ServerSession, ServerSession> {
    let mut prefix = std::mem::take(buffer);
    let stream: Stream = if head.is_chunked {
        let body = prefix.split_off(head.bytes);
        Box::new(ChunkedStream::new(stream, body))
    } else {
        stream
    };
    let mut session = ServerSession::new_http1(stream);
    if let ServerSession::H1(h1) = &mut session {
        h1.set_pipelined_prefix(prefix);
        // Requests sent ahead are answered one by one, in their order.
        h1.set_pipelining_enabled(true);
    }
    let Ok(true) = session.read_request().await else { return Err(session) };
    if wants_close(&session) {
        session.set_keepalive(None);
    }
    Ok(session)
}

/// Whether any `Connection` field has the option `close` (RFC 9112 §9.6); pingora reads the first only.
fn wants_close(session: &ServerSession) -> bool {
    let fields = session.req_header().headers.get_all(http::header::CONNECTION);
    let mut options = fields.iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// A connection without its session.
pub struct Bare {
    /// The connection.
    pub stream: Stream,
    /// Where it can carry another request: what was sent ahead.
    pub next: Option<BytesMut>,
}

/// Takes the connection out of a session that nothing has been answered over yet but `100 Continue`; `spent` says
/// that its request was read to the end. `None` if the connection is lost.
pub async fn into_bare(session: ServerSession, spent: bool) -> Option<Bare> {
    match session {
        ServerSession::H1(h1) if spent && h1.will_keepalive() => h1.reuse().await.ok().flatten().and_then(behind),
        session => abandon(session).map(|stream| Bare { stream, next: None }),
    }
}

/// Ends a session that has read its whole request and written its answer. The connection with what
/// was sent ahead, if it can carry another request.
pub async fn finish(session: ServerSession) -> Result<Option<(Stream, BytesMut)>> {
    let Some(Bare { stream, next }) = session.finish().await?.and_then(behind) else { return Ok(None) };
    Ok(next.map(|ahead| (stream, ahead)))
}

/// The connection behind a request.
fn behind(reusable: ReusableHttpStream) -> Option<Bare> {
    let (stream, ahead) = reusable.into_parts();
    if !stream.as_any().is::<ChunkedStream>() {
        return Some(Bare { stream, next: Some(ahead.unwrap_or_default()) });
    }
    // Nothing behind the body reached the session.
    let (stream, next) = stream.into_any().downcast::<ChunkedStream>().ok()?.into_next();
    Some(Bare { stream, next })
}

/// Gives a session up for its bare connection, to be closed in order.
pub fn abandon(session: ServerSession) -> Option<Stream> {
    let ServerSession::H1(h1) = session else { return None };
    let stream = h1.into_inner();
    if !stream.as_any().is::<ChunkedStream>() {
        return Some(stream);
    }
    stream.into_any().downcast::<ChunkedStream>().ok().map(|chunked| chunked.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, HeadLimits, NoHead};
    use std::time::Duration;
    use tokio::io::AsyncWriteExt as _;

    async fn read(wire: &[u8]) -> std::result::Result<ServerSession, NoHead> {
        let limits = HeadLimits {
            timeout: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            header_bytes: 10_000,
            header_count: 100,
            uri_bytes: 1000,
            tls: false,
        };
        let (mut client, mut server) = tokio::io::duplex(10_000);
        client.write_all(wire).await.unwrap();
        let mut buffer = BytesMut::new();
        let head = head::read(&mut server, &mut buffer, &limits).await?;
        match open(Box::new(server), &mut buffer, head).await {
            Ok(session) => Ok(session),
            Err(_) => panic!("pingora does not take {}", wire.escape_ascii()),
        }
    }

    #[tokio::test]
    async fn a_target_that_passes_our_judgement_is_what_the_session_has() {
        for byte in 0u8..=255 {
            let target = [b"/a", &[byte][..], b"b?c", &[byte]].concat();
            let wire = [b"POST ", &target[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            match read(&wire).await {
                Ok(session) => {
                    let had = session.req_header().raw_path();
                    assert_eq!(had, target, "{} for {}", had.escape_ascii(), target.escape_ascii());
                }
                Err(refused) => assert!(!byte.is_ascii_graphic() || b"#\"<>`".contains(&byte), "{refused:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_method_and_a_field_that_pass_our_judgement_are_what_the_session_has() {
        for byte in 0u8..=255 {
            let wire =
                [b"X", &[byte][..], b" / HTTP/1.1\r\nHost: a\r\nX: a", &[byte], b"b\r\nY", &[byte], b": c\r\n\r\n"];
            let Ok(session) = read(&wire.concat()).await else { continue };
            let header = session.req_header();
            assert_eq!(header.method.as_str().as_bytes(), [b'X', byte]);
            assert_eq!(header.headers["x"].as_bytes(), [b'a', byte, b'b']);
            assert_eq!(header.headers.len(), 3);
        }
    }
}
