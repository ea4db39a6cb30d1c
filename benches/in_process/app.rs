//! An app on loopback that answers every request with an empty 200, as a task of this runtime.

use std::net::SocketAddr;
use std::time::Duration;

use hookward::client::{Client, Destination, Lifetime, Timeouts};
use hookward::forward::scheduler::Limits;
use hookward::forward::upstream::{Upstream, UpstreamSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::side::is_whole;

const PATIENCE: Duration = Duration::from_secs(60);

pub async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket));
        }
    });
    address
}

async fn answer(mut socket: TcpStream) {
    socket.set_nodelay(true).unwrap();
    let mut request = Vec::with_capacity(16 * 1024);
    while socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if is_whole(&request) {
            request.clear();
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }
}

fn destination(app: SocketAddr) -> Destination {
    Destination::parse(&format!("http://{app}")).unwrap()
}

pub fn client(app: SocketAddr) -> Client {
    Client::new(destination(app), Timeouts { connect: PATIENCE, total: PATIENCE, idle: PATIENCE }).unwrap()
}

pub fn upstream(app: SocketAddr) -> Upstream {
    let settings = UpstreamSettings {
        destination: destination(app),
        host: None,
        forwarded: hookward::forward::headers::Forwarded::All,
        signer: None,
        connect_timeout: PATIENCE,
        timeout: PATIENCE,
        lifetime: Lifetime::DEFAULT,
        limits: Limits { max_concurrency: 16, rate: None },
    };
    Upstream::new(settings).unwrap()
}
