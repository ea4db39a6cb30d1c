//! Bounds, buffer, delivery, shutdown and logging: what does not depend on routes.

use std::io::IsTerminal as _;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing::Level;

use super::{HOUR, MILLISECOND, Overrides, SECOND, Sources, YEAR};
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::value::{self, parse_rate_per_s};
use crate::config::{
    Auto, Buffer, ClientIpLog, Delivery, Durability, Limits, Log, LogFormat, MaxBytes, Ordering, Reserve, Retry, Route,
    Shutdown,
};
use crate::http::lingering::{LingerBounds, ProxyLinger};
use crate::json_pointer::JsonPointer;

pub(super) const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];
pub(super) const FORMATS: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("text", LogFormat::Text)];
pub(super) const DURABILITIES: [(&str, Durability); 3] =
    [("volume", Durability::Volume), ("pod", Durability::Pod), ("process", Durability::Process)];
const CLIENT_IP: [(&str, ClientIpLog); 3] =
    [("full", ClientIpLog::Full), ("truncated", ClientIpLog::Truncated), ("off", ClientIpLog::Off)];

const REFUSAL_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 30;
const BUFFER_BYTES: RangeInclusive<u64> = 64 * 1024..=16 << 40;
const RESERVE_BYTES: RangeInclusive<u64> = 0..=8 << 40;

pub(super) fn limits(root: &Section<'_>, auto: &mut Auto) -> Limits {
    let section = root.section("limits", "Bounds of the public side.");
    let timeouts = MILLISECOND * 100..=HOUR;
    Limits {
        connections: section
            .count_or_auto(
                "connections",
                1..=1_000_000,
                "Open connections; `auto` is what half of the memory left for it holds, 4,096 at most. At the bound the one that has waited longest without a request is closed for a new one; where each has a request in progress, new ones are answered 503.",
            )
            .unwrap_or_else(|| {
                auto.connections = true;
                Auto::CONNECTIONS_MAX
            }),
        connections_per_client: section.count_or_auto(
            "connections_per_client",
            1..=1_000_000,
            "Open connections of one client, an IPv4 address or an IPv6 /64, in the same way; `auto` is a quarter of all, and 64 at least. Trusted proxies are exempt.",
        ),
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
        body_memory_bytes: section
            .memory_or_auto(
                "body_memory",
                64 << 10..=4 << 30,
                "Bytes of bodies that are held at once, shared fairly by clients; `auto` is what the other half holds, 64 MiB at most. Beyond it they are answered 503.",
            )
            .unwrap_or_else(|| {
                auto.body_memory = true;
                Auto::BODY_MEMORY_MAX_BYTES
            }),
        refusals: refusals(&section),
        failed_signatures_per_client: section
            .parsed(
                "failed_signatures_per_client",
                Kind::RateOrOff,
                Some("50/s".into()),
                "Signatures of one client that may fail per second before its further ones are checked in turn, within a quarter of the time of the workers; nobody is refused for it; `off`: no bound.",
                |text| parse_rate_per_s(text, &(1..=1_000_000)),
            )
            .unwrap_or(NonZeroU32::new(50)),
    }
}

fn refusals(section: &Section<'_>) -> ProxyLinger {
    let bytes = section.parsed(
        "refusal_bytes",
        Kind::Bytes,
        None,
        "Bytes of a body that are read and dropped after its refusal, so that a trusted proxy hears it; twice the largest `max_body` and 2MiB at least, unless set.",
        |text| value::parse_bytes(text, &REFUSAL_BYTES),
    );
    let time = section.duration(
        "refusal_time",
        SECOND * 2,
        MILLISECOND * 100..=SECOND * 60,
        "How long they are read for at most.",
    );
    let connections = section.count(
        "refusal_connections",
        256,
        0..=1_000_000,
        "Trusted proxies that are read on from at once; further ones get 256KiB and 1s, as everybody else.",
    );
    let bytes = bytes.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    ProxyLinger { bounds: LingerBounds { bytes, time }, connections }
}

/// What `refusal_bytes` is unless it is set.
pub(super) fn refusal_bytes(routes: &[Route]) -> usize {
    let largest = routes.iter().filter_map(Route::checks).map(|checks| checks.max_body_bytes).max();
    largest.map_or(0, |bytes| bytes.saturating_mul(2)).max(2 << 20)
}

