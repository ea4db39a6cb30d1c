//! Every metric, by name. Label values are configured names or closed sets, never taken from a
//! request; every series exists from the start.

mod by_route;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
pub use prometheus::IntCounter;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::buffer::Stats;
use crate::buffer::event::State;
use crate::gate::event_key::NoKey;
use crate::rejection::Rejection;
use by_route::ByRoute;

/// Route label of requests that match no route.
pub const NO_ROUTE: &str = "none";
/// Event types with a series of their own; the set is open, so the rest is `other`.
const EVENT_TYPES: [&str; 20] = [
    "message.received",
    "message.sent",
    "message.finalized",
    "message.read",
    "call.initiated",
    "call.answered",
    "call.bridged",
    "call.hangup",
    "call.dtmf.received",
    "call.gather.ended",
    "call.playback.started",
    "call.playback.ended",
    "call.speak.started",
    "call.speak.ended",
    "call.recording.saved",
    "call.machine.detection.ended",
    "conference.created",
    "conference.ended",
    "fax.received",
    "fax.delivered",
];
/// Bounds at which connections give way.
pub const CONNECTION_BOUNDS: [&str; 3] = ["connections", "connections_per_client", "strangers"];
/// Label of event types without a series of their own.
const OTHER: &str = "other";

const ACK_BUCKETS_S: [f64; 12] = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0];
const BODY_BUCKETS_BYTES: [f64; 8] = [256.0, 512.0, 1024.0, 2048.0, 4096.0, 16_384.0, 65_536.0, 1_048_576.0];
const SKEW_BUCKETS_S: [f64; 9] = [0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 300.0];
const COMMIT_BUCKETS_S: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];
const GROUP_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const DELIVERY_BUCKETS_S: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];
const END_TO_END_BUCKETS_S: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 300.0, 3600.0];

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    families: RouteFamilies,
    by_route: Vec<Box<dyn ByRoute>>,
    routes: ArcSwap<HashMap<Arc<str>, Arc<RouteMetrics>>>,
    none: Arc<RouteMetrics>,
    /// Requests being handled.
    pub requests_in_flight: IntGauge,
    /// Open connections of the public side.
    pub connections: IntGauge,
    /// Connections that found no room.
    pub connections_refused: IntCounter,
    connections_gave_way: IntCounterVec,
    /// Checks of signatures of clients that keep failing.
    pub signature_checks_in_turn: IntCounter,
    /// Clients that were cut off after an answer while they were sending.
    pub refusals_cut: IntCounter,
    /// Bound of open connections in force.
    pub connections_limit: IntGauge,
    /// Bound of the memory for bodies in force.
    pub body_memory_limit_bytes: IntGauge,
    /// Bodies that made no progress while memory was short.
    pub bodies_gave_way: IntCounter,
    /// Open connections of the admin side, over TCP and its socket.
    pub admin_connections: IntGauge,
    /// Connections of the admin side beyond its bound.
    pub admin_connections_refused: IntCounter,
    admin_rejections: HashMap<&'static str, IntCounter>,
    /// Connections that did not get through the TLS handshake.
    pub tls_handshake_failures: IntCounter,
    tls_not_after_s: IntGaugeVec,
    /// Time of one commit.
    pub commit_duration_s: Histogram,
    /// Events of one commit.
    pub commit_events: Histogram,
    /// Commits refused for want of room.
    pub buffer_errors_full: IntCounter,
    /// Commits that failed.
    pub buffer_errors_failed: IntCounter,
    /// Logs that the medium has damaged, found at start.
    pub buffer_errors_damaged: IntCounter,
    /// 1 from a failure on until the buffer has been opened again.
    pub buffer_failed: IntGauge,
    /// Events that an earlier run has left.
    pub recovered_events: IntGauge,
    /// Bound of the buffer.
    capacity_bytes: IntGauge,
    /// Panics caught at a task's edge.
    pub panics: IntCounter,
    /// Reloads that took effect.
    pub reloads_succeeded: IntCounter,
    /// Reloads that changed nothing, since something was wrong.
    pub reloads_failed: IntCounter,
    /// When the configuration in force was read, Unix time.
    pub last_reload_success_s: IntGauge,
    /// 1 unless the configuration that was read last was refused.
    pub last_reload_successful: IntGauge,
    buffer_events: [IntGauge; State::ALL.len()],
    buffer_bytes: IntGauge,
    oldest_pending_s: Gauge,
    log_lines_dropped: IntCounter,
    log_lines_dropped_seen: AtomicU64,
    quarantined: IntCounter,
    /// Of these, those that the engine which is open now has counted: it begins at zero.
    quarantined_seen: AtomicU64,
    dedupe_entries: IntGauge,
    dedupe_window_s: Gauge,
}

