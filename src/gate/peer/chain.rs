//! The addresses that a header names, from the first proxy to the last. Pure.
//!
//! Sources: RFC 7239 §4 and §6 for `Forwarded`; `X-Forwarded-For` has no standard and is read as
//! the lists that proxies write. What could be read in two ways names nobody.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

/// Most addresses in all lines together: far beyond any way that a webhook takes.
const ENTRIES_MAX: usize = 32;
/// Most bytes in all lines together.
const LINES_MAX_BYTES: usize = 4096;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";
/// Say something else about a message, so they cannot name its sender.
const NO_ADDRESS: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "upgrade",
    "expect",
    "x-forwarded-proto",
    "x-forwarded-host",
];

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientIpHeader {
    /// `X-Forwarded-For`: every proxy appends whom it got the request from.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the same, with more about each.
    Forwarded,
    /// A header that holds the client's address alone, such as `CF-Connecting-IP`.
    Single(HeaderName),
}

impl ClientIpHeader {
    /// `x-forwarded-for`, `forwarded`, or the name of a single-value header.
    ///
    /// # Errors
    /// A sentence that says why it is no such name.
    pub fn parse(text: &str) -> Result<ClientIpHeader, String> {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| "is not the name of a header; write a name such as cf-connecting-ip".to_owned())?;
        if name == X_FORWARDED_FOR {
            return Ok(ClientIpHeader::XForwardedFor);
        }
        if name == FORWARDED {
            return Ok(ClientIpHeader::Forwarded);
        }
        // Proxies drop or rewrite such names, and hookward drops them as aliases.
        if name.as_str().contains('_') {
            return Err(format!("`{name}` has an underscore; write {}", name.as_str().replace('_', "-")));
        }
        let own = ["telnyx-", "hookward-"].iter().any(|prefix| name.as_str().starts_with(prefix));
        if own || NO_ADDRESS.contains(&name.as_str()) {
            return Err(format!("`{name}` does not hold an address; write a name such as cf-connecting-ip"));
        }
        Ok(ClientIpHeader::Single(name))
    }

    /// Its name, in lower case.
    pub fn name(&self) -> &str {
        match self {
            ClientIpHeader::XForwardedFor => X_FORWARDED_FOR,
            ClientIpHeader::Forwarded => FORWARDED,
            ClientIpHeader::Single(name) => name.as_str(),
        }
    }

    /// The entries of all lines in their order, `None` for one that is no address; `None` as a whole
    /// when the header is malformed, or beyond a bound.
    pub(super) fn chain(&self, headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
        let lines = headers.get_all(self.name()).iter().map(|line| line.to_str().ok()).collect::<Option<Vec<_>>>()?;
        if lines.iter().map(|line| line.len()).sum::<usize>() > LINES_MAX_BYTES {
            return None;
        }
        let chain: Vec<_> = match self {
            ClientIpHeader::XForwardedFor => lines.iter().flat_map(|line| line.split(',').map(parse_address)).collect(),
            ClientIpHeader::Forwarded => {
                lines.iter().map(|line| parse_forwarded(line)).collect::<Option<Vec<_>>>()?.concat()
            }
            ClientIpHeader::Single(_) => match lines.as_slice() {
                [line] => vec![parse_address(line)],
                _ => return None,
            },
        };
        (chain.len() <= ENTRIES_MAX).then_some(chain)
    }
}

/// An address, as some proxies write it with a port (`192.0.2.1:4711`, `[2001:db8::1]:4711`) or in
/// brackets. `unknown` and names that begin with `_` (RFC 7239 §6.2, §6.3) are none.
fn parse_address(entry: &str) -> Option<IpAddr> {
    let entry = trim(entry);
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bare {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => match entry.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => entry.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(ip.to_canonical())
}

/// The `for` of every element of a line of `Forwarded`.
fn parse_forwarded(line: &str) -> Option<Vec<Option<IpAddr>>> {
    split_unquoted(line, ',')?.into_iter().map(parse_element).collect()
}

/// `for="[2001:db8::1]:4711";proto=https`: its address, if it has one; `None` if it is malformed.
fn parse_element(element: &str) -> Option<Option<IpAddr>> {
    let mut named = None;
    for pair in split_unquoted(element, ';')?.into_iter().map(trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = unquote(value)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") && named.replace(parse_address(&value)).is_some() {
            return None;
        }
    }
    Some(named.flatten())
}

