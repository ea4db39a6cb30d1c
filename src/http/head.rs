//! Reads a request header under its deadline and judges it byte by byte, before pingora parses it:
//! its parser is lenient where an edge must be strict, and a slow header cannot be told from an
//! idle connection once it has the socket. An absolute target becomes its origin-form here, so that
//! nothing behind sees another. Source: RFC 9112 §2–§6.

use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use memchr::{memchr, memmem};
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
    /// Whether the connection is over TLS, which says the scheme that an absolute target must have.
    pub tls: bool,
}

/// A header that has been read and judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its length in the buffer, the final empty line included.
    pub bytes: usize,
    /// Whether a chunked body follows; else one of the declared length, or none.
    pub is_chunked: bool,
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

/// Waits for the first byte of a request; what is in `buffer` already belongs to it.
///
/// # Errors
/// [`NoHead::Closed`]. Cancel-safe: a byte that has come is in `buffer`.
pub async fn begin(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    limits: &HeadLimits,
) -> Result<(), NoHead> {
    if buffer.is_empty() {
        buffer.reserve(READ_BYTES);
        match timeout_at(Instant::now() + limits.idle, io.read_buf(buffer)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return Err(NoHead::Closed),
        }
    }
    Ok(())
}

/// Reads a request that has begun until its header is complete. Afterwards `buffer` holds the header, its target
/// in origin-form, and what came behind it.
///
/// # Errors
/// See [`NoHead`].
pub async fn read(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    limits: &HeadLimits,
) -> Result<Head, NoHead> {
    let deadline = Instant::now() + limits.timeout;
    let (mut searched, mut looked_at) = (0, 0);
    loop {
        if let Some(end) = find_end(buffer, searched) {
            let judged = judge(&buffer[..end], limits).map_err(NoHead::Refused)?;
            let cut = cut_authority(buffer, judged.authority);
            return Ok(Head { bytes: end - cut, is_chunked: judged.is_chunked });
        }
        refuse_early(buffer, looked_at, limits).map_err(NoHead::Refused)?;
        searched = buffer.len().saturating_sub(HEADER_END.len() - 1);
        looked_at = buffer.len();
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
    let at = memmem::find(&buffer[from..], HEADER_END)?;
    Some(from + at + HEADER_END.len())
}

/// Cuts scheme and authority out of an absolute target; how many bytes went.
fn cut_authority(buffer: &mut BytesMut, authority: Range<usize>) -> usize {
    let Some(last) = authority.clone().next_back() else { return 0 };
    // `http://a?x` means the path `/`.
    let keep = match buffer.get(authority.end) {
        Some(b'/') => authority.end,
        _ => last,
    };
    buffer[last] = b'/';
    let after = buffer.len();
    buffer.copy_within(keep..after, authority.start);
    buffer.truncate(after - (keep - authority.start));
    keep - authority.start
}

/// Refuses what cannot become a good header, without waiting for its end: lines that are complete and
/// wrong, and a request line that is wrong so far. Lines up to `looked_at` have been judged before.
fn refuse_early(buffer: &[u8], looked_at: usize, limits: &HeadLimits) -> Result<(), Rejection> {
    let mut start = buffer[..looked_at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    while let Some(length) = memchr(b'\n', &buffer[start..]) {
        // A header whose lines end with a bare LF never gets the end that is waited for.
        let line = buffer[start..start + length].strip_suffix(b"\r").ok_or(Rejection::BadRequest)?;
        match start {
            0 => _ = RequestLine::judge(line, limits)?,
            _ => Framing::default().take(line)?,
        }
        start += length + 1;
    }
    if start == 0 {
        RequestLine::judge_begun(buffer, limits)?;
    }
    if buffer.len() > limits.header_bytes { Err(Rejection::HeadersTooLarge) } else { Ok(()) }
}

/// What an operator should know of bytes that are no request, where they say what they are.
pub fn hint(buffer: &[u8]) -> Option<&'static str> {
    if buffer.starts_with(b"PRI * HTTP/2") {
        return Some(
            "HTTP/2 without TLS (h2c), which is not spoken here: let the proxy before hookward speak HTTP/1.1 to it",
        );
    }
    // A TLS record with a handshake.
    buffer.starts_with(&[0x16, 0x03]).then_some(
        "TLS, to a listener that speaks none: send http:// there, or give the listener a certificate (listen[].tls)",
    )
}

/// What judging a header found.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    /// Where scheme and authority of an absolute target stand; empty for an origin-form.
    authority: Range<usize>,
    is_chunked: bool,
}

