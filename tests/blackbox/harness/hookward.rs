//! The real binary, run as a user would.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::event::public_key;
use super::metrics::Metrics;
use super::process::{Finished, Process};
use super::sink::Sink;
use super::wire::{Answer, Request, Wire};
use super::{DEADLINE, POLL};

/// The binary with nothing of our own environment.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookward"));
    command.env_clear().env("RUST_BACKTRACE", "1").args(args);
    command
}

/// Runs a command of the binary to its end.
pub fn run_to_end(args: &[&str]) -> Finished {
    Process::finish(&mut command(args), b"")
}

/// What `run` is given. Starts from flags alone, as in a container without a file.
#[derive(Clone)]
pub struct Setup {
    dir: Arc<TempDir>,
    data_dir: PathBuf,
    flags: Vec<(String, String)>,
    env: Vec<(String, String)>,
    config: Option<String>,
    /// An option of `ulimit` and its value.
    open_files: Option<(&'static str, u32)>,
    /// Program and arguments that it is run by.
    under: Vec<String>,
}

impl Setup {
    /// Every client may send, nothing but the process need survive, port 0 everywhere.
    pub fn new(sink: &Sink) -> Setup {
        Setup::without_upstream().flag("--upstream", &sink.url())
    }

    pub fn without_upstream() -> Setup {
        let dir = Arc::new(TempDir::with_prefix("hookward-test-").unwrap());
        let data_dir = dir.path().join("data");
        let (flags, env, under) = (Vec::new(), Vec::new(), Vec::new());
        Setup { dir, data_dir: data_dir.clone(), flags, env, config: None, open_files: None, under }
            .flag("--listen", "127.0.0.1:0")
            .flag("--admin", "127.0.0.1:0")
            .flag("--data-dir", &data_dir.to_string_lossy())
            .flag("--public-key", &public_key())
            .flag("--buffer-require", "process")
            .flag("--ip-allowlist", "off")
    }

    /// With its data there: on another file system, for instance.
    pub fn data_at(mut self, data_dir: &Path) -> Setup {
        data_dir.clone_into(&mut self.data_dir);
        self.flag("--data-dir", &data_dir.to_string_lossy())
    }

