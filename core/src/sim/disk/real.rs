//! The real file system as the simulated disk sees it: read-only, for a job's inputs.
//!
//! Not here: remembering what was read, so that a run sees it only once (`tree.rs`).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use millstream_storage::listing::Found;

/// What `path` stands for.
pub(super) fn look(path: &Path) -> io::Result<Found> {
    Found::of(&fs::metadata(or_here(path))?)
}

/// The whole content of a file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// The names in a directory, in any order.
pub(super) fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(or_here(directory))?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Whether `path` itself is a symbolic link.
pub(super) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// The current directory has an empty path, which the operating system does not accept.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
