//! Which CPUs a thread may use. A process inherits it from the thread that starts it, so nothing is
//! started through another program.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Those that this thread may use now.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// This thread uses these from now on.
pub fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).unwrap();
}

/// Does this on these CPUs, then goes back to where it was.
pub fn pinned<T>(cpus: &[usize], work: impl FnOnce() -> T) -> T {
    let before = allowed();
    pin(cpus);
    let result = work();
    pin(&before);
    result
}
