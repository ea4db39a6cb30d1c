//! Starting, refusing to start, and saying why.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rusqlite::Connection;

use super::harness::hookward::parse_ready;
use super::harness::*;

#[test]
fn flags_alone_are_enough_and_the_ready_line_names_the_real_ports() {
    let (sink, hookward) = pair();
    assert_ne!(hookward.listen().port(), 0);
    assert_ne!(hookward.admin.port(), 0);
    post_sentinel(&hookward, &sink);
    assert_eq!(hookward.next_line(Duration::ZERO), None, "one line, and nothing more on stdout");
}

#[test]
fn the_environment_alone_is_enough_too() {
    let sink = Sink::start();
    let mut setup = Setup::new(&sink);
    let data_dir = setup.data_dir();
    for flag in
        ["--listen", "--admin", "--data-dir", "--upstream", "--public-key", "--buffer-require", "--ip-allowlist"]
    {
        setup = setup.without_flag(flag);
    }
    let hookward = setup
        .env("HOOKWARD_LISTEN", "127.0.0.1:0")
        .env("HOOKWARD_ADMIN", "127.0.0.1:0")
        .env("HOOKWARD_DATA_DIR", &data_dir.to_string_lossy())
        .env("HOOKWARD_UPSTREAM", &sink.url())
        .env("TELNYX_PUBLIC_KEY", &event::public_key())
        .env("HOOKWARD_BUFFER_REQUIRE", "process")
        .env("HOOKWARD_IP_ALLOWLIST", "off")
        .env("HOOKWARD_PATH", "/only")
        .env("HOOKWARD_SERVICE_HOST", "10.0.0.1")
        .env("HOOKWARD_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .start();
    assert_refused(&hookward.post(&event()), 404, "no_route");
    post_sentinel_to("/only", &hookward, &sink);
}

#[test]
fn flags_beat_the_environment_and_the_environment_beats_the_file() {
    let (of_flag, of_env, of_file) = (Sink::start(), Sink::start(), Sink::start());
    let yaml = format!("upstream: {{ url: \"{}\" }}\n", of_file.url());
    let setup = Setup::without_upstream().config(&yaml);
    let mut hookward = setup.start();
    post_sentinel(&hookward, &of_file);
    hookward.stop();
    let setup = setup.env("HOOKWARD_UPSTREAM", &of_env.url());
    let mut hookward = setup.start();
    post_sentinel(&hookward, &of_env);
    hookward.stop();
    let hookward = setup.flag("--upstream", &of_flag.url()).start();
    post_sentinel(&hookward, &of_flag);
    assert_eq!((of_file.count(), of_env.count()), (1, 1));
}

#[test]
fn the_file_may_name_several_listeners() {
    let sink = Sink::start();
    let yaml = "listen: [ { address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\" } ]\n";
    let setup = Setup::new(&sink).without_flag("--listen").config(yaml);
    let process = setup.spawn();
    let line = process.next_line(DEADLINE).unwrap_or_else(|| panic!("{}", process.stderr()));
    let addresses = line.trim().strip_prefix("ready listen=").unwrap().split(" admin=").next().unwrap();
    let addresses: Vec<std::net::SocketAddr> = addresses.split(',').map(|address| address.parse().unwrap()).collect();
    assert_eq!(addresses.len(), 2, "{line}");
    for (index, address) in addresses.into_iter().enumerate() {
        assert_eq!(Wire::connect(address).ask(&event()).status, 200);
        sink.wait_for(index + 1);
    }
}

#[test]
fn a_broken_configuration_is_exit_78_with_every_problem_at_once() {
    let sink = Sink::start();
    let yaml = "
listn: []
limits: { connections: many, header_timeout: 10 parsecs }
routes:
  - name: hooks
    path: no-slash
    max_body: 1XB
    methods: [GET]
    ip_allowlist: { sources: [] }
    keys: [ { name: bad, value: KEY0123456789ABCDEF_example } ]
    timestamp: { past: 0s }
    dedupe: { window: 10s }
delivery: { retry: { base: -1s } }
upstream: { url: \"ftp://app\" }
";
    let finished = Setup::new(&sink).config(yaml).run_to_end();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert_eq!(finished.stdout, "", "errors go to stderr");
    for problem in [
        "listn",
        "connections",
        "header_timeout",
        "path",
        "max_body",
        "methods",
        "ip_allowlist",
        "API key",
        "past",
        "base",
        "ftp://app",
    ] {
        assert!(finished.stderr.contains(problem), "`{problem}` is not named in\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("0123456789ABCDEF"), "a key is never printed\n{}", finished.stderr);
}

#[test]
fn a_file_that_is_not_there_or_not_yaml_is_exit_78() {
    let sink = Sink::start();
    let finished = Setup::new(&sink).flag("--config", "/nonexistent/hookward.yaml").run_to_end();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("/nonexistent/hookward.yaml"), "{finished:?}");
    for broken in ["routes: [", "a: b: c", "- a\nb", "routes: *nowhere", "&a [*a]"] {
        let finished = Setup::new(&sink).config(broken).run_to_end();
        assert_eq!(finished.code, Some(78), "{broken:?} {finished:?}");
        assert!(!finished.stderr.contains("panicked"), "{broken:?} {finished:?}");
    }
}

#[test]
fn without_an_upstream_or_a_key_it_does_not_start() {
    let sink = Sink::start();
    let finished = Setup::without_upstream().run_to_end();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("upstream"), "{finished:?}");
    let finished = Setup::new(&sink).without_flag("--public-key").run_to_end();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("--public-key") || finished.stderr.contains("TELNYX_PUBLIC_KEY"), "{finished:?}");
    let neither = Setup::without_upstream().without_flag("--public-key").run_to_end();
    assert_eq!(neither.code, Some(78), "{neither:?}");
    assert!(neither.stderr.contains("upstream") && neither.stderr.contains("key"), "both at once: {neither:?}");
}

#[test]
fn a_key_that_is_no_use_is_exit_78_and_is_not_printed() {
    let sink = Sink::start();
    for key in ["KEY0123456789ABCDEF_example", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "hello, world", " "] {
        let finished = Setup::new(&sink).flag("--public-key", key).run_to_end();
        assert_eq!(finished.code, Some(78), "{key:?} {finished:?}");
        assert!(key.trim().is_empty() || !finished.stderr.contains(key), "{finished:?}");
    }
}

#[test]
fn a_flag_that_does_not_exist_is_exit_2() {
    for args in [&["run", "--no-such-flag"][..], &["no-such-command"], &[]] {
        let finished = run_to_end(args);
        assert_eq!(finished.code, Some(2), "{args:?} {finished:?}");
        assert!(!finished.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_data_directory_that_is_none_is_exit_1_and_named() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    std::fs::write(setup.data_dir(), "a file").unwrap();
    let finished = setup.run_to_end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&*setup.data_dir().to_string_lossy()), "{finished:?}");
    assert_eq!(std::fs::read(setup.data_dir()).unwrap(), b"a file");
}

#[test]
fn a_port_in_use_is_exit_1_and_named() {
    let sink = Sink::start();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin"] {
        let finished = Setup::new(&sink).flag(flag, &address).run_to_end();
        assert_eq!(finished.code, Some(1), "{flag} {finished:?}");
        assert!(finished.stderr.contains(&address), "{flag} {finished:?}");
        assert!(!finished.stdout.contains("ready"), "{flag} {finished:?}");
    }
}

