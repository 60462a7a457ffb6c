//! The small work that has no asynchronous form worth having: names, directories, listings.
//!
//! Opening, renaming and listing take microseconds while the directory is in the cache; they are
//! carried out on the service's own thread. What waits for the device, making a directory durable,
//! is left to the caller, who has a better way to wait.
//!
//! Not here: reading, writing and syncing files (`glommio.rs`, `ring.rs`).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use millstream_storage::io::{FileEntry, OpenMode};

/// `*` stays within a directory and does not find hidden files, as in a shell.
const GLOB: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// An open file.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) size_bytes: u64,
    /// Whether the page cache is bypassed. Not every file system can.
    pub(super) is_direct: bool,
}

/// Opens `path`; for a new file, makes the directories above it first.
pub(super) fn open(path: &Path, mode: OpenMode) -> io::Result<Opened> {
    prepare(path, mode)?;
    let creates = mode.creates();
    let mut options = OpenOptions::new();
    options.read(!creates).write(creates).create(creates).truncate(creates);
    let direct = mode.is_direct().then(|| options.clone().custom_flags(libc::O_DIRECT).open(path));
    let (file, is_direct) = match direct {
        Some(Ok(file)) => (file, true),
        Some(Err(error)) if !lacks_direct_io(&error) => return Err(error),
        Some(Err(_)) | None => (options.open(path)?, false),
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok(Opened { file, size_bytes: metadata.len(), is_direct })
}

/// Whether opening failed because the file system has no direct I/O.
pub(super) fn lacks_direct_io(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Refuses directories, and makes those that a new file needs.
pub(super) fn prepare(path: &Path, mode: OpenMode) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if mode.creates() { create_directory(directory_of(path)) } else { Ok(()) }
}

/// Makes `directory` and those above it, durably: a file's name is worth no more than its path.
fn create_directory(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Ok(()) => sync_directory(directory_of(directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_directory(directory_of(directory))?;
            create_directory(directory)
        }
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::from_raw_os_error(libc::ENOTDIR))
        }
        Err(error) => Err(error),
    }
}

/// Renames, and returns the directories to be synced.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    fs::rename(from, to)?;
    let directories = BTreeSet::from([directory_of(from), directory_of(to)]);
    Ok(directories.into_iter().map(Path::to_owned).collect())
}

/// Removes, and returns the directory to be synced.
pub(super) fn remove(path: &Path) -> io::Result<Vec<PathBuf>> {
    fs::remove_file(path)?;
    Ok(vec![directory_of(path).to_owned()])
}

/// Makes the names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The regular files that `pattern` names; see `FileOp::List`.
pub(super) fn list(pattern: &str) -> io::Result<Vec<FileEntry>> {
    let path = normal(Path::new(pattern));
    let found: Vec<PathBuf> = match fs::metadata(or_here(&path)) {
        Ok(metadata) if metadata.is_dir() => {
            let entries = fs::read_dir(or_here(&path))?;
            entries.map(|entry| Ok(path.join(entry?.file_name()))).collect::<io::Result<_>>()?
        }
        Ok(_) => vec![path],
        Err(_) => {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
            let paths = glob::glob_with(pattern.trim_start_matches("./"), GLOB).map_err(invalid)?;
            paths
                .map(|path| Ok(normal(&path.map_err(io::Error::from)?)))
                .collect::<io::Result<_>>()?
        }
    };
    let sorted: BTreeSet<PathBuf> = found.into_iter().collect();
    sorted.into_iter().filter_map(|path| entry(path).transpose()).collect()
}

/// `None` for what is no regular file, or was removed meanwhile.
fn entry(path: PathBuf) -> io::Result<Option<FileEntry>> {
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => {
            let (size_bytes, modified) = (metadata.len(), metadata.modified()?);
            Ok(Some(FileEntry { path, size_bytes, modified }))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `path` without the parts that mean nothing.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

fn directory_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(path))
}

/// The current directory has an empty path, which the operating system does not accept.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
