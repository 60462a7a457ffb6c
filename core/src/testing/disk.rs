//! [`MemoryDisk`]: files for tests, in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_storage::io::{
    FileAnswer, FileDone, FileEntry, FileFault, FileId, FileOp, OpenMode,
};
use millstream_storage::listing::SharedListings;

use crate::checkpoint::directory::Files;
use crate::connector::generator::draw::Draw;
use crate::operator::TaskEnv;

/// Files in memory, and answers in an order drawn from a seed: operations on one file in order,
/// others in any. Harnesses are given answers by it: see
/// [`OperatorHarness::serve_files`](crate::testing::OperatorHarness::serve_files) and
/// [`SourceHarness::run_on`](crate::testing::SourceHarness::run_on).
#[derive(Debug)]
pub struct MemoryDisk {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// What the system says about a path, whatever is done with it.
    pub(crate) faults: BTreeMap<PathBuf, std::io::ErrorKind>,
    /// What it says about one kind of operation (`write`, `sync`) on a path.
    pub(crate) faults_of: BTreeMap<(&'static str, PathBuf), std::io::ErrorKind>,
    open: BTreeMap<FileId, PathBuf>,
    /// Lock files that are held, and by how many: those of one host hold them together.
    pub(crate) locks: BTreeMap<PathBuf, u32>,
    waiting: Vec<FileOp>,
    listings: SharedListings,
    draw: Draw,
}

impl MemoryDisk {
    /// Without files.
    pub fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            faults: BTreeMap::new(),
            faults_of: BTreeMap::new(),
            open: BTreeMap::new(),
            locks: BTreeMap::new(),
            waiting: Vec::new(),
            listings: SharedListings::default(),
            draw: Draw::of_record(seed, 0),
        }
    }

    /// With a file.
    pub fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }

    /// With a path that cannot be used: this is the system's answer.
    pub fn failing(mut self, path: &str, kind: std::io::ErrorKind) -> Self {
        self.faults.insert(path.into(), kind);
        self
    }

    /// With a path on which one kind of operation fails, by its verb: `write`, `sync`.
    pub fn failing_at(mut self, verb: &'static str, path: &str, kind: std::io::ErrorKind) -> Self {
        self.faults_of.insert((verb, path.into()), kind);
        self
    }

    /// With a lock file that another run holds.
    pub fn locked(self, path: &str) -> Self {
        self.failing(path, std::io::ErrorKind::WouldBlock)
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// What is in a file, if there is one.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        self.files.get(path.as_ref()).map(Vec::as_slice)
    }

    /// Accepts what `env` asks for.
    pub(crate) fn accept(&mut self, env: &TaskEnv) {
        self.waiting.append(&mut env.requests.borrow_mut().files);
    }

    /// Accepts operations.
    pub(crate) fn accept_ops(&mut self, ops: Vec<FileOp>) {
        self.waiting.extend(ops);
    }

    /// The run that uses it dies: what waits may have been carried out, each file in its order, and
    /// nobody is told.
    #[cfg(test)]
    pub(crate) fn crash(&mut self) {
        let count = self.draw.below(self.waiting.len() as u64 + 1);
        (0..count).for_each(|_| drop(self.answer()));
        self.waiting.clear();
        self.open.clear();
        self.locks.clear();
    }

    /// Carries out one of the operations that wait; none if none does.
    pub(crate) fn answer(&mut self) -> Option<FileDone> {
        if self.waiting.is_empty() {
            return None;
        }
        let drawn = self.draw.below(self.waiting.len() as u64) as usize;
        Some(self.answer_at(self.turn_of(drawn)))
    }

    /// As [`MemoryDisk::answer`], but no reads, and what is behind them waits as well.
    pub(crate) fn answer_but_reads(&mut self) -> Option<FileDone> {
        let mut all = 0..self.waiting.len();
        let is_read = |index: usize| matches!(self.waiting[index], FileOp::Read { .. });
        let index = all.find(|index| !is_read(self.turn_of(*index)))?;
        Some(self.answer_at(self.turn_of(index)))
    }

    /// The operation that comes first of those on the same file as one that waits.
    fn turn_of(&self, index: usize) -> usize {
        let file = file_of(&self.waiting[index]);
        let same_file = |op: &FileOp| file.is_some() && file_of(op) == file;
        self.waiting.iter().position(same_file).unwrap_or(index)
    }

    fn answer_at(&mut self, index: usize) -> FileDone {
        let file = file_of(&self.waiting[index]);
        let op = self.waiting.remove(index);
        let id = op.id();
        let path = file.and_then(|file| self.open.get(&file));
        let action = op.action(path.map(PathBuf::as_path));
        let verb = action.split(' ').next().unwrap_or_default();
        let result = self.carry_out(op, verb);
        let fault = |source| FileFault { action, source };
        FileDone { op: id, result: result.map_err(fault) }
    }

    fn carry_out(&mut self, op: FileOp, verb: &str) -> std::io::Result<FileAnswer> {
        let path = match &op {
            FileOp::Open { path, .. }
            | FileOp::Remove { path, .. }
            | FileOp::ListDirectory { path, .. } => path.clone(),
            FileOp::Rename { from, .. } | FileOp::Link { from, .. } => from.clone(),
            FileOp::List { pattern, .. } => pattern.into(),
            FileOp::Read { file, .. }
            | FileOp::Write { file, .. }
            | FileOp::Sync { file, .. }
            | FileOp::Close { file, .. } => self.open[file].clone(),
        };
        let of_verb = self.faults_of.iter().find(|((at, of), _)| *at == verb && *of == path);
        let of_all = self.faults.get(&path).filter(|_| !matches!(op, FileOp::Close { .. }));
        if let Some(kind) = of_verb.map(|(_, kind)| kind).or(of_all) {
            if let FileOp::Open { file, path, .. } = op {
                self.open.insert(file, path);
            }
            return Err((*kind).into());
        }
        match op {
            FileOp::Open { file, path, mode: OpenMode::Lock, .. } => {
                *self.locks.entry(path.clone()).or_default() += 1;
                self.open.insert(file, path);
                Ok(FileAnswer::Opened { size_bytes: 0 })
            }
            FileOp::Open { file, path, mode, .. } => {
                self.open.insert(file, path.clone());
                if mode.creates() {
                    self.files.insert(path.clone(), Vec::new());
                }
                match self.files.get(&path) {
                    Some(bytes) => Ok(FileAnswer::Opened { size_bytes: bytes.len() as u64 }),
                    None => Err(std::io::ErrorKind::NotFound.into()),
                }
            }
            FileOp::Read { offset, len, .. } => {
                let bytes = self.files.get(&path).ok_or(std::io::ErrorKind::NotFound)?;
                let start = bytes.len().min(offset as usize);
                let end = bytes.len().min(start + len);
                Ok(FileAnswer::Read { bytes: bytes[start..end].to_vec() })
            }
            FileOp::Write { offset, bytes, .. } => {
                let content = self.files.get_mut(&path).expect("it is open");
                let end = content.len().max(offset as usize + bytes.len());
                content.resize(end, 0);
                content[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                Ok(FileAnswer::Written { bytes })
            }
            FileOp::Sync { .. } => Ok(FileAnswer::Synced),
            FileOp::Close { file, .. } => {
                if let Some(path) = self.open.remove(&file)
                    && let Some(holders) = self.locks.get_mut(&path)
                {
                    *holders -= 1;
                    self.locks.retain(|_, holders| 0 < *holders);
                }
                Ok(FileAnswer::Closed)
            }
            FileOp::Rename { from, to, .. } => {
                let bytes = self.files.remove(&from).expect("what is renamed is there");
                // Whoever has it open goes on with it.
                for path in self.open.values_mut().filter(|path| **path == from) {
                    path.clone_from(&to);
                }
                self.files.insert(to, bytes);
                Ok(FileAnswer::Renamed)
            }
            FileOp::Link { from, to, .. } => {
                let bytes = self.files.get(&from).cloned().expect("what is linked is there");
                self.files.insert(to, bytes);
                Ok(FileAnswer::Linked)
            }
            FileOp::Remove { path, .. } => {
                self.files.remove(&path);
                Ok(FileAnswer::Removed)
            }
            FileOp::List { pattern, together, .. } => {
                let files = self.list(&pattern);
                let files = self.listings.get_or(together, || Ok(files));
                files.map(|files| FileAnswer::Listed { files })
            }
            FileOp::ListDirectory { path, .. } => {
                Ok(FileAnswer::Listed { files: self.list(&path.to_string_lossy()) })
            }
        }
    }

    /// A path, a directory, or a directory and `*` with an ending.
    fn list(&self, pattern: &str) -> Vec<FileEntry> {
        let pattern = pattern.trim_end_matches('/');
        let is_meant = |path: &Path| match pattern.split_once('*') {
            Some((start, end)) => {
                let text = path.to_string_lossy();
                text.starts_with(start) && text.ends_with(end)
            }
            None => path == Path::new(pattern) || path.parent() == Some(Path::new(pattern)),
        };
        let meant = self.files.iter().filter(|(path, _)| is_meant(path));
        let entry = |(path, bytes): (&PathBuf, &Vec<u8>)| FileEntry {
            path: path.clone(),
            size_bytes: bytes.len() as u64,
            modified: SystemTime::UNIX_EPOCH,
        };
        meant.map(entry).collect()
    }
}

impl Files for MemoryDisk {
    fn names(&self, directory: &Path) -> std::io::Result<Vec<String>> {
        let names = self.paths().filter(|path| path.parent() == Some(directory));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect())
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.file(path).map(<[u8]>::to_vec).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn file_of(op: &FileOp) -> Option<FileId> {
    match op {
        FileOp::Open { file, .. }
        | FileOp::Read { file, .. }
        | FileOp::Write { file, .. }
        | FileOp::Sync { file, .. }
        | FileOp::Close { file, .. } => Some(*file),
        FileOp::Rename { .. }
        | FileOp::Link { .. }
        | FileOp::Remove { .. }
        | FileOp::List { .. }
        | FileOp::ListDirectory { .. } => None,
    }
}
