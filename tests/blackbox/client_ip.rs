//! Who the client is behind proxies, in each header that can name it; what others have got wrong.

use super::harness::*;

/// Telnyx's addresses alone may send; loopback, where the tests connect from, is the proxy.
fn behind_proxies(sink: &Sink, header: &str) -> Hookward {
    let yaml = format!("client_ip: {{ trusted_proxies: [127.0.0.0/8, 10.0.0.0/8], header: {header} }}\n");
    Setup::new(sink).without_flag("--ip-allowlist").config(&yaml).start()
}

/// The same without a proxy in front: loopback may send, and may name nobody.
fn in_the_open(sink: &Sink, header: &str) -> Hookward {
    let yaml = format!("client_ip: {{ trusted_proxies: [10.0.0.0/8], header: {header} }}\n");
    Setup::new(sink).flag("--ip-allowlist", "127.0.0.1").config(&yaml).start()
}

fn with(lines: &[(&str, &str)]) -> Request {
    lines.iter().fold(event(), |request, (name, value)| request.header(name, value))
}

/// `Ok` is 200, otherwise the reason.
fn asked(hookward: &Hookward, lines: &[(&str, &str)]) -> Result<(), String> {
    let answer = hookward.post(&with(lines));
    if answer.status == 200 { Ok(()) } else { Err(answer.reason()) }
}

fn denied() -> Result<(), String> {
    Err("ip_denied".to_owned())
}

fn undetermined() -> Result<(), String> {
    Err("client_ip_undetermined".to_owned())
}

#[test]
fn forwarded_names_the_client_in_quotes_with_ports_and_through_proxies() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "forwarded");
    let cases: &[(&[&str], Result<(), String>)] = &[
        (&["for=192.76.120.200"], Ok(())),
        (&["for=\"192.76.120.200:4711\";proto=https, for=10.1.1.1"], Ok(())),
        (&["for=6.6.6.6", "For=192.76.120.200;by=10.0.0.1"], Ok(())),
        (&["for=\"[::ffff:192.76.120.200]:4711\""], Ok(())),
        (&["for=192.76.120.200, for=6.6.6.6"], denied()),
        (&["for=\"[2001:db8::1]\""], denied()),
        (&["for=192.76.120.200, for=unknown"], undetermined()),
        (&["for=192.76.120.200, for=_hidden, for=10.1.1.1"], undetermined()),
        (&["for=192.76.120.200;x=\", for=6.6.6.6"], undetermined()),
        (&["for=192.76.120.200, proto=https"], undetermined()),
        (&["for=10.1.1.1, for=10.2.2.2"], undetermined()),
        (&[], undetermined()),
    ];
    for (lines, expected) in cases {
        // The other headers are nobody's business then.
        let mut all = vec![("X-Forwarded-For", "192.76.120.201"), ("X-Real-IP", "192.76.120.201")];
        all.extend(lines.iter().map(|line| ("Forwarded", *line)));
        assert_eq!(asked(&hookward, &all), *expected, "{lines:?}");
    }
}

#[test]
fn a_single_value_header_names_the_client_once() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "CF-Connecting-IP");
    let name = "Cf-Connecting-Ip";
    assert_eq!(asked(&hookward, &[(name, "192.76.120.200")]), Ok(()));
    assert_eq!(asked(&hookward, &[(name, "6.6.6.6"), ("X-Forwarded-For", "192.76.120.200")]), denied());
    for lines in [
        vec![],
        vec![(name, "")],
        vec![(name, "192.76.120.200, 192.76.120.200")],
        vec![(name, "192.76.120.200"), (name, "192.76.120.200")],
        vec![(name, "unknown")],
        vec![(name, "10.1.1.1")],
        vec![("CF_Connecting_IP", "192.76.120.200")],
        vec![("X-Forwarded-For", "192.76.120.200")],
    ] {
        assert_eq!(asked(&hookward, &lines), undetermined(), "{lines:?}");
    }
}

#[test]
fn more_than_a_way_can_have_names_nobody() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    let through = |proxies: usize| format!("192.76.120.200{}", ", 10.0.0.1".repeat(proxies));
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", &through(31))]), Ok(()));
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", &through(32))]), undetermined());
    let long = format!("{}192.76.120.200", "x".repeat(4083));
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", &long)]), undetermined());
}

