//! TLS towards the app: whom hookward trusts, what it shows, and what it says where that fails.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::harness::raw_app::{RawApp, answer, write};
use super::harness::received::read_request;
use super::harness::tls::{Authority, Issued};
use super::harness::*;

const NAME: &str = "app.internal";

/// An app that speaks TLS, takes one request per connection and answers 200. What it got, and which
/// name it was asked for (SNI).
fn tls_app(issued: &Issued) -> (SocketAddr, Receiver<(Received, Option<String>)>) {
    tls_app_for(issued, None)
}

/// The same, for clients of an authority.
fn tls_app_for(issued: &Issued, clients: Option<&Authority>) -> (SocketAddr, Receiver<(Received, Option<String>)>) {
    let chain = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (arrived, arrivals) = channel();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            if let Ok(Some(received)) = read_request(&mut BufReader::new(&mut stream)) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.conn.send_close_notify();
                let _ = stream.flush();
                let _ = stream.sock.read(&mut [0]);
                let asked_for = stream.conn.server_name().map(ToOwned::to_owned);
                if arrived.send((received, asked_for)).is_err() {
                    return;
                }
            }
        }
    });
    (address, arrivals)
}

fn in_front_of(app: SocketAddr, ca: &Authority, server_name: &str) -> Hookward {
    setup_for(app, ca, server_name, None, QUICK_RETRIES).start()
}

fn setup_for(app: SocketAddr, ca: &Authority, server_name: &str, own: Option<&Issued>, yaml: &str) -> Setup {
    let setup = Setup::without_upstream();
    let file = |name: &str, text: &str| {
        let path = setup.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut tls = format!("ca: {}, server_name: {server_name}", file("app-ca.crt", &ca.pem));
    if let Some(own) = own {
        let (cert, key) = (file("own.crt", &own.cert_pem), file("own.key", &own.key_pem));
        tls.push_str(&format!(", cert: {cert}, key: {key}"));
    }
    setup.config(&format!("upstream: {{ url: \"https://{app}\", tls: {{ {tls} }} }}\n{yaml}"))
}

/// The `last_error` of the only event, once there is one.
fn last_error(hookward: &Hookward) -> String {
    poll("an attempt that failed", || {
        let listed = hookward.admin_socket(&Request::get("/api/v1/events")).json();
        listed["events"][0]["last_error"].as_str().map(str::to_owned)
    })
}

#[test]
fn an_app_with_a_certificate_of_a_private_ca_gets_its_events() {
    let ca = Authority::new();
    let (app, arrivals) = tls_app(&ca.issue(NAME));
    let hookward = in_front_of(app, &ca, NAME);
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let (received, asked_for) = arrivals.recv_timeout(DEADLINE).unwrap();
    assert_eq!((received.event_id(), received.body), (id.clone(), body(&id)));
    assert_eq!(asked_for.as_deref(), Some(NAME));
    hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
}

#[test]
fn an_app_with_another_name_or_of_another_ca_gets_nothing() {
    let (ca, stranger) = (Authority::new(), Authority::new());
    for (trusted, name) in [(&ca, "other.internal"), (&stranger, NAME)] {
        let (app, arrivals) = tls_app(&ca.issue(NAME));
        let hookward = in_front_of(app, trusted, name);
        assert_eq!(hookward.post(&event()).status, 200);
        hookward.await_metrics("two retries", |metrics| {
            metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]) >= 2.0
        });
        assert!(arrivals.try_recv().is_err());
        assert_eq!(hookward.metrics().value("hookward_buffer_events", &[("state", "pending")]), 1.0);
    }
}

#[test]
fn another_ca_for_the_app_counts_without_a_restart() {
    let (ca, stranger) = (Authority::new(), Authority::new());
    let (app, arrivals) = tls_app(&ca.issue(NAME));
    let hookward = in_front_of(app, &stranger, NAME);
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    hookward.await_metrics("a retry", |metrics| {
        metrics.value("hookward_delivery_attempts_total", &[("result", "retry")]) >= 1.0
    });
    assert!(arrivals.try_recv().is_err());
    std::fs::write(hookward.setup().dir().join("app-ca.crt"), &ca.pem).unwrap();
    let (received, _) = arrivals.recv_timeout(DEADLINE).unwrap();
    assert_eq!(received.event_id(), id);
}

