//! The outside over HTTP/1.1: pingora's sessions in, answers out.

pub mod admin;
pub mod answer;
mod app_answer;
pub mod body;
pub mod body_memory;
pub mod chunk_framing;
pub mod chunked;
pub mod closing;
pub mod connection;
pub mod head;
pub mod lingering;
pub mod listener;
pub mod open_connections;
pub mod proxy_protocol;
pub mod relay;
pub mod request_ids;
pub mod request_log;
mod respond;
pub mod session;
pub mod tls;
