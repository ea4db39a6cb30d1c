//! The verifiers of `docs/apps.md`, each run as it stands there on what hookward has forwarded and signed.
//! `make test-sdk` runs these tests, which `make test` leaves out.

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;

use super::harness::event::{FORGER, public_key};
use super::harness::*;

const OWN_SECRET: [u8; 32] = [9; 32];
const FORM_TYPE: &str = "application/x-www-form-urlencoded";
/// Older than every SDK allows.
const TEN_MINUTES_S: i64 = 600;

/// A forwarded request, the key that an app has, and its verdict.
struct Case {
    what: &'static str,
    key: String,
    received: Received,
    verdict: &'static str,
}

impl Case {
    /// Four fields in base64: key, timestamp, signature, body.
    fn line(&self) -> String {
        let header = |name| self.received.all(name).concat().into_bytes();
        let (timestamp, signature) = (header("telnyx-timestamp"), header("telnyx-signature-ed25519"));
        let fields = [self.key.clone().into_bytes(), timestamp, signature, self.received.body.clone()];
        format!("{}\n", fields.map(|field| STANDARD.encode(field)).join(","))
    }
}

fn own_public_key() -> String {
    run_to_end(&["pubkey", "--secret-key", &STANDARD.encode(OWN_SECRET)]).stdout
}

/// A TeXML callback, with bytes that are no UTF-8.
fn form(timestamp_s: i64) -> Request {
    let body = b"CallSid=v3%3Aabc&From=%2B12025550133&Text=\xff+\xc3\xa9".to_vec();
    signed_at(timestamp_s, body).without("Content-Type").header("Content-Type", FORM_TYPE)
}

fn cases() -> Vec<Case> {
    let sink = Sink::start();
    let yaml = format!(
        "upstream: {{ sign: {{ scheme: telnyx, key: {{ value: \"{}\" }} }} }}\n\
         routes:\n \
         - {{ name: signed, path: /signed, timestamp: {{ past: 24h }}, dedupe: off }}\n \
         - {{ name: plain, path: /plain, timestamp: {{ past: 24h }}, dedupe: off, upstream: {{ sign: off }} }}\n \
         - {{ name: reported, path: /reported, signature: report, dedupe: off, upstream: {{ sign: off }} }}\n",
        STANDARD.encode(OWN_SECRET)
    );
    let hookward = Setup::new(&sink).config(&yaml).start();
    let forward = |target: &str, request: Request| {
        let before = sink.count();
        assert_eq!(hookward.post(&request.target(target)).status, 200, "{target}");
        sink.wait_for(before + 1).pop().unwrap()
    };
    let old_s = now_s() - TEN_MINUTES_S;
    let (telnyxs, own) = (public_key(), own_public_key());
    let case = |what, key: &str, received, verdict| Case { what, key: key.to_owned(), received, verdict };
    let forged = event::signed_by(&SigningKey::from_bytes(&FORGER), now_s(), body("forged"));
    vec![
        case("as it came", &telnyxs, forward("/plain", event()), "true"),
        case("a key that ends in a newline", &format!("{telnyxs}\n"), forward("/plain", event()), "true"),
        case("a form", &telnyxs, forward("/plain", form(now_s())), "true"),
        case("an old signature", &telnyxs, forward("/plain", signed_at(old_s, body("old"))), "false"),
        case("another key", &own, forward("/plain", event()), "false"),
        case("forged", &telnyxs, forward("/reported", forged), "false"),
        case("without signature", &telnyxs, forward("/reported", event().without("Telnyx-Signature-Ed25519")), "false"),
        case("hookward's signature", &own, forward("/signed", event()), "true"),
        case("hookward's, of an old event", &own, forward("/signed", signed_at(old_s, body("old"))), "true"),
        case("hookward's, of an old form", &own, forward("/signed", form(old_s)), "true"),
        case("hookward's, under Telnyx's key", &telnyxs, forward("/signed", event()), "false"),
        case("no key", "AAAA", forward("/plain", event()), "error"),
    ]
}

/// The page's code block of a language.
fn sample(fence: &str) -> String {
    let page = std::fs::read_to_string(repository().join("docs/apps.md")).unwrap();
    let block = page.split(&format!("```{fence}\n")).nth(1).unwrap_or_else(|| panic!("no {fence} in docs/apps.md"));
    block.split("```").next().unwrap().to_owned()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes programs into a new folder and runs these commands there, the last with the cases.
fn judges(programs: &[(&str, String)], commands: &[&[&str]]) {
    let dir = tempfile::Builder::new().prefix("hookward-verifiers-").tempdir().unwrap();
    for (name, text) in programs {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let cases = cases();
    let lines = dir.path().join("cases");
    std::fs::write(&lines, cases.iter().map(Case::line).collect::<String>()).unwrap();
    let mut said = String::new();
    for words in commands {
        let mut command = Command::new(words[0]);
        let stdin = Stdio::from(std::fs::File::open(&lines).unwrap());
        let output = command.args(&words[1..]).current_dir(&dir).stdin(stdin).output().unwrap();
        assert!(output.status.success(), "{words:?}\n{}", String::from_utf8_lossy(&output.stderr));
        said = String::from_utf8(output.stdout).unwrap();
    }
    let verdicts: Vec<(&str, &str)> = cases.iter().map(|case| case.what).zip(said.lines()).collect();
    assert_eq!(verdicts, cases.iter().map(|case| (case.what, case.verdict)).collect::<Vec<_>>());
}

/// What feeds a sample with the cases.
fn feeder(name: &str) -> String {
    std::fs::read_to_string(repository().join("tests/sdk/verify").join(name)).unwrap()
}

#[test]
#[ignore = "needs Python and pynacl: make test-sdk"]
fn the_pages_python_verifies_what_hookward_forwards() {
    let program = format!("{}\n{}", sample("python"), feeder("main.py"));
    let python = repository().join("target/sdk/python/bin/python").display().to_string();
    judges(&[("verify.py", program)], &[&[&python, "verify.py"]]);
}

#[test]
#[ignore = "needs Node: make test-sdk"]
fn the_pages_javascript_verifies_what_hookward_forwards() {
    let program = format!("{}\n{}", sample("js"), feeder("main.cjs"));
    judges(&[("verify.cjs", program)], &[&["node", "verify.cjs"]]);
}

#[test]
#[ignore = "needs Go: make test-sdk"]
fn the_pages_go_verifies_what_hookward_forwards() {
    let programs = [("verify.go", format!("package main\n\n{}", sample("go"))), ("main.go", feeder("main.go"))];
    judges(&programs, &[&["go", "build", "-o", "verify", "verify.go", "main.go"], &["./verify"]]);
}

#[test]
#[ignore = "needs PHP: make test-sdk"]
fn the_pages_php_verifies_what_hookward_forwards() {
    let program = format!("<?php\n{}\n{}", sample("php"), feeder("main.php"));
    judges(&[("verify.php", program)], &[&["php", "verify.php"]]);
}

#[test]
#[ignore = "needs Ruby: make test-sdk"]
fn the_pages_ruby_verifies_what_hookward_forwards() {
    let program = format!("{}\n{}", sample("ruby"), feeder("main.rb"));
    judges(&[("verify.rb", program)], &[&["ruby", "verify.rb"]]);
}

#[test]
#[ignore = "needs Java: make test-sdk"]
fn the_pages_java_verifies_what_hookward_forwards() {
    let programs = [("TelnyxWebhook.java", sample("java")), ("Main.java", feeder("Main.java"))];
    judges(&programs, &[&["javac", "TelnyxWebhook.java", "Main.java"], &["java", "-cp", ".", "Main"]]);
}
