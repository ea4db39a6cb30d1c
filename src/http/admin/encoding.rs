//! The body of `/metrics`, compressed where the client prefers that.

use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Text is gathered to pieces of this size for the compressor.
const PIECE_BYTES: usize = 64 << 10;

/// A coding of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// The coding that the `Accept-Encoding` fields of a request prefer. Source: RFC 9110 §12.4.2, §12.5.3.
    pub(super) fn preferred<'f>(fields: impl IntoIterator<Item = &'f [u8]>) -> Coding {
        let (mut gzip, mut identity, mut any) = (None, None, None);
        for element in fields.into_iter().flat_map(|field| field.split(|byte| *byte == b',')) {
            let (name, weight) = weighed(element);
            match name.to_ascii_lowercase().as_slice() {
                // RFC 9110 §8.4.1.3: another name of it.
                b"gzip" | b"x-gzip" => gzip = Some(weight),
                b"identity" => identity = Some(weight),
                b"*" => any = Some(weight),
                _ => {}
            }
        }
        // A coding that is not named is refused; the body as it is, is only less welcome.
        let gzip = gzip.or(any).unwrap_or(0);
        if gzip > 0 && gzip >= identity.unwrap_or(0) { Coding::Gzip } else { Coding::Identity }
    }

    /// Lets `write` write a body in this coding.
    pub(super) fn encode<E>(self, write: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> io::Result<Vec<u8>>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        match self {
            Coding::Identity => {
                let mut body = Vec::new();
                write(&mut body).map_err(io::Error::other)?;
                Ok(body)
            }
            Coding::Gzip => {
                let encoder = GzEncoder::new(Vec::new(), Compression::fast());
                let mut pieces = BufWriter::with_capacity(PIECE_BYTES, encoder);
                write(&mut pieces).map_err(io::Error::other)?;
                pieces.into_inner()?.finish()
            }
        }
    }
}

/// The name of a coding, and its weight in thousandths; one that cannot be read refuses the coding.
fn weighed(element: &[u8]) -> (&[u8], u16) {
    let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    let weight = match parts.next() {
        None => Some(1000),
        Some([b'q' | b'Q', b'=', weight @ ..]) => thousandths(weight),
        Some(_) => None,
    };
    (name, weight.unwrap_or(0))
}

/// `0`, `0.5`, `1.000`: at most three decimals, at most one.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole, b'.', decimals @ ..] => (whole, decimals),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = [*whole].into_iter().chain(decimals.iter().copied()).chain(*b"000").take(4);
    let weight = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_chosen_where_the_client_takes_it_and_prefers_nothing_else() {
        let preferred = |fields: &[&str]| Coding::preferred(fields.iter().map(|field| field.as_bytes()));
        for fields in [
            &["gzip"][..],
            &["GZIP"],
            &["x-gzip"],
            &["deflate, gzip;q=1.0, *;q=0.5"],
            &["gzip; q=0.001"],
            &["*"],
            &["br", "gzip"],
            &["identity;q=0.5, gzip;q=0.5"],
            &["identity;q=0, *;q=1"],
            &["gzip;q=0.5, *;q=0"],
        ] {
            assert_eq!(preferred(fields), Coding::Gzip, "{fields:?}");
        }
        for fields in [
            &[][..],
            &[""],
            &["br, zstd"],
            &["identity"],
            &["gzip;q=0"],
            &["gzip;q=0.000"],
            &["gzip;q=0, *"],
            &["identity, gzip;q=0.9"],
            &["gzip;q=2"],
            &["gzip;q=1.001"],
            &["gzip;q=0.1234"],
            &["gzip;q=x"],
            &["gzip;q="],
            &["gzip;level=9"],
            &["gzipped"],
            &["*;q=0"],
        ] {
            assert_eq!(preferred(fields), Coding::Identity, "{fields:?}");
        }
    }

    #[test]
    fn a_body_is_the_same_in_either_coding() {
        let text = "hookward_requests_total 1\n".repeat(10_000);
        let write = |out: &mut dyn Write| out.write_all(text.as_bytes());
        assert_eq!(Coding::Identity.encode(write).unwrap(), text.as_bytes());
        let compressed = Coding::Gzip.encode(write).unwrap();
        let mut decoded = String::new();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut decoded).unwrap();
        assert!(decoded == text && compressed.len() < text.len() / 10);
    }
}
