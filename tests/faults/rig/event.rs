//! Events whose body follows from their id, so that anybody can tell whether one was altered.

/// The body of the event with this id: mostly as large as a message, some much larger, so that rows
/// do not all look alike.
pub fn body_for(id: &str) -> Vec<u8> {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let bytes = match hash % 64 {
        0 => 60_000,
        n => 200 + 40 * n as usize,
    };
    let mut random = fastrand::Rng::with_seed(hash);
    let pad: String = std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect();
    format!(r#"{{"data":{{"id":"{id}","event_type":"message.received"}},"pad":"{pad}"}}"#).into_bytes()
}