/// The series of one route.
pub struct RouteMetrics {
    /// Outcome `accepted`.
    pub accepted: IntCounter,
    /// Outcome `duplicate`.
    pub duplicate: IntCounter,
    /// Outcome `passed`: found genuine, or answered by the app.
    pub passed: IntCounter,
    rejected: IntCounter,
    failed: IntCounter,
    rejections: HashMap<&'static str, IntCounter>,
    would_reject: HashMap<&'static str, IntCounter>,
    /// From the complete header to the answer.
    pub ack_duration_s: Histogram,
    /// Sizes of bodies read.
    pub body_bytes: Histogram,
    /// How far the signed timestamps of verified events lie in the past and in the future.
    skew_s: [Histogram; 2],
    verified_by: HashMap<Arc<str>, IntCounter>,
    unverified: IntCounter,
    events: HashMap<&'static str, IntCounter>,
    provider_attempts: [IntCounter; 3],
    without_key: [IntCounter; NoKey::ALL.len()],
    /// Attempts answered 2xx.
    pub delivered: IntCounter,
    /// Attempts to be repeated.
    pub retried: IntCounter,
    /// Attempts after which the event was given up.
    pub dead: IntCounter,
    /// Answers of the app whose end did not come.
    pub unfinished_answers: IntCounter,
    /// Dead letters and quarantined events dropped at the end of their keep.
    pub expired: IntCounter,
    /// Events that an operator threw away.
    pub discarded: IntCounter,
    /// Attempts that came back to hookward.
    pub loops: IntCounter,
    /// Time of one attempt.
    pub delivery_duration_s: Histogram,
    /// From receipt to the app's 2xx.
    pub end_to_end_s: Histogram,
    /// Attempts that may be under way at once.
    pub concurrency_limit: IntGauge,
    /// Whether the app is tried.
    pub upstream_state: IntGauge,
    /// Until when the app wants to be left alone, Unix time.
    pub upstream_held_until_s: IntGauge,
    /// Addresses of the app.
    pub upstream_addresses: IntGauge,
    /// Those of them that could not be reached lately.
    pub upstream_addresses_set_aside: IntGauge,
    /// Whether the app's name could not be looked up.
    pub upstream_look_up_failing: IntGauge,
    /// Since when an operator has stopped its deliveries, Unix time.
    pub upstream_paused_since_s: IntGauge,
}

impl RouteMetrics {
    /// Counts a refusal, by outcome and by reason.
    pub fn reject(&self, rejection: Rejection) {
        if rejection.is_ours() { &self.failed } else { &self.rejected }.inc();
        if let Some(counter) = self.rejections.get(rejection.reason()) {
            counter.inc();
        }
    }

    /// Counts what a check in `report` mode would have refused.
    pub fn would_reject(&self, rejection: Rejection) {
        if let Some(counter) = self.would_reject.get(rejection.reason()) {
            counter.inc();
        }
    }

    /// Counts how far from now a signed timestamp lies: `skew_s` is now minus the timestamp.
    pub fn skew(&self, skew_s: i64) {
        #[allow(clippy::cast_precision_loss, reason = "for a histogram")]
        self.skew_s[usize::from(skew_s < 0)].observe(skew_s.unsigned_abs() as f64);
    }

    /// Counts the outcome of trying the keys.
    pub fn verified(&self, key: Option<&str>) {
        key.and_then(|key| self.verified_by.get(key)).unwrap_or(&self.unverified).inc();
    }

    /// Counts a verified event whose repeats cannot be recognised.
    pub fn named(&self, no_key: Option<NoKey>) {
        match no_key {
            None => {}
            Some(NoKey::Missing) => self.without_key[0].inc(),
            Some(NoKey::TooLong) => self.without_key[1].inc(),
        }
    }

