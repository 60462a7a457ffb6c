//! The simulated disk: the contract of `storage/src/io.rs`, in memory, with a seed and with faults.
//!
//! ```text
//! submit ──► waiting, by the time it is due ──poll──► carried out ──► FileDone
//!               │                                        │
//!             latency                     names (`tree.rs`), bytes (`stored.rs`)
//!               │                                        │
//!            crash: some of what waited happened, what was not durable is lost or torn
//! ```
//!
//! An operation takes effect when it is due, so what waits at a crash may or may not have happened.
//! It is never due before an earlier one of the same file id, or, for operations that name paths,
//! of the same path. The two orders are apart: a rename may overtake a write to the open file, as
//! on a host that carries both out at once. A requester waits for the sync before it renames.
//!
//! Paths that a run has not written are read from the real file system: a job's inputs.
//!
//! Invariant: latency is drawn in the order of submission and faults in the order of carrying out,
//! so when and how often [`Disk::poll`] is called changes no answer.
//! Not here: what may go wrong ([`DiskFaults`]); time itself, which the world passes in.

mod errno;
mod faults;
#[expect(clippy::disallowed_methods, reason = "the inputs of a simulated job are real files")]
mod real;
mod stored;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millstream_storage::io::{FileAnswer, FileDone, FileFault, FileId, FileOp, OpenMode};
use millstream_storage::listing::{self, SharedListings};

use self::errno::os_error;
use self::stored::StoredFile;
use self::tree::{StoredId, Tree};
use super::rng::{Chance, Rng};
use crate::checkpoint::directory::Files;

pub use self::faults::DiskFaults;

/// A disk of one node.
#[derive(Debug)]
pub struct Disk {
    /// What goes wrong from now on.
    pub faults: DiskFaults,
    tree: Tree,
    /// By the requester's name. A file whose opening failed is here too, until it is closed.
    open: BTreeMap<FileId, OpenFile>,
    /// Open lock files. There is no other host, so whoever asks may hold one, and they leave no
    /// trace among the files.
    locks: BTreeSet<FileId>,
    /// By when an operation is due, then by its number.
    waiting: BTreeMap<(Duration, u64), FileOp>,
    /// When the last operation of a lane is due. Lanes with nothing to wait for are not here.
    lanes: BTreeMap<Lane, Duration>,
    listings: SharedListings,
    submitted_count: u64,
    latency_rng: Rng,
    fault_rng: Rng,
    crash_rng: Rng,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    mode: OpenMode,
    /// None if it could not be opened.
    stored: Option<StoredId>,
}

impl Files for Disk {
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let below = self.files().filter_map(|(path, _)| path.strip_prefix(directory).ok());
        let names = below.filter_map(|path| path.iter().next()?.to_str());
        let names: BTreeSet<&str> = names.collect();
        Ok(names.into_iter().map(str::to_string).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.files().find(|(other, _)| *other == path);
        file.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Operations of one lane are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    File(FileId),
    Path(PathBuf),
}

impl Disk {
    /// An empty disk above the real file system.
    pub fn new(rng: Rng, faults: DiskFaults) -> Self {
        Self {
            faults,
            tree: Tree::default(),
            open: BTreeMap::new(),
            locks: BTreeSet::new(),
            waiting: BTreeMap::new(),
            lanes: BTreeMap::new(),
            listings: SharedListings::default(),
            submitted_count: 0,
            latency_rng: rng.fork(0),
            fault_rng: rng.fork(1),
            crash_rng: rng,
        }
    }

    /// Accepts `op` at `now`; answers when it is due. It is carried out and answered by the first
    /// [`Self::poll`] from then on.
    pub fn submit(&mut self, now: Duration, op: FileOp) -> Duration {
        let mut due = now + self.latency_rng.duration(&self.faults.latency);
        let syncs =
            matches!(op, FileOp::Sync { .. } | FileOp::Rename { .. } | FileOp::Remove { .. });
        if syncs && self.latency_rng.draw(self.faults.slow_sync) {
            due += self.latency_rng.duration(&self.faults.slow_sync_latency);
        }
        let lanes = lanes(&op);
        due = lanes.iter().filter_map(|lane| self.lanes.get(lane)).fold(due, |a, b| a.max(*b));
        self.lanes.extend(lanes.into_iter().map(|lane| (lane, due)));
        self.waiting.insert((due, self.submitted_count), op);
        self.submitted_count += 1;
        due
    }

    /// Carries out what is due by `now` and appends the answers to `done`, earliest first.
    pub fn poll(&mut self, now: Duration, done: &mut Vec<FileDone>) {
        while let Some(entry) = self.waiting.first_entry() {
            if now < entry.key().0 {
                break;
            }
            let ((due, number), op) = entry.remove_entry();
            done.push(self.carry_out(due, number, op));
        }
        self.lanes.retain(|_, due| now < *due);
    }

    /// When the next answer is due, if one is waited for.
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }

