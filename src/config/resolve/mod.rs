//! From what was typed (file, environment, flags) to [`Config`]. Flags beat the environment, the
//! environment beats the file, and every problem is found in one go.

mod flags;
mod routes;
mod secret;
mod upstream;

use std::io::{IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

pub use flags::Overrides;

use super::reader::problem::{Fault, Problem, Problems};
use super::reader::schema::{Kind, Record};
use super::reader::section::{Section, fixed};
use super::reader::{FILE_MAX_BYTES, Reader, value};
use super::{
    Admin, Buffer, ClientIpLog, Config, Delivery, Durability, Limits, Log, LogFormat, Retry, Secret, Shutdown,
};
use crate::gate::allowlist::parse_net;
use crate::gate::peer::TrustedProxies;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Longest that anything is kept or tried.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Below this a token can be guessed.
const TOKEN_MIN_CHARS: usize = 16;

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];
const FORMATS: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("text", LogFormat::Text)];
const DURABILITIES: [(&str, Durability); 3] =
    [("volume", Durability::Volume), ("pod", Durability::Pod), ("process", Durability::Process)];
const CLIENT_IP: [(&str, ClientIpLog); 3] =
    [("full", ClientIpLog::Full), ("truncated", ClientIpLog::Truncated), ("off", ClientIpLog::Off)];

const BUFFER_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=16 << 40;

/// A configuration file as read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As problems name it.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl SourceFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Unreadable, too large or no UTF-8, as the one problem of this configuration.
    pub fn read(path: &Path) -> Result<SourceFile, Problems> {
        let name = path.display().to_string();
        let limit = FILE_MAX_BYTES as u64 + 1;
        let mut bytes = Vec::new();
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|error| {
            Problems::of_file(
                &name,
                Fault::new(format!("cannot be read ({error})"), "check --config and the file's permissions"),
            )
        })?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Problems::of_file(&name, Fault::new("is not UTF-8 text", "save it as UTF-8; is this the right file?"))
        })?;
        Ok(SourceFile { name, text })
    }
}

/// A configuration that hookward can run with.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

/// Makes the configuration of a file, flags and environment. `env` looks up the variables that
/// `env:` names, and `HOOKWARD_ADMIN_TOKEN`.
///
/// # Errors
/// Every problem there is.
pub fn resolve(
    file: Option<&SourceFile>,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Resolved, Problems> {
    let name = file.map(|file| file.name.as_str());
    let reader = match file {
        Some(file) => Reader::new(&file.text).map_err(|problems| Problems::new(name, problems))?,
        None => Reader::empty(),
    };
    let mut warnings = Vec::new();
    let config = read(&reader, &overrides.without_empty(), env, &mut warnings);
    let problems: Vec<Problem> = reader.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(Resolved { config, warnings }),
        _ => Err(Problems::new(name, problems)),
    }
}

/// Every key of the file, as the reader asks for it.
pub fn describe() -> Vec<Record> {
    let reader = Reader::describing();
    read(&reader, &Overrides::default(), &|_| None, &mut Vec::new());
    reader.into_records()
}

/// Where values come from besides the file.
struct Sources<'a> {
    reader: &'a Reader,
    overrides: &'a Overrides,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Sources<'_> {
    /// The value of a flag or its variable; `None` with a problem if it is bad.
    fn flag<T>(&self, flag: &str, text: &str, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        parse(text).map_err(|fault| self.reader.report_flag(flag, fault)).ok()
    }

    fn optional_flag<T>(
        &self,
        flag: &str,
        text: Option<&String>,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        text.and_then(|text| self.flag(flag, text, parse))
    }
}

