//! Accepts connections until it is told to stop. A peer whose connection the kernel has accepted takes it for one
//! that is served, and may have sent its request: those are served too before a socket of our own is closed.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::{GetSocketDigest as _, SocketDigest};
use pingora_core::server::Fds;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use rustix::net::Shutdown;
use socket2::{SockFilter, SockRef};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::ServerError;
use super::sockets::{Bound, local_addr};
use crate::http::connection::PublicApp;
use crate::http::open_connections::OpenConnections;

/// Read buffer of a connection; an idle one costs 31 KB with it, 40 with pingora's default.
const CONNECTION_READ_BUFFER_BYTES: usize = 1460;
/// Pause after an accept that failed, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How long after the stop a handshake of TCP that has begun may take to its end.
const BACKLOG_TIME: Duration = Duration::from_millis(100);
/// Between two looks at the backlog meanwhile.
const BACKLOG_LOOK: Duration = Duration::from_millis(10);

/// How long a socket that is passed on is served after the stop, if other connections are: who comes over it would
/// otherwise wait for the next process.
const PASSED_ON_TIME: Duration = Duration::from_secs(1);

/// The public sockets, in the two groups in which they stop.
#[derive(Default)]
pub(super) struct Accepting {
    own: Group,
    passed: Group,
}

#[derive(Default)]
struct Group {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Accepting {
    /// Accepts on one more socket; `is_passed` says that it stays open for the next process.
    pub(super) fn serve(&mut self, bound: Bound, app: PublicApp, is_passed: bool) -> Result<(), ServerError> {
        let (group, backlog) = match is_passed {
            true => (&mut self.passed, Backlog::Left),
            false => (&mut self.own, Backlog::Served),
        };
        group.tasks.push(serve("public", bound, app, group.stop.subscribe(), backlog)?);
        Ok(())
    }