    /// Counts an accepted event by its type and by the sender's own count of attempts.
    pub fn event(&self, event_type: Option<&str>, provider_attempt: Option<u64>) {
        let counter = event_type.and_then(|name| self.events.get(name)).or_else(|| self.events.get(OTHER));
        if let Some(counter) = counter {
            counter.inc();
        }
        self.repeat(provider_attempt);
    }

    /// Counts by the sender's own count of attempts, of repeats too.
    pub fn repeat(&self, provider_attempt: Option<u64>) {
        if let Some(attempt) = provider_attempt {
            self.provider_attempts[usize::try_from(attempt.saturating_sub(1)).unwrap_or(2).min(2)].inc();
        }
    }
}

/// A route as metrics need to know it.
pub struct RouteLabels {
    /// Its name.
    pub name: Arc<str>,
    /// The names of its keys.
    pub keys: Vec<Arc<str>>,
}

/// Registers families; names get their prefix here.
struct Families<'r> {
    registry: &'r Registry,
    by_route: RefCell<Vec<Box<dyn ByRoute>>>,
}

impl Families<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> prometheus::Result<C> {
        let collector = made?;
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    /// A family with labels; one by route loses its series when the route goes.
    fn labelled<C>(&self, made: prometheus::Result<C>, labels: &[&str]) -> prometheus::Result<C>
    where
        C: Collector + ByRoute + Clone + 'static,
    {
        let family = self.add(made)?;
        if labels.contains(&"route") {
            self.by_route.borrow_mut().push(Box::new(family.clone()));
        }
        Ok(family)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.labelled(IntCounterVec::new(opts(name, help), labels), labels)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.labelled(IntGaugeVec::new(opts(name, help), labels), labels)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    fn seconds_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::with_opts(opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(histogram_opts(name, help, buckets)))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> prometheus::Result<HistogramVec> {
        self.labelled(HistogramVec::new(histogram_opts(name, help, buckets), labels), labels)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("hookward_{name}"), help)
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(format!("hookward_{name}"), help).buckets(buckets.to_vec())
}

/// The families that have one series per route.
struct RouteFamilies {
    requests: IntCounterVec,
    rejections: IntCounterVec,
    would_reject: IntCounterVec,
    ack_duration_s: HistogramVec,
    body_bytes: HistogramVec,
    skew_s: HistogramVec,
    verifications: IntCounterVec,
    events: IntCounterVec,
    provider_attempts: IntCounterVec,
    without_key: IntCounterVec,
    deliveries: IntCounterVec,
    expired: IntCounterVec,
    delivery_duration_s: HistogramVec,
    end_to_end_s: HistogramVec,
    concurrency_limit: IntGaugeVec,
    upstream_state: IntGaugeVec,
    discarded: IntCounterVec,
    unfinished_answers: IntCounterVec,
    upstream_held_until_s: IntGaugeVec,
    upstream_addresses: IntGaugeVec,
    upstream_addresses_set_aside: IntGaugeVec,
    upstream_look_up_failing: IntGaugeVec,
    upstream_paused_since_s: IntGaugeVec,
    loops: IntCounterVec,
}

/// The series of each rejection, by its reason, which is the last label.
fn reasons(family: &IntCounterVec, labels: &[&str], rejections: &[Rejection]) -> HashMap<&'static str, IntCounter> {
    let series = |reason| family.with_label_values(&[labels, &[reason]].concat());
    rejections.iter().map(|rejection| (rejection.reason(), series(rejection.reason()))).collect()
}

