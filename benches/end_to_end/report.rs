//! Tables in Markdown, and what of `docs/` is made of the results.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::plot::{self, number};
use super::results::{self, Base, Drained, Measured, Peers, Run, Series, Subject, ThreadCost};

const BEGIN: &str = "<!-- made by `make bench-report`: begin -->\n";
const END: &str = "<!-- end -->\n";

/// One scale: section, heading, what grows, what a row is called.
const SCALES: [(&str, &str, &str, &str); 4] = [
    ("rate", "Cost against the rate", "events per second that are sent", "events/s"),
    ("pending", "Cost against what waits", "events that wait for another app", "waiting"),
    ("routes", "Cost against routes and keys", "routes, each with a key of its own", "routes"),
    ("connections", "Cost against connections", "open connections, used in turn", "connections"),
];

pub fn base(base: &Base) -> String {
    let mut text = String::from("| | |\n|---|---|\n");
    for (name, value) in &base.machine {
        writeln!(text, "| {name} | {value} |").unwrap();
    }
    writeln!(text, "| body of an event | {} bytes on average |", number(base.body_bytes)).unwrap();
    writeln!(text, "| `verify_strict` alone | {} µs of CPU |", number(base.verify_us)).unwrap();
    let (p50, p99) = (number(base.sync_p50_ms), number(base.sync_p99_ms));
    writeln!(text, "| append of 4 KB and `fdatasync` | p50 {p50}, p99 {p99} ms |").unwrap();
    let (p50, p99) = (number(base.wake_p50_ms), number(base.wake_p99_ms));
    writeln!(text, "| a thread that sleeps until the next ms comes late by | p50 {p50}, p99 {p99} ms |").unwrap();
    writeln!(text, "| command | `{}` |", base.command).unwrap();
    text
}

/// Of those of these sections that there are results of. What another run found says so.
pub fn tables(is_shown: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut first: Option<Base> = None;
    let mut add = |heading: &str, base: &Base, table: String| {
        writeln!(text, "### {heading}\n").unwrap();
        if first.get_or_insert_with(|| base.clone()) != base {
            let (verify, sync) = (number(base.verify_us), number(base.sync_p50_ms));
            writeln!(text, "Of another run: `{}`, `verify_strict` {verify} µs, `fdatasync` {sync} ms.\n", base.command)
                .unwrap();
        }
        text += &table;
    };
    if let Some(Run { base, results }) = results::load::<Peers>("peers").filter(|_| is_shown("peers")) {
        add("hookward and its peers", &base, peers(&results));
    }
    for (section, heading, _, unit) in SCALES {
        if let Some(Run { base, results }) = results::load::<Vec<Series>>(section).filter(|_| is_shown(section)) {
            let plot = format!("![{heading}](performance/{section}.svg)\n\n");
            add(heading, &base, plot + &scale(unit, &results, base.verify_us));
        }
    }
    if let Some(Run { base, results }) = results::load::<Vec<Drained>>("drain").filter(|_| is_shown("drain")) {
        add("Drain of a backlog", &base, drain(&results));
    }
    text
}

/// A figure of every subject; smaller is better in most.
type Figure<'a> = (&'a str, &'a dyn Fn(&Subject) -> f64, Option<f64>);