#[test]
fn less_durability_than_required_is_refused_with_what_to_mount() {
    let sink = Sink::start();
    let setup = Setup::new(&sink).flag("--buffer-require", "volume");
    // Where the tests' directory outlives everything, there is nothing to refuse.
    let process = setup.spawn();
    match process.next_line(DEADLINE) {
        Some(line) => assert!(parse_ready(&line).is_some()),
        None => {
            drop(process);
            let finished = setup.run_to_end();
            assert!(matches!(finished.code, Some(1 | 78)), "{finished:?}");
            assert!(finished.stderr.contains(&*setup.data_dir().to_string_lossy()), "{finished:?}");
            assert!(finished.stderr.contains("volume"), "{finished:?}");
        }
    }
}

#[test]
fn the_data_directory_is_made_and_nobody_else_can_read_it() {
    let (sink, hookward) = pair();
    post_sentinel(&hookward, &sink);
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(hookward.setup().admin_socket()), 0o600);
    drop(hookward.admin_socket(&Request::get("/livez")));
    // Looked at only while hookward is not running: another open file would drop its locks.
    let setup = hookward.setup().clone();
    drop(hookward);
    assert_eq!(mode(setup.database()), 0o600);
    for file in std::fs::read_dir(setup.data_dir()).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(path.clone()) & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let (sink, mut hookward) = pair();
    post_sentinel(&hookward, &sink);
    hookward.stop();
    let setup = hookward.setup().clone();
    let database = Connection::open(setup.database()).unwrap();
    database.pragma_update(None, "user_version", 9999).unwrap();
    database.close().unwrap();
    let before = std::fs::read(setup.database()).unwrap();
    let finished = setup.run_to_end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("newer"), "{finished:?}");
    assert!(std::fs::read(setup.database()).unwrap() == before, "the file is untouched");
    let database = Connection::open(setup.database()).unwrap();
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 9999);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let sink = Sink::start();
    let setup = Setup::new(&sink);
    std::fs::create_dir(setup.data_dir()).unwrap();
    let content = b"This is no database. ".repeat(1000);
    std::fs::write(setup.database(), &content).unwrap();
    let finished = setup.run_to_end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&*setup.data_dir().to_string_lossy()), "{finished:?}");
    assert!(std::fs::read(setup.database()).unwrap() == content, "the file is untouched");
}

