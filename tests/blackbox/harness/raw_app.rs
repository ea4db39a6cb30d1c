//! An app whose every byte the test writes: for answers that the recording sink does not give.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::DEADLINE;

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// Request line and fields, without the empty line.
    pub head: String,
    /// Chunks decoded.
    pub body: Vec<u8>,
    pub chunked: bool,
}

impl RawRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line =
            |line: &'_ str| line.split_once(':').filter(|(present, _)| present.eq_ignore_ascii_case(name)).is_some();
        self.head.lines().find(|one| line(one)).map(|line| line.split_once(':').unwrap().1.trim())
    }
}

/// Serves connections one after the other, each by what the test says.
pub struct RawApp {
    pub address: SocketAddr,
    requests: Receiver<RawRequest>,
}

impl RawApp {
    /// Each request, read to its end, is answered by `answer`, which writes what it likes; the
    /// connection goes on as long as it returns true.
    pub fn start(mut answer: impl FnMut(&RawRequest, &mut TcpStream) -> bool + Send + 'static) -> RawApp {
        RawApp::serve(move |socket, seen| {
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            while let Some(request) = read_request(&mut reader) {
                let _ = seen.send(request.clone());
                if !answer(&request, socket) {
                    return;
                }
            }
        })
    }

    /// Each connection is handed over as it is.
    pub fn serve(
        mut connection: impl FnMut(&mut TcpStream, &std::sync::mpsc::Sender<RawRequest>) + Send + 'static,
    ) -> RawApp {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                socket.set_nodelay(true).unwrap();
                connection(&mut socket, &seen);
            }
        });
        RawApp { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn next_request(&self) -> RawRequest {
        self.requests.recv_timeout(DEADLINE).expect("no request came to the app")
    }

    /// What has come and was not asked for yet.
    pub fn waiting(&self) -> Vec<RawRequest> {
        self.requests.try_iter().collect()
    }
}

/// `None` at the end of the connection.
pub fn read_request(reader: &mut BufReader<TcpStream>) -> Option<RawRequest> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut request = RawRequest { head, body: Vec::new(), chunked: false };
    if request.header("transfer-encoding").is_some() {
        request.chunked = true;
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            request.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

/// A whole answer with a length.
pub fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Writes; a client that has left is no fault.
pub fn write(socket: &mut TcpStream, bytes: &[u8]) -> bool {
    socket.write_all(bytes).is_ok()
}
