use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn timeouts() -> Timeouts {
    Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(10), idle: Duration::from_secs(5) }
}

async fn listen() -> (TcpListener, Destination) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Destination::Tcp { host: "127.0.0.1".into(), port, tls: None })
}

/// Reads one request with a Content-Length and returns its bytes.
async fn read_request(socket: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = socket.read(&mut buffer).await.unwrap();
        seen.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&seen).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length: usize =
                text.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            if seen.len() >= end + 4 + length {
                return seen;
            }
        }
        if n == 0 {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_connection_is_reused_and_a_stale_one_replaced_once() {
    let (listener, destination) = listen().await;
    let client = Arc::new(Client::new(destination, timeouts()).unwrap());
    let server = tokio::spawn(async move {
        // Two exchanges on the first connection, which is closed upon the third request.
        let (mut first, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            read_request(&mut first).await;
            first
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
        }
        read_request(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let request = read_request(&mut second).await;
        second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        request
    });
    for status in [201, 201, 200] {
        let reply = client.exchange(&Method::POST, b"/a?b=c", &[], b"body").await.unwrap();
        assert_eq!(reply.status, status);
    }
    let request = String::from_utf8(server.await.unwrap()).unwrap();
    assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nbody"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_are_taken_up_again_however_fast_one_exchange_follows_the_other() {
    const AT_ONCE: usize = 8;
    let (listener, destination) = listen().await;
    let accepted = answer_with(listener, "");
    let endless = Lifetime { age: Duration::from_secs(3600), exchanges: u32::MAX };
    let client = Arc::new(Client::with_lifetime(destination, timeouts(), endless).unwrap());
    let exchanges = (0..AT_ONCE).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..500 {
                client.exchange(&Method::POST, b"/", &[], b"body").await.unwrap();
            }
        })
    });
    for exchange in exchanges.collect::<Vec<_>>() {
        exchange.await.unwrap();
    }
    let accepted = accepted.load(std::sync::atomic::Ordering::SeqCst);
    assert!(accepted <= AT_ONCE, "{accepted} connections for {AT_ONCE} exchanges at a time");
}

#[tokio::test]
async fn an_idle_connection_that_the_app_closes_is_closed_here_too() {
    let (listener, destination) = listen().await;
    let client = Client::new(destination, timeouts()).unwrap();
    let app = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        socket.shutdown().await.unwrap();
        // The end of the connection, from the other side, without another exchange.
        socket.read(&mut [0]).await.unwrap()
    });
    client.exchange(&Method::POST, b"/", &[], b"body").await.unwrap();
    assert_eq!(app.await.unwrap(), 0);
}

#[tokio::test]
async fn the_status_decides_however_the_rest_of_the_answer_ends() {
    let ways = ["content-length: 4\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\nwhat?"];
    for (stays_open, rest) in [(true, ways[0]), (false, ways[0]), (false, ways[1])] {
        let (listener, destination) = listen().await;
        let mut short = timeouts();
        short.total = Duration::from_millis(if stays_open { 300 } else { 10_000 });
        let client = Client::new(destination, short).unwrap();
        let app = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(format!("HTTP/1.1 202 Accepted\r\n{rest}").as_bytes()).await.unwrap();
            if stays_open {
                assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "the connection is dropped");
            }
        });
        let reply = client.exchange(&Method::POST, b"/", &[], b"body").await.unwrap();
        assert_eq!((reply.status, reply.has_ended), (202, false), "{rest}");
        app.await.unwrap();
    }
}

#[tokio::test]
async fn failures_say_what_happened() {
    let (listener, destination) = listen().await;
    drop(listener);
    let client = Client::new(destination, timeouts()).unwrap();
    assert_eq!(client.exchange(&Method::POST, b"/", &[], b"").await.err(), Some(ExchangeError::Connect));

    let name = Destination::parse("http://does-not-exist.invalid").unwrap();
    let client = Client::new(name, timeouts()).unwrap();
    assert_eq!(client.exchange(&Method::POST, b"/", &[], b"").await.err(), Some(ExchangeError::Resolve));

    let (listener, destination) = listen().await;
    let mut short = timeouts();
    short.total = Duration::from_millis(50);
    let client = Client::new(destination, short).unwrap();
    assert_eq!(client.exchange(&Method::POST, b"/", &[], b"").await.err(), Some(ExchangeError::Timeout));
    drop(listener);
}

