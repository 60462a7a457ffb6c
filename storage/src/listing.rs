//! Which files a pattern names: the walk behind [`FileOp::List`](crate::io::FileOp::List), above
//! anything that has directories.
//!
//! ```text
//! in/**/2024-*/data.csv     parts: in │ ** │ 2024-* │ data.csv
//!                                  └ as it stands: joined, not looked for
//!                                       └ this directory and all below it
//!                                            └ names that match
//! ```
//!
//! **Each file once.** A file that has several names is listed under the first. `**` does not go
//! through symbolic links and enters no directory twice, so a directory that contains itself ends
//! the walk; a link that a pattern spells out or that `*` finds is followed.
//!
//! **Nothing is passed over in silence.** What has gone meanwhile is not there; whatever else keeps
//! a directory or file from being looked at is an error that names it. So are a link to what is not
//! there, unless it is hidden, and a pipe, socket or device that the pattern names. A name that is
//! not UTF-8 is listed as it is, if what can be read of it matches: the requester can say so.
//!
//! Not here: the real file system (the engine's `runtime/`), the simulated one (its `sim/`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use glob::Pattern;

use crate::io::{FileEntry, Together};

/// `*` does not find hidden files, as in a shell.
const GLOB: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Something with directories.
pub trait Places {
    /// What `path` stands for, at the end of all symbolic links.
    ///
    /// # Errors
    /// The file system's.
    fn look(&self, path: &Path) -> io::Result<Found>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// The file system's.
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Whether `path` itself is a symbolic link.
    fn is_link(&self, path: &Path) -> bool;
}

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A regular file.
    File {
        /// Its size.
        size_bytes: u64,
        /// When it was last written.
        modified: SystemTime,
        /// The same for all its names, where that is known.
        identity: Option<Identity>,
    },
    /// A directory.
    Directory(Option<Identity>),
    /// Something that is no place for records: `a FIFO`.
    Other(&'static str),
}

/// Device and inode.
pub type Identity = (u64, u64);

impl Found {
    /// What the operating system says of a path.
    ///
    /// # Errors
    /// The file system does not say when files were written.
    pub fn of(metadata: &Metadata) -> io::Result<Self> {
        let identity = Some((metadata.dev(), metadata.ino()));
        let kind = metadata.file_type();
        Ok(match kind {
            _ if kind.is_file() => {
                let (size_bytes, modified) = (metadata.len(), metadata.modified()?);
                Self::File { size_bytes, modified, identity }
            }
            _ if kind.is_dir() => Self::Directory(identity),
            _ if kind.is_fifo() => Self::Other("a FIFO"),
            _ if kind.is_socket() => Self::Other("a socket"),
            _ => Self::Other("a device"),
        })
    }
}

/// The regular files that `pattern` names, sorted by path: the file of that name, else the files in
/// the directory of that name, else those that match the glob. None is no error.
///
/// # Errors
/// The pattern is none, or something that it names cannot be looked at or is no file.
pub fn list(places: &impl Places, pattern: &str) -> io::Result<Vec<FileEntry>> {
    let path = normal(Path::new(pattern));
    match unless_missing(places.look(or_here(&path)))? {
        Some(Found::Directory(_)) => {
            let paths = paths_in(places, &path)?;
            return entries(places, paths, |path, found| match found {
                Some(Found::Other(_)) => Ok(None),
                found => meant(places, path, found),
            });
        }
        Some(found) => {
            return Ok(entry(path, found)?.map(|(entry, _)| entry).into_iter().collect());
        }
        None => {}
    }
    // As a whole first, so that an error counts characters from the beginning.
    Pattern::new(pattern).map_err(invalid)?;
    let parts = path.components().map(Part::of).collect::<io::Result<Vec<_>>>()?;
    let mut walk = Walk { places, found: BTreeSet::new(), entered: BTreeSet::new() };
    walk.descend(PathBuf::new(), &parts)?;
    entries(places, walk.found, |path, found| meant(places, path, found))
}

/// The regular files in `directory`, whatever else is there, sorted by path; none if there is no
/// such directory.
///
/// # Errors
/// Something there cannot be looked at.
pub fn list_directory(places: &impl Places, directory: &Path) -> io::Result<Vec<FileEntry>> {
    let paths = paths_in(places, &normal(directory))?;
    entries(places, paths, |path, found| match found {
        None | Some(Found::Other(_)) => Ok(None),
        Some(found) => entry(path, found),
    })
}

/// What is in `directory`; nothing if there is no such directory.
fn paths_in(places: &impl Places, directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let names = unless_missing(places.names(or_here(directory)))?.unwrap_or_default();
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// `path` without the parts that mean nothing.
pub fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// A part of a pattern, between two slashes.
#[derive(Debug, Clone)]
enum Part {
    /// This name.
    Name(PathBuf),
    /// Names that match.
    Names(Pattern),
    /// Any number of directories, one below the other, or none.
    AnyDepth,
}

impl Part {
    fn of(component: Component<'_>) -> io::Result<Self> {
        let path: &Path = component.as_ref();
        match path.to_str() {
            Some("**") => Ok(Self::AnyDepth),
            Some(text) if text.contains(['*', '?', '[']) => {
                Pattern::new(text).map(Self::Names).map_err(invalid)
            }
            _ => Ok(Self::Name(path.to_owned())),
        }
    }
}

struct Walk<'a, P> {
    places: &'a P,
    found: BTreeSet<PathBuf>,
    /// The directories that `**` has entered, and how many parts of the pattern followed it.
    entered: BTreeSet<(Identity, usize)>,
}

