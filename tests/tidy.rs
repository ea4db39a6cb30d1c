//! What the compiler cannot keep: the floors of `docs/architecture.md`, who may name what, and
//! documents that name everything there is.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may end with a panic")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Every source file with its path below `src/` and its text without tests.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    let shown = |path: &Path| path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
    paths
        .iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.to_string_lossy().ends_with("_tests.rs"))
        .filter(|path| !shown(path).contains("/tests/"))
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            (shown(path), text.split("#[cfg(test)]").next().unwrap().to_owned())
        })
        .collect()
}

/// The floor of a module: who is lower may be imported, who is higher may not.
fn floor(path: &str) -> u8 {
    const FLOORS: [(&str, u8); 48] = [
        ("client", 1),
        ("certificate", 0),
        ("cli", 6),
        ("main", 6),
        ("config", 5),
        ("server", 5),
        ("http", 4),
        ("ingress", 3),
        ("forward/mod", 3),
        ("forward/upstream", 2),
        ("forward/headers", 2),
        ("forward/sign", 2),
        ("forward/refusal", 2),
        ("forward/secret_key", 2),
        ("forward/backoff", 0),
        ("forward/signal", 0),
        ("forward/breaker", 0),
        ("forward/window", 0),
        ("forward/hold", 0),
        ("forward/kind", 0),
        ("forward/rate", 0),
        ("forward/latency", 0),
        ("forward/shares", 0),
        ("forward/tally", 0),
        ("forward/waiting", 0),
        ("forward/waits", 0),
        ("forward/scheduler", 0),
        ("forward/order", 0),
        ("forward/lane", 1),
        ("forward", 3),
        ("buffer/event", 0),
        ("buffer/pause", 0),
        ("buffer/committer", 2),
        ("buffer/redrive", 2),
        ("buffer/sqlite", 2),
        ("buffer/index", 1),
        ("buffer/durability", 0),
        ("buffer", 1),
        ("explain", 2),
        ("gate", 1),
        ("metrics", 1),
        ("logging", 0),
        ("clock", 0),
        ("faults", 0),
        ("rejection", 0),
        ("router", 0),
        ("json_pointer", 0),
        ("lib", 9),
    ];
    FLOORS.iter().find(|(prefix, _)| path.starts_with(prefix)).unwrap_or_else(|| panic!("{path} has no floor")).1
}

#[test]
fn nothing_imports_what_stands_above_it() {
    for (path, text) in sources() {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let module: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
                let module = module.replace("::", "/");
                if module.is_empty() {
                    continue;
                }
                assert!(floor(&module) <= floor(&path), "src/{path} imports {module}, which stands above it: {line}");
            }
        }
    }
}

#[test]
fn only_a_few_files_name_pingora_sql_prometheus_and_the_environment() {
    let allowed: [(&str, &[&str]); 5] = [
        ("pingora_core", &["http/", "server.rs", "server/", "client/"]),
        ("rusqlite", &["buffer/sqlite/"]),
        ("prometheus::", &["metrics.rs", "metrics/", "http/"]),
        ("std::env::", &["cli/", "main.rs", "config/", "faults.rs"]),
        ("SystemTime::now", &["clock.rs"]),
    ];
    for (path, text) in sources() {
        for (name, places) in allowed {
            let named = text.lines().any(|line| line.contains(name) && !line.trim_start().starts_with("//"));
            assert!(!named || places.iter().any(|place| path.starts_with(place)), "src/{path} names {name}");
        }
    }
}

/// The rows of a page's tables whose first cell begins with this word, as code.
fn rows<'a>(page: &'a str, word: &str) -> Vec<Vec<&'a str>> {
    let begin = format!("| `{word}`");
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    page.lines().filter(|line| line.starts_with(&begin)).map(cells).collect()
}

/// That such a row has so many cells, of which the last one says what to do.
fn assert_row(page: &str, word: &str, columns: usize) {
    let rows = rows(page, word);
    let says = |row: &Vec<&str>| row.len() == columns && row.last().is_some_and(|cell| !cell.is_empty());
    assert!(rows.iter().any(says), "docs/operations.md: `{word}` with what to do, in {columns} columns: {rows:?}");
}

#[test]
fn the_operators_page_says_what_to_do_about_every_reason() {
    let page = read("docs/operations.md");
    for rejection in hookward::rejection::Rejection::ALL {
        let row = format!("| {} | `{}` | ", rejection.status(), rejection.reason());
        let line = page.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_else(|| panic!("{row}"));
        assert!(line.trim_end_matches(['|', ' ']).len() > 10, "{line}");
    }
}

