use proptest::prelude::*;
use tracing::Level;

use std::path::PathBuf;

use super::*;
use crate::config::Secret;
use crate::config::reader::node::{self, Node, Value};
use crate::config::{
    Checks, Destination, Durability, End, Forwarded, Handling, LogFormat, MaxBytes, PathPattern, ProxyProtocol,
    Reserve, Retry,
};
use crate::gate::Enforcement;
use crate::gate::allowlist::Allowlist;

const KEY: &str = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";
const OTHER_KEY: &str = "8kPxnKPdu4MxHZ3WGqP2WDPcXBMUoRCHPFxJxyRbKno=";
const SAMPLE: &str = include_str!("../../../config/hookward.yaml");

fn keyed() -> Overrides {
    Overrides { public_key: vec![KEY.into()], upstream: Some("http://127.0.0.1:3000".into()), ..Overrides::default() }
}

fn resolved(text: &str, overrides: &Overrides) -> Resolved {
    let file = SourceFile { name: "h.yaml".into(), text: text.into() };
    resolve(Some(&file), overrides, &|name| (name == "KEYS").then(|| format!("{KEY},{OTHER_KEY}")))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str, overrides: &Overrides) -> Vec<String> {
    let file = SourceFile { name: "h.yaml".into(), text: text.into() };
    resolve(Some(&file), overrides, &|_| None).err().map(|problems| problems.lines().collect()).unwrap_or_default()
}

/// Exactly one problem, with these words.
fn assert_problem(text: &str, overrides: &Overrides, words: &[&str]) {
    let shown = problems(text, overrides);
    assert_eq!(shown.len(), 1, "{text}: {shown:#?}");
    for word in words {
        assert!(shown[0].contains(word), "{text}: `{word}` is not in {}", shown[0]);
    }
}

fn checks(route: &crate::config::Route) -> &Checks {
    route.checks().unwrap()
}

fn addresses(config: &Config) -> Vec<String> {
    config.listen.iter().map(|listener| listener.address.to_string()).collect()
}

#[test]
fn flags_alone_make_one_route_with_every_default() {
    let Resolved { config, warnings } = resolve(None, &keyed(), &|_| None).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(addresses(&config), ["0.0.0.0:8080"]);
    assert_eq!(config.admin.address, "127.0.0.1:9090".parse().unwrap());
    assert!(config.admin.token.is_none());
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/hookward"));
    assert_eq!((config.buffer.max_bytes, config.buffer.require), (MaxBytes::Fixed(1 << 30), Durability::Pod));
    let retry = Retry { base: MILLISECOND * 500, max: SECOND * 300, max_age: HOUR * 72, client_errors: 8 };
    assert_eq!((config.delivery.retry, config.delivery.ordering), (retry, None));
    assert_eq!((config.delivery.dead_letter_keep, config.delivery.delivered_keep), (HOUR * 336, Duration::ZERO));
    assert_eq!((config.shutdown.delay, config.shutdown.drain), (Duration::ZERO, SECOND * 10));
    assert_eq!(config.limits.uri_bytes, 8192);
    assert!(config.threads >= 1);
    let [route] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!((&*route.name, &route.path), ("default", &PathPattern::Prefix("/".into())));
    let checks = checks(route);
    assert_eq!((&*checks.keys[0].name, checks.keys.len()), ("key1", 1));
    assert!(
        matches!(&checks.allowlist, Allowlist::Only { nets, mode: Enforcement::Enforce } if nets.as_slice().len() == 4)
    );
    assert_eq!(checks.tolerance.past, SECOND * 300);
    let (upstream, dedupe) = route.ack().unwrap();
    let dedupe = dedupe.unwrap();
    assert_eq!((dedupe.window, &*dedupe.scope), (HOUR * 24, "default"));
    assert_eq!((upstream.connect_timeout, upstream.timeout), (SECOND, SECOND * 15));
    assert_eq!((upstream.limits.max_concurrency, upstream.signer.is_some()), (32, false));
    assert!(Arc::ptr_eq(upstream, config.default_upstream.as_ref().unwrap()));
    assert!(config.unmatched.is_none() && config.health_path.is_none());
    assert_eq!(config.limits.body_memory_bytes, 64 << 20);
    assert_eq!(config.limits.failed_signatures_per_client.unwrap().get(), 50);
}

#[test]
fn the_memory_for_bodies_may_be_4_gib_and_a_larger_one_is_told_so() {
    let with = |size: &str| format!("limits: {{ body_memory: {size} }}");
    assert_eq!(resolved(&with("4GiB"), &keyed()).config.limits.body_memory_bytes, 4 << 30);
    assert_problem(&with("5GiB"), &keyed(), &["limits.body_memory", "from 64KiB to 4GiB"]);
}

#[test]
fn a_duplicate_key_has_known_places_and_a_header_is_a_warning() {
    let with = |key: &str| format!("routes: [{{ dedupe: {{ key: {key} }} }}]");
    let resolved = resolved(&with("[/data/n, form:CallSid, header:x-id]"), &keyed());
    assert_eq!(resolved.config.routes[0].ack().unwrap().1.unwrap().key.0.len(), 3);
    assert!(
        resolved.warnings.iter().any(|warning| warning.contains("signature does not cover")),
        "{:?}",
        resolved.warnings
    );
    assert_problem(
        &with("[CallSid]"),
        &keyed(),
        &["routes[0].dedupe.key[0]", "neither a JSON pointer", "form:CallSid"],
    );
    assert_problem(&with("[/a, /b, /c, /d, /e]"), &keyed(), &["routes[0].dedupe.key", "more than 4"]);
    assert_problem(&with("form:CallSid"), &keyed(), &["routes[0].dedupe.key", "expected a list"]);
}

