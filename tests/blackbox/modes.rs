//! Modes `proxy`, `verify` and `pass`: the app's own answer, the decision alone, and no decision.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use super::harness::raw_app::{RawApp, answer, write};
use super::harness::*;

fn proxy_to(app: &RawApp, more: &str) -> Hookward {
    let yaml = format!("routes: [ {{ name: voice, path: \"/*\", mode: proxy{more} }} ]\n");
    Setup::without_upstream().flag("--upstream", &app.url()).config(&yaml).start()
}

fn pass_to(app: &RawApp) -> Hookward {
    let yaml = "routes: [ { name: open, path: \"/*\", mode: pass } ]\n";
    Setup::without_upstream()
        .without_flag("--ip-allowlist")
        .without_flag("--public-key")
        .flag("--upstream", &app.url())
        .config(yaml)
        .start()
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(bytes).collect()
}

#[test]
fn a_proxy_route_gives_the_apps_own_answer_to_a_genuine_request_and_nothing_to_a_forged_one() {
    let xml = b"<Response><Say>Hello</Say></Response>";
    let app = RawApp::start(|_, socket| {
        let fields = "Content-Type: application/xml\r\nX-App: one\r\nX-App: two\r\nSet-Cookie: a=b\r\nKeep-Alive: timeout=5\r\n\
                      Connection: keep-alive, X-Hop\r\nX-Hop: gone\r\nhookward-request-id: forged\r\n";
        write(socket, &answer("201 Made", fields, xml))
    });
    let hookward = proxy_to(&app, "");
    // A TeXML callback: form fields, signed as they are.
    let form = b"CallSid=v3%3Aabc&From=%2B13125550001&CallStatus=in-progress".to_vec();
    let request =
        signed(form.clone()).replace("Content-Type", "application/x-www-form-urlencoded").target("/texml?x=1");
    let mut wire = hookward.connect();
    let got = wire.ask(&request);
    assert_eq!((got.status, &got.body[..]), (201, &xml[..]), "{got:?}");
    assert_eq!(got.header("content-type"), Some("application/xml"));
    let all: Vec<_> = got.headers.iter().filter(|(name, _)| name == "X-App").map(|(_, value)| &**value).collect();
    assert_eq!(all, ["one", "two"]);
    assert_eq!((got.header("set-cookie"), got.header("x-hop"), got.header("keep-alive")), (Some("a=b"), None, None));
    let id = got.header("hookward-request-id").unwrap().to_owned();
    assert_ne!(id, "forged");

    let seen = app.next_request();
    assert!(seen.head.starts_with("POST /texml?x=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.body, form);
    assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen.header("hookward-verified"), Some("telnyx; key=key1"));
    assert_eq!(seen.header("hookward-delivery-id"), Some(&*id));
    assert_eq!(seen.header("hookward-attempt"), Some("1"));
    assert!(seen.header("telnyx-signature-ed25519").is_some() && seen.header("hookward-received-at").is_some());

    // The connection goes on, and a repeat is answered by the app again: it needs its reply.
    assert_eq!(wire.ask(&request).status, 201);
    assert_refused(&wire.ask(&forged()), 403, "signature_mismatch");
    assert_refused(&wire.ask(&event().without("Telnyx-Timestamp")), 403, "timestamp_missing");
    app.next_request();
    assert!(app.waiting().is_empty(), "nothing unverified came through");
    hookward.await_metric("hookward_requests_total", &[("route", "voice"), ("outcome", "passed")], 2.0);
    hookward.await_metric("hookward_requests_total", &[("route", "voice"), ("outcome", "rejected")], 2.0);
    assert!(hookward.metrics().value("hookward_delivery_duration_seconds_count", &[("route", "voice")]) >= 2.0);
}

#[test]
fn a_proxied_body_of_any_size_up_to_the_limit_arrives_whole() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"")));
    let hookward = proxy_to(&app, "");
    for bytes in [0, 10, 64 << 10, (64 << 10) + 1, 1 << 20] {
        let request = signed(pattern(bytes));
        for request in [request.clone(), request.chunked(70_000)] {
            assert_eq!(hookward.post(&request).status, 200, "{bytes}");
            let seen = app.next_request();
            assert!(seen.body == pattern(bytes), "{bytes}");
            assert_eq!(seen.header("content-length"), Some(&*bytes.to_string()), "a correct length, no chunks");
        }
    }
    assert_refused(&hookward.post(&signed(pattern((1 << 20) + 1))), 413, "body_too_large");
}

