//! Apps that verify with the official Telnyx SDKs, and with an independent library of Standard
//! Webhooks. `make test-sdk` installs those and runs these tests, which `make test` leaves out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde_json::Value;

use super::harness::event::{FORGER, public_key};
use super::harness::*;

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// For an SDK to be imported, on a busy machine.
const LOADED_WITHIN: Duration = Duration::from_secs(60);
/// Older than every SDK allows.
const TEN_MINUTES_S: i64 = 600;
/// How often an event is sent that has to be judged within one second of the clock.
const WITHIN_A_SECOND_TRIES: usize = 30;

#[derive(Clone, Copy)]
enum Language {
    Python,
    Node,
}

/// An app with an SDK, in a process of its own.
struct App {
    process: Process,
    port: u16,
}

impl App {
    /// One for each key, that verifies with it by this scheme. They start side by side, since to load
    /// an SDK takes seconds.
    fn start(language: Language, scheme: &str, keys: [&str; 2]) -> [App; 2] {
        keys.map(|key| App::spawn(language, scheme, key)).map(|process| {
            let port = process.next_line(LOADED_WITHIN).unwrap_or_else(|| panic!("no port\n{}", process.stderr()));
            App { port: port.trim().parse().unwrap(), process }
        })
    }

    fn spawn(language: Language, scheme: &str, key: &str) -> Process {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = |path: &str| -> PathBuf {
            let path = repository.join("target/sdk").join(path);
            assert!(path.exists(), "{} is missing: run `make test-sdk`", path.display());
            path
        };
        let mut command = match language {
            Language::Python => {
                let mut command = Command::new(installed("python/bin/python"));
                command.arg("-I").arg(repository.join("tests/sdk/app.py"));
                command
            }
            Language::Node => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", installed("node/node_modules")).arg(repository.join("tests/sdk/app.cjs"));
                command
            }
        };
        Process::spawn(command.args([scheme, key]))
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What became of the next request, and its age in seconds by the app's clock: before it was judged
    /// and after.
    fn next_aged(&self, signed_s: i64) -> (Option<String>, [f64; 2]) {
        let line = self.process.next_line(DEADLINE).unwrap_or_else(|| panic!("no request\n{}", self.process.stderr()));
        let line: Value = serde_json::from_str(&line).unwrap();
        let ages = [0, 1].map(|index| line["judged"][index].as_f64().unwrap() - signed_s as f64);
        (line["refused"].as_str().map(str::to_owned), ages)
    }

    /// The next request, given as `path#attempt`, which it has to believe;
    fn believes(&self, request: &str) {
        let (got, refused) = self.next();
        assert_eq!((got.as_str(), refused), (request, None));
    }

    /// or which its SDK has to refuse, with what words.
    fn refuses(&self, request: &str) -> String {
        let (got, refused) = self.next();
        assert_eq!(got, request);
        refused.unwrap_or_else(|| panic!("{request} was believed"))
    }

    fn next(&self) -> (String, Option<String>) {
        self.next_within(DEADLINE).unwrap_or_else(|| panic!("no request\n{}", self.process.stderr()))
    }

    fn next_within(&self, time: Duration) -> Option<(String, Option<String>)> {
        let line: Value = serde_json::from_str(&self.process.next_line(time)?).unwrap();
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        Some((format!("{}#{}", text("path").unwrap(), text("attempt").unwrap()), text("refused")))
    }
}

fn own_key() -> String {
    run_to_end(&["keygen", "--json"]).stdout.parse::<Value>().unwrap()["secret"].as_str().unwrap().to_owned()
}

/// What the app is to be given for this key.
fn pubkey_of(secret: &str) -> String {
    run_to_end(&["pubkey", "--secret-key", secret]).stdout.trim().to_owned()
}

/// Routes that take what is a day old, as if it had waited in the buffer for that long: `name` in
/// mode ack, one level below each.
fn routes(list: &[(&str, String)]) -> String {
    let route = |(name, more): &(&str, String)| {
        format!(" - {{ name: {name}, path: \"/{name}/*\", timestamp: {{ past: 24h }}, dedupe: off, {more} }}\n")
    };
    let retries = "delivery: { retry: { base: 20ms, max: 200ms, client_errors: 1 } }\n";
    format!("{retries}routes:\n{}", list.iter().map(route).collect::<String>())
}

fn upstream(app: &App, sign: Option<(&str, &str)>) -> String {
    let sign = match sign {
        Some((scheme, key)) => format!("{{ scheme: {scheme}, key: {{ value: \"{key}\" }} }}"),
        None => "off".to_owned(),
    };
    format!("upstream: {{ url: \"{}\", sign: {sign} }}", app.url())
}

/// A genuine event, received now and signed by Telnyx ten minutes ago.
fn old() -> Request {
    signed_at(now_s() - TEN_MINUTES_S, body(&new_id()))
}

