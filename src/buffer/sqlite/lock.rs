//! One hookward per data directory: a lock file beside the database.
//!
//! An own file, because SQLite's locks belong to the process and are dropped by closing any
//! descriptor of the database. The kernel frees it with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Its name within the data directory.
const LOCK_FILE: &str = "hookward.lock";

/// Holds the data directory until dropped.
#[derive(Debug)]
pub struct InstanceLock {
    path: PathBuf,
    file: File,
}

impl InstanceLock {
    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// When the file cannot be made or locked for another reason than another holder.
    pub fn try_take(data_dir: &Path) -> io::Result<Option<InstanceLock>> {
        let path = data_dir.join(LOCK_FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(InstanceLock { path, file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Where it was taken.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The locked file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_the_directory_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let held = InstanceLock::try_take(dir.path()).unwrap();
        assert!(held.is_some());
        assert!(InstanceLock::try_take(dir.path()).unwrap().is_none());
        drop(held);
        assert!(InstanceLock::try_take(dir.path()).unwrap().is_some());
    }
}
