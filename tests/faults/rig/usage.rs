//! What a process takes of the machine, watched while something is done to it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// Between two looks: what comes and goes within it is not seen.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Descriptors count when they are open so long: connections that the kernel has queued are accepted
/// in one go, before the first of them can be closed for being too many.
const LASTING: Duration = Duration::from_secs(1);

/// Memory and open files of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

impl Usage {
    /// Of a running process; nothing once it has ended.
    pub fn of(pid: Pid) -> Option<Usage> {
        let proc = format!("/proc/{}", pid.as_raw_nonzero());
        let status = std::fs::read_to_string(format!("{proc}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("{proc}/fd")).ok()?.count() as u64;
        Some(Usage { resident_bytes: resident_kib * 1024, descriptors })
    }

    /// What has been added to an earlier one.
    pub fn beyond(self, base: Usage) -> Usage {
        Usage {
            resident_bytes: self.resident_bytes.saturating_sub(base.resident_bytes),
            descriptors: self.descriptors.saturating_sub(base.descriptors),
        }
    }
}

/// What was seen lately, and the most of it so far.
#[derive(Default)]
struct Seen {
    lately: VecDeque<(Instant, Usage)>,
    peak: Usage,
}

impl Seen {
    fn note(&mut self, now: Usage) {
        self.lately.push_back((Instant::now(), now));
        self.peak.resident_bytes = self.peak.resident_bytes.max(now.resident_bytes);
        while self.lately.front().is_some_and(|(at, _)| at.elapsed() > LASTING) {
            let lasting = self.lately.iter().map(|(_, usage)| usage.descriptors).min().unwrap_or(0);
            self.peak.descriptors = self.peak.descriptors.max(lasting);
            self.lately.pop_front();
        }
    }
}

/// Looks at a process until it is told to stop.
pub struct Watch {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start(pid: Pid) -> Watch {
        let (over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (is_over, sees) = (over.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst)
                && let Some(now) = Usage::of(pid)
            {
                sees.lock().unwrap().note(now);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Watch { over, seen, thread: Some(thread) }
    }

    /// The most of each that was seen, of descriptors for a while.
    pub fn peak(mut self) -> Usage {
        self.end();
        self.seen.lock().unwrap().peak
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
