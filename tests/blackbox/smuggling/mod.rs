//! What hookward forwards is always what it verified: a real nginx in front of it, a server with a
//! parser of its own behind it, and in between everything that has ever made two parsers disagree.

mod nginx;
mod second_server;

use std::sync::{Mutex, PoisonError};

use nginx::{Front, Manner};
use second_server::{SecondServer, Seen};
use serde_json::Value;

use crate::conformance::hostile_bytes;
use crate::harness::event::{TARGET, signed};
use crate::harness::wire::find;
use crate::harness::*;

/// Connections at once: most end by a deadline.
const AT_ONCE: usize = 32;

/// Every request that is not refused has its line, and a body without end holds nobody up for long.
const COMMON: &str = "
limits: { header_timeout: 2s, body_timeout: 2s }
log: { accepted_per_s: 65535 }
";
/// None is taken for a duplicate of another.
const ACK: &str = "routes: [ { name: hooks, path: \"/*\", dedupe: off } ]\n";
const PROXY: &str = "routes: [ { name: hooks, path: \"/*\", mode: proxy } ]\n";
/// Only what is for the one path is verified.
const PASS_AROUND: &str = "unmatched: pass\nroutes: [ { name: hooks, path: /webhooks/telnyx, mode: proxy } ]\n";
/// A path that is not verified then.
const OPEN: &str = "/open";

struct Chain {
    nginx: Front,
    hookward: Hookward,
    second: SecondServer,
    /// What the log and the metrics call a request that was let through.
    let_through: &'static str,
}

/// Where the bytes go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Direct,
    Through(Manner),
}

impl Chain {
    fn start(routes: &str) -> Chain {
        let second = SecondServer::start();
        let setup = Setup::without_upstream().flag("--upstream", &second.url()).flag("--log-format", "json");
        let hookward = setup.config(&format!("{COMMON}{routes}")).start();
        let nginx = Front::start(hookward.listen());
        let let_through = if routes == ACK { "accepted" } else { "passed" };
        Chain { nginx, hookward, second, let_through }
    }

    fn connect(&self, entry: Entry) -> Wire {
        match entry {
            Entry::Direct => self.hookward.connect(),
            Entry::Through(manner) => self.nginx.connect(manner),
        }
    }

    /// A genuine event on a connection of its own gets its own answer, whatever went over the
    /// connections that nginx keeps to hookward.
    fn is_not_out_of_step(&self, entry: Entry, what: &str) {
        let id = new_id();
        let answer = self.connect(entry).ask(&signed(body(&id)));
        let its_own = answer.status == 200 && answer.json()["event_id"] == id.as_str();
        assert!(its_own, "{what} over {entry:?}: the next event was answered {}", answer.text());
    }

    /// What hookward says it let through on its route: ids and lengths, sorted.
    fn accepted(&self) -> Vec<(String, u64)> {
        let labels = [("route", "hooks"), ("outcome", self.let_through)];
        let count = self.hookward.metrics().value("hookward_requests_total", &labels);
        let lines = poll("a line for each of them", || {
            let stderr = self.hookward.stderr();
            let lines: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let is_one = |line: &Value| line["outcome"] == self.let_through && line["route"] == "hooks";
            let accepted: Vec<_> = lines.into_iter().filter(is_one).collect();
            (accepted.len() as f64 >= count).then_some(accepted)
        });
        let of = |line: &Value| (line["request_id"].as_str().unwrap().to_owned(), line["body_bytes"].as_u64().unwrap());
        let mut accepted: Vec<_> = lines.iter().map(of).collect();
        accepted.sort();
        accepted
    }

    /// Everything that the second server saw, after hookward has delivered all it has.
    fn seen(&self) -> Vec<Seen> {
        self.hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
        self.second.wait_for(self.accepted().len())
    }

    /// The second server saw what hookward let through, each once, with the body that was signed; and
    /// the bodies of whatever went to the open path were that and no requests.
    fn forwards_what_it_verified(&self) {
        let (open, seen): (Vec<_>, Vec<_>) = self.seen().into_iter().partition(|request| request.target == OPEN);
        for request in &open {
            assert!(!request.has("hookward-verified"), "{:?}", request.headers);
        }
        for request in &seen {
            let what = format!("{} {} {:?}", request.method, request.target, request.headers);
            assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", TARGET), "{what}");
            assert!(request.whole && request.is_genuine(), "nobody signed this: {what}");
            assert_eq!(request.header("hookward-verified"), "telnyx; key=key1", "{what}");
        }
        let mut arrived: Vec<_> = seen
            .iter()
            .map(|request| (request.header("hookward-delivery-id").to_owned(), request.body.len() as u64))
            .collect();
        arrived.sort();
        let accepted = self.accepted();
        if self.let_through == "accepted" {
            assert_eq!(arrived, accepted);
        } else {
            // Who hangs up before the app's answer is back is not told that it passed.
            arrived.windows(2).for_each(|pair| assert_ne!(pair[0].0, pair[1].0, "once"));
            accepted.iter().for_each(|one| assert!(arrived.contains(one), "{one:?}"));
        }
        println!("{} requests at the second server, all of them verified, {} open ones", seen.len(), open.len());
    }
}

