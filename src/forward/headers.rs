//! Which headers the app gets. Pure.
//!
//! On receipt the sender's end-to-end headers are kept and everything is dropped with which an
//! outsider could speak in hookward's or a proxy's name; on each attempt hookward's own are added.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::buffer::event::Event;
use crate::clock::rfc3339_ms;
use crate::gate::identity::as_header_value;
use crate::gate::peer::Peer;
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// Fields of one connection (RFC 9110 §7.6.1) or of its framing, which is set anew.
const HOP_BY_HOP: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "content-length",
];
/// With these an outsider could make an app route or act by something that was not verified.
const OVERRIDES: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-http-method-override"];
/// With these an app is told that a path lies elsewhere than it says: below a mount point, before a
/// rewrite. Whoever sends one, a path that passed as another may become a verified one by it.
/// gunicorn takes the first two from any peer on its own machine.
const MOVE_PATHS: [&str; 13] = [
    "script-name",
    "path-info",
    "x-script-name",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-uri",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-replaced-path",
    "x-ingress-path",
    "x-waws-unencoded-url",
];
/// Say where a request came from, as everything under the prefix does; only trusted proxies may.
const FORWARDING: [&str; 2] = ["forwarded", "x-real-ip"];
const FORWARDING_PREFIX: &str = "x-forwarded-";
/// Of these, which an app gets that is not to know the host that the sender has asked for: who sent it, and how.
const OF_THE_CLIENT: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-real-ip"];
/// Names that a `Connection` header cannot take away.
const PROTECTED: [&str; 5] = ["host", "content-type", "via", SIGNATURE_HEADER, TIMESTAMP_HEADER];
/// Everything under it is hookward's own.
const OWN_PREFIX: &str = "hookward-";

/// Which forwarding headers an app gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// All.
    #[default]
    All,
    /// The client's address and protocol, and nothing that names a host, which frameworks check.
    Client,
    /// None.
    Off,
}

/// The name under which an app is asked.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// Its `Host`; the sender's otherwise.
    pub host: Option<&'a str>,
    /// What it learns of the way to hookward.
    pub forwarded: Forwarded,
}

impl Address<'_> {
    fn leaves_out(&self, name: &[u8]) -> bool {
        if self.forwarded == Forwarded::All {
            return false;
        }
        let is_forwarding = name.starts_with(FORWARDING_PREFIX.as_bytes()) || is_one_of(&FORWARDING, name);
        is_forwarding && !(self.forwarded == Forwarded::Client && is_one_of(&OF_THE_CLIENT, name))
    }
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The other end of the connection.
    pub peer: Peer,
    /// Whether it may say where the request came from.
    pub peer_is_trusted: bool,
    /// Who the sender is, if that could be decided.
    pub client: Option<IpAddr>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The header in which trusted proxies name the client.
    pub client_ip_header: &'a str,
    /// What `Via` gets, so that a request that comes back is known (RFC 9110 §7.6.3).
    pub via: &'a [u8],
}

impl Origin<'_> {
    /// Whether a header says where a request came from.
    fn is_told_by(&self, name: &str) -> bool {
        FORWARDING.contains(&name) || name.starts_with(FORWARDING_PREFIX) || name == self.client_ip_header
    }
}

/// The headers of a received request that go to the app.
pub fn end_to_end(headers: &HeaderMap, origin: &Origin<'_>) -> Vec<(Bytes, Bytes)> {
    let may_go = |name: &String| !PROTECTED.contains(&name.as_str()) && !origin.is_told_by(name);
    let nominated: Vec<_> = nominated_by_connection(headers).filter(may_go).collect();
    let mut kept = Fields::with_room_for(headers);
    for (name, value) in headers {
        let name = name.as_str();
        if is_dropped(name, origin) || nominated.iter().any(|nominated| nominated == name) {
            continue;
        }
        if origin.is_told_by(name) && (!origin.peer_is_trusted || name == "x-forwarded-for") {
            continue;
        }
        kept.put(name, value.as_bytes());
    }
    // A line of its own is one more member of the list (§5.3), whatever the lines before hold.
    kept.put("via", origin.via);
    add_forwarding(headers, origin, &mut kept);
    kept.finish()
}

/// Names and values in one piece of memory, which all of them share: an event goes through several hands,
/// and two allocations for each header were the most of it.
struct Fields {
    bytes: Vec<u8>,
    /// Where each name and its value end.
    ends: Vec<(usize, usize)>,
}

