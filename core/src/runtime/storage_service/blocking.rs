//! The small work that has no asynchronous form worth having: names, directories, listings.
//!
//! It takes microseconds while the directory is in the cache, and as long as the device wishes
//! while it is not: so it is carried out on a thread beside the service's own. Making a change
//! durable is left to the caller, who may have a better way to wait.
//!
//! Not here: that thread (of glommio's executor, and `names.rs`); reading, writing and syncing
//! files (`glommio.rs`, `ring.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use millstream_storage::io::{FileEntry, OpenMode};
use millstream_storage::listing::{self, Found, Places};

/// An open file.
#[derive(Debug)]
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

/// The lock files that the service holds: each once, however many requesters hold it.
#[derive(Debug, Default)]
pub(super) struct Locks {
    by_path: BTreeMap<PathBuf, Weak<Lock>>,
}

impl Locks {
    /// The lock file `path`, if a requester holds it.
    pub(super) fn held(&self, path: &Path) -> Option<Arc<Lock>> {
        self.by_path.get(path)?.upgrade()
    }

    /// Remembers a lock that was taken, for requesters who want to hold it too.
    pub(super) fn keep(&mut self, lock: Lock) -> Arc<Lock> {
        let (path, lock) = (lock.path.clone(), Arc::new(lock));
        self.by_path.insert(path, Arc::downgrade(&lock));
        lock
    }

    /// A requester lets go of `lock`; the last one is to release it.
    pub(super) fn last(&mut self, lock: Arc<Lock>) -> Option<Lock> {
        let lock = Arc::into_inner(lock)?;
        self.by_path.remove(&lock.path);
        Some(lock)
    }
}

/// A lock file that this process holds.
#[derive(Debug)]
pub(in crate::runtime) struct Lock {
    file: File,
    path: PathBuf,
}

/// Makes the lock file `path` and holds it; see `OpenMode::Lock`.
pub(in crate::runtime) fn lock(path: &Path) -> io::Result<Lock> {
    prepare(path, OpenMode::Create)?;
    loop {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::from_raw_os_error(libc::EAGAIN),
            TryLockError::Error(error) => error,
        })?;
        // Who held it may have removed it since it was opened: then what is held has no name, and
        // somebody else may hold a file of that name.
        let has_name = |named: &fs::Metadata| {
            let own = file.metadata()?;
            Ok::<_, io::Error>((named.dev(), named.ino()) == (own.dev(), own.ino()))
        };
        match fs::metadata(path) {
            Ok(named) if has_name(&named)? => return Ok(Lock { file, path: path.to_owned() }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

impl Lock {
    /// Another descriptor of the lock file.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Removes the lock file while it is held, then lets go of it.
    pub(in crate::runtime) fn release(self) -> io::Result<()> {
        let removed = fs::remove_file(&self.path);
        drop(self.file);
        removed
    }
}

/// Whether opening failed because the file system has no direct I/O.
pub(super) fn lacks_direct_io(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Refuses directories, and makes those that a new file needs.
pub(super) fn prepare(path: &Path, mode: OpenMode) -> io::Result<()> {
    refuse_directory(path)?;
    if mode.creates() { create_directory(directory_of(path)) } else { Ok(()) }
}

fn refuse_directory(path: &Path) -> io::Result<()> {
    let is_directory = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_directory { Err(io::Error::from_raw_os_error(libc::EISDIR)) } else { Ok(()) }
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

/// Renames a file, and returns the directories to be synced.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<Vec<File>> {
    refuse_directory(from)?;
    fs::rename(from, to)?;
    let directories = BTreeSet::from([directory_of(from), directory_of(to)]);
    directories.into_iter().map(File::open).collect()
}

/// Gives a file another name, or a copy one, and returns the directories to be synced.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<Vec<File>> {
    refuse_directory(to)?;
    create_directory(directory_of(to))?;
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(to)?;
            return link(from, to);
        }
        Err(error) if lacks_links(&error) => {
            fs::copy(from, to)?;
            File::open(to)?.sync_all()?;
        }
        Err(error) => return Err(error),
    }
    Ok(vec![File::open(directory_of(to))?])
}

/// Whether it is another file system, or one without links, or without so many.
fn lacks_links(error: &io::Error) -> bool {
    let codes = [libc::EXDEV, libc::EPERM, libc::EMLINK, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// As [`link`], durably.
pub(in crate::runtime) fn link_durably(from: &Path, to: &Path) -> io::Result<()> {
    link(from, to)?.iter().try_for_each(File::sync_all)
}

/// Removes, and returns the directory to be synced.
pub(super) fn remove(path: &Path) -> io::Result<Vec<File>> {
    fs::remove_file(path)?;
    Ok(vec![File::open(directory_of(path))?])
}

/// Makes the names in `directory` durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The regular files that `pattern` names; see `FileOp::List`.
pub(super) fn list(pattern: &str) -> io::Result<Vec<FileEntry>> {
    listing::list(&FileSystem, pattern)
}

/// The regular files in `directory`; see `FileOp::ListDirectory`.
pub(super) fn list_directory(directory: &Path) -> io::Result<Vec<FileEntry>> {
    listing::list_directory(&FileSystem, directory)
}

/// The directories of the machine.
struct FileSystem;

impl Places for FileSystem {
    fn look(&self, path: &Path) -> io::Result<Found> {
        Found::of(&fs::metadata(path)?)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn is_link(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
    }
}

fn directory_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(path))
}

/// The current directory has an empty path, which the operating system does not accept.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
