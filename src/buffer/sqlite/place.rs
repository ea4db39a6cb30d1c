//! The files that are open, and a look whether their paths still lead to them.
//!
//! A data directory that is removed, moved or replaced under a running process takes nothing away from it: SQLite goes
//! on writing, into files that no later start will find. So a commit counts only once a look behind it has found the
//! database, its log and the instance lock at their paths.
//!
//! Nothing is opened for that, since closing a descriptor of the database would drop SQLite's locks: a `stat` of each
//! path gives device and inode. Each file is held by an `O_PATH` descriptor, which is no open file and drops no lock
//! when it is closed (open(2); the kernel's `filp_close` passes it over). While it is held, the kernel gives the number
//! of the inode to no other file, and an operator can still copy what was unlinked, from `/proc/PID/fd`.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat};
use thiserror::Error;

use super::LOG_FILE;
use super::lock::InstanceLock;

/// What an engine works on, for as long as the process lives.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    database: Held,
    log: Held,
    /// Absent where nobody else can come: in tools and tests.
    lock: Option<Held>,
}

/// A path that leads elsewhere by now.
#[derive(Debug, Error)]
#[error(
    "{}: {what}; nothing is stored until the very same file stands there again, or hookward is started again", .path.display()
)]
pub struct Displaced {
    path: PathBuf,
    what: String,
    /// Whether the database and the lock stand where they stood.
    pub(super) is_log_alone: bool,
}

impl Place {
    /// The place of a database that SQLite has opened, and that was held before.
    ///
    /// # Errors
    /// Its log or the lock cannot be found, or the lock is another's.
    pub(super) fn of(dir: &Path, database: Held, lock: Option<&InstanceLock>) -> io::Result<Place> {
        let log = Held::take(&dir.join(LOG_FILE))?;
        let lock = lock.map(|lock| Held::take(lock.path()).and_then(|held| held.must_be(lock))).transpose()?;
        Ok(Place { dir: dir.to_owned(), database, log, lock })
    }

    /// The data directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Holds every path against what was opened there.
    pub(super) fn look(&self) -> Result<(), Displaced> {
        self.database.look()?;
        self.lock.as_ref().map_or(Ok(()), Held::look)?;
        self.log.look().map_err(|displaced| Displaced { is_log_alone: true, ..displaced })
    }
}

/// A file by its path and by what it is.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    id: FileId,
    /// Held, so that the id stays its own.
    _file: OwnedFd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(stat: &Stat) -> FileId {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl Held {
    /// Holds the file that stands at this path now.
    pub(super) fn take(path: &Path) -> io::Result<Held> {
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let id = FileId::of(&rustix::fs::fstat(&file)?);
        Ok(Held { path: path.to_owned(), id, _file: file })
    }

    fn must_be(self, lock: &InstanceLock) -> io::Result<Held> {
        match FileId::of(&rustix::fs::fstat(lock.file())?) == self.id {
            true => Ok(self),
            false => Err(io::Error::new(ErrorKind::NotFound, "the instance lock was replaced while hookward started")),
        }
    }

    fn look(&self) -> Result<(), Displaced> {
        let what = match rustix::fs::stat(&self.path) {
            Ok(found) if FileId::of(&found) == self.id => return Ok(()),
            Ok(_) => "another file stands there, not the one that is open".to_owned(),
            Err(rustix::io::Errno::NOENT) => "it was removed or moved away while it is open".to_owned(),
            Err(error) => format!("whether it is the file that is open cannot be seen any more: {error}"),
        };
        Err(Displaced { path: self.path.clone(), what, is_log_alone: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::sqlite::DATABASE_FILE;

    fn place(dir: &Path) -> Place {
        for file in [DATABASE_FILE, LOG_FILE] {
            std::fs::write(dir.join(file), file).unwrap();
        }
        let lock = InstanceLock::try_take(dir).unwrap().unwrap();
        Place::of(dir, Held::take(&dir.join(DATABASE_FILE)).unwrap(), Some(&lock)).unwrap()
    }

    #[test]
    fn each_file_is_missed_wherever_it_has_gone_and_found_again_when_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        place.look().unwrap();
        for (file, is_log) in [(DATABASE_FILE, false), (LOG_FILE, true), ("hookward.lock", false)] {
            let (path, aside) = (dir.path().join(file), dir.path().join("aside"));
            std::fs::rename(&path, &aside).unwrap();
            let displaced = place.look().unwrap_err();
            assert!(displaced.to_string().contains(file) && displaced.to_string().contains("removed"), "{displaced}");
            assert_eq!(displaced.is_log_alone, is_log);
            std::fs::copy(&aside, &path).unwrap();
            let displaced = place.look().unwrap_err().to_string();
            assert!(displaced.contains("another file"), "a copy is not the file: {displaced}");
            std::fs::rename(&aside, &path).unwrap();
            place.look().unwrap();
        }
    }

    #[test]
    fn a_new_file_never_passes_for_one_that_was_unlinked() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let path = dir.path().join(DATABASE_FILE);
        // Without a hold on it, file systems give the number of an inode to the next file.
        for _ in 0..100 {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "another").unwrap();
            assert!(place.look().is_err());
        }
    }

    #[test]
    fn a_lock_that_was_replaced_before_it_could_be_held_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOG_FILE), "").unwrap();
        std::fs::write(dir.path().join(DATABASE_FILE), "").unwrap();
        let lock = InstanceLock::try_take(dir.path()).unwrap().unwrap();
        std::fs::rename(lock.path(), dir.path().join("aside")).unwrap();
        std::fs::write(lock.path(), "").unwrap();
        let database = Held::take(&dir.path().join(DATABASE_FILE)).unwrap();
        assert!(Place::of(dir.path(), database, Some(&lock)).is_err());
    }
}
