//! What the demo sends, what must come back, and what the app must get.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fastrand::Rng;
use http::{HeaderName, HeaderValue, Method};

use super::setup::MAX_BODY_BYTES;
use super::sink::{Received, Sink};
use super::{DemoError, TELNYX_ADDRESS};
use crate::cli::keygen;
use crate::cli::sample::{EventType, MessageType, Sample};
use crate::cli::send::plan::{Expected, Seen};
use crate::cli::send::player::signed_headers;
use crate::client::{Client, Destination, Timeouts};
use crate::clock::{Clock as _, SystemClock};
use crate::rejection::Rejection;

const PATH: &str = "/webhooks";
/// An address for documentation, on no allowlist.
const STRANGER: &str = "203.0.113.9";
/// Beyond the tolerance of 300 s.
const LATE_S: i64 = 400;

/// One request of the tour.
struct Step {
    what: &'static str,
    method: Method,
    from: &'static str,
    key: SigningKey,
    timestamp_s: i64,
    body: Vec<u8>,
    expected: Expected,
    /// The statuses that the app is to answer with; none: it must not get the request.
    app: &'static [u16],
}

/// A step that was taken.
#[derive(Debug)]
struct Taken {
    what: &'static str,
    answer: String,
    got: String,
    ok: bool,
}

/// The sender of the demo.
pub(super) struct Tour {
    client: Client,
    url: String,
    key: SigningKey,
    forger: SigningKey,
    clock: SystemClock,
}

impl Tour {
    /// Traffic towards this address, signed by this key.
    pub(super) fn new(public: SocketAddr, key: SigningKey) -> Result<Tour, DemoError> {
        let destination = Destination::Tcp { host: public.ip().to_string(), port: public.port(), tls: None };
        let bound = Duration::from_secs(10);
        let client = Client::new(destination, Timeouts { connect: bound, total: bound, idle: bound })?;
        let forger = keygen::generate()?;
        Ok(Tour { client, url: format!("http://{public}{PATH}"), key, forger, clock: SystemClock::new() })
    }

    /// Takes every step, one after the other.
    pub(super) async fn walk(&self, sink: &Sink) -> Report {
        let mut report = Report { taken: Vec::new(), strays: 0 };
        let begun = sink.total();
        let mut wanted = 0;
        for step in self.steps() {
            let down = step.app.iter().filter(|status| **status == 503).count();
            sink.fail_next(u32::try_from(down).unwrap_or_default());
            wanted += step.app.len();
            report.taken.push(self.take(step, sink).await);
        }
        // What should have been kept from the app, and reached it late.
        report.strays = sink.total().saturating_sub(begun + wanted);
        report
    }

    /// Sends one request, and waits until the app has got what it is to get of it.
    async fn take(&self, step: Step, sink: &Sink) -> Taken {
        let before = sink.total();
        let mut headers = signed_headers(&step.key, step.timestamp_s, &step.body);
        headers.push((HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(step.from)));
        let seen = Seen::from(self.client.exchange(&step.method, PATH.as_bytes(), &headers, &step.body).await);
        let arrived = sink.wait_for(before, step.app.len()).await;
        let intact = arrived.iter().all(|request| request.body == step.body);
        let statuses: Vec<_> = arrived.iter().map(|request| request.status).collect();
        Taken {
            what: step.what,
            answer: seen.label(),
            got: got(&arrived, intact),
            ok: step.expected.is_met_by(&seen, false) && intact && statuses == step.app,
        }
    }

    fn steps(&self) -> Vec<Step> {
        let now_ms = self.clock.unix_ms();
        let now_s = now_ms.div_euclid(1000);
        let mut random = Rng::new();
        let mut sample = |event_type, message| Sample::new(event_type, message, now_ms, &mut random);
        let sms = sample(EventType::Received, MessageType::Sms);
        let mms = sample(EventType::Received, MessageType::Mms);
        let sent = sample(EventType::Sent, MessageType::Sms);
        let finalized = sample(EventType::Finalized, MessageType::Sms);
        let mut refused = |what, rejection| {
            let body = sample(EventType::Received, MessageType::Sms).body(1, &self.url);
            self.step(what, body, Expected::Refused(rejection), now_s)
        };
        let mut forged = refused("an SMS signed by somebody else", Rejection::SignatureMismatch);
        forged.key = self.forger.clone();
        let mut stale = refused("an SMS signed 400 s ago", Rejection::TimestampStale { skew_s: LATE_S });
        stale.timestamp_s = now_s - LATE_S;
        let mut future = refused("an SMS signed 400 s ahead", Rejection::TimestampFuture { skew_s: -LATE_S });
        future.timestamp_s = now_s + LATE_S;
        let mut stranger = refused("an SMS from an address that is not Telnyx's", Rejection::IpDenied);
        stranger.from = STRANGER;
        let mut large = refused("a body larger than the route allows", Rejection::BodyTooLarge);
        large.body = vec![b'x'; MAX_BODY_BYTES + 1];
        let mut get = refused("a GET instead of a POST", Rejection::MethodNotAllowed);
        get.method = Method::GET;
        get.body.clear();

        let accepted = |what, sample: &Sample, app| Step {
            app,
            ..self.step(what, sample.body(1, &self.url), Expected::Accepted, now_s)
        };
        vec![
            accepted("an SMS (message.received)", &sms, &[200]),
            accepted("an MMS (message.received)", &mms, &[200]),
            accepted("a receipt (message.sent)", &sent, &[200]),
            self.step(
                "the SMS once more, as Telnyx's second attempt",
                sms.body(2, &self.url),
                Expected::Duplicate,
                now_s,
            ),
            forged,
            stale,
            future,
            stranger,
            large,
            get,
            accepted("a receipt (message.finalized) while the app is down", &finalized, &[503, 200]),
        ]
    }

