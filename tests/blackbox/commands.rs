//! The commands beside `run`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, SigningKey};
use serde_json::Value;

use super::harness::process::Finished;
use super::harness::*;

/// Seed of a key pair that a Telnyx SDK publishes in its tests, and its public key.
const SECRET: &str = "i1xxSkIuQOY9H8laaRslIoYGTJ1NwBAFdjsQwiwJH04=";
const PUBLIC: &str = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";

fn ok(finished: Finished) -> String {
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    finished.stdout
}

fn with_stdin(args: &[&str], stdin: &[u8]) -> Finished {
    Process::finish(&mut command(args), stdin)
}

fn key_pair(public: &str, secret: &str) -> SigningKey {
    let seed: [u8; 32] = STANDARD.decode(secret).unwrap().try_into().unwrap();
    let key = SigningKey::from_bytes(&seed);
    assert_eq!(event::public_key_of(&key), public);
    key
}

#[test]
fn keygen_prints_a_pair_in_telnyxs_form() {
    let printed = ok(run_to_end(&["keygen"]));
    let value = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no `{name}` in {printed:?}")).trim().to_owned()
    };
    let (public, secret) = (value("public"), value("secret"));
    key_pair(&public, &secret);
    let again = ok(run_to_end(&["keygen"]));
    assert!(!again.contains(&secret) && !again.contains(&public), "each pair is new");
}

#[test]
fn keygen_prints_json_too() {
    let printed: Value = serde_json::from_str(&ok(run_to_end(&["keygen", "--json"]))).unwrap();
    key_pair(printed["public"].as_str().unwrap(), printed["secret"].as_str().unwrap());
}

/// The two header lines that `sign` printed.
fn header_lines(printed: &str) -> (String, String) {
    let value = |name: &str| {
        let mut lines = printed.lines().filter_map(|line| line.split_once(':'));
        let (_, value) =
            lines.find(|(have, _)| have.eq_ignore_ascii_case(name)).unwrap_or_else(|| panic!("{printed:?}"));
        value.trim().to_owned()
    };
    assert_eq!(printed.lines().count(), 2, "{printed:?}");
    (value("telnyx-signature-ed25519"), value("telnyx-timestamp"))
}

fn assert_signs(printed: &str, timestamp: &str, body: &[u8]) {
    let (signature, have) = header_lines(printed);
    assert_eq!(have, timestamp);
    let message = ::hookward::gate::signature::signed_message(timestamp.as_bytes(), body);
    let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    key_pair(PUBLIC, SECRET).verifying_key().verify_strict(&message, &signature).unwrap();
}

#[test]
fn sign_prints_the_two_header_lines_for_a_file_or_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let body = b"{\"a\": 1}\r\n\0\xff";
    let (body_file, key_file) = (file("body", body), format!("@{}", file("key", format!("{SECRET}\n").as_bytes())));
    let args = |key: &str, from: &str| {
        ["sign", "--secret-key", key, "--timestamp", "1700000000", "--body", from].map(str::to_owned)
    };
    for (key, from) in [(SECRET, body_file.as_str()), (&key_file, &body_file), (SECRET, "-"), (&key_file, "-")] {
        let args = args(key, from);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_signs(&ok(with_stdin(&args, body)), "1700000000", body);
    }
    let empty = ok(with_stdin(&["sign", "--secret-key", SECRET, "--timestamp", "1", "--body", "-"], b""));
    assert_signs(&empty, "1", b"");
}

#[test]
fn what_sign_signs_is_accepted() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--public-key", PUBLIC).start();
    let sent = body(&new_id());
    let printed = ok(with_stdin(&["sign", "--secret-key", SECRET, "--body", "-"], &sent));
    let (signature, timestamp) = header_lines(&printed);
    assert!(timestamp.parse::<i64>().unwrap().abs_diff(now_s()) < 20, "now, unless told otherwise");
    let request =
        Request::post("/").header("Telnyx-Signature-Ed25519", signature).header("Telnyx-Timestamp", timestamp);
    assert_eq!(hookward.post(&request.body(sent.clone())).status, 200);
    assert_eq!(sink.first().body, sent);
}

