//! The real binary, started as a user starts it, but for ports and for the sender's address: the
//! load comes from this machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::Process;

pub const BINARY: &str = env!("CARGO_BIN_EXE_hookward");

pub struct Hookward {
    pub process: Process,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub start_to_ready: Duration,
}

impl Hookward {
    /// With these arguments besides, on these CPUs; returns when it is ready.
    pub fn start(data_dir: &Path, arguments: &[&str], cpus: &[usize]) -> Hookward {
        Hookward::start_build(Path::new(BINARY), data_dir, arguments, cpus)
    }

    /// The same of another build.
    pub fn start_build(binary: &Path, data_dir: &Path, arguments: &[&str], cpus: &[usize]) -> Hookward {
        let mut command = Command::new(binary);
        command.args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--buffer-require", "process"]);
        command.args(["--log-level", "error"]).args(arguments).arg("--data-dir").arg(data_dir);
        let begun = Instant::now();
        let (process, line) = Process::start_to_line(&mut command, cpus);
        let start_to_ready = begun.elapsed();
        let addresses = line.strip_prefix("ready listen=").and_then(|rest| rest.split_once(" admin="));
        let (listen, admin) = addresses.unwrap_or_else(|| panic!("hookward did not get ready: {line:?}"));
        Hookward { process, listen: listen.parse().unwrap(), admin: admin.parse().unwrap(), start_to_ready }
    }

    /// The first series that begins so.
    pub fn metric(&self, series: &str) -> f64 {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub fn pending(&self) -> f64 {
        self.metric("hookward_buffer_events{state=\"pending\"")
    }
}

/// A key pair: public, secret.
pub fn keys() -> (String, String) {
    let made = Command::new(BINARY).arg("keygen").output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    (value("public:"), value("secret:"))
}