#[test]
fn the_operators_page_says_what_to_do_about_every_metric_and_names_every_value_of_its_labels() {
    let page = read("docs/operations.md");
    let metrics = hookward::metrics::Metrics::new(&[]).unwrap();
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE hookward_")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_row(&page, name, 5);
        assert_eq!(rows(&page, name)[0][1], kind, "{name}");
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP hookward_")) {
        let (name, help) = line.split_once(' ').unwrap();
        assert!(rows(&page, name)[0][3].starts_with(help.trim_end_matches(", Unix time.")), "{name}: {help}");
    }
    for line in text.lines().filter(|line| line.starts_with("hookward_")) {
        let Some((_, labels)) = line.split_once('{') else { continue };
        for label in labels.split_once('}').unwrap().0.split(',') {
            let (label, value) = label.split_once('=').unwrap();
            if matches!(label, "outcome" | "result" | "reason" | "kind" | "state" | "attempt") {
                assert!(page.contains(&format!("`{}`", value.trim_matches('"'))), "{line}");
            }
        }
    }
}

#[test]
fn the_operators_page_says_what_to_do_about_every_state() {
    use hookward::forward::breaker::State as Breaker;
    let page = read("docs/operations.md");
    for state in hookward::buffer::event::State::ALL {
        assert_row(&page, state.name(), 3);
    }
    for state in [Breaker::Closed, Breaker::HalfOpen, Breaker::Open] {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{}` ({}) | ", state.name(), state.code())));
        assert!(line.is_some(), "{}", state.name());
        assert_row(&page, state.name(), 3);
    }
    for reason in hookward::forward::waits::Reason::ALL {
        assert_row(&page, reason.name(), 3);
    }
    for reason in ["starting", "draining", "buffer_failed"] {
        assert!(read("src/http/admin.rs").contains(&format!("Some(\"{reason}\")")), "{reason}");
        assert_row(&page, reason, 3);
    }
}

#[test]
fn the_operators_page_says_what_to_do_about_every_last_error() {
    use hookward::client::ExchangeError;
    let page = read("docs/operations.md");
    for error in [
        ExchangeError::Resolve,
        ExchangeError::Resolver,
        ExchangeError::Connect,
        ExchangeError::ConnectTimeout,
        ExchangeError::Timeout,
        ExchangeError::Broken,
    ] {
        assert_row(&page, &error.to_string(), 3);
    }
    use hookward::client::tls::{Shown, TlsFailure};
    for failure in [
        TlsFailure::ClientCertificate(Shown::None),
        TlsFailure::ClientCertificate(Shown::Own),
        TlsFailure::NotTls,
        TlsFailure::NoHttp1,
        TlsFailure::NothingInCommon,
        TlsFailure::NameUnknown,
        TlsFailure::HungUp,
        TlsFailure::TimedOut,
        TlsFailure::Broken,
    ] {
        let text = failure.to_string();
        let begins = text.split_once([':', '(']).map_or(&*text, |(begins, _)| begins.trim_end());
        assert!(page.contains(&format!("`{begins}")), "docs/operations.md: {begins}");
    }
    for (path, text) in [
        ("src/forward/mod.rs", "the attempt was cut off"),
        ("src/forward/upstream.rs", "max_age is over"),
        (
            "src/forward/upstream.rs",
            "the upstream leads back to hookward (508 loop_detected): set upstream.url to the app's own address",
        ),
        ("src/forward/refusal.rs", "s ago, and its SDKs refuse that from the 300th second on"),
        ("src/forward/refusal.rs", "s ahead of this machine's clock"),
        ("src/forward/refusal.rs", "by the Date of its answer the app's clock is"),
        ("src/forward/refusal.rs", "Telnyx's signature is as it came"),
        ("src/forward/refusal.rs", "the app has taken nothing so signed"),
        ("src/forward/refusal.rs", "the app has taken events so signed"),
        ("src/forward/refusal.rs", "the event is unverified (a check in report mode), so it was not signed"),
        ("src/forward/refusal.rs", "it is a form (TeXML)"),
        ("src/forward/refusal.rs", "the app refuses the host that it is asked for"),
        ("src/forward/refusal.rs", "the app asks for a CSRF token"),
        ("src/forward/refusal.rs", "the app does not know this path"),
        ("src/forward/refusal.rs", "the app takes another method"),
        ("src/forward/refusal.rs", "a redirect is never followed"),
        ("src/buffer/sqlite/rows.rs", "checksum mismatch"),
    ] {
        assert!(read(path).contains(text), "{path}: {text}");
        let says = |line: &str| line.starts_with("| `") && line.contains(text);
        assert!(page.lines().any(says), "docs/operations.md: {text}");
    }
}

#[test]
fn the_map_names_every_module() {
    let map = read("docs/architecture.md");
    for (path, _) in sources() {
        let name = path.rsplit('/').next().unwrap();
        assert!(map.contains(name), "src/{path}");
    }
}

#[test]
fn the_readmes_table_is_what_the_reader_asks_for() {
    let readme = read("README.md");
    let table = hookward::config::reader::schema::markdown_table(&hookward::config::resolve::describe());
    // A route's upstream has the keys of the top-level one.
    for line in table.lines().filter(|line| !line.starts_with("| `routes[].upstream.")) {
        assert!(readme.contains(line), "run `hookward schema --markdown` and take over:\n{line}");
    }
}
