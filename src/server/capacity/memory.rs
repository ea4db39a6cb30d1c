//! How much memory this process may use: the least limit of its control groups, else the machine's memory.
//! Source: cgroups(7), proc_pid_mountinfo(5), the kernel's documentation of memory.max and memory.limit_in_bytes.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Levels of nested groups that are looked at.
const LEVELS_MAX: usize = 64;

/// Memory that there is, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes.
    pub(crate) bytes: u64,
    /// What bounds it.
    pub(crate) source: Source,
}

/// What bounds the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The file of a control group.
    Cgroup(PathBuf),
    /// The machine.
    Machine,
    /// Nothing that could be found; as much as [`Memory::UNKNOWN_BYTES`] is assumed.
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Cgroup(file) => write!(f, "{}", file.display()),
            Source::Machine => f.write_str("the machine"),
            Source::Unknown => f.write_str("assumed"),
        }
    }
}

impl Memory {
    /// Enough for the largest automatic limits.
    const UNKNOWN_BYTES: u64 = 1 << 30;

    /// Of this process.
    pub(crate) fn find() -> Memory {
        Memory::find_below(Path::new("/"))
    }

    /// The same where `/proc` and the mounted groups are below a root.
    fn find_below(root: &Path) -> Memory {
        let machine = machine_bytes(root).map(|bytes| Memory { bytes, source: Source::Machine });
        let found = group_limits(root).into_iter().chain(machine).min_by_key(|memory| memory.bytes);
        found.unwrap_or(Memory { bytes: Memory::UNKNOWN_BYTES, source: Source::Unknown })
    }
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of all groups that this process is in, of version 2 and of the memory controller of version 1. Any of
/// them may be mounted, or both.
fn group_limits(root: &Path) -> Vec<Memory> {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut limits = Vec::new();
    for hierarchy in mounts.lines().filter_map(Hierarchy::parse) {
        let Some(group) = groups.lines().find_map(|line| hierarchy.group(line)) else { continue };
        for level in hierarchy.levels(group).take(LEVELS_MAX) {
            for name in hierarchy.files {
                let file = level.join(name);
                let text = std::fs::read_to_string(root.join(file.strip_prefix("/").unwrap_or(&file)));
                // `max` is no limit, and neither is a file that is not there.
                if let Some(bytes) = text.ok().and_then(|text| text.trim().parse().ok()) {
                    limits.push(Memory { bytes, source: Source::Cgroup(file) });
                }
            }
        }
    }
    limits
}

/// A mounted hierarchy of groups in which memory may be limited.
struct Hierarchy<'m> {
    /// The group that is mounted: in a container, its own as a rule.
    mounted: &'m str,
    /// Where.
    point: PathBuf,
    /// The controller in `/proc/self/cgroup`; empty in version 2.
    controller: &'static str,
    /// Files with a limit. Beyond `memory.high` a group is slowed down until it stands still.
    files: &'static [&'static str],
}

