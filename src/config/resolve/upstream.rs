//! The app behind hookward.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::sign::{self, Written};
use super::tls;
use super::{HOUR, MILLISECOND, Sources};
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::value::{is_off, shown};
use crate::config::{Destination, Forwarded, Lifetime, Signer, Upstream, UpstreamLimits};
use crate::forward::rate::{BURST_MAX, Bound, Rate};
use crate::forward::scheduler::CONCURRENCY;

/// The flag that names the upstream.
const FLAG: &str = "--upstream";

const FORWARDED: [(&str, Forwarded); 3] =
    [("all", Forwarded::All), ("client", Forwarded::Client), ("off", Forwarded::Off)];

/// What a section says, whether or not it names a URL: routes inherit the rest.
#[derive(Debug, Clone)]
pub(super) struct UpstreamParts {
    destination: Option<Destination>,
    host: Option<String>,
    forwarded: Forwarded,
    pub(super) signer: Option<Arc<Signer>>,
    connect_timeout: Duration,
    timeout: Duration,
    connection_lifetime: Lifetime,
    max_concurrency: usize,
    rate: Option<Rate>,
    /// What `rate` gives in a second, if nothing else is written.
    rate_burst: Option<usize>,
    /// Whether a URL was given, good or bad.
    pub(super) is_named: bool,
}

impl Default for UpstreamParts {
    fn default() -> Self {
        UpstreamParts {
            destination: None,
            host: None,
            forwarded: Forwarded::All,
            signer: None,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            connection_lifetime: Lifetime::DEFAULT,
            max_concurrency: 32,
            rate: None,
            rate_burst: None,
            is_named: false,
        }
    }
}

impl UpstreamParts {
    /// The upstream, if it has a usable URL.
    pub(super) fn build(&self) -> Option<Upstream> {
        Some(Upstream {
            destination: self.destination.clone()?,
            host: self.host.clone(),
            forwarded: self.forwarded,
            signer: self.signer.clone(),
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            connection_lifetime: self.connection_lifetime,
            limits: UpstreamLimits {
                max_concurrency: self.max_concurrency,
                rate: self.rate.map(|rate| Bound { rate, burst: self.burst_of(rate) }),
            },
        })
    }
}

impl UpstreamParts {
    fn burst_of(&self, rate: Rate) -> NonZeroU32 {
        let written = self.rate_burst.and_then(|burst| NonZeroU32::new(u32::try_from(burst).ok()?));
        written.unwrap_or(rate.of_a_second())
    }
}

/// Reads a section. What it leaves out comes from `base`; another URL does not inherit what
/// belongs to the first app: its host name, its TLS and the key that signs for it. `flag` beats the section's URL.
pub(super) fn read(
    section: &Section<'_>,
    base: &UpstreamParts,
    flag: Option<&str>,
    sources: &Sources<'_>,
) -> UpstreamParts {
    let written = section.parsed(
        "url",
        Kind::Text,
        None,
        "The app: `http://host:port`, `https://host:port` or `unix:/path`, without a path: the sender's is kept.",
        parse_destination,
    );
    let from_flag = flag.and_then(|text| sources.flag(FLAG, text, parse_destination));
    let is_named = flag.is_some() || section.has("url");
    let host = section.parsed(
        "host",
        Kind::Text,
        None,
        "`Host` that the app is sent; the sender's is kept otherwise.",
        parse_host,
    );
    let forwarded = section.optional_choice(
        "forwarded",
        Some(Forwarded::All),
        &FORWARDED,
        "Forwarding headers that the app is sent: `client` is `X-Forwarded-For`, `-Proto` and `X-Real-IP` and nothing that names a host, for frameworks that check hosts; `off` is none.",
    );
    let tls = tls::read(section);
    let sign = sign::read(section, sources);

    let inherits = !is_named;
    let signer = match sign {
        Written::With(signer) => Some(signer),
        Written::Off => None,
        Written::No => base.signer.clone().filter(|_| inherits),
    };
    let mut destination = if flag.is_some() { from_flag } else { written };
    if inherits {
        destination.clone_from(&base.destination);
    }
    match &mut destination {
        Some(Destination::Tcp { tls: Some(settings), .. }) => tls.apply(settings, sources),
        // A flag may turn an https upstream into a local one without editing the file.
        Some(_) if flag.is_none() => tls.refuse_without_https(),
        _ => {}
    }
    UpstreamParts {
        destination,
        host: host.or_else(|| base.host.clone().filter(|_| inherits)),
        forwarded: forwarded.or_else(|| inherits.then_some(base.forwarded)).unwrap_or_default(),
        signer,
        connect_timeout: section.duration(
            "connect_timeout",
            base.connect_timeout,
            MILLISECOND..=HOUR / 12,
            "Time to connect, TLS included.",
        ),
        timeout: section.duration("timeout", base.timeout, MILLISECOND..=HOUR, "Total time of one attempt."),
        connection_lifetime: lifetime(section, base.connection_lifetime),
        max_concurrency: section.count(
            "max_concurrency",
            base.max_concurrency,
            CONCURRENCY,
            "Attempts that may be under way at once.",
        ),
        rate: section
            .parsed(
                "rate",
                Kind::EventRateOrOff,
                Some("off".into()),
                "Attempts within a time at most, `50/s` or `600/min`, of this instance.",
                parse_rate,
            )
            .unwrap_or(base.rate),
        rate_burst: {
            let written = section.count_or_auto(
                "rate_burst",
                1..=usize::try_from(BURST_MAX).unwrap_or(usize::MAX),
                "Attempts at once after a rest, where `rate` bounds them; `auto`: what it gives in a second.",
            );
            if section.has("rate_burst") { written } else { base.rate_burst }
        },
        is_named: is_named || base.is_named,
    }
}

fn lifetime(section: &Section<'_>, base: Lifetime) -> Lifetime {
    let age = section.duration(
        "connection_max_age",
        base.age,
        MILLISECOND * 100..=HOUR * 24,
        "Longest use of a connection, less up to a quarter; the next one may lead to another replica.",
    );
    let exchanges = section.count(
        "connection_max_requests",
        usize::try_from(base.exchanges).unwrap_or(usize::MAX),
        1..=1_000_000,
        "Most requests over a connection, less up to a quarter.",
    );
    Lifetime { age, exchanges: u32::try_from(exchanges).unwrap_or(u32::MAX) }
}

fn parse_destination(text: &str) -> Result<Destination, Fault> {
    const MEND: &str = "write http://host:port, https://host:port or unix:/path";
    // Passwords and tokens stand in these parts, so the text is not repeated.
    if !text.starts_with("unix:") {
        if text.contains('@') {
            return Err(Fault::new("carries user and password", MEND));
        }
        if text.contains(['?', '#']) {
            return Err(Fault::new("has a query or fragment", MEND));
        }
    }
    Destination::parse(text).map_err(|sentence| Fault::from_sentence(&sentence, MEND))
}

fn parse_rate(text: &str) -> Result<Option<Rate>, Fault> {
    if is_off(text) {
        return Ok(None);
    }
    let mend = || format!("write {}, or off", Rate::expected());
    Rate::parse(text).map(Some).ok_or_else(|| Fault::new(format!("{} is not a rate", shown(text)), mend()))
}

pub(super) fn parse_host(text: &str) -> Result<String, Fault> {
    let is_host = !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    if is_host {
        Ok(text.to_owned())
    } else {
        Err(Fault::new("is not a host name", "write a name such as app.internal"))
    }
}
