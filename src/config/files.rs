//! The files that a configuration was made of, and whether they have changed since.
//!
//! Files are looked at, not subscribed to: it costs microseconds a second, works on every file
//! system, and sees Kubernetes swap the symlink that a mounted Secret hangs on. A change counts once
//! it has stood still, since a file that is being written may be read as a shorter one that is
//! perfectly well formed.

use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another without reading it; `None` for one that cannot be
/// read.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn stamp_of(metadata: &Metadata) -> Stamp {
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

fn stamp_at(path: &Path) -> Stamp {
    std::fs::metadata(path).ok().as_ref().and_then(stamp_of)
}

/// Reads files and remembers them as they were before they were read.
#[derive(Debug, Default)]
pub struct FilesRead(RefCell<Vec<(PathBuf, Stamp)>>);

impl FilesRead {
    /// Reads a file up to `max_bytes` and one byte more, by which a larger one can be told.
    ///
    /// # Errors
    /// What the system says; the file is remembered all the same, so that its coming is noticed.
    pub fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let opened = File::open(path);
        let stamp = opened.as_ref().ok().and_then(|file| file.metadata().ok()).as_ref().and_then(stamp_of);
        self.0.borrow_mut().push((path.to_owned(), stamp));
        let mut bytes = Vec::new();
        opened?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What to watch from now on.
    pub fn into_watch(self) -> Watch {
        Watch { files: self.0.into_inner(), seen: None }
    }
}

/// Files whose change is waited for.
#[derive(Debug, Default)]
pub struct Watch {
    files: Vec<(PathBuf, Stamp)>,
    /// What the last look found, if it was a change.
    seen: Option<Vec<Stamp>>,
}

impl Watch {
    /// Looks once. True when the files differ from what was read and are as they were at the last
    /// look; to be called in a steady rhythm.
    pub fn has_settled_change(&mut self) -> bool {
        let now: Vec<Stamp> = self.files.iter().map(|(path, _)| stamp_at(path)).collect();
        let changed = self.files.iter().zip(&now).any(|((_, read), now)| read != now);
        let settled = changed && self.seen.as_ref() == Some(&now);
        self.seen = changed.then_some(now);
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(paths: &[&Path]) -> Watch {
        let files = FilesRead::default();
        for path in paths {
            let _ = files.read(path, 100);
        }
        files.into_watch()
    }

    #[test]
    fn a_change_counts_once_it_has_stood_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut watch = watch(&[&path]);
        assert!(!watch.has_settled_change() && !watch.has_settled_change());
        std::fs::write(&path, "two!").unwrap();
        assert!(!watch.has_settled_change(), "it may be in the middle of being written");
        std::fs::write(&path, "three").unwrap();
        assert!(!watch.has_settled_change());
        assert!(watch.has_settled_change());
    }

    #[test]
    fn a_swapped_symlink_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("key"), version).unwrap();
        }
        // As Kubernetes mounts a Secret: key -> ..data/key, ..data -> v1.
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/key", at("key")).unwrap();
        let mut watch = watch(&[&at("key")]);
        std::os::unix::fs::symlink("v2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(!watch.has_settled_change());
        assert!(watch.has_settled_change());
    }

    #[test]
    fn a_file_that_was_missing_is_noticed_when_it_comes_and_one_that_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let (comes, goes) = (dir.path().join("comes"), dir.path().join("goes"));
        std::fs::write(&goes, "x").unwrap();
        let mut watch_comes = watch(&[&comes]);
        let mut watch_goes = watch(&[&goes]);
        assert!(!watch_comes.has_settled_change() && !watch_goes.has_settled_change());
        std::fs::write(&comes, "x").unwrap();
        std::fs::remove_file(&goes).unwrap();
        for watch in [&mut watch_comes, &mut watch_goes] {
            assert!(!watch.has_settled_change());
            assert!(watch.has_settled_change());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_a_byte_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(FilesRead::default().read(&path, 4).unwrap(), b"01234");
        assert_eq!(FilesRead::default().read(&path, 10).unwrap(), b"0123456789");
    }
}
