//! Modes that pass the app's own answer on: the request goes out, and what comes back is streamed to
//! the client, headers intact.
//!
//! There is no second try once a byte of an answer has come, or over a new connection: the request may have been acted
//! upon. An idle connection that the app was about to close is another matter ([`Outgoing::is_repeatable`]). Informational
//! answers (1xx) but 101, and trailers, are not passed on.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::time::{Instant, sleep_until, timeout};

use super::app_answer::for_client;
use super::body::SessionBody;
use super::connection::WRITE_TIMEOUT;
use crate::buffer::event::DeliveryId;
use crate::client::tls::TlsFailure;
use crate::client::{Exchange, ExchangeError, Framing, Over};
use crate::forward::upstream::Upstream;
use crate::gate::delivery::BodySource as _;
use crate::rejection::Rejection;

/// A request on its way to the app.
pub struct Relay<'r> {
    /// The app.
    pub upstream: &'r Upstream,
    /// Method, as received.
    pub method: &'r Method,
    /// Path and query, byte for byte.
    pub target: &'r [u8],
    /// Its fields and its body.
    pub outgoing: Outgoing<'r>,
    /// Goes back with the answer.
    pub request_id: DeliveryId,
    /// How long a connection that has switched protocols may be silent.
    pub tunnel_idle: Duration,
}

/// The rest of a request that is relayed.
pub struct Outgoing<'r> {
    /// What goes out besides framing, by how often it is sent with this.
    pub headers: &'r (dyn Fn(u32) -> Vec<(HeaderName, HeaderValue)> + Sync),
    /// Its body.
    pub upload: Upload<'r>,
    /// Whether the app is not harmed by the same request again (RFC 9110 §9.2.2): by its method, or because it has a
    /// delivery id, by which a repeat can be told.
    pub is_repeatable: bool,
}

/// The body of a request that is relayed.
pub enum Upload<'b> {
    /// It has been read.
    Whole(&'b Bytes),
    /// It is passed on as it comes.
    Streamed,
}

/// How far the body of the request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uploading {
    More,
    Done,
    /// The app does not take more of it, and may still answer.
    Refused,
}

/// Why a relay came to no good end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayError {
    /// The client has not been answered: answer this.
    Refused(Rejection),
    /// The app has not answered, and the client has not been either.
    Unanswered(ExchangeError),
    /// The answer broke off after its header: only closing the connection can say so.
    CutOff(Rejection),
}

impl RelayError {
    /// Whether an idle connection had been closed before a byte of an answer came.
    fn is_stale(&self) -> bool {
        *self == RelayError::Unanswered(ExchangeError::Stale)
    }
}

/// A request whose answer has begun.
struct Asked<'c> {
    exchange: Exchange<'c>,
    uploading: Uploading,
    header: ResponseHeader,
}

