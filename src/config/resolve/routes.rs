//! What is received: routes with their allowlists and tolerances.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

use super::dedupe;
use super::keys::{self, FlagKeys};
use super::upstream::{self, UpstreamParts};
use super::{HOUR, SECOND, Sources};
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::value::{duration_text, parse_choice, parse_name, shown};
use crate::config::{Checks, End, Handling, MaxBytes, PathPattern, Route, Upstream};
use crate::gate::Enforcement;
use crate::gate::allowlist::{Allowlist, parse_source};
use crate::gate::peer::TrustedProxies;
use crate::gate::timestamp::Tolerance;

const ENFORCEMENTS: [(&str, Enforcement); 2] = [("enforce", Enforcement::Enforce), ("report", Enforcement::Report)];
/// `None` is off.
const LIST_MODES: [(&str, Option<Enforcement>); 3] =
    [("enforce", Some(Enforcement::Enforce)), ("report", Some(Enforcement::Report)), ("off", None)];

/// What Telnyx's SDKs allow a timestamp to be off, either way.
const SDK_TOLERANCE: Duration = Duration::from_secs(300);
/// How long Telnyx waits for an answer, unless a voice application says otherwise.
const SENDER_WAITS: Duration = Duration::from_secs(2);

/// What routes share.
pub(super) struct Surroundings<'a> {
    pub(super) trusted: &'a TrustedProxies,
    pub(super) allow_overlap: bool,
    pub(super) upstream: &'a UpstreamParts,
    pub(super) default_upstream: Option<Arc<Upstream>>,
    pub(super) buffer_max_bytes: MaxBytes,
    pub(super) body_memory_bytes: usize,
    /// Set when something needs the top-level upstream and the file names none; reported once.
    pub(super) lacks_upstream: Cell<bool>,
}

/// What is done with the requests of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Ack,
    Proxy,
    Verify,
    Pass,
}

pub(super) const MODES: [(&str, Mode); 4] =
    [("ack", Mode::Ack), ("proxy", Mode::Proxy), ("verify", Mode::Verify), ("pass", Mode::Pass)];

pub(super) const MODE_DOC: &str = "`ack` stores durably, answers 200 and forwards later; `proxy` verifies and passes the app's answer back; `verify` answers 200 or the refusal and forwards nothing; `pass` passes unverified.";

impl Mode {
    pub(super) fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// Reads all routes; those that cannot be used are left out, with the reason among the problems.
pub(super) fn read(
    root: &Section<'_>,
    sources: &Sources<'_>,
    surroundings: &Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Vec<Route> {
    let flags = Flags::read(sources);
    let mut sections =
        root.sections("routes", "What is received. None written: one route named `default`.").unwrap_or_default();
    let written = !sections.is_empty();
    if written && !flags.paths.is_empty() {
        warnings.push("--path: is ignored, since the file has routes".to_owned());
    }
    if !written {
        // One route for each path, as if they stood in the file.
        sections.extend((0..flags.paths.len().max(1)).map(|index| root.unwritten_item("routes", index)));
    }
    let mut routes = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut patterns: Vec<PathPattern> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let defaults = if written { (default_name(0), None) } else { (default_name(index), flags.paths.get(index)) };
        let reading = Reading { section, sources, surroundings, flags: &flags };
        let (name, path) = reading.name_and_path(defaults);
        if names.contains(&name) {
            section.fault(
                "name",
                Fault::new(format!("the name `{name}` is taken by another route"), "give every route its own `name:`"),
            );
        }
        if path.as_ref().is_some_and(|path| patterns.contains(path)) {
            let fault = Fault::new("has the path of another route", "give every route its own `path:`");
            if written { section.fault("path", fault) } else { sources.reader.report_flag("--path", fault) }
        }
        names.push(name.clone());
        patterns.extend(path.clone());
        let route = reading.rest(&name, path, warnings);
        routes.extend(route);
    }
    routes
}

fn default_name(index: usize) -> String {
    if index == 0 { "default".to_owned() } else { format!("default-{}", index + 1) }
}

/// What flags fill in where a route leaves it out.
struct Flags {
    keys: FlagKeys,
    sources: Option<Vec<IpNet>>,
    sources_texts: Vec<String>,
    allowlist_off: bool,
    paths: Vec<PathPattern>,
    mode: Mode,
}

impl Flags {
    fn read(sources: &Sources<'_>) -> Flags {
        let overrides = sources.overrides;
        let allowlist_off = overrides.ip_allowlist.iter().any(|text| text == "off");
        if allowlist_off && overrides.ip_allowlist.len() > 1 {
            let fault = Fault::new("is `off` and something else", "give `off` alone, or leave it out");
            sources.reader.report_flag("--ip-allowlist", fault);
        }
        let nets = overrides.ip_allowlist.iter().filter(|text| *text != "off");
        let nets: Vec<IpNet> = nets.filter_map(|text| sources.flag("--ip-allowlist", text, source)).flatten().collect();
        Flags {
            keys: FlagKeys::read(sources),
            sources: (!overrides.ip_allowlist.is_empty()).then_some(nets),
            sources_texts: overrides.ip_allowlist.clone(),
            allowlist_off,
            mode: sources
                .optional_flag("--mode", overrides.mode.as_ref(), |text| parse_choice(text, &MODES))
                .unwrap_or(Mode::Ack),
            paths: overrides.path.iter().filter_map(|text| sources.flag("--path", text, parse_path)).collect(),
        }
    }
}

/// One route being read.
struct Reading<'a> {
    section: &'a Section<'a>,
    sources: &'a Sources<'a>,
    surroundings: &'a Surroundings<'a>,
    flags: &'a Flags,
}

