//! The log: one line a request, and nothing in it that is a secret or a person's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use super::harness::*;

fn lines(hookward: &Hookward) -> Vec<Value> {
    let stderr = hookward.stderr();
    stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The line of the request that was answered so; it may be written after the answer.
fn line_of(hookward: &Hookward, answer: &Answer) -> Value {
    let id = answer.header("hookward-request-id").unwrap();
    poll("the request's line", || {
        let whole = hookward.stderr().ends_with('\n');
        let of_it: Vec<_> = if whole { lines(hookward) } else { Vec::new() };
        let mut of_it = of_it.into_iter().filter(|line| line.to_string().contains(id));
        let line = of_it.next()?;
        assert!(of_it.next().is_none(), "one line a request");
        Some(line)
    })
}

#[test]
fn each_request_has_one_line_that_its_answer_names() {
    let (sink, hookward) = pair();
    let id = new_id();
    let accepted = hookward.post(&signed(body(&id)));
    let line = line_of(&hookward, &accepted);
    sink.first();
    for key in ["ts", "level", "msg", "route", "ack_ms"] {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
    assert_eq!((line["outcome"].as_str(), line["status"].as_u64()), (Some("accepted"), Some(200)), "{line}");
    assert_eq!((line["event_id"].as_str(), line["event_type"].as_str()), (Some(id.as_str()), Some("message.received")));
    assert_eq!(
        (line["client_ip"].as_str(), line["body_bytes"].as_u64()),
        (Some("127.0.0.1"), Some(body(&id).len() as u64))
    );

    let refused = hookward.post(&signed_at(now_s() - 400, "x"));
    let line = line_of(&hookward, &refused);
    assert_eq!(
        (line["outcome"].as_str(), line["reason"].as_str()),
        (Some("rejected"), Some("timestamp_stale")),
        "{line}"
    );
    assert_eq!((line["status"].as_u64(), &line["skew_s"]), (Some(403), &refused.json()["skew_s"]), "{line}");
    let hint = ::hookward::rejection::Rejection::TimestampStale { skew_s: 0 }.hint();
    assert!(line.to_string().contains(hint), "{line}");
}

#[test]
fn a_path_that_is_nearly_a_routes_is_told_and_at_debug_the_path_that_came() {
    let sink = Sink::start();
    let yaml = "routes: [ { name: hooks, path: /webhooks } ]\n";
    let hint_of = |hookward: &Hookward, target: &str| {
        let line = line_of(hookward, &hookward.post(&event().target(target)));
        (line["hint"].as_str().unwrap().to_owned(), line["path"].clone())
    };
    let hookward = Setup::new(&sink).config(yaml).start();
    for target in ["/webhooks/", "/Webhooks", "//webhooks"] {
        let (hint, path) = hint_of(&hookward, target);
        assert!(hint.contains("the route hooks differs from it only in a slash"), "{target}: {hint}");
        assert_eq!(path, Value::Null, "a path may hold what is nobody's business");
    }
    let (hint, _) = hint_of(&hookward, "/api/webhooks");
    assert!(hint.contains("the route hooks has the same end"), "{hint}");
    let (hint, _) = hint_of(&hookward, "/elsewhere");
    assert_eq!(hint, ::hookward::rejection::Rejection::NoRoute.hint());

    let hookward = Setup::new(&sink).config(yaml).flag("--log-level", "debug").start();
    let (_, path) = hint_of(&hookward, "/webhooks/?token=secret");
    assert_eq!(path, "/webhooks/");
}

#[test]
fn who_did_not_name_a_client_is_told_and_what_came_instead_of_http_1() {
    let sink = Sink::start();
    let yaml = "client_ip: { trusted_proxies: [127.0.0.1] }\n";
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(yaml).start();
    let line = line_of(&hookward, &hookward.post(&event()));
    assert_eq!(line["reason"], "client_ip_undetermined", "{line}");
    assert_eq!((line["peer"].as_str(), &line["client_ip"]), (Some("127.0.0.1"), &Value::Null), "{line}");
    let named = hookward.post(&event().header("X-Forwarded-For", "192.76.120.200"));
    assert_eq!(line_of(&hookward, &named)["peer"], Value::Null);

    for (bytes, told) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], "HTTP/2 without TLS"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS, to a listener that speaks none"),
    ] {
        let mut wire = hookward.connect();
        wire.send(bytes);
        let line = line_of(&hookward, &wire.answer());
        assert!(line["hint"].as_str().unwrap().contains(told), "{line}");
    }
}