fn peers(found: &Peers) -> String {
    let Peers { verify_us, rate_per_s, connections, subjects } = found;
    let verify_us = *verify_us;
    let of = |name: &str| subjects.iter().find(|subject| subject.name == name).unwrap();
    let (ack, acking, proxying) = (of("hookward ack"), of("nginx acking"), of("nginx proxying"));
    let mut text = String::new();
    write!(
        text,
        "{connections} connections. Rows with a rate are of an open loop at {} events/s, ",
        number(*rate_per_s)
    )
    .unwrap();
    text += "the others of a closed one. All took turns, a part of the load each, and so did `verify_strict` alone: ";
    writeln!(text, "{} µs. The last columns are `hookward ack` divided by the column they name.\n", number(verify_us))
        .unwrap();
    text += "|  |";
    for subject in subjects {
        write!(text, " {} |", subject.name).unwrap();
    }
    text += " ÷ nginx acking | ÷ nginx proxying | ÷ `verify_strict` |\n|---|";
    text += &"--:|".repeat(subjects.len() + 3);
    text.push('\n');
    let open_rate = number(*rate_per_s);
    let at_rate = |what: &str| format!("{what} at {open_rate}/s");
    let names = [
        at_rate("CPU per event, µs,"),
        at_rate("ack p50, ms,"),
        at_rate("ack p99, ms,"),
        at_rate("ack p99.9, ms,"),
        at_rate("ack max, ms,"),
        at_rate("disk per event, KB,"),
    ];
    let figures: [Figure<'_>; 14] = [
        ("events/s", &|s| s.closed.per_s, Some(1e6 / verify_us)),
        ("events per CPU-second", &|s| 1e6 / s.closed.cpu_us, Some(1e6 / verify_us)),
        ("CPU per event, µs", &|s| s.closed.cpu_us, Some(verify_us)),
        ("… in the kernel, µs", &|s| s.closed.threads.iter().map(|thread| thread.system_us).sum(), None),
        ("… with the kernel's own threads, µs", &|s| s.closed.busy_us, Some(verify_us)),
        (&names[0], &|s| s.open.cpu_us, Some(verify_us)),
        (&names[1], &|s| s.open.latency.p50, None),
        (&names[2], &|s| s.open.latency.p99, None),
        (&names[3], &|s| s.open.latency.p999, None),
        (&names[4], &|s| s.open.latency.max, None),
        (&names[5], &|s| s.open.written_bytes / 1e3, None),
        ("disk per event, KB", &|s| s.closed.written_bytes / 1e3, None),
        ("resident memory, idle, MB", &|s| s.idle_mb, None),
        ("resident memory, after the load, MB", &|s| s.closed.resident_mb, None),
    ];
    let start: Figure<'_> = ("start to ready, ms", &|s| s.start_to_ready_ms, None);
    for (name, figure, bare) in figures.into_iter().chain([start]) {
        write!(text, "| {name} |").unwrap();
        for subject in subjects {
            write!(text, " {} |", number(figure(subject))).unwrap();
        }
        let against = [Some(figure(acking)), Some(figure(proxying)), bare];
        for other in against {
            let ratio = other.filter(|other| *other > 0.0).map(|other| format!("{:.2}", figure(ack) / other));
            write!(text, " {} |", ratio.unwrap_or_default()).unwrap();
        }
        text.push('\n');
    }
    for subject in subjects.iter().filter(|subject| !subject.open.kept_up()) {
        writeln!(
            text,
            "\n{} did not reach {open_rate}/s; its latency says only how long the load went on.",
            subject.name
        )
        .unwrap();
    }
    text += "\n![CPU time of an event](performance/cpu.svg)\n\n![Latency](performance/latency.svg)\n\n";
    text += "CPU per event of `hookward ack` by thread, µs:\n\n| thread | closed loop, user | kernel | ";
    writeln!(text, "at {open_rate}/s, user | kernel |\n|---|--:|--:|--:|--:|").unwrap();
    for thread in &ack.closed.threads {
        let cost = |measured: &Measured| {
            let thread = measured.threads.iter().find(|other| other.name == thread.name);
            thread.map_or_else(String::new, |t| format!("{} | {}", number(t.user_us), number(t.system_us)))
        };
        writeln!(text, "| `{}` | {} | {} |", thread.name, cost(&ack.closed), cost(&ack.open)).unwrap();
    }
    text.push('\n');
    text
}

