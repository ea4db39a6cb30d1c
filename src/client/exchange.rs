//! One request and its answer over a connection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_http::{RequestHeader, ResponseHeader};

use super::app_stream::AppStream;
use super::connection::Connector;
use super::error::ExchangeError;
use super::keep_alive::idle_time;
use super::lent::{Lent, Loan};
use super::reply::{REPLY_BODY_MAX_BYTES, Reply};

/// Most informational (1xx) answers that are skipped.
const INFORMATIONAL_MAX: usize = 8;

/// One request and its answer, step by step. Dropped before [`Exchange::release`], it takes its
/// connection along.
pub struct Exchange<'c> {
    session: HttpSession,
    loan: Loan<'c, Connector>,
    /// Bytes that had come over the connection before.
    read_before: u64,
}

impl<'c> Exchange<'c> {
    /// Over this connection.
    pub(super) fn over(lent: Lent<'c, Connector>) -> Exchange<'c> {
        let Lent { connection, loan } = lent;
        let read_before = app_stream(&connection).map_or(0, AppStream::bytes_read);
        Exchange { session: HttpSession::new(connection), loan, read_before }
    }

    /// Sends the header of the request.
    pub(super) async fn send_header(&mut self, header: RequestHeader) -> Result<(), ExchangeError> {
        match self.session.write_request_header(Box::new(header)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Sends a piece of the body. Not cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`]; the answer may still be read.
    pub async fn send(&mut self, piece: &[u8]) -> Result<(), ExchangeError> {
        // An empty chunk is the last one: what comes behind it would be a request of its own to the app.
        if piece.is_empty() {
            return Ok(());
        }
        self.session.write_body(piece).await.map_err(|_| ExchangeError::Broken)?;
        Ok(())
    }

    /// Ends the body. Not cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`]; the answer may still be read.
    pub async fn finish(&mut self) -> Result<(), ExchangeError> {
        self.session.finish_body().await.map_err(|_| ExchangeError::Broken)?;
        Ok(())
    }

    /// Reads the header of the answer, informational ones (1xx) but 101 skipped. Cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`]; [`ExchangeError::Stale`] over a pooled connection, [`ExchangeError::Tls`] over a new one.
    pub async fn read_answer(&mut self) -> Result<&ResponseHeader, ExchangeError> {
        for _ in 0..=INFORMATIONAL_MAX {
            if let Err(error) = self.session.read_response().await {
                return Err(self.failure(&error));
            }
            let status = self.session.get_status().map_or(0, |status| status.as_u16());
            if status >= 200 || (status == 101 && self.session.was_upgraded()) {
                return self.session.resp_header().ok_or(ExchangeError::Broken);
            }
            if status == 101 {
                break;
            }
        }
        Err(ExchangeError::Broken)
    }

    /// The next piece of the answer's body; `None` at its end. Cancel-safe.
    ///
    /// # Errors
    /// [`ExchangeError::Broken`].
    pub async fn read_piece(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        self.session.read_body_bytes().await.map_err(|_| ExchangeError::Broken)
    }

    /// After a 101: what is sent from now on is no body, but the other protocol's bytes.
    pub fn switch_protocols(&mut self) {
        self.session.maybe_upgrade_body_writer();
    }

    /// Keeps the connection for the next exchange. To be called after the whole of request and
    /// answer, and only then.
    pub async fn release(mut self) {
        self.session.respect_keepalive();
        let idle_time = self.session.get_header("keep-alive").and_then(idle_time);
        if let Some(stream) = self.session.reuse().await {
            self.loan.give_back(stream, idle_time);
        }
    }

    /// The body up to the bound, and whether that was all of it.
    pub(super) async fn read_reply_body(&mut self) -> Result<(Bytes, bool), ExchangeError> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.session.read_body_ref().await.map_err(|_| ExchangeError::Broken)? {
            let room = REPLY_BODY_MAX_BYTES - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                return Ok((body.freeze(), false));
            }
        }
        Ok((body.freeze(), true))
    }

    /// The answer whose header has been read, without its body.
    pub(super) fn reply(&self) -> Reply {
        let status = self.session.resp_header().map_or(0, |header| header.status.as_u16());
        let field = |name| self.session.get_header(name).cloned();
        Reply {
            status,
            retry_after: field(http::header::RETRY_AFTER),
            date: if (200..=299).contains(&status) { None } else { field(http::header::DATE) },
            body: Bytes::new(),
            has_ended: false,
        }
    }

    /// Why a request could not be sent, or no answer be read.
    fn failure(&self, error: &pingora_error::Error) -> ExchangeError {
        let Some(stream) = app_stream(self.session.stream()) else { return ExchangeError::Broken };
        if stream.bytes_read() > self.read_before {
            return ExchangeError::Broken;
        }
        if self.loan.reused {
            return ExchangeError::Stale;
        }
        let failure = error.root_cause().downcast_ref().and_then(|error| stream.tls_failure(error));
        failure.map_or(ExchangeError::Broken, |failure| ExchangeError::Tls(Arc::new(failure)))
    }
}

/// The stream of a connection, which [`super::connection`] has made.
fn app_stream(stream: &Stream) -> Option<&AppStream> {
    (**stream).as_any().downcast_ref()
}