fn official_sdk(language: Language) {
    let key = own_key();
    let [telnyxs, ours] = App::start(language, "telnyx", [&public_key(), &pubkey_of(&key)]);
    let sign = Some(("telnyx", key.as_str()));
    let yaml = routes(&[
        ("control", upstream(&telnyxs, None)),
        ("signed", upstream(&ours, sign)),
        ("proxied", format!("mode: proxy, {}", upstream(&ours, sign))),
        ("reported", format!("signature: report, {}", upstream(&ours, sign))),
        ("misled", upstream(&telnyxs, sign)),
    ]);
    let hookward = Setup::without_upstream().config(&yaml).start();
    let post = |target: &str, request: Request| hookward.post(&request.target(target)).status;

    assert_eq!(post("/control/fresh", event()), 200);
    telnyxs.believes("/control/fresh#1");
    assert_eq!(post("/control/old", old()), 200);
    let why = telnyxs.refuses("/control/old#1");
    assert!(why.contains("too old"), "{why}");

    assert_eq!(post("/signed/fresh", event()), 200);
    ours.believes("/signed/fresh#1");
    assert_eq!(post("/signed/old", old()), 200);
    ours.believes("/signed/old#1");
    assert_eq!(post("/signed/busy", old()), 200);
    ours.believes("/signed/busy#1");
    ours.believes("/signed/busy#2");
    assert_eq!(post("/proxied/old", old()), 200, "the app's own answer");
    ours.believes("/proxied/old#1");

    // Who has neither Telnyx's key nor hookward's is believed by nobody.
    let forged = event::signed_by(&SigningKey::from_bytes(&FORGER), now_s(), body(&new_id()));
    assert_eq!(post("/reported/forged", forged), 200);
    ours.refuses("/reported/forged#1");
    assert_eq!(post("/misled/fresh", event()), 200);
    telnyxs.refuses("/misled/fresh#1");

    for (route, result, count) in [
        ("control", "delivered", 1.0),
        ("control", "dead", 1.0),
        ("signed", "delivered", 3.0),
        ("signed", "dead", 0.0),
        ("reported", "dead", 1.0),
    ] {
        hookward.await_metric("hookward_delivery_attempts_total", &[("route", route), ("result", result)], count);
    }
}

/// TeXML: the verifier alone believes what `unwrap` cannot read, as it came and as hookward has signed it.
fn texml(language: Language) {
    let key = own_key();
    let [telnyxs, ours] = App::start(language, "telnyx", [&public_key(), &pubkey_of(&key)]);
    let sign = Some(("telnyx", key.as_str()));
    let yaml = routes(&[("plain", upstream(&telnyxs, None)), ("signed", upstream(&ours, sign))]);
    let hookward = Setup::without_upstream().config(&yaml).start();
    let post = |target: &str, timestamp_s: i64| {
        let form = signed_at(timestamp_s, b"CallSid=v3%3Aabc&CallStatus=completed&From=%2B12025550133".to_vec());
        let form = form.without("Content-Type").header("Content-Type", "application/x-www-form-urlencoded");
        assert_eq!(hookward.post(&form.target(target)).status, 200);
    };
    post("/plain/form", now_s());
    telnyxs.believes("/plain/form#1");
    post("/plain/old", now_s() - TEN_MINUTES_S);
    let why = telnyxs.refuses("/plain/old#1");
    assert!(why.contains("too old"), "{why}");
    post("/signed/old", now_s() - TEN_MINUTES_S);
    ours.believes("/signed/old#1");
    post("/signed/unwrap", now_s());
    let why = ours.refuses("/signed/unwrap#1");
    assert!(why.contains("JSON"), "{why}");
    hookward.await_log("it is a form (TeXML)");
}

/// An event in its 300th second, which hookward takes: whether the SDK still does.
fn the_300th_second(language: Language, believes: bool) {
    let [app, _] = App::start(language, "telnyx", [&public_key(), &public_key()]);
    let hookward = Setup::without_upstream().config(&routes(&[("plain", upstream(&app, None))])).start();
    // On a busy machine the second may be over before the SDK has judged: such a try says nothing.
    for _ in 0..WITHIN_A_SECOND_TRIES {
        let signed_s = now_s() - 300;
        assert_eq!(hookward.post(&signed_at(signed_s, body(&new_id())).target("/plain/edge")).status, 200);
        let (refused, ages) = app.next_aged(signed_s);
        if ages.iter().all(|age_s| (300.0..301.0).contains(age_s)) {
            assert_eq!(refused.is_none(), believes, "{ages:?} {refused:?}");
            return;
        }
    }
    panic!("no event was judged within its 300th second in {WITHIN_A_SECOND_TRIES} tries");
}