impl<P: Places> Walk<'_, P> {
    /// Finds what `parts` name below `base`, which exists or not.
    fn descend(&mut self, base: PathBuf, parts: &[Part]) -> io::Result<()> {
        match parts {
            [] => {
                self.found.insert(base);
                Ok(())
            }
            [Part::Name(name), rest @ ..] => self.descend(base.join(name), rest),
            [Part::Names(pattern), rest @ ..] => {
                for name in self.names_in(&base)? {
                    if pattern.matches_with(&name.to_string_lossy(), GLOB) {
                        self.descend(base.join(name), rest)?;
                    }
                }
                Ok(())
            }
            [Part::AnyDepth, rest @ ..] => self.descend_any_depth(base, rest),
        }
    }

    /// Finds what `rest` names below `base` and below all directories in it.
    fn descend_any_depth(&mut self, base: PathBuf, rest: &[Part]) -> io::Result<()> {
        let found = unless_missing(self.places.look(or_here(&base)));
        match found.map_err(|error| at(&base, &error))? {
            Some(Found::Directory(identity)) => {
                if let Some(identity) = identity
                    && !self.entered.insert((identity, rest.len()))
                {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
        for name in self.names_in(&base)? {
            let path = base.join(&name);
            if is_hidden(&path) {
                continue;
            }
            if rest.is_empty() {
                // `in/**` means the files at any depth.
                self.found.insert(path.clone());
            }
            if !self.places.is_link(&path) {
                self.descend_any_depth(path, rest)?;
            }
        }
        if rest.is_empty() { Ok(()) } else { self.descend(base, rest) }
    }

    /// The names in `directory`; none if it has gone, or is no directory.
    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let names = unless_missing(self.places.names(or_here(directory)));
        Ok(names.map_err(|error| at(directory, &error))?.unwrap_or_default())
    }
}

/// The files among `paths`, each once.
fn entries(
    places: &impl Places,
    paths: BTreeSet<PathBuf>,
    entry: impl Fn(PathBuf, Option<Found>) -> io::Result<Option<(FileEntry, Option<Identity>)>>,
) -> io::Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let found = unless_missing(places.look(&path)).map_err(|error| at(&path, &error))?;
        let Some((file, identity)) = entry(path, found)? else { continue };
        if identity.is_none_or(|identity| seen.insert(identity)) {
            files.push(file);
        }
    }
    Ok(files)
}

/// The file at `path`, which the requester means, if it is there.
fn meant(
    places: &impl Places,
    path: PathBuf,
    found: Option<Found>,
) -> io::Result<Option<(FileEntry, Option<Identity>)>> {
    match found {
        Some(found) => entry(path, found),
        None if places.is_link(&path) && !is_hidden(&path) => {
            Err(invalid(format!("{} is a link to what is not there", path.display())))
        }
        None => Ok(None),
    }
}

/// Whether the last name of `path` begins with a dot.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The file at `path`; none if it is a directory.
fn entry(path: PathBuf, found: Found) -> io::Result<Option<(FileEntry, Option<Identity>)>> {
    match found {
        Found::File { size_bytes, modified, identity } => {
            Ok(Some((FileEntry { path, size_bytes, modified }, identity)))
        }
        Found::Directory(_) => Ok(None),
        Found::Other(what) => {
            let reason = format!("{} is {what}, and only regular files are read", path.display());
            Err(invalid(reason))
        }
    }
}

/// None for what is not there, or has gone meanwhile.
fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `error`, with the path that it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// The current directory has an empty path, which the operating system does not accept.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Listings that several requesters share, until the last of them has it.
#[derive(Debug, Default)]
pub struct SharedListings {
    kept: BTreeMap<u64, Kept>,
}

#[derive(Debug)]
struct Kept {
    files: Vec<FileEntry>,
    /// Requesters that have not taken it.
    left_count: u32,
}

impl SharedListings {
    /// What `list` gives, or what another requester of the group was given before.
    ///
    /// # Errors
    /// Those of `list`; the next of the group tries anew.
    pub fn get_or(
        &mut self,
        together: Option<Together>,
        list: impl FnOnce() -> io::Result<Vec<FileEntry>>,
    ) -> io::Result<Vec<FileEntry>> {
        let Some(together) = together else { return list() };
        if let Some(files) = self.take(together) {
            return Ok(files);
        }
        let files = list()?;
        self.keep(together, &files);
        Ok(files)
    }

    /// What another requester of the group was answered.
    pub fn take(&mut self, together: Together) -> Option<Vec<FileEntry>> {
        let kept = self.kept.get_mut(&together.group)?;
        kept.left_count -= 1;
        if kept.left_count > 0 {
            return Some(kept.files.clone());
        }
        self.kept.remove(&together.group).map(|kept| kept.files)
    }

    /// The first requester of the group is answered `files`.
    pub fn keep(&mut self, together: Together, files: &[FileEntry]) {
        let left_count = together.requester_count.saturating_sub(1);
        if left_count > 0 {
            self.kept.insert(together.group, Kept { files: files.to_vec(), left_count });
        }
    }
}

#[cfg(test)]
mod tests;