pub(super) fn buffer(root: &Section<'_>, sources: &Sources<'_>, auto: &mut Auto) -> Buffer {
    let section = root.section("buffer", "Where events are stored before they are answered.");
    section.fixed("engine", "sqlite", "The storage engine.");
    let max_bytes = section.parsed(
        "max_bytes",
        Kind::BytesOrAuto,
        Some("1GiB".into()),
        "Most that it may take on disk, and never more than the file system gives; then senders get 503. `auto` is 80 % of the file system.",
        parse_max_bytes,
    );
    let reserve = section.parsed(
        "reserve",
        Kind::Share,
        Some("10%".into()),
        "Share or size, at most half, that a route's backlog leaves to the others, equally among them; nothing where there is one route.",
        parse_reserve,
    );
    let require = section.choice(
        "require",
        Durability::Pod,
        &DURABILITIES,
        "What the data directory must outlive at least; less refuses to start.",
    );
    let dedupe_entries = section
        .count_or_auto(
            "dedupe_entries",
            1..=100_000_000,
            "Event ids that are remembered; the oldest give way. `auto` is what a quarter of the memory left for it holds, 1,000,000 at most.",
        )
        .unwrap_or_else(|| {
            auto.dedupe_entries = true;
            Auto::DEDUPE_ENTRIES_MAX
        });
    let Overrides { buffer_max_bytes, buffer_require, .. } = sources.overrides;
    Buffer {
        max_bytes: sources
            .optional_flag("--buffer-max-bytes", buffer_max_bytes.as_ref(), parse_max_bytes)
            .or(max_bytes)
            .unwrap_or(MaxBytes::Fixed(MaxBytes::DEFAULT_BYTES)),
        reserve: reserve.unwrap_or(Reserve::Percent(10)),
        require: sources
            .optional_flag("--buffer-require", buffer_require.as_ref(), |text| value::parse_choice(text, &DURABILITIES))
            .unwrap_or(require),
        dedupe_entries,
    }
}

fn parse_max_bytes(text: &str) -> Result<MaxBytes, Fault> {
    Ok(value::parse_or_auto(text, |text| value::parse_bytes(text, &BUFFER_BYTES))?
        .map_or(MaxBytes::Auto, MaxBytes::Fixed))
}

fn parse_reserve(text: &str) -> Result<Reserve, Fault> {
    match value::parse_percent(text, 50) {
        Some(percent) => percent.map(Reserve::Percent),
        None => value::parse_bytes(text, &RESERVE_BYTES).map(Reserve::Bytes),
    }
}

pub(super) fn delivery(root: &Section<'_>, warnings: &mut Vec<String>) -> Delivery {
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
    Delivery {
        retry,
        ordering: ordering(&section, warnings),
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

/// Off when absent, so that the defaults are those of an order that is asked for.
fn ordering(delivery: &Section<'_>, warnings: &mut Vec<String>) -> Option<Ordering> {
    let is_written = delivery.has("ordering");
    let section = delivery.section_or_off(
        "ordering",
        "Events with the same key go one at a time, in order; off when absent. Others are not ordered.",
    )?;
    let key = section.parsed(
        "key",
        Kind::Text,
        None,
        "JSON pointer to what events have in common that must stay in order, such as `/data/payload/id`.",
        parse_pointer,
    );
    let max_block = section.duration(
        "max_block",
        SECOND * 30,
        Duration::ZERO..=HOUR,
        "Longest time that an event which fails holds up those behind it.",
    );
    let reorder_window = section.duration(
        "reorder_window",
        Duration::ZERO,
        Duration::ZERO..=SECOND * 60,
        "How long an event waits for one whose `data.occurred_at` is before its own; `0s` is the order of arrival.",
    );
    if is_written && !section.is_broken() && !section.has("key") {
        section.own_fault(Fault::new("has no key", "write `key: /data/payload/id`, or leave ordering out"));
    }
    if section.has("key") && !section.has("reorder_window") {
        warnings.push(format!(
            "{}: the key alone keeps the order of arrival, and Telnyx sends out of order; write `reorder_window: 2s` beside it, or `0s` if arrival is meant",
            delivery.path_of("ordering")
        ));
    }
    Some(Ordering { key: key?, max_block, reorder_window })
}

/// A JSON pointer (RFC 6901) to something within an object.
fn parse_pointer(text: &str) -> Result<String, Fault> {
    if JsonPointer::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        format!("{} is not a JSON pointer", value::shown(text)),
        "write the member names from the outside in, such as /data/payload/id",
    ))
}

pub(super) fn shutdown(root: &Section<'_>) -> Shutdown {
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

pub(super) fn log(root: &Section<'_>, sources: &Sources<'_>) -> Log {
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
