//! The app behind hookward: records every request and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::received::{Received, read_request};
use super::socket::{Listener, Socket};

/// What the sink does with a request it has read.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers with a status, these headers and an empty body.
    Answer(u16, Vec<(&'static str, String)>),
    /// Answers that status with an empty body, this much later.
    Later(Duration, u16),
    /// Says nothing until [`Sink::release`], then answers 200.
    Hold,
    /// Writes these bytes and hangs up.
    Raw(&'static [u8]),
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply::Answer(status, Vec::new())
    }

    pub fn hang_up() -> Reply {
        Reply::Raw(b"")
    }
}

type Behaviour = Box<dyn FnMut(&Received) -> Reply + Send>;

#[derive(Default)]
struct State {
    received: Vec<Received>,
    /// Whether requests are forgotten once they are answered.
    forgets: bool,
    behaviour: Option<Behaviour>,
    /// Connections that are reset as soon as a request's header is there.
    resets: usize,
    resets_done: usize,
    connections: usize,
    released: bool,
    running: bool,
    /// Open connections; each belongs to its thread, so that it is closed when the thread ends.
    live: Vec<Weak<Socket>>,
    /// Requests that are not HTTP/1.1 with a length: a fault of hookward.
    faults: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Where it listens, so that it can come back at the same place.
#[derive(Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

pub struct Sink {
    place: Place,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// Another address for every sink: the port of one that has been stopped is free, and on a shared
/// address another test's listener could get it and would be sent what is meant for this one.
fn own_loopback_address() -> std::net::Ipv4Addr {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let byte = |n: u32| u8::try_from(n % 250 + 1).unwrap();
    std::net::Ipv4Addr::new(127, byte(std::process::id()), byte(n / 250), byte(n))
}

impl Sink {
    pub fn start() -> Sink {
        Sink::start_on(TcpListener::bind((own_loopback_address(), 0)).unwrap())
    }

    pub fn start_on(listener: TcpListener) -> Sink {
        let place = Place::Tcp(listener.local_addr().unwrap());
        Sink::with(place, Listener::Tcp(listener))
    }

    pub fn start_unix(path: &Path) -> Sink {
        let listener = Listener::Unix(UnixListener::bind(path).unwrap());
        Sink::with(Place::Unix(path.to_owned()), listener)
    }

    fn with(place: Place, listener: Listener) -> Sink {
        let shared = Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        let mut sink = Sink { place, shared, acceptor: None };
        sink.serve(listener);
        sink
    }

    /// As `--upstream` takes it.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp(address) => format!("http://{address}"),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// From now on, this decides what each request gets. Without one, everything gets 200.
    pub fn behave(&self, behaviour: impl FnMut(&Received) -> Reply + Send + 'static) {
        self.shared.lock().behaviour = Some(Box::new(behaviour));
    }

    /// These replies in their order, then 200.
    pub fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        let mut queue: VecDeque<Reply> = replies.into_iter().collect();
        self.behave(move |_| queue.pop_front().unwrap_or_else(|| Reply::status(200)));
    }

    /// The next requests lose their connection (RST) after their header.
    pub fn reset_next(&self, connections: usize) {
        self.shared.lock().resets = connections;
    }

    /// Connections that were reset.
    pub fn resets_done(&self) -> usize {
        self.shared.lock().resets_done
    }

    /// Connections that were ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Keeps no request: whoever decides about the replies keeps what is needed of each.
    pub fn forget(&self) {
        self.shared.lock().forgets = true;
    }

    /// Answers what is held, and holds nothing any more.
    pub fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }

    /// Everything so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    pub fn count(&self) -> usize {
        self.shared.lock().received.len()
    }

    /// Waits until this many requests have come, and returns all.
    pub fn wait_for(&self, requests: usize) -> Vec<Received> {
        self.wait_until(|received| received.len() >= requests)
    }

    /// Waits for the first request alone.
    pub fn first(&self) -> Received {
        self.wait_for(1).swap_remove(0)
    }

    pub fn wait_until(&self, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        self.wait_until_within(DEADLINE, enough)
    }

    pub fn wait_until_within(&self, deadline: Duration, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let missing = |state: &mut State| state.faults.is_empty() && !enough(&state.received);
        let state = self.shared.changed.wait_timeout_while(self.shared.lock(), deadline, missing).unwrap().0;
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        let received = state.received.clone();
        drop(state);
        assert!(enough(&received), "not within {deadline:?}; {} came: {}", received.len(), Received::list(&received));
        received
    }

    /// Refuses connections and cuts the open ones, as an app that is down.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        let mut state = self.shared.lock();
        state.running = false;
        for socket in state.live.drain(..).filter_map(|socket| socket.upgrade()) {
            socket.shut_down();
        }
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees that it is over and closes the listener.
        match &self.place {
            Place::Tcp(address) => drop(std::net::TcpStream::connect(address)),
            Place::Unix(path) => {
                drop(std::os::unix::net::UnixStream::connect(path));
                std::fs::remove_file(path).unwrap();
            }
        }
        acceptor.join().unwrap();
    }

    /// Is back where it was.
    pub fn start_again(&mut self) {
        assert!(self.acceptor.is_none(), "it is running");
        let listener = match &self.place {
            Place::Tcp(address) => Listener::Tcp(TcpListener::bind(address).unwrap()),
            Place::Unix(path) => Listener::Unix(UnixListener::bind(path).unwrap()),
        };
        self.serve(listener);
    }

    /// Holds what is to be held from now on, after a release.
    pub fn hold_again(&self) {
        self.shared.lock().released = false;
    }

    fn serve(&mut self, listener: Listener) {
        let shared = self.shared.clone();
        shared.lock().running = true;
        self.acceptor = Some(std::thread::spawn(move || {
            while let Ok(socket) = listener.accept() {
                let socket = Arc::new(socket);
                let mut state = shared.lock();
                if !state.running {
                    return;
                }
                state.connections += 1;
                state.live.push(Arc::downgrade(&socket));
                drop(state);
                let shared = shared.clone();
                std::thread::spawn(move || converse(&socket, &shared));
            }
        }));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection, request after request.
fn converse(socket: &Socket, shared: &Shared) {
    let mut writer = socket;
    let mut reader = BufReader::new(socket);
    while socket.wait_for_a_byte() {
        if shared.lock().resets > 0 {
            socket.wait_for_a_header();
            let mut state = shared.lock();
            state.resets -= 1;
            state.resets_done += 1;
            shared.changed.notify_all();
            // Closing with unread bytes makes the kernel send a reset.
            return;
        }
        let received = match read_request(&mut reader) {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(fault) => {
                let mut state = shared.lock();
                // A connection that was cut, by a killed hookward or by our stop, is no fault.
                if let Some(fault) = fault {
                    state.faults.push(fault);
                    shared.changed.notify_all();
                }
                return;
            }
        };
        let mut state = shared.lock();
        let reply = match &mut state.behaviour {
            Some(behaviour) => behaviour(&received),
            None => Reply::status(200),
        };
        if !state.forgets {
            state.received.push(Received { at: Instant::now(), ..received });
        }
        shared.changed.notify_all();
        let answer = match reply {
            Reply::Answer(status, headers) => {
                drop(state);
                answer_bytes(status, &headers)
            }
            Reply::Later(pause, status) => {
                drop(state);
                std::thread::sleep(pause);
                answer_bytes(status, &[])
            }
            Reply::Hold => {
                let state = shared.changed.wait_while(state, |state| state.running && !state.released).unwrap();
                if !state.released {
                    return;
                }
                drop(state);
                answer_bytes(200, &[])
            }
            Reply::Raw(bytes) => {
                drop(state);
                let _ = writer.write_all(bytes);
                socket.shut_down();
                return;
            }
        };
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}

fn answer_bytes(status: u16, headers: &[(&str, String)]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    answer.into_bytes()
}
