//! A real nginx, on unix sockets of its own so that no port has to be guessed.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Process, Wire, poll};

/// One nginx process, which ends with its handle.
pub struct Nginx {
    dir: TempDir,
    _process: Process,
}

impl Nginx {
    /// Loads these of Debian's modules and serves what `http` writes into the block of that name;
    /// it gets the directory of the sockets, and has to make `sockets` there.
    pub fn start(modules: &[&str], sockets: &[&str], http: impl FnOnce(&Path) -> String) -> Nginx {
        let dir = TempDir::with_prefix("hookward-nginx-").unwrap();
        let place = dir.path().display();
        let modules: String =
            modules.iter().map(|module| format!("load_module /usr/lib/nginx/modules/{module}.so;\n")).collect();
        let http = http(dir.path());
        let config = format!(
            "
daemon off;
master_process off;
pid {place}/pid;
error_log stderr warn;
{modules}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
{http}
}}
"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let program = installed("nginx", &["/usr/sbin/nginx"]);
        let process = Process::spawn(Command::new(program).arg("-p").arg(dir.path()).arg("-c").arg(&file));
        let nginx = Nginx { dir, _process: process };
        for socket in sockets {
            poll("nginx listens", || UnixStream::connect(nginx.socket(socket)).ok());
        }
        nginx
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A connection to one of its sockets.
    pub fn connect(&self, socket: &str) -> Wire {
        Wire::connect_unix(&self.socket(socket))
    }
}

/// A program that the tests need, by name or at one of these places.
pub fn installed(name: &str, places: &[&str]) -> String {
    let candidates = [name].into_iter().chain(places.iter().copied());
    let found = candidates.into_iter().find(|program| {
        let probe = Command::new(program).arg("-V").output();
        probe.is_ok_and(|output| output.status.success())
    });
    found
        .unwrap_or_else(|| {
            panic!("{name} is not installed; `make test` installs it, on Debian: apt-get install {name}")
        })
        .to_owned()
}
