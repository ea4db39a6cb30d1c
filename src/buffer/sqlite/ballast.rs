//! Room kept back for the day the disk is full: to delete, SQLite has to write first. The file is
//! given up when a commit finds no room, so that completions go on and make some, and is made again
//! once there is plenty.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::buffer::durability::Space;

/// The file within the data directory.
pub(super) const BALLAST_FILE: &str = "ballast";
/// Its size: measured, 16 MB on a full 160 MB ext4 let 60,736 completions through.
pub(super) const BALLAST_BYTES: u64 = 16 << 20;
/// It is made only where this many times its size is free.
const FREE_TIMES: u64 = 8;
/// Written at once.
const PIECE_BYTES: usize = 1 << 20;

/// The file: there, being made, or given up.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    is_there: bool,
    /// Made on a thread of its own: writing and syncing it takes longer than a sender waits.
    making: Option<JoinHandle<io::Result<()>>>,
}

impl Ballast {
    /// That of a data directory, whatever an earlier run has left of it.
    pub(super) fn of(dir: &Path) -> Ballast {
        let path = dir.join(BALLAST_FILE);
        let is_there = path.metadata().is_ok_and(|found| found.len() == BALLAST_BYTES);
        Ballast { path, is_there, making: None }
    }

    /// Begins to make it if it is missing and the disk has plenty; to be called again and again.
    pub(super) fn keep(&mut self, space: Space) {
        if let Some(making) = self.making.take_if(|making| making.is_finished()) {
            match making.join() {
                Ok(Ok(())) => self.is_there = true,
                // What is missing is only a reserve; it is tried again.
                Ok(Err(error)) => tracing::warn!(%error, "the ballast file cannot be made"),
                Err(_) => {}
            }
        }
        let wanted = !self.is_there && self.making.is_none();
        if wanted && !space.is_low() && space.free_bytes >= BALLAST_BYTES * FREE_TIMES {
            let path = self.path.clone();
            let make = move || {
                make(&path).inspect_err(|_| {
                    let _ = std::fs::remove_file(&path);
                })
            };
            self.making = std::thread::Builder::new().name("hookward-ballast".to_owned()).spawn(make).ok();
        }
    }

    /// Gives the room to the database. False if there was none to give.
    pub(super) fn give_up(&mut self) -> bool {
        let given = std::mem::take(&mut self.is_there) && std::fs::remove_file(&self.path).is_ok();
        if given {
            tracing::warn!(
                bytes = BALLAST_BYTES,
                "the disk is full: the ballast file is given up so that deliveries can be noted; make room on the disk"
            );
        }
        given
    }
}

/// Written, not only reserved: a sparse file or a compressing file system would keep no room.
fn make(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    fastrand::fill(&mut piece);
    for _ in 0..BALLAST_BYTES / PIECE_BYTES as u64 {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const PLENTY: Space = Space { free_bytes: 10 << 30, total_bytes: 20 << 30 };

    fn keep_until_there(ballast: &mut Ballast) {
        while !ballast.is_there {
            ballast.keep(PLENTY);
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_is_made_where_there_is_plenty_and_given_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::of(dir.path());
        ballast.keep(Space { free_bytes: 100_000_000, total_bytes: 20 << 30 });
        assert!(ballast.making.is_none(), "the disk is low");
        keep_until_there(&mut ballast);
        let found = dir.path().join(BALLAST_FILE).metadata().unwrap();
        assert_eq!(found.len(), BALLAST_BYTES);
        assert!(found.blocks() * 512 >= BALLAST_BYTES, "not sparse");
        assert_eq!(found.mode() & 0o777, 0o600);
        assert!(Ballast::of(dir.path()).is_there, "a later run finds it");
        assert!(ballast.give_up() && !dir.path().join(BALLAST_FILE).exists());
        assert!(!ballast.give_up());
        keep_until_there(&mut ballast);
    }

    #[test]
    fn what_a_crash_left_half_made_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(BALLAST_FILE), "half").unwrap();
        let mut ballast = Ballast::of(dir.path());
        assert!(!ballast.is_there);
        keep_until_there(&mut ballast);
        assert_eq!(dir.path().join(BALLAST_FILE).metadata().unwrap().len(), BALLAST_BYTES);
    }
}