#[tokio::test]
async fn header_and_body_are_one_write_and_the_names_are_as_they_came() {
    let (listener, destination) = listen().await;
    let app = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // One read gets what one write sent, as long as it fits the socket's buffer.
        let mut buffer = vec![0; 64 * 1024];
        let n = socket.read(&mut buffer).await.unwrap();
        buffer.truncate(n);
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        buffer
    });
    let client = Client::new(destination, timeouts()).unwrap();
    let headers = [(HeaderName::from_static("telnyx-timestamp"), HeaderValue::from_static("1"))];
    let body = vec![b'x'; 4000];
    let reply = client.exchange(&Method::POST, b"/hooks?a=%20", &headers, &body).await.unwrap();
    assert_eq!(reply.status, 200);
    let got = String::from_utf8(app.await.unwrap()).unwrap();
    let (header, got_body) = got.split_once("\r\n\r\n").unwrap();
    let lines: Vec<_> = header.lines().collect();
    assert_eq!(lines[..2], ["POST /hooks?a=%20 HTTP/1.1", "telnyx-timestamp: 1"]);
    assert!(lines[2].starts_with("host: 127.0.0.1:"), "{lines:?}");
    assert_eq!(lines[3..], ["content-length: 4000"]);
    assert_eq!(got_body.as_bytes(), body);
}

#[tokio::test]
async fn a_target_that_would_end_the_request_line_is_never_sent() {
    let (listener, destination) = listen().await;
    let client = Client::new(destination, timeouts()).unwrap();
    for target in [&b""[..], b"/a b", b"/a\r\nx: y", b"/\x7f", b"/\xe9"] {
        let refused = client.exchange(&Method::POST, target, &[], b"{}").await;
        assert_eq!(refused.err(), Some(ExchangeError::Broken), "{}", target.escape_ascii());
    }
    drop(client);
    let nobody = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(nobody.is_err(), "no connection was made for it");
}

#[tokio::test]
async fn an_exchange_is_small_enough_to_be_moved() {
    let (_listener, destination) = listen().await;
    let client = Client::new(destination, timeouts()).unwrap();
    let exchange = client.exchange_once(Over::Pool, &Method::POST, b"/", &[], b"{}");
    // It was 11 KB once, and moving it was a third of its cost.
    assert!(size_of_val(&exchange) <= 3_100, "{}", size_of_val(&exchange));
}

/// Answers each request with 200 and these fields, over as many connections as it takes; how many those are.
fn answer_with(listener: TcpListener, fields: &'static str) -> Arc<std::sync::atomic::AtomicUsize> {
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::spawn(async move {
                while !read_request(&mut socket).await.is_empty() {
                    let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n");
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    accepted
}

#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_the_app_says_less_a_margin() {
    // The client's own idle time is 5 s.
    for (fields, idle_ms, connections) in [
        ("", 4_900, 1),
        ("", 5_100, 2),
        ("keep-alive: timeout=1\r\n", 400, 1),
        ("keep-alive: timeout=1\r\n", 600, 2),
        ("connection: keep-alive\r\nkeep-alive: timeout=9, max=100\r\n", 7_900, 1),
        ("keep-alive: timeout=0\r\n", 0, 2),
        ("connection: close\r\nkeep-alive: timeout=9\r\n", 0, 2),
    ] {
        let (listener, destination) = listen().await;
        let accepted = answer_with(listener, fields);
        let client = Client::new(destination, timeouts()).unwrap();
        client.exchange(&Method::POST, b"/", &[], b"{}").await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(idle_ms)).await;
        tokio::time::resume();
        client.exchange(&Method::POST, b"/", &[], b"{}").await.unwrap();
        assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), connections, "{fields}{idle_ms}");
    }
}

#[tokio::test]
async fn an_exchange_whose_answer_has_begun_is_not_repeated() {
    for begun in ["H", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let (listener, destination) = listen().await;
        let client = Client::new(destination, timeouts()).unwrap();
        let app = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(begun.as_bytes()).await.unwrap();
            drop(socket);
            listener
        });
        client.exchange(&Method::POST, b"/", &[], b"{}").await.unwrap();
        let broken = client.exchange(&Method::POST, b"/", &[], b"{}").await;
        assert_eq!(broken.err(), Some(ExchangeError::Broken), "{begun}");
        let listener = app.await.unwrap();
        let again = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(again.is_err(), "no other connection was made");
    }
}