#[test]
fn an_answer_is_streamed_back_whatever_its_size_and_framing() {
    let ten_mb = pattern(10_000_000);
    let body = ten_mb.clone();
    let app = RawApp::start(move |request, socket| {
        match request.head.split(' ').nth(1).unwrap() {
        "/none" => write(socket, &answer("200 OK", "", b"")),
        "/204" => write(socket, b"HTTP/1.1 204 No Content\r\n\r\n"),
        "/length" => write(socket, &answer("200 OK", "", &body)),
        "/chunks" => {
            write(socket, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(100_000) {
                write(socket, format!("{:x}\r\n", chunk.len()).as_bytes());
                write(socket, chunk);
                write(socket, b"\r\n");
            }
            write(socket, b"0\r\n\r\n")
        }
        "/informed" => write(socket, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        _ => {
            // Ends with the connection.
            write(socket, b"HTTP/1.1 200 OK\r\n\r\n");
            write(socket, &body);
            false
        }
    }
    });
    let hookward = proxy_to(&app, "");
    for (target, bytes) in
        [("/none", 0), ("/204", 0), ("/length", 10_000_000), ("/chunks", 10_000_000), ("/close", 10_000_000)]
    {
        let got = hookward.post(&event().target(target));
        assert_eq!((got.status / 100, got.body.len()), (2, bytes), "{target}");
        assert!(bytes == 0 || got.body == ten_mb, "{target}");
    }
    assert_eq!(hookward.post(&event().target("/informed")).text(), "ok");
}

#[test]
fn an_answer_goes_on_in_our_version_whatever_the_app_speaks() {
    let app = RawApp::start(|request, socket| {
        let target = request.head.split(' ').nth(1).unwrap();
        match target {
            // As Python's `BaseHTTPRequestHandler` answers.
            "/length" => write(socket, b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\nContent-Length: 2\r\n\r\nok"),
            _ => write(socket, b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\n\r\nok"),
        };
        false
    });
    for hookward in [proxy_to(&app, ""), pass_to(&app)] {
        for target in ["/length", "/end"] {
            let mut wire = hookward.connect();
            for _ in 0..2 {
                wire.send(event().target(target).bytes());
                let head = String::from_utf8(wire.read_until(b"\r\n\r\n")).unwrap();
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {head}");
                let chunked =
                    head.contains("Transfer-Encoding: chunked") || head.contains("transfer-encoding: chunked");
                assert_eq!(chunked, target == "/end", "{head}");
                wire.read_until(if chunked { b"0\r\n\r\n" } else { b"ok" });
            }
            let old = String::from_utf8(event().target(target).bytes()).unwrap();
            let old = old.replacen("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n", 1);
            let mut wire = hookward.connect();
            wire.send(old);
            let head = String::from_utf8(wire.read_until(b"\r\n\r\n")).unwrap().to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 ok\r\n") && !head.contains("chunked"), "{head}");
            assert!(target == "/length" || head.contains("connection: close"), "only its end ends it: {head}");
        }
    }
}

#[test]
fn an_answer_tells_its_length_once_in_plain_digits_and_a_204_tells_none() {
    let app = RawApp::start(|request, socket| {
        let fields = match request.head.split(' ').nth(1).unwrap() {
            "/twice" => "200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            "/list" => "200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
            "/zeros" => "200 OK\r\nContent-Length: 002\r\n\r\nok",
            "/coded" => "200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "/204" => "204 No Content\r\nContent-Length: 0\r\n\r\n",
            _ => "200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        };
        write(socket, format!("HTTP/1.1 {fields}").as_bytes())
    });
    for hookward in [proxy_to(&app, ""), pass_to(&app)] {
        for (target, length, text) in [
            ("/twice", vec!["2"], "ok"),
            ("/list", vec!["2"], "ok"),
            ("/zeros", vec!["2"], "ok"),
            ("/coded", vec![], "ok"),
            ("/204", vec![], ""),
        ] {
            let got = hookward.post(&event().target(target));
            let is_length = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("content-length");
            let lengths: Vec<_> = got.headers.iter().filter(is_length).map(|(_, value)| &**value).collect();
            assert_eq!((lengths, got.text().as_str()), (length, text), "{target}: {got:?}");
        }
        assert_refused(&hookward.post(&event().target("/differ")), 502, "upstream_failed");
    }
}

#[test]
fn an_app_that_fails_costs_a_502_or_504_with_its_reason() {
    let app = RawApp::serve(|socket, _| {
        let mut seen = [0; 64 * 1024];
        let read = socket.read(&mut seen).unwrap_or(0);
        let head = String::from_utf8_lossy(&seen[..read]).into_owned();
        match head.split(' ').nth(1).unwrap_or_default() {
            // The body may come on its own, so until the client gives up.
            "/hangs" => while socket.read(&mut seen).is_ok_and(|read| read > 0) {},
            "/garbage" => drop(socket.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),
            "/resets" => rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).unwrap(),
            "/switches" => {
                drop(
                    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
                );
            }
            // Closed without a word.
            _ => {}
        }
    });
    let hookward = proxy_to(&app, ", upstream: { timeout: 2s }");
    assert_refused(&hookward.post(&event().target("/closes")), 502, "upstream_failed");
    assert_refused(&hookward.post(&event().target("/resets")), 502, "upstream_failed");
    assert_refused(&hookward.post(&event().target("/garbage")), 502, "upstream_failed");
    assert_refused(&hookward.post(&event().target("/switches")), 502, "upstream_failed");
    assert_refused(&hookward.post(&event().target("/hangs")), 504, "upstream_timeout");
    let labels = |reason| [("route", "voice"), ("reason", reason)];
    hookward.await_metric("hookward_rejections_total", &labels("upstream_failed"), 4.0);
    hookward.await_metric("hookward_rejections_total", &labels("upstream_timeout"), 1.0);
    hookward.await_metric("hookward_requests_total", &[("route", "voice"), ("outcome", "failed")], 5.0);

    let mut down = Sink::start();
    down.stop();
    let yaml = "routes: [ { mode: proxy } ]\n";
    let hookward = Setup::new(&down).config(yaml).start();
    let mut wire = hookward.connect();
    assert_refused(&wire.ask(&event()), 502, "upstream_failed");
    assert_refused(&wire.ask(&event()), 502, "upstream_failed");
}

#[test]
fn an_app_that_answers_before_it_has_read_everything_is_heard() {
    let app = RawApp::serve(|socket, _| {
        let mut seen = [0; 1024];
        let _ = socket.read(&mut seen);
        write(socket, &answer("413 Too Much", "Connection: close\r\n", b"too much"));
        // Reads on so that the answer is not reset away.
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    });
    let hookward = proxy_to(&app, "");
    let got = hookward.post(&signed(pattern(1 << 20)));
    assert_eq!((got.status, got.text().as_str()), (413, "too much"));
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let app = RawApp::start(|_, socket| {
        write(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        false
    });
    let hookward = proxy_to(&app, "");
    let mut wire = hookward.connect();
    wire.send(event().bytes());
    let bytes = String::from_utf8(wire.end_or_reset()).unwrap();
    assert!(bytes.starts_with("HTTP/1.1 200 ") && bytes.ends_with("\r\n\r\nhalf"), "{bytes}");
    let labels = [("route", "voice"), ("reason", "upstream_failed")];
    hookward.await_metric("hookward_rejections_total", &labels, 1.0);
}

#[test]
fn an_answer_that_stops_in_its_middle_is_cut_off_and_counted_as_a_timeout() {
    let app = RawApp::start(|_, socket| {
        write(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        true
    });
    let hookward = proxy_to(&app, ", upstream: { timeout: 1s }");
    let mut wire = hookward.connect();
    wire.send(event().bytes());
    let bytes = String::from_utf8(wire.end_or_reset()).unwrap();
    assert!(bytes.starts_with("HTTP/1.1 200 ") && bytes.ends_with("\r\n\r\nhalf"), "{bytes}");
    let labels = [("route", "voice"), ("reason", "upstream_timeout")];
    hookward.await_metric("hookward_rejections_total", &labels, 1.0);
}

#[test]
fn a_verify_route_answers_200_with_what_is_known_or_the_refusal_and_stores_nothing() {
    let yaml = "routes: [ { name: gate, path: /decide, mode: verify } ]\n";
    let hookward = Setup::without_upstream().config(yaml).start();
    let id = new_id();
    // A gateway appends the path that it was asked for, whatever that looks like.
    for target in ["/decide", "/decide/webhooks/telnyx?a=b", "/decide//x/../y"] {
        let got = hookward.post(&signed(body(&id)).target(target));
        assert_eq!(
            (got.status, got.body.len(), got.header("content-length")),
            (200, 0, Some("0")),
            "{target}: {got:?}"
        );
        assert_eq!(got.header("hookward-event-id"), Some(&*id));
        assert_eq!(got.header("hookward-event-type"), Some("message.received"));
        assert_eq!(got.header("hookward-verified"), Some("telnyx; key=key1"));
        assert_eq!(got.header("hookward-delivery-id"), got.header("hookward-request-id"));
        assert!(got.header("hookward-received-at").is_some());
    }
    assert_refused(&hookward.post(&forged().target("/decide")), 403, "signature_mismatch");
    assert_refused(&hookward.post(&signed_at(now_s() - 301, body(&id)).target("/decide")), 403, "timestamp_stale");
    assert_refused(&hookward.post(&event().target("/decided")), 404, "no_route");
    assert_refused(&hookward.post(&event().target("/decide").method("PUT")), 405, "method_not_allowed");
    for value in ["true", "True"] {
        let partial = event().target("/decide").header("x-envoy-auth-partial-body", value);
        assert_refused(&hookward.post(&partial), 413, "body_too_large");
    }
    let whole = event().target("/decide").header("x-envoy-auth-partial-body", "false");
    assert_eq!(hookward.post(&whole).status, 200);
    hookward.await_metric("hookward_requests_total", &[("route", "gate"), ("outcome", "passed")], 4.0);
    assert!(!hookward.setup().database().exists(), "no buffer where nothing is stored");
    assert_eq!(hookward.admin(&Request::get("/readyz")).status, 200);
}

#[test]
fn a_report_on_a_verify_route_passes_without_a_name() {
    let yaml = "routes: [ { name: gate, path: /decide, mode: verify, signature: report } ]\n";
    let hookward = Setup::without_upstream().config(yaml).start();
    let got = hookward.post(&forged().target("/decide"));
    assert_eq!((got.status, got.header("hookward-verified")), (200, Some("none")));
    assert_eq!((got.header("hookward-event-id"), got.header("hookward-event-type")), (None, None));
}

#[test]
fn without_a_data_directory_a_verifying_gateway_still_runs() {
    let yaml = "routes: [ { path: /decide, mode: verify } ]\n";
    let setup = Setup::without_upstream().config(yaml).flag("--data-dir", "/proc/nowhere");
    let hookward = setup.start();
    assert_eq!(hookward.post(&event().target("/decide")).status, 200);
    hookward.await_log("no admin socket");
}

#[test]
fn a_pass_route_is_a_plain_reverse_proxy() {
    let app = RawApp::start(|request, socket| match request.head.split(' ').next().unwrap() {
        "HEAD" => write(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        _ => write(socket, &answer("200 OK", "X-App: yes\r\n", b"hello")),
    });
    let hookward = pass_to(&app);
    let mut wire = hookward.connect();
    let get = Request::get("/page?q=1")
        .header("hookward-verified", "telnyx; key=key1")
        .header("Telnyx_Timestamp", "1")
        .header("X-Original-URL", "/admin")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("Cookie", "a=b");
    let got = wire.ask(&get);
    assert_eq!((got.status, got.text().as_str(), got.header("x-app")), (200, "hello", Some("yes")));
    assert!(got.header("hookward-request-id").is_some());
    let seen = app.next_request();
    assert!(seen.head.starts_with("GET /page?q=1 HTTP/1.1\r\n"));
    for dropped in ["hookward-verified", "telnyx_timestamp", "x-original-url", "content-length", "transfer-encoding"] {
        assert_eq!(seen.header(dropped), None, "{dropped}: {}", seen.head);
    }
    assert_eq!((seen.header("cookie"), seen.header("x-forwarded-for")), (Some("a=b"), Some("127.0.0.1")));

    let head = wire.ask(&Request::new("HEAD", "/page"));
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    let got = wire.ask(&Request::new("DELETE", "/thing/1"));
    assert_eq!(got.status, 200);
    for request in
        [Request::post("/up").body(pattern(3_000_000)), Request::post("/up").body(pattern(3_000_000)).chunked(65_536)]
    {
        assert_eq!(wire.ask(&request).text(), "hello");
    }
    let seen: Vec<_> = (0..4).map(|_| app.next_request()).collect();
    assert!(seen[2].body == pattern(3_000_000) && !seen[2].chunked);
    assert!(seen[3].body == pattern(3_000_000) && seen[3].chunked, "chunks stay chunks");
    hookward.await_metric("hookward_requests_total", &[("route", "open"), ("outcome", "passed")], 5.0);
}

#[test]
fn a_passed_body_is_streamed_while_it_comes_and_so_is_the_answer() {
    // Answers each piece of the body as soon as it is there, long before the end of the request.
    let app = RawApp::serve(|socket, _| {
        let mut reader = std::io::BufReader::new(socket.try_clone().unwrap());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        }
        write(socket, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let mut chunk = [0; 8];
            reader.read_exact(&mut chunk).unwrap();
            write(socket, &chunk);
        }
        let mut end = [0; 5];
        reader.read_exact(&mut end).unwrap();
        write(socket, &end);
    });
    let hookward = pass_to(&app);
    let mut wire = hookward.connect();
    wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.read_until(b"\r\n\r\n");
    for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "3\r\nsix\r\n"] {
        wire.send(piece);
        wire.read_until(&piece.as_bytes()[3..]);
    }
    wire.send(b"0\r\n\r\n");
    wire.read_until(b"0\r\n\r\n");
}

#[test]
fn a_chunked_body_ends_for_the_app_where_it_ends_whatever_the_pieces_that_it_comes_in() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"app")));
    let hookward = pass_to(&app);
    let mut wire = hookward.connect();
    for (body, framed) in
        [("", "0\r\n\r\n"), ("hello", "5\r\nhello\r\n0\r\n\r\n"), ("ab", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n")]
    {
        for split in 0..framed.len() {
            wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in [&framed[..split], &framed[split..]] {
                std::thread::sleep(Duration::from_millis(5));
                wire.send(piece);
            }
            assert_eq!(wire.answer().text(), "app", "{framed:?} cut at {split}");
            let seen = app.next_request();
            assert!(seen.head.starts_with("POST /up HTTP/1.1\r\n"), "{framed:?} cut at {split}: {seen:?}");
            assert_eq!((seen.body.as_slice(), seen.chunked), (body.as_bytes(), true), "{framed:?} cut at {split}");
        }
    }
    assert!(app.waiting().is_empty(), "no request but those");
}

#[test]
fn a_passed_connection_can_switch_protocols() {
    let app = RawApp::serve(|socket, _| {
        let mut reader = std::io::BufReader::new(socket.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            std::io::BufRead::read_line(&mut reader, &mut head).unwrap();
        }
        assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
        write(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello ");
        let mut byte = [0];
        while reader.read(&mut byte).is_ok_and(|read| read == 1) && byte != *b"." {
            write(socket, &byte);
        }
    });
    let hookward = pass_to(&app);
    let mut wire = hookward.connect();
    wire.send(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    );
    let head = String::from_utf8(wire.read_until(b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    wire.read_until(b"hello ");
    wire.send(b"both ways");
    wire.read_until(b"both ways");
    wire.send(b".");
    assert_eq!(wire.end_or_reset(), b"");
}

/// Everything to the app but one verified path.
fn passing_around_hooks(app: &RawApp) -> Hookward {
    let yaml = format!(
        "upstream: {{ url: '{}' }}\nunmatched: pass\nroutes: [ {{ name: hooks, path: /webhooks, mode: proxy }} ]\n",
        app.url()
    );
    Setup::without_upstream().config(&yaml).start()
}

#[test]
fn no_protocol_that_carries_requests_is_switched_to() {
    // A tunnel of HTTP to the app would take requests to verified paths past the check.
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"app")));
    let hookward = passing_around_hooks(&app);
    let mut wire = hookward.connect();
    for upgrade in [
        "Upgrade: h2c\r\n",
        "Upgrade: H2C\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: websocket, h2c\r\n",
        "Upgrade: websocket\r\nUpgrade: h2c\r\n",
        "Upgrade: h2\r\n",
        "Upgrade: HTTP/2.0\r\n",
        "Upgrade: TLS/1.2, HTTP/1.1\r\n",
        "Upgrade: SPDY/3.1\r\n",
        "Upgrade: \r\n",
    ] {
        wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n{upgrade}\r\n"));
        assert_eq!(wire.answer().text(), "app", "{upgrade}");
        let seen = app.next_request();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.header(name), None, "{upgrade}: {}", seen.head);
        }
    }
}

#[test]
fn what_comes_behind_an_upgrade_that_the_app_does_not_follow_is_a_request_of_its_own() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"app")));
    let hookward = passing_around_hooks(&app);
    let mut wire = hookward.connect();
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    wire.send([upgrade.as_slice(), &forged().target("/webhooks").bytes()].concat());
    assert_eq!(wire.answer().text(), "app");
    if let Some(second) = wire.answer_or_end() {
        assert_refused(&second, 403, "signature_mismatch");
    }
    let seen = app.next_request();
    assert!(seen.head.starts_with("GET /ws HTTP/1.1\r\n") && seen.body.is_empty() && !seen.chunked, "{seen:?}");
    assert!(app.waiting().is_empty());
}