/// Splits outside of quoted strings; `None` if one does not end. An opening quote that a client
/// wrote swallows what the proxy wrote behind it, so what is around quotes is judged in [`unquote`].
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// A token, or a quoted string without its quotes and escapes (RFC 9110 §5.6.4). Tokens may hold
/// what addresses hold, `:` and brackets, since some proxies leave the quotes out.
fn unquote(value: &str) -> Option<String> {
    let Some(inside) = value.strip_prefix('"') else {
        let plain = value.bytes().all(|byte| is_token(byte) || b":[]".contains(&byte));
        return (plain && !value.is_empty()).then(|| value.to_owned());
    };
    let inside = inside.strip_suffix('"')?;
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => text.push(chars.next()?),
            _ => text.push(c),
        }
    }
    Some(text)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Without the white space that may stand around list members (RFC 9110 §5.6.1).
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        headers
    }

    fn forwarded(lines: &[&str]) -> Option<Vec<String>> {
        let chain = ClientIpHeader::Forwarded.chain(&headers("forwarded", lines))?;
        Some(chain.into_iter().map(|entry| entry.map_or_else(|| "-".to_owned(), |ip| ip.to_string())).collect())
    }

    #[test]
    fn names_of_headers_in_any_case() {
        assert_eq!(ClientIpHeader::parse("X-Forwarded-For"), Ok(ClientIpHeader::XForwardedFor));
        assert_eq!(ClientIpHeader::parse("Forwarded"), Ok(ClientIpHeader::Forwarded));
        let single = ClientIpHeader::parse("CF-Connecting-IP").unwrap();
        assert_eq!(single.name(), "cf-connecting-ip");
        for (text, word) in [
            ("", "not the name"),
            ("a b", "not the name"),
            ("x_real_ip", "write x-real-ip"),
            ("Host", "does not hold"),
            ("X-Forwarded-Host", "does not hold"),
            ("telnyx-timestamp", "does not hold"),
            ("hookward-attempt", "does not hold"),
        ] {
            assert!(ClientIpHeader::parse(text).unwrap_err().contains(word), "{text}");
        }
    }

    #[test]
    fn forwarded_elements_name_addresses_with_and_without_quotes_and_ports() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["for=192.0.2.1"], &["192.0.2.1"]),
            (&["For=\"192.0.2.1:4711\""], &["192.0.2.1"]),
            (&["for=192.0.2.1:4711"], &["192.0.2.1"]),
            (&["FOR=\"[2001:db8::1]\""], &["2001:db8::1"]),
            (&["for=\"[2001:db8::1]:4711\""], &["2001:db8::1"]),
            (&["for=[2001:db8::1]:4711"], &["2001:db8::1"]),
            (&["for=\"[::ffff:192.0.2.1]\""], &["192.0.2.1"]),
            (&["for=\"19\\2.0.2.1\""], &["192.0.2.1"]),
            (&["proto=https;for=192.0.2.1;by=10.0.0.1"], &["192.0.2.1"]),
            (&["for=192.0.2.1 ; proto=https;"], &["192.0.2.1"]),
            (&["for=192.0.2.1, for=192.0.2.2,for=192.0.2.3"], &["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
            (&["for=192.0.2.1", "for=192.0.2.2"], &["192.0.2.1", "192.0.2.2"]),
            (&["host=\"a,b;c\\\"d\";for=192.0.2.1, for=192.0.2.2"], &["192.0.2.1", "192.0.2.2"]),
            (&["for=unknown, for=\"_hidden\", for=_SEVKISEK"], &["-", "-", "-"]),
            (&["for=\"192.0.2.1:_port\""], &["-"]),
            (&["proto=https"], &["-"]),
            (&[""], &["-"]),
            (&["for=192.0.2.1,"], &["192.0.2.1", "-"]),
            (&[], &[]),
        ];
        for (lines, expected) in cases {
            assert_eq!(forwarded(lines).unwrap(), *expected, "{lines:?}");
        }
    }

    #[test]
    fn a_malformed_forwarded_names_nobody_whoever_wrote_which_part() {
        for line in [
            // The first half is an attacker's, what the proxy appended begins at `, for=`.
            "for=192.76.120.200;x=\", for=6.6.6.6",
            "for=192.76.120.200;x=\", for=\"[2001:db8::6]\"",
            "for=192.76.120.200;x=\", for=6.6.6.6;host=\"a\"",
            "for=192.76.120.200;x=\", for=6.6.6.6;host=\"\"",
            "for=192.76.120.200;x=\"\\, for=\"6.6.6.6\"",
            "for=\"192.76.120.200",
            "for=192.76.120.200\"",
            "for=\"192.76.120.200\"x",
            "for=x\"192.76.120.200\"",
            "for=\"a\"b\"c\"",
            "for=\"192.76.120.200\\\"",
            "for=192.0.2.1;for=192.0.2.2",
            "for",
            "for=",
            "=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 proto=https",
        ] {
            assert_eq!(forwarded(&[line]), None, "{line}");
        }
        // A quote that is open at the end of a line does not reach into the next one.
        assert_eq!(forwarded(&["for=192.76.120.200;x=\"", "for=6.6.6.6;y=\""]), None);
    }

    #[test]
    fn a_single_header_comes_once_with_one_address() {
        let header = ClientIpHeader::parse("cf-connecting-ip").unwrap();
        let chain = |lines: &[&str]| header.chain(&headers("cf-connecting-ip", lines));
        assert_eq!(chain(&["192.0.2.1"]).unwrap(), [Some("192.0.2.1".parse().unwrap())]);
        assert_eq!(chain(&["2001:db8::1"]).unwrap(), [Some("2001:db8::1".parse().unwrap())]);
        assert_eq!(chain(&["192.0.2.1, 192.0.2.2"]).unwrap(), [None]);
        assert_eq!(chain(&[""]).unwrap(), [None]);
        assert_eq!(chain(&[]), None);
        assert_eq!(chain(&["192.0.2.1", "192.0.2.1"]), None);
    }

    #[test]
    fn beyond_the_bounds_nobody_is_named() {
        let xff = |lines: &[&str]| ClientIpHeader::XForwardedFor.chain(&headers("x-forwarded-for", lines));
        let list = |entries: usize| vec!["192.0.2.1"; entries].join(",");
        assert_eq!(xff(&[&list(ENTRIES_MAX)]).unwrap().len(), ENTRIES_MAX);
        assert_eq!(xff(&[&list(ENTRIES_MAX + 1)]), None);
        assert_eq!(xff(&vec!["192.0.2.1"; ENTRIES_MAX + 1]), None, "in lines of their own too");
        let padded = |bytes: usize| format!("{}192.0.2.1", " ".repeat(bytes - 9));
        assert!(xff(&[&padded(LINES_MAX_BYTES)]).is_some());
        assert_eq!(xff(&[&padded(LINES_MAX_BYTES + 1)]), None);
        let forwarded = vec!["for=192.0.2.1"; ENTRIES_MAX + 1].join(",");
        assert_eq!(super::tests::forwarded(&[&forwarded]), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in "(for=|[\\[\\]\";,=\\\\:. ]|[0-9a-f]{1,4}|\\PC){0,20}") {
            for header in [ClientIpHeader::XForwardedFor, ClientIpHeader::Forwarded, ClientIpHeader::parse("x-real-ip").unwrap()] {
                let mut headers = HeaderMap::new();
                if let Ok(value) = http::HeaderValue::from_bytes(line.as_bytes()) {
                    headers.append(HeaderName::from_bytes(header.name().as_bytes()).unwrap(), value);
                }
                let _ = header.chain(&headers);
            }
        }

        #[test]
        fn whatever_a_client_writes_first_the_proxys_element_decides_or_nobody(
            line in "(for=|[\\[\\]\";,=\\\\:. ]|192[.]76[.]120[.]200|[a-z]){0,20}",
        ) {
            for appended in ["for=6.6.6.6", "for=\"6.6.6.6:80\";proto=https", "by=\"10.0.0.1\";for=6.6.6.6;host=\"\""] {
                let mut headers = HeaderMap::new();
                headers.append("forwarded", format!("{line}, {appended}").parse().unwrap());
                let last = ClientIpHeader::Forwarded.chain(&headers).and_then(|chain| chain.last().copied().flatten());
                prop_assert!(last.is_none_or(|ip| ip.to_string() == "6.6.6.6"), "{line:?} {appended:?} {last:?}");
            }
        }
    }
}
