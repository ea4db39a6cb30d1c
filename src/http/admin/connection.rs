//! One connection of the admin side: one request under the bounds of the public side, and an orderly
//! end whatever the peer does. Probes, port scans and TLS to a plain port end theirs in every way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use http::Method;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use tokio::time::timeout;

use super::app::AdminApp;
use super::reply::Reply;
use crate::http::head::{self, HeadLimits, NoHead};
use crate::http::lingering::DIRECT;
use crate::http::session;
use crate::rejection::Rejection;

/// Bounds of a request header.
const HEAD_LIMITS: HeadLimits = HeadLimits {
    timeout: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    header_bytes: 16 << 10,
    header_count: 100,
    uri_bytes: 8 << 10,
    tls: false,
};
/// Total time of a request and its reply.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[async_trait]
impl ServerApp for AdminApp {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, _shutdown: &ShutdownWatch) -> Option<Stream> {
        let (connection, leave) = self.connections.admit()?;
        let mut buffer = BytesMut::new();
        let read = tokio::select! {
            biased;
            read = read_head(&mut stream, &mut buffer) => read,
            _ = leave => return None,
        };
        connection.stay();
        match read {
            Ok(head) => drop(timeout(REQUEST_TIMEOUT, self.serve_request(stream, buffer, head)).await),
            Err(NoHead::Refused(rejection)) => self.refuse(stream, rejection).await,
            Err(NoHead::Closed) => {}
        }
        None
    }
}

async fn read_head(stream: &mut Stream, buffer: &mut BytesMut) -> Result<head::Head, NoHead> {
    head::begin(stream, buffer, &HEAD_LIMITS).await?;
    head::read(stream, buffer, &HEAD_LIMITS).await
}

impl AdminApp {
    /// One request per connection: scrapes are rare, and nothing is left idle at the end.
    async fn serve_request(&self, stream: Stream, mut buffer: BytesMut, head: head::Head) {
        let mut session = match session::open(stream, &mut buffer, head).await {
            Ok(session) => session,
            Err(session) => {
                let Some(stream) = session::abandon(session) else { return };
                return self.refuse(stream, Rejection::BadRequest).await;
            }
        };
        let is_head = session.req_header().method == Method::HEAD;
        let reply = self.reply(&mut session).await;
        if let Some(stream) = session::abandon(session) {
            self.finish(stream, reply, is_head).await;
        }
    }

    /// Answers what never became a request.
    async fn refuse(&self, stream: Stream, rejection: Rejection) {
        self.state.metrics.reject_admin(rejection);
        self.finish(stream, Reply::error(rejection.status(), rejection.reason()), false).await;
    }

    async fn finish(&self, mut stream: Stream, reply: Reply, is_head: bool) {
        // A client that has gone has no use for it.
        let written = timeout(REQUEST_TIMEOUT, reply.write(&mut stream, is_head, self.state.clock.unix_ms())).await;
        if matches!(written, Ok(Ok(()))) {
            self.lingering.close(stream, DIRECT).await;
        }
    }
}
