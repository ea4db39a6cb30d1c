//! Requests that have been here before: an upstream leads back to hookward. `Via` tells (RFC 9110
//! §7.6.3): every hookward that forwards a request adds its pseudonym. Pure.

use bytes::Bytes;
use http::{HeaderMap, Version};

use crate::rejection::Rejection;

/// Every pseudonym begins so.
const PREFIX: &str = "hookward-";
/// Most hookwards that a request may have passed. A gateway before a cluster's gateway before a
/// sidecar are three; a ring of replicas whose pseudonyms change ends here.
const HOPS_MAX: usize = 8;

/// The name of this instance in `Via`. It says nothing of host or data.
#[derive(Debug, Clone)]
pub struct Pseudonym {
    name: String,
    /// The members that it adds to `Via`, for a request received as HTTP/1.1 and as HTTP/1.0.
    via: [Bytes; 2],
}

impl Pseudonym {
    /// The pseudonym made of the higher 48 of these bits, which must not be a secret.
    pub fn new(bits: u64) -> Pseudonym {
        let name = format!("{PREFIX}{:012x}", bits >> 16);
        let via = ["1.1", "1.0"].map(|version| format!("{version} {name}").into());
        Pseudonym { name, via }
    }

    /// What is added to `Via` of a request received in this version.
    pub fn via(&self, received: Version) -> &[u8] {
        &self.via[usize::from(received == Version::HTTP_10)]
    }

    /// Refuses a request that this instance has forwarded before, or that too many others have.
    /// Whatever else `Via` holds is no reason to refuse: proxies write it in many ways.
    ///
    /// # Errors
    /// [`Rejection::LoopDetected`].
    pub fn refuse_loop(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let mut hops = 0;
        for line in headers.get_all(http::header::VIA) {
            let words = line.as_bytes().split(|byte| matches!(byte, b',' | b' ' | b'\t'));
            for word in words.filter(|word| word.starts_with(PREFIX.as_bytes())) {
                hops += 1;
                if word == self.name.as_bytes() || hops > HOPS_MAX {
                    return Err(Rejection::LoopDetected);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn judged(pseudonym: &Pseudonym, lines: &[&[u8]]) -> Result<(), Rejection> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(http::header::VIA, HeaderValue::from_bytes(line).unwrap());
        }
        pseudonym.refuse_loop(&headers)
    }

    #[test]
    fn the_member_that_is_added_tells_the_version_that_was_received() {
        let ours = Pseudonym::new(0xab << 16);
        assert_eq!(ours.via(Version::HTTP_11), b"1.1 hookward-0000000000ab");
        assert_eq!(ours.via(Version::HTTP_10), b"1.0 hookward-0000000000ab");
    }

    #[test]
    fn what_has_been_here_is_refused_however_the_hops_between_write_via() {
        let ours = Pseudonym::new(u64::MAX);
        let name = ours.name.as_bytes();
        for before in [&b""[..], b"1.1 Caddy, ", b"1.1 varnish (Varnish/7.1),", b"1.0 a (x, y),\t", b"HTTP/1.1 b:80 ,"]
        {
            for after in [&b""[..], b", 1.1 Caddy", b",1.1 squid (squid/5.7)", b" (comment)"] {
                let line = [before, b"1.1 ", name, after].concat();
                assert_eq!(judged(&ours, &[&line]), Err(Rejection::LoopDetected), "{}", line.escape_ascii());
                assert_eq!(judged(&ours, &[b"1.1 x", &line]), Err(Rejection::LoopDetected), "in a line of its own");
            }
        }
    }

    #[test]
    fn what_others_have_passed_on_is_taken_up_to_a_bound() {
        let ours = Pseudonym::new(u64::MAX);
        let others: Vec<_> = (0..9).map(|n| Pseudonym::new(n << 16)).collect();
        let lines: Vec<_> = others.iter().map(|other| other.via(Version::HTTP_11)).collect();
        assert_eq!(judged(&ours, &lines[..8]), Ok(()));
        assert_eq!(judged(&ours, &lines), Err(Rejection::LoopDetected));
        assert_eq!(judged(&ours, &[&lines.join(&b", "[..])]), Err(Rejection::LoopDetected), "in one line");
        let near =
            [&ours.name.as_bytes()[..20], b", 1.1 x", ours.name.as_bytes(), b", 1.1 ", ours.name.as_bytes(), b"0"];
        assert_eq!(judged(&ours, &[&near.concat()]), Ok(()));
    }

    proptest! {
        #[test]
        fn no_other_via_refuses_a_request(line in "[ -~\u{80}-\u{ff}\t]{0,100}") {
            prop_assume!(!line.contains(PREFIX));
            prop_assert_eq!(judged(&Pseudonym::new(7), &[line.as_bytes()]), Ok(()));
        }
    }
}
