//! Reads a request header under its deadline and judges it byte by byte, before pingora parses it:
//! its parser is lenient where an edge must be strict, and a slow header cannot be told from an
//! idle connection once it has the socket. Source: RFC 9112 §2–§6.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, timeout_at};

use crate::rejection::Rejection;

/// Bounds of a request header.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// From its first byte to its end.
    pub timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle: Duration,
    /// Size of the header.
    pub header_bytes: usize,
    /// Number of fields.
    pub header_count: usize,
    /// Length of the target.
    pub uri_bytes: usize,
}

/// Why there is no header to serve.
#[derive(Debug, PartialEq, Eq)]
pub enum NoHead {
    /// The client left, or waited too long between requests: nothing to answer.
    Closed,
    /// Answer this and close.
    Refused(Rejection),
}

/// Bytes read from a socket at once.
const READ_BYTES: usize = 4096;
const HEADER_END: &[u8] = b"\r\n\r\n";

/// Waits for a request, then reads until its header is complete. What is in `buffer` already
/// belongs to it; afterwards `buffer` holds the header and what came behind it.
///
/// # Errors
/// See [`NoHead`]. Cancel-safe: bytes read so far stay in `buffer`.
pub async fn read(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, limits: &HeadLimits) -> Result<(), NoHead> {
    if buffer.is_empty() {
        buffer.reserve(READ_BYTES);
        match timeout_at(Instant::now() + limits.idle, io.read_buf(buffer)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return Err(NoHead::Closed),
        }
    }
    let deadline = Instant::now() + limits.timeout;
    let mut searched = 0;
    loop {
        if let Some(end) = find_end(buffer, searched) {
            return judge(&buffer[..end], limits).map_err(NoHead::Refused);
        }
        refuse_early(buffer, limits).map_err(NoHead::Refused)?;
        searched = buffer.len().saturating_sub(HEADER_END.len() - 1);
        buffer.reserve(READ_BYTES);
        match timeout_at(deadline, io.read_buf(buffer)).await {
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) => return Err(NoHead::Closed),
            Err(_) => return Err(NoHead::Refused(Rejection::HeaderTimeout)),
        }
    }
}

/// Where the header ends, its empty line included. Line ends within it are judged later: a bare LF
/// ends nothing here, and is refused there.
fn find_end(buffer: &[u8], from: usize) -> Option<usize> {
    let at = buffer[from..].windows(HEADER_END.len()).position(|window| window == HEADER_END)?;
    Some(from + at + HEADER_END.len())
}

/// Refuses what cannot become a good header, without waiting for its end.
fn refuse_early(buffer: &[u8], limits: &HeadLimits) -> Result<(), Rejection> {
    let target_bytes = match buffer.iter().position(|byte| *byte == b'\n') {
        Some(_) => 0,
        None => buffer.iter().skip_while(|byte| **byte != b' ').skip(1).take_while(|byte| **byte != b' ').count(),
    };
    if target_bytes > limits.uri_bytes {
        return Err(Rejection::UriTooLong);
    }
    if buffer.len() > limits.header_bytes {
        return Err(Rejection::HeadersTooLarge);
    }
    // A header whose lines end with a bare LF never gets the end that is waited for.
    let bare = buffer.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r') || buffer.first() == Some(&b'\n');
    if bare { Err(Rejection::BadRequest) } else { Ok(()) }
}

/// Judges a complete header, its final empty line included.
///
/// # Errors
/// [`Rejection::UriTooLong`], [`Rejection::HeadersTooLarge`], [`Rejection::BadRequest`].
pub fn judge(header: &[u8], limits: &HeadLimits) -> Result<(), Rejection> {
    let bad = Rejection::BadRequest;
    let text = header.strip_suffix(HEADER_END).ok_or(bad)?;
    let mut lines = text.split(|byte| *byte == b'\n');
    let request_line = without_cr(lines.next().ok_or(bad)?, lines.clone().next().is_none())?;
    let is_1_1 = judge_request_line(request_line, limits)?;
    if header.len() > limits.header_bytes {
        return Err(Rejection::HeadersTooLarge);
    }
    let mut framing = Framing::default();
    let mut lines = lines.peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        count += 1;
        if count > limits.header_count {
            return Err(Rejection::HeadersTooLarge);
        }
        framing.take(without_cr(line, lines.peek().is_none())?)?;
    }
    framing.judge(is_1_1)
}

/// A line without its CR, which every line but the last of the cut header must have.
fn without_cr(line: &[u8], is_last: bool) -> Result<&[u8], Rejection> {
    let line = if is_last { line } else { line.strip_suffix(b"\r").ok_or(Rejection::BadRequest)? };
    if line.iter().any(|byte| matches!(byte, b'\r' | 0)) { Err(Rejection::BadRequest) } else { Ok(line) }
}

