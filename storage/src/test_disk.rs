//! A disk in memory, as [`crate::io`] wants a host: operations on one file are answered in their
//! order, others as the test chooses. One fault can be set, and comes with the next operation that
//! it can come with. What was written and not synced is gone after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::io::{FileAnswer, FileDone, FileEntry, FileFault, FileId, FileOp};

/// What goes wrong next, once; but a full disk stays full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Full,
    CreateFails,
    WriteFails,
    SyncFails,
    /// The file has its new name, or not: the directory could not be synced.
    RenameFails,
    /// For reading.
    OpenFails,
    ReadFails,
    ReadIsShort,
    ReadIsDamaged,
    ListFails,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::Full,
        Self::CreateFails,
        Self::WriteFails,
        Self::SyncFails,
        Self::RenameFails,
        Self::OpenFails,
        Self::ReadFails,
        Self::ReadIsShort,
        Self::ReadIsDamaged,
        Self::ListFails,
    ];
}

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    /// What of it a crash leaves.
    durable: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Disk {
    names: BTreeMap<PathBuf, usize>,
    contents: Vec<Contents>,
    open: BTreeMap<FileId, usize>,
    asked: Vec<FileOp>,
    pub(crate) fault: Option<Fault>,
    /// What was carried out, or not, so far.
    pub(crate) write_count: usize,
    pub(crate) sync_count: usize,
}

impl Disk {
    pub(crate) fn ask(&mut self, op: FileOp) {
        self.asked.push(op);
    }

    /// Answers one operation, after those before it on the same file.
    pub(crate) fn answer(&mut self, choice: u16) -> Option<FileDone> {
        let chosen = usize::from(choice) % self.asked.len().max(1);
        let file = file_of(self.asked.get(chosen)?);
        let first = self.asked.iter().position(|op| file.is_some() && file_of(op) == file);
        let op = self.asked.remove(first.unwrap_or(chosen));
        let fault = |kind| FileFault { action: op.action(None), source: io::Error::from(kind) };
        Some(FileDone { op: op.id(), result: self.carry_out(&op).map_err(fault) })
    }

    /// What is open, asked for and not synced is gone.
    pub(crate) fn crash(&mut self) {
        self.open.clear();
        self.asked.clear();
        self.fault = None;
        for contents in &mut self.contents {
            contents.bytes.clone_from(&contents.durable);
        }
    }

    pub(crate) fn paths(&self) -> BTreeSet<PathBuf> {
        self.names.keys().cloned().collect()
    }

    pub(crate) fn make_room(&mut self) {
        self.fault = self.fault.filter(|fault| *fault != Fault::Full);
    }

    pub(crate) fn read(&self, file: FileId, offset: u64, len: usize) -> Vec<u8> {
        let contents = &self.contents[self.open[&file]].bytes;
        let start = contents.len().min(offset as usize);
        contents[start..contents.len().min(start + len)].to_vec()
    }

    /// A file, durable with all that is in it.
    pub(crate) fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        self.names.insert(path.to_path_buf(), self.contents.len());
        self.contents.push(Contents { durable: bytes.clone(), bytes });
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Vec<u8> {
        let contents = self.names.remove(path).expect("the file is there");
        self.contents[contents].bytes.clone()
    }

    fn is_due(&mut self, fault: Fault) -> bool {
        let is_due = self.fault == Some(fault);
        if is_due && fault != Fault::Full {
            self.fault = None;
        }
        is_due
    }

    fn carry_out(&mut self, op: &FileOp) -> Result<FileAnswer, io::ErrorKind> {
        use io::ErrorKind::{NotFound, Other, StorageFull};
        match op {
            FileOp::Open { file, path, mode, .. } => {
                if mode.creates() {
                    if self.is_due(Fault::Full) {
                        return Err(StorageFull);
                    }
                    if self.is_due(Fault::CreateFails) {
                        return Err(Other);
                    }
                    self.put(path, Vec::new());
                } else if self.is_due(Fault::OpenFails) {
                    return Err(Other);
                }
                let contents = *self.names.get(path).ok_or(NotFound)?;
                assert!(self.open.insert(*file, contents).is_none(), "an id names one file");
                Ok(FileAnswer::Opened { size_bytes: self.contents[contents].bytes.len() as u64 })
            }
            FileOp::Read { file, offset, len, .. } => {
                assert!(self.open.contains_key(file), "a file is read while it is open");
                if self.is_due(Fault::ReadFails) {
                    return Err(Other);
                }
                let mut bytes = self.read(*file, *offset, *len);
                if self.is_due(Fault::ReadIsShort) {
                    bytes.pop();
                }
                if self.is_due(Fault::ReadIsDamaged) {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                }
                Ok(FileAnswer::Read { bytes })
            }
            FileOp::Write { file, offset, bytes, .. } => {
                let contents = *self.open.get(file).ok_or(NotFound)?;
                self.write_count += 1;
                if self.is_due(Fault::Full) {
                    return Err(StorageFull);
                }
                if self.is_due(Fault::WriteFails) {
                    return Err(Other);
                }
                let contents = &mut self.contents[contents].bytes;
                let start = *offset as usize;
                contents.resize(contents.len().max(start + bytes.len()), 0);
                contents[start..start + bytes.len()].copy_from_slice(bytes);
                Ok(FileAnswer::Written { bytes: bytes.clone() })
            }
            FileOp::Sync { file, .. } => {
                let contents = *self.open.get(file).ok_or(NotFound)?;
                self.sync_count += 1;
                if self.is_due(Fault::SyncFails) {
                    // What was written is lost, and the next sync would say nothing of it.
                    self.contents[contents].bytes.fill(0);
                    return Err(Other);
                }
                let contents = &mut self.contents[contents];
                contents.durable.clone_from(&contents.bytes);
                Ok(FileAnswer::Synced)
            }
            FileOp::Close { file, .. } => {
                self.open.remove(file).map(|_| FileAnswer::Closed).ok_or(NotFound)
            }
            FileOp::Rename { from, to, .. } => {
                let contents = self.names.remove(from).ok_or(NotFound)?;
                self.names.insert(to.clone(), contents);
                if self.is_due(Fault::RenameFails) {
                    return Err(Other);
                }
                Ok(FileAnswer::Renamed)
            }
            FileOp::Remove { path, .. } => {
                self.names.remove(path).map(|_| FileAnswer::Removed).ok_or(NotFound)
            }
            FileOp::ListDirectory { path, .. } => {
                if self.is_due(Fault::ListFails) {
                    return Err(Other);
                }
                let names = self.names.iter().filter(|(name, _)| name.parent() == Some(path));
                let entry = |(name, contents): (&PathBuf, &usize)| FileEntry {
                    path: name.clone(),
                    size_bytes: self.contents[*contents].bytes.len() as u64,
                    modified: SystemTime::UNIX_EPOCH,
                };
                Ok(FileAnswer::Listed { files: names.map(entry).collect() })
            }
            FileOp::List { .. } => unreachable!("nobody looks for patterns"),
            FileOp::Link { .. } => unreachable!("nobody links"),
        }
    }
}

fn file_of(op: &FileOp) -> Option<FileId> {
    match op {
        FileOp::Open { file, .. }
        | FileOp::Read { file, .. }
        | FileOp::Write { file, .. }
        | FileOp::Sync { file, .. }
        | FileOp::Close { file, .. } => Some(*file),
        _ => None,
    }
}
