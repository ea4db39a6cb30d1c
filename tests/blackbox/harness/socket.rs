//! TCP and unix sockets as one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use super::wire::find;

pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub fn accept(&self) -> std::io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let stream = listener.accept()?.0;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Socket::Unix(listener.accept()?.0)),
        }
    }
}

pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub fn shut_down(&self) {
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Waits until a byte can be read, and leaves it there; `false` at the end. Over TCP only:
    /// a unix socket cannot be looked into, nor reset.
    pub fn wait_for_a_byte(&self) -> bool {
        match self {
            Socket::Tcp(stream) => stream.peek(&mut [0]).is_ok_and(|read| read > 0),
            Socket::Unix(_) => true,
        }
    }

    /// Waits until a whole header can be read, and leaves it there.
    pub fn wait_for_a_header(&self) {
        let Socket::Tcp(stream) = self else { return };
        let mut piece = [0; 16 * 1024];
        while let Ok(read @ 1..) = stream.peek(&mut piece) {
            if find(&piece[..read], b"\r\n\r\n").is_some() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(into),
            Socket::Unix(stream) => (&*stream).read(into),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).write(from),
            Socket::Unix(stream) => (&*stream).write(from),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
