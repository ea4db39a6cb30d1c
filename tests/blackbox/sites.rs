//! `unmatched: pass` before sites of four ecosystems: what is passed arrives as it is and says nothing of
//! a verification, and what a site may take for the verified path stops at hookward. `make test-sdk`
//! installs what the sites run on; `make test` leaves these tests out.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::harness::*;

/// For a runtime to start on a busy machine.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
/// How often a port that was free may turn out taken.
const PORT_TRIES: usize = 5;

/// A site in a process of its own.
struct Site {
    port: u16,
    _process: Process,
}

impl Site {
    /// Prints the port that it has chosen.
    fn start(program: &str, file: &str) -> Site {
        let process = Process::spawn(Command::new(program).arg(file_of(file)));
        let port = process.next_line(STARTED_WITHIN).unwrap_or_else(|| panic!("no port\n{}", process.stderr()));
        Site { port: port.trim().parse().unwrap(), _process: process }
    }

    /// PHP's server has to be given its port.
    fn start_php() -> Site {
        for _ in 0..PORT_TRIES {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let address = format!("127.0.0.1:{port}");
            let process = Process::spawn(Command::new("php").args(["-S", &address]).arg(file_of("site.php")));
            let said = poll_within(STARTED_WITHIN, "php says something", || {
                let said = process.stderr();
                ["started", "Failed"].into_iter().find(|word| said.contains(word))
            });
            if said == "started" {
                return Site { port, _process: process };
            }
        }
        panic!("no free port in {PORT_TRIES} tries");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn file_of(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

fn guards(site: &Site) {
    let yaml = format!(
        "upstream: {{ url: \"{}\" }}\nunmatched: pass\nroutes: [ {{ name: hooks, path: /webhooks, mode: proxy }} ]\n",
        site.url()
    );
    let hookward = Setup::without_upstream().config(&yaml).start();
    let genuine = hookward.post(&event().target("/webhooks"));
    let verified = json!({"path": "/webhooks", "verified": "telnyx; key=key1", "moved": null});
    assert_eq!((genuine.status, genuine.json()), (200, verified), "{genuine:?}");
    assert_refused(&hookward.post(&forged().target("/webhooks")), 403, "signature_mismatch");

    for (target, path) in
        [("/", "/"), ("/page?a=b", "/page"), ("/caf%C3%A9", "/café"), ("/webhooks/settings", "/webhooks/settings")]
    {
        let request = Request::get(target)
            .header("hookward-verified", "telnyx; key=key1")
            .header("X-Forwarded-Prefix", "/elsewhere")
            .header("Script-Name", "/elsewhere");
        let passed = hookward.post(&request);
        let open = json!({"path": path, "verified": null, "moved": null});
        assert_eq!((passed.status, passed.json()), (200, open), "{target}: {passed:?}");
    }
    for target in [
        "/webhooks/",
        "/WEBHOOKS",
        "//webhooks",
        "/webhooks%20",
        "/webhooks%09",
        "/webhooks%ff",
        "/index.php/webhooks",
        "/app/webhooks",
    ] {
        assert_refused(&hookward.post(&Request::get(target)), 404, "no_route");
    }
}

#[test]
#[ignore = "needs the sites' runtimes: make test-sdk"]
fn a_site_in_python_gets_what_is_passed_and_nothing_that_may_be_the_verified_path() {
    guards(&Site::start("python3", "site.py"));
}

#[test]
#[ignore = "needs the sites' runtimes: make test-sdk"]
fn a_site_in_node_gets_what_is_passed_and_nothing_that_may_be_the_verified_path() {
    guards(&Site::start("node", "site.cjs"));
}

#[test]
#[ignore = "needs the sites' runtimes: make test-sdk"]
fn a_site_in_java_gets_what_is_passed_and_nothing_that_may_be_the_verified_path() {
    guards(&Site::start("java", "Site.java"));
}

#[test]
#[ignore = "needs the sites' runtimes: make test-sdk"]
fn a_site_in_php_gets_what_is_passed_and_nothing_that_may_be_the_verified_path() {
    guards(&Site::start_php());
}

/// The guard alone, with an app that records what comes.
#[test]
fn what_moves_a_path_does_not_pass_and_what_ends_in_a_verified_one_passes_only_where_its_route_says_so() {
    let sink = Sink::start();
    let config = |more: &str| {
        format!(
            "unmatched: pass\nroutes: [ {{ name: hooks, path: /webhooks, mode: proxy{more} }}, {{ name: own, path: /docs/webhooks, mode: pass }} ]\n"
        )
    };
    let hookward = Setup::new(&sink).config(&config("")).start();
    for target in ["/app/webhooks", "/index.php/WebHooks/", "/webhooks%20", "/a%00", "/a%ff"] {
        assert_refused(&hookward.post(&Request::post(target)), 404, "no_route");
    }
    let moved = ["script_name", "Script-Name", "path_info", "X-Forwarded-Prefix", "X-Original-URI", "X-Replaced-Path"];
    let request = moved.iter().fold(Request::post("/docs/webhooks"), |request, name| request.header(name, "/webhooks"));
    assert_eq!(hookward.post(&request).status, 200, "a path that the configuration names");
    let passed = sink.first();
    assert_eq!(passed.target, "/docs/webhooks");
    assert!(moved.iter().all(|name| !passed.has(name)), "{}", passed.head());

    let hookward = Setup::new(&sink).config(&config(", path_ends: pass")).start();
    assert_eq!(hookward.post(&Request::post("/app/webhooks")).status, 200);
    assert_refused(&hookward.post(&Request::post("/webhooks/")), 404, "no_route");
    let trusted =
        Setup::new(&sink).config(&format!("{}client_ip: {{ trusted_proxies: [127.0.0.1] }}\n", config(""))).start();
    let request =
        Request::post("/page").header("X-Forwarded-For", "192.0.2.1").header("X-Forwarded-Prefix", "/webhooks");
    assert_eq!(trusted.post(&request).status, 200);
    let passed = sink.wait_for(3).pop().unwrap();
    assert!(passed.has("x-forwarded-for") && !passed.has("x-forwarded-prefix"), "{}", passed.head());
}
