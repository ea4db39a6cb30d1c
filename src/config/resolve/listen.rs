//! Public listeners.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::Sources;
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::value;
use crate::config::{Identity, ListenAddress, Listener, ProxyProtocol};
use crate::gate::peer::TrustedProxies;

/// Where it listens unless told otherwise.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8080);
/// Largest file of certificates or of a key.
const PEM_MAX_BYTES: u64 = 1024 * 1024;

const PROXY_PROTOCOL: [(&str, ProxyProtocol); 2] = [("off", ProxyProtocol::Off), ("required", ProxyProtocol::Required)];

/// Those of the flags, else those of the file, else one on every IPv4 address.
pub(super) fn read(root: &Section<'_>, sources: &Sources<'_>) -> Vec<Listener> {
    if root.is_empty_list("listen") {
        root.fault("listen", Fault::new("is an empty list", "write an address, or leave it out for 0.0.0.0:8080"));
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for section in root.sections("listen", "Public listeners.").unwrap_or_default() {
        let listener = read_one(&section, sources);
        if let Some(fault) = clash(&listener.address, &listeners) {
            section.fault("address", fault);
        }
        listeners.push(listener);
    }
    if !sources.overrides.listen.is_empty() {
        listeners.clear();
        for text in &sources.overrides.listen {
            let Some(address) = sources.flag("--listen", text, parse_address) else { continue };
            if let Some(fault) = clash(&address, &listeners) {
                sources.reader.report_flag("--listen", fault);
            }
            listeners.push(Listener::plain(address));
        }
    } else if listeners.is_empty() {
        listeners.push(Listener::plain(ListenAddress::Tcp(DEFAULT)));
    }
    listeners
}

fn read_one(section: &Section<'_>, sources: &Sources<'_>) -> Listener {
    let address = section.parsed(
        "address",
        Kind::Text,
        Some(DEFAULT.to_string().into()),
        "IP address and port (port 0 takes any; `[::]` takes IPv4 too), or `unix:/path`.",
        parse_address,
    );
    // In the place of a bad one, which has been reported, one that is like no other.
    let unset = if section.has("address") { SocketAddr::new(DEFAULT.ip(), 0) } else { DEFAULT };
    let is_tcp = matches!(address, Some(ListenAddress::Tcp(_))) || !section.has("address");
    let address = address.unwrap_or(ListenAddress::Tcp(unset));
    let proxy_protocol = section.choice(
        "proxy_protocol",
        ProxyProtocol::Off,
        &PROXY_PROTOCOL,
        "`required`: every connection begins with a PROXY protocol header (v1 or v2) that names the client; from `trusted_proxies` only.",
    );
    let mode = section.parsed(
        "mode",
        Kind::Text,
        Some(format!("{:04o}", Listener::SOCKET_MODE).into()),
        "Who may connect to a unix socket, an octal file mode in quotes.",
        value::parse_socket_mode,
    );
    if mode.is_some() && is_tcp {
        section.fault("mode", Fault::new("is for unix sockets only", "leave it out, or write address: unix:/path"));
    }
    let tls = read_tls(section, sources);
    Listener { address, socket_mode: mode.unwrap_or(Listener::SOCKET_MODE), proxy_protocol, tls }
}

fn read_tls(listener: &Section<'_>, sources: &Sources<'_>) -> Option<Identity> {
    let section = listener.section("tls", "TLS 1.2 and 1.3 on this listener; plain HTTP is not spoken then.");
    let cert = section.optional_text("cert", "PEM file of the certificate chain, the server's own first.");
    let key = section.optional_text("key", "PEM file of its private key, without a passphrase.");
    let client_ca = section.optional_text(
        "client_ca",
        "PEM file of the CAs that issue the clients' certificates; every client must show one then.",
    );
    if !listener.has("tls") || section.is_broken() {
        return None;
    }
    for missing in ["cert", "key"].into_iter().filter(|key| !section.has(key)) {
        section.fault(missing, Fault::new("is missing", "name a PEM file"));
    }
    let read = |key: &'static str, path: String| {
        sources.read_file(Path::new(&path), PEM_MAX_BYTES).map_err(|fault| section.fault(key, fault)).ok()
    };
    let cert = cert.map(|path| read("cert", path));
    let key = key.map(|path| read("key", path));
    let client_ca = client_ca.map(|path| read("client_ca", path));
    // What cannot be read has been reported; the others are judged together.
    let (Some(Some(cert)), Some(Some(key)), client_ca @ (None | Some(Some(_)))) = (cert, key, client_ca) else {
        return None;
    };
    let identity = Identity::from_pem(&cert, &key, client_ca.flatten().as_deref());
    let mend = "name another file";
    identity
        .map_err(|errors| {
            for error in errors {
                section.fault(error.key(), Fault::from_sentence(&error.to_string(), mend));
            }
        })
        .ok()
}

fn parse_address(text: &str) -> Result<ListenAddress, Fault> {
    match value::parse_unix(text) {
        Some(path) => path.map(ListenAddress::Unix),
        None => value::parse_listen(text).map(ListenAddress::Tcp),
    }
}

/// What is wrong with listening there too.
fn clash(address: &ListenAddress, others: &[Listener]) -> Option<Fault> {
    // Any port is another one each time.
    if matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0) {
        return None;
    }
    if others.iter().any(|other| other.address == *address) {
        return Some(Fault::new(format!("{address} is listened on already"), "leave it out"));
    }
    let other = others.iter().find(|other| is_dual_stack_pair(address, &other.address))?;
    let other = &other.address;
    Some(Fault::new(format!("{address} and {other} are the same port: [::] takes IPv4 too"), "keep the one with [::]"))
}

fn is_dual_stack_pair(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) = (one, other) else { return false };
    one.port() == other.port()
        && one.ip().is_unspecified()
        && other.ip().is_unspecified()
        && one.is_ipv4() != other.is_ipv4()
}

/// A listener that takes PROXY headers from nobody, or whose peers have no address and are not
/// trusted to name one, would refuse everybody.
pub(super) fn judge_trust(
    root: &Section<'_>,
    listeners: &[Listener],
    trusted: &TrustedProxies,
    addresses_matter: bool,
    warnings: &mut Vec<String>,
) {
    for Listener { address, proxy_protocol, .. } in listeners {
        let is_unix = matches!(address, ListenAddress::Unix(_));
        let trusts_anyone = if is_unix { trusted.unix } else { !trusted.nets.as_slice().is_empty() };
        if *proxy_protocol == ProxyProtocol::Required && !trusts_anyone {
            let proxy = if is_unix { "unix" } else { "the proxy's CIDR" };
            let what = format!("{address} takes PROXY headers from trusted proxies only, and there are none");
            root.fault("listen", Fault::new(what, format!("add {proxy} to client_ip.trusted_proxies")));
        } else if is_unix && !trusted.unix && addresses_matter {
            warnings.push(format!(
                "listen: peers of {address} have no address, so their requests are refused; add `unix` to client_ip.trusted_proxies if a proxy connects there"
            ));
        }
    }
}
