//! A directory that is there as long as the demo.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A directory of our own, for our eyes only, deleted with all it holds on drop.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it under a name that nobody can guess; one that exists already is an error.
    pub(super) fn create() -> std::io::Result<Scratch> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let path = std::env::temp_dir().join(format!("hookward-demo-{:016x}", u64::from_ne_bytes(random)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it, as private.
    pub(super) fn directory(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Writes a file that only we can read.
    pub(super) fn write_secret(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(name))?.write_all(content)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be deleted is left to whoever cleans the temporary directory.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_private_and_leaves_nothing_behind() {
        let scratch = Scratch::create().unwrap();
        scratch.write_secret("key", b"x").unwrap();
        let path = scratch.path().to_owned();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("key")), 0o600);
        assert_eq!(mode(&scratch.directory("data").unwrap()), 0o700);
        assert!(scratch.write_secret("key", b"y").is_err());
        drop(scratch);
        assert!(!path.exists());
    }
}
