//! The app behind hookward, with Python's parser.

use std::process::Command;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::event::telnyx_key;
use crate::harness::*;

const SCRIPT: &str = include_str!("second_server.py");

pub struct SecondServer {
    _dir: TempDir,
    process: Process,
    port: String,
    seen: Mutex<Vec<Seen>>,
}

/// A request as Python understood it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// False where the connection ended within the body.
    pub whole: bool,
}

impl SecondServer {
    pub fn start() -> SecondServer {
        let dir = TempDir::with_prefix("hookward-second-").unwrap();
        let script = dir.path().join("second_server.py");
        std::fs::write(&script, SCRIPT).unwrap();
        let python = installed("python3", &["/usr/bin/python3"]);
        let process = Process::spawn(Command::new(python).arg("-I").arg(&script));
        let port = process.next_line(DEADLINE).unwrap_or_else(|| panic!("no port\n{}", process.stderr()));
        SecondServer { _dir: dir, process, port: port.trim().to_owned(), seen: Mutex::default() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until it has seen so many requests; everything it has seen.
    pub fn wait_for(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.seen.lock().unwrap();
        while seen.len() < count {
            let line = self.process.next_line(DEADLINE);
            let line = line.unwrap_or_else(|| panic!("only {} of {count} requests", seen.len()));
            seen.push(Seen::parse(&line));
        }
        // Each line is written before the answer to it: what has been answered is here already.
        while let Some(line) = self.process.next_line(POLL) {
            seen.push(Seen::parse(&line));
        }
        seen.clone()
    }
}

impl Seen {
    fn parse(line: &str) -> Seen {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["framed"], true, "hookward sent what another parser cannot read: {line}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers = value["headers"].as_array().unwrap();
        Seen {
            method: text(&value["method"]),
            target: text(&value["target"]),
            headers: headers.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
            body: STANDARD.decode(text(&value["body"])).unwrap(),
            whole: value["whole"].as_bool().unwrap(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(present, _)| present.eq_ignore_ascii_case(name))
    }

    /// The one value of a field.
    pub fn header(&self, name: &str) -> &str {
        let values: Vec<_> = self.headers.iter().filter(|(present, _)| present.eq_ignore_ascii_case(name)).collect();
        assert_eq!(values.len(), 1, "{name} in {:?}", self.headers);
        &values[0].1
    }

    /// Whether Telnyx's key signed exactly this body.
    pub fn is_genuine(&self) -> bool {
        let signature = STANDARD.decode(self.header("Telnyx-Signature-Ed25519")).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        let message = [self.header("Telnyx-Timestamp").as_bytes(), b"|", &self.body].concat();
        telnyx_key().verifying_key().verify_strict(&message, &signature).is_ok()
    }
}
