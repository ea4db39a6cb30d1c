//! What threads and tasks of the committer meet at. A name of its own, so that a test can put the same
//! primitives of a model checker in its place and try the orders in which they may meet.

pub(super) use parking_lot::Mutex;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
pub(super) use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
pub(super) use std::thread;
pub(super) use tokio::time::timeout;
