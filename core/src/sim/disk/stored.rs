//! One stored file: its bytes, and which of them a crash may take away.
//!
//! ```text
//!            write          good sync
//!   bytes ──────────► unsynced ─────────► durable
//!                        │ failed sync: gone at once
//!                        │ crash: each change is kept, lost or torn
//! ```
//!
//! Only `bytes` is the file as it is read. A change that is not durable is kept as the way back:
//! what the bytes were before it. Undoing all changes, latest first, gives the durable content; a
//! crash does that and then repeats some of the changes. So a sync costs nothing, and a write what
//! it overwrites.
//!
//! Invariant: undoing `unsynced` from its end gives what the last good sync made durable.
//! Not here: names (`tree.rs`), who asks (`disk.rs`).

use std::time::SystemTime;

use crate::sim::rng::Rng;

/// A disk writes this many bytes at once or not at all.
const SECTOR_BYTES: usize = 512;

/// A file without its name.
#[derive(Debug)]
pub(super) struct StoredFile {
    /// What a read sees.
    pub(super) bytes: Vec<u8>,
    /// When it was last written, simulated time since 1970.
    pub(super) modified: SystemTime,
    /// Whether the bytes came from the real file system, and are still the same.
    pub(super) input: bool,
    /// The way back to the durable content, earliest change first.
    unsynced: Vec<Change>,
    /// What syncs do after one has failed.
    after_failure: Option<AfterFailure>,
}

#[derive(Debug)]
enum Change {
    /// `len` bytes were written at `offset`.
    Write {
        offset: usize,
        len: usize,
        /// What they replaced; shorter where the file grew.
        before: Vec<u8>,
        size_before: usize,
    },
    /// All bytes were cut off.
    Truncate { before: Vec<u8> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterFailure {
    /// They fail as well.
    Fail,
    /// They claim success, but nothing becomes durable.
    Lie,
}

/// A change that a crash may have let through.
enum Redo {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate,
}

impl StoredFile {
    /// A file whose content is durable.
    pub(super) fn durable(bytes: Vec<u8>, modified: SystemTime, input: bool) -> Self {
        Self { bytes, modified, input, unsynced: Vec::new(), after_failure: None }
    }

    /// Writes `bytes` at `offset`; a gap before it is filled with zeros.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8], modified: SystemTime) {
        if bytes.is_empty() {
            return;
        }
        let size_before = self.bytes.len();
        let overwritten = offset.min(size_before)..(offset + bytes.len()).min(size_before);
        let before = self.bytes[overwritten].to_vec();
        self.unsynced.push(Change::Write { offset, len: bytes.len(), before, size_before });
        self.put(offset, bytes);
        self.modified = modified;
        self.input = false;
    }

    /// Cuts off all bytes, as creating a file under an existing name does. Syncs tell the truth
    /// again.
    pub(super) fn truncate(&mut self, modified: SystemTime) {
        self.unsynced.push(Change::Truncate { before: std::mem::take(&mut self.bytes) });
        self.after_failure = None;
        self.modified = modified;
        self.input = false;
    }

    /// Makes everything durable, unless a sync has failed before. Says whether it claims success.
    pub(super) fn sync(&mut self) -> bool {
        match self.after_failure {
            None => {
                self.unsynced.clear();
                true
            }
            Some(AfterFailure::Lie) => true,
            Some(AfterFailure::Fail) => {
                self.drop_unsynced();
                false
            }
        }
    }

    /// A sync fails: the operating system forgets what it could not write.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.drop_unsynced();
        let fail = rng.chance(1, 2);
        self.after_failure = Some(if fail { AfterFailure::Fail } else { AfterFailure::Lie });
    }

    /// The power goes. What is left is durable.
    ///
    /// A change is kept, lost or, if it is a write, torn between sectors. With a truncation that is
    /// lost, everything after it is lost too: it went into blocks that nothing points at.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let mut redo = self.drop_unsynced();
        while let Some(change) = redo.pop() {
            match change {
                Redo::Truncate if rng.chance(1, 2) => self.bytes.clear(),
                Redo::Truncate => break,
                Redo::Write { offset, bytes } => match rng.below(3) {
                    0 => {}
                    1 => self.put(offset, &bytes),
                    _ => self.put_torn(offset, &bytes, rng),
                },
            }
        }
        self.after_failure = None;
    }

    /// Goes back to the durable content. Returns what was undone, latest first.
    fn drop_unsynced(&mut self) -> Vec<Redo> {
        let mut undone = Vec::with_capacity(self.unsynced.len());
        while let Some(change) = self.unsynced.pop() {
            undone.push(match change {
                Change::Truncate { before } => {
                    self.bytes = before;
                    Redo::Truncate
                }
                Change::Write { offset, len, before, size_before } => {
                    let bytes = self.bytes[offset..offset + len].to_vec();
                    self.bytes.truncate(size_before);
                    let start = offset.min(size_before);
                    self.bytes[start..start + before.len()].copy_from_slice(&before);
                    Redo::Write { offset, bytes }
                }
            });
        }
        undone
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    /// Puts some sectors of a write and not the others.
    fn put_torn(&mut self, offset: usize, bytes: &[u8], rng: &mut Rng) {
        let mut start = 0;
        while start < bytes.len() {
            let room = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
            let end = (start + room).min(bytes.len());
            if rng.chance(1, 2) {
                self.put(offset + start, &bytes[start..end]);
            }
            start = end;
        }
    }
}
