//! Where an HTTP/1.1 message ends, and no more than that: both sides here know what comes.

/// Where the body begins and where it ends, once the head is complete.
pub fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let body_at = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut length = None;
    for line in bytes[..body_at].split(|byte| *byte == b'\n') {
        const NAME: &[u8] = b"content-length:";
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            length = std::str::from_utf8(&line[NAME.len()..]).unwrap().trim().parse().ok();
        }
    }
    let length: usize = length.unwrap_or_else(|| panic!("no length: {}", String::from_utf8_lossy(&bytes[..body_at])));
    Some((body_at, body_at + length))
}
