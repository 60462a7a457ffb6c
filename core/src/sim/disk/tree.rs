//! Names: which file a path stands for, in memory and, below that, on the real file system.
//!
//! ```text
//! path ──► names ──File──► stored file ──► bytes
//!            │  ╲
//!            │   Absent: removed, or looked for in vain; hides what is really there
//!            └── not in `names`: the real file, read into memory at its first use
//! ```
//!
//! A run sees a real file only as it was when it was first used. Durability of names: renaming and
//! removing sync the directory, and with it every name in it; a name that was only created may be
//! lost in a crash, however often its file was synced. Directories come with the first file that is
//! created in them and stay.
//!
//! Not here: bytes and their durability (`stored.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_storage::listing::{Found, Places, normal};

use super::errno::{self, os_error};
use super::real;
use super::stored::StoredFile;
use crate::sim::rng::Rng;

/// Names a stored file, whatever its path; never reused.
pub(super) type StoredId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    File { stored: StoredId, durable: bool },
    Absent,
}

/// All names and the files behind them.
#[derive(Debug, Default)]
pub(super) struct Tree {
    names: BTreeMap<PathBuf, Name>,
    directories: BTreeSet<PathBuf>,
    stored: BTreeMap<StoredId, StoredFile>,
    next_id: StoredId,
}

impl Tree {
    /// The file called `path`, read from the real file system if need be.
    pub(super) fn find(&mut self, path: &Path) -> io::Result<StoredId> {
        let path = normal(path);
        if self.directories.contains(&path) {
            return Err(os_error(errno::EISDIR));
        }
        match self.names.get(&path) {
            Some(Name::File { stored, .. }) => Ok(*stored),
            Some(Name::Absent) => Err(os_error(errno::ENOENT)),
            None if path.ancestors().skip(1).any(|above| self.is_file(above)) => {
                Err(os_error(errno::ENOTDIR))
            }
            None => match real::read(&path) {
                Ok(bytes) => {
                    let modified = match real::look(&path) {
                        Ok(Found::File { modified, .. }) => modified,
                        _ => SystemTime::UNIX_EPOCH,
                    };
                    Ok(self.add(path, StoredFile::durable(bytes, modified, true), true))
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::NotFound {
                        self.names.insert(path, Name::Absent);
                    }
                    Err(error)
                }
            },
        }
    }

    /// A new or truncated file called `path`, and its directories.
    pub(super) fn create(&mut self, path: &Path, now: SystemTime) -> io::Result<StoredId> {
        let path = normal(path);
        match self.find(&path) {
            Ok(stored) => {
                self.file_mut(stored).truncate(now);
                Ok(stored)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(self.add(path, StoredFile::durable(Vec::new(), now, false), false))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a durable file at `path`.
    pub(super) fn write_file(&mut self, path: &Path, bytes: Vec<u8>) {
        self.add(normal(path), StoredFile::durable(bytes, SystemTime::UNIX_EPOCH, false), true);
    }

    /// Gives `from` the name `to` and syncs both directories.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let stored = self.find(&from)?;
        if self.is_directory(&to) {
            return Err(os_error(errno::EISDIR));
        }
        if !self.is_directory(parent(&to)) {
            let is_below_a_file = parent(&to).ancestors().any(|above| self.is_file(above));
            return Err(os_error(if is_below_a_file { errno::ENOTDIR } else { errno::ENOENT }));
        }
        self.sync_directory(parent(&from));
        self.sync_directory(parent(&to));
        self.file_mut(stored).input = false;
        self.names.insert(from, Name::Absent);
        self.names.insert(to, Name::File { stored, durable: true });
        Ok(())
    }

    /// Gives `from` the name `to`, too, and syncs both directories. There are no changes of it any
    /// more.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let stored = self.find(&from)?;
        if self.is_directory(&to) {
            return Err(os_error(errno::EISDIR));
        }
        self.directories.extend(to.ancestors().skip(1).map(Path::to_owned));
        self.sync_directory(parent(&from));
        self.sync_directory(parent(&to));
        self.file_mut(stored).input = false;
        self.names.insert(to, Name::File { stored, durable: true });
        Ok(())
    }

    /// Removes `path` and syncs its directory.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.find(&path)?;
        self.sync_directory(parent(&path));
        self.names.insert(path, Name::Absent);
        Ok(())
    }

