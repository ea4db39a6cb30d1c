//! The mounted file system, as programs see it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use super::*;

const CAPACITY_BYTES: u64 = 64 << 20;

fn mounted() -> PowerFs {
    PowerFs::mount(1, CAPACITY_BYTES).unwrap()
}

/// Writes a file that survives everything.
fn write_synced(path: &Path, data: &[u8]) -> File {
    let mut file = File::create(path).unwrap();
    file.write_all(data).unwrap();
    file.sync_all().unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    file
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

#[test]
fn files_directories_and_modes_are_as_anywhere() {
    let fs = mounted();
    let dir = fs.path().join("a/b");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("file");
    let create = |path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = create(&path).unwrap();
    assert_eq!(create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.write_all_at(b"hello", 3).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0hello");
    assert_eq!((path.metadata().unwrap().mode() & 0o777, path.metadata().unwrap().blocks()), (0o600, 8));
    std::fs::copy(&path, dir.join("copy")).unwrap();
    std::fs::rename(dir.join("copy"), dir.join("renamed")).unwrap();
    assert_eq!(std::fs::read(dir.join("renamed")).unwrap(), b"\0\0\0hello");
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "renamed"]);
    assert_eq!(errno(std::fs::remove_dir(&dir)), i32::from(Errno::ENOTEMPTY));
    std::fs::remove_file(dir.join("renamed")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
    assert_eq!(path.metadata().unwrap().len(), 1 << 20);
    file.set_len(2).unwrap();
    std::fs::File::create(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[test]
fn locks_and_sockets_work() {
    let fs = mounted();
    let path = fs.path().join("lock");
    let held = File::create(&path).unwrap();
    held.try_lock().unwrap();
    let other = File::create(&path).unwrap();
    assert!(other.try_lock().is_err());
    drop(held);
    other.try_lock().unwrap();
    let listener = UnixListener::bind(fs.path().join("socket")).unwrap();
    UnixStream::connect(fs.path().join("socket")).unwrap();
    listener.accept().unwrap();
}

#[test]
fn a_power_loss_is_what_a_fresh_boot_reads() {
    let fs = mounted();
    let path = fs.path().join("file");
    let file = write_synced(&path, b"synced");
    file.write_all_at(b"unsynced", 0).unwrap();
    File::create(fs.path().join("new")).unwrap().sync_all().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"unsynced");
    fs.power_off();
    assert_eq!(errno(std::fs::read(&path)), i32::from(Errno::EIO));
    let lost = fs.power_on(7, Loss::Drop);
    assert_eq!(lost, Lost { unsynced: 2, gone: 2 });
    assert_eq!(std::fs::read(&path).unwrap(), b"synced");
    assert!(!fs.path().join("new").exists());
    assert_eq!(errno(file.write_at(b"x", 0)), i32::from(Errno::EIO), "descriptors of before are dead");
    assert_eq!(errno(file.sync_data()), i32::from(Errno::EIO));
    drop(file);
    let grown = OpenOptions::new().append(true).open(&path).unwrap();
    (&grown).write_all(b", and more").unwrap();
    grown.sync_data().unwrap();
    fs.power_loss(7, Loss::Tear);
    assert_eq!(std::fs::read(&path).unwrap(), b"synced, and more", "fdatasync keeps the new length");
}

#[test]
fn planned_calls_fail_and_are_told() {
    let fs = mounted();
    let path = fs.path().join("file");
    let file = File::create(&path).unwrap();
    let hits = fs.fail(&[Call::Write], 2, 2, Errno::EIO);
    let results: Vec<i32> = (0..4).map(|n| errno(file.write_all_at(b"x", n))).collect();
    assert_eq!(results, [0, 5, 5, 0]);
    assert_eq!(hits.try_iter().count(), 2);
    assert_eq!(fs.count(Call::Write), 4);
    fs.fail(&[Call::Open, Call::Rename, Call::Unlink], 1, u64::MAX, Errno::EIO);
    assert_eq!(errno(File::open(&path)), i32::from(Errno::EIO));
    assert_eq!(errno(std::fs::rename(&path, fs.path().join("other"))), i32::from(Errno::EIO));
    assert_eq!(errno(std::fs::remove_file(&path)), i32::from(Errno::EIO));
    fs.heal();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_failed_sync_loses_what_it_did_not_write_at_the_next_power_loss() {
    let fs = mounted();
    let path = fs.path().join("file");
    let file = write_synced(&path, &[0; 100]);
    for n in 0..100 {
        file.write_all_at(&[1], n).unwrap();
    }
    fs.fail(&[Call::Sync], 1, 1, Errno::EIO);
    assert_eq!(errno(file.sync_data()), i32::from(Errno::EIO));
    file.sync_data().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [1; 100]);
    fs.power_loss(0, Loss::Drop);
    let survived = std::fs::read(&path).unwrap();
    assert!(survived.contains(&0) && survived.contains(&1), "{survived:?}");
}

#[test]
fn actions_are_done_right_before_and_right_after_a_call() {
    let fs = mounted();
    let path = fs.path().join("file");
    let file = write_synced(&path, b"old");
    let switch = fs.switch();
    fs.before(&[Call::Sync], 1, move || switch.power_off());
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(errno(file.sync_data()), i32::from(Errno::EIO));
    fs.power_on(0, Loss::Drop);
    assert_eq!(std::fs::read(&path).unwrap(), b"old", "before: it has not happened");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let switch = fs.switch();
    fs.after(&[Call::Sync], 1, move || switch.power_off());
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(errno(file.write_at(b"x", 0)), i32::from(Errno::EIO));
    fs.power_on(0, Loss::Drop);
    assert_eq!(std::fs::read(&path).unwrap(), b"new", "after: it has");
}

#[test]
fn a_full_disk_says_so_and_takes_more_once_there_is_room() {
    let fs = mounted();
    let free = || {
        let found = rustix::fs::statvfs(fs.path()).unwrap();
        found.f_bavail * found.f_frsize
    };
    assert_eq!(free(), CAPACITY_BYTES);
    let file = File::create(fs.path().join("file")).unwrap();
    file.write_all_at(&[1; 10_000], 0).unwrap();
    assert_eq!((fs.used_bytes(), free()), (12_288, CAPACITY_BYTES - 12_288));
    fs.set_capacity(12_288);
    file.write_all_at(&[2; 2_288], 10_000).unwrap();
    assert_eq!(errno(file.write_at(&[3], 12_288)), i32::from(Errno::ENOSPC));
    let allocate = |bytes| rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
    assert_eq!(allocate(20_000), Err(rustix::io::Errno::NOSPC));
    file.write_all_at(&[4; 100], 50).unwrap();
    assert_eq!(free(), 0);
    fs.set_capacity(CAPACITY_BYTES);
    allocate(20_000).unwrap();
    std::fs::remove_file(fs.path().join("file")).unwrap();
    drop(file);
    // The kernel tells the end of a descriptor when it gets to it.
    while fs.used_bytes() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_sync_holds_up_nobody_else() {
    let fs = mounted();
    fs.set_sync_delay(Duration::from_millis(200));
    let file = File::create(fs.path().join("slow")).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| file.sync_data().unwrap());
        std::fs::write(fs.path().join("other"), b"x").unwrap();
        assert!(begun.elapsed() < Duration::from_millis(150), "{:?}", begun.elapsed());
    });
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[test]
fn it_is_unmounted_whoever_holds_a_file() {
    let fs = mounted();
    let path = fs.path().to_owned();
    let file = File::create(path.join("file")).unwrap();
    drop(fs);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(path.to_str().unwrap()), "{mounts}");
    assert!(!path.exists());
    drop(file);
}
