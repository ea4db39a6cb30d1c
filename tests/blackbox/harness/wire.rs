//! A client that controls every byte it sends and shows every answer it gets.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv};
use rustls::ClientConfig;
use serde_json::Value;

use super::DEADLINE;
use super::event::HOST;
use super::tls::{TlsStream, client_config};

/// A request, byte for byte.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    /// No body and no word about one.
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        let host = ("Host".to_owned(), HOST.as_bytes().to_vec());
        Request { method: method.to_owned(), target: target.to_owned(), headers: vec![host], body: Body::None }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: &str) -> Request {
        Request::new("POST", target)
    }

    pub fn method(mut self, method: &str) -> Request {
        method.clone_into(&mut self.method);
        self
    }

    pub fn target(mut self, target: impl Into<String>) -> Request {
        self.target = target.into();
        self
    }

    /// As an older client writes it, which has to ask for a connection that stays.
    pub fn bytes_of_http_1_0(self) -> Vec<u8> {
        let mut bytes = self.header("Connection", "keep-alive").bytes();
        let version = find(&bytes, b"HTTP/1.1").unwrap() + b"HTTP/1.".len();
        bytes[version] = b'0';
        bytes
    }

    /// Adds a field behind the others.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn without(mut self, name: &str) -> Request {
        self.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self
    }

    /// In place of every field of that name.
    pub fn replace(self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.without(name).header(name, value)
    }

    /// A body with its Content-Length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Body::Length(body.into());
        self
    }

    /// The same body in chunks of this size.
    pub fn chunked(mut self, chunk_bytes: usize) -> Request {
        let body = self.body_bytes();
        self.body = Body::Chunked(body.chunks(chunk_bytes).map(<[u8]>::to_vec).collect());
        self
    }

    /// The bytes of the body, without framing.
    pub fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Length(body) => body.clone(),
            Body::Chunked(chunks) => chunks.concat(),
        }
    }

    /// Request line and header, to the empty line.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.headers {
            field(name, value);
        }
        match &self.body {
            Body::None => {}
            Body::Length(body) => field("Content-Length", body.len().to_string().as_bytes()),
            Body::Chunked(_) => field("Transfer-Encoding", b"chunked"),
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The body as framed.
    pub fn framed_body(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Length(body) => body.clone(),
            Body::Chunked(chunks) => {
                let mut framed = Vec::new();
                for chunk in chunks {
                    framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    framed.extend_from_slice(chunk);
                    framed.extend_from_slice(b"\r\n");
                }
                framed.extend_from_slice(b"0\r\n\r\n");
                framed
            }
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.head(), self.framed_body()].concat()
    }
}

/// An answer, interim ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `error` of a refusal.
    pub fn reason(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no reason: {self:?}")).to_owned()
    }
}

/// One connection.
pub struct Wire {
    stream: Box<dyn Duplex>,
    unread: Vec<u8>,
}

pub trait Duplex: Read + std::io::Write + Send {
    fn twin(&self) -> Box<dyn Duplex>;
    fn end_of_sending(&self);
    fn socket(&self) -> BorrowedFd<'_>;
}