/// The whole file, top to bottom. `None` only where something without a default is missing, which
/// is among the problems.
fn read(
    reader: &Reader,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Option<Config> {
    let sources = Sources { reader, overrides, env };
    let root = reader.root();
    let listen = listen(&root, &sources);
    let admin = admin(&root, &sources, warnings);
    let data_dir = data_dir(&root, &sources);
    let client_ip = root.section("client_ip", "How the sender's address is found.");
    let trusted_proxies = trusted_proxies(&client_ip, &sources);
    let allow_overlap = client_ip.switch("allow_overlap", false, "Let an allowlist overlap `trusted_proxies`.");
    let upstream = root.section("upstream", "The app that gets the events.");
    let upstream =
        upstream::read(&upstream, &upstream::UpstreamParts::default(), overrides.upstream.as_deref(), &sources);
    let default_upstream = upstream.build().map(Arc::new);
    let limits = limits(&root, warnings);
    let buffer = buffer(&root, &sources);
    let surroundings = routes::Surroundings {
        trusted: &trusted_proxies,
        allow_overlap,
        upstream: &upstream,
        default_upstream: default_upstream.clone(),
        buffer_max_bytes: buffer.max_bytes,
    };
    let routes = routes::read(&root, &sources, &surroundings, warnings);
    root.fixed("unmatched", "reject", "What happens to a request that matches no route: 404.");
    sources.optional_flag("--unmatched", overrides.unmatched.as_ref(), |text| fixed(text, "reject"));
    root.to_come("health_path", None);
    let delivery = delivery(&root);
    let shutdown = shutdown(&root);
    let log = log(&root, &sources);
    let threads = root.optional_count("threads", None, 1..=1024, "Worker threads; the number of CPUs unless set.");
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if listen.iter().any(|address| address.port() != 0 && *address == admin.address) {
        root.fault("admin", Fault::new("has the address of a public listener", "give it another port"));
    }
    (!listen.is_empty() && !routes.is_empty()).then_some(Config {
        listen,
        admin,
        data_dir,
        trusted_proxies,
        routes,
        default_upstream,
        limits,
        buffer,
        delivery,
        shutdown,
        log,
        threads,
    })
}

fn listen(root: &Section<'_>, sources: &Sources<'_>) -> Vec<SocketAddr> {
    let default = SocketAddr::from(([0, 0, 0, 0], 8080));
    let mut listen: Vec<SocketAddr> = Vec::new();
    if root.is_empty_list("listen") {
        root.fault("listen", Fault::new("is an empty list", "write an address, or leave it out for 0.0.0.0:8080"));
    }
    for section in root.sections("listen", "Public listeners.").unwrap_or_default() {
        let default_text = Some(default.to_string().into());
        let address = section.parsed(
            "address",
            Kind::Text,
            default_text,
            "IP address and port; port 0 takes any.",
            value::parse_listen,
        );
        section.fixed("proxy_protocol", "off", "PROXY protocol in front of HTTP.");
        section.to_come("mode", Some("0660"));
        section.to_come("tls", None);
        let address = address.unwrap_or(default);
        if address.port() != 0 && listen.contains(&address) {
            section.fault("address", Fault::new(format!("{address} is listened on already"), "leave it out"));
        }
        listen.push(address);
    }
    if !sources.overrides.listen.is_empty() {
        listen.clear();
        for text in &sources.overrides.listen {
            listen.extend(sources.flag("--listen", text, value::parse_listen));
        }
        for (index, address) in listen.iter().enumerate() {
            if address.port() != 0 && listen[..index].contains(address) {
                sources.reader.report_flag("--listen", Fault::new(format!("{address} is given twice"), "give it once"));
            }
        }
    } else if listen.is_empty() {
        listen.push(default);
    }
    listen
}

fn admin(root: &Section<'_>, sources: &Sources<'_>, warnings: &mut Vec<String>) -> Admin {
    let section = root.section("admin", "Probes, metrics and the admin API.");
    let default = SocketAddr::from(([127, 0, 0, 1], 9090));
    let default_text = Some(default.to_string().into());
    let address = section.parsed(
        "address",
        Kind::Text,
        default_text,
        "IP address and port; port 0 takes any.",
        value::parse_listen,
    );
    let token = section
        .section(
            "token",
            "Bearer token that opens the API over TCP; without one it exists on `<data_dir>/admin.sock` only.",
        )
        .secret();
    let written = token_of(&token, &section, sources);
    let from_flag = sources.optional_flag("--admin", sources.overrides.admin.as_ref(), value::parse_listen);
    let token = match (
        &sources.overrides.admin_token_file,
        (sources.env)("HOOKWARD_ADMIN_TOKEN").filter(|token| !token.is_empty()),
    ) {
        (Some(path), _) => {
            let checked = secret::read_file(path).and_then(|token| secret::check_token(&token).map(|()| token));
            checked.map_err(|fault| sources.reader.report_flag("--admin-token-file", fault)).ok()
        }
        (None, Some(token)) => sources
            .flag("HOOKWARD_ADMIN_TOKEN", token.trim(), |token| secret::check_token(token).map(|()| token.to_owned())),
        (None, None) => written,
    };
    if token.as_ref().is_some_and(|token| token.len() < TOKEN_MIN_CHARS) {
        warnings.push(format!("admin.token: is shorter than {TOKEN_MIN_CHARS} characters and can be guessed"));
    }
    Admin { address: from_flag.or(address).unwrap_or(default), token: token.map(Secret) }
}

fn token_of(token: &Section<'_>, admin: &Section<'_>, sources: &Sources<'_>) -> Option<String> {
    let text = secret::read(token, sources, admin.has("token"))?;
    secret::check_token(&text).map_err(|fault| token.own_fault(fault)).ok()?;
    Some(text)
}

fn data_dir(root: &Section<'_>, sources: &Sources<'_>) -> PathBuf {
    const DEFAULT: &str = "/var/lib/hookward";
    let written = root.parsed(
        "data_dir",
        Kind::Text,
        Some(DEFAULT.into()),
        "Directory of the buffer and the admin socket.",
        value::parse_text,
    );
    let written = written.map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
    sources.overrides.data_dir.clone().unwrap_or(written)
}

fn trusted_proxies(section: &Section<'_>, sources: &Sources<'_>) -> TrustedProxies {
    /// `None` is a peer over a unix socket.
    fn parse(text: &str) -> Result<Option<ipnet::IpNet>, Fault> {
        if text == "unix" {
            return Ok(None);
        }
        parse_net(text)
            .map(Some)
            .map_err(|sentence| Fault::from_sentence(&sentence, "write a CIDR such as 10.0.0.0/8, or unix"))
    }
    let mut proxies = section.list(
        "trusted_proxies",
        Kind::Texts,
        &[],
        "Who may name the client in `X-Forwarded-For`: CIDRs, or `unix`.",
        parse,
    );
    section.fixed("header", "x-forwarded-for", "Header in which trusted proxies name the client.");
    if !sources.overrides.trusted_proxy.is_empty() {
        let flags = sources.overrides.trusted_proxy.iter();
        proxies = Some(flags.filter_map(|text| sources.flag("--trusted-proxy", text, parse)).collect());
    }
    let proxies = proxies.unwrap_or_default();
    TrustedProxies { unix: proxies.contains(&None), nets: proxies.into_iter().flatten().collect() }
}

fn limits(root: &Section<'_>, warnings: &mut Vec<String>) -> Limits {
    let section = root.section("limits", "Bounds of the public side.");
    let timeouts = MILLISECOND * 100..=HOUR;
    // Accepting a bound in silence and not keeping it would be a lie.
    for (key, default) in [("body_memory", "64MiB"), ("failed_signatures_per_client", "50/s")] {
        if section.to_come(key, Some(default)) {
            warnings.push(format!("limits.{key}: is not enforced in this version"));
        }
    }
    Limits {
        connections: section.count("connections", 4096, 1..=1_000_000, "Open connections; more are answered 503."),
        header_timeout: section.duration(
            "header_timeout",
            SECOND * 10,
            timeouts.clone(),
            "From the first byte of a request to the end of its header.",
        ),
        body_timeout: section.duration("body_timeout", SECOND * 10, timeouts.clone(), "Total time of a body."),
        header_bytes: section.memory("header_bytes", 32 << 10, 1 << 10..=1 << 20, "Size of a request header."),
        header_count: section.count("header_count", 100, 8..=1000, "Fields of a request header."),
        uri_bytes: section.memory("uri_bytes", 8 << 10, 64..=1 << 20, "Length of a request target."),
        idle_timeout: section.duration(
            "idle_timeout",
            SECOND * 75,
            timeouts,
            "How long a connection may wait for its next request.",
        ),
    }
}

fn buffer(root: &Section<'_>, sources: &Sources<'_>) -> Buffer {
    let section = root.section("buffer", "Where events are stored before they are answered.");
    section.fixed("engine", "sqlite", "The storage engine.");
    let max_bytes =
        section.bytes("max_bytes", 1 << 30, BUFFER_BYTES, "Most that it may take on disk; then senders get 503.");
    let require = section.choice(
        "require",
        Durability::Pod,
        &DURABILITIES,
        "What the data directory must outlive at least; less refuses to start.",
    );
    let dedupe_entries = section.count(
        "dedupe_entries",
        1_000_000,
        1..=100_000_000,
        "Event ids that are remembered; the oldest give way.",
    );
    let Overrides { buffer_max_bytes, buffer_require, .. } = sources.overrides;
    Buffer {
        max_bytes: sources
            .optional_flag("--buffer-max-bytes", buffer_max_bytes.as_ref(), |text| {
                value::parse_bytes(text, &BUFFER_BYTES)
            })
            .unwrap_or(max_bytes),
        require: sources
            .optional_flag("--buffer-require", buffer_require.as_ref(), |text| value::parse_choice(text, &DURABILITIES))
            .unwrap_or(require),
        dedupe_entries,
    }
}

fn delivery(root: &Section<'_>) -> Delivery {
    let section = root.section("delivery", "Retries and what follows them.");
    let retry = section.section("retry", "What happens to an event that the app did not take.");
    let base = retry.duration(
        "base",
        MILLISECOND * 500,
        MILLISECOND..=HOUR,
        "Bound of the first wait; doubles with each attempt.",
    );
    let max = retry.duration("max", SECOND * 300, MILLISECOND..=HOUR * 24, "Bound of every wait.");
    if base > max {
        retry.fault("base", Fault::new("is longer than max", "make it shorter, or max longer"));
    }
    let retry = Retry {
        base,
        max,
        max_age: retry.duration(
            "max_age",
            HOUR * 72,
            SECOND..=YEAR,
            "Running time after which an undelivered event is dead.",
        ),
        client_errors: retry.small_count(
            "client_errors",
            8,
            1..=100,
            "Attempts for an answer that says the request itself is wrong (3xx, most 4xx).",
        ),
    };
    let dead_letter = section.section("dead_letter", "Events that were given up.");
    let delivered = section.section("delivered", "Events that the app took.");
    section.to_come("ordering", None);
    Delivery {
        retry,
        dead_letter_keep: dead_letter.duration(
            "keep",
            HOUR * 336,
            Duration::ZERO..=YEAR,
            "How long they are kept for a redrive, running time.",
        ),
        delivered_keep: delivered.duration(
            "keep",
            Duration::ZERO,
            Duration::ZERO..=YEAR,
            "How long their bodies are kept, running time.",
        ),
    }
}

fn shutdown(root: &Section<'_>) -> Shutdown {
    let section = root.section("shutdown", "How to go down on SIGTERM.");
    Shutdown {
        delay: section.duration(
            "delay",
            Duration::ZERO,
            Duration::ZERO..=HOUR,
            "Accept for this long while already not ready.",
        ),
        drain: section.duration(
            "drain",
            SECOND * 10,
            Duration::ZERO..=HOUR,
            "Deliver for at most this long afterwards; the rest stays in the buffer.",
        ),
    }
}

fn log(root: &Section<'_>, sources: &Sources<'_>) -> Log {
    let section = root.section("log", "Logging, to stderr.");
    let Overrides { log_format, log_level, .. } = sources.overrides;
    let client_ip = section.choice(
        "client_ip",
        ClientIpLog::Full,
        &CLIENT_IP,
        "How much of a sender's address is written; truncated is /24, and /48 for IPv6.",
    );
    let level = section.choice("level", Level::INFO, &LEVELS, "Lowest level.");
    let format = section.optional_choice(
        "format",
        None,
        &FORMATS,
        "Shape of a line; text on a terminal, else json, unless set.",
    );
    let accepted_per_s = section.small_count(
        "accepted_per_s",
        100,
        0..=u16::MAX,
        "Accepted requests logged per second at most; the rest is counted.",
    );
    Log {
        client_ip,
        level: sources
            .optional_flag("--log-level", log_level.as_ref(), |text| value::parse_choice(text, &LEVELS))
            .unwrap_or(level),
        format: sources
            .optional_flag("--log-format", log_format.as_ref(), |text| value::parse_choice(text, &FORMATS))
            .or(format)
            .unwrap_or_else(|| if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json }),
        accepted_per_s,
    }
}

#[cfg(test)]
mod tests;
