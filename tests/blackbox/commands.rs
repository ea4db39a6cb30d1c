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
fn help_names_every_choice_that_the_file_has() {
    let schema: Value = serde_json::from_str(&ok(run_to_end(&["schema"]))).unwrap();
    let help = ok(run_to_end(&["run", "--help"]));
    for (flag, pointer) in [
        ("--mode", "/properties/routes/anyOf/0/items/properties/mode"),
        ("--unmatched", "/properties/unmatched"),
        ("--buffer-require", "/properties/buffer/anyOf/0/properties/require"),
        ("--log-format", "/properties/log/anyOf/0/properties/format"),
        ("--log-level", "/properties/log/anyOf/0/properties/level"),
    ] {
        let from_flag = &help[help.find(&format!("{flag} <")).unwrap_or_else(|| panic!("{flag} in {help}"))..];
        let text = from_flag.split("\n      --").next().unwrap();
        let choices = schema.pointer(&format!("{pointer}/anyOf/0/enum")).and_then(Value::as_array);
        for choice in choices.unwrap_or_else(|| panic!("{flag}: {schema}")) {
            assert!(text.contains(choice.as_str().unwrap()), "{choice} in {text}");
        }
    }
}

#[test]
fn a_url_with_a_port_that_cannot_be_is_refused() {
    for url in ["http://127.0.0.9:99999", "http://127.0.0.9:0", "https://127.0.0.9:"] {
        let checked = run_to_end(&["check", "--upstream", url, "--public-key", PUBLIC]);
        assert_eq!(checked.code, Some(78), "{checked:?}");
        assert!(checked.stderr.contains("from 1 to 65535"), "{checked:?}");
        for args in [&["send", url, "--secret-key", SECRET][..], &["health", "--admin", url]] {
            let refused = run_to_end(args);
            assert_eq!(refused.code, Some(2), "{refused:?}");
            assert!(refused.stderr.contains("from 1 to 65535"), "{refused:?}");
        }
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let names = [
        "CONFIG",
        "DATA_DIR",
        "LISTEN",
        "IP_ALLOWLIST",
        "TRUSTED_PROXIES",
        "PATH",
        "MODE",
        "UNMATCHED",
        "ADMIN",
        "ADMIN_TOKEN",
        "BUFFER_MAX_BYTES",
        "BUFFER_REQUIRE",
        "LOG_FORMAT",
        "LOG_LEVEL",
    ];
    let empty = names.map(|name| (format!("HOOKWARD_{name}"), ""));
    let args = ["check", "--upstream", "http://127.0.0.1:9", "--public-key", PUBLIC];
    let all = Process::finish(command(&args).envs(empty.clone()), b"");
    assert_eq!(all.code, Some(0), "{all:?}");
    let (sink, setup) = (Sink::start(), Setup::without_upstream());
    let setup = empty.iter().fold(setup.flag("--upstream", &sink.url()), |setup, (name, value)| setup.env(name, value));
    let hookward = setup.start();
    let mut health = command(&["health", "--data-dir", &hookward.setup().data_dir().to_string_lossy()]);
    assert_eq!(Process::finish(health.envs(empty), b"").code, Some(0));
}

/// What becomes of a command whose output nobody reads.
fn unread(args: &[&str], data_dir: &Path) -> std::process::Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command(args).env("HOOKWARD_DATA_DIR", data_dir).stdout(writer).output().unwrap()
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config("delivery: { delivered: { keep: 1h } }\n").start();
    post_sentinel(&hookward, &sink);
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["schema"],
        &["schema", "--markdown"],
        &["keygen"],
        &["check", "--upstream", "http://127.0.0.1:9", "--public-key", PUBLIC],
        &["events", "list"],
        &["events", "show", "1"],
        &["events", "export"],
        &["health"],
        &["demo", "--once"],
    ] {
        let ended = unread(args, &hookward.setup().data_dir());
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*stderr), (Some(0), ""), "{args:?}");
    }
    let failed = unread(&["check", "--json"], &hookward.setup().data_dir());
    assert_eq!(failed.status.code(), Some(78), "a result is what it is, read or not");
}

