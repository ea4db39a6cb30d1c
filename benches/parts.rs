//! How long the parts of a request take, each by itself; `cargo bench --bench parts -- NAME` for some.
//! Times: to be compared on one quiet machine only. What a change costs is told by `instructions.rs`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a program that measures may end with a panic, and needs the machine's clock"
)]

mod in_process;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hookward::buffer::event::{Fingerprint, Seq};
use hookward::buffer::index::Index;
use hookward::clock::RunMs;
use hookward::gate::allowlist::{Allowlist, parse_net};
use hookward::gate::delivery::Delivery;
use hookward::gate::identity::Facts;
use hookward::gate::peer::{Peer, TrustedProxies};
use hookward::gate::signature::{parse_signature, signed_message};
use hookward::gate::{Enforcement, Reports};
use hookward::http::head;
use hookward::ingress::End;
use hookward::rejection::Rejection;
use http::{HeaderMap, Method};
use in_process::buffer::{Engine, Storing};
use in_process::sender::{NOW_S, Sender};
use in_process::side::{self, Connection};
use tokio::runtime::Runtime;

const ALLOWLIST_RANGES: u32 = 10_000;
const REMEMBERED_IDS: u64 = 1_000_000;
const DAY: Duration = Duration::from_secs(86_400);
/// Requests that are signed ahead at once.
const SIGNED_AHEAD: u64 = 1_000;

fn header_checks(c: &mut Criterion) {
    let request = Sender::new().request();
    let limits = side::head_limits();
    c.bench_function("header judged", |b| b.iter(|| head::judge(black_box(request.header()), &limits).unwrap()));
}

fn verification(c: &mut Criterion) {
    let mut sender = Sender::new();
    let request = sender.request();
    let body = Bytes::copy_from_slice(request.body());
    let key = sender.public().key;
    let signature = parse_signature(Some(request.signature.as_bytes())).unwrap();
    let message = signed_message(NOW_S.to_string().as_bytes(), &body);
    c.bench_function("signature: verify_strict alone", |b| {
        b.iter(|| key.verify_strict(black_box(&message), &signature).unwrap());
    });
    let mut headers = HeaderMap::new();
    headers.insert("telnyx-signature-ed25519", request.signature.parse().unwrap());
    headers.insert("telnyx-timestamp", NOW_S.into());
    let verifier = side::verifier(sender.public());
    c.bench_function("signature: claim and verify", |b| {
        b.iter(|| {
            let mut reports = Reports::default();
            let admitted = Allowlist::Off.admit(Err(Rejection::ClientIpUndetermined), &mut reports).unwrap();
            let claimed = verifier.claim(&admitted, &headers, &mut reports).unwrap();
            let delivery = Delivery::whole(claimed, body.clone(), 1 << 20).unwrap();
            verifier.verify(delivery, &mut reports).unwrap()
        });
    });
}

fn ids(c: &mut Criterion) {
    let request = Sender::new().request();
    c.bench_function("ids read", |b| b.iter(|| Facts::read(black_box(request.body()))));
}

/// Ranges /24 from 10.0.0.0 on; the sender is in the last of them, and in none.
fn allowlist(c: &mut Criterion) {
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits((10 << 24) + (n << 8)));
    let nets = (0..ALLOWLIST_RANGES).map(|n| parse_net(&format!("{}/24", address(n))).unwrap()).collect();
    let list = Allowlist::Only { nets, mode: Enforcement::Enforce };
    for (name, ip, is_in) in [
        ("allowlist: last of 10,000 ranges", address(ALLOWLIST_RANGES - 1), true),
        ("allowlist: none of 10,000 ranges", address(ALLOWLIST_RANGES), false),
    ] {
        let client = TrustedProxies::default().client_addr(Peer::Ip(ip), &HeaderMap::new());
        c.bench_function(name, |b| {
            b.iter(|| {
                let admitted = list.admit(black_box(client), &mut Reports::default());
                assert_eq!(admitted.is_ok(), is_in);
            });
        });
    }
}

fn index_lookup(c: &mut Criterion) {
    let print = |n: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        bytes[8..].copy_from_slice(&n.to_le_bytes());
        Fingerprint(bytes)
    };
    // More than the bound: the index forgets a slice at a time.
    let mut index = Index::new(REMEMBERED_IDS as usize * 9 / 8);
    for n in 0..REMEMBERED_IDS {
        index.insert(print(n), Seq(n.cast_signed()), RunMs(0));
    }
    assert_eq!(index.len() as u64, REMEMBERED_IDS);
    for (name, from) in [("index of 1,000,000: known", 0), ("index of 1,000,000: new", REMEMBERED_IDS)] {
        let mut n = 0;
        c.bench_function(name, |b| {
            b.iter_batched(
                || {
                    // Far from the last one: a sender's ids come in no order that a cache knows.
                    n = (n + 611_953) % REMEMBERED_IDS;
                    print(from + n)
                },
                |print| index.find(&print, DAY, RunMs(1)),
                BatchSize::SmallInput,
            );
        });
    }
}

/// Times are of a whole group, with its sync; throughput is in events.
fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit of a group");
    group.sample_size(20);
    for events in [1, 16, 128] {
        let (mut sender, mut engine) = (Sender::new(), Engine::new());
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(format!("{events} events"), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let appends = Engine::group(&mut sender, events);
                    let begun = Instant::now();
                    engine.commit(appends);
                    took += begun.elapsed();
                    engine.maintain();
                }
                took
            });
        });
    }
    group.finish();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// From the first byte of the request to the last of its answer, over a kept connection.
fn request(c: &mut Criterion) {
    let (clock, metrics) = (side::clock(), side::metrics());
    let storing = Storing::start(&clock, &metrics);
    let runtime = runtime();
    let ends = [
        ("request in memory: verify", End::Verify),
        ("request in memory: ack, stored", End::Ack(storing.committer.clone())),
    ];
    for (name, end) in ends {
        let mut sender = Sender::new();
        let app = side::public_app(sender.public(), end, &clock, &metrics);
        let mut connection = runtime.block_on(async { Connection::open(&app) });
        c.bench_function(name, |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    let requests = sender.requests(left.min(SIGNED_AHEAD) as usize);
                    left -= requests.len() as u64;
                    took += runtime.block_on(async {
                        let begun = Instant::now();
                        for request in &requests {
                            connection.request(&request.wire).await;
                        }
                        begun.elapsed()
                    });
                }
                took
            });
        });
    }
}

fn forward(c: &mut Criterion) {
    let runtime = runtime();
    let event = Sender::new().event();
    let app = runtime.block_on(in_process::app::start());
    let client = in_process::app::client(app);
    c.bench_function("forward: an exchange", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let begun = Instant::now();
                for _ in 0..times {
                    let reply = client.exchange(&Method::POST, &event.head.target, &[], &event.body).await.unwrap();
                    assert_eq!(reply.status, 200);
                }
                begun.elapsed()
            })
        });
    });
    let upstream = in_process::app::upstream(app);
    c.bench_function("forward: an attempt", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let begun = Instant::now();
                for _ in 0..times {
                    let answer = upstream.attempt(&event, &mut 0, NOW_S * 1000).await;
                    assert_eq!(answer.status, Some(200));
                }
                begun.elapsed()
            })
        });
    });
}

criterion_group!(parts, header_checks, verification, ids, allowlist, index_lookup, commit, request, forward);
criterion_main!(parts);
