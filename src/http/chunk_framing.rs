//! The framing of a chunked body, followed byte by byte: pingora's parser takes an empty size line for
//! the end of the body and anything for a chunk extension. What another parser could read differently
//! is bad framing. Pure. Source: RFC 9112 §7.1.

use std::io;

use thiserror::Error;

use super::head::{is_field_value, is_token};

/// Length of a size line with its extensions, or of a trailer line.
const LINE_BYTES: usize = 1024;
/// Extensions of one body: no sender needs any, and each costs reading without bringing a byte.
const EXTENSION_BYTES: usize = 8 * 1024;
/// Trailers of one body, which are read and dropped.
const TRAILER_BYTES: usize = 8 * 1024;
/// Hexadecimal digits of a chunk size, leading zeros included: far beyond every body, far below
/// what overflows.
const SIZE_DIGITS: usize = 12;
/// Fields that would change what the message is. They are dropped like every trailer; whoever sends
/// one there means another parser than ours.
const NO_TRAILERS: [&[u8]; 3] = [b"content-length", b"host", b"transfer-encoding"];

/// A chunked body is not framed as it must be. Says nothing of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the chunked body is not framed as RFC 9112 §7.1 says")]
pub struct BadFraming;

impl From<BadFraming> for io::Error {
    fn from(bad: BadFraming) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, bad)
    }
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a line `size[;extensions]`.
    Size,
    /// In the data of a chunk, of which so many bytes are to come.
    Data(u64),
    /// In the line end behind the data.
    DataEnd,
    /// In a trailer, or in the empty line behind the last.
    Trailer,
    /// Behind the body.
    End,
    /// Behind a mistake.
    Broken,
}

/// Follows one chunked body over the pieces that it comes in.
#[derive(Debug)]
pub struct Framing {
    place: Place,
    /// What came so far of a line that is not complete; at most [`LINE_BYTES`].
    line: Vec<u8>,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing { place: Place::Size, line: Vec::new(), extension_bytes: 0, trailer_bytes: 0 }
    }
}

