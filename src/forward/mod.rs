//! Deliveries to the apps behind hookward.

pub mod backoff;
pub mod client;