    /// Removes what is below `path`.
    pub(super) fn remove_directory(&mut self, path: &Path) {
        let path = normal(path);
        for (_, name) in self.names.iter_mut().filter(|(name, _)| name.starts_with(&path)) {
            *name = Name::Absent;
        }
    }

    /// The files that were written in the simulation, by path.
    pub(super) fn written(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.names.iter().filter_map(|(path, name)| match name {
            Name::File { stored, .. } if !self.stored[stored].input => {
                Some((path.as_path(), self.stored[stored].bytes.as_slice()))
            }
            _ => None,
        })
    }

    /// Bytes that the files take, inputs apart.
    pub(super) fn used_bytes(&self) -> u64 {
        self.stored.values().filter(|file| !file.input).map(|file| file.bytes.len() as u64).sum()
    }

    /// The file behind an id.
    pub(super) fn file(&self, stored: StoredId) -> &StoredFile {
        &self.stored[&stored]
    }

    /// The file behind an id, to change it.
    pub(super) fn file_mut(&mut self, stored: StoredId) -> &mut StoredFile {
        self.stored.get_mut(&stored).expect("files with a name or a reader are kept")
    }

    /// Frees files that have no name and are not among `open`.
    pub(super) fn forget_unnamed(&mut self, open: impl Iterator<Item = StoredId>) {
        let mut kept: BTreeSet<StoredId> = open.collect();
        kept.extend(self.names.values().filter_map(|name| match name {
            Name::File { stored, .. } => Some(*stored),
            Name::Absent => None,
        }));
        self.stored.retain(|stored, _| kept.contains(stored));
    }

    /// The power goes: names that are not durable are kept or lost, then each file has its crash.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        for name in self.names.values_mut() {
            if let Name::File { stored, durable: false } = *name {
                let kept = rng.chance(1, 2);
                *name = if kept { Name::File { stored, durable: true } } else { Name::Absent };
            }
        }
        for file in self.stored.values_mut() {
            file.crash(rng);
        }
        self.forget_unnamed(std::iter::empty());
    }

    fn add(&mut self, path: PathBuf, file: StoredFile, durable: bool) -> StoredId {
        let stored = self.next_id;
        self.next_id += 1;
        if !file.input {
            self.directories.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
        self.stored.insert(stored, file);
        self.names.insert(path, Name::File { stored, durable });
        stored
    }

    fn is_file(&self, path: &Path) -> bool {
        matches!(self.look(path), Ok(Found::File { .. }))
    }

    fn is_directory(&self, path: &Path) -> bool {
        matches!(self.look(path), Ok(Found::Directory(_)))
    }

    fn sync_directory(&mut self, directory: &Path) {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below = self.names.range_mut::<Path, _>(from);
        for (path, name) in below.take_while(|(path, _)| path.starts_with(directory)) {
            if let Name::File { durable, .. } = name
                && parent(path) == directory
            {
                *durable = true;
            }
        }
    }
}

/// What a run sees of its own files and, below them, of the real ones.
impl Places for Tree {
    fn look(&self, path: &Path) -> io::Result<Found> {
        let path = normal(path);
        if self.directories.contains(&path) {
            return Ok(Found::Directory(None));
        }
        match self.names.get(&path) {
            Some(Name::Absent) => Err(os_error(errno::ENOENT)),
            Some(Name::File { stored, .. }) => {
                let (file, identity) = (self.file(*stored), None);
                let (size_bytes, modified) = (file.bytes.len() as u64, file.modified);
                Ok(Found::File { size_bytes, modified, identity })
            }
            None => real::look(&path),
        }
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let directory = normal(directory);
        let own = self.names.keys().chain(&self.directories);
        let own = own.filter(|path| parent(path) == directory && **path != directory);
        let own = own.filter_map(|path| path.file_name()).map(Into::into);
        let mut names: BTreeSet<OsString> = own.collect();
        match real::names(&directory) {
            Ok(real) => names.extend(real),
            Err(_) if self.directories.contains(&directory) => {}
            Err(error) => return Err(error),
        }
        Ok(names.into_iter().collect())
    }

    fn is_link(&self, path: &Path) -> bool {
        let path = normal(path);
        let is_own = self.names.contains_key(&path) || self.directories.contains(&path);
        !is_own && real::is_link(&path)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
