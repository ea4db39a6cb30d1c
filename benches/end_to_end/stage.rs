//! One thread that plays Telnyx and the app around a server under test.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::app::{Answer, App};
use super::sender::Sender;
use super::signed::{Batch, Routes, Telnyx};
use crate::rig::process;

/// Who a token belongs to, in its two lowest bits.
const OWNERS: usize = 4;
const STAGE: usize = 0;
const SENDER: usize = 1;
const APP: usize = 2;
const HELD_APP: usize = 3;
const APP_LISTENER: Token = Token(STAGE);
const HELD_APP_LISTENER: Token = Token(STAGE + OWNERS);
const TIMER: Token = Token(STAGE + 2 * OWNERS);

/// A timer wakes this much early; the rest is waited for on the CPU, since a CPU that slept comes late.
const EARLY: Duration = Duration::from_micros(150);
/// Nothing takes longer.
const STALLED: Duration = Duration::from_secs(60);

/// When requests are sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// So many a second, whatever becomes of those before.
    Open { per_s: f64 },
}

/// What came of a load.
pub struct Load {
    /// From the first request to the last answer.
    pub answered_s: f64,
    /// From the first request until the app had everything, or to the last answer without an app.
    pub delivered_s: f64,
    /// From when a request was to be sent to its answer, in ns.
    pub latency: Histogram<u64>,
    /// How late requests were sent though a connection was free, in ns: the load's own fault.
    pub lateness: Histogram<u64>,
    /// CPU time of this thread, both roles together.
    pub own_cpu_s: f64,
}

pub struct Stage {
    poll: Poll,
    events: Events,
    timer: OwnedFd,
    pub app: App,
    /// Another app, which takes nothing.
    pub held_app: App,
}

impl Stage {
    pub fn new() -> Stage {
        let poll = Poll::new().unwrap();
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
        let registry = poll.registry();
        registry.register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE).unwrap();
        let (mut app, mut held_app) = (App::new(Answer::Ok), App::new(Answer::Later));
        registry.register(app.listener(), APP_LISTENER, Interest::READABLE).unwrap();
        registry.register(held_app.listener(), HELD_APP_LISTENER, Interest::READABLE).unwrap();
        Stage { poll, events: Events::with_capacity(1024), timer, app, held_app }
    }

    /// Both apps answer for so long.
    pub fn serve_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(Some(left), None, |_| ());
        }
    }

    /// Both apps answer until the app has got everything.
    pub fn serve_until_delivered(&mut self, count: usize) {
        let mut progress = (0, Instant::now());
        while self.app.distinct() < count {
            self.turn(Some(Duration::from_millis(100)), None, |_| ());
            if self.app.distinct() > progress.0 {
                progress = (self.app.distinct(), Instant::now());
            }
            assert!(progress.1.elapsed() < STALLED, "the app has {} of {count} events", progress.0);
        }
    }

    /// Sends the batch over so many connections; everything must be answered 200, and with
    /// `delivers` reach the app once.
    pub fn load(
        &mut self,
        telnyx: &Telnyx,
        (batch, routes): (&Batch, &Routes),
        address: SocketAddr,
        connections: usize,
        pace: Pace,
        delivers: bool,
    ) -> Load {
        let count = batch.events.len();
        self.app.expect(batch.first, count);
        let token = |place: usize| Token(place * OWNERS + SENDER);
        let mut sender = Sender::connect(address, connections, self.poll.registry(), token);
        self.serve_for(Duration::from_millis(100));
        let (mut latency, mut lateness) = (Histogram::new(3).unwrap(), Histogram::new(3).unwrap());
        let mut request = Vec::new();
        let (mut sent, mut answered, mut was_starved) = (0, 0, false);
        let cpu_before_s = process::own_cpu_s();
        let begun = Instant::now();
        let mut last_answer = begun;
        while answered < count {
            let now = Instant::now();
            let mut next = None;
            while sent < count {
                let intended = match pace {
                    Pace::Closed => Instant::now(),
                    Pace::Open { per_s } => begun + Duration::from_secs_f64(sent as f64 / per_s),
                };
                if intended > now && matches!(pace, Pace::Open { .. }) {
                    next = Some(intended);
                    break;
                }
                if !sender.has_idle() {
                    was_starved = true;
                    break;
                }
                if !was_starved {
                    lateness.record(nanoseconds(intended.elapsed())).unwrap();
                }
                was_starved = false;
                telnyx.write(batch, sent, routes, &mut request);
                sender.send(&request, intended);
                sent += 1;
            }
            let wait = match (pace, next) {
                (Pace::Closed, _) => Some(STALLED),
                (Pace::Open { .. }, Some(next)) if sent == answered => self.sleep_until(next),
                // Awake until the answer is here, so that no wake-up of this CPU is counted as latency.
                (Pace::Open { .. }, _) => Some(Duration::ZERO),
            };
            self.turn(wait, Some(&mut sender), |intended| {
                last_answer = Instant::now();
                latency.record(nanoseconds(last_answer - intended)).unwrap();
                answered += 1;
            });
            assert!(last_answer.max(begun).elapsed() < STALLED || sent == answered, "{answered} of {count} answered");
        }
        let own_cpu_s = process::own_cpu_s() - cpu_before_s;
        if delivers {
            self.serve_until_delivered(count);
            // What comes twice comes late.
            self.serve_for(Duration::from_millis(300));
            self.app.assert_exactly_once();
        } else {
            self.app.assert_untouched();
        }
        let delivered = if delivers { self.app.last().unwrap().max(last_answer) } else { last_answer };
        let (answered_s, delivered_s) = ((last_answer - begun).as_secs_f64(), (delivered - begun).as_secs_f64());
        Load { answered_s, delivered_s, latency, lateness, own_cpu_s }
    }

    /// How long may be slept until then: with the timer set, until it fires.
    fn sleep_until(&self, next: Instant) -> Option<Duration> {
        let Some(gap) = next.checked_duration_since(Instant::now() + EARLY).filter(|gap| !gap.is_zero()) else {
            return Some(Duration::ZERO);
        };
        let at = Timespec { tv_sec: gap.as_secs().try_into().unwrap(), tv_nsec: gap.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).unwrap();
        Some(STALLED)
    }

    /// Waits for something and serves it.
    fn turn(&mut self, wait: Option<Duration>, mut sender: Option<&mut Sender>, mut answered: impl FnMut(Instant)) {
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return,
            result => result.unwrap(),
        }
        for event in &self.events {
            let Token(token) = event.token();
            let place = token / OWNERS;
            match token % OWNERS {
                SENDER => {
                    if let Some(intended) = sender.as_mut().and_then(|sender| sender.serve(place)) {
                        answered(intended);
                    }
                }
                APP => self.app.serve(place),
                HELD_APP => self.held_app.serve(place),
                _ if event.token() == APP_LISTENER => {
                    self.app.accept(self.poll.registry(), |place| Token(place * OWNERS + APP));
                }
                _ if event.token() == HELD_APP_LISTENER => {
                    self.held_app.accept(self.poll.registry(), |place| Token(place * OWNERS + HELD_APP));
                }
                // Setting the timer again makes it unreadable.
                _ => {}
            }
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}
