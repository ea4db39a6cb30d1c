//! A real nginx in front, on unix sockets of its own so that no port has to be guessed.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::second_server::installed;
use crate::harness::*;

pub struct Nginx {
    dir: TempDir,
    _process: Process,
}

/// How much of what it gets nginx passes on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As installed: reads whole bodies, drops odd headers.
    Strict,
    /// Bodies as they come, chunks included, and headers however odd.
    Loose,
}

impl Nginx {
    pub fn start(hookward: SocketAddr) -> Nginx {
        let dir = TempDir::with_prefix("hookward-nginx-").unwrap();
        let place = dir.path().display();
        let location = "location / {
                proxy_pass http://hookward;
                proxy_http_version 1.1;
                proxy_set_header Connection \"\";
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_next_upstream off;
            }";
        // One process, which ends with its handle; connections that nobody answers end soon.
        let config = format!(
            "
daemon off;
master_process off;
pid {place}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    client_max_body_size 2m;
    client_header_timeout 2s;
    client_body_timeout 2s;
    keepalive_timeout 200ms;
    upstream hookward {{
        server {hookward};
        keepalive 4;
    }}
    server {{
        listen unix:{place}/strict.sock;
        {location}
    }}
    server {{
        listen unix:{place}/loose.sock;
        proxy_request_buffering off;
        ignore_invalid_headers off;
        underscores_in_headers on;
        {location}
    }}
}}
"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let program = installed("nginx", &["/usr/sbin/nginx"]);
        let process = Process::spawn(Command::new(program).arg("-p").arg(dir.path()).arg("-c").arg(&file));
        let nginx = Nginx { dir, _process: process };
        for manner in [Manner::Strict, Manner::Loose] {
            poll("nginx listens", || UnixStream::connect(nginx.socket(manner)).ok());
        }
        nginx
    }

    fn socket(&self, manner: Manner) -> PathBuf {
        self.dir.path().join(format!("{manner:?}.sock").to_lowercase())
    }

    pub fn connect(&self, manner: Manner) -> Wire {
        Wire::connect_unix(&self.socket(manner))
    }
}
