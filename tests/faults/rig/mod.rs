//! What every scenario stands on: hookward with an app behind it and senders in front, and the
//! ledger that all of them write into.

mod app;
mod buffer;
mod clock_file;
mod event;
mod ledger;
mod load;
mod machine;
mod usage;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Hookward, Setup, poll_within};
pub use app::{App, Mood};
pub use buffer::Held;
pub use clock_file::ClockFile;
pub use event::body_for;
pub use ledger::{Ledger, Verdict};
pub use load::Load;
pub use machine::{CAPACITY_BYTES, Machine};
pub use usage::{Usage, Watch};

/// Within this, hookward must answer 200 again once a fault is over.
pub const RECOVERY_WITHIN: Duration = Duration::from_secs(10);
/// For hookward to come to its end, which may be thousands of events away, of a debug build on a machine that
/// does other things too.
const END_WITHIN: Duration = Duration::from_secs(180);
/// For a backlog to be delivered at the end of a scenario.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// Repeats soon, so that no scenario need wait.
pub const QUICK: &str = "delivery: { retry: { base: 20ms, max: 200ms } }\n";

/// One hookward and what stands around it.
pub struct Rig {
    setup: Setup,
    /// Nothing while it is down.
    hookward: Option<Hookward>,
    pub app: App,
    pub ledger: Arc<Ledger>,
    address: Arc<Address>,
    /// How far the senders' clocks are ahead, seconds.
    ahead_s: Arc<AtomicI64>,
}

/// Where hookward is, while it is up; senders wait for it.
#[derive(Default)]
pub struct Address {
    now: Mutex<Option<SocketAddr>>,
    changed: Condvar,
}

impl Address {
    fn set(&self, address: Option<SocketAddr>) {
        *self.now.lock().unwrap() = address;
        self.changed.notify_all();
    }

    /// Waits a little for hookward to be up; senders then look whether they are still wanted.
    fn await_up(&self) -> Option<SocketAddr> {
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let now = self.now.lock().unwrap();
        *self.changed.wait_timeout_while(now, LOOK_AGAIN, |now| now.is_none()).unwrap().0
    }
}

impl Rig {
    /// An app and a set-up in front of it that is not started yet, told apart by `change`.
    pub fn prepare(change: impl FnOnce(Setup) -> Setup) -> Rig {
        let ledger = Arc::new(Ledger::default());
        let app = App::start(ledger.clone());
        let setup = change(Setup::new(app.sink()).config(QUICK));
        Rig { setup, hookward: None, app, ledger, address: Arc::default(), ahead_s: Arc::default() }
    }

    /// The same, started.
    pub fn start(change: impl FnOnce(Setup) -> Setup) -> Rig {
        let mut rig = Rig::prepare(change);
        rig.up();
        rig
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn hookward(&self) -> &Hookward {
        self.hookward.as_ref().expect("hookward is up")
    }

    /// Starts hookward on what is on the disk.
    pub fn up(&mut self) {
        let hookward = self.setup.start();
        self.is_up(hookward);
    }

    /// It has been started by other means.
    pub fn is_up(&mut self, hookward: Hookward) {
        self.address.set(Some(hookward.listen()));
        self.hookward = Some(hookward);
    }

    /// Kills it in whatever it is doing.
    pub fn kill9(&mut self) {
        self.address.set(None);
        self.hookward.as_mut().expect("hookward is up").kill9();
        self.hookward = None;
    }

    /// It ends by itself: after SIGTERM, at a failpoint. Its exit code and what it has logged.
    pub fn await_end(&mut self) -> (Option<i32>, String) {
        let hookward = self.hookward.as_mut().expect("hookward is up");
        let code = hookward.wait_exit_within(END_WITHIN);
        let log = hookward.stderr();
        self.address.set(None);
        self.hookward = None;
        (code, log)
    }

    /// Senders over so many connections, until they are told to stop.
    pub fn load(&self, name: &str, connections: usize) -> Load {
        Load::start(name, connections, self.ledger.clone(), &self.address, &self.ahead_s)
    }

    /// Senders sign with this much more than the time, as those of a world whose clock jumps do.
    fn senders_are_ahead(&self, seconds: i64) {
        self.ahead_s.store(seconds, Ordering::SeqCst);
    }

    /// The time from now to the next answer 200; there must be one within [`RECOVERY_WITHIN`].
    /// Needs a load.
    pub fn recovery(&self) -> Duration {
        self.recovery_from(Instant::now())
    }

    /// The same from an earlier moment: when the fault was over.
    pub fn recovery_from(&self, over: Instant) -> Duration {
        self.ledger.await_ack_after(over, RECOVERY_WITHIN)
    }

    /// With an app that is well again, waits until everything is delivered, and judges.
    pub fn settle(&mut self) -> Verdict {
        self.app.set(Mood::Well);
        self.app.reset_next(0);
        if self.hookward.is_none() {
            self.up();
        }
        let hookward = self.hookward();
        poll_within(SETTLE_WITHIN, "the backlog is delivered", || {
            (hookward.metrics().value("hookward_buffer_events", &[("state", "pending")]) == 0.0).then_some(())
        });
        self.judge()
    }

    /// Judges as it stands: every acked event is with the app or in the buffer.
    pub fn judge(&self) -> Verdict {
        self.ledger.judge(&self.held())
    }

    /// What the buffer holds.
    pub fn held(&self) -> Held {
        Held::by(self.hookward())
    }
}