impl RouteFamilies {
    fn new(add: &Families<'_>) -> prometheus::Result<Self> {
        Ok(RouteFamilies {
            requests: add.counters("requests_total", "Requests by outcome.", &["route", "outcome"])?,
            rejections: add.counters("rejections_total", "Refused requests by reason.", &["route", "reason"])?,
            would_reject: add.counters(
                "would_reject_total",
                "What checks in report mode would have refused.",
                &["route", "reason"],
            )?,
            ack_duration_s: add.histograms(
                "ack_duration_seconds",
                "From the complete request header to the answer.",
                &ACK_BUCKETS_S,
                &["route"],
            )?,
            body_bytes: add.histograms(
                "request_body_bytes",
                "Sizes of the bodies read.",
                &BODY_BUCKETS_BYTES,
                &["route"],
            )?,
            skew_s: add.histograms(
                "timestamp_skew_seconds",
                "How far the timestamp lies from now, of requests whose signature is genuine.",
                &SKEW_BUCKETS_S,
                &["route", "side"],
            )?,
            verifications: add.counters(
                "signature_verifications_total",
                "Signature checks by the key that matched (valid) or none (invalid).",
                &["route", "key", "result"],
            )?,
            events: add.counters("events_total", "Accepted events by type.", &["route", "event_type"])?,
            provider_attempts: add.counters(
                "provider_attempts_total",
                "Accepted and repeated events by the sender's count of attempts.",
                &["route", "attempt"],
            )?,
            without_key: add.counters(
                "events_without_key_total",
                "Verified events that have neither `dedupe.key` nor `data.id`: their repeats are not recognised.",
                &["route", "reason"],
            )?,
            deliveries: add.counters("delivery_attempts_total", "Attempts by result.", &["route", "result"])?,
            expired: add.counters(
                "events_expired_total",
                "Dead letters and quarantined events dropped at the end of dead_letter.keep.",
                &["route"],
            )?,
            delivery_duration_s: add.histograms(
                "delivery_duration_seconds",
                "Time of one attempt at the app.",
                &DELIVERY_BUCKETS_S,
                &["route"],
            )?,
            end_to_end_s: add.histograms(
                "end_to_end_seconds",
                "From receipt to the app's 2xx.",
                &END_TO_END_BUCKETS_S,
                &["route"],
            )?,
            concurrency_limit: add.gauges(
                "upstream_concurrency_limit",
                "Attempts that may be under way at once, now; at most upstream.max_concurrency.",
                &["route"],
            )?,
            loops: add.counters(
                "delivery_loops_total",
                "Attempts refused since the upstream leads back to hookward.",
                &["route"],
            )?,
            discarded: add.counters("events_discarded_total", "Events that an operator threw away.", &["route"])?,
            upstream_held_until_s: add.gauges(
                "upstream_held_until_timestamp_seconds",
                "Until when the app wants to be left alone (Retry-After), Unix time; 0 if it does not.",
                &["route"],
            )?,
            upstream_addresses: add.gauges(
                "upstream_addresses",
                "Addresses of the app that are known: those of its name, or one.",
                &["route"],
            )?,
            upstream_addresses_set_aside: add.gauges(
                "upstream_addresses_set_aside",
                "Addresses of the app that could not be reached: the others go first for a while.",
                &["route"],
            )?,
            upstream_look_up_failing: add.gauges(
                "upstream_look_up_failing",
                "1 while the app's name cannot be looked up.",
                &["route"],
            )?,
            upstream_paused_since_s: add.gauges(
                "upstream_paused_since_timestamp_seconds",
                "Since when deliveries are paused by an operator, Unix time; 0 if they are not.",
                &["route"],
            )?,
            unfinished_answers: add.counters(
                "upstream_unfinished_answers_total",
                "Answers of the app that counted by their status, though their end did not come.",
                &["route"],
            )?,
            upstream_state: add.gauges(
                "upstream_state",
                "Whether the app is tried: 0 closed (it is), 1 half-open, 2 open.",
                &["route"],
            )?,
        })
    }

