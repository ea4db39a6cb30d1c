//! Clients that mean harm: they come from addresses of their own, since what counts against a
//! client must not count against the genuine senders.

mod came;
mod garbage;
mod slow;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hookward::gate::signature::sign;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::harness::event::{FORGER, HOST, TARGET};
use crate::harness::{DEADLINE, Wire, now_s};
pub use came::Came;
pub use garbage::garbage;
pub use slow::{drip_until_ended, ended};

/// Threads that attack at once: two for each core of a small machine.
pub const THREADS: usize = 4;

/// A connection that cannot be made in this time is given up: the queue of the kernel is full.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The address of an attacker.
pub fn address(number: usize) -> Ipv4Addr {
    let byte = |n: usize| u8::try_from(n % 250 + 1).unwrap();
    Ipv4Addr::new(127, 66, byte(number / 250), byte(number))
}

/// Connects from an attacker's address.
pub fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    // On Linux the time to send is that to connect, too.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(CONNECT_WITHIN))?;
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// So many connections, from several threads and addresses. Those that are not to be had are
/// missing.
pub fn connect_many(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    let some = |thread: usize| {
        let numbers = (thread..count).step_by(THREADS);
        numbers.filter_map(move |number| connect(address(number), to).ok()).collect::<Vec<_>>()
    };
    on_threads(some).into_iter().flatten().collect()
}

/// Runs this on each of the attackers' threads.
pub fn on_threads<T: Send>(attack: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let attack = &attack;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || attack(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an attacker has panicked")).collect()
    })
}

/// The header of an event whose body is yet to come, framed like this; its signature has the right
/// form.
pub fn header(framing: &str) -> Vec<u8> {
    let (forger, now_s) = (SigningKey::from_bytes(&FORGER), now_s());
    let signature = sign(&forger, now_s, b"");
    let signature = format!("Telnyx-Signature-Ed25519: {signature}\r\nTelnyx-Timestamp: {now_s}");
    format!("POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n{signature}\r\n{framing}\r\n\r\n").into_bytes()
}

/// Closes with a reset, so that no port waits for stragglers.
#[allow(clippy::needless_pass_by_value, reason = "it ends here")]
pub fn reset(stream: TcpStream) {
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

/// Sends until the other side hangs up, or this much is sent; the bytes that it took, and the
/// status of its answer where a reset has not swallowed it.
pub fn pour(mut stream: TcpStream, head: &[u8], piece: &[u8], bytes_max: usize) -> (usize, Option<u16>) {
    let mut sent = 0;
    if stream.write_all(head).is_ok() {
        while sent < bytes_max && stream.write_all(piece).is_ok() {
            sent += piece.len();
        }
    }
    let answer = Wire::over(stream).try_answer();
    (sent, answer.ok().flatten().map(|answer| answer.status))
}
