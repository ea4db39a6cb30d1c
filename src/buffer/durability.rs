//! What the data directory outlives, found out and not believed; and how much room it has.
//!
//! Sources: `statfs(2)` for the kind of file system, `/proc/self/mountinfo` (proc(5)) for
//! Kubernetes' emptyDir, whose mount root shows as `…/kubernetes.io~empty-dir/<name>`.

use std::io::{self, ErrorKind};
use std::path::Path;

/// What the data directory outlives. Ordered: more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Dies with the container: tmpfs, a container's own layer.
    Process,
    /// Dies with the Pod: an emptyDir.
    Pod,
    /// Outlives the Pod.
    Volume,
}

impl Durability {
    /// As in the configuration and the status.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Pod => "pod",
            Durability::Volume => "volume",
        }
    }
}

/// What was found, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The level.
    pub level: Durability,
    /// What speaks for it, for people.
    pub evidence: String,
}

// statfs(2), "Filesystem types".
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const OVERLAYFS: u64 = 0x794c_7630;
const NFS: u64 = 0x6969;
const FUSE: u64 = 0x6573_5546;
const CIFS: u64 = 0xff53_4d42;
const SMB2: u64 = 0xfe53_4d42;

/// Makes the names in a directory durable: a file that is synced while its name is not is gone with
/// the name after a power loss.
///
/// # Errors
/// The disk failed. A file system that cannot sync a directory is passed over.
pub fn sync_names_in(dir: &Path) -> io::Result<()> {
    match std::fs::File::open(dir)?.sync_all() {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// The same for the names of a directory itself and of those above it. At every start, as an earlier
/// one may have been cut off between making them and this.
///
/// # Errors
/// See [`sync_names_in`]. Where this user may not look, we have made nothing.
pub fn sync_names_down_to(dir: &Path) -> io::Result<()> {
    for above in dir.canonicalize()?.ancestors().skip(1) {
        match sync_names_in(above) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Looks at the file system under a directory.
///
/// # Errors
/// When the kernel cannot say.
pub fn find(dir: &Path) -> io::Result<Found> {
    let stat = rustix::fs::statfs(dir)?;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "a bit pattern, signed on some platforms")]
    let kind = stat.f_type as u64 & 0xffff_ffff;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = dir.canonicalize()?;
    Ok(classify(kind, mount_of(&mountinfo, &dir.to_string_lossy())))
}

/// Root and mount point of the mount that holds a path.
fn mount_of<'m>(mountinfo: &'m str, path: &str) -> Option<(&'m str, &'m str)> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (root, point) = (fields.nth(3)?, fields.next()?);
            let inside =
                point == "/" || path == point || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'));
            inside.then_some((root, point))
        })
        // The longest mount point wins; of equal ones the last, which hides the others.
        .max_by_key(|(_, point)| point.len())
}

fn classify(kind: u64, mount: Option<(&str, &str)>) -> Found {
    let process = |what: &str| Found { level: Durability::Process, evidence: what.to_owned() };
    match kind {
        TMPFS | RAMFS => return process("a file system in memory (tmpfs)"),
        OVERLAYFS => return process("the container's own layer (overlayfs)"),
        NFS | FUSE | CIFS | SMB2 => {
            return process("a network or user-space file system, whose syncs prove nothing");
        }
        _ => {}
    }
    match mount {
        Some((root, point)) if [root, point].iter().any(|path| path.contains("kubernetes.io~empty-dir")) => {
            Found { level: Durability::Pod, evidence: "a Kubernetes emptyDir".to_owned() }
        }
        Some((_, point)) => {
            Found { level: Durability::Volume, evidence: format!("a file system on disk, mounted at {point}") }
        }
        None => Found { level: Durability::Volume, evidence: "a file system on disk".to_owned() },
    }
}

/// Room on the file system of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

impl Space {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When it cannot say.
    pub fn of(dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Space { free_bytes: stat.f_bavail * stat.f_frsize, total_bytes: stat.f_blocks * stat.f_frsize })
    }

    /// What stays free, so that completions and everybody else on this disk can go on: 5 %, at least
    /// 64 MB, at most 1 GiB.
    pub fn floor_bytes(self) -> u64 {
        const FLOOR_MIN_BYTES: u64 = 64_000_000;
        const FLOOR_MAX_BYTES: u64 = 1 << 30;
        (self.total_bytes / 20).clamp(FLOOR_MIN_BYTES, FLOOR_MAX_BYTES)
    }

    /// Whether so little is left that new events are refused.
    pub fn is_low(self) -> bool {
        self.free_bytes < self.floor_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:21 / / rw,relatime - overlay overlay rw
30 22 8:1 /var/lib/kubelet/pods/0a/volumes/kubernetes.io~empty-dir/buffer /var/lib/hookward rw - ext4 /dev/sda1 rw
31 22 8:2 / /data rw - ext4 /dev/sdb rw
32 22 8:3 / /database rw - ext4 /dev/sdc rw";
    const EXT4: u64 = 0xef53;

    fn level(kind: u64, path: &str) -> Durability {
        classify(kind, mount_of(MOUNTS, path)).level
    }

    #[test]
    fn an_empty_dir_dies_with_its_pod_and_a_volume_does_not() {
        assert_eq!(level(EXT4, "/var/lib/hookward"), Durability::Pod);
        assert_eq!(level(EXT4, "/var/lib/hookward/sub"), Durability::Pod);
        assert_eq!(level(EXT4, "/data/hookward"), Durability::Volume);
        assert_eq!(mount_of(MOUNTS, "/database/x").unwrap().1, "/database");
        assert_eq!(mount_of(MOUNTS, "/datab").unwrap().1, "/");
    }

    #[test]
    fn memory_and_container_layers_die_with_the_process() {
        assert_eq!(level(TMPFS, "/data"), Durability::Process);
        assert_eq!(level(OVERLAYFS, "/x"), Durability::Process);
        assert_eq!(level(NFS, "/data"), Durability::Process);
    }

    #[test]
    fn levels_are_ordered_by_what_they_outlive() {
        assert!(Durability::Volume > Durability::Pod && Durability::Pod > Durability::Process);
    }

    #[test]
    fn the_free_space_floor_is_five_percent_within_bounds() {
        let space =
            |free_mb: u64, total_mb: u64| Space { free_bytes: free_mb * 1_000_000, total_bytes: total_mb * 1_000_000 };
        assert!(space(63, 100).is_low() && !space(65, 100).is_low());
        assert!(space(499, 10_000).is_low() && !space(501, 10_000).is_low());
        assert!(space(1073, 1_000_000).is_low() && !space(1075, 1_000_000).is_low());
    }

    #[test]
    fn this_machine_can_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!find(dir.path()).unwrap().evidence.is_empty());
        assert!(Space::of(dir.path()).unwrap().total_bytes > 0);
    }
}
