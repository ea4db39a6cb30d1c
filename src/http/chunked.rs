//! A connection during one chunked body, whose framing is checked on the way to pingora: what is bad
//! fails the read, and nothing behind the end of the body goes to pingora, so both have to agree on
//! where that is.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, tls::SslDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunk_framing::{BadFraming, Framing};

/// A connection during one chunked body: reads give the body's bytes as they came and nothing
/// behind it; what is not framed as it must be fails. Writes pass.
pub struct ChunkedStream {
    stream: Stream,
    framing: Framing,
    /// Bytes that were read and not yet handed on: before the body's end its next ones, then those
    /// of the next request. At most what came with the header, or one read of the session.
    ahead: BytesMut,
}

impl ChunkedStream {
    /// A body that begins with what is in `ahead` and goes on in `stream`.
    pub fn new(stream: Stream, ahead: BytesMut) -> ChunkedStream {
        ChunkedStream { stream, framing: Framing::default(), ahead }
    }

    /// The connection behind the body, and what was sent ahead; `None` of that before the body's end.
    pub fn into_next(self) -> (Stream, Option<BytesMut>) {
        (self.stream, self.framing.has_ended().then_some(self.ahead))
    }

    /// The connection, whatever its body has come to.
    pub fn into_inner(self) -> Stream {
        self.stream
    }
}

impl fmt::Debug for ChunkedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // pingora formats its streams into log lines: no bytes of a body.
        f.debug_struct("ChunkedStream").finish_non_exhaustive()
    }
}

impl AsyncRead for ChunkedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.framing.has_ended() {
            // pingora's parser saw no end where ours did.
            return Poll::Ready(Err(BadFraming.into()));
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let taken = this.framing.take(&buf.filled()[before..]);
            if let Ok(taken) = taken {
                this.ahead.extend_from_slice(&buf.filled()[before + taken..]);
            }
            // Nothing behind the body goes on, and of a broken one not even what came before.
            buf.set_filled(before + taken.unwrap_or(0));
            taken?;
        } else {
            let offered = this.ahead.len().min(buf.remaining());
            let taken = this.framing.take(&this.ahead[..offered])?;
            buf.put_slice(&this.ahead[..taken]);
            this.ahead.advance(taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ChunkedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ChunkedStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.stream).await;
    }
}

impl UniqueID for ChunkedStream {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for ChunkedStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for ChunkedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for ChunkedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for ChunkedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

impl Peek for ChunkedStream {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn stream_of(ahead: &str, later: &str) -> ChunkedStream {
        let (mut client, server) = tokio::io::duplex(1000);
        client.write_all(later.as_bytes()).await.unwrap();
        ChunkedStream::new(Box::new(server), BytesMut::from(ahead))
    }

    #[tokio::test]
    async fn a_stream_gives_the_body_and_keeps_what_is_behind_it() {
        let wire = "5\r\nhello\r\n0\r\n\r\nPOST";
        for split in 0..=wire.len() {
            let mut stream = stream_of(&wire[..split], &wire[split..]).await;
            let mut body = [0; 15];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"5\r\nhello\r\n0\r\n\r\n");
            assert!(stream.read(&mut body).await.is_err(), "nothing is read behind the end");
            let (mut next, ahead) = stream.into_next();
            let mut ahead = ahead.unwrap();
            next.read_buf(&mut ahead).await.unwrap();
            assert_eq!(ahead, "POST", "split at {split}");
        }
    }

    #[tokio::test]
    async fn a_stream_fails_at_the_mistake_and_has_no_next_request() {
        for (ahead, later) in [("\r\n\r\n", ""), ("", "\r\n\r\n"), ("5\r\nhel", "lo\r\n\r\n")] {
            let mut stream = stream_of(ahead, later).await;
            let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(stream.read(&mut [0; 8]).await.is_err(), "and goes on failing");
            assert!(stream.into_next().1.is_none());
        }
    }
}
