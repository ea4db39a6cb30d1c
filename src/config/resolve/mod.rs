//! From what was typed (file, environment, flags) to [`Config`]. Flags beat the environment, the
//! environment beats the file, and every problem is found in one go.

mod admin;
mod dedupe;
mod flags;
mod keys;
mod listen;
mod loops;
mod routes;
mod secret;
mod settings;
mod sign;
mod tls;
mod upstream;

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use admin::{DATA_DIR, Whereabouts};
pub use flags::Overrides;

use super::files::FilesRead;
use super::reader::problem::{Fault, Problem, Problems};
use super::reader::schema::{Kind, Record};
use super::reader::section::Section;
use super::reader::{FILE_MAX_BYTES, Reader, value};
use super::{Auto, Config, ListenAddress, Listener, PathPattern, Route, Upstream};
use crate::gate::allowlist::{Allowlist, parse_net};
use crate::gate::peer::{ClientIpHeader, TrustedProxies};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Longest that anything is kept or tried.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

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
    pub fn read(path: &Path, files: &FilesRead) -> Result<SourceFile, Problems> {
        let name = path.display().to_string();
        let bytes = files.read(path, FILE_MAX_BYTES as u64).map_err(|error| {
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
    resolve_noting(file, overrides, env, &FilesRead::default())
}

/// The same, noting in `files` which files it reads.
///
/// # Errors
/// Every problem there is.
pub fn resolve_noting(
    file: Option<&SourceFile>,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
    files: &FilesRead,
) -> Result<Resolved, Problems> {
    let name = file.map(|file| file.name.as_str());
    let reader = match file {
        Some(file) => Reader::new(&file.text).map_err(|problems| Problems::new(name, problems))?,
        None => Reader::empty(),
    };
    let mut warnings = Vec::new();
    let sources = Sources { reader: &reader, overrides: &overrides.without_empty(), env, files };
    let config = read(&sources, &mut warnings);
    let problems: Vec<Problem> = reader.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(Resolved { config, warnings }),
        _ => Err(Problems::new(name, problems)),
    }
}

/// Every key of the file, as the reader asks for it.
pub fn describe() -> Vec<Record> {
    let reader = Reader::describing();
    let (overrides, files) = (Overrides::default(), FilesRead::default());
    read(&Sources { reader: &reader, overrides: &overrides, env: &|_| None, files: &files }, &mut Vec::new());
    reader.into_records()
}

/// Where values come from besides the file.
struct Sources<'a> {
    reader: &'a Reader,
    overrides: &'a Overrides,
    env: &'a dyn Fn(&str) -> Option<String>,
    files: &'a FilesRead,
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

    /// Every file that the configuration names is read here.
    ///
    /// # Errors
    /// Unreadable, or larger than the bound.
    fn read_file(&self, path: &Path, max_bytes: u64) -> Result<Vec<u8>, Fault> {
        let shown = path.display();
        let failed = |error: std::io::Error| {
            Fault::new(
                format!("file {shown} cannot be read ({error})"),
                "check that it exists, is mounted and is readable for hookward's user",
            )
        };
        let bytes = self.files.read(path, max_bytes).map_err(failed)?;
        if bytes.len() as u64 > max_bytes {
            let limit = value::bytes_text(max_bytes);
            return Err(Fault::new(format!("file {shown} is larger than {limit}"), "name the right file"));
        }
        Ok(bytes)
    }
}