impl Fields {
    /// Room for these and for what is added to them.
    fn with_room_for(headers: &HeaderMap) -> Fields {
        const ADDED_FIELDS: usize = 7;
        const ADDED_BYTES: usize = 256;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        Fields {
            bytes: Vec::with_capacity(bytes + ADDED_BYTES),
            ends: Vec::with_capacity(headers.len() + ADDED_FIELDS),
        }
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len()));
    }

    fn finish(self) -> Vec<(Bytes, Bytes)> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let cut = |(name_end, end)| {
            let field = (bytes.slice(start..name_end), bytes.slice(name_end..end));
            start = end;
            field
        };
        self.ends.into_iter().map(cut).collect()
    }
}

fn is_dropped(name: &str, origin: &Origin<'_>) -> bool {
    if HOP_BY_HOP.contains(&name) || OVERRIDES.contains(&name) || name.starts_with(OWN_PREFIX) {
        return true;
    }
    if !name.contains('_') {
        return false;
    }
    // CGI-like interfaces read underscores and hyphens as one: `telnyx_timestamp` would stand in
    // for the header that was verified.
    let alias = name.replace('_', "-");
    alias.starts_with(OWN_PREFIX)
        || [SIGNATURE_HEADER, TIMESTAMP_HEADER].contains(&alias.as_str())
        || origin.is_told_by(&alias)
        || OVERRIDES.contains(&alias.as_str())
}

/// Whether a field moves a path, with hyphens or underscores.
pub fn moves_path(name: &[u8]) -> bool {
    let letters = |name: &[u8]| name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect::<Vec<_>>();
    let is_known = |name: &[u8]| MOVE_PATHS.iter().any(|known| known.as_bytes() == name);
    if name.contains(&b'_') { is_known(&letters(name)) } else { is_known(name) }
}

/// Whether a field concerns one connection or its framing only (RFC 9110 §7.6.1).
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// The fields that `Connection` takes away at the next hop, in lower case.
pub fn nominated_by_connection(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
}

fn add_forwarding(headers: &HeaderMap, origin: &Origin<'_>, kept: &mut Fields) {
    let mut put = |name: &str, value: &str| kept.put(name, value.as_bytes());
    let client = origin.client.map(|ip| ip.to_string());
    let proto = if origin.tls { "https" } else { "http" };
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if origin.peer_is_trusted {
        // The chain as it came, and whom it came from.
        let mut chain: Vec<String> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|line| line.to_str().ok())
            .map(ToOwned::to_owned)
            .collect();
        if let Peer::Ip(peer) = origin.peer {
            chain.push(peer.to_canonical().to_string());
        }
        if !chain.is_empty() {
            put("x-forwarded-for", &chain.join(", "));
        }
        if !headers.contains_key("x-forwarded-proto") {
            put("x-forwarded-proto", proto);
        }
        if !headers.contains_key("x-forwarded-host") {
            put("x-forwarded-host", host);
        }
        return;
    }
    let client = client.unwrap_or_else(|| "unknown".to_owned());
    if headers.contains_key("x-real-ip") {
        put("x-real-ip", &client);
    }
    let chosen = origin.client_ip_header;
    if headers.contains_key(chosen) && !["x-real-ip", "x-forwarded-for", "forwarded"].contains(&chosen) {
        put(chosen, &client);
    }
    if headers.contains_key("forwarded") {
        let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.clone() };
        put("forwarded", &format!("for={node};proto={proto}"));
    }
    put("x-forwarded-for", &client);
    put("x-forwarded-proto", proto);
    put("x-forwarded-host", host);
}

/// The sender's headers as they go out.
pub fn for_app(kept: &[(Bytes, Bytes)], address: Address<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(kept.len() + OWN_MAX);
    for (name, value) in kept {
        if address.leaves_out(name) {
            continue;
        }
        let replaced = address.host.filter(|_| &name[..] == b"host");
        let value = match replaced {
            Some(host) => HeaderValue::from_str(host),
            None => HeaderValue::from_maybe_shared(value.clone()),
        };
        // What was read from the wire is valid; damage is found by the checksum before this.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.push((name, value));
        }
    }
    headers
}

/// All headers of one attempt.
pub fn for_attempt(event: &Event, attempt: u32, address: Address<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = for_app(&event.head.headers, address);
    headers.extend(own(event, attempt));
    headers
}

/// Most headers that [`own`] makes.
const OWN_MAX: usize = 7;
/// Room for their values as they usually are.
const OWN_VALUES_BYTES: usize = 192;