#[test]
fn a_damaged_event_is_quarantined_and_the_others_are_delivered() {
    let mut sink = Sink::start();
    sink.stop();
    let yaml = "
delivery: { retry: { base: 20ms, max: 100ms } }
shutdown: { drain: 10ms }
";
    let mut hookward = Setup::new(&sink).config(yaml).start();
    let ids: Vec<_> = (0..5).map(|_| new_id()).collect();
    for id in &ids {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    hookward.stop();
    let damaged = damage_body_of(&hookward.setup().database(), &ids[2]);
    assert_eq!(damaged, 1);
    sink.start_again();
    hookward.start_again();
    let received = sink.wait_for(4);
    hookward.await_metric("hookward_buffer_quarantined_events_total", &[], 1.0);
    let metrics = hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
    assert_eq!(metrics.value("hookward_buffer_events", &[("state", "quarantined")]), 1.0, "{metrics}");
    assert!(received.iter().all(|r| r.event_id() != ids[2] && r.body == body(&r.event_id())));
    // What cannot be delivered must not stand in the way of a genuine repeat.
    assert_accepted(&hookward.post(&signed(body(&ids[2]))), &ids[2]);
    let received = sink.wait_for(5);
    assert_eq!((received.len(), received[4].event_id()), (5, ids[2].clone()));
}

/// Flips a bit in the middle of the stored body that holds this id; how many rows that were.
fn damage_body_of(database: &std::path::Path, id: &str) -> usize {
    let database = Connection::open(database).unwrap();
    let mut rows: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut select = database.prepare("SELECT seq, body FROM body").unwrap();
    let mut found = select.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        rows.push((row.get(0).unwrap(), row.get(1).unwrap()));
    }
    rows.retain(|(_, body)| wire::find(body, id.as_bytes()).is_some());
    for (seq, body) in &mut rows {
        let middle = body.len() / 2;
        body[middle] ^= 1;
        database.execute("UPDATE body SET body = ?1 WHERE seq = ?2", (&*body, *seq)).unwrap();
    }
    rows.len()
}

#[test]
fn a_second_instance_waits_for_the_data_directory_and_takes_over() {
    let (sink, mut first) = pair();
    // Its admin side answers while it waits, so its port has to be known before.
    let admin = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let second = first.setup().clone().flag("--admin", &admin.to_string()).spawn();
    let answer = poll("the second one waits", || Wire::try_connect(admin).ok()?.try_ask(&Request::get("/readyz")).ok());
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("starting"), "{answer:?}");
    assert_eq!(Wire::connect(admin).ask(&Request::get("/livez")).status, 200);
    post_sentinel(&first, &sink);
    assert_eq!(first.admin_socket(&Request::get("/api/v1/status")).status, 200, "the socket is still the first one's");
    assert_eq!(second.next_line(Duration::from_millis(500)), None, "not ready while the first one lives");
    first.kill9();
    let line = second.next_line(DEADLINE).unwrap_or_else(|| panic!("{}", second.stderr()));
    let (listen, _) = parse_ready(&line).unwrap();
    assert_eq!(listen[0].connect().ask(&event()).status, 200);
    sink.wait_for(2);
}