/// The whole file, top to bottom. `None` only where something without a default is missing, which
/// is among the problems.
fn read(sources: &Sources<'_>, warnings: &mut Vec<String>) -> Option<Config> {
    let Sources { reader, overrides, .. } = sources;
    let root = reader.root();
    let listen = listen::read(&root, sources);
    let admin = admin::read(&root, sources, warnings);
    let data_dir = admin::data_dir(&root, sources);
    let client_ip = root.section("client_ip", "How the sender's address is found.");
    let trusted_proxies = trusted_proxies(&client_ip, sources);
    let allow_overlap = client_ip.switch("allow_overlap", false, "Let an allowlist overlap `trusted_proxies`.");
    let upstream = root.section("upstream", "The app that gets the events.");
    let upstream =
        upstream::read(&upstream, &upstream::UpstreamParts::default(), overrides.upstream.as_deref(), sources);
    let default_upstream = upstream.build().map(Arc::new);
    let mut auto = Auto::default();
    let mut limits = settings::limits(&root, &mut auto);
    let buffer = settings::buffer(&root, sources, &mut auto);
    let surroundings = routes::Surroundings {
        trusted: &trusted_proxies,
        allow_overlap,
        upstream: &upstream,
        default_upstream: default_upstream.clone(),
        buffer_max_bytes: buffer.max_bytes,
        body_memory_bytes: limits.body_memory_bytes,
        lacks_upstream: Cell::new(false),
    };
    let routes = routes::read(&root, sources, &surroundings, warnings);
    if limits.refusals.bounds.bytes == 0 {
        limits.refusals.bounds.bytes = settings::refusal_bytes(&routes);
    }
    let unmatched = unmatched(&root, sources, &surroundings);
    if surroundings.lacks_upstream.get() {
        let mend = "set `url:` there, --upstream or HOOKWARD_UPSTREAM, such as http://127.0.0.1:3000";
        root.fault("upstream", Fault::new("is missing", mend));
    }
    let health_path = health_path(&root, &routes);
    let delivery = settings::delivery(&root, warnings);
    let shutdown = settings::shutdown(&root);
    let log = settings::log(&root, sources);
    let threads = root.optional_count("threads", None, 1..=1024, "Worker threads; the number of CPUs unless set.");
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut checks = routes.iter().filter_map(Route::checks);
    let addresses_matter = checks.any(|checks| !matches!(checks.allowlist, Allowlist::Off));
    listen::judge_trust(&root, &listen, &trusted_proxies, addresses_matter, warnings);
    let upstreams = routes.iter().filter_map(Route::upstream).chain(&unmatched).map(|upstream| &**upstream);
    loops::judge(&listen, upstreams, warnings);
    let is_admin = |listener: &Listener| listener.address == ListenAddress::Tcp(admin.address);
    if admin.address.port() != 0 && listen.iter().any(is_admin) {
        root.fault("admin", Fault::new("has the address of a public listener", "give it another port"));
    }
    (!listen.is_empty() && !routes.is_empty()).then_some(Config {
        listen,
        admin,
        data_dir,
        trusted_proxies,
        routes,
        default_upstream,
        unmatched,
        health_path,
        limits,
        auto,
        buffer,
        delivery,
        shutdown,
        log,
        threads,
    })
}

/// Whether a request that matches no route is passed on.
const UNMATCHED: [(&str, bool); 2] = [("reject", false), ("pass", true)];
const UNMATCHED_DOC: &str =
    "What happens to a request that matches no route: 404, or to the upstream as it is, unverified.";

/// Where requests go that match no route.
fn unmatched(
    root: &Section<'_>,
    sources: &Sources<'_>,
    surroundings: &routes::Surroundings<'_>,
) -> Option<Arc<Upstream>> {
    let written = root.choice("unmatched", false, &UNMATCHED, UNMATCHED_DOC);
    let flag = sources.overrides.unmatched.as_ref();
    let passes =
        sources.optional_flag("--unmatched", flag, |text| value::parse_choice(text, &UNMATCHED)).unwrap_or(written);
    if passes && !surroundings.upstream.is_named {
        surroundings.lacks_upstream.set(true);
    }
    surroundings.default_upstream.clone().filter(|_| passes)
}

fn health_path(root: &Section<'_>, routes: &[Route]) -> Option<String> {
    const DOC: &str = "Path of the public side whose GET answers as `/readyz` does, for load balancers.";
    let path = root.parsed("health_path", Kind::Text, None, DOC, |text| match routes::parse_path(text)? {
        PathPattern::Exact(path) => Ok(path),
        _ => Err(Fault::new("is a pattern", "write one path, such as /healthz")),
    })?;
    let taken = |route: &Route| route.path == PathPattern::Exact(path.clone());
    if let Some(route) = routes.iter().find(|route| taken(route)) {
        root.fault(
            "health_path",
            Fault::new(format!("is the path of the route {}", route.name), "choose a path that no route takes"),
        );
    }
    Some(path)
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
        "Who may name the client: CIDRs, or `unix` for peers over a unix socket.",
        parse,
    );
    let header = section.parsed(
        "header",
        Kind::Text,
        Some("x-forwarded-for".into()),
        "Where trusted proxies name the client: `x-forwarded-for`, `forwarded` (RFC 7239), or a header that holds one address, such as `cf-connecting-ip`.",
        |text| {
            ClientIpHeader::parse(text)
                .map_err(|sentence| Fault::from_sentence(&sentence, "write x-forwarded-for or forwarded"))
        },
    );
    if !sources.overrides.trusted_proxy.is_empty() {
        let flags = sources.overrides.trusted_proxy.iter();
        proxies = Some(flags.filter_map(|text| sources.flag("--trusted-proxy", text, parse)).collect());
    }
    let proxies = proxies.unwrap_or_default();
    TrustedProxies {
        unix: proxies.contains(&None),
        nets: proxies.into_iter().flatten().collect(),
        header: header.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
