//! Switches of a build for fault tests (cargo feature `faults`); in any other build each is what
//! stands here at the end, and costs nothing.
//!
//! | environment | does |
//! |---|---|
//! | `HOOKWARD_FAILPOINT=NAME:N` | the process is killed (SIGKILL) when it comes to that place for the N-th time |
//! | `HOOKWARD_FAULT_SYNCHRONOUS=normal` | SQLite does not sync before it says that a commit is done |
//! | `HOOKWARD_FAULT_CLOCK=FILE` | the file says by how many seconds the wall clock and the running time are ahead: `3600 0` |

#[cfg(feature = "faults")]
pub use on::*;

#[cfg(feature = "faults")]
mod on {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
    use std::time::Duration;

    use crate::clock::{Clock, SystemClock};

    /// How often the clock's file is read.
    const CLOCK_READ_EVERY: Duration = Duration::from_millis(5);

    struct Failpoint {
        name: String,
        passes_left: AtomicU64,
    }

    /// The process may end here: nothing runs after it, as after a kill from outside.
    pub fn failpoint(name: &str) {
        static CHOSEN: OnceLock<Option<Failpoint>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| {
            let text = std::env::var("HOOKWARD_FAILPOINT").ok()?;
            let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
            let nth: u64 = nth.parse().ok()?;
            Some(Failpoint { name: name.to_owned(), passes_left: AtomicU64::new(nth) })
        });
        let Some(chosen) = chosen.as_ref().filter(|chosen| chosen.name == name) else { return };
        if chosen.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way: nothing more is done meanwhile.
            loop {
                std::thread::park();
            }
        }
    }

    /// The weaker level must lose events at a power loss, or the tests of that see nothing.
    pub fn sqlite_synchronous() -> &'static str {
        match std::env::var("HOOKWARD_FAULT_SYNCHRONOUS").as_deref() {
            Ok("normal") => "NORMAL",
            _ => "FULL",
        }
    }

    /// The machine's clocks, as far ahead as a file says.
    pub fn clock() -> impl Clock {
        let ahead: &'static Ahead = Box::leak(Box::default());
        if let Some(file) = std::env::var_os("HOOKWARD_FAULT_CLOCK").map(PathBuf::from) {
            ahead.read(&file);
            std::thread::spawn(move || {
                loop {
                    ahead.read(&file);
                    std::thread::sleep(CLOCK_READ_EVERY);
                }
            });
        }
        JumpingClock { system: SystemClock::new(), ahead }
    }

    #[derive(Default)]
    struct Ahead {
        wall_s: AtomicI64,
        uptime_s: AtomicI64,
    }

    impl Ahead {
        fn read(&self, file: &Path) {
            let Ok(text) = std::fs::read_to_string(file) else { return };
            let Some((wall, uptime)) = text.trim().split_once(' ') else { return };
            if let (Ok(wall), Ok(uptime)) = (wall.parse(), uptime.parse()) {
                self.wall_s.store(wall, Ordering::SeqCst);
                self.uptime_s.store(uptime, Ordering::SeqCst);
            }
        }
    }

    struct JumpingClock {
        system: SystemClock,
        ahead: &'static Ahead,
    }

    impl Clock for JumpingClock {
        fn unix_ms(&self) -> i64 {
            self.system.unix_ms() + self.ahead.wall_s.load(Ordering::SeqCst) * 1000
        }

        fn uptime_us(&self) -> i64 {
            self.system.uptime_us() + self.ahead.uptime_s.load(Ordering::SeqCst) * 1_000_000
        }
    }
}

/// The process may end here in a build for fault tests.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn failpoint(_name: &str) {}

/// How SQLite syncs: before it says that a commit is done.
#[cfg(not(feature = "faults"))]
pub fn sqlite_synchronous() -> &'static str {
    "FULL"
}

/// The machine's clocks.
#[cfg(not(feature = "faults"))]
pub fn clock() -> crate::clock::SystemClock {
    crate::clock::SystemClock::new()
}
