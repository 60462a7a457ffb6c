//! The real file system as the simulated disk sees it: read-only, for a job's inputs.
//!
//! Not here: remembering what was read, so that a run sees it only once (`tree.rs`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a name stands for.
pub(super) enum Kind {
    Missing,
    File {
        size_bytes: u64,
        modified: SystemTime,
    },
    /// Directories, and what else is no regular file.
    Directory,
}

/// What `path` stands for; what cannot be looked at counts as missing.
pub(super) fn kind(path: &Path) -> Kind {
    match fs::metadata(or_here(path)) {
        Ok(metadata) if metadata.is_file() => Kind::File {
            size_bytes: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        },
        Ok(_) => Kind::Directory,
        Err(_) => Kind::Missing,
    }
}

/// The whole content of a file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// The paths in a directory, not recursive, in any order.
pub(super) fn directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(or_here(path))?.map(|entry| Ok(path.join(entry?.file_name()))).collect()
}

/// The current directory has an empty path, which the operating system does not accept.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