impl<'m> Hierarchy<'m> {
    /// From a line of `/proc/self/mountinfo`.
    fn parse(line: &'m str) -> Option<Hierarchy<'m>> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (mounted, point) = (fields.next()?, PathBuf::from(fields.next()?));
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1).unwrap_or_default());
        match kind {
            "cgroup2" => Some(Hierarchy { mounted, point, controller: "", files: &["memory.max", "memory.high"] }),
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                Some(Hierarchy { mounted, point, controller: "memory", files: &["memory.limit_in_bytes"] })
            }
            _ => None,
        }
    }

    /// The process's group, if this line of `/proc/self/cgroup` is of this hierarchy: `4:memory:/a/b`.
    fn group<'g>(&self, line: &'g str) -> Option<&'g str> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|controller| controller == self.controller).then_some(group)
    }

    /// The directories of the group and of those around it, as far as they are mounted. A group outside of what is
    /// mounted is seen as the mounted one.
    fn levels(&self, group: &str) -> impl Iterator<Item = PathBuf> {
        let within = Path::new(group).strip_prefix(self.mounted).unwrap_or(Path::new(""));
        let within = within.components().filter(|part| matches!(part, Component::Normal(_)));
        let (point, innermost) = (self.point.clone(), self.point.join(within.collect::<PathBuf>()));
        let levels: Vec<_> =
            innermost.ancestors().take_while(|level| level.starts_with(&point)).map(Path::to_path_buf).collect();
        levels.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine with 8 GiB and these files.
    fn machine(files: &[(&str, &str)]) -> Memory {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain(&[("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n")]) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Memory::find_below(root.path())
    }

    fn cgroup(bytes: u64, file: &str) -> Memory {
        Memory { bytes, source: Source::Cgroup(file.into()) }
    }

    const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    const V1: &str = "33 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    #[test]
    fn without_groups_it_is_that_of_the_machine() {
        assert_eq!(machine(&[]), Memory { bytes: 8 << 30, source: Source::Machine });
        let none = [("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", V2), ("sys/fs/cgroup/memory.max", "max\n")];
        assert_eq!(machine(&none).source, Source::Machine);
    }

    #[test]
    fn in_a_container_with_version_2_it_is_what_its_own_group_says() {
        let container =
            [("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", V2), ("sys/fs/cgroup/memory.max", "67108864\n")];
        assert_eq!(machine(&container), cgroup(64 * MIB, "/sys/fs/cgroup/memory.max"));
    }

    #[test]
    fn of_nested_groups_the_least_counts_whichever_it_is() {
        let nested = |inner, outer, high| {
            machine(&[
                ("proc/self/cgroup", "0::/system.slice/hookward.service\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/system.slice/hookward.service/memory.max", inner),
                ("sys/fs/cgroup/system.slice/memory.max", outer),
                ("sys/fs/cgroup/system.slice/memory.high", high),
            ])
        };
        let inner = "/sys/fs/cgroup/system.slice/hookward.service/memory.max";
        assert_eq!(nested("134217728", "max", "max"), cgroup(128 * MIB, inner));
        assert_eq!(nested("134217728", "67108864", "max"), cgroup(64 * MIB, "/sys/fs/cgroup/system.slice/memory.max"));
        assert_eq!(nested("max", "67108864", "33554432").bytes, 32 * MIB);
    }

    #[test]
    fn version_1_counts_where_it_has_the_memory_whatever_is_mounted_beside_it() {
        let groups = "4:memory:/pod/app\n3:cpu,cpuacct:/pod\n0::/\n";
        let mounts = format!("{V1}{V2}");
        let unlimited = "9223372036854771712";
        let files = |inner, outer| {
            machine(&[
                ("proc/self/cgroup", groups),
                ("proc/self/mountinfo", &mounts),
                ("sys/fs/cgroup/memory/pod/app/memory.limit_in_bytes", inner),
                ("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", outer),
                ("sys/fs/cgroup/cpu/pod/memory.limit_in_bytes", "1"),
            ])
        };
        let app = "/sys/fs/cgroup/memory/pod/app/memory.limit_in_bytes";
        assert_eq!(files("67108864", unlimited), cgroup(64 * MIB, app));
        assert_eq!(files(unlimited, "134217728").bytes, 128 * MIB);
        assert_eq!(files(unlimited, unlimited).source, Source::Machine);
    }

    #[test]
    fn in_a_container_with_version_1_the_mounted_group_is_its_own() {
        let mounts = "33 24 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        for group in ["4:memory:/docker/abc\n", "4:memory:/\n", "4:memory:/../other\n"] {
            let container = [
                ("proc/self/cgroup", group),
                ("proc/self/mountinfo", mounts),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864"),
            ];
            assert_eq!(machine(&container).bytes, 64 * MIB, "{group}");
        }
    }
}
