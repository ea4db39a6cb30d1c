//! x
use std::time::Duration;
/// Bounds of the public side.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// From the first byte of a request to the end of its header.
    pub header_timeout: Duration,
    /// Total time of a body.
    pub body_timeout: Duration,
    /// Size of a request header, bytes.
    pub header_bytes: usize,
    /// Fields of a request header.
    pub header_count: usize,
    /// Length of a request target, bytes.
    pub uri_bytes: usize,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
}

