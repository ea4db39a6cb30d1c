//! The end of a connection whose client may still be sending. A plain close would reset it, and the answer could be
//! lost: a proxy that is writing a body then answers 502 for us, which a sender repeats. So our half is closed, and what
//! still comes is read and dropped for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora_core::protocols::Stream;
use prometheus::IntCounter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

/// How much is read on, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LingerBounds {
    /// Bytes.
    pub bytes: usize,
    /// Time.
    pub time: Duration,
}

/// Bounds for trusted proxies, which write a body to its end before they look at the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyLinger {
    /// Of one connection.
    pub bounds: LingerBounds,
    /// Connections that are read on so at once; any more get [`DIRECT`].
    pub connections: usize,
}

/// Bounds for everybody else: a sender of its own sees the answer while it sends.
pub const DIRECT: LingerBounds = LingerBounds { bytes: 256 << 10, time: Duration::from_secs(1) };

/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;
/// A client that was silent for so long at the end of the time had nothing more to send.
const PAUSE: Duration = Duration::from_millis(250);

/// Closes connections in order, and counts those whose client was cut off.
pub struct Lingering {
    /// Trusted proxies that are read on from now.
    proxies: AtomicUsize,
    cut: IntCounter,
}

impl Lingering {
    /// Nobody is read on from yet.
    pub fn new(cut: IntCounter) -> Lingering {
        Lingering { proxies: AtomicUsize::new(0), cut }
    }

    /// Closes a connection of a trusted proxy.
    pub async fn close_proxy(&self, stream: Stream, limits: &ProxyLinger) {
        let turn = self.turn(limits.connections);
        let bounds = if turn.is_some() { limits.bounds } else { DIRECT };
        self.close(stream, bounds).await;
    }

    /// Closes our half, reads on within the bounds, and hangs up.
    pub async fn close(&self, mut stream: Stream, bounds: LingerBounds) {
        let mut read = Read { bytes: 0, last: Instant::now() };
        let ended = timeout(bounds.time, read.drain(&mut stream, bounds.bytes)).await;
        let is_cut = match ended {
            Ok(is_beyond) => is_beyond,
            Err(_) => read.bytes > 0 && read.last.elapsed() < PAUSE,
        };
        if is_cut {
            self.cut.inc();
        }
    }

    fn turn(&self, most: usize) -> Option<Turn<'_>> {
        let add = |now: usize| (now < most).then_some(now + 1);
        self.proxies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Turn(&self.proxies))
    }
}

/// One connection that is read on from; dropped with its end.
struct Turn<'l>(&'l AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has been read after the answer.
struct Read {
    bytes: usize,
    last: Instant,
}

impl Read {
    /// Whether there was more than `most`; else the client has hung up.
    async fn drain(&mut self, stream: &mut Stream, most: usize) -> bool {
        if stream.shutdown().await.is_err() {
            return false;
        }
        // On the heap, or every connection would have room for it all its life.
        let mut scratch = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut scratch).await {
                Ok(bytes) if bytes > 0 => self.bytes += bytes,
                _ => return false,
            }
            self.last = Instant::now();
            if self.bytes >= most {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    const BOUNDS: LingerBounds = LingerBounds { bytes: 100, time: Duration::from_secs(2) };

    fn lingering() -> (Lingering, IntCounter) {
        let cut = IntCounter::new("cut", "cut").unwrap();
        (Lingering::new(cut.clone()), cut)
    }

    fn pair() -> (DuplexStream, Stream) {
        let (client, server) = tokio::io::duplex(1 << 20);
        (client, Box::new(server))
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_more_or_longer_than_the_bounds_is_cut_and_counted() {
        let (lingering, cut) = lingering();
        let (mut client, server) = pair();
        client.write_all(&[b'x'; 99]).await.unwrap();
        drop(client);
        lingering.close(server, BOUNDS).await;
        assert_eq!(cut.get(), 0, "it had its say");

        let (mut client, server) = pair();
        client.write_all(&[b'x'; 101]).await.unwrap();
        lingering.close(server, BOUNDS).await;
        assert_eq!(cut.get(), 1, "too much");

        let (mut client, server) = pair();
        let slow = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(PAUSE / 2).await;
            }
        });
        let begun = Instant::now();
        lingering.close(server, BOUNDS).await;
        assert_eq!((cut.get(), begun.elapsed()), (2, BOUNDS.time), "too long");
        slow.await.unwrap();

        let (mut client, server) = pair();
        client.write_all(b"x").await.unwrap();
        lingering.close(server, BOUNDS).await;
        assert_eq!(cut.get(), 2, "it was silent at the end");
    }

    #[test]
    fn so_many_proxies_are_read_on_from_at_once() {
        let (lingering, _) = lingering();
        let (first, second) = (lingering.turn(2), lingering.turn(2));
        assert!(first.is_some() && second.is_some() && lingering.turn(2).is_none());
        drop(first);
        assert!(lingering.turn(2).is_some());
    }
}