/// `METHOD SP target SP HTTP/1.x`, nothing else; returns whether it is HTTP/1.1.
fn judge_request_line(line: &[u8], limits: &HeadLimits) -> Result<bool, Rejection> {
    let bad = Rejection::BadRequest;
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad);
    };
    if target.len() > limits.uri_bytes {
        return Err(Rejection::UriTooLong);
    }
    let visible = target.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#');
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || target.first() != Some(&b'/') || !visible {
        return Err(bad);
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(bad),
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `host[:port]` (RFC 9110 §7.2), without user info.
fn is_host(value: &[u8]) -> bool {
    let Ok(authority) = http::uri::Authority::try_from(value) else { return false };
    let text = authority.as_str();
    let port_is_one = match text.strip_prefix(authority.host()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
        None => false,
    };
    port_is_one && !text.contains(['@', ','])
}

/// The fields that say where the message ends and whom it is for.
#[derive(Default)]
struct Framing {
    hosts: usize,
    content_lengths: usize,
    transfer_codings: usize,
}

impl Framing {
    fn take(&mut self, line: &[u8]) -> Result<(), Rejection> {
        let bad = Rejection::BadRequest;
        let colon = line.iter().position(|byte| *byte == b':').ok_or(bad)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // Also refuses obs-fold, which begins with white space, and white space before the colon.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad);
        }
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if !is_host(value) {
                return Err(bad);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.content_lengths += 1;
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(bad);
            }
            // 18 digits fit any integer that will hold it; what only a larger one holds is beyond
            // every bound, and what none holds is no length.
            if value.len() > 18 {
                let fits = std::str::from_utf8(value).is_ok_and(|digits| digits.parse::<u64>().is_ok());
                return Err(if fits { Rejection::BodyTooLarge } else { bad });
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_codings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(bad);
            }
        }
        Ok(())
    }

    fn judge(&self, is_1_1: bool) -> Result<(), Rejection> {
        let ambiguous = self.content_lengths + self.transfer_codings > 1;
        let hostless = if is_1_1 { self.hosts != 1 } else { self.hosts > 1 };
        let coded_1_0 = !is_1_1 && self.transfer_codings > 0;
        if ambiguous || hostless || coded_1_0 { Err(Rejection::BadRequest) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    fn limits() -> HeadLimits {
        HeadLimits {
            timeout: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            header_bytes: 400,
            header_count: 5,
            uri_bytes: 50,
        }
    }

    fn judged(header: &str) -> Result<(), Rejection> {
        judge(header.as_bytes(), &limits())
    }

    #[test]
    fn ordinary_requests_pass() {
        for good in [
            "POST /hooks HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /hooks?a=b%20c HTTP/1.1\r\nhost: a\r\nContent-Length: 10\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nX-Empty:\r\nX: \u{e9}\r\n\r\n",
            "POST / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
        ] {
            assert_eq!(judged(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for bad in [
            "POST /hooks HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            "POST / HTTP/1.1\r\nHost : a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a,b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a:port\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
            "POST / HTTP/1.1\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            "POST /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /#f HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/2.0\r\nHost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "POST /\r\nHost: a\r\n\r\n",
            " POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(judged(bad), Err(Rejection::BadRequest), "{bad:?}");
        }
    }

    #[test]
    fn each_bound_has_its_own_reason() {
        let target = |n: usize| format!("POST /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1));
        assert_eq!(judged(&target(50)), Ok(()));
        assert_eq!(judged(&target(51)), Err(Rejection::UriTooLong));
        let fields = |n: usize| format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
        assert_eq!(judged(&fields(5)), Ok(()));
        assert_eq!(judged(&fields(6)), Err(Rejection::HeadersTooLarge));
        let size = |n: usize| {
            let frame = "POST / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
            format!("POST / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(n - frame.len()))
        };
        assert_eq!(judged(&size(400)), Ok(()));
        assert_eq!(judged(&size(401)), Err(Rejection::HeadersTooLarge));
    }

    async fn read_from(bytes: &[u8]) -> (Result<(), NoHead>, BytesMut) {
        let (mut client, mut server) = tokio::io::duplex(10_000);
        client.write_all(bytes).await.unwrap();
        let mut buffer = BytesMut::new();
        let read = read(&mut server, &mut buffer, &limits()).await;
        drop(client);
        (read, buffer)
    }

    #[tokio::test]
    async fn what_came_behind_the_header_is_kept() {
        let (read, buffer) = read_from(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").await;
        assert_eq!(read, Ok(()));
        assert!(buffer.ends_with(b"\r\n\r\nbody"));
    }

    #[tokio::test]
    async fn a_header_that_cannot_become_good_is_refused_before_its_end() {
        let endless_target = format!("POST /{}", "x".repeat(60));
        let endless_header = format!("POST / HTTP/1.1\r\nX: {}", "y".repeat(400));
        for (bytes, reason) in [
            (endless_target.as_str(), Rejection::UriTooLong),
            (endless_header.as_str(), Rejection::HeadersTooLarge),
            ("POST / HTTP/1.1\nHost: a\n\n", Rejection::BadRequest),
        ] {
            assert_eq!(read_from(bytes.as_bytes()).await.0, Err(NoHead::Refused(reason)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_header_ends_at_its_deadline_and_an_idle_connection_quietly() {
        let (mut client, mut server) = tokio::io::duplex(1000);
        client.write_all(b"POST / HT").await.unwrap();
        let slow = read(&mut server, &mut BytesMut::new(), &limits()).await;
        assert_eq!(slow, Err(NoHead::Refused(Rejection::HeaderTimeout)));
        let idle = read(&mut server, &mut BytesMut::new(), &limits()).await;
        assert_eq!(idle, Err(NoHead::Closed));
    }

    proptest! {
        #[test]
        fn no_bytes_can_make_judging_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut header = bytes;
            header.extend_from_slice(HEADER_END);
            let _ = judge(&header, &limits());
        }
    }
}