    fn route(&self, route: &RouteLabels) -> RouteMetrics {
        let name = &*route.name;
        let outcome = |outcome| self.requests.with_label_values(&[name, outcome]);
        let valid = |key: &Arc<str>| (key.clone(), self.verifications.with_label_values(&[name, key, "valid"]));
        RouteMetrics {
            accepted: outcome("accepted"),
            duplicate: outcome("duplicate"),
            passed: outcome("passed"),
            rejected: outcome("rejected"),
            failed: outcome("failed"),
            rejections: reasons(&self.rejections, &[name], &Rejection::ALL),
            would_reject: reasons(&self.would_reject, &[name], &Rejection::REPORTABLE),
            ack_duration_s: self.ack_duration_s.with_label_values(&[name]),
            body_bytes: self.body_bytes.with_label_values(&[name]),
            skew_s: ["past", "future"].map(|side| self.skew_s.with_label_values(&[name, side])),
            verified_by: route.keys.iter().map(valid).collect(),
            unverified: self.verifications.with_label_values(&[name, NO_ROUTE, "invalid"]),
            events: EVENT_TYPES
                .into_iter()
                .chain([OTHER])
                .map(|kind| (kind, self.events.with_label_values(&[name, kind])))
                .collect(),
            provider_attempts: ["1", "2", "3+"]
                .map(|attempt| self.provider_attempts.with_label_values(&[name, attempt])),
            without_key: NoKey::ALL.map(|no_key| self.without_key.with_label_values(&[name, no_key.name()])),
            delivered: self.deliveries.with_label_values(&[name, "delivered"]),
            retried: self.deliveries.with_label_values(&[name, "retry"]),
            dead: self.deliveries.with_label_values(&[name, "dead"]),
            unfinished_answers: self.unfinished_answers.with_label_values(&[name]),
            expired: self.expired.with_label_values(&[name]),
            discarded: self.discarded.with_label_values(&[name]),
            loops: self.loops.with_label_values(&[name]),
            delivery_duration_s: self.delivery_duration_s.with_label_values(&[name]),
            end_to_end_s: self.end_to_end_s.with_label_values(&[name]),
            concurrency_limit: self.concurrency_limit.with_label_values(&[name]),
            upstream_state: self.upstream_state.with_label_values(&[name]),
            upstream_held_until_s: self.upstream_held_until_s.with_label_values(&[name]),
            upstream_addresses: self.upstream_addresses.with_label_values(&[name]),
            upstream_addresses_set_aside: self.upstream_addresses_set_aside.with_label_values(&[name]),
            upstream_look_up_failing: self.upstream_look_up_failing.with_label_values(&[name]),
            upstream_paused_since_s: self.upstream_paused_since_s.with_label_values(&[name]),
        }
    }
}