impl Relay<'_> {
    /// Sends the request and streams the answer back; returns its status. `answered` is called when
    /// its header is there, and has the say on what becomes of the connection.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn run(
        &self,
        body: &mut SessionBody<'_>,
        answered: impl FnOnce(&mut ServerSession),
    ) -> Result<u16, RelayError> {
        let mut is_body_touched = false;
        let mut asked = self.ask(Over::Pool, body, &mut is_body_touched).await;
        if asked.as_ref().is_err_and(RelayError::is_stale) && self.outgoing.is_repeatable && !is_body_touched {
            asked = self.ask(Over::Fresh, body, &mut is_body_touched).await;
        }
        let Asked { mut exchange, mut uploading, header } = asked?;
        self.upstream.note_reached();
        answered(body.session());
        let status = header.status.as_u16();
        let switched = header.status == StatusCode::SWITCHING_PROTOCOLS;
        let header = for_client(header, self.request_id, body.session());
        let written = timeout(WRITE_TIMEOUT, body.session().write_response_header(Box::new(header)));
        written.await.map_err(client_left)?.map_err(client_left)?;
        if switched {
            self.tunnel(&mut exchange, body.session()).await;
            return Ok(status);
        }
        self.stream_back(&mut exchange, body, &mut uploading).await?;
        if uploading == Uploading::Done {
            exchange.release().await;
        }
        Ok(status)
    }

    /// Sends the request, up to the header of its answer. `is_body_touched` tells when a piece of the client's body has
    /// gone, which cannot be sent again.
    async fn ask(
        &self,
        over: Over,
        body: &mut SessionBody<'_>,
        is_body_touched: &mut bool,
    ) -> Result<Asked<'_>, RelayError> {
        let framing = match &self.outgoing.upload {
            Upload::Whole(bytes) => Framing::Length(bytes.len() as u64),
            Upload::Streamed => body.framing().unwrap_or(Framing::Length(0)),
        };
        let headers = (self.outgoing.headers)(if over == Over::Pool { 1 } else { 2 });
        let begun = self.upstream.client().begin(over, self.method, self.target, &headers, framing);
        let mut exchange = begun.await.map_err(RelayError::Unanswered)?;
        let mut uploading = self.begin_upload(&mut exchange, body, framing).await?;
        let header = self.converse(&mut exchange, body, &mut uploading, is_body_touched).await?;
        Ok(Asked { exchange, uploading, header })
    }

    /// Sends what is there of the body.
    async fn begin_upload(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut SessionBody<'_>,
        framing: Framing,
    ) -> Result<Uploading, RelayError> {
        match &self.outgoing.upload {
            Upload::Whole(bytes) if !bytes.is_empty() => match self.pass_on(exchange, Some((*bytes).clone())).await {
                Uploading::More => Ok(self.pass_on(exchange, None).await),
                refused => Ok(refused),
            },
            Upload::Streamed if framing != Framing::Length(0) => {
                body.stream().await.map_err(RelayError::Refused)?;
                Ok(Uploading::More)
            }
            _ => Ok(self.pass_on(exchange, None).await),
        }
    }

    /// How long either side may be silent.
    fn silence(&self) -> Duration {
        self.upstream.client().timeouts().total
    }

    /// Passes the body on until the header of the answer is there.
    async fn converse(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut SessionBody<'_>,
        uploading: &mut Uploading,
        is_body_touched: &mut bool,
    ) -> Result<ResponseHeader, RelayError> {
        let mut deadline = Instant::now() + self.silence();
        loop {
            let piece = tokio::select! {
                biased;
                answer = exchange.read_answer() => {
                    return answer.cloned().map_err(RelayError::Unanswered);
                }
                piece = body.next_chunk(), if *uploading == Uploading::More => piece.map_err(RelayError::Refused)?,
                () = sleep_until(deadline) => return Err(RelayError::Unanswered(ExchangeError::Timeout)),
            };
            *is_body_touched |= piece.is_some();
            *uploading = self.pass_on(exchange, piece).await;
            deadline = Instant::now() + self.silence();
        }
    }

    /// Streams the body of the answer back, and what is left of the request's body on.
    async fn stream_back(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut SessionBody<'_>,
        uploading: &mut Uploading,
    ) -> Result<(), RelayError> {
        enum Step {
            Down(Option<Bytes>),
            Up(Option<Bytes>),
        }
        loop {
            let deadline = Instant::now() + self.silence();
            let step = tokio::select! {
                biased;
                piece = exchange.read_piece() => {
                    Step::Down(piece.map_err(|error| RelayError::CutOff(rejection_of(&error)))?)
                }
                piece = body.next_chunk(), if *uploading == Uploading::More => Step::Up(piece.map_err(RelayError::CutOff)?),
                () = sleep_until(deadline) => return Err(RelayError::CutOff(Rejection::UpstreamTimeout)),
            };
            match step {
                Step::Up(piece) => *uploading = self.pass_on(exchange, piece).await,
                Step::Down(piece) => {
                    let end = piece.is_none();
                    let write = body.session().write_response_body(piece.unwrap_or_default(), end);
                    timeout(WRITE_TIMEOUT, write).await.map_err(client_left)?.map_err(client_left)?;
                    if end {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends a piece of the body, or its end. A failed write is no answer: an app may have answered
    /// before it read everything.
    async fn pass_on(&self, exchange: &mut Exchange<'_>, piece: Option<Bytes>) -> Uploading {
        let sent = match &piece {
            Some(piece) => timeout(self.silence(), exchange.send(piece)).await,
            None => timeout(self.silence(), exchange.finish()).await,
        };
        match (sent, piece) {
            (Ok(Ok(())), Some(_)) => Uploading::More,
            (Ok(Ok(())), None) => Uploading::Done,
            _ => Uploading::Refused,
        }
    }

    /// After a 101: bytes go both ways until one side ends or both are silent for too long.
    async fn tunnel(&self, exchange: &mut Exchange<'_>, session: &mut ServerSession) {
        exchange.switch_protocols();
        loop {
            tokio::select! {
                piece = session.read_request_body() => match piece {
                    Ok(Some(piece)) if matches!(timeout(WRITE_TIMEOUT, exchange.send(&piece)).await, Ok(Ok(()))) => {}
                    _ => return,
                },
                piece = exchange.read_piece() => match piece {
                    Ok(Some(piece)) => {
                        let write = session.write_response_body(piece, false);
                        if !matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(()))) {
                            return;
                        }
                    }
                    _ => return,
                },
                () = tokio::time::sleep(self.tunnel_idle) => return,
            }
        }
    }
}

/// The client takes no more of an answer, or too slowly.
#[allow(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn client_left<E>(_: E) -> RelayError {
    RelayError::CutOff(Rejection::BadRequest)
}

/// Protocols that carry requests of their own, with or without a version: a tunnel of one would lead
/// past the check to any path of the app.
const CARRY_REQUESTS: [&str; 5] = ["h2c", "h2", "http", "tls", "spdy"];

/// Whether a request asks for another protocol that may be switched to, and for which (RFC 9110 §7.8).
pub fn asks_for_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let tokens = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').map(|token| token.trim().to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let asks = |value: &HeaderValue| tokens(value).iter().any(|token| token == "upgrade");
    if !headers.get_all(http::header::CONNECTION).iter().any(asks) {
        return None;
    }
    let mut protocols = headers.get_all(http::header::UPGRADE).iter();
    // One line: whichever an app reads of several, it is what was judged.
    let (protocol, None) = (protocols.next()?, protocols.next()) else { return None };
    let may_be_switched_to = |token: &String| {
        let name = token.split('/').next().unwrap_or_default().trim_end();
        !name.is_empty() && !CARRY_REQUESTS.contains(&name)
    };
    tokens(protocol).iter().all(may_be_switched_to).then_some(protocol)
}

/// The answer to the client of an app that has not answered.
pub(super) fn rejection_of(error: &ExchangeError) -> Rejection {
    match error {
        ExchangeError::ConnectTimeout | ExchangeError::Timeout => Rejection::UpstreamTimeout,
        ExchangeError::Tls(failure) if **failure == TlsFailure::TimedOut => Rejection::UpstreamTimeout,
        ExchangeError::Resolve
        | ExchangeError::Resolver
        | ExchangeError::Connect
        | ExchangeError::Tls(_)
        | ExchangeError::Broken
        | ExchangeError::Stale => Rejection::UpstreamFailed,
    }
}