impl Reading<'_> {
    fn name_and_path(&self, (name, path): (String, Option<&PathPattern>)) -> (String, Option<PathPattern>) {
        let default_name = Some(default_name(0).into());
        let written = self.section.parsed(
            "name",
            Kind::Text,
            default_name,
            "Name in metrics, logs and the admin API; unique, 1 to 64 of `a-z 0-9 _ -`.",
            parse_name,
        );
        let default_path = path.cloned().unwrap_or(PathPattern::Prefix("/".to_owned()));
        let path = self.section.parsed(
            "path",
            Kind::Text,
            Some("/*".into()),
            "Path of the requests, exact; a trailing `*` makes it a prefix; the longest match wins.",
            parse_path,
        );
        // A bad path must not count as the default one: that would be a duplicate that nobody wrote.
        let path = if self.section.has("path") { path } else { Some(default_path) };
        (written.unwrap_or(name), path)
    }

    /// Everything else. Reads every key before it gives up on anything.
    fn rest(&self, name: &str, path: Option<PathPattern>, warnings: &mut Vec<String>) -> Option<Route> {
        let section = self.section;
        let mode = section.optional_choice("mode", Some(Mode::Ack), &MODES, MODE_DOC).unwrap_or(self.flags.mode);
        let methods = self.methods(mode);
        section.fixed("provider", "telnyx", "Who signs.");
        if mode == Mode::Pass {
            self.refuse_checks();
        }
        let checks = self.checks(name, mode, warnings);
        let dedupe = dedupe::read(section, name, mode, &checks.tolerance, warnings);
        let upstream = self.upstream(mode, warnings);
        if let Some(upstream) = &upstream {
            warnings.extend(self.judge_times(name, mode, &checks.tolerance, upstream));
        }
        let (path, handling) = match mode {
            Mode::Ack => (path?, Handling::Verified(Box::new(checks), End::Ack { dedupe, upstream: upstream? })),
            Mode::Proxy => (path?, Handling::Verified(Box::new(checks), End::Proxy(upstream?))),
            // A gateway appends the path that it was asked for.
            Mode::Verify => (with_sub_paths(path?), Handling::Verified(Box::new(checks), End::Verify)),
            Mode::Pass => (path?, Handling::Passed(upstream?)),
        };
        Some(Route { name: name.into(), path, methods, handling })
    }

    /// A check that is written and not made would be a false comfort.
    fn refuse_checks(&self) {
        for key in ["keys", "ip_allowlist", "signature", "timestamp", "max_body", "path_ends", "dedupe"] {
            if self.section.has(key) && !self.section.is_off(key) {
                let mend = "leave it out, or choose a mode that verifies (ack, proxy, verify)";
                self.section.fault(key, Fault::new("is not looked at in mode pass", mend));
            }
        }
    }

    fn checks(&self, name: &str, mode: Mode, warnings: &mut Vec<String>) -> Checks {
        let section = self.section;
        let keys = keys::read(section, self.sources, &self.flags.keys, mode != Mode::Pass, warnings);
        let allowlist = self.allowlist(name, warnings);
        let signature = section.choice(
            "signature",
            Enforcement::Enforce,
            &ENFORCEMENTS,
            "What happens to what no key has signed: `report` lets it pass as unverified, counted and logged.",
        );
        if signature == Enforcement::Report {
            warnings.push(format!(
                "{}: anybody's requests pass, as unverified: they are {}",
                section.path_of("signature"),
                match mode {
                    Mode::Ack => "stored and forwarded",
                    Mode::Verify => "answered 200",
                    Mode::Proxy | Mode::Pass => "passed to the app",
                }
            ));
        }
        let tolerance = self.tolerance();
        let max_body_bytes = section.memory("max_body", 1 << 20, 1..=64 << 20, "Largest body; more is answered 413.");
        let is_too_large = match self.surroundings.buffer_max_bytes {
            MaxBytes::Fixed(bytes) => max_body_bytes as u64 > bytes,
            // The file system is known to the process that uses it only.
            MaxBytes::Auto => false,
        };
        if mode == Mode::Ack && is_too_large {
            section.fault(
                "max_body",
                Fault::new("is larger than the buffer", "make it smaller, or buffer.max_bytes larger"),
            );
        }
        if max_body_bytes > self.surroundings.body_memory_bytes {
            section.fault(
                "max_body",
                Fault::new("is larger than limits.body_memory", "make it smaller, or limits.body_memory larger"),
            );
        }
        let passes_ends = section.choice(
            "path_ends",
            false,
            &[("refuse", false), ("pass", true)],
            "What happens to other paths that end in this one by whole segments, where they would be passed unverified (`/index.php/webhooks`): an app may take them for it, so they are answered 404; `pass` passes them.",
        );
        Checks { keys, allowlist, signature, tolerance, max_body_bytes, passes_ends }
    }

    /// `None` is any method.
    fn methods(&self, mode: Mode) -> Option<Vec<Method>> {
        let kind = Kind::Choices(METHODS.to_vec());
        let methods = self.section.list(
            "methods",
            kind,
            &["POST"],
            "Methods that are taken; others are answered 405. Mode `pass` takes any unless they are written; where requests are verified, those without a signed body (`GET`, `HEAD`, `OPTIONS`) are an error.",
            |text| parse_method(text, mode),
        );
        if self.section.is_empty_list("methods") {
            self.section.fault("methods", Fault::new("is an empty list", "write [POST], or leave it out"));
        }
        methods.or_else(|| (mode != Mode::Pass).then(|| vec![Method::POST]))
    }

    fn allowlist(&self, name: &str, warnings: &mut Vec<String>) -> Allowlist {
        let section = self.section.section("ip_allowlist", "Who may send.");
        const DOC: &str = "CIDRs, addresses and presets (`telnyx`, `telnyx-messaging`, `telnyx-regional`).";
        let named = section.list("sources", Kind::Texts, &["telnyx"], DOC, |text| Ok((text.to_owned(), source(text)?)));
        let mode = section.optional_choice(
            "mode",
            Some(Some(Enforcement::Enforce)),
            &LIST_MODES,
            "`report` lets others pass as unverified, counted and logged; `off` does not look.",
        );
        let from_flag = self.flags.sources.clone().filter(|_| !section.has("sources"));
        let off_by_flag = from_flag.is_some() && self.flags.allowlist_off;
        let Some(mode) = mode.unwrap_or(if off_by_flag { None } else { Some(Enforcement::Enforce) }) else {
            return Allowlist::Off;
        };
        if section.is_empty_list("sources") {
            section.fault(
                "sources",
                Fault::new(
                    "is an empty list: nobody could send",
                    "write a preset or a CIDR, or `mode: off` to let anyone send",
                ),
            );
        }
        let (texts, nets) = match (named, from_flag) {
            (Some(named), _) => named.into_iter().unzip(),
            // `off` on the flag beside a mode in the file: the file's mode, on the default sources.
            (None, Some(nets)) if !self.flags.allowlist_off => (self.flags.sources_texts.clone(), vec![nets]),
            (None, _) => (vec!["telnyx".to_owned()], source("telnyx").into_iter().collect::<Vec<_>>()),
        };
        let nets: Vec<IpNet> = nets.into_iter().flatten().collect();
        if mode == Enforcement::Enforce && texts == ["telnyx-messaging"] {
            warnings.push(format!("route {name}: telnyx-messaging alone refuses addresses that Telnyx has sent from (192.76.120.139 in 2023); `telnyx` holds all that it has published"));
        }
        self.refuse_overlap(&section, &nets);
        Allowlist::Only { nets: nets.into(), mode }
    }

    /// Whoever is both a trusted proxy and an allowed sender could name anyone as the client.
    fn refuse_overlap(&self, section: &Section<'_>, nets: &[IpNet]) {
        if self.surroundings.allow_overlap {
            return;
        }
        let trusted = self.surroundings.trusted.nets.as_slice();
        let overlap = nets.iter().find_map(|net| {
            trusted.iter().find(|proxy| proxy.contains(net) || net.contains(*proxy)).map(|proxy| (net, proxy))
        });
        if let Some((net, proxy)) = overlap {
            section.fault(
                "sources",
                Fault::new(
                    format!("{net} overlaps the trusted proxy {proxy}: a proxy is not a sender"),
                    "name only senders here, or set client_ip.allow_overlap: true",
                ),
            );
        }
    }

    fn tolerance(&self) -> Tolerance {
        let section = self.section.section("timestamp", "How old a signature may be.");
        let range = SECOND..=HOUR * 24;
        Tolerance {
            past: section.duration("past", SECOND * 300, range.clone(), "How old, in whole seconds."),
            future: section.duration("future", SECOND * 300, range, "How far ahead of the local clock."),
            mode: section.choice(
                "mode",
                Enforcement::Enforce,
                &ENFORCEMENTS,
                "`report` lets others pass as unverified, counted and logged.",
            ),
        }
    }

    fn upstream(&self, mode: Mode, warnings: &mut Vec<String>) -> Option<Arc<Upstream>> {
        let section = self
            .section
            .section("upstream", "Another app for this route; what is left out is as in the top-level `upstream`.");
        let parts = upstream::read(&section, self.surroundings.upstream, None, self.sources);
        if !parts.is_named && mode != Mode::Verify {
            self.surroundings.lacks_upstream.set(true);
        }
        if self.section.has("upstream") && mode == Mode::Verify {
            let mend = "leave it out, or choose mode proxy or ack";
            self.section.fault("upstream", Fault::new("is not used in mode verify, which forwards nothing", mend));
        }
        self.judge_signature(&section, mode, warnings);
        // Shared, so that routes to one app are held to its concurrency together.
        match &self.surroundings.default_upstream {
            Some(upstream) if !self.section.has("upstream") => Some(Arc::clone(upstream)),
            _ => parts.build().map(Arc::new),
        }
    }

    /// Times that the sender or the app's SDK does not wait for.
    fn judge_times(&self, name: &str, mode: Mode, tolerance: &Tolerance, upstream: &Upstream) -> Vec<String> {
        let mut warnings = Vec::new();
        let goes_as_it_came = matches!(mode, Mode::Ack | Mode::Proxy) && upstream.signer.is_none();
        for (key, most) in [("past", tolerance.past), ("future", tolerance.future)] {
            if goes_as_it_came && most > SDK_TOLERANCE {
                warnings.push(format!(
                    "{}.{key}: is above 300s, and an app that verifies with Telnyx's SDK refuses what lies further from its clock; write `upstream.sign`, which signs anew, or 5m",
                    self.section.path_of("timestamp")
                ));
            }
        }
        if mode == Mode::Proxy && upstream.timeout > SENDER_WAITS {
            warnings.push(format!(
                "route {name}: mode proxy lets the sender wait for upstream.timeout, {}, and Telnyx gives up after 2 s unless a voice application sets more; write a timeout below what it waits, such as `upstream: {{ timeout: 1800ms }}`",
                duration_text(upstream.timeout)
            ));
        }
        warnings
    }

    /// A signature that is written and not made, or expected and not inherited.
    fn judge_signature(&self, upstream: &Section<'_>, mode: Mode, warnings: &mut Vec<String>) {
        if mode == Mode::Pass && upstream.has("sign") && !upstream.is_off("sign") {
            let mend = "leave it out, or choose mode proxy or ack";
            upstream.fault("sign", Fault::new("is not used in mode pass: what is not verified is not signed", mend));
        }
        let signs_elsewhere = self.surroundings.upstream.signer.is_some();
        if signs_elsewhere && matches!(mode, Mode::Ack | Mode::Proxy) && upstream.has("url") && !upstream.has("sign") {
            warnings.push(format!(
                "{}: is another app than the top-level upstream, so its key does not sign for it; write `sign:` here too, or `sign: off`",
                upstream.path_of("url")
            ));
        }
    }
}

