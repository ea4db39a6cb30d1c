//! PROXY protocol, versions 1 and 2: the header in which a proxy that does not speak HTTP names its
//! client. Source: HAProxy's proxy-protocol.txt, §2.
//!
//! Strict where it leaves a choice: what two readers could understand differently is malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Whether connections of a listener begin with such a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They must not.
    Off,
    /// They must.
    Required,
}

/// Whom a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This client.
    Client(IpAddr),
    /// Nobody but the socket's own peer: a health check of the proxy (LOCAL), or a client that it
    /// knows no address of (UNKNOWN, a unix socket).
    Peer,
}

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHeader {
    /// The other side left before the first byte, as a health check may.
    Closed,
    /// Something else came.
    Malformed,
}

const V1_BEGIN: &[u8] = b"PROXY ";
/// Longest header of version 1, its CRLF included.
const V1_MAX_BYTES: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const V2_FIXED_BYTES: usize = 16;
/// Most that may follow: 216 for two unix addresses, and extensions (the TLS details of a proxy's
/// client take some hundred). The format itself allows 64 KiB.
const V2_REST_MAX_BYTES: usize = 4096;

/// Reads exactly the header, so that what follows is still in the socket.
///
/// # Errors
/// See [`NoHeader`].
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Source, NoHeader> {
    let mut header = Vec::with_capacity(V1_MAX_BYTES);
    loop {
        let missing = missing_bytes(&header)?;
        if missing == 0 {
            return parse(&header);
        }
        let have = header.len();
        header.resize(have + missing, 0);
        let read = io.read(&mut header[have..]).await.unwrap_or(0);
        header.truncate(have + read);
        if read == 0 {
            return Err(if header.is_empty() { NoHeader::Closed } else { NoHeader::Malformed });
        }
    }
}

/// How many bytes certainly still belong to a header that begins so; none when it is complete.
fn missing_bytes(header: &[u8]) -> Result<usize, NoHeader> {
    let may_begin = |with: &[u8]| header.iter().zip(with).all(|(have, want)| have == want);
    let (is_v1, is_v2) = (may_begin(V1_BEGIN), may_begin(V2_SIGNATURE));
    match header.len() {
        _ if !is_v1 && !is_v2 => Err(NoHeader::Malformed),
        // No header of either version is shorter.
        n if n < V2_SIGNATURE.len() => Ok(V2_SIGNATURE.len() - n),
        n if is_v2 && n < V2_FIXED_BYTES => Ok(V2_FIXED_BYTES - n),
        n if is_v2 => Ok(v2_bytes(header)?.saturating_sub(n)),
        _ if header.ends_with(b"\r\n") => Ok(0),
        n if n < V1_MAX_BYTES => Ok(1),
        _ => Err(NoHeader::Malformed),
    }
}

/// Length of a header of version 2 whose fixed part is there.
fn v2_bytes(header: &[u8]) -> Result<usize, NoHeader> {
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > V2_REST_MAX_BYTES { Err(NoHeader::Malformed) } else { Ok(V2_FIXED_BYTES + rest) }
}

