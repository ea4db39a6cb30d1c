//! A guard, not a benchmark: how many instructions the parts of a request take, compared with
//! `instructions/baseline.json`. Times on a shared machine say nothing about a change of some per cent;
//! counts do. `make bench-instructions`; with `UPDATE=1` it writes the baseline anew.
//!
//! The program runs itself under callgrind twice for each part, with so many operations and with twice
//! as many, and takes the difference: start, preparation and end are the same in both.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a program that measures may end with a panic, and prints figures"
)]

#[path = "instructions/baseline.rs"]
mod baseline;
mod in_process;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use baseline::{Baseline, Change, Compared, Environment, compare, counted};
use hookward::gate::Reports;
use hookward::gate::allowlist::Allowlist;
use hookward::gate::delivery::Delivery;
use hookward::gate::identity::Facts;
use hookward::http::head;
use hookward::ingress::End;
use hookward::rejection::Rejection;
use in_process::buffer::{Engine, Storing};
use in_process::sender::{NOW_S, Request, Sender};
use in_process::side::{self, Connection};

/// A part, how many operations are counted (prepared are twice as many, whichever run it is), and
/// what runs so many.
struct Part {
    name: &'static str,
    operations: usize,
    run: fn(usize, usize),
}

const PARTS: [Part; 7] = [
    Part { name: "header_judged", operations: 500, run: header_judged },
    Part { name: "signature_verified", operations: 50, run: signature_verified },
    Part { name: "ids_read", operations: 500, run: ids_read },
    Part { name: "request_verified", operations: 50, run: request_verified },
    // Few enough that the log is not written back meanwhile, here and in the next.
    Part { name: "request_accepted", operations: 50, run: request_accepted },
    Part { name: "commit_of_16", operations: 10, run: commit_of_16 },
    Part { name: "forwarded", operations: 50, run: forwarded },
];

fn header_judged(prepared: usize, operations: usize) {
    let requests = Sender::new().requests(prepared);
    let limits = side::head_limits();
    for request in &requests[..operations] {
        black_box(head::judge(black_box(request.header()), &limits)).unwrap();
    }
}

fn signature_verified(prepared: usize, operations: usize) {
    let mut sender = Sender::new();
    let verifier = side::verifier(sender.public());
    let requests: Vec<_> = sender.requests(prepared).iter().map(claim_of).collect();
    for (headers, body) in requests.into_iter().take(operations) {
        let mut reports = Reports::default();
        let admitted = Allowlist::Off.admit(Err(Rejection::ClientIpUndetermined), &mut reports).unwrap();
        let claimed = verifier.claim(&admitted, &headers, &mut reports).unwrap();
        let delivery = Delivery::whole(claimed, body, 1 << 20).unwrap();
        black_box(verifier.verify(delivery, &mut reports)).unwrap();
    }
}

fn claim_of(request: &Request) -> (http::HeaderMap, bytes::Bytes) {
    let mut headers = http::HeaderMap::new();
    headers.insert("telnyx-signature-ed25519", request.signature.parse().unwrap());
    headers.insert("telnyx-timestamp", NOW_S.into());
    (headers, bytes::Bytes::copy_from_slice(request.body()))
}

fn ids_read(prepared: usize, operations: usize) {
    let requests = Sender::new().requests(prepared);
    for request in &requests[..operations] {
        assert!(black_box(Facts::read(black_box(request.body()))).event_id.is_some());
    }
}

/// From the first byte of the request to the last of its answer; the sender's end is counted too.
fn request_verified(prepared: usize, operations: usize) {
    requests(prepared, operations, |_, _| End::Verify);
}

/// The same with the event stored: the committer's thread and SQLite are counted too.
fn request_accepted(prepared: usize, operations: usize) {
    let mut storing = None;
    requests(prepared, operations, |clock, metrics| {
        let started = storing.insert(Storing::start(clock, metrics));
        End::Ack(started.committer.clone())
    });
}

fn requests(
    prepared: usize,
    operations: usize,
    end: impl FnOnce(&std::sync::Arc<dyn hookward::clock::Clock>, &std::sync::Arc<hookward::metrics::Metrics>) -> End,
) {
    let mut sender = Sender::new();
    let (clock, metrics) = (side::clock(), side::metrics());
    let app = side::public_app(sender.public(), end(&clock, &metrics), &clock, &metrics);
    let requests = sender.requests(prepared);
    on_this_thread(async {
        let mut connection = Connection::open(&app);
        for request in &requests[..operations] {
            connection.request(&request.wire).await;
        }
    });
}

fn commit_of_16(prepared: usize, operations: usize) {
    let mut sender = Sender::new();
    let groups: Vec<_> = (0..prepared).map(|_| Engine::group(&mut sender, 16)).collect();
    let mut engine = Engine::new();
    for group in groups.into_iter().take(operations) {
        engine.commit(group);
    }
}

/// One attempt over a kept connection; the app's end is counted too.
fn forwarded(prepared: usize, operations: usize) {
    let mut sender = Sender::new();
    let events: Vec<_> = (0..prepared).map(|_| sender.event()).collect();
    on_this_thread(async {
        let upstream = in_process::app::upstream(in_process::app::start().await);
        for event in &events[..operations] {
            let answer = upstream.attempt(event, &mut 0, NOW_S * 1000).await;
            assert_eq!(answer.status, Some(200));
        }
    });
}

