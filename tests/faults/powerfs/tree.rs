//! The directory tree: names and files, as programs see them and as a power loss leaves them.
//!
//! As POSIX has it, a name is durable once its directory has been synced; syncing the file itself is
//! not enough (many file systems promise more, none has to). A rename is atomic.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fastrand::Rng;
use fuser::{Errno, FileType};

use super::Loss;
use super::content::{Content, Lost};

/// Number of an inode; never used twice.
pub type Ino = u64;
/// That of the root directory, as FUSE demands.
pub const ROOT: Ino = 1;
/// What files are given room in.
pub const BLOCK_BYTES: u64 = 4096;

type Result<T> = std::result::Result<T, Errno>;

/// A file, directory or socket.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub kind: FileType,
    /// Permission bits.
    pub perm: u16,
    /// Of a regular file.
    pub content: Content,
    /// Descriptors that hold it, even without a name.
    opened: u64,
}

/// Directory and name, to inode.
type Names = BTreeMap<(Ino, OsString), Ino>;

/// The tree.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
    names: Names,
    durable: Names,
    /// Since the last sync of the directories they are in, in order.
    unsynced: Vec<Naming>,
}

#[derive(Debug, Clone)]
enum Naming {
    Set { at: (Ino, OsString), ino: Ino },
    Clear { at: (Ino, OsString) },
    Move { from: (Ino, OsString), to: (Ino, OsString), ino: Ino },
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self.clone() {
            Naming::Set { at, ino } => {
                names.insert(at, ino);
            }
            Naming::Clear { at } => {
                names.remove(&at);
            }
            Naming::Move { from, to, ino } => {
                names.remove(&from);
                names.insert(to, ino);
            }
        }
    }

    fn is_in(&self, dir: Ino) -> bool {
        match self {
            Naming::Set { at, .. } | Naming::Clear { at } => at.0 == dir,
            Naming::Move { from, to, .. } => from.0 == dir || to.0 == dir,
        }
    }
}

impl Tree {
    /// An empty root directory.
    pub fn new() -> Tree {
        let root = Node { kind: FileType::Directory, perm: 0o755, content: Content::default(), opened: 0 };
        Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            next_ino: ROOT + 1,
            names: Names::new(),
            durable: Names::new(),
            unsynced: Vec::new(),
        }
    }

    /// The node of a number.
    pub fn node(&self, ino: Ino) -> Result<&Node> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    /// The bytes of a file, to be changed.
    pub fn content(&mut self, ino: Ino) -> Result<&mut Content> {
        self.nodes.get_mut(&ino).map(|node| &mut node.content).ok_or(Errno::ENOENT)
    }

    /// What has this name.
    pub fn find(&self, dir: Ino, name: &OsStr) -> Result<Ino> {
        self.names.get(&(dir, name.to_owned())).copied().ok_or(Errno::ENOENT)
    }

    /// The names in a directory.
    pub fn list(&self, dir: Ino) -> impl Iterator<Item = (&OsStr, Ino)> {
        self.names.range((dir, OsString::new())..(dir + 1, OsString::new())).map(|((_, name), ino)| (&**name, *ino))
    }

    /// Makes a node under a name that is free.
    pub fn create(&mut self, dir: Ino, name: &OsStr, kind: FileType, perm: u16) -> Result<Ino> {
        if self.find(dir, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, Node { kind, perm, content: Content::default(), opened: 0 });
        self.rename_by(Naming::Set { at: (dir, name.to_owned()), ino });
        Ok(ino)
    }

    /// Takes a name away; the node stays while something holds it. A directory must be empty.
    pub fn remove(&mut self, dir: Ino, name: &OsStr) -> Result<()> {
        let ino = self.find(dir, name)?;
        if self.list(ino).next().is_some() {
            return Err(Errno::ENOTEMPTY);
        }
        self.rename_by(Naming::Clear { at: (dir, name.to_owned()) });
        Ok(())
    }

    /// Gives a node another name, which may be taken.
    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<()> {
        let ino = self.find(from.0, from.1)?;
        if self.find(to.0, to.1).is_ok_and(|taken| self.list(taken).next().is_some()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.rename_by(Naming::Move { from: (from.0, from.1.to_owned()), to: (to.0, to.1.to_owned()), ino });
        Ok(())
    }

    fn rename_by(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced.push(naming);
        self.forget_unreachable();
    }

    /// Sets the permission bits.
    pub fn set_perm(&mut self, ino: Ino, perm: u16) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.perm = perm;
        }
    }

    /// Notes a descriptor.
    pub fn open(&mut self, ino: Ino) -> Result<()> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)?.opened += 1;
        Ok(())
    }

    /// Notes that a descriptor is closed.
    pub fn release(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.opened = node.opened.saturating_sub(1);
        }
        self.forget_unreachable();
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&mut self, dir: Ino) {
        let (now, later) = std::mem::take(&mut self.unsynced).into_iter().partition(|naming| naming.is_in(dir));
        self.unsynced = later;
        let now: Vec<Naming> = now;
        for naming in now {
            naming.apply(&mut self.durable);
        }
        self.forget_unreachable();
    }

    /// Bytes that the files take up, in whole blocks.
    pub fn used_bytes(&self) -> u64 {
        let named: BTreeSet<Ino> = self.names.values().copied().collect();
        let held = self.nodes.iter().filter(|(ino, node)| node.opened > 0 || named.contains(ino));
        held.map(|(_, node)| allocated(node.content.len())).sum()
    }

    /// The power goes: the tree becomes what a fresh boot would read. Returns what was lost of it.
    pub fn lose(&mut self, loss: Loss, rng: &mut Rng) -> Lost {
        let mut lost = Lost::default();
        for naming in std::mem::take(&mut self.unsynced) {
            lost.unsynced += 1;
            let survives = match loss {
                Loss::Nothing => true,
                Loss::Drop => false,
                Loss::Reorder | Loss::Tear => rng.bool(),
            };
            if survives {
                naming.apply(&mut self.durable);
            } else {
                lost.gone += 1;
            }
        }
        self.names.clone_from(&self.durable);
        for node in self.nodes.values_mut() {
            node.opened = 0;
        }
        self.forget_unreachable();
        // What a lost directory held is not found either.
        self.durable.retain(|(dir, _), _| self.nodes.contains_key(dir));
        self.names.clone_from(&self.durable);
        for node in self.nodes.values_mut() {
            lost += node.content.lose(loss, rng);
        }
        lost
    }

    /// Drops the nodes that no name can lead to any more, before or after a power loss.
    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([ROOT]);
        let unsynced = self.unsynced.iter().filter_map(|naming| match naming {
            Naming::Set { at, ino } | Naming::Move { to: at, ino, .. } => Some((at.0, *ino)),
            Naming::Clear { .. } => None,
        });
        let named = self.names.iter().chain(&self.durable).map(|((dir, _), ino)| (*dir, *ino));
        // A directory's number is smaller than that of what was made in it, but not than that of
        // what was moved into it: until nothing more is found.
        let edges: Vec<(Ino, Ino)> = named.chain(unsynced).collect();
        loop {
            let before = reachable.len();
            for (dir, ino) in &edges {
                if reachable.contains(dir) {
                    reachable.insert(*ino);
                }
            }
            if reachable.len() == before {
                break;
            }
        }
        self.nodes.retain(|ino, node| node.opened > 0 || reachable.contains(ino));
    }
}

