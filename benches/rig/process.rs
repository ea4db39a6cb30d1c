//! A process under measurement, and what the kernel says it has used.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::affinity;

/// The kernel's unit of user and system time, proc_pid_stat(5): 100 a second on every platform we run on.
const TICKS_PER_S: f64 = 100.0;

/// Ends with its handle.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it on these CPUs.
    pub fn start(command: &mut Command, cpus: &[usize]) -> Process {
        let child = affinity::pinned(cpus, || command.spawn());
        Process { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// The same, and the first line that it prints.
    pub fn start_to_line(command: &mut Command, cpus: &[usize]) -> (Process, String) {
        let mut process = Process::start(command.stdout(Stdio::piped()), cpus);
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (process, line.trim().to_owned())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processes that it has started, as the workers of a server.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.pid();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's master would leave its workers behind; after the second call nothing is left to end.
        let pid = rustix::process::Pid::from_child(&self.child);
        if matches!(self.child.try_wait(), Ok(None)) {
            let children = self.children();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            for child in children {
                if let Some(child) = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
                }
            }
        }
        let _ = self.child.wait();
    }
}

/// CPU time of the threads of one name.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadTime {
    /// On a CPU, from the scheduler: exact.
    pub on_cpu_s: f64,
    /// Of it in the kernel. The split is sampled, so it needs some seconds of load.
    pub system_share: f64,
}

/// What a process has used so far.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// By thread: its number, its name, time on a CPU in ns, ticks in user mode and in the kernel.
    threads: BTreeMap<u32, (String, u64, u64, u64)>,
    /// Bytes that it caused to be written to the storage.
    written_bytes: u64,
}

impl Usage {
    /// Of these processes together.
    pub fn of(pids: &[u32]) -> Usage {
        let mut usage = Usage::default();
        for pid in pids {
            usage.written_bytes += field(&format!("/proc/{pid}/io"), "write_bytes:");
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
                // A thread may end while it is looked at.
                if let Some(thread) = thread(&task.path()) {
                    usage.threads.insert(task.file_name().to_string_lossy().parse().unwrap(), thread);
                }
            }
        }
        usage
    }

    pub fn written_since(&self, before: &Usage) -> u64 {
        self.written_bytes - before.written_bytes
    }

    /// CPU time since then, by name of thread.
    pub fn threads_since(&self, before: &Usage) -> BTreeMap<String, ThreadTime> {
        let mut sums: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
        for (id, (name, on_cpu_ns, user, system)) in &self.threads {
            let (_, on_cpu_ns_before, user_before, system_before) = before.threads.get(id).cloned().unwrap_or_default();
            let sum = sums.entry(name.clone()).or_default();
            sum.0 += (on_cpu_ns - on_cpu_ns_before) as f64 / 1e9;
            sum.1 += (user - user_before) as f64 / TICKS_PER_S;
            sum.2 += (system - system_before) as f64 / TICKS_PER_S;
        }
        let time = |(on_cpu_s, user, system): (f64, f64, f64)| ThreadTime {
            on_cpu_s,
            system_share: if user + system > 0.0 { system / (user + system) } else { 0.0 },
        };
        sums.into_iter().map(|(name, sum)| (name, time(sum))).collect()
    }

    pub fn cpu_s_since(&self, before: &Usage) -> f64 {
        self.threads_since(before).values().map(|time| time.on_cpu_s).sum()
    }
}

fn thread(task: &std::path::Path) -> Option<(String, u64, u64, u64)> {
    let read = |name: &str| std::fs::read_to_string(task.join(name)).ok();
    let on_cpu_ns = read("schedstat")?.split(' ').next()?.parse().ok()?;
    let stat = read("stat")?;
    // Behind the name, which may hold spaces: fields 14 and 15.
    let mut ticks = stat.rsplit(')').next()?.split_whitespace().skip(11).map(|field| field.parse().ok());
    Some((read("comm")?.trim().to_owned(), on_cpu_ns, ticks.next()??, ticks.next()??))
}

/// CPU time of this thread.
pub fn own_cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

pub fn resident_mb(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:") as f64 / 1024.0
}

/// The number on the line that begins so.
fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