#[test]
fn connect_goes_nowhere_whatever_passes() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"app")));
    let hookward = passing_around_hooks(&app);
    for target in ["/open", "/webhooks", "hooks.example.com:80"] {
        let answer = hookward.raw(Request::new("CONNECT", target).bytes());
        assert_refused(&answer, 400, "bad_request");
    }
    assert!(app.waiting().is_empty());
}

#[test]
fn an_upgrade_of_a_verified_request_is_not_passed_on() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"")));
    let hookward = proxy_to(&app, "");
    assert_eq!(hookward.post(&event().header("Connection", "upgrade").header("Upgrade", "websocket")).status, 200);
    let seen = app.next_request();
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (None, None), "{}", seen.head);
}

#[test]
fn a_path_that_an_app_may_take_for_a_verified_one_never_passes() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"app")));
    let hookward = passing_around_hooks(&app);
    let tricks = [
        "//webhooks",
        "/webhooks/",
        "/%77ebhooks",
        "/%2577ebhooks",
        "/x/../webhooks",
        "/x/%2e%2e/webhooks",
        "/./webhooks",
        "/webhooks;a",
        "/webhooks;a=b/",
        "/Webhooks",
        "/x%2f..%2fwebhooks",
        "/%5cwebhooks",
        "/webhooks%3fx",
        "/webhooks/.",
        "/webhooks/x/..",
    ];
    for target in tricks {
        for request in [forged().target(target), Request::get(target), event().target(target)] {
            assert_refused(&hookward.post(&request), 404, "no_route");
        }
    }
    assert!(app.waiting().is_empty());
    hookward.await_log("an app may take this path for that of the route ");
    // What is something else passes, and the route itself verifies whatever the method.
    for target in ["/", "/webhooks2", "/webhooks/below", "/other?path=/webhooks"] {
        assert_eq!(hookward.post(&Request::get(target)).text(), "app", "{target}");
        app.next_request();
    }
    assert_refused(&hookward.post(&forged().target("/webhooks")), 403, "signature_mismatch");
    let wrong = hookward.post(&Request::get("/webhooks"));
    assert_refused(&wrong, 405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert_eq!(hookward.post(&event().target("/webhooks?x")).text(), "app");
    hookward.await_metric("hookward_requests_total", &[("route", "none"), ("outcome", "passed")], 4.0);
}