/// Tasks take turns in the same order every time.
fn on_this_thread(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => guard(),
        ["run", part, operations] => {
            let part = PARTS.iter().find(|known| known.name == part).expect("no such part");
            (part.run)(2 * part.operations, operations.parse().unwrap());
            ExitCode::SUCCESS
        }
        ["cpu"] => {
            println!("{}", cpu());
            ExitCode::SUCCESS
        }
        _ => panic!("usage: instructions [run PART OPERATIONS | cpu]"),
    }
}

fn guard() -> ExitCode {
    let here = environment();
    let now: BTreeMap<String, u64> = PARTS.iter().map(|part| (part.name.to_owned(), count(part))).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/baseline.json");
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        let baseline = Baseline { environment: here, instructions: now };
        std::fs::write(&path, serde_json::to_string_pretty(&baseline).unwrap() + "\n").unwrap();
        println!("{baseline:#?}\nwritten to {}", path.display());
        return ExitCode::SUCCESS;
    }
    let baseline: Baseline = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let tolerance_percent = baseline.tolerance_percent(&here);
    if baseline.environment != here {
        println!("the baseline is of another environment:\n{:#?}\nhere it is\n{here:#?}", baseline.environment);
    }
    match tolerance_percent {
        Some(tolerance) => println!("a part may take {tolerance} % more than its baseline"),
        None => println!("on another processor nothing can be compared: the figures are shown and nothing is judged"),
    }
    let compared = compare(&baseline.instructions, &now, tolerance_percent);
    println!("{:<20} {:>12} {:>12}", "instructions", "before", "now");
    compared.iter().for_each(print);
    if compared.iter().any(|part| part.change == Change::Fell) {
        println!("fewer than before: keep it so, with `make bench-instructions UPDATE=1`");
    }
    let is_good = compared.iter().all(|part| matches!(part.change, Change::Same | Change::Fell));
    if !is_good {
        println!(
            "more than before, or a part that is new or gone. Which functions take it: `callgrind_annotate \
             target/callgrind/PART.out`, and the same of the commit before. If it has to be so: \
             `make bench-instructions UPDATE=1`, and say why in the commit"
        );
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(compared: &Compared) {
    let figure = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let percent = compared.percent().map_or_else(String::new, |percent| format!("{percent:+.1} %"));
    let change = match compared.change {
        Change::Same => "",
        Change::Rose => "  TOO MANY",
        Change::Fell => "  fewer",
        Change::Unpaired => "  NEW OR GONE",
    };
    println!(
        "{:<20} {:>12} {:>12}  {percent:>8}{change}",
        compared.part,
        figure(compared.before),
        figure(compared.now)
    );
}

/// Instructions of one operation.
fn count(part: &Part) -> u64 {
    let once = under_callgrind(part, part.operations, &out(&format!("{}.once.out", part.name)));
    let twice = under_callgrind(part, 2 * part.operations, &out(&format!("{}.out", part.name)));
    let counted = |(mut child, path): (Child, PathBuf)| {
        assert!(child.wait().unwrap().success(), "{} failed under callgrind", part.name);
        counted(&std::fs::read_to_string(path).unwrap()).expect("callgrind has written no count")
    };
    let (once, twice) = (counted(once), counted(twice));
    (twice - once) / part.operations as u64
}

/// What stays there can be looked into.
fn out(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/callgrind");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

fn under_callgrind(part: &Part, operations: usize, out: &Path) -> (Child, PathBuf) {
    let child = valgrind("callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["run", part.name, &operations.to_string()])
        .spawn()
        .unwrap();
    (child, out.to_owned())
}

fn valgrind(tool: &str) -> Command {
    let mut command = Command::new("valgrind");
    // Threads get the one turn there is in order, not by chance.
    command.args(["-q", "--fair-sched=yes", &format!("--tool={tool}")]);
    command
}

fn environment() -> Environment {
    let said = |command: &mut Command| {
        let output = command.stderr(Stdio::inherit()).output().expect("cannot be run");
        String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
    };
    Environment {
        rustc: said(Command::new(std::env::var("RUSTC").as_deref().unwrap_or("rustc")).arg("--version")),
        libc: said(Command::new("ldd").arg("--version")),
        valgrind: said(Command::new("valgrind").arg("--version")),
        cpu: said(valgrind("none").arg(std::env::current_exe().unwrap()).arg("cpu")),
    }
}

/// What crates choose their code by.
fn cpu() -> String {
    let mut features = vec![std::env::consts::ARCH];
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! seen {
            ($($feature:tt)*) => {
                $(if std::arch::is_x86_feature_detected!($feature) { features.push($feature); })*
            };
        }
        seen!("sse4.2" "ssse3" "pclmulqdq" "aes" "sha" "avx" "avx2" "bmi1" "bmi2" "adx" "avx512f" "avx512ifma");
    }
    features.join(" ")
}