/// One siege at a time has connections enough.
static BESIEGED: Mutex<()> = Mutex::new(());

/// Sends every hostile byte string over every way in, as `edit` makes it.
fn besiege(routes: &str, edit: impl Fn(Vec<u8>) -> Vec<u8> + Sync) -> Chain {
    let _turn = BESIEGED.lock().unwrap_or_else(PoisonError::into_inner);
    let chain = Chain::start(routes);
    for entry in [Entry::Direct, Entry::Through(Manner::Strict), Entry::Through(Manner::Loose)] {
        let hostile = hostile_bytes();
        println!("{} byte strings over {entry:?}", hostile.len());
        let queue = Mutex::new(hostile.into_iter());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((what, bytes)) = { queue.lock().unwrap().next() } {
                        let mut wire = chain.connect(entry);
                        // Whatever comes of it; nginx hangs up soon, hookward when we do.
                        let sender = wire.send_meanwhile(edit(bytes));
                        if entry == Entry::Direct {
                            let _ = wire.try_answer();
                        } else {
                            let _ = wire.end_or_reset();
                        }
                        drop(wire);
                        sender.join().unwrap();
                        chain.is_not_out_of_step(entry, &what);
                    }
                });
            }
        });
        chain.forwards_what_it_verified();
    }
    chain
}

#[test]
fn what_hookward_forwards_is_what_it_verified_whatever_is_sent_to_it_or_to_nginx() {
    besiege(ACK, |bytes| bytes);
}

#[test]
fn what_hookward_passes_on_with_the_apps_own_answer_is_what_it_verified() {
    besiege(PROXY, |bytes| bytes);
}

#[test]
fn what_passes_unverified_takes_nothing_past_the_check() {
    // The first request goes to the open path; what hides in it goes where it would do harm.
    let chain = besiege(PASS_AROUND, |bytes| match find(&bytes, TARGET.as_bytes()) {
        Some(at) => [&bytes[..at], OPEN.as_bytes(), &bytes[at + TARGET.len()..]].concat(),
        None => bytes,
    });
    let labels = [("route", "none"), ("outcome", "passed")];
    let passed = chain.hookward.metrics().value("hookward_requests_total", &labels);
    assert!(passed > 100.0, "only {passed} went to the open path");
}

/// `{"data":{"id":"gzipped"}}` as gzip writes it.
const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x4a\x49\x2c\x49\x54\xb2\xaa\x56\xca\x4c\x51\xb2\x52\x4a\xaf\xca\x2c\x28\x48\x4d\x51\xaa\xad\x05\x00\x2c\x9e\x2f\x92\x19\x00\x00\x00";

#[test]
fn a_body_comes_through_nginx_as_it_was_signed() {
    let chain = Chain::start(ACK);
    let mebibyte: Vec<u8> = (0..=250u8).cycle().take(1024 * 1024).collect();
    let bodies = [b"x".to_vec(), body(&new_id()), b"\r\n0\r\n\r\n".to_vec(), mebibyte];
    let mut sent = Vec::new();
    for manner in [Manner::Strict, Manner::Loose] {
        let mut ask = |request: Request| {
            let answer = chain.nginx.connect(manner).ask(&request);
            assert_eq!(answer.status, 200, "{manner:?} {} bytes: {}", request.body_bytes().len(), answer.text());
            sent.push(request.body_bytes());
        };
        for body in &bodies {
            ask(signed(body.clone()));
            ask(signed(body.clone()).chunked(10_007));
        }
        ask(signed(GZIPPED).header("Content-Encoding", "gzip"));
        ask(signed(GZIPPED).header("Content-Encoding", "gzip").chunked(7));
    }
    let seen = chain.seen();
    let gzipped = seen.iter().filter(|request| request.body == GZIPPED);
    assert!(
        gzipped.clone().count() == 4 && gzipped.clone().all(|request| request.header("content-encoding") == "gzip")
    );
    let mut arrived: Vec<_> = seen.into_iter().map(|request| request.body).collect();
    arrived.sort();
    sent.sort();
    assert!(arrived == sent, "{} arrived, {} sent", arrived.len(), sent.len());
    chain.forwards_what_it_verified();
}
