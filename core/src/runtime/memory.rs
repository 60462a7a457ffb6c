//! How much memory there is: the machine's, or what a control group grants.

use std::fs;
use std::path::Path;

/// Bytes of memory that this process may use at most; `None` if the system does not tell.
pub(crate) fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|table| total_of(&table));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.into_iter().chain(granted_to(&groups, Path::new("/sys/fs/cgroup"))).min()
}

/// The machine's, by the kernel's table.
fn total_of(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What the control groups of a process grant, which are mounted at `root`: a group has no more
/// than those above it. Groups of the first version say so in another file.
fn granted_to(groups: &str, root: &Path) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = root.join(group.trim_start_matches('/'));
        // In a container the group may have another path than the one that is seen here.
        for directory in group.ancestors().take_while(|path| path.starts_with(&root)) {
            let limit = fs::read_to_string(directory.join(file));
            limits.extend(limit.ok().and_then(|limit| limit.trim().parse::<u64>().ok()));
        }
    }
    limits.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_in_the_kernels_table() {
        let table = "MemTotal:       16384 kB\nMemFree:         1024 kB\n";
        assert_eq!(total_of(table), Some(16 << 20));
        assert_eq!(total_of(""), None);
        assert!(memory_bytes().is_some_and(|bytes| 1 << 20 < bytes), "this machine has some");
    }

    #[test]
    fn a_group_has_no_more_than_those_above_it() {
        let place = tempfile::tempdir().expect("a place for files");
        let (root, inner) = (place.path(), place.path().join("jobs/one"));
        fs::create_dir_all(&inner).expect("it can be made");
        let grant = |path: &Path, text: &str| fs::write(path, text).expect("it can be written");
        grant(&inner.join("memory.max"), "max\n");
        assert_eq!(granted_to("0::/jobs/one\n", root), None);
        grant(&root.join("jobs/memory.max"), "4096\n");
        assert_eq!(granted_to("0::/jobs/one\n", root), Some(4096));
        grant(&inner.join("memory.max"), "1024\n");
        assert_eq!(granted_to("0::/jobs/one\n", root), Some(1024));
        assert_eq!(granted_to("0::/elsewhere\n", root), None);
        fs::create_dir(root.join("memory")).expect("it can be made");
        grant(&root.join("memory/memory.limit_in_bytes"), "512\n");
        assert_eq!(granted_to("3:cpu,memory:/\n1:name=systemd:/\n", root), Some(512));
    }
}
