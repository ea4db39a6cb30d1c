//! hookward in this process, on a clock that the test moves.

use std::net::SocketAddr;
use std::sync::Arc;

use hookward::clock::ManualClock;
use hookward::config::ListenAddress;
use hookward::config::resolve::{Overrides, SourceFile, resolve};
use hookward::server::{Passed, Server};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::event::public_key;
use super::sink::Sink;
use super::wire::{Answer, Request, Wire};

/// A hookward that is ready. Ends with this handle, without delivering what is left.
pub struct OnTestClock {
    pub clock: Arc<ManualClock>,
    listen: SocketAddr,
    server: Option<Server>,
    runtime: Runtime,
    _dir: TempDir,
}

impl OnTestClock {
    /// Every client may send. The clock stands at `unix_s` until it is moved.
    pub fn start(unix_s: i64, upstream: &str, yaml: &str) -> OnTestClock {
        let dir = TempDir::with_prefix("hookward-test-").unwrap();
        let text = format!(
            "listen: [ {{ address: 127.0.0.1:0 }} ]\nadmin: {{ address: 127.0.0.1:0 }}\ndata_dir: \"{}\"\n\
             buffer: {{ require: process }}\nshutdown: {{ drain: 0s }}\n{yaml}",
            dir.path().display(),
        );
        let flags = Overrides {
            public_key: vec![public_key()],
            upstream: Some(upstream.to_owned()),
            ip_allowlist: vec!["off".into()],
            ..Overrides::default()
        };
        let file = SourceFile { name: "h.yaml".into(), text };
        let config = resolve(Some(&file), &flags, &|_| None).unwrap_or_else(|problems| panic!("{problems}")).config;
        let clock = Arc::new(ManualClock::at_unix_s(unix_s));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(config, Passed::default(), clock.clone())).unwrap();
        let ListenAddress::Tcp(listen) = server.listen()[0] else { panic!() };
        OnTestClock { clock, listen, server: Some(server), runtime, _dir: dir }
    }

    /// Sends a request over a connection of its own.
    pub fn post(&self, request: &Request) -> Answer {
        Wire::connect(self.listen).ask(request)
    }

    /// Lets time go on, a little at a time, until so many requests are at the sink: when a retry is due
    /// is reckoned from the end of the attempt before, which may be seen only later.
    pub fn advance_until_tried(&self, sink: &Sink, requests: usize) {
        super::poll("the next attempt", || {
            self.clock.advance(std::time::Duration::from_millis(50));
            (sink.count() >= requests).then_some(())
        });
    }
}

impl Drop for OnTestClock {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let ended = self.runtime.block_on(server.run_until(async {}));
            assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
        }
    }
}
