//! A child process whose output is read as it comes, and which never outlives its handle.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::DEADLINE;

pub struct Process {
    child: Child,
    // Behind a lock, so that threads of a test can share the process.
    stdout: Mutex<Receiver<String>>,
    stderr_end: Mutex<Receiver<()>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    exit: Option<ExitStatus>,
}

/// What a finished command left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        Process::spawn_with_stdin(command, Stdio::piped())
    }

    pub fn spawn_with_stdin(command: &mut Command, stdin: Stdio) -> Process {
        Process::spawn_with(command, stdin, Stdio::piped(), Stdio::piped())
    }

    /// Its log goes there, and is not read here.
    pub fn spawn_with_stderr(command: &mut Command, stderr: Stdio) -> Process {
        Process::spawn_with(command, Stdio::piped(), Stdio::piped(), stderr)
    }

    /// Only what is piped is read here.
    pub fn spawn_with(command: &mut Command, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Process {
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // Or the far ends of pipes would stay open here.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (lines, stdout) = channel();
        let out = child.stdout.take();
        std::thread::spawn(move || {
            let mut out = BufReader::new(out?);
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|read| read > 0) {
                let _ = lines.send(std::mem::take(&mut line));
            }
            Some(())
        });
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (err_alive, stderr_end) = channel();
        let (err, sink) = (child.stderr.take(), stderr.clone());
        std::thread::spawn(move || {
            let _held_until_the_end = err_alive;
            let (mut err, mut piece) = (err?, [0; 8192]);
            while let Ok(read @ 1..) = err.read(&mut piece) {
                sink.lock().unwrap().extend_from_slice(&piece[..read]);
            }
            Some(())
        });
        Process { child, stdout: Mutex::new(stdout), stderr_end: Mutex::new(stderr_end), stderr, exit: None }
    }

    /// Runs a command to its end with this on its standard input.
    pub fn finish(command: &mut Command, stdin: &[u8]) -> Finished {
        let mut process = Process::spawn(command);
        // A command that reads nothing may be gone already.
        let _ = process.child.stdin.take().unwrap().write_all(stdin);
        process.finished()
    }

    /// Waits until it has ended by itself; what it left behind.
    pub fn finished(&mut self) -> Finished {
        let (code, stdout) = self.wait_exit_and_stdout(DEADLINE);
        Finished { code, stdout, stderr: self.stderr() }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The next line of stdout, or `None` when the process closed it or `within` is over.
    pub fn next_line(&self, within: Duration) -> Option<String> {
        self.stdout.lock().unwrap().recv_timeout(within).ok()
    }

    /// Everything written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// The end of it: what a test tells that fails after thousands of lines.
    fn stderr_tail(&self) -> String {
        const LINES: usize = 20;
        let all = self.stderr();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        assert!(self.exit.is_none(), "the process has been waited for");
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub fn kill9(&mut self) {
        if self.exit.is_none() {
            self.child.kill().unwrap();
            self.exit = Some(self.child.wait().unwrap());
        }
    }

    /// Its exit code once it has ended, `Some(None)` after a signal.
    pub fn try_exit(&mut self) -> Option<Option<i32>> {
        self.exit = self.child.try_wait().unwrap();
        self.exit.map(|status| status.code())
    }

    /// Waits until it has ended by itself; its exit code, `None` after a signal.
    pub fn wait_exit(&mut self) -> Option<i32> {
        self.wait_exit_within(DEADLINE)
    }

    /// The same where the end may be a long way off.
    pub fn wait_exit_within(&mut self, deadline: Duration) -> Option<i32> {
        self.wait_exit_and_stdout(deadline).0
    }

    fn wait_exit_and_stdout(&mut self, deadline: Duration) -> (Option<i32>, String) {
        // Both pipes end when the process does, so their end can be awaited with a deadline.
        let until = Instant::now() + deadline;
        let mut stdout = String::new();
        loop {
            match self.stdout.lock().unwrap().recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => stdout.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no exit within {deadline:?}\n{}", self.stderr_tail()),
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        let end = self.stderr_end.lock().unwrap().recv_timeout(left);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected), "no exit within {deadline:?}\n{}", self.stderr_tail());
        let status = self.child.wait().unwrap();
        self.exit = Some(status);
        (status.code(), stdout)
    }
}

/// Lets this process, and the hookwards it starts from now on, have so many files open.
pub fn allow_open_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= count, "this test needs {count} open files and may have {most}: raise `ulimit -Hn`");
    limit.current = Some(limit.current.unwrap_or(most).max(count));
    setrlimit(Resource::Nofile, limit).unwrap();
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- stderr of the process\n{}---", self.stderr());
        }
    }
}
