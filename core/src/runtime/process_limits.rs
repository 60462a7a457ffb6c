//! What the operating system grants this process, from the kernel's own table.

use std::fs;

/// Memory that may be locked, bytes; `None` if there is no limit, or none to be seen.
pub(super) fn memlock_bytes() -> Option<u64> {
    parse(&table()?, "Max locked memory")
}

/// Files, sockets and rings that may be open at once; `None` as for [`memlock_bytes`].
pub(super) fn open_files() -> Option<u64> {
    parse(&table()?, "Max open files")
}

fn table() -> Option<String> {
    fs::read_to_string("/proc/self/limits").ok()
}

/// The soft limit of this name.
fn parse(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_in_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max open files            1024                 524288               files     \n\
                     Max locked memory         8388608              8388608              bytes     \n";
        assert_eq!(parse(table, "Max locked memory"), Some(8 << 20));
        assert_eq!(parse(table, "Max open files"), Some(1024));
        let unlimited = table.replace("8388608", "unlimited");
        assert_eq!(parse(&unlimited, "Max locked memory"), None);
        assert_eq!(parse("", "Max open files"), None);
    }
}
