//! The header of an app's answer, as it goes on to the client. What a hop owns is hookward's: the
//! version, the framing and the connection (RFC 9110 §2.5, §7.6.1, §8.6).

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, Method, StatusCode, Version};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

use super::answer::REQUEST_ID;
use crate::buffer::event::DeliveryId;
use crate::forward::headers::{is_hop_by_hop, nominated_by_connection};

/// The app's header without what concerned only its connection to us, in our version and with one
/// sound length or chunks.
pub fn for_client(mut header: ResponseHeader, request_id: DeliveryId, session: &mut ServerSession) -> ResponseHeader {
    let upgrade = header.headers.get(UPGRADE).cloned();
    drop_fields_of_the_hop(&mut header);
    header.set_version(Version::HTTP_11);
    let _ = header.insert_header(REQUEST_ID, request_id.to_string());
    if header.status == StatusCode::SWITCHING_PROTOCOLS {
        header.remove_header(&CONTENT_LENGTH);
        let _ = header.insert_header(CONNECTION, "upgrade");
        if let Some(upgrade) = upgrade {
            let _ = header.insert_header(UPGRADE, upgrade);
        }
        return header;
    }
    let request = session.req_header();
    let (is_1_1, is_head) = (request.version == Version::HTTP_11, request.method == Method::HEAD);
    let is_counted = settle_length(&mut header);
    let has_body = !is_head && !matches!(header.status.as_u16(), 204 | 304);
    match has_body && !is_counted {
        true if is_1_1 => drop(header.insert_header(TRANSFER_ENCODING, "chunked")),
        // Only the end of the connection ends it.
        true => session.set_keepalive(None),
        false => {}
    }
    header
}

fn drop_fields_of_the_hop(header: &mut ResponseHeader) {
    let nominated: Vec<_> = nominated_by_connection(&header.headers).collect();
    let is_dropped = |name: &str| {
        let is_length = name == "content-length";
        !is_length && (is_hop_by_hop(name) || name == REQUEST_ID || nominated.iter().any(|one| one == name))
    };
    let dropped: Vec<HeaderName> = header.headers.keys().filter(|name| is_dropped(name.as_str())).cloned().collect();
    for name in &dropped {
        header.remove_header(name);
    }
}

/// Writes the length once and in its plain form, whether the app said it twice, as a list or with
/// zeros before it; a 204 has none. Whether there is one.
fn settle_length(header: &mut ResponseHeader) -> bool {
    let Some(first) = header.headers.get(CONTENT_LENGTH) else { return false };
    // Values that differ have cost the answer already: they are no HTTP.
    let first = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
    let length = std::str::from_utf8(first.trim_ascii()).ok().and_then(|digits| digits.parse::<u64>().ok());
    match length.filter(|_| header.status != StatusCode::NO_CONTENT) {
        Some(length) => header.insert_header(CONTENT_LENGTH, length.to_string()).is_ok(),
        None => {
            header.remove_header(&CONTENT_LENGTH);
            false
        }
    }
}
