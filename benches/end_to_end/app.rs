//! The app behind: answers at once and counts what it got. One thread serves it together with the
//! load, so that neither waits for the other to be scheduled.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::{http_bytes, signed};

const PIECE: usize = 64 << 10;

/// What it says to everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Ok,
    /// It wants to be left alone for an hour.
    Later,
}

impl Answer {
    fn bytes(self) -> &'static [u8] {
        match self {
            Answer::Ok => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Answer::Later => b"HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n",
        }
    }
}

pub struct App {
    listener: TcpListener,
    answer: Answer,
    connections: Vec<Option<Connection>>,
    piece: Vec<u8>,
    expected: Expected,
}

struct Connection {
    socket: TcpStream,
    bytes: Vec<u8>,
}

/// Events with numbers in a row, and which of them have come.
#[derive(Default)]
struct Expected {
    first: u64,
    seen: Vec<bool>,
    distinct: usize,
    repeats: usize,
    others: usize,
    last: Option<Instant>,
}

impl App {
    pub fn new(answer: Answer) -> App {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        App { listener, answer, connections: Vec::new(), piece: vec![0; PIECE], expected: Expected::default() }
    }

    pub fn listener(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Counts anew.
    pub fn expect(&mut self, first: u64, count: usize) {
        self.expected = Expected { first, seen: vec![false; count], ..Expected::default() };
    }

    pub fn distinct(&self) -> usize {
        self.expected.distinct
    }

    /// When the last event came that had not come before.
    pub fn last(&self) -> Option<Instant> {
        self.expected.last
    }

    /// Each of the expected events came once, and nothing else.
    pub fn assert_exactly_once(&self) {
        let Expected { seen, distinct, repeats, others, .. } = &self.expected;
        assert!(
            *distinct == seen.len() && *repeats == 0 && *others == 0,
            "the app got {distinct} of {} events, {repeats} repeats, {others} others",
            seen.len()
        );
    }

    /// Nothing came.
    pub fn assert_untouched(&self) {
        assert!(self.expected.distinct + self.expected.others == 0, "something reached the app");
    }

    pub fn accept(&mut self, registry: &Registry, token: impl Fn(usize) -> Token) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            socket.set_nodelay(true).unwrap();
            let free = self.connections.iter().position(Option::is_none);
            let place = free.unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            registry.register(&mut socket, token(place), Interest::READABLE).unwrap();
            self.connections[place] = Some(Connection { socket, bytes: Vec::new() });
        }
    }

    /// Reads what has come on this connection and answers what is complete.
    pub fn serve(&mut self, place: usize) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        loop {
            match connection.socket.read(&mut self.piece) {
                Ok(read) if read > 0 => {
                    connection.bytes.extend_from_slice(&self.piece[..read]);
                    let mut begin = 0;
                    while let Some((body_at, end)) = http_bytes::extent(&connection.bytes[begin..]) {
                        let Some(request) = connection.bytes[begin..].get(..end) else { break };
                        self.expected.note(&request[body_at..]);
                        begin += end;
                        // A socket that takes none of a short answer belongs to somebody who is gone.
                        if connection.socket.write_all(self.answer.bytes()).is_err() {
                            self.connections[place] = None;
                            return;
                        }
                    }
                    connection.bytes.drain(..begin);
                    if read < PIECE {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                _ => {
                    self.connections[place] = None;
                    return;
                }
            }
        }
    }
}

impl Expected {
    fn note(&mut self, body: &[u8]) {
        let place = signed::number_in(body)
            .and_then(|number| usize::try_from(number.checked_sub(self.first)?).ok())
            .filter(|place| *place < self.seen.len());
        match place {
            Some(place) if self.seen[place] => self.repeats += 1,
            Some(place) => {
                self.seen[place] = true;
                self.distinct += 1;
                self.last = Some(Instant::now());
            }
            None => self.others += 1,
        }
    }
}