#[test]
fn problems_that_nobody_reads_are_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let code = command(&["check"]).stderr(writer).status().unwrap().code();
    assert_eq!(code, Some(78));
}

#[test]
fn anchors_and_merge_keys_are_read_as_they_are_meant() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!(
        "
x-common: &common
  ip_allowlist: &anyone {{ mode: off }}
  keys: [ {{ name: current, value: \"{PUBLIC}\" }} ]
upstream: {{ url: \"http://127.0.0.1:3000\" }}
routes:
  - {{ <<: *common, name: one, path: /one }}
  - name: two
    path: /two
    <<: [ {{ max_body: 2MiB }}, *common ]
    ip_allowlist: *anyone
"
    );
    let finished = check(dir.path(), &yaml);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("2 routes, 2 keys"), "{finished:?}");
    let finished = check(dir.path(), &yaml.replace("mode: off", "mode: of"));
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert_eq!(finished.stderr.matches("`of` is not known here").count(), 1, "{finished:?}");
    assert!(finished.stderr.contains("hookward.yaml:3: "), "{finished:?}");
}

#[test]
fn every_command_finds_the_instance_by_the_file_that_run_has() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).without_flag("--data-dir");
    let yaml = format!("data_dir: {}\n", setup.data_dir().display());
    let hookward = setup.config(&yaml).start();
    let file = hookward.setup().dir().join("hookward.yaml");
    let by_variable = |args: &[&str]| Process::finish(command(args).env("HOOKWARD_CONFIG", &file), b"");
    let by_flag = |args: &[&str]| Process::finish(command(args).arg("--config").arg(&file), b"");
    let id = post_sentinel(&hookward, &sink);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
    for listed in [by_variable(&["events", "list"]), by_flag(&["events", "list"])] {
        assert!(ok(listed).contains(&id));
    }
    // What a reload refuses turns no probe red.
    for fault in ["routes: many\n", "listn: []\n", "routes: [ { name: a\n", "limits:\n\tthreads: 5\n", "a: &a [*a]\n"] {
        for text in [format!("{yaml}{fault}"), format!("{fault}{yaml}")] {
            std::fs::write(&file, &text).unwrap();
            assert_eq!(ok(by_variable(&["health"])), "ready\n", "{text:?}");
        }
    }
    std::fs::write(&file, format!("{yaml}admin: {{ token: {{ env: NOT_SET }} }}\n")).unwrap();
    assert_eq!(ok(by_variable(&["health"])), "ready\n", "a token is for TCP");
    std::fs::remove_file(&file).unwrap();
    let data_dir = hookward.setup().data_dir().display().to_string();
    assert_eq!(ok(by_variable(&["health", "--data-dir", &data_dir])), "ready\n", "flags say everything");
    assert_eq!(ok(by_variable(&["health", "--admin", &hookward.admin.to_string()])), "ready\n");
    let nowhere = by_variable(&["health"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    assert!(nowhere.stderr.starts_with("warning: ") && nowhere.stderr.contains("cannot be read"), "{nowhere:?}");
    std::fs::write(&file, &yaml).unwrap();
    assert_eq!(ok(by_variable(&["drain"])), "draining\n");
    poll("refused", || (hookward.post(&event()).status == 503).then_some(()));
}

#[test]
fn without_a_socket_the_admin_address_of_the_file_is_asked_with_its_token() {
    const TOKEN: &str = "0123456789abcdef-token";
    let sink = Sink::start();
    let hookward = Setup::new(&sink).env("HOOKWARD_ADMIN_TOKEN", TOKEN).start();
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("elsewhere.yaml"), dir.path().join("token"));
    std::fs::write(&token, TOKEN).unwrap();
    let admin = format!("{{ address: \"{}\", token: {{ file: {} }} }}", hookward.admin, token.display());
    std::fs::write(&file, format!("data_dir: {}\nadmin: {admin}\n", dir.path().display())).unwrap();
    for args in [&["health"][..], &["events", "list"]] {
        ok(Process::finish(command(args).arg("--config").arg(&file), b""));
    }
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
