//! A request as HTTP/1.1 writes it, with CRLF or LF: request line and header, an empty line, body. The
//! request line may be missing where the header lines are those of a webhook.

use httparse::{EMPTY_HEADER, Header, Status, parse_chunk_size, parse_headers};

use super::{HEADERS_MAX, Request};

/// Part of the names of Telnyx's headers, however a tool has written them.
const TELNYX: &str = "telnyx";
const NO_END: &str = "its header does not end: an empty line and the body are missing";
const CUT: &str = "the file goes on after the end that Content-Length names; the rest was left out";
const SHORT: &str = "the file ends before the end that Content-Length names: part of the body is missing";

pub(super) fn request(bytes: &[u8]) -> Option<Request> {
    let line_end = memchr::memchr(b'\n', bytes)?;
    let (has_line, header) = match is_request_line(&bytes[..line_end]) {
        true => (true, &bytes[line_end + 1..]),
        false => (false, bytes),
    };
    let mut lines = [EMPTY_HEADER; HEADERS_MAX];
    match parse_headers(header, &mut lines) {
        Ok(Status::Complete((end, lines))) if has_line || has_telnyx(lines) => Some(whole(lines, &header[end..])),
        Ok(Status::Partial) if has_line => Some(Request::without_body(NO_END)),
        _ => None,
    }
}

/// `POST /webhooks HTTP/1.1`, or HTTP/2 as tools show it.
fn is_request_line(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
    matches!(words[..], [method, _, version] if method.iter().all(u8::is_ascii_uppercase) && version.starts_with(b"HTTP/"))
}

fn has_telnyx(lines: &[Header<'_>]) -> bool {
    lines.iter().any(|line| line.name.to_ascii_lowercase().contains(TELNYX))
}

fn whole(lines: &[Header<'_>], rest: &[u8]) -> Request {
    let value = |name: &str| lines.iter().find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value);
    let is_chunked = value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
    let length: Option<usize> =
        value("content-length").and_then(|value| std::str::from_utf8(value).ok()?.trim_ascii().parse().ok());
    let (body, remark) = match length {
        _ if is_chunked => (joined(rest).unwrap_or_else(|| rest.to_vec()), None),
        Some(length) if length < rest.len() => (rest[..length].to_vec(), Some(CUT)),
        Some(length) => (rest.to_vec(), (length > rest.len()).then_some(SHORT)),
        None => (rest.to_vec(), None),
    };
    let text = |line: &Header<'_>| Some((line.name.to_owned(), String::from_utf8(line.value.to_vec()).ok()?));
    Request { headers: lines.iter().filter_map(text).collect(), body: Ok(body), received_unix_ms: None, remark }
}

/// The chunks of a body without their framing; `None` where a tool has taken it away already.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(Status::Complete((start, size))) = parse_chunk_size(rest) else { return None };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk = rest.get(start..)?;
        body.extend_from_slice(chunk.get(..size)?);
        rest = chunk.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
