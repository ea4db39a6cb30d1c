//! The bound on the bytes of all bodies that are held at once, whoever sends them.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rejection::Rejection;

/// How much memory bodies may take together (`limits.body_memory`).
#[derive(Debug)]
pub struct BodyMemory {
    held_bytes: AtomicUsize,
    max_bytes: AtomicUsize,
}

impl BodyMemory {
    /// Nothing is held.
    pub fn new(max_bytes: usize) -> BodyMemory {
        BodyMemory { held_bytes: AtomicUsize::new(0), max_bytes: AtomicUsize::new(max_bytes) }
    }

    /// Another bound from now on; what is held stays.
    pub fn set_max(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// The share of one body, empty so far.
    pub fn share(&self) -> Share<'_> {
        Share { memory: self, bytes: 0 }
    }
}

/// What one body holds; given back when dropped.
#[derive(Debug)]
pub struct Share<'m> {
    memory: &'m BodyMemory,
    bytes: usize,
}

impl Share<'_> {
    /// Takes room for bytes that have arrived. A sender that only says it will send some holds none.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] beyond the bound.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Rejection> {
        let held = self.memory.held_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.bytes += bytes;
        if held > self.memory.max_bytes.load(Ordering::Relaxed) { Err(Rejection::Overloaded) } else { Ok(()) }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.memory.held_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_the_memory_and_give_it_back() {
        let memory = BodyMemory::new(10);
        let mut first = memory.share();
        assert_eq!(first.grow(6), Ok(()));
        assert_eq!(first.grow(4), Ok(()));
        assert_eq!(memory.share().grow(1), Err(Rejection::Overloaded));
        drop(first);
        assert_eq!(memory.share().grow(10), Ok(()));
        memory.set_max(5);
        assert_eq!(memory.share().grow(6), Err(Rejection::Overloaded));
    }
}
