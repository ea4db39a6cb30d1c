//! The ways in which an exchange comes to no answer.

use std::sync::Arc;

use thiserror::Error;

use super::tls::TlsFailure;

/// Why there was no answer. Texts say what happened and never quote bytes of request or answer.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ExchangeError {
    /// The name has no address.
    #[error("the name does not resolve")]
    Resolve,
    /// The resolver has not answered, and no address is known.
    #[error("the resolver does not answer, so the name has no address")]
    Resolver,
    /// No connection.
    #[error("cannot connect (refused or unreachable)")]
    Connect,
    /// A connection, and no TLS over it.
    #[error("{0}")]
    Tls(Arc<TlsFailure>),
    /// Connecting took longer than the bound.
    #[error("connecting timed out")]
    ConnectTimeout,
    /// The connection ended or the answer was not HTTP.
    #[error("the connection ended before a complete answer")]
    Broken,
    /// The exchange took longer than the bound.
    #[error("no complete answer in time")]
    Timeout,
    /// A pooled connection was closed by the other side before a byte of an answer.
    #[error("the idle connection had been closed")]
    Stale,
}