    /// Adds a flag, or replaces it.
    pub fn flag(mut self, name: &str, value: &str) -> Setup {
        self = self.without_flag(name);
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds one more of a repeatable flag.
    pub fn another(mut self, name: &str, value: &str) -> Setup {
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_flag(mut self, name: &str) -> Setup {
        self.flags.retain(|(present, _)| present != name);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A configuration file; the flags fill in what it leaves open.
    pub fn config(mut self, yaml: &str) -> Setup {
        self.config = Some(yaml.to_owned());
        self
    }

    /// Starts with this soft limit on open files, as a shell or systemd may set it.
    pub fn soft_open_files(mut self, count: u32) -> Setup {
        self.open_files = Some(("-Sn", count));
        self
    }

    /// Starts with this limit on open files, which it cannot raise.
    pub fn open_files(mut self, count: u32) -> Setup {
        self.open_files = Some(("-n", count));
        self
    }

    /// Lets system calls fail: `fdatasync:error=EIO:when=10..12`. The process stays our child.
    pub fn inject(mut self, fault: &str) -> Setup {
        let missing = || panic!("strace is missing; install it, on Debian: apt-get install strace");
        let found = Command::new("strace").arg("--version").output();
        found.unwrap_or_else(|_| missing());
        let call = fault.split(':').next().unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={fault}"));
        let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        self.under = words.map(str::to_owned).to_vec();
        self
    }

    /// Sees this in the place of `/etc/hosts`; as root, for it takes a mount.
    pub fn hosts(self, text: &str) -> Setup {
        self.with_file("/etc/hosts", text)
    }

    /// Sees this in the place of `/etc/resolv.conf`; as root, for it takes a mount.
    pub fn resolv_conf(self, text: &str) -> Setup {
        self.with_file("/etc/resolv.conf", text)
    }

    fn with_file(mut self, path: &str, text: &str) -> Setup {
        let own = self.dir.path().join(path.trim_start_matches('/').replace('/', "-"));
        std::fs::write(&own, text).unwrap();
        let mount = format!("mount --bind {} {path} && exec \"$0\" \"$@\"", own.display());
        self.under = ["unshare", "-m", "sh", "-c", &mount].map(str::to_owned).to_vec();
        self
    }

    /// A directory of this test's own, which ends with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Not created here: hookward must.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    pub fn database(&self) -> PathBuf {
        self.data_dir().join("hookward.db")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir().join("admin.sock")
    }

    fn run_command(&self) -> Command {
        let mut command = match self.under.split_first() {
            Some((program, arguments)) => {
                let mut under = Command::new(program);
                under.env_clear().args(arguments).arg(env!("CARGO_BIN_EXE_hookward")).arg("run");
                under
            }
            None => command(&["run"]),
        };
        if let Some(yaml) = &self.config {
            let path = self.dir.path().join("hookward.yaml");
            std::fs::write(&path, yaml).unwrap();
            command.arg("--config").arg(path);
        }
        command.args(self.flags.iter().flat_map(|(name, value)| [name, value]));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let Some((option, count)) = self.open_files else { return command };
        let mut shell = Command::new("sh");
        shell.env_clear().arg("-c").arg(format!("ulimit {option} {count}; exec \"$0\" \"$@\""));
        shell.arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell
    }

    /// Runs it where it is expected to refuse.
    pub fn run_to_end(&self) -> Finished {
        Process::finish(&mut self.run_command(), b"")
    }

    /// Starts it without waiting for it to be ready.
    pub fn spawn(&self) -> Process {
        Process::spawn(&mut self.run_command())
    }

    /// The same with a socket as systemd passes it: as descriptor 3.
    pub fn spawn_with_passed(&self, socket: OwnedFd) -> Process {
        let run = self.run_command();
        let mut shell = Command::new("sh");
        shell.env_clear().args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null"]);
        shell.arg(run.get_program()).args(run.get_args());
        shell.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Process::spawn_with_stdin(&mut shell, socket.into())
    }

    pub fn start(&self) -> Hookward {
        self.when_ready(self.spawn())
    }

    /// Starts it with its log going there.
    pub fn start_with_stderr(&self, stderr: impl Into<Stdio>) -> Hookward {
        self.when_ready(Process::spawn_with_stderr(&mut self.run_command(), stderr.into()))
    }

    /// Starts it with its ready line going there, without waiting for it.
    pub fn spawn_with_stdout(&self, stdout: impl Into<Stdio>) -> Process {
        Process::spawn_with(&mut self.run_command(), Stdio::piped(), stdout.into(), Stdio::piped())
    }

    /// Starts it where it may refuse to.
    pub fn try_start(&self) -> Result<Hookward, Finished> {
        let mut process = self.spawn();
        match process.next_line(DEADLINE) {
            Some(line) => {
                let (listeners, admin) = parse_ready(&line).unwrap_or_else(|| panic!("not a ready line: {line:?}"));
                Ok(Hookward { setup: self.clone(), process, listeners, admin })
            }
            None => Err(process.finished()),
        }
    }

    pub fn start_with_passed(&self, socket: OwnedFd) -> Hookward {
        self.when_ready(self.spawn_with_passed(socket))
    }

    fn when_ready(&self, process: Process) -> Hookward {
        let (listeners, admin) = ready(&process);
        Hookward { setup: self.clone(), process, listeners, admin }
    }
}

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl At {
    fn parse(text: &str) -> Option<At> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(At::Unix(PathBuf::from(path))),
            None => text.parse().ok().map(At::Tcp),
        }
    }

    pub fn connect(&self) -> Wire {
        match self {
            At::Tcp(address) => Wire::connect(*address),
            At::Unix(path) => Wire::connect_unix(path),
        }
    }