impl Framing {
    /// Takes the next bytes; returns how many of them belong to the body, all unless it ends in them.
    ///
    /// # Errors
    /// [`BadFraming`], from then on always.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BadFraming> {
        if self.place == Place::Broken {
            return Err(BadFraming);
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.place != Place::End {
            match self.step(rest) {
                Ok(taken) => rest = &rest[taken..],
                Err(bad) => {
                    self.place = Place::Broken;
                    return Err(bad);
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the body is complete.
    pub fn has_ended(&self) -> bool {
        self.place == Place::End
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, BadFraming> {
        match self.place {
            Place::Data(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - taken as u64;
                self.place = if left == 0 { Place::DataEnd } else { Place::Data(left) };
                Ok(taken)
            }
            Place::Size | Place::DataEnd | Place::Trailer => self.step_in_line(bytes),
            Place::End | Place::Broken => Err(BadFraming),
        }
    }

    fn step_in_line(&mut self, bytes: &[u8]) -> Result<usize, BadFraming> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(bytes.len());
        let line_bytes = self.line.len() + taken;
        let too_long = line_bytes > if self.place == Place::DataEnd { 2 } else { LINE_BYTES };
        if too_long {
            return Err(BadFraming);
        }
        self.line.extend_from_slice(&bytes[..taken]);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            // A CR that is not part of the line end is in no token, quoted string or field value.
            self.place = self.behind(line.strip_suffix(b"\r\n").ok_or(BadFraming)?)?;
        }
        Ok(taken)
    }

    /// Where the body goes on behind a complete line.
    fn behind(&mut self, line: &[u8]) -> Result<Place, BadFraming> {
        match self.place {
            Place::Size => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let (size, extensions) = line.split_at(digits);
                self.extension_bytes += extensions.len();
                if digits > SIZE_DIGITS || self.extension_bytes > EXTENSION_BYTES || !are_extensions(extensions) {
                    return Err(BadFraming);
                }
                // An empty size is none, not 0.
                let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
                match size.ok_or(BadFraming)? {
                    0 => Ok(Place::Trailer),
                    size => Ok(Place::Data(size)),
                }
            }
            Place::DataEnd if line.is_empty() => Ok(Place::Size),
            Place::Trailer if line.is_empty() => Ok(Place::End),
            Place::Trailer => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > TRAILER_BYTES || !is_trailer(line) {
                    Err(BadFraming)
                } else {
                    Ok(Place::Trailer)
                }
            }
            _ => Err(BadFraming),
        }
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`. The white space that §7.1.1 tolerates for the
/// sake of old senders is refused, since parsers differ over it.
fn are_extensions(mut rest: &[u8]) -> bool {
    while let Some(extension) = rest.strip_prefix(b";") {
        let Some(behind) = skip_token(extension) else { return false };
        rest = match behind.strip_prefix(b"=") {
            None => behind,
            Some(value) => match skip_token(value).or_else(|| skip_quoted(value)) {
                Some(behind) => behind,
                None => return false,
            },
        };
    }
    rest.is_empty()
}

/// What stands behind a token, which has at least one character.
fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| is_token(**byte)).count();
    (length > 0).then(|| &text[length..])
}

/// What stands behind a quoted string (RFC 9110 §5.6.4).
fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', quoted, behind @ ..] if is_field_value(*quoted) => behind,
            [byte, behind @ ..] if *byte != b'\\' && is_field_value(*byte) => behind,
            _ => return None,
        };
    }
}

fn is_trailer(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    let is_allowed = !NO_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden));
    is_name && is_allowed && value.iter().all(|byte| is_field_value(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many bytes belong to the body, in one piece and byte by byte; `None` if it does not end.
    fn end_of(bytes: &[u8]) -> Result<Option<usize>, BadFraming> {
        let whole = follow([bytes]);
        assert_eq!(whole, follow(bytes.chunks(1)), "{}", bytes.escape_ascii());
        whole
    }

    fn follow<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Result<Option<usize>, BadFraming> {
        let mut framing = Framing::default();
        let mut taken = 0;
        for piece in pieces {
            taken += framing.take(piece)?;
        }
        Ok(framing.has_ended().then_some(taken))
    }

    #[test]
    fn sound_bodies_end_where_they_say() {
        for good in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n",
            "00000000000A\r\n0123456789\r\n0\r\n\r\n",
            "2\r\n\r\n\r\n0\r\n\r\n",
            "5;a\r\nhello\r\n0;b=c;d=\"e;\\\" f\"\r\n\r\n",
            "0\r\nX-Checksum: a b\r\nY:\r\n\r\n",
        ] {
            let sent_ahead = format!("{good}POST / HTTP/1.1\r\n");
            assert_eq!(end_of(sent_ahead.as_bytes()), Ok(Some(good.len())), "{good:?}");
            assert_eq!(end_of(&good.as_bytes()[..good.len() - 1]), Ok(None), "{good:?}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_bad_framing() {
        for bad in [
            "\r\n\r\n",
            "\r\n0\r\n\r\n",
            "5\r\nhello\r\n\r\n\r\n",
            "5\r\nhello\r\n\r\n0\r\n\r\n",
            ";a\r\n\r\n",
            "x\r\n",
            "-5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5_0\r\n",
            "1000000000000\r\n",
            "0000000000005\r\nhello\r\n",
            "5\nhello\r\n",
            "5\rhello\r\n",
            "5\r\rhello\r\n",
            "5 \r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5\t\r\nhello\r\n",
            "5 ;a\r\nhello\r\n",
            "5; a\r\nhello\r\n",
            "5;\r\nhello\r\n",
            "5;a=\r\nhello\r\n",
            "5;a =b\r\nhello\r\n",
            "5;a=\"b\r\nhello\r\n",
            "5;a=\"b\\\r\n",
            "5;a=\"b\"c\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\0\r\nhello\r\n",
            "5;a=\u{1}\r\nhello\r\n",
            "5,5\r\nhello\r\n",
            "4\r\nhello\r\n",
            "6\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "0\r\n\n",
            "0\n\r\n",
            "0\r\nX: a\n\r\n",
            "0\r\nX: a\rb\r\n\r\n",
            "0\r\nX: a\0\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: a\r\n\r\n",
            "0\r\nX : a\r\n\r\n",
            "0\r\nX: a\r\n folded\r\n\r\n",
            "0\r\nContent-Length: 5\r\n\r\n",
            "0\r\ntransfer-encoding: chunked\r\n\r\n",
            "0\r\nHOST: a\r\n\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(end_of(bad.as_bytes()), Err(BadFraming), "{bad:?}");
        }
    }

    #[test]
    fn lines_extensions_and_trailers_have_bounds() {
        let line = |bytes: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(bytes - "5;\r\n".len()));
        assert!(end_of(line(LINE_BYTES).as_bytes()).unwrap().is_some());
        assert_eq!(end_of(line(LINE_BYTES + 1).as_bytes()), Err(BadFraming));
        assert_eq!(end_of(&[b'0'; LINE_BYTES + 1]), Err(BadFraming), "without an end");
        let extensions = |count: usize| format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "a".repeat(511)).repeat(count));
        assert!(end_of(extensions(16).as_bytes()).unwrap().is_some());
        assert_eq!(end_of(extensions(17).as_bytes()), Err(BadFraming));
        let trailers = |count: usize| format!("0\r\n{}\r\n", format!("X:{}\r\n", "a".repeat(510)).repeat(count));
        assert!(end_of(trailers(16).as_bytes()).unwrap().is_some());
        assert_eq!(end_of(trailers(17).as_bytes()), Err(BadFraming));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_no_split_changes_the_verdict(
            bytes in "[0-9a-f;=\"\\\\ \r\n:x\\PC]{0,60}", split in 0usize..60,
        ) {
            let bytes = bytes.as_bytes();
            let (first, second) = bytes.split_at(split.min(bytes.len()));
            prop_assert_eq!(follow([first, second]), end_of(bytes));
        }

        #[test]
        fn every_sound_body_is_taken_as_a_whole(chunks in prop::collection::vec("[\\x00-\\x7f]{1,40}", 0..10)) {
            let mut wire: String = chunks.iter().map(|chunk| format!("{:X}\r\n{chunk}\r\n", chunk.len())).collect();
            wire.push_str("0\r\n\r\n");
            prop_assert_eq!(end_of(wire.as_bytes()), Ok(Some(wire.len())));
        }
    }
}