/// Judges a complete header, its final empty line included.
///
/// # Errors
/// [`Rejection::UriTooLong`], [`Rejection::HeadersTooLarge`], [`Rejection::BadRequest`].
pub fn judge(header: &[u8], limits: &HeadLimits) -> Result<Judged, Rejection> {
    let bad = Rejection::BadRequest;
    let mut lines = Lines { rest: Some(header.strip_suffix(HEADER_END).ok_or(bad)?) };
    let request_line = RequestLine::judge(lines.next().ok_or(bad)??, limits)?;
    if header.len() > limits.header_bytes {
        return Err(Rejection::HeadersTooLarge);
    }
    let mut framing = Framing::default();
    for (place, line) in lines.enumerate() {
        if place >= limits.header_count {
            return Err(Rejection::HeadersTooLarge);
        }
        framing.take(line?)?;
    }
    framing.judge(&request_line)?;
    Ok(Judged { authority: request_line.scheme_and_authority, is_chunked: framing.transfer_codings > 0 })
}

/// The lines of a header without its final empty line, and without the CR that each but the last must have.
struct Lines<'h> {
    rest: Option<&'h [u8]>,
}

impl<'h> Iterator for Lines<'h> {
    type Item = Result<&'h [u8], Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        let Some(end) = memchr(b'\n', text) else { return Some(Ok(text)) };
        self.rest = Some(&text[end + 1..]);
        Some(text[..end].strip_suffix(b"\r").ok_or(Rejection::BadRequest))
    }
}

/// `METHOD SP target SP HTTP/1.x`, nothing else.
struct RequestLine<'h> {
    is_1_1: bool,
    /// Where they stand in the line, if the target is absolute; else empty.
    scheme_and_authority: Range<usize>,
    authority: Option<&'h [u8]>,
}

impl<'h> RequestLine<'h> {
    /// Judges the beginning of a line that has not come to its end.
    fn judge_begun(line: &[u8], limits: &HeadLimits) -> Result<(), Rejection> {
        let mut parts = line.split(|byte| *byte == b' ');
        let method = parts.next().unwrap_or_default();
        let (target, version) = (parts.next(), parts.next());
        if target.is_some_and(|target| target.len() > limits.uri_bytes) {
            return Err(Rejection::UriTooLong);
        }
        // TLS to a plain port, an empty line, white space: no method begins so.
        let is_method = method.iter().all(|byte| is_token(*byte)) && !(method.is_empty() && target.is_some());
        let is_connect = target.is_some() && method.eq_ignore_ascii_case(b"CONNECT");
        let is_version =
            |version: &[u8]| [&b"HTTP/1.1\r"[..], b"HTTP/1.0\r"].iter().any(|one| one.starts_with(version));
        let may_be = is_method
            && !is_connect
            && target.is_none_or(|target| is_target_begun(target, version.is_some(), limits.tls))
            && version.is_none_or(is_version)
            && parts.next().is_none();
        if may_be { Ok(()) } else { Err(Rejection::BadRequest) }
    }

    fn judge(line: &'h [u8], limits: &HeadLimits) -> Result<RequestLine<'h>, Rejection> {
        let bad = Rejection::BadRequest;
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad);
        };
        if target.len() > limits.uri_bytes {
            return Err(Rejection::UriTooLong);
        }
        if method.is_empty()
            || !method.iter().all(|byte| is_token(*byte))
            || !target.iter().all(|byte| is_target(*byte))
        {
            return Err(bad);
        }
        // RFC 9110 §9.3.6: a tunnel through a proxy that this is not, whatever its target.
        if method.eq_ignore_ascii_case(b"CONNECT") {
            return Err(bad);
        }
        let is_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(bad),
        };
        if target.first() == Some(&b'/') {
            return Ok(RequestLine { is_1_1, scheme_and_authority: 0..0, authority: None });
        }
        // RFC 9112 §3.2.2. What is left, such as `*`, is for no route.
        let scheme = scheme(limits.tls);
        let (found, rest) = target.split_at_checked(scheme.len()).ok_or(bad)?;
        if !found.eq_ignore_ascii_case(scheme.as_bytes()) {
            return Err(bad);
        }
        let authority = rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
        let start = method.len() + 1;
        let scheme_and_authority = start..start + scheme.len() + authority.len();
        Ok(RequestLine { is_1_1, scheme_and_authority, authority: Some(authority) })
    }
}