#[test]
fn a_refusals_line_says_what_explain_would_say() {
    let (_sink, hookward) = pair();
    let genuine = event();
    let hint = |request: &Request| {
        let line = line_of(&hookward, &hookward.post(request));
        line["hint"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    let value: Value = serde_json::from_slice(&genuine.body_bytes()).unwrap();
    let compact = genuine.clone().body(value.to_string());
    // One search a second is made: what else is refused meanwhile has its usual hint.
    assert!(hint(&compact).contains("indented by two spaces"));
    assert!(hint(&forged()).contains("no key verifies this body"));
    let renamed = genuine.without("Telnyx-Signature-Ed25519").header("X-Telnyx-Signature", "t=MARK,h=MARK");
    let told = hint(&renamed);
    assert!(told.contains("API version to 2") && !told.contains("MARK"), "{told}");
}

#[test]
fn no_body_header_value_key_or_token_is_logged() {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let yaml = "delivery: { retry: { client_errors: 1 } }\n";
    let setup = Setup::new(&sink).env("HOOKWARD_ADMIN_TOKEN", "MARK-token").flag("--log-level", "debug");
    let mut hookward = setup.config(yaml).start();
    let marked = |request: Request| request.header("X-Any", "MARK-header").header("Authorization", "MARK-auth");
    let body = r#"{"data":{"id":"x","payload":{"text":"MARK-text","from":"+15551234567"}}}"#;
    hookward.post(&marked(signed(body)));
    hookward.post(&marked(forged().body(body)));
    hookward.post(&marked(signed("MARK-not-json {\"data\":")));
    hookward.post(&marked(event().replace("Telnyx-Timestamp", "MARK-timestamp")));
    hookward.post(&marked(event().replace("Telnyx-Signature-Ed25519", "MARK-signature")));
    for broken in [
        "MARK-line\r\n\r\n",
        "POST /a HTTP/1.1\r\nMARK-name\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: MARK-te\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nMARK: MARK\r\n\r\nMARK-chunk\r\n",
    ] {
        let mut wire = hookward.connect();
        wire.send(broken);
        assert!(wire.answer().status >= 400);
    }
    hookward.admin(&Request::get("/api/v1/status").header("Authorization", "Bearer MARK-wrong-token"));
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 2.0);
    hookward.stop();
    let stderr = hookward.stderr();
    assert!(!stderr.is_empty());
    for secret in ["MARK", "5551234567", &event::public_key()] {
        let told: Vec<_> = stderr.lines().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:#?}");
    }
}

#[test]
fn text_for_people_is_one_flag_away() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).flag("--log-format", "text").start();
    let answer = hookward.post(&forged());
    let id = answer.header("hookward-request-id").unwrap();
    let line =
        poll("the request's line", || hookward.stderr().lines().find(|line| line.contains(id)).map(str::to_owned));
    assert!(serde_json::from_str::<Value>(&line).is_err(), "{line}");
    assert!(line.contains("signature_mismatch"), "{line}");
}

#[test]
fn the_clients_address_may_be_left_out_or_cut() {
    for (setting, logged) in [("truncated", Some("127.0.0.0")), ("off", None)] {
        let (_sink, hookward) = pair_with(&format!("log: {{ client_ip: {setting} }}\n"));
        let answer = hookward.post(&forged());
        let line = line_of(&hookward, &answer);
        let told = line["client_ip"].as_str();
        assert!(told.is_none_or(|told| logged.is_some_and(|logged| told.starts_with(logged))), "{line}");
        assert!(!line.to_string().contains("127.0.0.1"), "{line}");
    }
}

/// Nothing is stored, and every request has its line.
const VERIFY: &str = "routes: [ { mode: verify } ]\nlog: { accepted_per_s: 65535 }\n";
/// A pipe of the kernel holds less, and so does the queue.
const PIPE_AND_QUEUE_BYTES: usize = (64 << 10) + (1 << 20);

