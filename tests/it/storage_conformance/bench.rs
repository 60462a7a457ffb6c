//! One requester of one disk, whichever it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream::runtime::parking::Parker;
use millstream::runtime::storage_service::{StorageDriver, StorageHandle, StorageService};
use millstream::sim::disk::{Disk, DiskFaults};
use millstream::sim::rng::Rng;
use millstream_storage::io::{FileAnswer, FileDone, FileId, FileOp, OpId, OpenMode, Together};
use tempfile::TempDir;

/// Longer than any script takes on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A disk, a directory on it, and the operations of a script.
pub(super) struct Bench {
    pub(super) name: &'static str,
    directory: TempDir,
    host: Host,
    ops: Vec<FileOp>,
    op_count: u64,
}

enum Host {
    Real { handle: StorageHandle, _service: StorageService, start: Instant },
    Simulated { disk: Box<Disk>, now: Duration },
}

/// Runs `script` on every disk.
pub(super) fn on_every_disk(script: impl Fn(&mut Bench)) {
    on_real_disks(&script);
    for seed in 0..10 {
        // Answers come in another order with every seed; without latency all would be the same.
        let latency = Duration::ZERO..Duration::from_millis(seed);
        let faults = DiskFaults { latency, ..DiskFaults::NONE };
        let disk = Box::new(Disk::new(Rng::new(seed), faults));
        script(&mut Bench::new("simulated", Host::Simulated { disk, now: Duration::ZERO }));
    }
}

/// Runs `script` on the two disks that are real.
pub(super) fn on_real_disks(script: impl Fn(&mut Bench)) {
    for (name, driver) in [("glommio", StorageDriver::Glommio), ("ring", StorageDriver::Ring)] {
        script(&mut Bench::new(name, real(driver)));
    }
}

fn real(driver: StorageDriver) -> Host {
    let waker = Parker::with_eventfd().expect("descriptors are left").waker();
    let (service, mut handles) =
        StorageService::start(driver, None, vec![waker]).expect("the service starts");
    assert_eq!(service.driver(), driver, "raise the limit of locked memory, or nothing is tested");
    let handle = handles.remove(0);
    Host::Real { handle, _service: service, start: Instant::now() }
}

impl Bench {
    fn new(name: &'static str, host: Host) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self { name, directory, host, ops: Vec::new(), op_count: 0 }
    }

    /// A path on the disk under test.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a file where every disk finds it.
    pub(super) fn prepare(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it is below the directory"))
            .and_then(|()| std::fs::write(path, bytes))
            .expect("the temporary directory is writable");
    }

    fn next_op(&mut self) -> OpId {
        self.op_count += 1;
        OpId(self.op_count - 1)
    }

    pub(super) fn open(&mut self, file: u64, name: &str, mode: OpenMode) -> &mut Self {
        let (op, path) = (self.next_op(), self.path(name));
        self.ops.push(FileOp::Open { op, file: FileId(file), path, mode });
        self
    }

    pub(super) fn read(&mut self, file: u64, offset: u64, len: usize) -> &mut Self {
        let op = self.next_op();
        self.ops.push(FileOp::Read { op, file: FileId(file), offset, len });
        self
    }

    pub(super) fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> &mut Self {
        let op = self.next_op();
        let bytes = bytes.to_vec();
        self.ops.push(FileOp::Write { op, file: FileId(file), offset, bytes });
        self
    }

    pub(super) fn sync(&mut self, file: u64) -> &mut Self {
        let op = self.next_op();
        self.ops.push(FileOp::Sync { op, file: FileId(file) });
        self
    }