/// What an absolute target begins with.
fn scheme(tls: bool) -> &'static str {
    if tls { "https://" } else { "http://" }
}

/// Whether this may be (the beginning of) a target: in origin-form, or absolute.
fn is_target_begun(target: &[u8], is_whole: bool, tls: bool) -> bool {
    let scheme = scheme(tls).as_bytes();
    let common = target.len().min(scheme.len());
    let is_absolute = (!is_whole || common == scheme.len()) && target[..common].eq_ignore_ascii_case(&scheme[..common]);
    (target.first() == Some(&b'/') || is_absolute) && target.iter().all(|byte| is_target(*byte))
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// What RFC 3986 knows of, and what it does not but every client's library lets pass. A fragment is
/// never sent.
fn is_target(byte: u8) -> bool {
    TARGET[usize::from(byte)]
}

/// One look for each byte of a header instead of a search.
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~", true);
const TARGET: [bool; 256] = table(b"#\"<>`", false);

/// Letters, digits and these, or all that is visible but these.
const fn table(listed: &[u8], are_listed_in: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let base = if are_listed_in { byte.is_ascii_alphanumeric() } else { byte.is_ascii_graphic() };
        table[byte as usize] = base;
        byte += 1;
    }
    let mut n = 0;
    while n < listed.len() {
        table[listed[n] as usize] = are_listed_in;
        n += 1;
    }
    table
}

/// RFC 9110 §5.5: visible, white space, or beyond ASCII.
pub(super) fn is_field_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
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
struct Framing<'h> {
    host: Option<&'h [u8]>,
    hosts: usize,
    content_lengths: usize,
    transfer_codings: usize,
}

impl<'h> Framing<'h> {
    fn take(&mut self, line: &'h [u8]) -> Result<(), Rejection> {
        let bad = Rejection::BadRequest;
        let colon = line.iter().position(|byte| *byte == b':').ok_or(bad)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // Also refuses obs-fold, which begins with white space, and white space before the colon.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad);
        }
        // Also refuses a bare CR and NUL. Looks at all of it, so that a compiler can look at many at once.
        if !value.iter().fold(true, |all, byte| all & is_field_value(*byte)) {
            return Err(bad);
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            self.host = Some(value);
            if !is_host(value) {
                return Err(bad);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.content_lengths += 1;
            // A zero before other digits makes it octal to some.
            let is_padded = value.len() > 1 && value[0] == b'0';
            if value.is_empty() || is_padded || !value.iter().all(u8::is_ascii_digit) {
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
        } else if name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding") {
            // Some servers take these for the same.
            return Err(bad);
        }
        Ok(())
    }

    fn judge(&self, line: &RequestLine<'_>) -> Result<(), Rejection> {
        let ambiguous = self.content_lengths + self.transfer_codings > 1;
        let hostless = if line.is_1_1 { self.hosts != 1 } else { self.hosts > 1 };
        let coded_1_0 = !line.is_1_1 && self.transfer_codings > 0;
        // RFC 9110 §7.2: a client sends both alike, whatever the case of a name.
        let is_meant = match (line.authority, self.host) {
            (None, _) => true,
            (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
            (Some(_), None) => false,
        };
        if ambiguous || hostless || coded_1_0 || !is_meant { Err(Rejection::BadRequest) } else { Ok(()) }
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
            tls: false,
        }
    }

