//! What is no request, not a whole one, or nearly a genuine one.

use fastrand::Rng;

/// Random bytes, half requests, requests that were changed on the way.
pub fn garbage(random: &mut Rng, genuine: &[u8]) -> Vec<u8> {
    match random.u8(..8) {
        0 => noise(random),
        1 => [b"POST /webhooks/telnyx HTTP/1.1\r\n".as_slice(), &noise(random)].concat(),
        2 => genuine[..random.usize(1..genuine.len())].to_vec(),
        _ => changed(random, genuine),
    }
}

fn noise(random: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(1..4096)];
    random.fill(&mut bytes);
    bytes
}

/// In one to five places, most of them in the header, where every byte has a meaning.
fn changed(random: &mut Rng, genuine: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: usize = 400;
    const ENDS: [[u8; 2]; 5] = [*b"\r\n", *b"\n\n", *b"\r\r", *b"\0\0", *b": "];
    let mut bytes = genuine.to_vec();
    for _ in 0..random.usize(1..6) {
        let end = if random.bool() { bytes.len().min(HEADER_BYTES) } else { bytes.len() };
        let at = random.usize(..end);
        match random.u8(..5) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.u8(..)),
            3 => bytes.splice(at..at, ENDS[random.usize(..ENDS.len())]).for_each(drop),
            _ => {
                let again = bytes[at..(at + random.usize(1..200)).min(bytes.len())].to_vec();
                bytes.splice(at..at, again).for_each(drop);
            }
        }
    }
    bytes
}