    pub fn tcp(&self) -> SocketAddr {
        match self {
            At::Tcp(address) => *address,
            At::Unix(path) => panic!("a unix socket: {}", path.display()),
        }
    }
}

/// Waits for `ready listen=ADDR,… admin=ADDR`.
fn ready(process: &Process) -> (Vec<At>, SocketAddr) {
    let line = process.next_line(DEADLINE).unwrap_or_else(|| panic!("never ready\n{}", process.stderr()));
    parse_ready(&line).unwrap_or_else(|| panic!("not a ready line: {line:?}"))
}

pub fn parse_ready(line: &str) -> Option<(Vec<At>, SocketAddr)> {
    let (listen, admin) = line.strip_suffix('\n')?.strip_prefix("ready listen=")?.split_once(" admin=")?;
    Some((listen.split(',').map(At::parse).collect::<Option<_>>()?, admin.parse().ok()?))
}

/// A hookward that is ready. Dies with this handle.
pub struct Hookward {
    setup: Setup,
    process: Process,
    /// In the order of the configuration.
    pub listeners: Vec<At>,
    pub admin: SocketAddr,
}

impl Hookward {
    /// The address of the first listener.
    pub fn listen(&self) -> SocketAddr {
        self.listeners[0].tcp()
    }

    /// A connection to the first listener.
    pub fn connect(&self) -> Wire {
        self.listeners[0].connect()
    }

    /// Sends a request over a connection of its own.
    pub fn post(&self, request: &Request) -> Answer {
        self.connect().ask(request)
    }

    /// Sends bytes as they are and reads one answer; the connection then has to end.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut wire = self.connect();
        wire.send(bytes);
        let answer = wire.answer();
        assert_eq!(String::from_utf8_lossy(&wire.end_or_reset()), "", "after {answer:?}");
        answer
    }

    /// Asks the admin side.
    pub fn admin(&self, request: &Request) -> Answer {
        Wire::connect(self.admin).ask(request)
    }

    /// Asks the admin side over its socket.
    pub fn admin_socket(&self, request: &Request) -> Answer {
        Wire::connect_unix(&self.setup.admin_socket()).ask(request)
    }

    pub fn metrics(&self) -> Metrics {
        let answer = self.admin(&Request::get("/metrics"));
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(&answer.text())
    }

    /// Scrapes until a series has this value: it may be counted after the answer was sent.
    pub fn await_metric(&self, name: &str, labels: &[(&str, &str)], expected: f64) -> Metrics {
        self.await_metrics(&format!("{name} {labels:?} = {expected}"), |metrics| {
            (metrics.value(name, labels) - expected).abs() < f64::EPSILON
        })
    }

    pub fn await_metrics(&self, what: &str, enough: impl Fn(&Metrics) -> bool) -> Metrics {
        let until = Instant::now() + DEADLINE;
        loop {
            let metrics = self.metrics();
            if enough(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < until, "never {what}\n{metrics}");
            std::thread::sleep(POLL);
        }
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Waits until the log has this text; lines are written a moment after what they tell of.
    pub fn await_log(&self, text: &str) -> String {
        super::poll(text, || Some(self.stderr()).filter(|log| log.contains(text)))
    }

    /// The next line that it prints to stdout after the ready line.
    pub fn next_line(&self, within: Duration) -> Option<String> {
        self.process.next_line(within)
    }

    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    pub fn pid(&self) -> rustix::process::Pid {
        self.process.pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its exit code once it has ended, `Some(None)` after a signal.
    pub fn try_exit(&mut self) -> Option<Option<i32>> {
        self.process.try_exit()
    }

    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    pub fn wait_exit(&mut self) -> Option<i32> {
        self.process.wait_exit()
    }

    pub fn wait_exit_within(&mut self, deadline: Duration) -> Option<i32> {
        self.process.wait_exit_within(deadline)
    }

    /// SIGTERM, and a clean end.
    pub fn stop(&mut self) {
        self.sigterm();
        assert_eq!(self.wait_exit(), Some(0), "{}", self.stderr());
    }

    /// Starts it anew on the same data, after it has ended.
    pub fn start_again(&mut self) {
        *self = self.setup.start();
    }

    /// Ends it cleanly and starts it anew.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }
}
