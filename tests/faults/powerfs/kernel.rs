//! The kernel's side: FUSE requests onto the tree, under the plan.
//!
//! The kernel caches nothing of it: data goes past the page cache (`FOPEN_DIRECT_IO`), attributes and
//! names are valid for no time. So nothing of before a power loss is read after it. Every descriptor
//! carries the number of the boot it was opened in.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::Loss;
use super::content::Lost;
use super::plan::{Call, Plan};
use super::tree::{BLOCK_BYTES, Ino, ROOT, Tree, allocated};

type Result<T> = std::result::Result<T, Errno>;

/// How long the kernel may believe an attribute or a name.
const VALID: Duration = Duration::ZERO;

// open(2), stat(2), fallocate(2), renameat2(2).
const O_EXCL: i32 = 0o200;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFSOCK: u32 = 0o140_000;
const FALLOC_FL_KEEP_SIZE: i32 = 1;

/// The disk and the machine it is in.
pub struct Disk(Mutex<State>);

struct State {
    tree: Tree,
    plan: Plan,
    rng: Rng,
    capacity_bytes: u64,
    sync_delay: Duration,
    is_on: bool,
    /// Counted up by every power loss.
    boot: u64,
}

impl State {
    fn powered(&mut self) -> Result<&mut State> {
        if self.is_on { Ok(self) } else { Err(Errno::EIO) }
    }

    /// Whether a file may take up this much instead of what it does.
    fn make_room(&self, now_bytes: u64, wanted_bytes: u64) -> Result<()> {
        let (now, wanted) = (allocated(now_bytes), allocated(wanted_bytes));
        if wanted > now && self.tree.used_bytes() - now + wanted > self.capacity_bytes {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn attr(&self, ino: Ino) -> Result<FileAttr> {
        let node = self.tree.node(ino)?;
        let size = node.content.len();
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: allocated(size) / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: node.kind,
            perm: node.perm,
            nlink: if node.kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn set_len(&mut self, ino: Ino, bytes: u64) -> Result<()> {
        let now = self.tree.node(ino)?.content.len();
        self.make_room(now, bytes)?;
        self.tree.content(ino)?.set_len(bytes);
        Ok(())
    }
}

impl Disk {
    pub(super) fn new(seed: u64, capacity_bytes: u64) -> Disk {
        Disk(Mutex::new(State {
            tree: Tree::new(),
            plan: Plan::default(),
            rng: Rng::with_seed(seed),
            capacity_bytes,
            sync_delay: Duration::ZERO,
            is_on: true,
            boot: 1,
        }))
    }

    pub(super) fn plan(&self) -> MappedMutexGuard<'_, Plan> {
        MutexGuard::map(self.0.lock(), |state| &mut state.plan)
    }

    pub(super) fn power_off(&self) {
        self.0.lock().is_on = false;
    }

    pub(super) fn power_on(&self, seed: u64, loss: Loss) -> Lost {
        let mut state = self.0.lock();
        state.plan.clear();
        state.boot += 1;
        state.is_on = true;
        state.tree.lose(loss, &mut Rng::with_seed(seed))
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity_bytes = bytes;
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.0.lock().tree.used_bytes()
    }

    pub(super) fn set_sync_delay(&self, delay: Duration) {
        self.0.lock().sync_delay = delay;
    }

    /// A call that is neither counted nor planned for.
    fn look<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        work(self.0.lock().powered()?)
    }

    /// A counted call: what is planned for it, and the work itself.
    fn call<T>(&self, call: Call, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.planned(call, work, |_| {})
    }

    fn planned<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State) -> Result<T>,
        on_failure: impl FnOnce(&mut State),
    ) -> Result<T> {
        let mut state = self.0.lock();
        let planned = state.powered()?.plan.next(call);
        if let Some(action) = planned.before {
            drop(state);
            action();
            return Err(Errno::EIO);
        }
        if let Some(errno) = planned.fails {
            on_failure(&mut state);
            return Err(errno);
        }
        let done = work(&mut state);
        drop(state);
        if let Some(action) = planned.after {
            action();
        }
        done
    }

    /// A counted call on an open file, which must be of this boot.
    fn call_on<T>(&self, call: Call, fh: FileHandle, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.call(call, |state| if state.boot == fh.0 { work(state) } else { Err(Errno::EIO) })
    }
}

/// What the kernel is served from.
pub struct Served(pub Arc<Disk>);

impl Served {
    fn make(&self, parent: INodeNo, name: &OsStr, kind: FileType, mode: u32) -> Result<FileAttr> {
        self.0.call(Call::Make, |state| {
            let ino = state.tree.create(parent.0, name, kind, perm(mode))?;
            state.attr(ino)
        })
    }
}

/// The permission bits of a mode.
fn perm(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap()
}