/// Genuine events with ids as long as a line shows them; the ids.
fn post_long_ids(wire: &mut Wire, from: usize, count: usize) {
    for n in from..from + count {
        let id = format!("{n:0>250}");
        assert_eq!(wire.ask(&signed(body(&id))).status, 200);
    }
}

#[test]
fn a_log_that_nobody_reads_stops_neither_senders_nor_probes_nor_a_reload_nor_the_end() {
    let (unread, stderr) = std::io::pipe().unwrap();
    let mut hookward = Setup::without_upstream().config(VERIFY).start_with_stderr(stderr);
    post_long_ids(&mut hookward.connect(), 0, 300);
    for target in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(hookward.admin(&Request::get(target)).status, 200, "{target}");
    }
    hookward.signal(Signal::HUP);
    hookward.await_metric("hookward_config_reloads_total", &[("result", "success")], 1.0);
    hookward.sigterm();
    assert_eq!(hookward.wait_exit(), Some(0));
    drop(unread);
}

#[test]
fn a_log_that_is_read_again_has_its_lines_in_order_and_says_how_many_are_missing() {
    let (mut unread, stderr) = std::io::pipe().unwrap();
    let mut hookward = Setup::without_upstream().config(VERIFY).start_with_stderr(stderr);
    let mut wire = hookward.connect();
    let mut posted = 0;
    while hookward.metrics().value("hookward_log_lines_dropped_total", &[]) == 0.0 {
        post_long_ids(&mut wire, posted, 200);
        posted += 200;
        assert!(posted * 250 < 2 * PIPE_AND_QUEUE_BYTES, "there is no bound");
    }
    let reading = std::thread::spawn(move || {
        let mut log = String::new();
        unread.read_to_string(&mut log).unwrap();
        log
    });
    // It moves again: what comes now is whole.
    poll("a line gets through again", || {
        let dropped = || hookward.metrics().value("hookward_log_lines_dropped_total", &[]);
        let before = dropped();
        post_long_ids(&mut wire, posted, 1);
        posted += 1;
        (dropped() == before).then_some(())
    });
    let dropped = hookward.metrics().value("hookward_log_lines_dropped_total", &[]);
    hookward.stop();
    let log = reading.join().unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: f64 = lines.iter().filter_map(|line| line["lines_dropped"].as_f64()).sum();
    let ids: Vec<&str> =
        lines.iter().filter(|line| line["msg"] == "request").map(|line| line["event_id"].as_str().unwrap()).collect();
    assert!(told > 0.0 && (told, ids.len() as f64) == (dropped, posted as f64 - dropped), "{told} {}", ids.len());
    assert!(ids.is_sorted(), "in their order");
    assert!(log.contains("stopped; what is pending") || log.contains("stopping"), "the last lines are flushed");
}

#[test]
fn a_log_that_cannot_be_written_costs_its_lines_and_nothing_else() {
    let (closed, pipe) = std::io::pipe().unwrap();
    drop(closed);
    let full = File::options().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(pipe), Stdio::from(full)] {
        let mut hookward = Setup::without_upstream().config(VERIFY).start_with_stderr(stderr);
        post_long_ids(&mut hookward.connect(), 0, 10);
        hookward.await_metrics("every line is counted", |metrics| {
            metrics.value("hookward_log_lines_dropped_total", &[]) >= 10.0
        });
        hookward.stop();
    }
}

#[test]
fn a_stdout_that_nobody_reads_holds_nothing_up() {
    let (_unread, mut stdout) = std::io::pipe().unwrap();
    stdout.write_all(&[b'x'; 64 << 10]).unwrap();
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    let listen = setup.dir().join("in.sock");
    let setup = setup.flag("--listen", &format!("unix:{}", listen.display()));
    let mut process = setup.spawn_with_stdout(stdout);
    poll("it serves", || std::os::unix::net::UnixStream::connect(&listen).ok());
    poll("it says so", || process.stderr().contains("\"ready\"").then_some(()));
    assert_eq!(Wire::connect_unix(&listen).ask(&event()).status, 200);
    process.signal(Signal::TERM);
    let code = poll("it ends", || process.try_exit());
    assert_eq!(code, Some(0), "{}", process.stderr());
}
