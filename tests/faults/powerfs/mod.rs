//! A file system whose power can be cut: it keeps apart what programs see and what the disk has.
//!
//! It holds one directory tree in memory, mounted through FUSE. After [`PowerFs::power_loss`] the
//! tree is what a fresh boot would read: what was synced, and of the rest nothing, any part in any
//! order, or torn writes, from a seed. Calls can be counted, made to fail, and accompanied by an
//! action, such as a SIGKILL right before a write; the disk can be full.
//!
//! # What it assumes of disks
//! A sync that returned without an error keeps what it covers. A sector of 512 bytes is written
//! whole or not at all, and writing one does not harm its neighbours. A rename is atomic, and like
//! every change of a name durable once the directory has been synced, no earlier.
//!
//! # What is absent
//! Links, times, permission checks, extended attributes, `mmap` of shared pages. Locks are kept by
//! the kernel, as nobody else mounts the tree.

mod content;
mod kernel;
mod plan;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use fuser::{BackgroundSession, Config, Errno, MountOption};
use tempfile::TempDir;

pub use content::Lost;
use kernel::{Disk, Served};
pub use plan::Call;

/// What a power loss does to that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None of it is lost: the machine stayed on, and only the process died.
    Nothing,
    /// All of it is gone.
    Drop,
    /// Any of it may have reached the disk, later changes without earlier ones.
    Reorder,
    /// The same, and of a write any of its sectors.
    Tear,
}

impl Loss {
    /// The ways in which something is lost.
    pub const ALL: [Loss; 3] = [Loss::Drop, Loss::Reorder, Loss::Tear];
}

/// Threads that serve calls: a slow sync must not hold up the others.
const THREADS: usize = 3;

/// The mounted file system. Unmounted when dropped, after a panic too.
pub struct PowerFs {
    disk: Arc<Disk>,
    session: Option<BackgroundSession>,
    // Last: the directory is removed once nothing is mounted there.
    dir: TempDir,
}

impl PowerFs {
    /// Mounts an empty one of this capacity. The seed decides what a failed sync has written.
    ///
    /// # Errors
    /// When it cannot be mounted: without `/dev/fuse`, or neither as root nor with `fusermount3`.
    pub fn mount(seed: u64, capacity_bytes: u64) -> io::Result<PowerFs> {
        let dir = TempDir::with_prefix("hookward-powerfs-")?;
        let disk = Arc::new(Disk::new(seed, capacity_bytes));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("powerfs".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(Served(disk.clone()), dir.path(), &config)?;
        Ok(PowerFs { disk, session: Some(session), dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Cuts the power: from now on every call fails with EIO and nothing reaches the disk. To be
    /// called before whoever uses it is killed, so that the loss comes at any moment of theirs.
    pub fn power_off(&self) {
        self.disk.power_off();
    }

    /// Brings the power back: the tree is what a fresh boot would read. Files that were open stay
    /// dead. Forgets what was planned.
    pub fn power_on(&self, seed: u64, loss: Loss) -> Lost {
        self.disk.power_on(seed, loss)
    }

    /// Cuts the power and brings it back.
    pub fn power_loss(&self, seed: u64, loss: Loss) -> Lost {
        self.power_off();
        self.power_on(seed, loss)
    }

    /// A handle for actions, which outlive the borrow of this one.
    pub fn switch(&self) -> Switch {
        Switch(self.disk.clone())
    }

    /// Calls of a kind so far.
    pub fn count(&self, call: Call) -> u64 {
        self.disk.plan().count(call)
    }

    /// From now on, the `nth` call (from 1) of these kinds and the following, `calls` in all, fail.
    /// Each of them is told to the receiver.
    pub fn fail(&self, kinds: &[Call], nth: u64, calls: u64, errno: Errno) -> Receiver<Call> {
        self.disk.plan().fail(kinds, nth, calls, errno)
    }

    /// Does something in place of the `nth` call from now of these kinds, which then fails with EIO.
    pub fn before(&self, kinds: &[Call], nth: u64, action: impl FnOnce() + Send + 'static) {
        self.disk.plan().before(kinds, nth, Box::new(action));
    }

    /// Does something when the `nth` call from now of these kinds has happened, before it is
    /// answered.
    pub fn after(&self, kinds: &[Call], nth: u64, action: impl FnOnce() + Send + 'static) {
        self.disk.plan().after(kinds, nth, Box::new(action));
    }

    /// Forgets every planned failure and action.
    pub fn heal(&self) {
        self.disk.plan().clear();
    }

    /// Sets how much it holds; what is there already stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.set_capacity(bytes);
    }

    /// Bytes that its files take up.
    pub fn used_bytes(&self) -> u64 {
        self.disk.used_bytes()
    }

    /// Sets how long a sync takes at least.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.disk.set_sync_delay(delay);
    }
}

/// The power switch alone.
#[derive(Clone)]
pub struct Switch(Arc<Disk>);

impl Switch {
    /// See [`PowerFs::power_off`].
    pub fn power_off(&self) {
        self.0.power_off();
    }
}

impl Drop for PowerFs {
    fn drop(&mut self) {
        self.disk.plan().clear();
        let Some(session) = self.session.take() else { return };
        if let Err(error) = session.umount_and_join() {
            // Somebody still holds a file: it goes when they do.
            eprintln!("{}: {error}; detached", self.path().display());
            let _ = std::process::Command::new("umount").arg("--lazy").arg(self.path()).status();
        }
    }
}

#[cfg(test)]
mod tests;
