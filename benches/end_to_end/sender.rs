//! Telnyx's side: connections that are kept open, each with one request on its way at most.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::http_bytes;

pub struct Sender {
    connections: Vec<Connection>,
    /// The one that has rested longest is used next, so that all are.
    idle: VecDeque<usize>,
    piece: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    /// When its request was to be sent.
    intended: Option<Instant>,
    /// What the socket did not take at once.
    unsent: Vec<u8>,
    answer: Vec<u8>,
}

impl Sender {
    /// Opens so many connections.
    pub fn connect(address: SocketAddr, count: usize, registry: &Registry, token: impl Fn(usize) -> Token) -> Sender {
        let connection = |place: usize| {
            let socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut socket = TcpStream::from_std(socket);
            registry.register(&mut socket, token(place), Interest::READABLE | Interest::WRITABLE).unwrap();
            Connection { socket, intended: None, unsent: Vec::new(), answer: Vec::new() }
        };
        Sender { connections: (0..count).map(connection).collect(), idle: (0..count).collect(), piece: vec![0; 4096] }
    }

    pub fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// On a connection that waits.
    pub fn send(&mut self, request: &[u8], intended: Instant) {
        let place = self.idle.pop_front().unwrap();
        let connection = &mut self.connections[place];
        connection.intended = Some(intended);
        connection.unsent.extend_from_slice(request);
        connection.flush();
    }

    /// The connection can be read or written again; the time its answered request was to be sent.
    pub fn serve(&mut self, place: usize) -> Option<Instant> {
        let connection = &mut self.connections[place];
        connection.flush();
        match connection.socket.read(&mut self.piece) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(read) => connection.answer.extend_from_slice(&self.piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(error) => panic!("the server broke a connection: {error}"),
        }
        let (_, end) = http_bytes::extent(&connection.answer)?;
        if connection.answer.len() < end {
            return None;
        }
        assert!(
            connection.answer.len() == end && connection.answer.starts_with(b"HTTP/1.1 200 "),
            "not answered 200: {}",
            String::from_utf8_lossy(&connection.answer)
        );
        connection.answer.clear();
        self.idle.push_back(place);
        connection.intended.take()
    }
}

impl Connection {
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server broke a connection: {error}"),
            }
        }
    }
}