#[test]
fn what_is_wrong_with_the_certificate_of_an_app_stands_in_last_error_in_the_log_and_in_the_status() {
    let (ca, stranger) = (Authority::new(), Authority::new());
    for (issued, trusted, name, expected) in [
        (ca.issue(NAME), &stranger, NAME, "the issuer of the app's certificate is not trusted: "),
        (ca.issue_until(NAME, 2021), &ca, NAME, "the app's certificate has expired at 2021-01-01T00:00:00Z: "),
        (ca.issue(NAME), &ca, "other.internal", "the app's certificate is not valid for other.internal: "),
    ] {
        let (app, _arrivals) = tls_app(&issued);
        let hookward = in_front_of(app, trusted, name);
        assert_eq!(hookward.post(&event()).status, 200);
        let told = last_error(&hookward);
        assert!(told.starts_with(expected), "{told}");
        assert!(told.contains("(it is for app.internal, issued by ") && told.contains(", valid from "), "{told}");
        assert!(hookward.await_log("TLS with the app fails").contains(&told), "{told}");
        let status = hookward.admin_socket(&Request::get("/api/v1/status")).json();
        assert!(status.to_string().contains(&told), "{status}");
    }
}

#[test]
fn an_app_that_is_stopped_and_one_that_speaks_no_tls_read_otherwise_than_a_bad_certificate() {
    let ca = Authority::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = RawApp::serve(|socket, _| {
        let _ = socket.read(&mut [0; 1024]);
        write(socket, &answer("400 Bad Request", "", b""));
        // Closed with bytes unread, the answer might be lost.
        let _ = socket.read(&mut [0; 1024]);
    });
    for (app, expected) in
        [(nobody, "cannot connect (refused or unreachable)"), (plain.address, "does not speak TLS on this port")]
    {
        let hookward = in_front_of(app, &ca, NAME);
        assert_eq!(hookward.post(&event()).status, 200);
        let told = last_error(&hookward);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn an_app_that_asks_for_a_client_certificate_gets_the_configured_one_and_a_new_one_without_a_restart() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let (app, arrivals) = tls_app_for(&ca.issue(NAME), Some(&clients));
    let stranger = Authority::new().issue("hookward");
    let hookward = setup_for(app, &ca, NAME, Some(&stranger), QUICK_RETRIES).start();
    let id = new_id();
    assert_accepted(&hookward.post(&signed(body(&id))), &id);
    let told = last_error(&hookward);
    assert!(told.starts_with("the app does not accept the client certificate"), "{told}");
    let known = clients.issue("hookward");
    std::fs::write(hookward.setup().dir().join("own.crt"), &known.cert_pem).unwrap();
    std::fs::write(hookward.setup().dir().join("own.key"), &known.key_pem).unwrap();
    let (received, _) = arrivals.recv_timeout(DEADLINE).unwrap();
    assert_eq!(received.event_id(), id);

    let hookward = in_front_of(app, &ca, NAME);
    assert_eq!(hookward.post(&event()).status, 200);
    assert!(last_error(&hookward).starts_with("the app wants a client certificate: set upstream.tls.cert"));
}

#[test]
fn the_start_warns_of_an_apps_certificate_before_any_event_and_goes_on() {
    let ca = Authority::new();
    let (app, _arrivals) = tls_app(&ca.issue("other.internal"));
    let hookward = in_front_of(app, &ca, NAME);
    let warning = hookward.await_log("TLS with the app fails");
    assert!(warning.contains("not valid for app.internal"), "{warning}");
    assert_eq!(hookward.post(&event()).status, 200);
}

#[test]
fn check_warns_of_an_apps_certificate_and_not_of_an_app_that_is_down() {
    let ca = Authority::new();
    let (app, _arrivals) = tls_app(&ca.issue("other.internal"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (app, warns) in [(app, true), (nobody, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (config, pem) = (dir.path().join("hookward.yaml"), dir.path().join("ca.crt"));
        std::fs::write(&pem, &ca.pem).unwrap();
        let tls = format!("{{ ca: {}, server_name: {NAME} }}", pem.display());
        let yaml = format!(
            "unmatched: pass\nroutes: [ {{ name: v, mode: pass, path: /v }} ]\nupstream: {{ url: \"https://{app}\", tls: {tls} }}\n"
        );
        std::fs::write(&config, yaml).unwrap();
        let finished = run_to_end(&["check", "--config", config.to_str().unwrap()]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(
            finished.stderr.contains("the app's certificate is not valid for app.internal"),
            warns,
            "{finished:?}"
        );
    }
}

#[test]
fn a_502_of_mode_proxy_has_the_reason_in_its_log_line() {
    let (ca, stranger) = (Authority::new(), Authority::new());
    let (app, _arrivals) = tls_app(&ca.issue(NAME));
    let yaml = "routes: [ { name: voice, path: \"/*\", mode: proxy } ]\n";
    let hookward = setup_for(app, &stranger, NAME, None, yaml).start();
    assert_refused(&hookward.post(&event()), 502, "upstream_failed");
    let line = hookward.await_log("upstream_failed");
    let line = line.lines().find(|line| line.contains("upstream_failed")).unwrap();
    assert!(line.contains("the issuer of the app's certificate is not trusted"), "{line}");
}
