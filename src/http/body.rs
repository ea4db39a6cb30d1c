//! The body of a request under its total deadline. `100 Continue` is sent only when the body is
//! asked for, thus after every check that needs none.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use tokio::time::{Instant, timeout_at};

use super::body_memory::{BodyMemory, Share};
use crate::client::Framing;
use crate::gate::client_key::ClientKey;
use crate::gate::delivery::BodySource;
use crate::rejection::Rejection;

/// Reads from a session.
pub struct SessionBody<'s> {
    session: &'s mut ServerSession,
    timeout: Duration,
    deadline: Instant,
    /// What is held of it; nothing where it is passed on piece by piece.
    share: Option<Share<'s>>,
    declared: Option<u64>,
    expects_continue: bool,
    failed: bool,
}

impl<'s> SessionBody<'s> {
    /// The body of the request whose header the session has read, to be held as a whole: within
    /// `timeout` and the memory of all bodies.
    pub fn new(session: &'s mut ServerSession, timeout: Duration, memory: &'s BodyMemory) -> SessionBody<'s> {
        let header = session.req_header();
        let text = |name| header.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let declared = text(http::header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
        let expects_continue = header.version == http::Version::HTTP_11
            && text(http::header::EXPECT).is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"));
        let (deadline, share) = (Instant::now() + timeout, Some(memory.share()));
        SessionBody { session, timeout, deadline, share, declared, expects_continue, failed: false }
    }

    /// From now on the body is passed on as it comes: the timeout is that of each piece.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn stream(&mut self) -> Result<(), Rejection> {
        self.share = None;
        self.agree_to_body().await
    }

    /// The session, to answer while the body still comes.
    pub fn session(&mut self) -> &mut ServerSession {
        self.session
    }

    /// Whether there is a body: a length above zero, or chunks.
    pub fn framing(&self) -> Option<Framing> {
        let chunked = self.session.req_header().headers.contains_key(http::header::TRANSFER_ENCODING);
        if chunked { Some(Framing::Chunked) } else { self.declared.filter(|bytes| *bytes > 0).map(Framing::Length) }
    }

    /// Whether the connection can carry another request: the body was read to its end.
    pub fn is_spent(&mut self) -> bool {
        !self.failed
            && match self.session {
                ServerSession::H1(session) => session.is_body_done(),
                _ => false,
            }
    }

    async fn send_continue(&mut self) -> pingora_error::Result<()> {
        if let ServerSession::H1(session) = self.session {
            // pingora takes any response before the end of the body for a reason to close.
            session.set_close_on_response_before_downstream_finish(false);
            session.write_continue_response().await?;
            session.set_close_on_response_before_downstream_finish(true);
        }
        Ok(())
    }

    async fn agree_to_body(&mut self) -> Result<(), Rejection> {
        if std::mem::take(&mut self.expects_continue) && self.declared != Some(0) {
            self.send_continue().await.map_err(|_| Rejection::BadRequest)?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Rejection> {
        self.agree_to_body().await?;
        if self.share.is_none() {
            self.deadline = Instant::now() + self.timeout;
        }
        let chunk = next_piece(self.session, self.share.as_mut(), self.deadline).await?;
        self.hold(chunk)
    }
}

/// Reads one piece, `None` at the end. Where it has to be waited for, the memory that the body holds may be wanted
/// back meanwhile.
async fn next_piece(
    session: &mut ServerSession,
    share: Option<&mut Share<'_>>,
    deadline: Instant,
) -> Result<Option<Bytes>, Rejection> {
    let mut reading = pin!(session.read_request_body());
    let read = match share {
        None => timeout_at(deadline, reading).await,
        // Most bodies are there already: nobody waits for those.
        Some(share) => match now_or_later(reading.as_mut()).await {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => {
                share.wait()?;
                tokio::select! {
                    biased;
                    read = timeout_at(deadline, reading) => read,
                    () = share.gives_way() => return Err(Rejection::Overloaded),
                }
            }
        },
    };
    match read {
        Ok(Ok(chunk)) => Ok(chunk),
        // Broken chunking or a client that left; the error's text quotes bytes, so it ends here.
        Ok(Err(_)) => Err(Rejection::BadRequest),
        Err(_) => Err(Rejection::BodyTimeout),
    }
}

impl SessionBody<'_> {
    fn hold(&mut self, chunk: Option<Bytes>) -> Result<Option<Bytes>, Rejection> {
        match (&mut self.share, &chunk) {
            (Some(share), Some(chunk)) => share.grow(chunk.len())?,
            (Some(share), None) => share.complete(),
            (None, _) => {}
        }
        Ok(chunk)
    }
}

/// Polls once.
async fn now_or_later<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

impl BodySource for SessionBody<'_> {
    fn belongs_to(&mut self, client: Option<IpAddr>) {
        if let Some(share) = &mut self.share {
            share.belongs_to(client.map(ClientKey::from));
        }
    }

    fn declared_bytes(&self) -> Option<u64> {
        self.declared
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Rejection> {
        let chunk = self.read().await;
        self.failed |= chunk.is_err();
        chunk
    }
}
