//! An answer that is read as a whole.

use bytes::Bytes;
use http::HeaderValue;

/// Most of an answer's body that is kept; more than that is not read and costs the connection.
pub const REPLY_BODY_MAX_BYTES: usize = 256 * 1024;

/// What the other side said.
#[derive(Debug)]
pub struct Reply {
    /// The final status.
    pub status: u16,
    /// Its `Retry-After`: with `Date`, of its header all that anybody asks for.
    pub retry_after: Option<HeaderValue>,
    /// Its `Date`, of an answer that is no 2xx.
    pub date: Option<HeaderValue>,
    /// Its body, cut after [`REPLY_BODY_MAX_BYTES`]; empty if its end did not come.
    pub body: Bytes,
    /// Whether its end came, in time and where its length said.
    pub has_ended: bool,
}