    fn judged(header: &str) -> Result<(), Rejection> {
        judge(header.as_bytes(), &limits()).map(drop)
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
            "POST http://a/hooks HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST HTTP://A.example:8080 HTTP/1.0\r\nHost: a.example:8080\r\n\r\n",
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
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n",
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
            "POST http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http:/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a/ HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX: \u{7f}\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
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

    async fn read_from(bytes: &[u8]) -> (Result<Head, NoHead>, BytesMut) {
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
        let bytes = buffer.len() - "body".len();
        assert_eq!(read, Ok(Head { bytes, is_chunked: false }));
        assert!(buffer.ends_with(b"\r\n\r\nbody"));
    }

    #[tokio::test]
    async fn an_absolute_target_becomes_its_origin_form() {
        for (target, origin) in [
            ("http://a", "/"),
            ("http://a/", "/"),
            ("http://A/hooks?x=http://b/", "/hooks?x=http://b/"),
            ("http://a?x=/", "/?x=/"),
            ("http://a//b", "//b"),
            ("/http://a/", "/http://a/"),
        ] {
            let wire = format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nbody");
            let (read, buffer) = read_from(wire.as_bytes()).await;
            assert_eq!(buffer, wire.replacen(target, origin, 1).as_bytes(), "{target}");
            assert_eq!(read, Ok(Head { bytes: buffer.len() - 4, is_chunked: true }), "{target}");
        }
    }

    #[tokio::test]
    async fn a_header_that_cannot_become_good_is_refused_before_its_end() {
        let endless_target = format!("POST /{}", "x".repeat(60));
        let endless_header = format!("POST / HTTP/1.1\r\nX: {}", "y".repeat(400));
        for (bytes, reason) in [
            (endless_target.as_str(), Rejection::UriTooLong),
            (endless_header.as_str(), Rejection::HeadersTooLarge),
            ("POST / HTTP/1.1\nHost: a\n\n", Rejection::BadRequest),
            ("\u{16}\u{3}\u{1}", Rejection::BadRequest),
            ("\r", Rejection::BadRequest),
            ("hello world\r\n", Rejection::BadRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n", Rejection::BadRequest),
            ("POST / HTTP/1.1\r\nHost : a\r\n", Rejection::BadRequest),
            ("POST  /", Rejection::BadRequest),
            ("POST /\r", Rejection::BadRequest),
            ("POST / HTTP/1.1 ", Rejection::BadRequest),
            ("POST / HTTP/2", Rejection::BadRequest),
            ("POST / http", Rejection::BadRequest),
            ("POST *", Rejection::BadRequest),
            ("POST https", Rejection::BadRequest),
            ("POST http ", Rejection::BadRequest),
            ("CONNECT a", Rejection::BadRequest),
            ("POST /\u{e9}", Rejection::BadRequest),
        ] {
            assert_eq!(read_from(bytes.as_bytes()).await.0, Err(NoHead::Refused(reason)));
        }
    }

    #[tokio::test]
    async fn a_good_header_passes_however_it_is_cut_into_pieces() {
        for wire in [
            &b"POST /hooks?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"[..],
            b"POST hTTp://a/ HTTP/1.0\r\nHost: a\r\n\r\n",
        ] {
            for cut in 1..wire.len() {
                assert_eq!(refuse_early(&wire[..cut], 0, &limits()), Ok(()), "{}", wire[..cut].escape_ascii());
                assert_eq!(refuse_early(&wire[..cut], cut - 1, &limits()), Ok(()), "{}", wire[..cut].escape_ascii());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_header_ends_at_its_deadline_and_an_idle_connection_quietly() {
        let (mut client, mut server) = tokio::io::duplex(1000);
        client.write_all(b"POST / HT").await.unwrap();
        let slow = read(&mut server, &mut BytesMut::new(), &limits()).await;
        assert_eq!(slow, Err(NoHead::Refused(Rejection::HeaderTimeout)));
        let idle = begin(&mut server, &mut BytesMut::new(), &limits()).await;
        assert_eq!(idle, Err(NoHead::Closed));
    }

    proptest! {
        #[test]
        fn what_is_refused_early_is_refused_at_its_end_too(
            header in "(POST|GET|CONNECT)? ?(/[a-z#]{0,4}|\\*|https?://a)? ?(HTTP/1.[012])?\r?\n(Host: a\r\n|[a-z]{0,3}:? ?[a-z]{0,3}\r?\n){0,3}",
            cut in 0usize..60,
        ) {
            let begun = &header.as_bytes()[..cut.min(header.len())];
            let whole = [header.as_bytes(), b"\r\n"].concat();
            prop_assert!(judge(&whole, &limits()).is_err() || refuse_early(begun, 0, &limits()).is_ok());
        }

        #[test]
        fn no_bytes_can_make_judging_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut header = bytes;
            let _ = refuse_early(&header, header.len() / 2, &limits());
            header.extend_from_slice(HEADER_END);
            let _ = judge(&header, &limits());
        }
    }
}
