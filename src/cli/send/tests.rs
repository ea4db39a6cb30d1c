//! `send` against a server that answers as hookward does.

use std::collections::HashSet;
use std::sync::Mutex;

use clap::Parser as _;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock as _;
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, signed_message};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// What arrived: target line, attempt, event id, signature.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: String,
    attempt: u64,
    id: String,
    delivered_to: String,
    signature: String,
}

/// A receiver with the rules of the contract, which first answers 503 to so many.
struct Receiver {
    key: VerifyingKey,
    failures: Mutex<u32>,
    known: Mutex<HashSet<String>>,
    requests: Mutex<Vec<Request>>,
}

impl Receiver {
    async fn start(failures: u32) -> (Arc<Receiver>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks?a=b", listener.local_addr().unwrap());
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let receiver =
            Arc::new(Receiver { key, failures: failures.into(), known: Mutex::default(), requests: Mutex::default() });
        let accepting = receiver.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(socket));
            }
        });
        (receiver, url)
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length: usize = field(&head, "content-length").parse().unwrap();
            while bytes.len() < end + length {
                socket.read_buf(&mut bytes).await.unwrap();
            }
            let body: Vec<u8> = bytes.drain(..end + length).skip(end).collect();
            let (status, answer) = self.judge(&head, &body);
            let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            socket.write_all(reply.as_bytes()).await.unwrap();
        }
    }

    fn judge(&self, head: &str, body: &[u8]) -> (u16, String) {
        let event: serde_json::Value = serde_json::from_slice(body).unwrap();
        let (timestamp, signature) = (field(head, TIMESTAMP_HEADER), field(head, SIGNATURE_HEADER));
        let id = event["data"]["id"].as_str().unwrap().to_owned();
        self.requests.lock().unwrap().push(Request {
            line: head.lines().next().unwrap().to_owned(),
            headers: head.to_owned(),
            attempt: event["meta"]["attempt"].as_u64().unwrap(),
            delivered_to: event["meta"]["delivered_to"].as_str().unwrap().to_owned(),
            id: id.clone(),
            signature: signature.clone(),
        });
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return (503, r#"{"error":"buffer_failed"}"#.to_owned());
        }
        use base64::Engine as _;
        let signature = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        if self.key.verify_strict(&signed_message(timestamp.as_bytes(), body), &signature).is_err() {
            return (403, r#"{"error":"signature_mismatch"}"#.to_owned());
        }
        let skew = SystemClock::new().unix_ms().div_euclid(1000) - timestamp.parse::<i64>().unwrap();
        match skew {
            301.. => (403, format!(r#"{{"error":"timestamp_stale","skew_s":{skew}}}"#)),
            ..=-301 => (403, format!(r#"{{"error":"timestamp_future","skew_s":{skew}}}"#)),
            _ if self.known.lock().unwrap().insert(id.clone()) => {
                (200, format!(r#"{{"status":"accepted","event_id":"{id}"}}"#))
            }
            _ => (200, format!(r#"{{"status":"duplicate","event_id":"{id}"}}"#)),
        }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn field(head: &str, name: &str) -> String {
    let values: Vec<_> =
        head.lines().filter_map(|line| line.split_once(": ")).filter(|(n, _)| n.eq_ignore_ascii_case(name)).collect();
    assert_eq!(values.len(), 1, "{name} once in {head}");
    values[0].1.to_owned()
}

fn args(url: &str, flags: &[&str]) -> Args {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let line = ["send", url, "--secret-key", &key, "--retry-base", "1ms"];
    Cli::parse_from(line.iter().chain(flags)).args
}

async fn sent(url: &str, flags: &[&str]) -> Summary {
    let args = args(url, flags);
    let (player, pace) = prepare(&args).unwrap();
    let cases = args.scenario.plan(args.count as usize, &mut Rng::with_seed(1));
    play(Arc::new(player), cases, pace).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mix_of_everything_is_answered_as_expected() {
    let (receiver, url) = Receiver::start(0).await;
    let summary = sent(&url, &["--scenario", "mixed", "--count", "60", "--rate", "2000"]).await;
    assert!(summary.is_as_expected(), "{}", summary.text());
    let json = summary.json();
    assert_eq!(json["requests"], 70);
    assert_eq!(json["outcomes"]["accepted"], 20);
    assert_eq!(json["outcomes"]["duplicate"], 10);
    assert_eq!(json["outcomes"]["rejected"]["403 signature_mismatch"], 20);
    assert_eq!(json["outcomes"]["rejected"]["403 timestamp_stale"], 10);
    assert_eq!(json["outcomes"]["rejected"]["403 timestamp_future"], 10);
    assert!(receiver.requests().iter().all(|request| request.line == "POST /webhooks?a=b HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_503_is_retried_with_the_next_attempt_under_a_fresh_signature_and_the_same_id() {
    let (receiver, url) = Receiver::start(1).await;
    let summary = sent(&url, &[]).await;
    assert!(summary.is_as_expected(), "{}", summary.text());
    assert_eq!(summary.json()["retries"], 1);
    let requests = receiver.requests();
    assert_eq!(requests.iter().map(|request| request.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(requests[0].id, requests[1].id);
    assert_ne!(requests[0].signature, requests[1].signature);
    assert_eq!(requests[1].delivered_to, url);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_three_attempts_the_failover_url_takes_over() {
    let (down, url) = Receiver::start(u32::MAX).await;
    let (up, failover) = Receiver::start(1).await;
    let summary = sent(&url, &["--failover", &failover]).await;
    assert!(summary.is_as_expected(), "{}", summary.text());
    assert_eq!(down.requests().iter().map(|request| request.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(up.requests().iter().map(|request| request.attempt).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(up.requests()[0].delivered_to, failover);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgery_is_sent_once_even_if_it_is_not_answered_as_expected() {
    let (receiver, url) = Receiver::start(u32::MAX).await;
    let summary = sent(&url, &["--scenario", "bad-signature", "--count", "3"]).await;
    assert!(!summary.is_as_expected());
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_not_there_fails_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let summary = sent(&url, &["--count", "2"]).await;
    assert!(!summary.is_as_expected());
    assert_eq!(summary.json()["retries"], 4);
    assert!(summary.text().contains("no answer: cannot connect"), "{}", summary.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_are_under_way_than_allowed_and_lateness_is_latency() {
    // Two connections are enough for a listener that answers nobody: with a timeout of 100 ms and
    // one slot the third event, due at once, waits for 200 ms before it is sent.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let flags = ["--count", "3", "--rate", "1000", "--concurrency", "1", "--timeout", "100ms", "--scenario", "stale"];
    let summary = sent(&url, &flags).await;
    let json = summary.json();
    assert_eq!(json["schedule"]["behind"], true);
    assert!(json["latency_ms"]["max"].as_f64().unwrap() >= 290.0, "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_is_added_or_replaces_telnyxs_own() {
    let (receiver, url) = Receiver::start(0).await;
    let flags = ["--header", "X-Forwarded-For: 192.76.120.200", "--header", "user-agent:tester"];
    assert!(sent(&url, &flags).await.is_as_expected());
    let headers = &receiver.requests()[0].headers;
    assert_eq!(field(headers, "x-forwarded-for"), "192.76.120.200");
    assert_eq!(field(headers, "user-agent"), "tester");
    assert_eq!(field(headers, "content-type"), "application/json");
}

#[test]
fn wrong_flags_are_told_without_their_secrets() {
    let problem = |flags: &[&str]| prepare(&args("http://127.0.0.1:1/", flags)).err().unwrap();
    for rate in ["--rate=-1", "--rate=nan", "--rate=inf", "--rate=1e-9"] {
        assert!(problem(&[rate]).contains("--rate"), "{rate}");
    }
    assert!(problem(&["--timeout", "0s"]).contains("--timeout"));
    for line in ["authorization secret", "bad name: secret", "x: secret\n"] {
        let text = problem(&["--header", &format!("{line}\u{7f}")]);
        assert!(text.contains("--header") && !text.contains("secret"), "{text}");
    }
    let args = Cli::parse_from(["send", "http://127.0.0.1:1/", "--secret-key", "no-secret"]).args;
    assert!(!prepare(&args).err().unwrap().contains("no-secret"));
    assert!(!format!("{args:?}").contains("no-secret"));
}
