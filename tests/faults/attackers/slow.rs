//! Many connections that send a byte now and then.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The rhythm in which each connection sends a byte.
const PAUSE: Duration = Duration::from_millis(200);

/// How a connection has ended.
#[derive(Debug)]
pub struct Ended {
    /// Of the answer, if one could be read.
    pub status: Option<u16>,
    /// Since the first byte was sent.
    pub after: Duration,
}

struct Slow {
    stream: TcpStream,
    heard: Vec<u8>,
    begun: Instant,
}

/// Begins with each of these openings in turn, then sends one byte after the other until the other
/// side has ended every connection, or this time is over: then some are missing in what is returned.
pub fn drip_until_ended(streams: Vec<TcpStream>, openings: &[&[u8]], within: Duration) -> Vec<Ended> {
    let mut open = Vec::new();
    let mut ended = Vec::new();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let _ = stream.write_all(openings[number % openings.len()]);
        stream.set_nonblocking(true).unwrap();
        open.push(Slow { stream, heard: Vec::new(), begun: Instant::now() });
    }
    let until = Instant::now() + within;
    while !open.is_empty() && Instant::now() < until {
        std::thread::sleep(PAUSE);
        open.retain_mut(|slow| {
            let goes_on = slow.goes_on();
            if !goes_on {
                ended.push(Ended { status: status(&slow.heard), after: slow.begun.elapsed() });
            }
            goes_on
        });
    }
    ended
}

impl Slow {
    /// Reads what there is and sends a byte; `false` once the other side has ended it.
    fn goes_on(&mut self) -> bool {
        let mut piece = [0; 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(read) => self.heard.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.stream.write_all(b"x").is_ok()
    }
}

/// The status of the answer of a connection that the other side has ended; nothing while it is open.
pub fn ended(mut stream: &TcpStream) -> Option<Option<u16>> {
    stream.set_nonblocking(true).unwrap();
    let mut answer = [0; 1024];
    match stream.read(&mut answer) {
        Ok(read) => Some(status(&answer[..read])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => Some(None),
    }
}

/// `HTTP/1.1 408 …`
fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}