    pub(super) fn close(&mut self, file: u64) -> &mut Self {
        let op = self.next_op();
        self.ops.push(FileOp::Close { op, file: FileId(file) });
        self
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> &mut Self {
        let (op, from, to) = (self.next_op(), self.path(from), self.path(to));
        self.ops.push(FileOp::Rename { op, from, to });
        self
    }

    pub(super) fn remove(&mut self, name: &str) -> &mut Self {
        let (op, path) = (self.next_op(), self.path(name));
        self.ops.push(FileOp::Remove { op, path });
        self
    }

    pub(super) fn list(&mut self, pattern: &str) -> &mut Self {
        let op = self.next_op();
        let pattern = self.path(pattern).display().to_string();
        self.ops.push(FileOp::List { op, pattern, together: None });
        self
    }

    /// As one of two requesters that are given the same answer.
    pub(super) fn list_together(&mut self, pattern: &str) -> &mut Self {
        let op = self.next_op();
        let pattern = self.path(pattern).display().to_string();
        let together = Some(Together { group: 7, requester_count: 2 });
        self.ops.push(FileOp::List { op, pattern, together });
        self
    }

    pub(super) fn list_directory(&mut self, name: &str) -> &mut Self {
        let (op, path) = (self.next_op(), self.path(name));
        self.ops.push(FileOp::ListDirectory { op, path });
        self
    }

    /// Asks for everything at once and waits for all answers, by number.
    pub(super) fn answers(&mut self) -> Vec<FileDone> {
        let ops = std::mem::take(&mut self.ops);
        let count = ops.len();
        let files: BTreeMap<OpId, FileId> = ops.iter().filter_map(file_of).collect();
        let mut done = match &mut self.host {
            Host::Real { handle, start, .. } => carry_out(handle, *start, ops),
            Host::Simulated { disk, now } => simulate(disk, now, ops),
        };
        let mut last_of_file = BTreeMap::new();
        for answer in &done {
            if let Some(file) = files.get(&answer.op) {
                let before = last_of_file.insert(file, answer.op);
                assert!(before < Some(answer.op), "{}: file {file} is out of order", self.name);
            }
        }
        done.sort_by_key(|answer| answer.op);
        done.dedup_by_key(|answer| answer.op);
        assert_eq!(done.len(), count, "{}: one answer each", self.name);
        done
    }

    /// Runs what was asked for and compares the transcript. Paths are relative to the directory.
    pub(super) fn expect(&mut self, lines: &[&str]) {
        let directory = format!("{}/", self.directory.path().display());
        let found: Vec<String> =
            self.answers().iter().map(|done| line(done).replace(&directory, "")).collect();
        assert_eq!(found, lines, "on the {} disk", self.name);
    }
}

/// The file that an operation is queued for.
fn file_of(op: &FileOp) -> Option<(OpId, FileId)> {
    match op {
        FileOp::Open { op, file, .. }
        | FileOp::Read { op, file, .. }
        | FileOp::Write { op, file, .. }
        | FileOp::Sync { op, file }
        | FileOp::Close { op, file } => Some((*op, *file)),
        _ => None,
    }
}

fn carry_out(handle: &mut StorageHandle, start: Instant, ops: Vec<FileOp>) -> Vec<FileDone> {
    let mut done = Vec::new();
    for op in ops {
        handle.submit(op);
    }
    while handle.outstanding_count() > 0 {
        if handle.poll(start.elapsed(), &mut done) == 0 {
            std::thread::yield_now();
        }
        assert!(start.elapsed() < PATIENCE, "{} unanswered", handle.outstanding_count());
    }
    done
}

fn simulate(disk: &mut Disk, now: &mut Duration, ops: Vec<FileOp>) -> Vec<FileDone> {
    let mut done = Vec::new();
    for op in ops {
        disk.submit(*now, op);
    }
    while let Some(due) = disk.next_due() {
        *now = due;
        disk.poll(due, &mut done);
    }
    done
}

fn line(done: &FileDone) -> String {
    match &done.result {
        Ok(FileAnswer::Opened { size_bytes }) => format!("opened {size_bytes}"),
        Ok(FileAnswer::Read { bytes }) => format!("read {}", text(bytes)),
        Ok(FileAnswer::Written { bytes }) => format!("written {}", text(bytes)),
        Ok(FileAnswer::Synced) => "synced".to_owned(),
        Ok(FileAnswer::Closed) => "closed".to_owned(),
        Ok(FileAnswer::Renamed) => "renamed".to_owned(),
        Ok(FileAnswer::Linked) => "linked".to_owned(),
        Ok(FileAnswer::Removed) => "removed".to_owned(),
        Ok(FileAnswer::Listed { files }) => {
            let name = |path: &Path| path.display().to_string();
            let files: Vec<_> = files
                .iter()
                .map(|file| format!("{} {}", name(&file.path), file.size_bytes))
                .collect();
            format!("listed {}", files.join(", "))
        }
        Err(fault) => format!("{fault}: {}", fault.source),
    }
}

/// Short contents as they are, long ones by length, first and last byte.
fn text(bytes: &[u8]) -> String {
    match bytes {
        [first, .., last] if bytes.len() > 32 => {
            format!("{}*{}..{}", bytes.len(), *first as char, *last as char)
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