fn source(text: &str) -> Result<Vec<IpNet>, Fault> {
    if text == "off" {
        return Err(Fault::new("`off` is not a source", "write `mode: off` beside `sources`"));
    }
    parse_source(text)
        .map_err(|sentence| Fault::from_sentence(&sentence, "write a preset or a CIDR such as 203.0.113.0/24"))
}

const METHODS: [&str; 7] = ["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"];

fn parse_method(text: &str, mode: Mode) -> Result<Method, Fault> {
    if !METHODS.contains(&text) {
        return Err(Fault::new(
            format!("{} is not a method that is taken here", shown(text)),
            "write POST, PUT, PATCH or DELETE",
        ));
    }
    if mode != Mode::Pass && matches!(text, "GET" | "HEAD" | "OPTIONS") {
        return Err(Fault::new(format!("{text} cannot be verified: a query is not signed"), "leave it out"));
    }
    text.parse().map_err(|_| Fault::new("is not a method", "write POST, PUT, PATCH or DELETE"))
}

fn with_sub_paths(path: PathPattern) -> PathPattern {
    match path {
        PathPattern::Exact(path) => PathPattern::Tree(path),
        other => other,
    }
}

/// `/webhooks`, `/webhooks/*`.
pub(super) fn parse_path(text: &str) -> Result<PathPattern, Fault> {
    const MEND: &str = "write an absolute path such as /webhooks, or /webhooks/* for all below it";
    if !text.starts_with('/') {
        return Err(Fault::new(format!("{} does not begin with /", shown(text)), MEND));
    }
    let (path, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
    if path.contains(['*', '?', '#']) || path.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Fault::new(format!("{} has characters that no path pattern has", shown(text)), MEND));
    }
    let path = path.to_owned();
    Ok(if is_prefix { PathPattern::Prefix(path) } else { PathPattern::Exact(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_star_makes_a_prefix_and_any_other_is_refused() {
        assert_eq!(parse_path("/*"), Ok(PathPattern::Prefix("/".into())));
        assert_eq!(parse_path("/a/*"), Ok(PathPattern::Prefix("/a/".into())));
        assert_eq!(parse_path("/a"), Ok(PathPattern::Exact("/a".into())));
        for bad in ["", "a", "*", "/a*b", "/**", "/a?b", "/a b", "/ä", "/a#"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_method_without_a_signed_body_says_why() {
        assert!(parse_method("GET", Mode::Proxy).unwrap_err().what.contains("a query is not signed"));
        assert_eq!(parse_method("GET", Mode::Pass), Ok(Method::GET));
        assert!(parse_method("post", Mode::Ack).is_err());
        assert_eq!(parse_method("PUT", Mode::Ack), Ok(Method::PUT));
    }
}