#[test]
fn every_problem_is_reported_at_once_with_line_and_mend() {
    let text = "\
listen:
  - address: :8080
threads: 0
limits:
  header_timout: 5s
  body_timeout: 300
upstream:
  url: http://app:3000/hooks
buffer:
  max_bytes: lots
routes:
  - name: Messaging
    path: webhooks
    methods: [GET]
    mode: prox
    keys:
      - { name: a, env: NOT_THERE }
      - hunter2
    ip_allowlist:
      sources: [telnyx, 10.0.0.1/8]
    timestamp: { past: 0s }
    dedupe: { window: 1m }
    signature: off
log: { level: loud }
";
    let overrides = Overrides { admin: Some("nowhere".into()), ..Overrides::default() };
    let expected = "\
h.yaml:2: listen[0].address: `:8080` is not an address to listen on; write 0.0.0.0:8080, or [::]:8080 for IPv6 too
h.yaml:3: threads: `0` is out of range; write a whole number from 1 to 1024
h.yaml:5: limits.header_timout: is an unknown key; did you mean `header_timeout`?
h.yaml:6: limits.body_timeout: `300` is not a duration; write a duration from 100ms to 1h, such as 300s, 5m or 72h
h.yaml:8: upstream.url: `http://app:3000/hooks` must not have a path: the sender's path is kept; write only scheme, host and port
h.yaml:10: buffer.max_bytes: `lots` is not a size; write a size from 64KiB to 16TiB, such as 64KiB or 1GiB, or auto
h.yaml:12: routes[0].name: `Messaging` is not a name; write 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit
h.yaml:13: routes[0].path: `webhooks` does not begin with /; write an absolute path such as /webhooks, or /webhooks/* for all below it
h.yaml:14: routes[0].methods[0]: GET cannot be verified: a query is not signed; leave it out
h.yaml:15: routes[0].mode: `prox` is not known here; write ack, proxy, verify or pass
h.yaml:17: routes[0].keys[0].env: `NOT_THERE` is not set; set it in the environment of hookward, or use `file:`
h.yaml:18: routes[0].keys[1]: is a text, expected a section; write `key: value` lines under it
h.yaml:20: routes[0].ip_allowlist.sources[1]: `10.0.0.1/8` has bits set behind its prefix; did you mean 10.0.0.0/8?
h.yaml:21: routes[0].timestamp.past: `0s` is out of range; write a duration from 1s to 24h, such as 300s, 5m or 72h
h.yaml:22: routes[0].dedupe.window: is shorter than timestamp.past and future together (10m): a replay could outlive it; write 10m or more, or `dedupe: off`
h.yaml:23: routes[0].signature: `off` is not known here; write enforce or report
h.yaml:24: log.level: `loud` is not known here; write error, warn, info, debug or trace
--admin: `nowhere` is not an address to listen on; write an IP address with a port, such as 0.0.0.0:8080 or [::1]:8080; port 0 takes any";
    assert_eq!(problems(text, &overrides).join("\n"), expected);
}

#[test]
fn flags_beat_the_file_and_empty_variables_are_not_set() {
    let text = "\
listen: [{ address: 127.0.0.1:1 }, { address: 127.0.0.1:2 }]
admin: { address: 127.0.0.1:3 }
data_dir: /a
upstream: { url: https://app, timeout: 3s, tls: { server_name: x } }
buffer: { max_bytes: 1MiB, require: volume }
log: { format: text, level: warn }
client_ip: { trusted_proxies: [192.0.2.1] }
";
    let overrides = Overrides {
        listen: vec!["127.0.0.1:0".into(), String::new()],
        admin: Some("127.0.0.1:0".into()),
        data_dir: Some("/b".into()),
        upstream: Some("unix:/run/app.sock".into()),
        buffer_max_bytes: Some("2MiB".into()),
        buffer_require: Some("process".into()),
        log_format: Some("json".into()),
        log_level: Some(String::new()),
        trusted_proxy: vec!["unix".into(), "10.0.0.0/8".into()],
        ..keyed()
    };
    let config = resolved(text, &overrides).config;
    assert_eq!(addresses(&config), ["127.0.0.1:0"]);
    assert_eq!(config.admin.address.port(), 0);
    assert_eq!(config.data_dir, PathBuf::from("/b"));
    let upstream = config.default_upstream.unwrap();
    assert_eq!(upstream.destination, Destination::Unix("/run/app.sock".into()));
    assert_eq!(upstream.timeout, SECOND * 3);
    assert_eq!((config.buffer.max_bytes, config.buffer.require), (MaxBytes::Fixed(2 << 20), Durability::Process));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, Level::WARN));
    assert!(config.trusted_proxies.unix && config.trusted_proxies.nets.as_slice().len() == 1);
    let config = resolved(text, &keyed()).config;
    assert_eq!(config.listen.len(), 2);
}

#[test]
fn flags_fill_in_only_what_a_route_leaves_out() {
    let text = format!(
        "
routes:
  - name: own
    path: /own
    keys: [{{ name: mine, value: \"{OTHER_KEY}\" }}]
    ip_allowlist: {{ sources: [192.0.2.0/24] }}
    upstream: {{ url: http://own:1 }}
  - name: filled
    path: /filled
  - name: watched
    path: /watched
    ip_allowlist: {{ mode: report }}
"
    );
    let list = |specs: &[&str]| Overrides { ip_allowlist: specs.iter().map(|s| (*s).to_owned()).collect(), ..keyed() };
    let config = resolved(&text, &list(&["off"])).config;
    let [own, filled, watched] = config.routes.as_slice() else { panic!() };
    assert_eq!(
        (&*checks(own).keys[0].name, own.upstream().unwrap().destination.authority().as_str()),
        ("mine", "own:1")
    );
    assert!(
        matches!(&checks(own).allowlist, Allowlist::Only { nets, mode: Enforcement::Enforce } if nets.as_slice()[0].to_string() == "192.0.2.0/24")
    );
    assert_eq!(
        (&*checks(filled).keys[0].name, filled.upstream().unwrap().destination.authority().as_str()),
        ("key1", "127.0.0.1:3000")
    );
    assert!(matches!(checks(filled).allowlist, Allowlist::Off));
    assert!(matches!(checks(watched).allowlist, Allowlist::Only { mode: Enforcement::Report, .. }));

    let config = resolved(&text, &list(&["203.0.113.9", "telnyx"])).config;
    assert!(matches!(&checks(&config.routes[1]).allowlist, Allowlist::Only { nets, .. } if nets.as_slice().len() == 5));
    assert!(
        matches!(&checks(&config.routes[2]).allowlist, Allowlist::Only { nets, mode: Enforcement::Report } if nets.as_slice().len() == 5)
    );
}

#[test]
fn keys_of_one_variable_are_numbered() {
    let overrides = Overrides { public_key: vec![KEY.into(), OTHER_KEY.into()], ..keyed() };
    let names =
        |config: &Config| checks(&config.routes[0]).keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&resolve(None, &overrides, &|_| None).unwrap().config), ["key1", "key2"]);
    assert_eq!(names(&resolved("routes: [{ keys: [{ env: KEYS }] }]", &keyed()).config), ["key1", "key1-2"]);
    let twice = Overrides { public_key: vec![KEY.into(), KEY.into()], ..keyed() };
    assert!(resolve(None, &twice, &|_| None).unwrap().warnings[0].contains("same key twice"));
}

#[test]
fn several_paths_make_several_routes() {
    let overrides = Overrides { path: vec!["/a".into(), "/b/*".into()], ..keyed() };
    let config = resolve(None, &overrides, &|_| None).unwrap().config;
    let names: Vec<_> = config.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["default", "default-2"]);
    let config = resolved("routes: [{ path: /own }]", &overrides);
    assert_eq!(config.config.routes.len(), 1);
    assert!(config.warnings[0].starts_with("--path: is ignored"));
    let twice = Overrides { path: vec!["/a".into(), "/a".into()], ..keyed() };
    assert!(
        resolve(None, &twice, &|_| None).unwrap_err().to_string().starts_with("--path: has the path of another route")
    );
}

#[test]
fn what_is_missing_says_how_to_give_it() {
    let shown = resolve(None, &Overrides::default(), &|_| None).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("--public-key or TELNYX_PUBLIC_KEY"), "{shown}");
    assert!(shown.contains("--upstream or HOOKWARD_UPSTREAM"), "{shown}");
    // Each route has its own: the top-level one is not needed.
    let own = "routes: [{ upstream: { url: http://a } }]";
    assert!(resolved(own, &Overrides { upstream: None, ..keyed() }).config.default_upstream.is_none());
}

#[test]
fn the_bound_of_the_buffer_may_follow_the_file_system_and_the_reserve_is_a_share_or_a_size() {
    let buffer = |text: &str| resolved(&format!("buffer: {{ {text} }}"), &keyed()).config.buffer;
    assert_eq!((buffer("").max_bytes, buffer("").reserve), (MaxBytes::Fixed(1 << 30), Reserve::Percent(10)));
    assert_eq!(buffer("max_bytes: auto").max_bytes, MaxBytes::Auto);
    let flag = Overrides { buffer_max_bytes: Some("auto".into()), ..keyed() };
    assert_eq!(resolved("buffer: { max_bytes: 1MiB }", &flag).config.buffer.max_bytes, MaxBytes::Auto);
    assert_eq!(buffer("reserve: 25 %").reserve, Reserve::Percent(25));
    assert_eq!(buffer("reserve: 0%").reserve, Reserve::Percent(0));
    assert_eq!(buffer("reserve: 64MiB").reserve, Reserve::Bytes(64 << 20));
    for wrong in ["51%", "-1%", "x%", "lots", "auto"] {
        assert_problem(&format!("buffer: {{ reserve: {wrong} }}"), &keyed(), &["buffer.reserve", "write"]);
    }
}

#[test]
fn rules_of_routes() {
    let cases: &[(&str, &[&str])] = &[
        ("routes: [{ keys: [] }]", &["routes[0].keys", "is missing", "--public-key"]),
        ("routes: [{ path: /a }, { name: b, path: /a }]", &["routes[1].path", "has the path of another route"]),
        ("routes: [{ path: /a }, { path: /b }]", &["routes[1].name", "give every route its own `name:`"]),
        ("routes: [{ ip_allowlist: { sources: [] } }]", &["nobody could send", "mode: off"]),
        ("routes: [{ ip_allowlist: { sources: [off] } }]", &["sources[0]", "mode: off"]),
        ("routes: [{ methods: [] }]", &["routes[0].methods", "empty list"]),
        ("routes: [{ max_body: 64MiB }]\nbuffer: { max_bytes: 1MiB }", &["larger than the buffer"]),
        (
            "client_ip: { trusted_proxies: [192.76.120.0/24] }",
            &["overlaps the trusted proxy 192.76.120.0/24", "allow_overlap"],
        ),
        ("upstream: { tls: { ca: /ca.crt } , url: http://a }\n", &[]),
        (
            "routes: [{ upstream: { url: http://a, tls: { ca: /ca.crt } } }]",
            &["routes[0].upstream.tls.ca", "needs an https:// upstream"],
        ),
        ("routes: [{ timestamp: { past: 336h } }]", &["routes[0].timestamp.past", "out of range", "24h"]),
        ("delivery: { retry: { base: 10m } }", &["delivery.retry.base", "longer than max"]),
        ("listen: []", &["listen", "empty list"]),
        (
            "client_ip: { trusted_proxies: [\"::ffff:192.76.120.0/120\"] }",
            &["overlaps the trusted proxy 192.76.120.0/24", "allow_overlap"],
        ),
        ("client_ip: { trusted_proxies: [unix, 0.0.0.0/0] }", &["overlaps the trusted proxy 0.0.0.0/0"]),
        (
            "client_ip: { trusted_proxies: [192.0.2.7] }\nroutes: [{ ip_allowlist: { sources: [\"::ffff:192.0.2.0/120\"], mode: report } }]",
            &["192.0.2.0/24 overlaps the trusted proxy 192.0.2.7/32"],
        ),
        ("listen: [{ address: 127.0.0.1:9090 }]", &["admin", "address of a public listener"]),
        ("upstream: { url: http://u:hunter2@a }", &["user and password"]),
        ("- a", &["is a list, expected a section"]),
    ];
    for (text, words) in cases {
        if words.is_empty() {
            // --upstream replaces the URL, and its TLS settings with it.
            resolved(text, &keyed());
        } else {
            assert_problem(text, &keyed(), words);
        }
    }
    resolved("client_ip: { trusted_proxies: [192.76.120.0/24], allow_overlap: true }", &keyed());
    resolved("client_ip: { trusted_proxies: [192.76.120.0/24] }\nroutes: [{ ip_allowlist: { mode: off } }]", &keyed());
    assert!(resolved("routes: [{ dedupe: off }]", &keyed()).config.routes[0].ack().unwrap().1.is_none());
    let nine = Overrides { public_key: vec![KEY.into(); 9], ..keyed() };
    assert_problem("", &nine, &["--public-key", "more than 8 keys"]);
}

#[test]
fn every_problem_of_the_tls_towards_an_app_is_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["app.internal".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (write("own.crt", &signed.cert.pem()), write("own.key", &signed.signing_key.serialize_pem()));
    let upstream = |tls: String| format!("upstream: {{ url: \"https://app\", tls: {{ {tls} }} }}");
    let flags = Overrides { upstream: None, ..keyed() };
    for (tls, expected) in [
        (
            format!("ca: {key}, server_name: \"app:443\", cert: {key}, key: {cert}"),
            vec![
                "upstream.tls.server_name: is no name that a certificate can be for",
                "upstream.tls.ca: holds no usable certificate",
                "upstream.tls.cert: holds no usable certificate",
                "upstream.tls.key: holds no private key",
            ],
        ),
        (
            format!("ca: /missing.pem, cert: {cert}"),
            vec![
                "upstream.tls.ca: file /missing.pem cannot be read",
                "upstream.tls.key: is missing; name a PEM file: cert and key go together",
            ],
        ),
    ] {
        let shown = problems(&upstream(tls), &flags);
        assert_eq!(shown.len(), expected.len(), "{shown:#?}");
        for (shown, expected) in shown.iter().zip(expected) {
            assert!(shown.contains(expected), "{shown}");
        }
    }
    let with_own = |own: &str| {
        let text = upstream(format!("ca: {cert}, server_name: \"[::1]\", cert: {own}, key: {key}"));
        resolved(&text, &flags).config.default_upstream.unwrap().destination.clone()
    };
    let Destination::Tcp { tls: Some(tls), .. } = with_own(&cert) else { panic!() };
    assert_eq!((&*tls.server_name, tls.trusted.is_some(), tls.own.is_some()), ("::1", true, true));
    assert_eq!(with_own(&cert), with_own(&cert), "the same app after a reload");
}

#[test]
fn listeners_are_addresses_or_sockets_each_with_its_own_front() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (write("tls.crt", &signed.cert.pem()), write("tls.key", &signed.signing_key.serialize_pem()));
    let text = format!(
        "
client_ip: {{ trusted_proxies: [unix, 10.0.0.0/8] }}
listen:
  - address: \"[::]:8080\"
    tls: {{ cert: {cert}, key: {key}, client_ca: {cert} }}
  - {{ address: 0.0.0.0:8081, proxy_protocol: required }}
  - {{ address: \"unix:/run/hookward/in.sock\", mode: 0600 }}
  - {{ address: \"unix:/run/hookward/other.sock\" }}
"
    );
    let config = resolved(&text, &keyed()).config;
    assert_eq!(
        addresses(&config),
        ["[::]:8080", "0.0.0.0:8081", "unix:/run/hookward/in.sock", "unix:/run/hookward/other.sock"]
    );
    let [tls, proxied, closed, open] = config.listen.as_slice() else { panic!() };
    assert!(tls.tls.is_some() && tls.proxy_protocol == ProxyProtocol::Off);
    assert!(proxied.tls.is_none() && proxied.proxy_protocol == ProxyProtocol::Required);
    assert_eq!((closed.socket_mode, open.socket_mode), (0o600, 0o660));
    let flags = Overrides { listen: vec!["unix:/run/a.sock".into(), "[::1]:1".into()], ..keyed() };
    assert_eq!(addresses(&resolve(None, &flags, &|_| None).unwrap().config), ["unix:/run/a.sock", "[::1]:1"]);
}

#[test]
fn every_problem_of_a_listener_is_reported_at_once_with_line_and_mend() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    for (name, text) in
        [("tls.crt", signed.cert.pem()), ("other.key", other.signing_key.serialize_pem()), ("empty", String::new())]
    {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let text = "\
listen:
  - address: \"unix:in.sock\"
    proxy_protocol: on
    mode: 0880
  - address: 127.0.0.1:1
    mode: \"0660\"
    tls:
      cert: DIR/missing
      client_ca: DIR/empty
  - address: 127.0.0.1:1
    tls:
      cert: DIR/tls.crt
      key: DIR/other.key
  - address: 127.0.0.1:2
    tls:
      cert: DIR/empty
      key: DIR/empty
      client_ca: DIR/empty
  - { address: \"[::]:8080\" }
  - { address: 0.0.0.0:8080 }
  - { address: 127.0.0.1:3, tls: on }
";
    let expected = "\
h.yaml:2: listen[0].address: `unix:in.sock` is not the path of a socket; write an absolute path without commas, such as unix:/run/hookward/in.sock
h.yaml:3: listen[0].proxy_protocol: `on` is not known here; write off or required
h.yaml:4: listen[0].mode: `0880` is not a file mode; write octal digits in quotes, such as \"0660\" for the user and the group
h.yaml:6: listen[1].mode: is for unix sockets only; leave it out, or write address: unix:/path
h.yaml:8: listen[1].tls.key: is missing; name a PEM file
h.yaml:8: listen[1].tls.cert: file DIR/missing cannot be read (No such file or directory (os error 2)); check that it exists, is mounted and is readable for hookward's user
h.yaml:10: listen[2].address: 127.0.0.1:1 is listened on already; leave it out
h.yaml:13: listen[2].tls.key: is not the key of the first certificate; write the two files that were made together
h.yaml:16: listen[3].tls.cert: holds no usable certificate; write PEM, the leaf certificate first, then the intermediate ones
h.yaml:17: listen[3].tls.key: holds no private key; write PEM without a passphrase (PKCS#8, PKCS#1 or SEC1)
h.yaml:18: listen[3].tls.client_ca: holds no usable CA certificate; write the PEM of the authority that issues the clients' certificates
h.yaml:20: listen[5].address: 0.0.0.0:8080 and [::]:8080 are the same port: [::] takes IPv4 too; keep the one with [::]
h.yaml:21: listen[6].tls: is a text, expected a section; write `key: value` lines under it";
    let place = dir.path().display().to_string();
    let shown = problems(&text.replace("DIR", &place), &keyed()).join("\n").replace(&place, "DIR");
    assert_eq!(shown, expected);
}

#[test]
fn the_header_that_names_the_client_is_chosen_by_its_name() {
    let header = |text: &str| resolved(text, &keyed()).config.trusted_proxies.header;
    assert_eq!(header(""), ClientIpHeader::XForwardedFor);
    assert_eq!(header("client_ip: { header: Forwarded }"), ClientIpHeader::Forwarded);
    assert_eq!(header("client_ip: { header: CF-Connecting-IP }").name(), "cf-connecting-ip");
    assert_problem("client_ip: { header: x_real_ip }", &keyed(), &["client_ip.header", "write x-real-ip"]);
    assert_problem("client_ip: { header: \"a b\" }", &keyed(), &["client_ip.header", "not the name of a header"]);
}

#[test]
fn a_listener_that_could_take_nobody_is_a_problem_or_a_warning() {
    assert_problem("listen: [{ proxy_protocol: required }]", &keyed(), &["takes PROXY headers", "proxy's CIDR"]);
    let unix = "{ address: \"unix:/run/in.sock\", proxy_protocol: required }";
    let text = format!("listen: [{unix}]\nclient_ip: {{ trusted_proxies: [10.0.0.0/8] }}");
    assert_problem(&text, &keyed(), &["takes PROXY headers", "add unix to client_ip.trusted_proxies"]);
    let warnings = |text: &str| resolved(text, &keyed()).warnings.join("\n");
    let plain = "listen: [{ address: \"unix:/run/in.sock\" }]\n";
    assert!(warnings(plain).contains("peers of unix:/run/in.sock have no address"), "{}", warnings(plain));
    assert_eq!(warnings(&format!("{plain}client_ip: {{ trusted_proxies: [unix] }}")), "");
    assert_eq!(warnings(&format!("{plain}routes: [{{ ip_allowlist: {{ mode: off }} }}]")), "");
}

#[test]
fn what_is_to_come_is_refused_and_says_so() {
    for text in ["routes: [{ provider: stripe }]", "buffer: { engine: postgres }"] {
        assert_problem(text, &keyed(), &["h.yaml:1: ", "not available in this version"]);
    }
}

/// `hookward keygen`'s form, and the standard's own example.
const SEED: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_signature_is_inherited_with_the_app_and_not_by_another_one() {
    let text = format!(
        "
upstream: {{ sign: {{ scheme: telnyx, key: {{ value: \"{SEED}\" }} }} }}
routes:
  - {{ name: same, path: /same }}
  - {{ name: slower, path: /slower, upstream: {{ timeout: 3s }} }}
  - {{ name: unsigned, path: /unsigned, upstream: {{ sign: off }} }}
  - {{ name: elsewhere, path: /elsewhere, upstream: {{ url: http://other }} }}
  - {{ name: settled, path: /settled, upstream: {{ url: http://other, sign: off }} }}
  - {{ name: own, path: /own, upstream: {{ url: http://other, sign: {{ scheme: standard-webhooks, key: {{ value: {WHSEC} }} }} }} }}
  - {{ name: passed, path: /passed, mode: pass, upstream: {{ url: http://other }} }}
"
    );
    let Resolved { config, warnings } = resolved(&text, &keyed());
    let signers: Vec<_> = config
        .routes
        .iter()
        .map(|route| route.upstream().unwrap().signer.as_ref().map(|signer| signer.scheme().name()))
        .collect();
    let telnyx = Some("telnyx");
    assert_eq!(signers, [telnyx, telnyx, None, None, None, Some("standard-webhooks"), None]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("routes[3].upstream.url: is another app"), "{warnings:?}");

    let other_key = resolved(&text.replace(SEED, KEY), &keyed()).config;
    assert_ne!(config.default_upstream, other_key.default_upstream, "with another key it is another upstream");
    assert_eq!(config.default_upstream, resolved(&text, &keyed()).config.default_upstream);
    let shown = format!("{config:?}");
    assert!(!shown.contains(SEED) && !shown.contains(WHSEC));
}

#[test]
fn every_mistake_in_a_signature_has_its_line_and_mend() {
    let text = "\
upstream:
  sign: telnyx
routes:
  - { name: a, path: /a, upstream: { sign: { } } }
  - name: b
    path: /b
    upstream:
      sign: { scheme: hmac, key: { value: x } }
  - name: c
    path: /c
    upstream:
      sign:
        scheme: telnyx
        key: hunter2
  - name: d
    path: /d
    upstream:
      sign:
        scheme: telnyx
        key: { value: whsec_hunter2 }
  - name: e
    path: /e
    upstream:
      sign:
        scheme: standard-webhooks
        key: { value: whsec_aHVudGVyMg== }
  - name: f
    path: /f
    upstream: { sign: { scheme: standard-webhooks, key: { env: NOT_THERE } } }
  - name: g
    path: /g
    mode: pass
    upstream: { sign: { scheme: telnyx, key: { value: \"SEED\" }, keys: [] } }
";
    let expected = "\
h.yaml:2: upstream.sign: is a text, expected a section; write `key: value` lines under it
h.yaml:4: routes[0].upstream.sign.scheme: is missing; write `scheme: telnyx` or `scheme: standard-webhooks`
h.yaml:4: routes[0].upstream.sign.key: is missing; write `key: { file: /keys/app }`, or `env:` instead of `file:`
h.yaml:8: routes[1].upstream.sign.scheme: `hmac` is not known here; write telnyx or standard-webhooks
h.yaml:14: routes[2].upstream.sign.key: is a text, expected a section; write `key: value` lines under it
h.yaml:20: routes[3].upstream.sign.key: is a secret of Standard Webhooks; write `scheme: standard-webhooks`, or a key of `hookward keygen`
h.yaml:26: routes[4].upstream.sign.key: decodes to 7 bytes, the standard asks for 24 to 64; write whsec_ and the output of `openssl rand -base64 32`
h.yaml:29: routes[5].upstream.sign.key.env: `NOT_THERE` is not set; set it in the environment of hookward, or use `file:`
h.yaml:33: routes[6].upstream.sign.keys: is an unknown key; did you mean `key`?
h.yaml:33: routes[6].upstream.sign: is not used in mode pass: what is not verified is not signed; leave it out, or choose mode proxy or ack";
    let shown = problems(&text.replace("SEED", SEED), &keyed()).join("\n");
    assert_eq!(shown, expected);
}

#[test]
fn ordering_is_off_unless_it_has_a_key() {
    let ordering = |text: &str| resolved(text, &keyed()).config.delivery.ordering;
    for off in ["", "delivery: { ordering: off }", "delivery: {}"] {
        assert_eq!(ordering(off), None, "{off}");
    }
    let defaults = ordering("delivery: { ordering: { key: /data/payload/id } }").unwrap();
    assert_eq!(defaults.key, "/data/payload/id");
    assert_eq!((defaults.max_block, defaults.reorder_window), (Duration::from_secs(30), Duration::ZERO));
    let window = ordering("delivery: { ordering: { key: /a~1b, reorder_window: 2s, max_block: 0s } }").unwrap();
    assert_eq!((window.max_block, window.reorder_window), (Duration::ZERO, Duration::from_secs(2)));
    assert_problem("delivery: { ordering: { max_block: 1s } }", &keyed(), &["delivery.ordering", "has no key"]);
    assert_problem("delivery: { ordering: {} }", &keyed(), &["delivery.ordering", "has no key"]);
    for bad in ["data", "/", "/a~2", "/a~"] {
        let text = format!("delivery: {{ ordering: {{ key: \"{bad}\" }} }}");
        assert_problem(&text, &keyed(), &["delivery.ordering.key", "not a JSON pointer"]);
    }
    assert_problem(
        "delivery: { ordering: { key: /a, reorder_window: 5m } }",
        &keyed(),
        &["delivery.ordering.reorder_window"],
    );
}

#[test]
fn a_mode_takes_the_keys_that_mean_something_in_it() {
    let one = |text: &str| resolved(text, &keyed()).config.routes.remove(0);
    assert!(matches!(one("routes: [{ mode: proxy }]").handling, Handling::Verified(_, End::Proxy(_))));
    let verify = one("routes: [{ mode: verify, path: /decide }]");
    assert!(matches!(verify.handling, Handling::Verified(_, End::Verify)));
    assert_eq!(verify.path, PathPattern::Tree("/decide".into()));
    let pass = one("routes: [{ mode: pass }]");
    assert!(matches!(pass.handling, Handling::Passed(_)) && pass.methods.is_none());
    assert_eq!(one("routes: [{ mode: pass, methods: [GET] }]").methods, Some(vec![http::Method::GET]));

    let without_key = Overrides { upstream: Some("http://app".into()), ..Overrides::default() };
    resolved("routes: [{ mode: pass }]", &without_key);
    let without_upstream = Overrides { public_key: vec![KEY.into()], ..Overrides::default() };
    resolved("routes: [{ mode: verify }]", &without_upstream);
    let verify = Overrides { mode: Some("verify".into()), ..without_upstream.clone() };
    resolve(None, &verify, &|_| None).unwrap();

    for (text, words) in [
        ("routes: [{ mode: proxy, methods: [GET] }]", "a query is not signed"),
        ("routes: [{ mode: pass, signature: report }]", "is not looked at in mode pass"),
        ("routes: [{ mode: verify, upstream: { url: http://a } }]", "is not used in mode verify"),
        ("limits: { body_memory: 1MiB }\nroutes: [{ max_body: 2MiB }]", "is larger than limits.body_memory"),
        ("limits: { failed_signatures_per_client: 50 }", "write a rate from 1/s"),
        ("health_path: /a/*", "is a pattern"),
        ("health_path: /a\nroutes: [{ path: /a }]", "is the path of the route default"),
        ("unmatched: drop", "write reject or pass"),
    ] {
        assert_problem(text, &keyed(), &[words]);
    }
    let unmatched = Overrides { unmatched: Some("pass".into()), ..verify };
    assert_problem("", &unmatched, &["upstream", "is missing"]);
    let off = resolved("limits: { failed_signatures_per_client: off }", &keyed()).config;
    assert!(off.limits.failed_signatures_per_client.is_none());
    let refusal_bytes = |text: &str| resolved(text, &keyed()).config.limits.refusals.bounds.bytes;
    assert_eq!(refusal_bytes(""), 2 << 20);
    assert_eq!(refusal_bytes("routes: [{ name: a, path: /a, max_body: 3MiB }, { name: b, path: /b }]"), 6 << 20);
    assert_eq!(refusal_bytes("limits: { refusal_bytes: 64KiB }"), 64 << 10);
    let warnings = resolved("routes: [{ mode: proxy, dedupe: { window: 24h } }]", &keyed()).warnings;
    assert!(warnings[0].contains("is not looked at in mode proxy"), "{warnings:?}");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let warnings = |text: &str| resolved(text, &keyed()).warnings.join("\n");
    assert!(warnings("routes: [{ ip_allowlist: { sources: [telnyx-messaging] } }]").contains("telnyx-messaging alone"));
    assert_eq!(warnings("routes: [{ ip_allowlist: { sources: [telnyx-messaging], mode: report } }]"), "");
    assert!(warnings("routes: [{ signature: report }]").contains("as unverified"));
    assert!(warnings("admin: { token: { value: short } }").contains("can be guessed"));
}

#[test]
fn times_that_the_sender_or_the_apps_sdk_does_not_wait_for_are_warnings() {
    let warnings = |text: &str| resolved(text, &keyed()).warnings;
    let one = |text: &str, words: &str| {
        let warnings = warnings(text);
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{text}: {warnings:?}");
    };
    let none = |text: &str| assert!(warnings(text).is_empty(), "{text}: {:?}", warnings(text));

    let late = |more: &str| format!("routes: [{{ timestamp: {{ past: 1h }}, dedupe: {{ window: 2h }}, {more} }}]");
    one(&late("mode: ack"), "routes[0].timestamp.past: is above 300s");
    one("routes: [{ timestamp: { future: 301s } }]", "routes[0].timestamp.future: is above 300s");
    none("routes: [{ timestamp: { past: 300s, future: 300s } }]");
    none(&late(&format!("mode: ack, upstream: {{ sign: {{ scheme: telnyx, key: {{ value: \"{SEED}\" }} }} }}")));
    none("routes: [{ timestamp: { past: 1h }, mode: verify }]");

    one("routes: [{ mode: proxy }]", "route default: mode proxy lets the sender wait for upstream.timeout, 15s");
    one("upstream: { timeout: 2001ms }\nroutes: [{ mode: proxy }]", "2001ms");
    none("upstream: { timeout: 2s }\nroutes: [{ mode: proxy }]");
    none("routes: [{ mode: proxy, upstream: { timeout: 1s } }]");

    one("delivery: { ordering: { key: /data/payload/id } }", "delivery.ordering: the key alone");
    none("delivery: { ordering: { key: /data/payload/id, reorder_window: 2s } }");
    none("delivery: { ordering: { key: /data/payload/id, reorder_window: 0s } }");
}

#[test]
fn which_forwarding_headers_an_app_gets_belongs_to_the_app() {
    let forwarded = |text: &str| {
        let routes = resolved(text, &Overrides { upstream: None, ..keyed() }).config.routes;
        routes.iter().map(|route| route.upstream().unwrap().forwarded).collect::<Vec<_>>()
    };
    let routes = "routes: [{ name: a, path: /a }, { name: b, path: /b, upstream: { url: http://b } }, \
                  { name: c, path: /c, upstream: { forwarded: all } }]";
    let top = |forwarded: &str| format!("upstream: {{ url: http://a{forwarded} }}\n{routes}");
    assert_eq!(forwarded(&top("")), [Forwarded::All; 3]);
    assert_eq!(forwarded(&top(", forwarded: client")), [Forwarded::Client, Forwarded::All, Forwarded::All]);
    assert_eq!(forwarded(&top(", forwarded: off"))[0], Forwarded::Off);
    assert_problem("upstream: { forwarded: host }", &keyed(), &["upstream.forwarded", "all, client or off"]);
}

#[test]
fn the_admin_token_comes_from_flag_environment_or_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "token-of-the-flag-file\n").unwrap();
    let text = "admin: { token: { value: token-of-the-config-file } }";
    let file = SourceFile { name: "h.yaml".into(), text: text.into() };
    let env = |name: &str| (name == "HOOKWARD_ADMIN_TOKEN").then(|| "token-of-the-environment".to_owned());
    let token = |overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>| {
        resolve(Some(&file), overrides, env).unwrap().config.admin.token
    };
    let flag = Overrides { admin_token_file: Some(path.clone()), ..keyed() };
    assert_eq!(token(&flag, &env), Some(Secret("token-of-the-flag-file".into())));
    assert_eq!(token(&keyed(), &env), Some(Secret("token-of-the-environment".into())));
    assert_eq!(token(&keyed(), &|_| None), Some(Secret("token-of-the-config-file".into())));
    let missing = Overrides { admin_token_file: Some(dir.path().join("missing")), ..keyed() };
    assert_problem("", &missing, &["--admin-token-file", "missing cannot be read"]);
}

#[test]
fn secrets_never_reach_a_text() {
    for text in [
        "admin: { token: hunter2 }",
        "admin: { token: { value: hunter2, file: /a } }",
        "admin: { token: { value: \"hunter2 hunter2\" } }",
        "admin: { token: { hunter2 } }",
        "admin: { token: { env: \"hunter2!\" } }",
        "routes: [{ keys: [{ value: hunter2 }] }]",
        "routes: [{ keys: [{ value: [hunter2] }] }]",
        "routes: [{ keys: [{ name: \"hunter2=\", value: x }] }]",
        "routes: [{ keys: hunter2 }]",
        "upstream: { url: \"ftp://u:hunter2@a\" }",
        "upstream: { sign: { scheme: telnyx, key: { value: hunter2 } } }",
        "upstream: { sign: { scheme: telnyx, key: { hunter2 } } }",
        "upstream: { sign: { scheme: telnyx, key: [hunter2] } }",
        "upstream: { sign: { scheme: standard-webhooks, key: { value: whsk_hunter2, env: A } } }",
        "upstream: { url: \"http://a?token=hunter2\" }",
    ] {
        let shown = problems(text, &keyed());
        assert!(!shown.is_empty() && !shown.concat().contains("hunter2"), "{text}: {shown:?}");
    }
    let overrides = Overrides { public_key: vec!["hunter2".into()], ..keyed() };
    assert_problem("", &overrides, &["--public-key: is neither base64"]);
    let env = |name: &str| (name == "HOOKWARD_ADMIN_TOKEN").then(|| "hunter2 hunter2".to_owned());
    let shown = resolve(None, &keyed(), &env).unwrap_err().to_string();
    assert!(shown.starts_with("HOOKWARD_ADMIN_TOKEN: ") && !shown.contains("hunter2"), "{shown}");
}

/// The sample with its examples switched on: a `#` at the beginning of a line that is not followed
/// by exactly one space.
fn sample_with_examples() -> String {
    let live = |line: &str| {
        let prose = line == "#" || (line.starts_with("# ") && !line.starts_with("#  "));
        if prose { line.to_owned() } else { line.strip_prefix('#').unwrap_or(line).to_owned() }
    };
    SAMPLE.lines().map(live).collect::<Vec<_>>().join("\n")
}

/// Every value under a recorded path, lists as JSON.
fn values(node: &Node, path: &str) -> Vec<String> {
    let (segment, rest) = path.split_once('.').map_or((path, ""), |(segment, rest)| (segment, rest));
    let (key, is_list) = segment.strip_suffix("[]").map_or((segment, false), |key| (key, true));
    let Value::Map(entries) = &node.value else { return vec![] };
    let Some(entry) = entries.iter().find(|entry| &*entry.key == key) else { return vec![] };
    match &entry.value.value {
        Value::List(items) if is_list => items.iter().flat_map(|item| values(item, rest)).collect(),
        _ if !rest.is_empty() => values(&entry.value, rest),
        Value::List(items) => vec![format!("{:?}", items.iter().map(text_of).collect::<Vec<_>>())],
        _ => vec![text_of(&entry.value)],
    }
}

fn text_of(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sample_shows_every_key_at_its_default() {
    let root = node::parse(&sample_with_examples(), &mut Vec::new()).unwrap();
    for record in describe().iter().filter(|record| record.kind.is_value() && !record.path.ends_with(".value")) {
        let shown = values(&root, &record.path);
        assert!(!shown.is_empty(), "{} is not in config/hookward.yaml", record.path);
        let default = match &record.default {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Array(items)) => format!("{items:?}").replace("String(", "").replace(')', ""),
            Some(other) => other.to_string(),
            None => continue,
        };
        assert_eq!(shown[0], default, "{}", record.path);
    }
    let shown = problems(&sample_with_examples(), &Overrides::default());
    assert!(!shown.iter().any(|line| line.contains("unknown") || line.contains("not available")), "{shown:#?}");
}

#[test]
fn the_sample_as_it_stands_changes_nothing() {
    let sample = resolved(SAMPLE, &keyed());
    let nothing = resolve(None, &keyed(), &|_| None).unwrap();
    assert!(sample.warnings.is_empty());
    assert_eq!(format!("{:?}", sample.config), format!("{:?}", nothing.config));
}

#[test]
fn the_examples_are_good() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("admin-token", "0123456789abcdef\n"), ("current", KEY), ("next", OTHER_KEY)] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    for (name, text) in [
        ("minimal", include_str!("../../../config/examples/minimal.yaml")),
        ("kubernetes-sidecar", include_str!("../../../config/examples/kubernetes-sidecar.yaml")),
        ("behind-nginx", include_str!("../../../config/examples/behind-nginx.yaml")),
    ] {
        let text = text.replace("/keys/", &format!("{}/", dir.path().display()));
        let file = SourceFile { name: name.into(), text };
        let env = |name: &str| (name == "TELNYX_PUBLIC_KEY").then(|| KEY.to_owned());
        let resolved =
            resolve(Some(&file), &Overrides::default(), &env).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(resolved.warnings.is_empty(), "{name}: {:?}", resolved.warnings);
    }
}

#[test]
fn every_key_has_one_meaning() {
    let records = describe();
    for (index, record) in records.iter().enumerate() {
        assert!(record.doc.len() > 3, "{} has no doc", record.path);
        assert!(
            !records[..index].iter().any(|earlier| earlier.path == record.path),
            "{} is asked for twice",
            record.path
        );
    }
    assert!(records.iter().any(|record| record.path == "routes[].keys[].file"));
}

#[test]
fn an_unreadable_file_is_a_problem_with_its_name() {
    let missing = SourceFile::read(Path::new("/does/not/exist.yaml"), &FilesRead::default()).unwrap_err().to_string();
    assert!(missing.starts_with("/does/not/exist.yaml: cannot be read"), "{missing}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_text_makes_the_resolution_panic(
        key in "(listen|admin|upstream|routes|limits|buffer|client_ip|log|delivery)",
        inner in "([a-z_]{1,12}: )?[\\[{]?([a-z0-9:/*., \"'-]{0,24})[\\]}]?",
    ) {
        let file = SourceFile { name: "h.yaml".into(), text: format!("{key}:\n  {inner}\n") };
        let _ = resolve(Some(&file), &keyed(), &|_| None);
        let file = SourceFile { name: "h.yaml".into(), text: format!("{key}: [{{ {inner} }}]\n") };
        let _ = resolve(Some(&file), &keyed(), &|_| None);
    }
}
