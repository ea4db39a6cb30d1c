use super::super::reader::node::parse;
use super::super::reader::problem::Problem;
use super::*;
use crate::gate::allowlist::Allowlist;

const KEY: &str = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";
const NEXT: &str = "+7E99DXiiQXvceNX4nHm3Lbm5mqPWad5RhDr2ufuCik=";

fn no_env(_: &str) -> Option<String> {
    None
}

fn flags() -> Overrides {
    Overrides { upstream: Some("http://127.0.0.1:3000".into()), public_key: vec![KEY.into()], ..Overrides::default() }
}

fn file(text: &str) -> SourceFile {
    SourceFile { name: "hookward.yaml".into(), text: text.into() }
}

fn problems(text: &str, overrides: &Overrides) -> Vec<String> {
    resolve(Some(&file(text)), overrides, &no_env).err().map(|problems| problems.lines().collect()).unwrap_or_default()
}

#[test]
fn flags_alone_make_the_documented_defaults() {
    let config = resolve(None, &flags(), &no_env).unwrap().config;
    assert_eq!(config.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(config.admin.address, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(config.data_dir, Path::new("/var/lib/hookward"));
    let route = &config.routes[0];
    assert_eq!((&*route.name, &*route.keys[0].name), ("default", "key1"));
    assert!(matches!(&route.allowlist, Allowlist::Only { nets, .. } if nets.len() == 4));
    assert_eq!(route.max_body_bytes, 1 << 20);
    assert_eq!(route.dedupe.as_ref().unwrap().window, HOUR * 24);
    assert_eq!((config.buffer.max_bytes, config.buffer.require), (1 << 30, Durability::Pod));
    assert_eq!(config.delivery.retry.max_age, HOUR * 72);
    assert_eq!(config.limits.connections, 4096);
}

#[test]
fn every_problem_is_reported_at_once_with_line_and_mend() {
    let text = "\
listn: []
limits:
  connections: many
  header_timeout: 10 parsecs
routes:
  - path: no-slash
    methods: [GET]
    ip_allowlist: { sources: [telnix, 10.0.0.1/8] }
    keys: [{ value: KEY0123456789ABCDEF_example }]
    timestamp: { past: 0s }
    dedupe: { window: 1m }
    mode: prozy
buffer: { require: forever }
upstream: { url: 'http://user:hunter2@app/path' }
";
    let found = problems(text, &Overrides::default());
    let places: Vec<_> = found.iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    for place in [
        "hookward.yaml:1: listn",
        "hookward.yaml:3: limits.connections",
        "hookward.yaml:4: limits.header_timeout",
        "hookward.yaml:6: routes[0].path",
        "hookward.yaml:7: routes[0].methods[0]",
        "hookward.yaml:8: routes[0].ip_allowlist.sources[0]",
        "hookward.yaml:8: routes[0].ip_allowlist.sources[1]",
        "hookward.yaml:9: routes[0].keys[0]",
        "hookward.yaml:10: routes[0].timestamp.past",
        "hookward.yaml:11: routes[0].dedupe.window",
        "hookward.yaml:12: routes[0].mode",
        "hookward.yaml:13: buffer.require",
        "hookward.yaml:14: upstream.url",
    ] {
        assert!(places.iter().any(|found| found == place), "{place} is not among {places:#?}");
    }
    assert!(found.iter().all(|line| line.contains("; ")), "each says how to mend it: {found:#?}");
    assert!(found[0].contains("did you mean `listen`?"), "{}", found[0]);
    let all = found.concat();
    assert!(!all.contains("hunter2") && !all.contains("0123456789ABCDEF"), "{all}");
}

#[test]
fn a_verifying_route_without_a_key_or_an_upstream_does_not_start() {
    let found = problems("", &Overrides::default()).join("\n");
    assert!(found.contains("TELNYX_PUBLIC_KEY") && found.contains("--upstream"), "{found}");
}

#[test]
fn flags_fill_in_only_what_a_route_has_not_set_itself() {
    let text = format!(
        "routes: [{{ name: a, path: /a, keys: [{{ name: old, value: '{KEY}' }}, {{ name: new, value: '{NEXT}' }}], ip_allowlist: {{ sources: [192.0.2.0/24] }}, upstream: {{ url: 'http://own:1' }} }}, {{ name: b, path: /b }}]"
    );
    let mut overrides = flags();
    overrides.ip_allowlist = vec!["off".into()];
    let config = resolve(Some(&file(&text)), &overrides, &no_env).unwrap().config;
    let names = |n: usize| config.routes[n].keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(0), names(1)), (vec!["old".to_owned(), "new".to_owned()], vec!["key1".to_owned()]));
    assert!(matches!(config.routes[0].allowlist, Allowlist::Only { .. }));
    assert!(matches!(config.routes[1].allowlist, Allowlist::Off));
    assert_ne!(config.routes[0].upstream, config.routes[1].upstream);
}

