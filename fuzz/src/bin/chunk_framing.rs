//! Where a chunked body ends does not depend on the pieces that it comes in, and a plain decoder that
//! believes the sizes ends it at the same byte.
#![no_main]

use hookward_fuzz::chunk_framing::{BadFraming, Framing};
use libfuzzer_sys::fuzz_target;

/// How many bytes belong to the body, if it ends.
fn follow<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Result<Option<usize>, BadFraming> {
    let mut framing = Framing::default();
    let mut taken = 0;
    for piece in pieces {
        taken += framing.take(piece)?;
    }
    Ok(framing.has_ended().then_some(taken))
}

/// The same by somebody who checks nothing; `None` where that cannot be followed.
fn plain_end(bytes: &[u8]) -> Option<usize> {
    let line_end = |from: usize| bytes[from..].windows(2).position(|pair| pair == b"\r\n").map(|at| from + at);
    let mut at = 0;
    loop {
        let end = line_end(at)?;
        let size = bytes[at..end].split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        at = end + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2)?;
        bytes.get(at - 2..at)?;
    }
    // Trailers, to the empty line.
    loop {
        let end = line_end(at)?;
        let is_last = end == at;
        at = end + 2;
        if is_last {
            return Some(at);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let whole = follow([input].into_iter());
    assert_eq!(follow(input.chunks(1)), whole);
    assert_eq!(follow(input.chunks(3)), whole);
    if let Ok(Some(end)) = whole {
        assert_eq!(plain_end(input), Some(end), "both end it at the same place");
        assert_eq!(follow([&input[..end]].into_iter()), Ok(Some(end)), "what is behind does not matter");
    }
});