#[test]
fn sign_refuses_what_is_no_secret_key_without_repeating_it() {
    for (key, code) in [("hello, world", &[1, 2][..]), ("@/nonexistent/key", &[1, 2]), (&PUBLIC[..20], &[1, 2])] {
        let finished = with_stdin(&["sign", "--secret-key", key, "--body", "-"], b"x");
        assert!(finished.code.is_some_and(|have| code.contains(&have)), "{finished:?}");
        assert!(finished.stdout.is_empty(), "{finished:?}");
        assert!(key.starts_with('@') || !finished.stderr.contains(key), "{finished:?}");
    }
    let finished = run_to_end(&["sign", "--secret-key", SECRET, "--body", "/nonexistent/body"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("/nonexistent/body"), "{finished:?}");
}

fn check(dir: &Path, yaml: &str) -> Finished {
    let file = dir.join("hookward.yaml");
    std::fs::write(&file, yaml).unwrap();
    run_to_end(&["check", "--config", &file.to_string_lossy()])
}

#[test]
fn check_passes_a_sound_file_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let yaml = format!(
        "
data_dir: {}
upstream: {{ url: \"http://127.0.0.1:3000\" }}
routes:
  - name: messaging
    path: /webhooks
    keys: [ {{ name: current, value: \"{PUBLIC}\" }} ]
    ip_allowlist: {{ sources: [telnyx, 203.0.113.0/24], mode: enforce }}
    timestamp: {{ past: 5m, future: 5m, mode: enforce }}
    max_body: 1MiB
    dedupe: {{ window: 24h, scope: messaging }}
",
        data_dir.display()
    );
    let finished = check(dir.path(), &yaml);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!data_dir.exists(), "validation does not act");
}

#[test]
fn check_tells_every_problem_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "listn: []\nupstream:\n  url: gopher://app\nlimits:\n  connections: many\n";
    let finished = check(dir.path(), yaml);
    assert_eq!(finished.code, Some(78), "{finished:?}");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for (problem, line) in [("listn", "1"), ("gopher://app", "3"), ("connections", "5")] {
        let told = said.lines().any(|text| text.contains(problem) && text.contains(line));
        assert!(told, "`{problem}` in line {line} is not told in\n{said}");
    }
}

#[test]
fn check_prints_json_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hookward.yaml");
    std::fs::write(&file, "listn: []\n").unwrap();
    let finished = run_to_end(&["check", "--json", "--config", &file.to_string_lossy()]);
    assert_eq!(finished.code, Some(78), "{finished:?}");
    let json: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert!(json.to_string().contains("listn"), "{json}");
}

#[test]
fn schema_is_the_json_schema_of_the_file() {
    let schema: Value = serde_json::from_str(&ok(run_to_end(&["schema"]))).unwrap();
    assert!(schema["$schema"].as_str().is_some_and(|schema| schema.contains("json-schema.org")), "{schema}");
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{schema}"));
    for key in [
        "listen",
        "admin",
        "data_dir",
        "client_ip",
        "upstream",
        "routes",
        "limits",
        "buffer",
        "delivery",
        "shutdown",
        "log",
    ] {
        assert!(properties.contains_key(key), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false, "unknown keys are errors");
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = ok(run_to_end(&["--help"]));
    for name in ["run", "check", "schema", "keygen", "sign", "explain"] {
        assert!(help.contains(name), "{name} in {help}");
        let help = ok(run_to_end(&[name, "--help"]));
        assert!(help.contains(&format!("hookward {name}")) && help.to_lowercase().contains("example"), "{help}");
    }
    assert!(ok(run_to_end(&["--version"])).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn health_is_0_when_ready_and_1_otherwise() {
    let health = |setup: &Setup| {
        let mut health = command(&["health"]);
        Process::finish(health.env("HOOKWARD_DATA_DIR", setup.data_dir()), b"").code
    };
    let (_sink, mut hookward) = pair_with("shutdown: { delay: 60s }\n");
    assert_eq!(health(hookward.setup()), Some(0));
    hookward.sigterm();
    poll("not ready", || (hookward.admin(&Request::get("/readyz")).status == 503).then_some(()));
    assert_eq!(health(hookward.setup()), Some(1), "draining");
    hookward.kill9();
    assert_eq!(health(hookward.setup()), Some(1), "gone, its socket left behind");
    std::fs::remove_file(hookward.setup().admin_socket()).unwrap();
    assert_eq!(health(hookward.setup()), Some(1), "no socket");
}
