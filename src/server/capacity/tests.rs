use super::memory::Source;
use super::*;
use crate::config::resolve::{Overrides, SourceFile, resolve};

const MIB: u64 = 1 << 20;
const KEY: &str = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";

fn config(yaml: &str) -> Config {
    let file = SourceFile { name: "h.yaml".into(), text: yaml.into() };
    let overrides = Overrides {
        public_key: vec![KEY.into()],
        upstream: Some("http://127.0.0.1:3000".into()),
        ..Overrides::default()
    };
    resolve(Some(&file), &overrides, &|_| None).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn memory(mib: u64) -> Memory {
    Memory { bytes: mib * MIB, source: Source::Cgroup("/sys/fs/cgroup/memory.max".into()) }
}

/// Fitted, and what that comes to.
fn fitted(yaml: &str, mib: u64) -> (Config, Needs) {
    let mut config = config(yaml);
    let needs = fit(&mut config, &memory(mib), usize::MAX);
    (config, needs)
}

fn limits(config: &Config) -> (usize, usize, usize) {
    (config.limits.connections, config.limits.body_memory_bytes, config.buffer.dedupe_entries)
}

#[test]
fn what_is_auto_fits_from_the_memory_of_a_small_sidecar_on() {
    for mib in [48, 64, 96, 128, 200, 256, 300, 512, 1024, 16_384] {
        for yaml in ["", "limits: { header_bytes: 64KiB }", "routes: [ { max_body: 4MiB } ]"] {
            let (config, needs) = fitted(yaml, mib);
            if mib >= 96 || yaml.is_empty() {
                assert!(needs.sum() <= mib * MIB, "{mib}: {}", needs.terms());
                assert_eq!(needs.warning(&memory(mib)), None);
            }
            assert!(config.limits.connections >= 64 && config.limits.body_memory_bytes >= 1 << 20);
        }
    }
}

#[test]
fn connections_that_the_open_files_do_not_allow_are_not_reckoned_with() {
    for yaml in ["limits: { connections: 50000 }", ""] {
        let mut config = config(yaml);
        let needs = fit(&mut config, &memory(1024), 744);
        assert_eq!(config.limits.connections, 744);
        assert_eq!(config.limits.of_connections().per_client, 186);
        assert!(needs.sum() < 1024 * MIB && config.buffer.dedupe_entries == 1_000_000, "{}", needs.terms());
    }
}

#[test]
fn with_memory_enough_it_is_what_it_always_was() {
    assert_eq!(limits(&fitted("", 1024).0), (4096, 64 << 20, 1_000_000));
}

#[test]
fn what_is_set_is_left_alone_and_taken_from_the_memory_first() {
    let set = "limits: { connections: 500, body_memory: 8MiB }\nbuffer: { dedupe_entries: 20000 }";
    assert_eq!(limits(&fitted(set, 64).0), (500, 8 << 20, 20_000));
    let (config, needs) = fitted("limits: { connections: 200 }", 128);
    assert_eq!(config.limits.connections, 200);
    assert!(config.limits.body_memory_bytes > fitted("", 128).0.limits.body_memory_bytes);
    assert!(needs.sum() <= 128 * MIB);
}

#[test]
fn what_is_set_and_does_not_fit_is_told_with_the_sum() {
    let (_, needs) = fitted("limits: { connections: 4096, body_memory: 64MiB }", 64);
    let warning = needs.warning(&memory(64)).unwrap();
    for words in [
        "405 MiB",
        "events 36",
        "limits.connections 240",
        "limits.body_memory 128",
        "64 MiB (/sys/fs/cgroup/memory.max)",
    ] {
        assert!(warning.contains(words), "{words} is not in {warning}");
    }
}

#[test]
fn the_largest_body_of_a_route_always_fits() {
    let (config, needs) = fitted("routes: [ { max_body: 32MiB } ]", 64);
    assert_eq!(config.limits.body_memory_bytes, 32 << 20);
    assert!(needs.warning(&memory(64)).is_some());
}

/// The rows of the page, and the chart's limit among them.
#[test]
fn the_page_says_what_memory_comes_to() {
    let page = include_str!("../../../docs/operations.md");
    for mib in [64, 128, 256, 512] {
        let (connections, body_bytes, ids) = limits(&fitted("", mib).0);
        let row = format!("| {mib} MiB | {connections} | {} MiB | {ids} |", body_bytes >> 20);
        assert!(page.contains(&row), "docs/operations.md lacks\n{row}");
    }
    let chart = include_str!("../../../helm/hookward-sidecar/values.yaml");
    assert!(chart.contains("    memory: 256Mi\n"), "then the page needs another row");
}
