//! The bytes of a connection to an app.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use pingora_rustls::ClientTlsStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::tls::{OwnCertificate, TlsFailure};

/// A connection, plain or in TLS, that counts the bytes that have come: after a failure only they say whether the app
/// has begun to answer.
#[derive(Debug)]
pub(super) struct AppStream {
    layer: Layer,
    bytes_read: u64,
}

#[derive(Debug)]
enum Layer {
    Plain(Box<Socket>),
    Tls(Box<ClientTlsStream<Socket>>, Arc<OwnCertificate>),
}

impl AppStream {
    pub(super) fn plain(socket: Box<Socket>) -> AppStream {
        AppStream { layer: Layer::Plain(socket), bytes_read: 0 }
    }

    pub(super) fn tls(stream: ClientTlsStream<Socket>, own: Arc<OwnCertificate>) -> AppStream {
        AppStream { layer: Layer::Tls(Box::new(stream), own), bytes_read: 0 }
    }

    /// Bytes that have come since the connection was made.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Why TLS broke, if that is what this error of a read says.
    pub(super) fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(_, own) => TlsFailure::of_read(error, own.shown()),
        }
    }

    fn socket(&self) -> &Socket {
        match &self.layer {
            Layer::Plain(socket) => socket,
            Layer::Tls(stream, _) => stream.get_ref().0,
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match &mut self.layer {
            Layer::Plain(socket) => socket,
            Layer::Tls(stream, _) => stream.get_mut().0,
        }
    }
}

impl AsyncRead for AppStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_read(context, into),
            Layer::Tls(stream, _) => Pin::new(stream).poll_read(context, into),
        };
        self.bytes_read += (into.filled().len() - before) as u64;
        read
    }
}

impl AsyncWrite for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Layer::Tls(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_flush(context),
            Layer::Tls(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Layer::Tls(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
            Layer::Tls(stream, _) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.layer {
            Layer::Plain(socket) => socket.is_write_vectored(),
            Layer::Tls(stream, _) => stream.is_write_vectored(),
        }
    }
}

#[async_trait]
impl Shutdown for AppStream {
    async fn shutdown(&mut self) {
        match &mut self.layer {
            Layer::Plain(socket) => Shutdown::shutdown(&mut **socket).await,
            Layer::Tls(stream, _) => {
                // An app that has gone takes no farewell.
                let _ = stream.shutdown().await;
            }
        }
    }
}

impl UniqueID for AppStream {
    fn id(&self) -> UniqueIDType {
        self.socket().id()
    }
}

impl Ssl for AppStream {}

impl Peek for AppStream {}

impl GetTimingDigest for AppStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.socket().get_timing_digest()
    }
}

impl GetProxyDigest for AppStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.socket().get_proxy_digest()
    }
}

impl GetSocketDigest for AppStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.socket().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.socket_mut().set_socket_digest(digest);
    }
}
