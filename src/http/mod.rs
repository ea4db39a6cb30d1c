//! The outside over HTTP/1.1.

pub mod connection;
