//! The commands.

pub mod demo;
pub mod keygen;
mod output;
pub mod sample;
pub mod secret_key;
pub mod send;
pub mod sign;
