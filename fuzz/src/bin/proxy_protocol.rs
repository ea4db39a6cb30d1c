//! A PROXY header is read to its last byte and no further, however its bytes arrive, and what is read
//! of version 1 is what the line says.
#![no_main]

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use hookward_fuzz::proxy_protocol::{NoHeader, Source, read};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that come in pieces, and are always there.
struct Pieces<'b> {
    rest: &'b [u8],
    piece_bytes: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let (piece, rest) = this.rest.split_at(this.rest.len().min(this.piece_bytes).min(buf.remaining()));
        buf.put_slice(piece);
        this.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// What is read, and how many bytes of it.
fn outcome(bytes: &[u8], piece_bytes: usize) -> (Result<Source, NoHeader>, usize) {
    let mut pieces = Pieces { rest: bytes, piece_bytes };
    let read = match pin!(read(&mut pieces)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("nothing is ever waited for"),
    };
    (read, bytes.len() - pieces.rest.len())
}

fuzz_target!(|input: &[u8]| {
    let (read, consumed) = outcome(input, usize::MAX);
    assert_eq!(outcome(input, 1).0, read, "whatever the pieces");
    let Ok(source) = read else { return };
    assert_eq!(outcome(input, 1).1, consumed);
    let header = &input[..consumed];
    let behind = [header, b"POST / HTTP/1.1\r\n"].concat();
    assert_eq!(outcome(&behind, usize::MAX), (read, consumed), "what follows stays in the socket");
    assert_eq!(outcome(&input[..consumed - 1], usize::MAX).0, Err(NoHeader::Malformed), "and no byte less");
    if let (Some(line), Source::Client(client)) = (header.strip_prefix(b"PROXY TCP"), source) {
        let line = std::str::from_utf8(line).unwrap();
        assert_eq!(line.split(' ').nth(1).unwrap().parse(), Ok(client));
        assert!(line.ends_with("\r\n") && line.matches('\n').count() == 1);
    }
});
