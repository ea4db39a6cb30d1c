//! Runs cases against one hookward over one kind of connection.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::case::{Arrival, Case, Expected, Left, Step};
use crate::harness::event::{HOST, TARGET};
use crate::harness::tls::Authority;
use crate::harness::*;

/// Cases under way at once: the slow ones wait for deadlines, not for each other.
const AT_ONCE: usize = 8;

/// How a client comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    Unix,
}

impl Transport {
    /// What an absolute target begins with.
    pub fn scheme(self) -> &'static str {
        match self {
            Transport::Tls => "https",
            Transport::Tcp | Transport::Unix => "http",
        }
    }
}

pub struct Rig {
    sink: Sink,
    hookward: Hookward,
    /// Whose certificate it shows, over TLS.
    authority: Option<Authority>,
}

impl Rig {
    pub fn start(transport: Transport, config: &str) -> Rig {
        let sink = Sink::start();
        let setup = Setup::new(&sink).without_flag("--listen");
        let dir = setup.dir().to_owned();
        let mut authority = None;
        let listener = match transport {
            Transport::Tcp => r#"address: "127.0.0.1:0""#.to_owned(),
            Transport::Unix => format!("address: unix:{}/in.sock", dir.display()),
            Transport::Tls => {
                let issued = authority.insert(Authority::new()).issue(HOST);
                std::fs::write(dir.join("tls.crt"), issued.cert_pem).unwrap();
                std::fs::write(dir.join("tls.key"), issued.key_pem).unwrap();
                let dir = dir.display();
                format!(r#"address: "127.0.0.1:0", tls: {{ cert: {dir}/tls.crt, key: {dir}/tls.key }}"#)
            }
        };
        let hookward = setup.config(&format!("listen: [ {{ {listener} }} ]\n{config}")).start();
        Rig { sink, hookward, authority }
    }

    fn connect(&self) -> Wire {
        match &self.authority {
            Some(authority) => Wire::connect_tls(self.hookward.listen(), &authority.pem, HOST),
            None => self.hookward.connect(),
        }
    }

    /// Runs the cases of a theme; the names of those that failed. Their panics are printed.
    pub fn run(&self, theme: &str, cases: &[Case]) -> Vec<String> {
        let before = self.sink.count();
        let refused_before = self.refusals();
        let queue = Mutex::new(cases.iter());
        let (failed, followers) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(case) = { queue.lock().unwrap().next() } {
                        match catch_unwind(AssertUnwindSafe(|| self.play(case))) {
                            Ok(follower) => followers.lock().unwrap().extend(follower),
                            Err(_) => failed.lock().unwrap().push(format!("{theme}: {}", case.name())),
                        }
                    }
                });
            }
        });
        let mut failed = failed.into_inner().unwrap();
        if failed.is_empty() {
            failed.extend(self.other_arrivals(theme, before, cases, &followers.into_inner().unwrap()));
            self.each_refusal_was_counted(theme, &refused_before, cases);
        }
        failed
    }

    /// Plays one case; the event that showed its connection to be still good.
    fn play(&self, case: &Case) -> Option<Arrival> {
        let name = case.name();
        let mut wire = self.connect();
        let mut senders = Vec::new();
        for step in &case.steps {
            match step {
                Step::Send(bytes) => wire.try_send(bytes).unwrap_or_else(|error| panic!("{name}: {error}")),
                Step::Meanwhile(bytes) => senders.push(wire.send_meanwhile(bytes.clone())),
                Step::Drip(bytes, pause) => senders.push(wire.dripping(bytes.clone(), *pause)),
                Step::Pause(pause) => std::thread::sleep(*pause),
                Step::EndOfSending => wire.end_of_sending(),
                Step::Read(expected) => read(&mut wire, expected, &name),
            }
        }
        let mut follower = None;
        if case.left == Left::Closed {
            // Who sends more than is read after a refusal is cut off in the end.
            let more = if senders.is_empty() { wire.end() } else { wire.end_or_reset() };
            assert_eq!(String::from_utf8_lossy(&more), "", "{name}: nothing comes behind");
        } else {
            let id = new_id();
            let request = signed(body(&id));
            assert_accepted(&wire.ask(&request), &id);
            follower = Some(Arrival { target: TARGET.to_owned(), body: request.body_bytes() });
        }
        drop(wire);
        for sender in senders {
            sender.join().unwrap();
        }
        follower
    }

    /// What was accepted is at the app, once and as it was sent, and nothing else is; or what is wrong.
    fn other_arrivals(&self, theme: &str, before: usize, cases: &[Case], followers: &[Arrival]) -> Option<String> {
        let arrivals = cases.iter().flat_map(|case| &case.arrivals).chain(followers);
        let mut expected: Vec<_> = arrivals.map(|arrival| (arrival.body.clone(), arrival.target.clone())).collect();
        self.sink.wait_for(before + expected.len());
        self.hookward.await_metric("hookward_buffer_events", &[("state", "pending")], 0.0);
        let received = self.sink.received().split_off(before);
        let mut arrived: Vec<_> = received.into_iter().map(|r| (r.body, r.target)).collect();
        expected.sort();
        arrived.sort();
        (arrived != expected).then(|| {
            let strangers = arrived.iter().filter(|one| !expected.contains(one)).count();
            format!("{theme}: {} accepted, {} arrived, {strangers} others", expected.len(), arrived.len())
        })
    }

    fn each_refusal_was_counted(&self, theme: &str, before: &BTreeMap<String, f64>, cases: &[Case]) {
        let mut expected = before.clone();
        for step in cases.iter().flat_map(|case| &case.steps) {
            if let Step::Read(Expected::Refused(_, reason)) = step {
                *expected.entry((*reason).to_owned()).or_default() += 1.0;
            }
        }
        self.hookward.await_metrics(&format!("{theme}: {expected:?}"), |metrics| {
            expected.iter().all(|(reason, count)| {
                let counted = metrics.value("hookward_rejections_total", &[("reason", reason)]);
                // A HEAD is refused without a reason to be seen, and counted.
                reason == "method_not_allowed" || (counted - count).abs() < f64::EPSILON
            })
        });
    }

    fn refusals(&self) -> BTreeMap<String, f64> {
        let metrics = self.hookward.metrics();
        let reasons = metrics.label_values("hookward_rejections_total", "reason");
        let count = |reason: &str| metrics.value("hookward_rejections_total", &[("reason", reason)]);
        reasons.into_iter().map(|reason| (reason.to_owned(), count(reason))).collect()
    }
}

fn read(wire: &mut Wire, expected: &Expected, name: &str) {
    let answer = match expected {
        Expected::Bodiless(_) => wire.answer_to_head(),
        _ => wire.answer_or_end(),
    };
    let Some(answer) = answer else { panic!("{name}: closed without an answer") };
    match expected {
        Expected::Accepted => {
            assert_eq!((answer.status, answer.text().contains("\"accepted\"")), (200, true), "{name}");
        }
        Expected::Refused(status, reason) => {
            assert_eq!(answer.status, *status, "{name}: {}", answer.text());
            assert_refused(&answer, *status, reason);
        }
        Expected::Bodiless(status) => assert_eq!((answer.status, answer.body.len()), (*status, 0), "{name}"),
        Expected::Continue => assert_eq!((answer.status, answer.body.len()), (100, 0), "{name}"),
    }
}