/// Answers with a value, or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $answer:expr) => {
        match $result {
            Ok($value) => $answer,
            Err(errno) => $reply.error(errno),
        }
    };
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.look(|state| state.attr(state.tree.find(parent.0, name)?));
        answer!(reply, found, attr => reply.entry(&VALID, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.0.look(|state| state.attr(ino.0)), attr => reply.attr(&VALID, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let cut = size.map_or(Ok(()), |size| match fh {
            Some(fh) => self.0.call_on(Call::Truncate, fh, |state| state.set_len(ino.0, size)),
            None => self.0.call(Call::Truncate, |state| state.set_len(ino.0, size)),
        });
        let changed = cut.and_then(|()| {
            self.0.look(|state| {
                if let Some(mode) = mode {
                    state.tree.set_perm(ino.0, perm(mode));
                }
                state.attr(ino.0)
            })
        });
        answer!(reply, changed, attr => reply.attr(&VALID, &attr));
    }

    fn mknod(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: u32, reply: ReplyEntry) {
        let kind = match mode & S_IFMT {
            S_IFREG | 0 => FileType::RegularFile,
            S_IFSOCK => FileType::Socket,
            _ => return reply.error(Errno::EPERM),
        };
        let made = self.make(parent, name, kind, mode & !umask);
        answer!(reply, made, attr => reply.entry(&VALID, &attr, Generation(0)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.make(parent, name, FileType::Directory, mode & !umask);
        answer!(reply, made, attr => reply.entry(&VALID, &attr, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.0.call(Call::Unlink, |state| state.tree.remove(parent.0, name));
        answer!(reply, done, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.0.call(Call::Unlink, |state| state.tree.remove(parent.0, name));
        answer!(reply, done, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let done = self.0.call(Call::Rename, |state| state.tree.rename((parent.0, name), (newparent.0, newname)));
        answer!(reply, done, () => reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.call(Call::Open, |state| state.tree.open(ino.0).map(|()| state.boot));
        answer!(reply, opened, boot => reply.opened(FileHandle(boot), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.0.call(Call::Open, |state| {
            let ino = match state.tree.find(parent.0, name) {
                Ok(_) if flags & O_EXCL != 0 => return Err(Errno::EEXIST),
                Ok(ino) => ino,
                Err(_) => state.tree.create(parent.0, name, FileType::RegularFile, perm(mode & !umask))?,
            };
            state.tree.open(ino)?;
            Ok((state.attr(ino)?, state.boot))
        });
        let how = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, created, (attr, boot) => reply.created(&VALID, &attr, Generation(0), FileHandle(boot), how));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.0.call_on(Call::Read, fh, |state| {
            Ok(state.tree.node(ino.0)?.content.read(offset, usize::try_from(size).unwrap()).to_vec())
        });
        answer!(reply, read, data => reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.0.call_on(Call::Write, fh, |state| {
            let length = state.tree.node(ino.0)?.content.len();
            state.make_room(length, length.max(offset + data.len() as u64))?;
            state.tree.content(ino.0)?.write(offset, data);
            Ok(u32::try_from(data.len()).unwrap())
        });
        answer!(reply, written, bytes => reply.written(bytes));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _ = self.0.look(|state| {
            if state.boot == fh.0 {
                state.tree.release(ino.0);
            }
            Ok(())
        });
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        let delay = self.0.0.lock().sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let sync = |state: &mut State| {
            if state.boot != fh.0 {
                return Err(Errno::EIO);
            }
            state.tree.content(ino.0)?.sync();
            Ok(())
        };
        let fail = |state: &mut State| {
            let State { tree, rng, .. } = state;
            if let Ok(content) = tree.content(ino.0) {
                content.fail_sync(rng);
            }
        };
        answer!(reply, self.0.planned(Call::Sync, sync, fail), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let done = self.0.call(Call::Sync, |state| {
            state.tree.sync_dir(ino.0);
            Ok(())
        });
        answer!(reply, done, () => reply.ok());
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.0.look(|state| {
            let own = [(OsStr::new("."), ino.0), (OsStr::new(".."), ROOT)];
            let names = own.into_iter().chain(state.tree.list(ino.0));
            let entries = names.map(|(name, ino)| Ok((name.to_owned(), ino, state.tree.node(ino)?.kind)));
            entries.collect::<Result<Vec<_>>>()
        });
        let entries = match listed {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        for (next, (name, ino, kind)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap()) {
            if reply.add(INodeNo(ino), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let room = self.0.look(|state| Ok((state.capacity_bytes, state.tree.used_bytes())));
        answer!(reply, room, (capacity, used) => {
            let (blocks, free) = (capacity / BLOCK_BYTES, capacity.saturating_sub(used) / BLOCK_BYTES);
            reply.statfs(blocks, free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // Room beyond the end of the file is not modelled.
        if mode & FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let done = self.0.call_on(Call::Truncate, fh, |state| {
            let now = state.tree.node(ino.0)?.content.len();
            state.set_len(ino.0, now.max(offset + length))
        });
        answer!(reply, done, () => reply.ok());
    }
}