/// What the app refused for its age, it believes once `sign` is turned on, its key is changed and the event
/// is sent again.
fn redriven_after_sign(language: Language) {
    let key = own_key();
    let [telnyxs, ours] = App::start(language, "telnyx", [&public_key(), &pubkey_of(&key)]);
    let hookward = Setup::without_upstream().config(&routes(&[("hooks", upstream(&telnyxs, None))])).start();
    assert_eq!(hookward.post(&old().target("/hooks/old")).status, 200);
    telnyxs.refuses("/hooks/old#1");
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 1.0);
    let signed = routes(&[("hooks", upstream(&ours, Some(("telnyx", key.as_str()))))]);
    std::fs::write(hookward.setup().dir().join("hookward.yaml"), signed).unwrap();
    hookward.signal(rustix::process::Signal::HUP);
    hookward.await_metric("hookward_config_reloads_total", &[("result", "success")], 1.0);
    let redrive = Request::post("/api/v1/redrive").body(r#"{"state":"dead"}"#);
    assert_eq!(hookward.admin_socket(&redrive).json()["matched"], 1);
    ours.believes("/hooks/old#1");
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 0.0);
}

/// What the app's SDK has refused as too old, it believes once ten minutes of the test's clock have
/// passed: hookward's clock is ten minutes behind the SDK's until then.
fn waited_on_a_test_clock(language: Language) {
    let key = own_key();
    let [ours, _] = App::start(language, "telnyx", [&pubkey_of(&key), &public_key()]);
    let received_s = now_s() - TEN_MINUTES_S;
    let sign = format!("upstream: {{ sign: {{ scheme: telnyx, key: {{ value: \"{key}\" }} }} }}\n");
    let hookward = OnTestClock::start(received_s, &ours.url(), &sign);
    let id = new_id();
    assert_accepted(&hookward.post(&signed_at(received_s, body(&id)).target("/waits")), &id);
    let why = ours.refuses("/waits#1");
    assert!(why.contains("too old"), "{why}");
    hookward.clock.advance(Duration::from_secs(TEN_MINUTES_S.cast_unsigned()));
    // The retry is due a second after the refusal was settled, which may be only now.
    let (got, refused) = poll("the next attempt", || {
        hookward.clock.advance(Duration::from_millis(100));
        ours.next_within(Duration::from_millis(100))
    });
    assert_eq!((got.as_str(), refused), ("/waits#2", None));
}

fn standard_webhooks(language: Language) {
    let whsk = format!("whsk_{}", own_key());
    let [symmetric, asymmetric] = App::start(language, "standard-webhooks", [WHSEC, &pubkey_of(&whsk)]);
    let yaml = routes(&[
        ("v1", upstream(&symmetric, Some(("standard-webhooks", WHSEC)))),
        ("v1a", upstream(&asymmetric, Some(("standard-webhooks", &whsk)))),
        ("reported", format!("signature: report, {}", upstream(&symmetric, Some(("standard-webhooks", WHSEC))))),
        ("other", upstream(&symmetric, Some(("standard-webhooks", OTHER_WHSEC)))),
        ("unsigned", upstream(&asymmetric, None)),
    ]);
    let hookward = Setup::without_upstream().config(&yaml).start();
    let post = |target: &str, request: Request| assert_eq!(hookward.post(&request.target(target)).status, 200);
    for (route, app) in [("v1", &symmetric), ("v1a", &asymmetric)] {
        post(&format!("/{route}/fresh"), event());
        app.believes(&format!("/{route}/fresh#1"));
        post(&format!("/{route}/busy"), old());
        app.believes(&format!("/{route}/busy#1"));
        app.believes(&format!("/{route}/busy#2"));
    }
    post("/reported/forged", event::signed_by(&SigningKey::from_bytes(&FORGER), now_s(), body(&new_id())));
    symmetric.refuses("/reported/forged#1");
    post("/other/key", event());
    symmetric.refuses("/other/key#1");
    post("/unsigned/fresh", event());
    asymmetric.refuses("/unsigned/fresh#1");
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_python_sdk_believes_what_waited_ten_minutes_only_when_it_is_signed_anew() {
    official_sdk(Language::Python);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_node_sdk_believes_what_waited_ten_minutes_only_when_it_is_signed_anew() {
    official_sdk(Language::Node);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_python_sdk_believes_what_waited_ten_minutes_of_a_test_clock() {
    waited_on_a_test_clock(Language::Python);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_node_sdk_believes_what_waited_ten_minutes_of_a_test_clock() {
    waited_on_a_test_clock(Language::Node);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_python_sdk_verifies_a_form_and_cannot_unwrap_it() {
    texml(Language::Python);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_python_sdk_believes_what_it_refused_as_too_old_once_it_is_signed_and_redriven() {
    redriven_after_sign(Language::Python);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_node_sdk_verifies_a_form_and_cannot_unwrap_it() {
    texml(Language::Node);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_node_sdk_believes_what_it_refused_as_too_old_once_it_is_signed_and_redriven() {
    redriven_after_sign(Language::Node);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_python_sdk_refuses_an_event_in_its_300th_second() {
    the_300th_second(Language::Python, false);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_node_sdk_believes_an_event_in_its_300th_second() {
    the_300th_second(Language::Node, true);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_python_library_of_standard_webhooks_believes_our_signature() {
    standard_webhooks(Language::Python);
}

#[test]
#[ignore = "needs the SDKs: make test-sdk"]
fn the_node_library_of_standard_webhooks_believes_our_signature() {
    standard_webhooks(Language::Node);
}