    /// Returns when nothing more is accepted.
    pub(super) async fn stop(&mut self, open: &OpenConnections) {
        self.own.stop().await;
        let _ = timeout(PASSED_ON_TIME, open.all_ended()).await;
        self.passed.stop().await;
    }
}

impl Group {
    async fn stop(&mut self) {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

/// What becomes of the connections that the kernel has accepted and we have not, at the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backlog {
    /// They are served: nobody else would.
    Served,
    /// They stay in the socket, for the next process that has it.
    Left,
}

/// Serves a socket until it is told to stop; the task ends when nothing more is accepted.
pub(super) fn serve<A>(
    name: &str,
    bound: Bound,
    app: A,
    stop: watch::Receiver<bool>,
    backlog: Backlog,
) -> Result<JoinHandle<()>, ServerError>
where
    A: ServerApp + Clone + Send + Sync + 'static,
{
    match bound {
        Bound::Tcp(listener) => serve_tcp(name, listener, app, stop, backlog),
        Bound::Unix(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener).map_err(|error| unusable(&error))?;
            Ok(tokio::spawn(serve_unix(listener, Arc::new(app), stop, backlog)))
        }
    }
}

fn unusable(error: &io::Error) -> ServerError {
    ServerError::Internal(format!("a socket cannot be served: {error}"))
}

/// Lets pingora accept on a socket that we have bound: its own binding would retry for 30 s and then
/// panic, and could not tell the port.
fn serve_tcp<A>(
    name: &str,
    listener: TcpListener,
    app: A,
    stop: watch::Receiver<bool>,
    backlog: Backlog,
) -> Result<JoinHandle<()>, ServerError>
where
    A: ServerApp + Clone + Send + Sync + 'static,
{
    let key = local_addr(&listener)?.to_string();
    // The socket outlives pingora's descriptor of it.
    let rest = match backlog {
        Backlog::Served => Some(Bound::Tcp(listener.try_clone().map_err(|error| unusable(&error))?)),
        Backlog::Left => None,
    };
    let config = ListenerConfig::tcp(key.clone()).l4_buffer(L4BufferSettings::new(0, CONNECTION_READ_BUFFER_BYTES));
    let mut fds = Fds::new();
    fds.add(key, listener.into_raw_fd());
    let fds = Arc::new(Mutex::new(fds));
    let mut service = Service::new(name.to_owned(), app.clone());
    service.add_listener(config);
    Ok(tokio::spawn(async move {
        service.start_service(Some(fds), stop.clone(), 1).await;
        if let Some(rest) = rest {
            serve_backlog(rest, Arc::new(app), stop).await;
        }
    }))
}

/// Accepts on a unix socket. Not by pingora, which sets the mode of the file anew: a socket that
/// systemd has passed belongs to root, and the failure would be a panic.
async fn serve_unix<A>(
    listener: tokio::net::UnixListener,
    app: Arc<A>,
    mut stop: watch::Receiver<bool>,
    backlog: Backlog,
) where
    A: ServerApp + Send + Sync + 'static,
{
    let shutdown = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => spawn(&app, Socket::from(stream), &shutdown),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    if backlog == Backlog::Served
        && let Ok(listener) = listener.into_std()
    {
        serve_backlog(Bound::Unix(listener), app, shutdown).await;
    }
}

fn spawn<A>(app: &Arc<A>, socket: Socket, stop: &watch::Receiver<bool>)
where
    A: ServerApp + Send + Sync + 'static,
{
    let (app, stop) = (app.clone(), stop.clone());
    tokio::spawn(async move { app.process_new(Box::new(socket), &stop).await });
}

/// Serves what has come so far, lets nothing more in, and closes the socket.
async fn serve_backlog<A>(listener: Bound, app: Arc<A>, stop: watch::Receiver<bool>)
where
    A: ServerApp + Send + Sync + 'static,
{
    let handshakes_end = Instant::now() + listener.let_nobody_in();
    loop {
        while let Ok(socket) = listener.next_of_backlog() {
            spawn(&app, socket, &stop);
        }
        if Instant::now() >= handshakes_end {
            return;
        }
        sleep(BACKLOG_LOOK).await;
    }
}

impl Bound {
    /// Refuses new connections, while those that are there can be accepted. How long it takes until all of them are
    /// there.
    fn let_nobody_in(&self) -> Duration {
        match self {
            // A client that gets no answer to its SYN tries again a second later, at the next process perhaps. Where
            // filters are not allowed, who connects at the very end is reset, as everywhere else.
            Bound::Tcp(listener) => {
                let _ = SockRef::from(listener).attach_filter(&WITHOUT_SYN);
                BACKLOG_TIME
            }
            Bound::Unix(listener) => {
                let _ = rustix::net::shutdown(listener, Shutdown::Read);
                Duration::ZERO
            }
        }
    }

    /// A connection that waits to be accepted.
    fn next_of_backlog(&self) -> io::Result<Socket> {
        match self {
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let stream = tokio::net::TcpStream::from_std(stream)?;
                let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
                let _ = digest.peer_addr.set(Some(peer.into()));
                let mut socket = Socket::from(stream);
                socket.set_socket_digest(digest);
                Ok(socket)
            }
            Bound::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Socket::from(tokio::net::UnixStream::from_std(stream)?))
            }
        }
    }
}

/// A program for the kernel's packet filter over segments of TCP: drops those that begin a connection (SYN without
/// ACK) and takes all others. Source: linux/filter.h; RFC 9293 §3.1.
const WITHOUT_SYN: [SockFilter; 5] = {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&address, Duration::from_millis(200))
    }

    #[tokio::test]
    async fn who_came_before_the_end_is_accepted_and_nobody_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let bound = Bound::Tcp(listener);
        let _before = connect(address).unwrap();
        bound.let_nobody_in();
        assert!(connect(address).is_err(), "its SYN is dropped");
        assert!(bound.next_of_backlog().is_ok());
        assert!(bound.next_of_backlog().is_err(), "nobody else");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let bound = Bound::Unix(listener);
        let _before = UnixStream::connect(&path).unwrap();
        bound.let_nobody_in();
        assert!(UnixStream::connect(&path).is_err());
        assert!(bound.next_of_backlog().is_ok());
        assert!(bound.next_of_backlog().is_err(), "nobody else");
    }
}