/// Every forwarding header that the app got.
fn told(received: &Received) -> String {
    let names = ["forwarded", "x-real-ip", "cf-connecting-ip"];
    let is_told = |name: &str| names.contains(&name) || name.starts_with("x-forwarded-");
    received
        .head()
        .to_lowercase()
        .lines()
        .filter(|line| is_told(line.split(':').next().unwrap()))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn an_outsider_cannot_use_the_chosen_header_whichever_it_is() {
    for header in ["x-forwarded-for", "forwarded", "cf-connecting-ip"] {
        let sink = Sink::start();
        let hookward = in_the_open(&sink, header);
        let lines = [
            ("X-Forwarded-For", "6.6.6.6"),
            ("Forwarded", "for=6.6.6.6"),
            (header, "6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"),
            ("Connection", "X-Forwarded-For, Forwarded, X-Real-IP, CF-Connecting-IP"),
        ];
        assert_eq!(asked(&hookward, &lines), Ok(()), "{header}: the peer is the client");
        let told = told(&sink.first());
        assert!(!told.contains("6.6.6.6") && told.contains(&format!("{header}: ")), "{header}: {told}");
    }
}

#[test]
fn cve_2020_28483_gin_an_outsiders_x_forwarded_for_is_not_believed() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").start();
    for name in
        ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "True-Client-IP", "X-Appengine-Remote-Addr"]
    {
        assert_eq!(asked(&hookward, &[(name, "192.76.120.200")]), denied(), "{name}");
    }
}

#[test]
fn cve_2026_30975_sonarr_a_claim_to_be_local_opens_nothing() {
    let sink = Sink::start();
    // The local network may send, through the proxy as well.
    let yaml = "client_ip: { trusted_proxies: [127.0.0.1] }\n";
    let hookward = Setup::new(&sink).flag("--ip-allowlist", "192.168.0.0/16").config(yaml).start();
    for claim in ["192.168.1.5, 6.6.6.6", "127.0.0.1, 6.6.6.6", "::1, 6.6.6.6"] {
        assert_eq!(asked(&hookward, &[("X-Forwarded-For", claim)]), denied(), "{claim}");
    }
    for claim in ["127.0.0.1", "localhost", "192.168.1.5, localhost"] {
        assert_eq!(asked(&hookward, &[("X-Forwarded-For", claim)]), undetermined(), "{claim}");
    }
    let forged = forged().header("X-Forwarded-For", "192.168.1.5");
    assert_refused(&hookward.post(&forged), 403, "signature_mismatch");
}

#[test]
fn cve_2024_45410_traefik_connection_takes_no_forwarding_header_away() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    let nominating =
        ("Connection", "close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Real-IP, Forwarded");
    assert_eq!(asked(&hookward, &[nominating, ("X-Forwarded-For", "6.6.6.6")]), denied(), "it is still read");
    let lines = [
        nominating,
        ("X-Forwarded-For", "192.76.120.200"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "hooks.example"),
        ("X-Real-IP", "192.76.120.200"),
    ];
    assert_eq!(asked(&hookward, &lines), Ok(()));
    let received = sink.first();
    assert_eq!(received.header("x-forwarded-for"), "192.76.120.200, 127.0.0.1");
    assert_eq!(received.header("x-forwarded-proto"), "https");
    assert_eq!(received.header("x-forwarded-host"), "hooks.example");
    assert_eq!(received.header("x-real-ip"), "192.76.120.200");
}

#[test]
fn cve_2026_33433_traefik_an_underscore_makes_no_alias() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    assert_eq!(asked(&hookward, &[("X_Forwarded_For", "192.76.120.200")]), undetermined());
    let lines = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded_For", "6.6.6.6"),
        ("X_Real_IP", "6.6.6.6"),
        ("X_Forwarded_Proto", "6.6.6.6"),
        ("X_Forwarded_User", "6.6.6.6"),
        ("X-Forwarded-For", "192.76.120.200"),
    ];
    assert_eq!(asked(&hookward, &lines), Ok(()));
    let head = sink.first().head();
    assert!(!head.contains("6.6.6.6"), "{head}");
}