/// Room that so many bytes take up.
pub fn allocated(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn file(tree: &mut Tree, dir: Ino, text: &str) -> Ino {
        tree.create(dir, name(text), FileType::RegularFile, 0o600).unwrap()
    }

    fn names(tree: &Tree, dir: Ino) -> Vec<&str> {
        tree.list(dir).map(|(name, _)| name.to_str().unwrap()).collect()
    }

    #[test]
    fn a_name_is_durable_once_its_directory_is_synced() {
        let mut tree = Tree::new();
        let synced = file(&mut tree, ROOT, "synced");
        tree.sync_dir(ROOT);
        let other = file(&mut tree, ROOT, "other");
        tree.content(other).unwrap().write(0, b"data");
        tree.content(other).unwrap().sync();
        assert_eq!(tree.lose(Loss::Drop, &mut Rng::with_seed(0)), Lost { unsynced: 1, gone: 1 });
        assert_eq!(names(&tree, ROOT), ["synced"]);
        assert_eq!(tree.find(ROOT, name("synced")).unwrap(), synced);
        assert!(tree.node(other).is_err());
    }

    #[test]
    fn a_rename_is_whole_or_not_at_all() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let mut tree = Tree::new();
            let old = file(&mut tree, ROOT, "file");
            let new = file(&mut tree, ROOT, "file.new");
            tree.sync_dir(ROOT);
            tree.rename((ROOT, name("file.new")), (ROOT, name("file"))).unwrap();
            assert_eq!((names(&tree, ROOT), tree.find(ROOT, name("file"))), (vec!["file"], Ok(new)));
            tree.lose(Loss::Reorder, &mut Rng::with_seed(seed));
            let found = tree.find(ROOT, name("file")).unwrap();
            assert_eq!(names(&tree, ROOT).len(), if found == new { 1 } else { 2 });
            seen.insert(found == old);
        }
        assert_eq!(seen.len(), 2, "both happen");
    }

    #[test]
    fn what_a_lost_directory_held_is_lost_with_it() {
        let mut tree = Tree::new();
        let dir = tree.create(ROOT, name("dir"), FileType::Directory, 0o700).unwrap();
        let inside = file(&mut tree, dir, "inside");
        tree.sync_dir(dir);
        tree.lose(Loss::Drop, &mut Rng::with_seed(0));
        assert!(tree.node(dir).is_err() && tree.node(inside).is_err() && names(&tree, ROOT).is_empty());
    }

    #[test]
    fn an_unlink_that_was_not_synced_may_be_undone_with_all_its_data() {
        let mut tree = Tree::new();
        let ino = file(&mut tree, ROOT, "file");
        tree.content(ino).unwrap().write(0, b"data");
        tree.content(ino).unwrap().sync();
        tree.sync_dir(ROOT);
        tree.remove(ROOT, name("file")).unwrap();
        assert_eq!(tree.used_bytes(), 0, "its room is free");
        tree.lose(Loss::Drop, &mut Rng::with_seed(0));
        assert_eq!(tree.node(ino).unwrap().content.read(0, 9), b"data");
        tree.remove(ROOT, name("file")).unwrap();
        tree.sync_dir(ROOT);
        assert!(tree.node(ino).is_err(), "nothing leads to it any more");
    }

    #[test]
    fn a_file_without_a_name_stays_while_it_is_open() {
        let mut tree = Tree::new();
        let ino = file(&mut tree, ROOT, "file");
        tree.open(ino).unwrap();
        tree.content(ino).unwrap().write(0, &[1; 5000]);
        tree.remove(ROOT, name("file")).unwrap();
        tree.sync_dir(ROOT);
        assert_eq!(tree.used_bytes(), 8192);
        tree.release(ino);
        assert!(tree.node(ino).is_err() && tree.used_bytes() == 0);
    }
}
