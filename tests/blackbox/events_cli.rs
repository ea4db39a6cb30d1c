//! `hookward events …` over the socket and over TCP.

use std::io::BufRead as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::harness::process::Finished;
use super::harness::*;

const ONE_REFUSAL: &str = "delivery: { retry: { client_errors: 1 } }\n";
const TOKEN: &str = "s3cret-of-the-admin-side";

fn events(hookward: &Hookward, args: &[&str]) -> Finished {
    let mut command = command(&["events"]);
    Process::finish(command.args(args).env("HOOKWARD_DATA_DIR", hookward.setup().data_dir()), b"")
}

fn ok(finished: Finished) -> String {
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    finished.stdout
}

fn json(finished: Finished) -> Value {
    let text = ok(finished);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Three dead letters, oldest first.
fn three_dead() -> (Sink, Hookward, Vec<String>) {
    let sink = Sink::start();
    sink.behave(|_| Reply::status(400));
    let hookward = Setup::new(&sink).config(ONE_REFUSAL).start();
    let ids: Vec<String> = (0..3).map(|_| new_id()).collect();
    for id in &ids {
        assert_accepted(&hookward.post(&signed(body(id))), id);
    }
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 3.0);
    (sink, hookward, ids)
}

#[test]
fn list_prints_a_table_and_json_and_goes_on_from_a_cursor() {
    let (_sink, hookward, ids) = three_dead();
    let table = ok(events(&hookward, &["list", "--state", "dead"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("SEQ") && lines.len() == 4, "{table}");
    for (line, id) in lines[1..].iter().zip(ids.iter().rev()) {
        for cell in [id.as_str(), "dead", "default", "message.received", "400"] {
            assert!(line.contains(cell), "{cell} in {line}");
        }
    }
    let first = json(events(&hookward, &["list", "--limit", "2", "--json"]));
    assert_eq!(first["events"].as_array().unwrap().len(), 2);
    let rest = json(events(&hookward, &["list", "--json", "--cursor", first["next_cursor"].as_str().unwrap()]));
    assert_eq!(rest["events"][0]["event_id"], ids[0]);
    assert_eq!((rest["events"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    assert_eq!(ok(events(&hookward, &["list", "--event-type", "message.sent"])), "no events\n");
}

#[test]
fn show_prints_headers_and_body() {
    let (_sink, hookward, ids) = three_dead();
    let shown = ok(events(&hookward, &["show", "1"]));
    for part in [ids[0].as_str(), "status 400", "user-agent: telnyx-webhooks", "Grüße 🐕", "POST /webhooks/telnyx"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let shown = json(events(&hookward, &["show", "1", "--json"]));
    assert_eq!(STANDARD.decode(shown["body"].as_str().unwrap()).unwrap(), body(&ids[0]));
    let missing = events(&hookward, &["show", "99"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let said = "no event has the number 99";
    assert!(missing.stderr.contains(said) && missing.stderr.contains("hookward events list"), "{missing:?}");
}

#[test]
fn of_an_event_that_is_not_kept_show_says_so() {
    let (sink, hookward) = pair();
    post_sentinel(&hookward, &sink);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
    let shown = ok(events(&hookward, &["show", "1"]));
    assert!(shown.contains("(request and body are not kept)") && !shown.contains("- -"), "{shown}");
}

#[test]
fn an_event_that_leaves_the_state_during_an_export_is_left_out() {
    let (sink, hookward, _) = three_dead();
    // More than the pipe holds, so that the export stands still in the middle.
    let large = vec![b'x'; 500_000];
    for _ in 0..2 {
        assert_accepted_nameless(&hookward.post(&signed(large.clone())));
    }
    hookward.await_metric("hookward_buffer_events", &[("state", "dead")], 5.0);
    let mut command = command(&["events", "export", "--state", "dead"]);
    command.env("HOOKWARD_DATA_DIR", hookward.setup().data_dir()).stdout(std::process::Stdio::piped());
    let mut export = command.spawn().unwrap();
    let mut lines = std::io::BufReader::new(export.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    sink.behave(|_| Reply::status(200));
    assert_eq!(events(&hookward, &["redrive", "1", "2", "3"]).code, Some(0));
    let rest: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(export.wait().unwrap().success());
    let exported: Vec<&Value> = std::iter::once(&first).chain(&rest).collect();
    assert_eq!(exported.iter().map(|event| event["seq"].as_i64().unwrap()).collect::<Vec<_>>(), [5, 4]);
    assert!(exported.iter().all(|event| event["state"] == "dead"));
}

#[test]
fn a_public_listener_is_not_taken_for_the_admin_side() {
    let (_sink, hookward) = pair();
    let url = format!("http://{}", hookward.listen());
    for args in [&["health", "--admin", &url][..], &["events", "list", "--admin", &url], &["drain", "--admin", &url]] {
        let refused = run_to_end(args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("is a public listener of hookward"), "{refused:?}");
    }
}

#[test]
fn redrive_takes_numbers_or_all_dead_letters() {
    let (sink, hookward, _) = three_dead();
    let counted = ok(events(&hookward, &["redrive", "--state", "dead", "--dry-run"]));
    assert_eq!(counted, "3 events would be delivered again\n");
    sink.behave(|_| Reply::status(200));
    assert_eq!(ok(events(&hookward, &["redrive", "1"])), "1 pending\n");
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 1.0);
    let mixed = events(&hookward, &["redrive", "99", "1", "2"]);
    assert_eq!((mixed.code, mixed.stdout.as_str()), (Some(1), "2 pending\n"), "{mixed:?}");
    assert!(mixed.stderr.contains("no event has the number 99") && mixed.stderr.contains("event 1: "), "{mixed:?}");
    let all = ok(events(&hookward, &["redrive", "--state", "dead", "--rate", "100", "--limit", "5"]));
    assert!(all.starts_with("redrive of 1 event started, in the background at up to 100 a second;"), "{all}");
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 3.0);
    assert_eq!(sink.count(), 6);
}

#[test]
fn discard_needs_a_reason() {
    let (_sink, hookward, _) = three_dead();
    assert_eq!(events(&hookward, &["discard", "1"]).code, Some(2));
    assert_eq!(ok(events(&hookward, &["discard", "1", "2", "--reason", "poison"])), "1 discarded\n2 discarded\n");
    hookward.await_metric("hookward_events_discarded_total", &[], 2.0);
    hookward.await_log("poison");
    assert_eq!(events(&hookward, &["discard", "1", "--reason", "again"]).code, Some(1));
}

#[test]
fn forget_takes_numbers_or_the_id_of_an_event_in_every_route_that_has_had_it() {
    let sink = Sink::start();
    let route = |name| format!("  - {{ name: {name}, path: /{name} }}\n");
    let yaml = format!("routes:\n{}{}", route("one"), route("two"));
    let hookward = Setup::new(&sink).config(&yaml).start();
    let id = new_id();
    let mut age_s = 0;
    let mut send = |path: &str| {
        age_s += 1;
        hookward.post(&signed_at(now_s() - age_s, body(&id)).target(path))
    };
    assert_accepted(&send("/one"), &id);
    assert_accepted(&send("/two"), &id);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 2.0);
    assert_eq!(ok(events(&hookward, &["forget", "1"])), "1 forgotten\n");
    assert_accepted(&send("/one"), &id);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 3.0);
    assert_duplicate(&send("/one"), &id);
    // The first event of that route stands for nothing any more, which is no failure.
    assert_eq!(ok(events(&hookward, &["forget", "--event-id", &id])), "3 forgotten\n2 forgotten\n");
    assert_accepted(&send("/one"), &id);
    assert_accepted(&send("/two"), &id);
    hookward.await_metric("hookward_buffer_events", &[("state", "delivered")], 5.0);
    let of_route = ok(events(&hookward, &["forget", "--event-id", &id, "--route", "two", "--json"]));
    assert_eq!(of_route, "{\"forgotten\":true,\"seq\":5}\n");
    assert_duplicate(&send("/one"), &id);
    let again = events(&hookward, &["forget", "5", "99"]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""), "{again:?}");
    assert!(
        again.stderr.contains("event 5: not remembered") && again.stderr.contains("no event has the number 99"),
        "{again:?}"
    );
    let unknown = events(&hookward, &["forget", "--event-id", "nobody"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("no event with this id"), "{unknown:?}");
}

#[test]
fn export_prints_whole_events_as_lines() {
    let (_sink, hookward, ids) = three_dead();
    let lines = |args: &[&str]| -> Vec<Value> {
        ok(events(&hookward, args)).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let exported = lines(&["export", "--state", "dead"]);
    let found: Vec<&str> = exported.iter().rev().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(found, ids);
    for event in &exported {
        let id = event["event_id"].as_str().unwrap();
        assert_eq!(STANDARD.decode(event["body"].as_str().unwrap()).unwrap(), body(id));
        assert!(event["headers"].as_array().is_some_and(|headers| headers.len() > 3), "{event}");
    }
    assert_eq!(lines(&["export", "--limit", "1"]).len(), 1);
}

#[test]
fn a_large_event_and_a_full_page_come_whole() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).config("delivery: { delivered: { keep: 1h } }\n").start();
    let large = vec![b'x'; 900_000];
    assert_accepted_nameless(&hookward.post(&signed(large.clone())));
    sink.first();
    let shown = json(events(&hookward, &["show", "1", "--json"]));
    assert_eq!(STANDARD.decode(shown["body"].as_str().unwrap()).unwrap(), large);
    let mut wire = hookward.connect();
    for _ in 0..1_200 {
        assert_eq!(wire.ask(&event()).status, 200);
    }
    let all = json(events(&hookward, &["list", "--limit", "2000", "--json"]));
    assert_eq!((all["events"].as_array().unwrap().len(), &all["next_cursor"]), (1_201, &Value::Null));
}

#[test]
fn over_tcp_the_token_comes_from_a_file_or_the_environment() {
    let sink = Sink::start();
    let hookward = Setup::new(&sink).env("HOOKWARD_ADMIN_TOKEN", TOKEN).start();
    let id = post_sentinel(&hookward, &sink);
    let url = format!("http://{}", hookward.admin);
    let file = hookward.setup().dir().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let file = file.to_string_lossy().into_owned();
    let args = ["events", "list", "--admin", &url];
    let by_env = Process::finish(command(&args).env("HOOKWARD_ADMIN_TOKEN", TOKEN), b"");
    let by_file = Process::finish(command(&args).args(["--admin-token-file", &file]), b"");
    for listed in [by_env, by_file] {
        assert!(ok(listed).contains(&id));
    }
    for wrong in [command(&args).env("HOOKWARD_ADMIN_TOKEN", "wr0ng"), &mut command(&args)] {
        let refused = Process::finish(wrong, b"");
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("--admin-token-file") && !refused.stderr.contains("wr0ng"), "{refused:?}");
    }
    let health = |args: &[&str]| Process::finish(&mut command(args), b"").code;
    assert_eq!(health(&["health", "--admin", &url]), Some(0));
    assert_eq!(health(&["health", "--admin", &hookward.admin.to_string()]), Some(0), "an address will do");
    assert_eq!(health(&["health", "--admin", "gopher://x"]), Some(2));
}

#[test]
fn where_nothing_runs_the_command_says_on_which_socket() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["events", "list"][..], &["events", "export"], &["events", "redrive", "--state", "dead"], &["drain"]]
    {
        let finished = Process::finish(command(args).env("HOOKWARD_DATA_DIR", dir.path()), b"");
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
        let socket = dir.path().join("admin.sock").display().to_string();
        assert!(finished.stderr.contains(&format!("nothing answers on {socket}")), "{finished:?}");
    }
}

#[test]
fn wrong_usage_is_2_and_every_command_has_help_with_an_example() {
    for args in [
        &["events"][..],
        &["events", "show"],
        &["events", "show", "zero"],
        &["events", "list", "--state", "lost"],
        &["events", "redrive"],
        &["events", "redrive", "1", "--state", "dead"],
        &["events", "redrive", "--state", "pending"],
        &["events", "redrive", "1", "--dry-run"],
        &["events", "forget"],
        &["events", "forget", "1", "--event-id", "x"],
        &["events", "forget", "1", "--route", "x"],
        &["drain", "--timeout", "5s"],
    ] {
        assert_eq!(run_to_end(args).code, Some(2), "{args:?}");
    }
    assert!(run_to_end(&["events", "redrive"]).stderr.contains("--state dead"), "both ways are shown");
    for name in ["list", "show", "redrive", "discard", "forget", "export"] {
        let help = ok(run_to_end(&["events", name, "--help"]));
        assert!(help.contains(&format!("hookward events {name}")) && help.contains("Example"), "{help}");
    }
    for name in ["events", "drain", "health"] {
        let help = ok(run_to_end(&[name, "--help"]));
        assert!(help.contains("hookward") && help.contains("Example"), "{help}");
    }
}

#[test]
fn a_refused_repair_says_each_thing_once_and_forget_shows_both_ways_to_name_events() {
    let (_sink, hookward, _) = three_dead();
    let forget = events(&hookward, &["forget", "1"]);
    assert_eq!(forget.stderr.trim_end(), "hookward: event 1: it is dead: `hookward events redrive` delivers it");
    let usage = run_to_end(&["events", "forget"]);
    for way in ["hookward events forget [OPTIONS] <SEQ>...", "hookward events forget [OPTIONS] --event-id <ID>"] {
        assert!(usage.stderr.contains(way), "{usage:?}");
    }
}

/// What a stopped process leaves: its socket is there, and the queue of connections is full.
#[test]
fn a_command_ends_where_the_admin_socket_takes_no_connection() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let dir = tempfile::tempdir().unwrap();
    let address = SockAddr::unix(dir.path().join("admin.sock")).unwrap();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    let list = run_to_end(&["events", "list", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(list.code, Some(1), "{list:?}");
    assert!(list.stderr.contains("takes no connection at present"), "{list:?}");
}