#[test]
fn ghsa_6384_m2mw_rf54_traefik_an_outsiders_x_forwarded_prefix_is_dropped() {
    let sink = Sink::start();
    let hookward = in_the_open(&sink, "x-forwarded-for");
    assert_eq!(asked(&hookward, &[("X-Forwarded-Prefix", "/evil"), ("X-Forwarded-Port", "1")]), Ok(()));
    let head = sink.first().head().to_lowercase();
    assert!(!head.contains("/evil") && !head.contains("x-forwarded-port"), "{head}");
}

#[test]
fn ghsa_7x63_xv5r_3p2x_oauth2_proxy_x_forwarded_uri_decides_nothing() {
    let sink = Sink::start();
    let yaml = "client_ip: { trusted_proxies: [127.0.0.0/8] }\nroutes: [ { name: hooks, path: /hooks, ip_allowlist: { mode: off } } ]\n";
    let hookward = Setup::new(&sink).without_flag("--ip-allowlist").config(yaml).start();
    for name in ["X-Forwarded-Uri", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path"] {
        let elsewhere = event().target("/admin").header(name, "/hooks");
        assert_refused(&hookward.post(&elsewhere), 404, "no_route");
        let unsigned = forged().target("/hooks").header(name, "/healthz");
        assert_refused(&hookward.post(&unsigned), 403, "signature_mismatch");
    }
    assert_eq!(sink.count(), 0);
    let outsiders = in_the_open(&sink, "x-forwarded-for");
    assert_eq!(asked(&outsiders, &[("X-Forwarded-Uri", "/healthz")]), Ok(()));
    assert!(!sink.first().has("x-forwarded-uri"));
}

#[test]
fn ghsa_5hvv_m4w4_gf6v_oauth2_proxy_a_health_checks_user_agent_opens_nothing() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    for agent in ["kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "telnyx-webhooks"] {
        let denied = event().replace("User-Agent", agent).header("X-Forwarded-For", "6.6.6.6");
        assert_refused(&hookward.post(&denied), 403, "ip_denied");
        let forged = forged().replace("User-Agent", agent).header("X-Forwarded-For", "192.76.120.200");
        assert_refused(&hookward.post(&forged), 403, "signature_mismatch");
    }
    assert_eq!(sink.count(), 0);
}

#[test]
fn what_nginx_takes_for_the_peer_or_the_leftmost_is_undetermined_here() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    // real_ip_recursive: garbage gives the peer, trusted addresses alone give the leftmost.
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", "192.76.120.200, garbage")]), undetermined());
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", "10.1.1.1, 10.2.2.2")]), undetermined());
    // Two lines are one list there, and here.
    let two = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.76.120.200, 10.1.1.1")];
    assert_eq!(asked(&hookward, &two), Ok(()));
}

#[test]
fn the_second_line_that_haproxy_adds_is_the_one_that_counts() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    let spoofed = [("X-Forwarded-For", "192.76.120.200"), ("X-Forwarded-For", "6.6.6.6")];
    assert_eq!(asked(&hookward, &spoofed), denied());
    let genuine = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.76.120.200")];
    assert_eq!(asked(&hookward, &genuine), Ok(()));
}

#[test]
fn what_caddy_and_oauth2_proxy_read_from_the_left_is_never_looked_at() {
    let sink = Sink::start();
    let hookward = behind_proxies(&sink, "x-forwarded-for");
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", "192.76.120.200, 6.6.6.6")]), denied());
    // Caddy's strict mode skips what is invalid, so that the attacker's entry wins.
    assert_eq!(asked(&hookward, &[("X-Forwarded-For", "192.76.120.200, unknown")]), undetermined());
}

#[test]
fn trusting_everybody_as_ingress_nginx_does_refuses_to_start() {
    let sink = Sink::start();
    for proxy in ["0.0.0.0/0", "192.76.120.200", "::ffff:192.76.120.192/123"] {
        let finished = Setup::new(&sink).without_flag("--ip-allowlist").flag("--trusted-proxy", proxy).run_to_end();
        assert_eq!(finished.code, Some(78), "{proxy}: {finished:?}");
        assert!(finished.stderr.contains("overlaps the trusted proxy"), "{proxy}: {finished:?}");
    }
}