/// What hookward itself says of an event.
pub fn own(event: &Event, attempt: u32) -> Vec<(HeaderName, HeaderValue)> {
    // Values in one piece of memory, as in `Fields`.
    let mut values = String::with_capacity(OWN_VALUES_BYTES);
    let mut ends = Vec::with_capacity(OWN_MAX);
    let mut own = |name: &'static str, value: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = values.write_fmt(value);
        ends.push((name, values.len()));
    };
    own("hookward-delivery-id", format_args!("{}", event.delivery_id));
    if event.is_verified() {
        if let Some(id) = event.event_id.as_deref().and_then(as_header_value) {
            own("hookward-event-id", format_args!("{id}"));
        }
        if let Some(kind) = event.event_type.as_deref().and_then(as_header_value) {
            own("hookward-event-type", format_args!("{kind}"));
        }
    }
    own("hookward-attempt", format_args!("{attempt}"));
    own("hookward-received-at", format_args!("{}", rfc3339_ms(event.received_unix_ms)));
    match &event.head.key {
        Some(key) => own("hookward-verified", format_args!("telnyx; key={key}")),
        None => own("hookward-verified", format_args!("none")),
    }
    if event.replay {
        own("hookward-replay", format_args!("true"));
    }
    let values = Bytes::from(values);
    let mut headers = Vec::with_capacity(ends.len());
    let mut start = 0;
    for (name, end) in ends {
        if let Ok(value) = HeaderValue::from_maybe_shared(values.slice(start..end)) {
            headers.push((HeaderName::from_static(name), value));
        }
        start = end;
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::event::tests::event;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn received(lines: &[(&str, &str)], trusted: bool) -> Vec<(String, String)> {
        received_with("x-forwarded-for", lines, trusted)
    }

    fn received_with(client_ip_header: &'static str, lines: &[(&str, &str)], trusted: bool) -> Vec<(String, String)> {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let origin = Origin {
            peer: Peer::Ip(peer),
            peer_is_trusted: trusted,
            client: Some("192.76.120.200".parse().unwrap()),
            tls: false,
            client_ip_header,
            via: b"1.1 hookward-1",
        };
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        end_to_end(&headers(lines), &origin).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn value<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
        headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_senders_own_headers_are_kept_as_they_are() {
        let lines = [
            ("content-type", "application/json"),
            (SIGNATURE_HEADER, "abc=="),
            (TIMESTAMP_HEADER, "1700000000"),
            ("user-agent", "telnyx-webhooks"),
            ("x-custom", "a"),
            ("x-custom", "b"),
            ("host", "hooks.example"),
        ];
        let kept = received(&lines, false);
        for (name, content) in lines {
            assert!(kept.contains(&(name.to_owned(), content.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_could_speak_in_anothers_name_is_dropped() {
        let dropped = [
            "hookward-verified",
            "hookward_verified",
            "hookward-anything",
            "telnyx_timestamp",
            "telnyx_signature_ed25519",
            "telnyx-signature_ed25519",
            "x_forwarded_for",
            "x-original-url",
            "x-rewrite-url",
            "x_rewrite_url",
            "x-http-method-override",
            "transfer-encoding",
            "te",
            "upgrade",
            "expect",
            "keep-alive",
            "x-nominated",
        ];
        let mut lines: Vec<(&str, &str)> = dropped.iter().map(|name| (*name, "x")).collect();
        lines.push(("connection", "close, X-Nominated, Telnyx-Timestamp, Host"));
        lines.push((TIMESTAMP_HEADER, "1"));
        lines.push(("host", "h"));
        let kept = received(&lines, false);
        for name in dropped {
            assert_eq!(value(&kept, name), None, "{name}");
        }
        assert_eq!(value(&kept, TIMESTAMP_HEADER), Some("1"), "Connection cannot take it away");
        assert_eq!(value(&kept, "host"), Some("h"));
    }

    #[test]
    fn an_outsider_does_not_say_where_a_request_came_from_and_a_trusted_proxy_does() {
        let lines = [
            ("host", "hooks.example"),
            ("x-forwarded-for", "6.6.6.6, 192.76.120.200"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
        ];
        let outsider = received(&lines, false);
        assert_eq!(value(&outsider, "x-forwarded-for"), Some("192.76.120.200"));
        assert_eq!(value(&outsider, "x-forwarded-proto"), Some("http"));
        assert_eq!(value(&outsider, "x-forwarded-host"), Some("hooks.example"));
        assert_eq!(value(&outsider, "x-real-ip"), Some("192.76.120.200"));
        assert_eq!(value(&outsider, "forwarded"), Some("for=192.76.120.200;proto=http"));
        let proxied = received(&lines, true);
        assert_eq!(value(&proxied, "x-forwarded-for"), Some("6.6.6.6, 192.76.120.200, 10.0.0.1"));
        assert_eq!(value(&proxied, "x-forwarded-proto"), Some("https"));
        assert_eq!(value(&proxied, "x-real-ip"), Some("6.6.6.6"));
    }

    #[test]
    fn whichever_header_names_the_client_an_outsider_cannot_use_it() {
        for header in ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"] {
            let lines = [
                ("host", "hooks.example"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-prefix", "6.6.6.6"),
                ("x-forwarded-uri", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                (header, "6.6.6.6"),
                ("connection", "Forwarded, X-Forwarded-For, X-Real-IP, CF-Connecting-IP"),
            ];
            let kept = received_with(header, &lines, false);
            assert!(!kept.iter().any(|(_, value)| value.contains("6.6.6.6")), "{header}: {kept:?}");
            let told: Vec<_> = kept.iter().filter(|(name, _)| name == header).collect();
            assert_eq!(told.len(), 1, "{header}: {kept:?}");
            assert!(told[0].1.contains("192.76.120.200"), "{header}: {kept:?}");
            assert_eq!(value(&kept, "x-forwarded-for"), Some("192.76.120.200"));
        }
        // A header of this name means nothing unless it is the chosen one.
        assert_eq!(value(&received(&[("cf-connecting-ip", "a")], false), "cf-connecting-ip"), Some("a"));
    }

    #[test]
    fn what_a_trusted_proxy_says_in_the_chosen_header_stays_and_no_alias_of_it_does() {
        let lines = [
            ("cf-connecting-ip", "192.76.120.200"),
            ("cf_connecting_ip", "6.6.6.6"),
            ("cf_connecting-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x_forwarded_prefix", "6.6.6.6"),
            ("connection", "cf-connecting-ip, x-forwarded-proto"),
            ("x-forwarded-proto", "https"),
        ];
        let kept = received_with("cf-connecting-ip", &lines, true);
        assert!(!kept.iter().any(|(_, value)| value.contains("6.6.6.6")), "{kept:?}");
        assert_eq!(value(&kept, "cf-connecting-ip"), Some("192.76.120.200"));
        assert_eq!(value(&kept, "x-forwarded-proto"), Some("https"));
    }

    #[test]
    fn an_app_that_checks_hosts_is_sent_no_other_than_its_own() {
        let lines = [
            ("host", "hooks.example"),
            ("x-forwarded-host", "hooks.example"),
            ("x-forwarded-server", "hooks.example"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-for", "192.76.120.200"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "192.76.120.200"),
            ("forwarded", "for=192.76.120.200;host=hooks.example"),
            ("content-type", "application/json"),
        ];
        let kept =
            lines.map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        let names = |forwarded| {
            let headers = for_app(&kept, Address { host: Some("localhost"), forwarded });
            assert!(!headers.iter().any(|(name, value)| name == "host" && value != "localhost"));
            headers.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(Forwarded::All), lines.map(|(name, _)| name));
        let client = ["host", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "content-type"];
        assert_eq!(names(Forwarded::Client), client);
        assert_eq!(names(Forwarded::Off), ["host", "content-type"]);
    }

    #[test]
    fn an_attempt_says_what_hookward_knows() {
        let mut event = event("e1", b"{}");
        let get = |event: &Event, attempt, host, name: &str| {
            for_attempt(event, attempt, Address { host, forwarded: Forwarded::All })
                .into_iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        assert_eq!(get(&event, 3, None, "hookward-attempt").as_deref(), Some("3"));
        assert_eq!(get(&event, 1, None, "hookward-event-id").as_deref(), Some("e1"));
        assert_eq!(get(&event, 1, None, "hookward-verified").as_deref(), Some("telnyx; key=key1"));
        assert_eq!(get(&event, 1, None, "hookward-received-at").as_deref(), Some("2023-11-14T22:13:20.000Z"));
        assert_eq!(get(&event, 1, None, "hookward-replay"), None);
        event.replay = true;
        assert_eq!(get(&event, 1, None, "hookward-replay").as_deref(), Some("true"));
        event.head.headers.push((Bytes::from_static(b"host"), Bytes::from_static(b"outside")));
        assert_eq!(get(&event, 1, None, "host").as_deref(), Some("outside"));
        assert_eq!(get(&event, 1, Some("inside"), "host").as_deref(), Some("inside"));
        event.event_id = Some("not\r\nvisible".into());
        assert_eq!(get(&event, 1, None, "hookward-event-id"), None);
        event.head.key = None;
        assert_eq!(get(&event, 1, None, "hookward-verified").as_deref(), Some("none"));
        assert_eq!(get(&event, 1, None, "hookward-event-type"), None, "only a verified body says so");
    }
}