#[test]
fn expect_100_is_answered_before_a_passed_body_and_not_before_a_refusal() {
    let app = RawApp::start(|_, socket| write(socket, &answer("200 OK", "", b"")));
    let hookward = pass_to(&app);
    let mut wire = hookward.connect();
    let request = Request::post("/up").header("Expect", "100-continue").body(b"hello".to_vec());
    wire.send(request.head());
    wire.read_until(b"HTTP/1.1 100 Continue\r\n\r\n");
    wire.send(b"hello");
    assert_eq!(wire.answer().status, 200);
    let seen = app.next_request();
    assert_eq!((seen.body.as_slice(), seen.header("expect")), (&b"hello"[..], None));
}

#[test]
fn the_health_path_answers_as_readyz_and_is_neither_counted_nor_passed() {
    let (sink, mut hookward) = pair_with("health_path: /healthz\nshutdown: { delay: 2s }\n");
    let ready = hookward.post(&Request::get("/healthz?x"));
    assert_eq!((ready.status, ready.text().as_str()), (200, r#"{"status":"ready"}"#));
    assert!(ready.header("hookward-request-id").is_some());
    assert_refused(&hookward.post(&Request::post("/healthz")), 403, "signature_missing");
    hookward.sigterm();
    let down =
        poll("not ready", || Some(hookward.post(&Request::get("/healthz"))).filter(|answer| answer.status == 503));
    assert_eq!(down.text(), r#"{"error":"draining"}"#);
    assert_eq!(hookward.metrics().value("hookward_requests_total", &[("route", "none"), ("outcome", "passed")]), 0.0);
    assert_eq!(hookward.wait_exit(), Some(0));
    assert_eq!(sink.count(), 0);
}

#[test]
fn bodies_share_their_memory_and_what_is_beyond_it_is_overloaded() {
    let yaml = "limits: { body_memory: 1MiB, body_timeout: 60s }\nroutes: [ { path: \"/*\", max_body: 1MiB } ]\n";
    let (sink, hookward) = pair_with(yaml);
    let request = signed(pattern(1 << 20));
    let mut slow = hookward.connect();
    slow.send(request.head());
    slow.send(&request.framed_body()[..900_000]);
    let over = poll("the first body has arrived so far", || {
        Some(hookward.post(&signed(pattern(300_000)))).filter(|answer| answer.status != 200)
    });
    assert_refused(&over, 503, "overloaded");
    drop(slow);
    // And the memory is given back.
    poll("room again", || (hookward.post(&signed(pattern(1 << 20))).status == 200).then_some(()));
    drop(sink);
}

#[test]
fn a_tunnel_that_is_silent_ends_at_the_idle_timeout() {
    let app = RawApp::serve(|socket, _| {
        let mut seen = [0; 4096];
        let _ = socket.read(&mut seen);
        write(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        // Silent until hookward ends it.
        let _ = socket.read(&mut seen);
    });
    let yaml = "limits: { idle_timeout: 300ms }\nroutes: [ { mode: pass } ]\n";
    let hookward = Setup::without_upstream().flag("--upstream", &app.url()).config(yaml).start();
    let mut wire = hookward.connect();
    wire.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    wire.read_until(b"\r\n\r\n");
    let begun = std::time::Instant::now();
    assert_eq!(wire.end_or_reset(), b"");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_proxied_request_that_is_under_way_is_answered_before_the_end() {
    let (go, wait) = std::sync::mpsc::channel();
    let app = RawApp::start(move |_, socket| {
        let _ = wait.recv_timeout(DEADLINE);
        write(socket, &answer("200 OK", "", b"late"))
    });
    let mut hookward = proxy_to(&app, "");
    let mut wire = hookward.connect();
    wire.send(event().bytes());
    app.next_request();
    hookward.sigterm();
    poll("it accepts no more", || Wire::try_connect(hookward.listen()).is_err().then_some(()));
    go.send(()).unwrap();
    let answer = wire.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
    assert_eq!(wire.end(), b"");
    assert_eq!(hookward.wait_exit(), Some(0));
}

#[test]
fn a_tunnel_does_not_outlive_the_drain() {
    let app = RawApp::serve(|socket, _| {
        let mut seen = [0; 4096];
        let _ = socket.read(&mut seen);
        write(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        while socket.read(&mut seen).is_ok_and(|read| read > 0) {}
    });
    let yaml = "shutdown: { drain: 1s }\nroutes: [ { mode: pass } ]\n";
    let mut hookward = Setup::without_upstream().flag("--upstream", &app.url()).config(yaml).start();
    let mut wire = hookward.connect();
    wire.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    wire.read_until(b"\r\n\r\n");
    hookward.stop();
    assert_eq!(wire.end_or_reset(), b"");
}