impl Metrics {
    /// Registers every metric for these routes.
    ///
    /// # Errors
    /// Two families of one name, which a test rules out.
    pub fn new(routes: &[RouteLabels]) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let add = Families { registry: &registry, by_route: RefCell::default() };
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = add.gauges("build_info", "The version that runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let families = RouteFamilies::new(&add)?;
        let events = add.gauges("buffer_events", "Events in the buffer by state.", &["state"])?;
        let errors = add.counters("buffer_errors_total", "Commits that were refused or failed.", &["kind"])?;
        let reloads = add.counters(
            "config_reloads_total",
            "Reloads of the configuration by result; a failed one changes nothing.",
            &["result"],
        )?;
        let gave_way = add.counters(
            "connections_gave_way_total",
            "Connections closed while they waited for a request, as one more came, by the bound that was reached.",
            &["bound"],
        )?;
        for bound in CONNECTION_BOUNDS {
            gave_way.with_label_values(&[bound]);
        }
        let metrics = Metrics {
            none: Arc::new(families.route(&RouteLabels { name: NO_ROUTE.into(), keys: vec![] })),
            routes: ArcSwap::default(),
            families,
            reloads_succeeded: reloads.with_label_values(&["success"]),
            reloads_failed: reloads.with_label_values(&["failure"]),
            last_reload_success_s: add.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in force was read, Unix time.",
            )?,
            last_reload_successful: add.gauge(
                "config_last_reload_successful",
                "Whether the configuration as it was read last is in force: 1, or 0 while it is refused.",
            )?,
            requests_in_flight: add.gauge("requests_in_flight", "Requests being handled.")?,
            connections: add.gauge("connections", "Open connections of the public side.")?,
            connections_refused: add.counter(
                "connections_refused_total",
                "Connections that found no room: whatever could have given way had a request in progress.",
            )?,
            connections_gave_way: gave_way,
            signature_checks_in_turn: add.counter(
                "signature_checks_in_turn_total",
                "Signature checks of clients whose signatures keep failing, within a quarter of the time.",
            )?,
            refusals_cut: add
                .counter("refusals_cut_total", "Answers after which a client still sent when it was cut off.")?,
            connections_limit: add.gauge(
                "connections_limit",
                "Bound of open connections in force, limits.connections or what memory and open files allow.",
            )?,
            body_memory_limit_bytes: add.gauge(
                "body_memory_limit_bytes",
                "Bound of the memory for bodies in force, limits.body_memory or what memory allows.",
            )?,
            bodies_gave_way: add.counter(
                "bodies_gave_way_total",
                "Bodies that made no progress while the memory for bodies was short, answered 503.",
            )?,
            admin_connections: add.gauge("admin_connections", "Open connections of the admin side.")?,
            admin_connections_refused: add.counter(
                "admin_connections_refused_total",
                "Connections of the admin side that were closed since too many were open.",
            )?,
            admin_rejections: reasons(
                &add.counters(
                    "admin_rejections_total",
                    "Requests to the admin side that were no HTTP or broke a bound.",
                    &["reason"],
                )?,
                &[],
                &Rejection::OF_HEADERS,
            ),
            tls_handshake_failures: add
                .counter("tls_handshake_failures_total", "Connections that did not get through the TLS handshake.")?,
            tls_not_after_s: add.gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "When the certificate ends, Unix time.",
                &["listener"],
            )?,
            commit_duration_s: add.histogram(
                "buffer_commit_duration_seconds",
                "Time of one commit, the sync included.",
                &COMMIT_BUCKETS_S,
            )?,
            commit_events: add.histogram("buffer_commit_events", "Events of one commit.", &GROUP_BUCKETS)?,
            buffer_errors_full: errors.with_label_values(&["full"]),
            buffer_errors_failed: errors.with_label_values(&["failed"]),
            buffer_errors_damaged: errors.with_label_values(&["damaged"]),
            buffer_failed: add
                .gauge("buffer_failed", "1 while the buffer has failed and is not open again, else 0.")?,
            recovered_events: add.gauge("buffer_recovered_events", "Undelivered events that the last start found.")?,
            capacity_bytes: add.gauge(
                "buffer_capacity_bytes",
                "Most that the buffer may take: buffer.max_bytes, or what the file system gives if that is less.",
            )?,
            panics: add.counter("process_panics_total", "Panics; each costs one connection or attempt.")?,
            buffer_events: State::ALL.map(|state| events.with_label_values(&[state.name()])),
            buffer_bytes: add.gauge("buffer_bytes", "Used pages and write-ahead log.")?,
            oldest_pending_s: add.seconds_gauge(
                "buffer_oldest_pending_timestamp_seconds",
                "When the oldest undelivered event was received, Unix time; 0 if there is none.",
            )?,
            log_lines_dropped: add
                .counter("log_lines_dropped_total", "Log lines that stderr took too slowly or not at all.")?,
            log_lines_dropped_seen: AtomicU64::new(0),
            quarantined: add
                .counter("buffer_quarantined_events_total", "Rows whose checksum failed; never forwarded.")?,
            quarantined_seen: AtomicU64::new(0),
            dedupe_entries: add.gauge("dedupe_entries", "Event ids that are remembered.")?,
            dedupe_window_s: add.seconds_gauge(
                "dedupe_effective_window_seconds",
                "How far back ids are remembered; shorter than configured when dedupe_entries or max_bytes is reached.",
            )?,
            by_route: add.by_route.into_inner(),
            registry,
        };
        metrics.set_routes(routes);
        Ok(metrics)
    }

    /// Makes the series of these routes and removes those of all others. A series goes on where its route
    /// goes on, and begins at zero where a route comes back. Events and requests of a route that is gone
    /// cannot bring its series back.
    pub fn set_routes(&self, routes: &[RouteLabels]) {
        let series: HashMap<_, _> =
            routes.iter().map(|route| (route.name.clone(), Arc::new(self.families.route(route)))).collect();
        for route in series.values() {
            // Measured again by the next scrape, if the route stores events still.
            route.upstream_state.set(0);
            route.upstream_held_until_s.set(0);
            route.upstream_paused_since_s.set(0);
            route.concurrency_limit.set(0);
        }
        self.routes.store(Arc::new(series));
        self.by_route.iter().for_each(|family| family.retain(routes));
    }

    /// The series of a route; those of `none` for a route that is not configured.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.configured_route(name).unwrap_or_else(|| self.none.clone())
    }

    /// The series of a route, if it is configured.
    pub fn configured_route(&self, name: &str) -> Option<Arc<RouteMetrics>> {
        self.routes.load().get(name).cloned()
    }

    /// When the certificate of a listener ends, Unix time; the label is its address as configured.
    pub fn tls_not_after_s(&self, listener: &str) -> IntGauge {
        self.tls_not_after_s.with_label_values(&[listener])
    }

    /// Connections that gave way at this bound, one of [`CONNECTION_BOUNDS`].
    pub fn connections_gave_way(&self, bound: &str) -> IntCounter {
        self.connections_gave_way.with_label_values(&[bound])
    }

    /// The series of requests that match no route.
    pub fn no_route(&self) -> &Arc<RouteMetrics> {
        &self.none
    }

    /// Takes over what the buffer counts itself.
    pub fn set_buffer(&self, stats: &Stats) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (gauge, count) in self.buffer_events.iter().zip(stats.events) {
            gauge.set(signed(count));
        }
        self.buffer_bytes.set(signed(stats.used_bytes));
        self.capacity_bytes.set(signed(stats.capacity_bytes));
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of this century fit a double")]
        {
            self.oldest_pending_s.set(stats.oldest_pending_unix_ms.map_or(0.0, |ms| ms as f64 / 1000.0));
            self.dedupe_window_s.set(stats.dedupe_window_ms as f64 / 1000.0);
        }
        let seen = self.quarantined_seen.swap(stats.quarantined, Ordering::Relaxed);
        self.quarantined.inc_by(stats.quarantined.checked_sub(seen).unwrap_or(stats.quarantined));
        self.dedupe_entries.set(signed(stats.dedupe_entries));
    }

    /// Counts what the admin side did not take for a request.
    pub fn reject_admin(&self, rejection: Rejection) {
        if let Some(counter) = self.admin_rejections.get(rejection.reason()) {
            counter.inc();
        }
    }

    /// Takes over what the log counts itself.
    pub fn set_log(&self, lines_dropped: u64) {
        // Never backwards, where two scrapes meet.
        let seen = self.log_lines_dropped_seen.fetch_max(lines_dropped, Ordering::Relaxed);
        self.log_lines_dropped.inc_by(lines_dropped.saturating_sub(seen));
    }

    /// Writes everything in the Prometheus text format.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, mut out: impl Write) -> prometheus::Result<()> {
        TextEncoder::new().encode(&self.registry.gather(), &mut out)
    }

    /// Everything in the Prometheus text format.
    ///
    /// # Errors
    /// None that is known: encoding into memory.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.write_to(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Metrics of a route `default` with a key `key1`.
    pub(crate) fn metrics() -> Metrics {
        Metrics::new(&[RouteLabels { name: "default".into(), keys: vec!["key1".into()] }]).unwrap()
    }

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let text = String::from_utf8(metrics().encode().unwrap()).unwrap();
        for line in [
            r#"hookward_requests_total{outcome="accepted",route="default"} 0"#,
            r#"hookward_requests_total{outcome="passed",route="none"} 0"#,
            r#"hookward_rejections_total{reason="buffer_full",route="default"} 0"#,
            r#"hookward_would_reject_total{reason="ip_denied",route="default"} 0"#,
            r#"hookward_signature_verifications_total{key="key1",result="valid",route="default"} 0"#,
            r#"hookward_signature_verifications_total{key="none",result="invalid",route="default"} 0"#,
            r#"hookward_events_total{event_type="other",route="default"} 0"#,
            r#"hookward_provider_attempts_total{attempt="3+",route="default"} 0"#,
            r#"hookward_delivery_attempts_total{result="dead",route="default"} 0"#,
            r#"hookward_buffer_events{state="quarantined"} 0"#,
            "hookward_buffer_oldest_pending_timestamp_seconds 0",
            "hookward_buffer_quarantined_events_total 0",
            "hookward_process_panics_total 0",
            r#"hookward_ack_duration_seconds_count{route="default"} 0"#,
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    fn text_of(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode().unwrap()).unwrap()
    }

    fn routes(names: &[&str]) -> Vec<RouteLabels> {
        names.iter().map(|name| RouteLabels { name: (*name).into(), keys: vec!["key1".into()] }).collect()
    }

    #[test]
    fn thirty_reloads_that_rename_twenty_routes_leave_as_many_series_as_there_were() {
        let named = |generation: i32| -> Vec<_> {
            let name = |n: i32| format!("g{generation}-{n}");
            (0..20).map(|n| RouteLabels { name: name(n).into(), keys: vec![name(n).into()] }).collect()
        };
        let metrics = Metrics::new(&named(0)).unwrap();
        let lines = text_of(&metrics).lines().count();
        for generation in 1..=30 {
            metrics.set_routes(&named(generation));
        }
        let text = text_of(&metrics);
        assert_eq!(text.lines().count(), lines);
        assert!(!text.contains("\"g29-") && text.contains("\"g30-"));
    }

    #[test]
    fn a_route_that_goes_on_counts_on_and_one_that_comes_back_begins_at_zero() {
        let metrics = Metrics::new(&routes(&["stays", "goes"])).unwrap();
        let (stays, goes) = (metrics.route("stays"), metrics.route("goes"));
        stays.accepted.inc();
        goes.accepted.inc();
        goes.upstream_state.set(2);
        metrics.set_routes(&routes(&["stays"]));
        // A request under way, and an event in the buffer.
        goes.accepted.inc();
        metrics.route("goes").delivered.inc();
        let text = text_of(&metrics);
        assert!(!text.contains("\"goes\""), "{text}");
        assert!(text.contains(r#"hookward_requests_total{outcome="accepted",route="stays"} 1"#));
        assert!(text.contains(r#"hookward_delivery_attempts_total{result="delivered",route="none"} 1"#));
        metrics.set_routes(&routes(&["stays", "goes"]));
        stays.accepted.inc();
        let text = text_of(&metrics);
        assert!(text.contains(r#"hookward_requests_total{outcome="accepted",route="stays"} 2"#));
        assert!(text.contains(r#"hookward_requests_total{outcome="accepted",route="goes"} 0"#));
    }

    #[test]
    fn the_series_of_a_key_go_with_the_key() {
        let metrics = Metrics::new(&routes(&["a", "b"])).unwrap();
        metrics.route("a").verified(Some("key1"));
        metrics.route("a").verified(None);
        let mut rotated = routes(&["a", "b"]);
        rotated[0].keys = vec!["key2".into()];
        metrics.set_routes(&rotated);
        let text = text_of(&metrics);
        let series = |key, result, route| {
            text.contains(&format!(r#"_verifications_total{{key="{key}",result="{result}",route="{route}"}}"#))
        };
        assert!(series("key2", "valid", "a") && series("none", "invalid", "a") && series("key1", "valid", "b"));
        assert!(!series("key1", "valid", "a"), "{text}");
    }

    #[test]
    fn refusals_count_by_whose_fault_they_are() {
        let metrics = metrics();
        let route = metrics.route("default");
        route.reject(Rejection::SignatureMismatch);
        route.reject(Rejection::BufferFull);
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        for line in [
            r#"hookward_requests_total{outcome="rejected",route="default"} 1"#,
            r#"hookward_requests_total{outcome="failed",route="default"} 1"#,
            r#"hookward_rejections_total{reason="signature_mismatch",route="default"} 1"#,
            r#"hookward_rejections_total{reason="buffer_full",route="default"} 1"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn what_an_engine_sets_aside_is_counted_after_it_was_opened_again_too() {
        let metrics = metrics();
        for quarantined in [2, 3, 0, 1] {
            metrics.set_buffer(&Stats { quarantined, ..Stats::default() });
        }
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        assert!(text.contains("hookward_buffer_quarantined_events_total 4"), "{text}");
    }

    #[test]
    fn the_senders_attempts_are_one_two_or_more() {
        let metrics = metrics();
        let route = metrics.route("default");
        for attempt in [0, 1, 2, 3, 99] {
            route.event(Some("message.sent"), Some(attempt));
        }
        route.event(Some("never.heard.of"), None);
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        for line in [
            r#"hookward_provider_attempts_total{attempt="1",route="default"} 2"#,
            r#"hookward_provider_attempts_total{attempt="2",route="default"} 1"#,
            r#"hookward_provider_attempts_total{attempt="3+",route="default"} 2"#,
            r#"hookward_events_total{event_type="message.sent",route="default"} 5"#,
            r#"hookward_events_total{event_type="other",route="default"} 1"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