impl Duplex for TcpStream {
    fn twin(&self) -> Box<dyn Duplex> {
        Box::new(self.try_clone().unwrap())
    }
    fn end_of_sending(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Duplex for UnixStream {
    fn twin(&self) -> Box<dyn Duplex> {
        Box::new(self.try_clone().unwrap())
    }
    fn end_of_sending(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Wire {
        Wire::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// From an address of the sender's own, within 127.0.0.0/8.
    pub fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Wire {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        rustix::net::connect(&socket, &address).unwrap_or_else(|error| panic!("{address}: {error}"));
        Wire::over(with_deadlines(TcpStream::from(socket)).unwrap())
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Wire> {
        Ok(Wire::over(open(address)?))
    }

    /// Over a connection that was made by other means.
    pub fn over(stream: TcpStream) -> Wire {
        Wire { stream: Box::new(stream), unread: Vec::new() }
    }

    /// Speaks TLS to a server that shows a certificate of this authority for this name.
    pub fn connect_tls(address: SocketAddr, ca_pem: &str, server_name: &str) -> Wire {
        Wire::try_connect_tls(address, client_config(ca_pem), server_name, b"")
            .unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// The same with whatever the client offers, behind bytes in the clear (a PROXY header).
    pub fn try_connect_tls(
        address: SocketAddr,
        config: ClientConfig,
        server_name: &str,
        before: &[u8],
    ) -> std::io::Result<Wire> {
        let mut socket = open(address)?;
        socket.write_all(before)?;
        let stream = TlsStream::handshake(socket, Arc::new(config), server_name)?;
        Ok(Wire { stream: Box::new(stream), unread: Vec::new() })
    }

    /// The same; `halfway` is called when half of the first message is sent.
    pub fn connect_tls_in_halves(address: SocketAddr, ca_pem: &str, server_name: &str, halfway: impl FnOnce()) -> Wire {
        let (socket, config) = (open(address).unwrap(), Arc::new(client_config(ca_pem)));
        let stream = TlsStream::handshake_in_halves(socket, config, server_name, halfway).unwrap();
        Wire { stream: Box::new(stream), unread: Vec::new() }
    }

    pub fn connect_unix(path: &Path) -> Wire {
        Wire::try_connect_unix(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn try_connect_unix(path: &Path) -> std::io::Result<Wire> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Wire { stream: Box::new(stream), unread: Vec::new() })
    }

    /// Whether the other side has said something that has not been read, its end included.
    pub fn has_news(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !self.unread.is_empty() || recv(self.stream.socket(), &mut [0u8], flags) != Err(Errno::AGAIN)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Goes on sending on a thread of its own until all is written or the other side hangs up.
    pub fn send_meanwhile(&self, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
        let mut twin = self.stream.twin();
        std::thread::spawn(move || {
            let _ = twin.write_all(&bytes);
        })
    }

    /// Sends one byte after the other with a pause before each, until all are written or the other
    /// side hangs up.
    pub fn dripping(&self, bytes: Vec<u8>, pause: Duration) -> std::thread::JoinHandle<()> {
        let mut twin = self.stream.twin();
        std::thread::spawn(move || {
            for byte in bytes {
                std::thread::sleep(pause);
                if twin.write_all(&[byte]).is_err() {
                    return;
                }
            }
        })
    }

    /// Ends our direction only.
    pub fn end_of_sending(&self) {
        self.stream.end_of_sending();
    }

    /// Sends a request and reads its final answer.
    pub fn ask(&mut self, request: &Request) -> Answer {
        self.try_ask(request).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The same, where the other side may die on the way.
    pub fn try_ask(&mut self, request: &Request) -> std::io::Result<Answer> {
        self.stream.write_all(&request.bytes())?;
        loop {
            let answer = self.try_answer_to(&request.method)?.ok_or(ErrorKind::UnexpectedEof)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    /// The next answer to a request with a body, interim ones included.
    pub fn answer(&mut self) -> Answer {
        self.answer_or_end().expect("the connection was closed without an answer")
    }

    /// The next answer, or `None` if the connection is closed cleanly before one.
    pub fn answer_or_end(&mut self) -> Option<Answer> {
        self.try_answer_to("POST").unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The next answer to a HEAD, which has no body whatever its header says.
    pub fn answer_to_head(&mut self) -> Option<Answer> {
        self.try_answer_to("HEAD").unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The same, where a reset is as good as an end.
    pub fn try_answer(&mut self) -> std::io::Result<Option<Answer>> {
        self.try_answer_to("POST")
    }

    /// Reads until these bytes have come, and returns everything up to them.
    pub fn read_until(&mut self, needle: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.unread, needle) {
                return self.unread.drain(..at + needle.len()).collect();
            }
            let more =
                self.fill().unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.unread)));
            assert!(more, "ended before {needle:?}: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Reads to the end and returns what still came: nothing, after a last answer.
    pub fn end(&mut self) -> Vec<u8> {
        while self.fill().expect("the connection does not end cleanly") {}
        std::mem::take(&mut self.unread)
    }

    /// The same where the other side may hang up on what it has not read.
    pub fn end_or_reset(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection does not end: {error}"),
            }
        }
        std::mem::take(&mut self.unread)
    }

    fn try_answer_to(&mut self, method: &str) -> std::io::Result<Option<Answer>> {
        let Some(head) = self.take_head()? else { return Ok(None) };
        let (status, headers) = parse_head(&head);
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status < 200 || status == 204 || method == "HEAD" {
            return Ok(Some(answer));
        }
        let chunked = answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        answer.body = match answer.header("content-length") {
            _ if chunked => self.take_chunks()?,
            Some(length) => self.take(length.parse().unwrap())?,
            None => {
                while self.fill()? {}
                std::mem::take(&mut self.unread)
            }
        };
        Ok(Some(answer))
    }

    fn take_head(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                return Ok(Some(self.unread.drain(..at + 4).collect()));
            }
            if !self.fill()? {
                return if self.unread.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn take(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.unread.len() < length {
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn take_chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match find(&self.unread, b"\r\n") {
                    Some(at) => break self.take(at + 2)?,
                    None if !self.fill()? => return Err(ErrorKind::UnexpectedEof.into()),
                    None => {}
                }
            };
            let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
            body.extend(self.take(length)?);
            self.take(2)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    /// Reads more; `false` at the end.
    fn fill(&mut self) -> std::io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let read = self.stream.read(&mut piece)?;
        self.unread.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    // While nobody listens on a port of the ephemeral range, the kernel may choose just that one for
    // our side: the connection then leads to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    with_deadlines(stream)
}

fn with_deadlines(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(head: &[u8]) -> (u16, Vec<(String, String)>) {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap();
    assert!(status_line.starts_with("HTTP/1.1 "), "not a status line: {status_line}");
    let status = status_line[9..12].parse().unwrap();
    let headers = lines.map(|line| line.split_once(':').unwrap());
    (status, headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}