fn scale(unit: &str, series: &[Series], verify_us: f64) -> String {
    let mut text = String::new();
    writeln!(text, "| | {unit} | answered/s | CPU per event, µs | ÷ `verify_strict` | p50, ms | p99 | p99.9 | max | disk per event, KB | memory, MB | start to ready, ms |").unwrap();
    writeln!(text, "|---|{}", "--:|".repeat(11)).unwrap();
    for line in series {
        for point in &line.points {
            let measured = &point.measured;
            let latency = &measured.latency;
            let times = [latency.p50, latency.p99, latency.p999, latency.max]
                .map(|ms| if measured.kept_up() { number(ms) } else { "behind".to_owned() });
            writeln!(
                text,
                "| {} | {} | {} | {} | {:.2} | {} | {} | {} | {} |",
                line.name,
                number(point.x),
                number(measured.answered_per_s),
                number(measured.cpu_us),
                measured.cpu_us / verify_us,
                times.join(" | "),
                number(measured.written_bytes / 1e3),
                number(measured.resident_mb),
                number(point.start_to_ready_ms),
            )
            .unwrap();
        }
    }
    text.push('\n');
    text
}

fn drain(drained: &[Drained]) -> String {
    let mut text = String::from(
        "| CPUs | events | delivered/s | CPU per event, µs | memory, MB | start to ready, ms |\n|--:|--:|--:|--:|--:|--:|\n",
    );
    for Drained { cpus, events, start_to_ready_ms, per_s, cpu_us, resident_mb } in drained {
        let figures = [*events as f64, *per_s, *cpu_us, *resident_mb, *start_to_ready_ms].map(number);
        writeln!(text, "| {cpus} | {} |", figures.join(" | ")).unwrap();
    }
    text.push('\n');
    text
}

/// Writes tables into `docs/performance.md` and plots beside it.
pub fn write() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs");
    let first = results::load::<Peers>("peers").expect("`peers` has not been measured");
    let page = std::fs::read_to_string(docs.join("performance.md")).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let text = format!("{before}{BEGIN}\n{}\n{}{END}{after}", base(&first.base), tables(|_| true));
    std::fs::write(docs.join("performance.md"), text).unwrap();

    let plots = docs.join("performance");
    std::fs::create_dir_all(&plots).unwrap();
    let Peers { verify_us, rate_per_s, subjects, .. } = first.results;
    let title = "CPU time of an event, closed loop";
    plot::bars(&plots.join("cpu.svg"), title, &bars(&subjects, verify_us));
    plot::latency(&plots.join("latency.svg"), &format!("Latency at {} events/s", number(rate_per_s)), &subjects);
    for (section, heading, grows, _) in SCALES {
        if let Some(Run { base, results }) = results::load::<Vec<Series>>(section) {
            plot::cost(&plots.join(format!("{section}.svg")), heading, grows, &results, base.verify_us);
        }
    }
    println!("docs/performance.md and docs/performance/*.svg are written");
}

/// What the threads of each server are there for, in user mode and in the kernel.
fn bars(subjects: &[Subject], verify_us: f64) -> Vec<(String, Vec<(String, f64)>)> {
    let bare = ("verify_strict".to_owned(), vec![("verify_strict alone".to_owned(), verify_us)]);
    let of = |subject: &Subject| {
        let threads = &subject.closed.threads;
        let is_request = |name: &str| name == "hookward" || name.starts_with("nginx");
        let sum = |is_part: &dyn Fn(&str) -> bool, cost: &dyn Fn(&ThreadCost) -> f64| -> f64 {
            threads.iter().filter(|thread| is_part(&thread.name)).map(cost).sum()
        };
        let is_buffer = |name: &str| name == "hookward-buffer";
        let pieces = [
            ("requests, user", sum(&is_request, &|thread| thread.user_us)),
            ("requests, kernel", sum(&is_request, &|thread| thread.system_us)),
            ("buffer, user", sum(&is_buffer, &|thread| thread.user_us)),
            ("buffer, kernel", sum(&is_buffer, &|thread| thread.system_us)),
            ("others", sum(&|name| !is_request(name) && !is_buffer(name), &|thread| thread.user_us + thread.system_us)),
        ];
        let pieces = pieces.into_iter().filter(|(_, us)| *us > 0.05).map(|(name, us)| (name.to_owned(), us));
        (subject.name.clone(), pieces.collect())
    };
    std::iter::once(bare).chain(subjects.iter().map(of)).collect()
}