    /// A genuine request that the app does not get.
    fn step(&self, what: &'static str, body: Vec<u8>, expected: Expected, timestamp_s: i64) -> Step {
        Step {
            what,
            method: Method::POST,
            from: TELNYX_ADDRESS,
            key: self.key.clone(),
            timestamp_s,
            body,
            expected,
            app: &[],
        }
    }
}

/// What the app got of one step, in words.
fn got(arrived: &[Arc<Received>], intact: bool) -> String {
    let attempts: Vec<_> = arrived
        .iter()
        .map(|request| format!("attempt {} (it answered {})", request.header("hookward-attempt"), request.status))
        .collect();
    match (attempts.is_empty(), intact) {
        (true, _) => "nothing".to_owned(),
        (false, true) => attempts.join(", "),
        (false, false) => format!("{}, NOT THE SAME BYTES", attempts.join(", ")),
    }
}

/// What happened.
#[derive(Debug)]
pub(super) struct Report {
    taken: Vec<Taken>,
    /// Requests that reached the app and should not have.
    strays: usize,
}

impl Report {
    /// Whether every step went as it should.
    pub(super) fn is_as_expected(&self) -> bool {
        !self.taken.is_empty() && self.strays == 0 && self.taken.iter().all(|taken| taken.ok)
    }

    /// A table of sent, answer, and what the app got.
    pub(super) fn text(&self) -> String {
        let width = |title: &str, column: fn(&Taken) -> &str| {
            self.taken.iter().map(|taken| column(taken).chars().count()).chain([title.len()]).max().unwrap_or_default()
        };
        let titles = ("sent", "answer", "the app got");
        let (what, answer) = (width(titles.0, |taken| taken.what), width(titles.1, |taken| &taken.answer));
        let mut text = format!("{:<what$}  {:<answer$}  {}\n", titles.0, titles.1, titles.2);
        for taken in &self.taken {
            let verdict = if taken.ok { "" } else { "  NOT EXPECTED" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<what$}  {:<answer$}  {}{verdict}", taken.what, taken.answer, taken.got);
        }
        if self.strays > 0 {
            let _ = writeln!(text, "NOT EXPECTED: the app got {} requests more than it should have", self.strays);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tour() -> Tour {
        Tour::new("127.0.0.1:1".parse().unwrap(), SigningKey::from_bytes(&[7; 32])).unwrap()
    }

    #[test]
    fn the_tour_shows_every_kind_of_answer() {
        let labels: Vec<_> = tour().steps().iter().map(|step| step.expected.label()).collect();
        for expected in [
            "200 accepted",
            "200 duplicate",
            "403 signature_mismatch",
            "403 timestamp_stale",
            "403 timestamp_future",
            "403 ip_denied",
            "413 body_too_large",
            "405 method_not_allowed",
        ] {
            assert!(labels.iter().any(|label| label == expected), "{expected}");
        }
    }

    #[test]
    fn only_what_is_accepted_is_to_reach_the_app() {
        for step in tour().steps() {
            assert_eq!(step.expected == Expected::Accepted, !step.app.is_empty(), "{}", step.what);
            assert!(step.expected == Expected::Refused(Rejection::BodyTooLarge) || step.body.len() <= MAX_BODY_BYTES);
        }
    }

    #[test]
    fn one_wrong_step_or_one_stray_request_spoils_the_report() {
        let taken = |ok| Taken { what: "an SMS", answer: "200 accepted".to_owned(), got: "nothing".to_owned(), ok };
        assert!(Report { taken: vec![taken(true)], strays: 0 }.is_as_expected());
        assert!(!Report { taken: vec![taken(true)], strays: 1 }.is_as_expected());
        let wrong = Report { taken: vec![taken(true), taken(false)], strays: 0 };
        assert!(!wrong.is_as_expected());
        assert_eq!(wrong.text().matches("NOT EXPECTED").count(), 1);
        assert!(!Report { taken: vec![], strays: 0 }.is_as_expected());
    }

    /// The app alone, without hookward: it takes everything, and the tour must notice.
    #[tokio::test]
    async fn a_receiver_that_takes_everything_is_found_out() {
        let sink = Sink::start().await.unwrap();
        let tour = Tour::new(sink.address(), SigningKey::from_bytes(&[7; 32])).unwrap();
        let mut report = Report { taken: Vec::new(), strays: 0 };
        for step in tour.steps().into_iter().filter(|step| step.app.len() < 2) {
            report.taken.push(tour.take(step, &sink).await);
        }
        let ok: Vec<_> = report.taken.iter().map(|taken| taken.ok).collect();
        assert_eq!(ok, [true, true, true, false, false, false, false, false, false, false], "{}", report.text());
    }
}