    /// The files that the run has written or was prepared with, by path, as a read would see them.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.tree.written()
    }

    /// Puts a file at `path`, durably and at once: a way to prepare inputs.
    pub fn write_file(&mut self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) {
        self.tree.write_file(path.as_ref(), bytes.into());
    }

    /// Removes what is below `path`, durably and at once.
    pub(super) fn remove_directory(&mut self, path: impl AsRef<Path>) {
        self.tree.remove_directory(path.as_ref());
    }

    /// The power goes. No open file and no waiting operation is left, and none is answered.
    ///
    /// What was durable is unchanged. Of what waited, each lane may have got somewhere; writes that
    /// were not synced are kept, lost or torn, names that were not durable kept or lost.
    pub fn crash(&mut self) {
        let mut stopped = BTreeSet::new();
        for ((due, number), op) in std::mem::take(&mut self.waiting) {
            let lanes = lanes(&op);
            let blocked = lanes.iter().any(|lane| stopped.contains(lane));
            if blocked || self.crash_rng.chance(1, 2) {
                stopped.extend(lanes);
            } else {
                // Its answer is lost with the one who waited for it.
                drop(self.carry_out(due, number, op));
            }
        }
        self.lanes.clear();
        self.open.clear();
        self.locks.clear();
        self.listings = SharedListings::default();
        self.tree.crash(&mut self.crash_rng);
    }

    fn carry_out(&mut self, due: Duration, number: u64, op: FileOp) -> FileDone {
        let (id, action) = (op.id(), self.action(&op));
        let fails = self.draw_failure(number, &op);
        let now = SystemTime::UNIX_EPOCH + due;
        let result = match op {
            FileOp::Open { file, path, mode, .. } => self.open(file, path, mode, now, fails),
            FileOp::Read { file, offset, len, .. } if !fails => self.read(file, offset, len),
            FileOp::Write { file, offset, bytes, .. } => {
                self.write(file, offset, bytes, now, fails)
            }
            FileOp::Sync { file, .. } => self.sync(file, fails),
            FileOp::Close { file, .. } => self.close(file, fails),
            FileOp::Rename { from, to, .. } if !fails => {
                self.tree.rename(&from, &to).map(|()| FileAnswer::Renamed)
            }
            FileOp::Link { from, to, .. } if !fails => {
                self.tree.link(&from, &to).map(|()| FileAnswer::Linked)
            }
            FileOp::Remove { path, .. } if !fails => {
                self.tree.remove(&path).map(|()| FileAnswer::Removed)
            }
            FileOp::List { pattern, together, .. } if !fails => {
                let list = || listing::list(&self.tree, &pattern);
                let files = self.listings.get_or(together, list);
                files.map(|files| FileAnswer::Listed { files })
            }
            FileOp::ListDirectory { path, .. } if !fails => {
                let files = listing::list_directory(&self.tree, &path);
                files.map(|files| FileAnswer::Listed { files })
            }
            FileOp::Read { .. }
            | FileOp::Rename { .. }
            | FileOp::Link { .. }
            | FileOp::Remove { .. }
            | FileOp::List { .. }
            | FileOp::ListDirectory { .. } => Err(os_error(errno::EIO)),
        };
        if let Ok(FileAnswer::Closed | FileAnswer::Renamed | FileAnswer::Removed) = result {
            self.tree.forget_unnamed(self.open.values().filter_map(|file| file.stored));
        }
        FileDone { op: id, result: result.map_err(|source| FileFault { action, source }) }
    }

    fn draw_failure(&mut self, number: u64, op: &FileOp) -> bool {
        let chance = match op {
            FileOp::Read { .. } => self.faults.read_error,
            FileOp::Write { .. } => self.faults.write_error,
            FileOp::Sync { .. } => self.faults.sync_error,
            _ => Chance::NEVER,
        };
        self.fault_rng.draw(chance) || self.faults.failing_ops.contains(&number)
    }

    fn open(
        &mut self,
        file: FileId,
        path: PathBuf,
        mode: OpenMode,
        now: SystemTime,
        fails: bool,
    ) -> io::Result<FileAnswer> {
        if self.open.get(&file).is_some_and(|before| before.stored.is_some()) {
            let message = "the requester's id names an open file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if mode == OpenMode::Lock {
            return self.lock(file, path, fails);
        }
        let stored = match mode {
            _ if fails => Err(os_error(errno::EIO)),
            OpenMode::Read | OpenMode::ReadDirect => self.tree.find(&path),
            OpenMode::Create | OpenMode::CreateDirect => self.tree.create(&path, now),
            OpenMode::Lock => unreachable!("it was just looked at"),
        };
        let open = OpenFile { path, mode, stored: stored.as_ref().ok().copied() };
        self.open.insert(file, open);
        Ok(FileAnswer::Opened { size_bytes: self.tree.file(stored?).bytes.len() as u64 })
    }

    fn lock(&mut self, file: FileId, path: PathBuf, fails: bool) -> io::Result<FileAnswer> {
        self.open.insert(file, OpenFile { path, mode: OpenMode::Lock, stored: None });
        if fails {
            return Err(os_error(errno::EIO));
        }
        self.locks.insert(file);
        Ok(FileAnswer::Opened { size_bytes: 0 })
    }

    fn read(&mut self, file: FileId, offset: u64, len: usize) -> io::Result<FileAnswer> {
        let (stored, mode) = self.usable(file)?;
        if matches!(mode, OpenMode::Create | OpenMode::CreateDirect) {
            return Err(os_error(errno::EBADF));
        }
        check_aligned(mode, offset, len)?;
        let content = &self.tree.file(stored).bytes;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(len).min(content.len());
        Ok(FileAnswer::Read { bytes: content[start..end].to_vec() })
    }

    fn write(
        &mut self,
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
        now: SystemTime,
        fails: bool,
    ) -> io::Result<FileAnswer> {
        let (stored, mode) = self.usable(file)?;
        if matches!(mode, OpenMode::Read | OpenMode::ReadDirect) {
            return Err(os_error(errno::EBADF));
        }
        check_aligned(mode, offset, bytes.len())?;
        let fits = self.fitting_bytes(stored, offset, bytes.len());
        let offset = usize::try_from(offset).map_err(|_| os_error(errno::EFBIG))?;
        if fails {
            let written = self.fault_rng.below(fits as u64 + 1) as usize;
            self.tree.file_mut(stored).write(offset, &bytes[..written], now);
            return Err(os_error(errno::EIO));
        }
        self.tree.file_mut(stored).write(offset, &bytes[..fits], now);
        if fits < bytes.len() {
            return Err(os_error(errno::ENOSPC));
        }
        Ok(FileAnswer::Written { bytes })
    }

    /// How many of `len` bytes at `offset` the disk has room for.
    fn fitting_bytes(&self, stored: StoredId, offset: u64, len: usize) -> usize {
        let Some(capacity_bytes) = self.faults.capacity_bytes else { return len };
        let size_bytes = self.tree.file(stored).bytes.len() as u64;
        let free_bytes = capacity_bytes.saturating_sub(self.tree.used_bytes());
        let end_max = size_bytes + free_bytes;
        len.min(usize::try_from(end_max.saturating_sub(offset)).unwrap_or(usize::MAX))
    }

    fn sync(&mut self, file: FileId, fails: bool) -> io::Result<FileAnswer> {
        let (stored, _) = self.usable(file)?;
        let stored: &mut StoredFile = self.tree.file_mut(stored);
        if fails {
            stored.fail_sync(&mut self.fault_rng);
        } else if stored.sync() {
            return Ok(FileAnswer::Synced);
        }
        Err(os_error(errno::EIO))
    }

    fn close(&mut self, file: FileId, fails: bool) -> io::Result<FileAnswer> {
        let usable = self.usable(file).map(drop);
        self.open.remove(&file);
        if !self.locks.remove(&file) {
            usable?;
        }
        // The file is closed even so: the operating system reports what it could not write.
        if fails { Err(os_error(errno::EIO)) } else { Ok(FileAnswer::Closed) }
    }

    fn usable(&self, file: FileId) -> io::Result<(StoredId, OpenMode)> {
        let open = self.open.get(&file).and_then(|open| Some((open.stored?, open.mode)));
        open.ok_or_else(|| os_error(errno::EBADF))
    }

    /// What `op` does, in the words of an error.
    fn action(&self, op: &FileOp) -> String {
        let path = match op {
            FileOp::Read { file, .. }
            | FileOp::Write { file, .. }
            | FileOp::Sync { file, .. }
            | FileOp::Close { file, .. } => self.open.get(file).map(|open| open.path.as_path()),
            _ => None,
        };
        op.action(path)
    }
}

/// Which earlier operations `op` may not overtake.
fn lanes(op: &FileOp) -> Vec<Lane> {
    match op {
        FileOp::Open { file, path, .. } => vec![Lane::File(*file), Lane::Path(path.clone())],
        FileOp::Read { file, .. }
        | FileOp::Write { file, .. }
        | FileOp::Sync { file, .. }
        | FileOp::Close { file, .. } => vec![Lane::File(*file)],
        FileOp::Rename { from, to, .. } | FileOp::Link { from, to, .. } => {
            vec![Lane::Path(from.clone()), Lane::Path(to.clone())]
        }
        FileOp::Remove { path, .. } => vec![Lane::Path(path.clone())],
        FileOp::List { .. } | FileOp::ListDirectory { .. } => Vec::new(),
    }
}

fn check_aligned(mode: OpenMode, offset: u64, len: usize) -> io::Result<()> {
    if mode.accepts(offset, len) { Ok(()) } else { Err(os_error(errno::EINVAL)) }
}