#[test]
fn an_allowlist_that_overlaps_a_trusted_proxy_is_refused_unless_allowed() {
    let text = |allow| format!("client_ip: {{ trusted_proxies: [192.76.120.0/24], allow_overlap: {allow} }}");
    assert!(problems(&text(false), &flags()).concat().contains("allow_overlap"));
    assert!(problems(&text(true), &flags()).is_empty());
}

#[test]
fn what_is_not_built_yet_is_refused_and_not_ignored() {
    for text in [
        "routes: [{ mode: proxy }]",
        "unmatched: pass",
        "listen: [{ address: '0.0.0.0:1', tls: { cert: a, key: b } }]",
        "listen: [{ address: 'unix:/run/a.sock' }]",
        "listen: [{ address: '0.0.0.0:1', proxy_protocol: required }]",
        "health_path: /healthz",
        "upstream: { url: 'http://a', sign: { scheme: telnyx } }",
        "delivery: { ordering: { key: /data/id } }",
        "client_ip: { header: forwarded }",
    ] {
        assert!(!problems(text, &flags()).is_empty(), "{text}");
    }
}

#[test]
fn off_is_never_a_boolean_error() {
    let text = "routes: [{ ip_allowlist: { mode: off }, dedupe: off }]\nlisten: [{ address: 127.0.0.1:0, proxy_protocol: off }]\nlog: { client_ip: off }\n";
    let config = resolve(Some(&file(text)), &flags(), &no_env).unwrap().config;
    assert!(matches!(config.routes[0].allowlist, Allowlist::Off));
    assert!(config.routes[0].dedupe.is_none());
}

/// Every scalar of a file, by its path.
fn values(text: &str) -> std::collections::HashMap<String, String> {
    use super::super::reader::node::{Node, Value};
    fn walk(node: &Node, path: &str, into: &mut std::collections::HashMap<String, String>) {
        match &node.value {
            Value::Scalar { text, .. } => {
                into.insert(path.to_owned(), text.clone());
            }
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Scalar { .. })) => {
                let texts: Vec<_> = items
                    .iter()
                    .map(|item| match &item.value {
                        Value::Scalar { text, .. } => text.clone(),
                        _ => String::new(),
                    })
                    .collect();
                into.insert(path.to_owned(), format!("[{}]", texts.join(",")));
            }
            Value::List(items) => items.iter().for_each(|item| walk(item, &format!("{path}[]"), into)),
            Value::Map(entries) => {
                for entry in entries {
                    let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                    walk(&entry.value, &path, into);
                }
            }
        }
    }
    let mut problems: Vec<Problem> = Vec::new();
    let root = parse(text, &mut problems).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let mut found = std::collections::HashMap::new();
    walk(&root, "", &mut found);
    found
}

#[test]
fn the_reference_file_has_every_key_at_its_default() {
    let text = include_str!("../../../config/hookward.yaml");
    // Keys without a default stand there as examples behind `#: `, which this takes away.
    let live = values(text);
    let with_examples = values(&text.replace("#: ", ""));
    for record in describe().into_iter().filter(|record| record.kind.is_value()) {
        let shown = with_examples.get(&record.path);
        assert!(shown.is_some(), "{} is missing in config/hookward.yaml", record.path);
        // A route's name and path differ from file to file; the others are shown at their default.
        let expected = match &record.default {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string().replace('"', ""),
            None => continue,
        };
        assert_eq!(shown, Some(&expected), "{}", record.path);
        assert!(live.contains_key(&record.path), "{} has a default and must not be commented out", record.path);
    }
    resolve(Some(&file(text)), &flags(), &no_env).unwrap();
}

#[test]
fn every_example_file_is_a_good_configuration() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("current"), format!("{KEY}\n")).unwrap();
    std::fs::write(keys.path().join("next"), format!("{NEXT}\n")).unwrap();
    let env = |name: &str| (name == "TELNYX_PUBLIC_KEY").then(|| KEY.to_owned());
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut source = SourceFile::read(&path).unwrap();
        source.text = source.text.replace("/keys/", &format!("{}/", keys.path().display()));
        // `run` reads TELNYX_PUBLIC_KEY as a flag's variable.
        let overrides = Overrides { public_key: vec![KEY.into()], ..Overrides::default() };
        if let Err(problems) = resolve(Some(&source), &overrides, &env) {
            panic!("{problems}");
        }
        seen += 1;
    }
    assert!(seen >= 3);
}
