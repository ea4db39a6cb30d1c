//! UTF-16, which `>` of Windows PowerShell writes.

/// Code units that are looked at where no byte order mark says that it is UTF-16.
const LOOKED_AT: usize = 32;

type CodeUnit = fn([u8; 2]) -> u16;

/// The text in UTF-8: as it stands there, and without the line ends that PowerShell has made.
pub(super) fn texts(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (bytes, read): (&[u8], CodeUnit) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => (rest, u16::from_be_bytes),
        _ if is_ascii_in_utf16(bytes, 1) => (bytes, u16::from_le_bytes),
        _ if is_ascii_in_utf16(bytes, 0) => (bytes, u16::from_be_bytes),
        _ => return None,
    };
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let text: String = char::decode_utf16(pairs.iter().copied().map(read)).collect::<Result<_, _>>().ok()?;
    let unix = text.replace("\r\n", "\n");
    let without_end = unix.strip_suffix('\n').unwrap_or(&unix).to_owned();
    let mut texts = vec![text, unix, without_end];
    texts.dedup();
    Some(texts.into_iter().map(String::into_bytes).collect())
}

/// Whether every second byte is zero, from this one on, and the others are text.
fn is_ascii_in_utf16(bytes: &[u8], zero_at: usize) -> bool {
    let (pairs, _) = bytes.as_chunks::<2>();
    !pairs.is_empty()
        && pairs
            .iter()
            .take(LOOKED_AT)
            .all(|pair| pair[zero_at] == 0 && matches!(pair[1 - zero_at], 9 | 10 | 13 | 32..=126))
}