/// Understands a complete header.
///
/// # Errors
/// [`NoHeader::Malformed`].
pub fn parse(header: &[u8]) -> Result<Source, NoHeader> {
    let source = match header.strip_prefix(V2_SIGNATURE) {
        Some(_) if header.len() >= V2_FIXED_BYTES && v2_bytes(header)? == header.len() => parse_v2(header),
        Some(_) => None,
        None => header.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).and_then(parse_v1),
    };
    source.ok_or(NoHeader::Malformed)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 4711 443`, without its CRLF.
fn parse_v1(line: &str) -> Option<Source> {
    if line.len() + 2 > V1_MAX_BYTES || line.contains(['\r', '\n']) {
        return None;
    }
    let fields: Vec<&str> = line.split(' ').collect();
    match fields.as_slice() {
        // What follows is to be ignored.
        ["PROXY", "UNKNOWN", ..] => Some(Source::Peer),
        ["PROXY", "TCP4", source, destination, ports @ ..] => {
            destination.parse::<Ipv4Addr>().ok().filter(|_| are_ports(ports))?;
            Some(Source::Client(source.parse::<Ipv4Addr>().ok()?.into()))
        }
        ["PROXY", "TCP6", source, destination, ports @ ..] => {
            destination.parse::<Ipv6Addr>().ok().filter(|_| are_ports(ports))?;
            Some(Source::Client(source.parse::<Ipv6Addr>().ok()?.into()))
        }
        _ => None,
    }
}

/// Two of 0 to 65535, without signs and leading zeros.
fn are_ports(fields: &[&str]) -> bool {
    let is_port = |text: &&str| text.parse::<u16>().is_ok_and(|port| port.to_string() == **text);
    fields.len() == 2 && fields.iter().all(is_port)
}

fn parse_v2(header: &[u8]) -> Option<Source> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let (command, family, addresses) = (header[12], header[13], &header[V2_FIXED_BYTES..]);
    match (command, family) {
        (LOCAL, _) => Some(Source::Peer),
        // Source and destination, then two ports.
        (PROXY, 0x11) => {
            Some(Source::Client(Ipv4Addr::from(*addresses.first_chunk::<12>()?.first_chunk::<4>()?).into()))
        }
        (PROXY, 0x21) => {
            Some(Source::Client(Ipv6Addr::from(*addresses.first_chunk::<36>()?.first_chunk::<16>()?).into()))
        }
        // Unspecified, or a unix socket with its two paths.
        (PROXY, 0x00) => Some(Source::Peer),
        (PROXY, 0x31) => addresses.first_chunk::<216>().map(|_| Source::Peer),
        // Datagrams do not come over a stream; other versions, commands and families do not exist.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    fn client(text: &str) -> Result<Source, NoHeader> {
        Ok(Source::Client(text.parse().unwrap()))
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 1, 187];

    #[test]
    fn version_1_names_its_client_in_text() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_MAX_BYTES - 16));
        assert_eq!(longest.len(), V1_MAX_BYTES);
        for (header, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", client("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", client("2001:db8::1")),
            ("PROXY UNKNOWN\r\n", Ok(Source::Peer)),
            ("PROXY UNKNOWN ::1 ::1 anything\r\n", Ok(Source::Peer)),
            (longest.as_str(), Ok(Source::Peer)),
        ] {
            assert_eq!(parse(header.as_bytes()), expected, "{header:?}");
        }
    }

    #[test]
    fn version_1_is_strict() {
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_MAX_BYTES - 15));
        for header in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443 1\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +4711 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 04711 443\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.2 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 2001:db8::2 4711 443\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 4711 443\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 4711 443\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 4711 443\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 4711 443\r\n",
            "PROXY UNKNOWN a\rb\r\n",
            "proxy UNKNOWN\r\n",
            "PROXY\r\n",
            "\r\n",
            "",
            long.as_str(),
        ] {
            assert_eq!(parse(header.as_bytes()), Err(NoHeader::Malformed), "{header:?}");
        }
    }

    #[test]
    fn version_2_names_its_client_in_bytes() {
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        let with_extension = [V4.as_slice(), &[4, 0, 1, 0]].concat();
        for (header, expected) in [
            (v2(0x21, 0x11, &V4), client("192.0.2.1")),
            (v2(0x21, 0x11, &with_extension), client("192.0.2.1")),
            (v2(0x21, 0x21, &v6), client("2001:db8::1")),
            (v2(0x20, 0x00, &[]), Ok(Source::Peer)),
            (v2(0x20, 0x11, &V4), Ok(Source::Peer)),
            (v2(0x21, 0x00, &[]), Ok(Source::Peer)),
            (v2(0x21, 0x31, &[0; 216]), Ok(Source::Peer)),
            (v2(0x21, 0x00, &[0; V2_REST_MAX_BYTES]), Ok(Source::Peer)),
        ] {
            assert_eq!(parse(&header), expected, "{header:?}");
        }
    }

    #[test]
    fn version_2_is_strict() {
        for header in [
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x31, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x41, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x11, 0x11, &V4),
            v2(0x21, 0x00, &[0; V2_REST_MAX_BYTES + 1]),
            V2_SIGNATURE.to_vec(),
            [v2(0x21, 0x11, &V4), b"x".to_vec()].concat(),
        ] {
            assert_eq!(parse(&header), Err(NoHeader::Malformed), "{header:?}");
        }
    }

    #[tokio::test]
    async fn not_a_byte_more_than_the_header_is_read() {
        let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n".to_vec();
        for header in [v1, b"PROXY UNKNOWN\r\n".to_vec(), v2(0x21, 0x11, &V4), v2(0x20, 0, &[])] {
            let (mut proxy, mut socket) = tokio::io::duplex(1000);
            proxy.write_all(&[&header, b"\r\n\r\nPROXY POST".as_slice()].concat()).await.unwrap();
            assert_eq!(read(&mut socket).await, parse(&header));
            drop(proxy);
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"\r\n\r\nPROXY POST");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_known_at_its_first_wrong_byte() {
        for (bytes, expected) in [
            (b"".as_slice(), NoHeader::Closed),
            (b"PROXY TCP4 192", NoHeader::Malformed),
            (b"\r\n\r\n\0", NoHeader::Malformed),
        ] {
            let (mut proxy, mut socket) = tokio::io::duplex(1000);
            proxy.write_all(bytes).await.unwrap();
            drop(proxy);
            assert_eq!(read(&mut socket).await, Err(expected), "{bytes:?}");
        }
        // The proxies stay connected: nothing but their bytes can decide.
        let endless = [b"PROXY UNKNOWN".as_slice(), &[b' '; 200]].concat();
        for bytes in [b"P\r".as_slice(), b"POST / HTTP/1.1\r\n", b"\x16\x03\x01\0", &endless, &v2(0x21, 0, &[0; 4097])]
        {
            let (mut proxy, mut socket) = tokio::io::duplex(10_000);
            proxy.write_all(bytes).await.unwrap();
            assert_eq!(read(&mut socket).await, Err(NoHeader::Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            begin in prop::sample::select(vec![b"".to_vec(), b"PROXY ".to_vec(), b"PROXY TCP4 ".to_vec(), V2_SIGNATURE.to_vec(), v2(0x21, 0x11, &[])]),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let header = [begin, rest].concat();
            let _ = parse(&header);
            let _ = missing_bytes(&header);
        }
    }
}
