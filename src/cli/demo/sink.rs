//! The app of the demo: keeps what it gets, answers 200 with an echo of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Largest header and largest body that are read.
const HEADER_MAX_BYTES: usize = 64 * 1024;
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Requests that are kept; the demo may stay up for long.
const KEPT: usize = 256;
/// How long a look at the app waits for what is on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request that the app got.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// `POST /webhooks`.
    pub(super) line: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// What the app answered.
    pub(super) status: u16,
}

impl Received {
    /// A header's value, empty if it is not there. The name in lower case.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }
}

/// What has arrived, the last so many of it.
#[derive(Debug, Default)]
struct Inbox {
    total: usize,
    last: VecDeque<Arc<Received>>,
}

impl Inbox {
    /// What came after the first `from` requests.
    fn since(&self, from: usize) -> Vec<Arc<Received>> {
        let fresh = self.total.saturating_sub(from).min(self.last.len());
        self.last.iter().skip(self.last.len() - fresh).cloned().collect()
    }
}

/// The app, listening until it is dropped.
pub(super) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    inbox: watch::Sender<Inbox>,
    /// Requests that are answered 503 before the app is well again.
    failures: AtomicU32,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Sink {
    /// Listens on loopback, on any port.
    pub(super) async fn start() -> std::io::Result<Sink> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { inbox: watch::Sender::new(Inbox::default()), failures: AtomicU32::new(0) });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = serving.clone();
                // A connection that fails is the end of that connection only.
                tokio::spawn(async move { shared.serve(socket).await });
            }
        });
        Ok(Sink { address, shared, accepting })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next so many requests are answered 503.
    pub(super) fn fail_next(&self, requests: u32) {
        self.shared.failures.store(requests, Ordering::SeqCst);
    }

    /// How many requests have arrived so far.
    pub(super) fn total(&self) -> usize {
        self.shared.inbox.borrow().total
    }

    /// What has arrived after the first `from` requests, once it is `count` or the patience ends.
    pub(super) async fn wait_for(&self, from: usize, count: usize) -> Vec<Arc<Received>> {
        let mut inbox = self.shared.inbox.subscribe();
        // Too late is shown as what is there by then.
        let _ = tokio::time::timeout(PATIENCE, inbox.wait_for(|inbox| inbox.total >= from + count)).await;
        self.shared.inbox.borrow().since(from)
    }

    /// Tells each arrival from now on, in a line, until telling fails.
    pub(super) async fn tell_arrivals(&self, tell: impl Fn(&str) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut inbox = self.shared.inbox.subscribe();
        let mut told = self.total();
        // Ends never: we hold the sender.
        while inbox.wait_for(|inbox| inbox.total > told).await.is_ok() {
            let arrived = self.shared.inbox.borrow().since(told);
            told += arrived.len();
            for request in arrived {
                let [event, id, attempt] =
                    ["hookward-event-type", "hookward-event-id", "hookward-attempt"].map(|name| request.header(name));
                tell(&format!("{}  {event:<17}  {id:<36}  attempt {attempt:<2}  -> {}", request.line, request.status))?;
            }
        }
        Ok(())
    }
}

impl Shared {
    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(mut request) = read_request(&mut socket, &mut bytes).await? {
            let failing =
                self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            request.status = if failing { 503 } else { 200 };
            let reason = if failing { "Service Unavailable" } else { "OK" };
            let mut answer = format!(
                "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                request.status,
                request.body.len()
            )
            .into_bytes();
            answer.extend_from_slice(&request.body);
            // Kept before it is answered: whoever has seen the answer finds it here.
            self.inbox.send_modify(|inbox| {
                inbox.total += 1;
                inbox.last.push_back(Arc::new(request));
                if inbox.last.len() > KEPT {
                    inbox.last.pop_front();
                }
            });
            socket.write_all(&answer).await?;
        }
        Ok(())
    }
}

/// One request with a Content-Length from a peer that we know; `None` at the end of the connection.
async fn read_request(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<Option<Received>> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let header_end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > HEADER_MAX_BYTES {
            return Err(invalid());
        }
        if socket.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..header_end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(Ok(0), |(_, value)| value.parse::<usize>());
    let length = length.ok().filter(|length| *length <= BODY_MAX_BYTES).ok_or_else(invalid)?;
    while bytes.len() < header_end + length {
        if socket.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
    let body = bytes.drain(..header_end + length).skip(header_end).collect();
    let line = line.trim_end_matches(" HTTP/1.1").to_owned();
    Ok(Some(Received { line, headers, body, status: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Destination, Timeouts};
    use http::Method;

    fn client(sink: &Sink) -> Client {
        let second = Duration::from_secs(5);
        let timeouts = Timeouts { connect: second, total: second, idle: second };
        Client::new(Destination::parse(&format!("http://{}", sink.address())).unwrap(), timeouts).unwrap()
    }

    #[tokio::test]
    async fn it_echoes_keeps_what_it_got_and_fails_when_told_to() {
        let sink = Sink::start().await.unwrap();
        let client = client(&sink);
        sink.fail_next(1);
        let headers = [(http::HeaderName::from_static("hookward-attempt"), "1".parse().unwrap())];
        for (body, status) in [(&b"one"[..], 503), (b"two", 200)] {
            let reply = client.exchange(&Method::POST, b"/a?b", &headers, body).await.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (status, body));
        }
        let arrived = sink.wait_for(0, 2).await;
        assert_eq!(arrived.iter().map(|request| request.status).collect::<Vec<_>>(), [503, 200]);
        assert_eq!(arrived[1].line, "POST /a?b");
        assert_eq!(arrived[1].header("hookward-attempt"), "1");
        assert_eq!(arrived[1].body, b"two");
        assert_eq!(sink.wait_for(1, 1).await.len(), 1);
    }

    #[tokio::test]
    async fn it_forgets_the_oldest() {
        let sink = Sink::start().await.unwrap();
        let client = client(&sink);
        for _ in 0..=KEPT {
            client.exchange(&Method::POST, b"/", &[], b"x").await.unwrap();
        }
        assert_eq!(sink.total(), KEPT + 1);
        assert_eq!(sink.wait_for(0, KEPT + 1).await.len(), KEPT);
        assert_eq!(sink.wait_for(KEPT, 1).await.len(), 1);
    }
}
