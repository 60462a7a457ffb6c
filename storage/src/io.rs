//! File operations as values: what a shard asks of its disk, and what comes back.
//!
//! ```text
//! shard ──FileOp──► host: storage service, or simulated disk
//!       ◄─FileDone──
//! ```
//!
//! Every [`FileOp`] is answered by exactly one [`FileDone`] with the same [`OpId`]. Operations on
//! one file are carried out in the order in which they were asked for; operations on different
//! files in any order. The requester chooses [`FileId`]s and may use one from the moment it has
//! asked for the file to be opened: an operation on a file whose opening failed fails as well.
//!
//! Durability: a write is durable once a later [`FileOp::Sync`] of the same file has succeeded. A
//! name is durable once [`FileOp::Rename`] or [`FileOp::Remove`] has succeeded: the host syncs the
//! directory before it answers. After a failed sync nothing that was written since the last
//! successful one may be trusted, whatever a later sync says.
//!
//! Not here: who carries the operations out (`runtime/` and `sim/` of the engine).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

/// Names one operation of one requester; its answer carries the same number.
///
/// The meaning of the bits is the requester's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Names an open file of one requester. Chosen by the requester; never reused while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, through the page cache. For inputs that somebody else wrote.
    Read,
    /// Existing file, direct I/O: offsets and lengths are multiples of
    /// [`DIRECT_ALIGNMENT_BYTES`]. For tables and checkpoints.
    ReadDirect,
    /// New or truncated file, through the page cache, written at any offset.
    Create,
    /// New or truncated file, direct I/O, written in multiples of [`DIRECT_ALIGNMENT_BYTES`].
    CreateDirect,
}

/// Direct reads and writes start at, and span, multiples of this.
pub const DIRECT_ALIGNMENT_BYTES: usize = 4096;

/// One wish of a shard to its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOp {
    /// Opens `path` under the name `file`. Parent directories are created for the `Create` modes.
    Open {
        /// Answered under this number.
        op: OpId,
        /// The requester's name for the file from now on.
        file: FileId,
        /// Where it is.
        path: PathBuf,
        /// For what.
        mode: OpenMode,
    },
    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    Read {
        /// Answered under this number.
        op: OpId,
        /// Which file.
        file: FileId,
        /// First byte.
        offset: u64,
        /// Most bytes wanted.
        len: usize,
    },
    /// Writes all of `bytes` at `offset`.
    Write {
        /// Answered under this number.
        op: OpId,
        /// Which file.
        file: FileId,
        /// First byte.
        offset: u64,
        /// What to write; comes back, emptied of meaning, in [`FileAnswer::Written`] for reuse.
        bytes: Vec<u8>,
    },
    /// Makes everything written to `file` so far durable.
    Sync {
        /// Answered under this number.
        op: OpId,
        /// Which file.
        file: FileId,
    },
    /// Closes `file`. Its id is free again once this is answered.
    Close {
        /// Answered under this number.
        op: OpId,
        /// Which file.
        file: FileId,
    },
    /// Gives `from` the name `to`, replacing it atomically, and syncs the directory.
    Rename {
        /// Answered under this number.
        op: OpId,
        /// Today's name.
        from: PathBuf,
        /// The name from now on, on the same file system.
        to: PathBuf,
    },
    /// Removes `path` and syncs the directory.
    Remove {
        /// Answered under this number.
        op: OpId,
        /// What to remove.
        path: PathBuf,
    },
    /// Lists the regular files that `pattern` (a path or a shell glob) names, sorted by path.
    List {
        /// Answered under this number.
        op: OpId,
        /// A path, a directory (its files, not recursive) or a glob.
        pattern: String,
    },
}

impl FileOp {
    /// The number under which this will be answered.
    pub fn id(&self) -> OpId {
        match self {
            Self::Open { op, .. }
            | Self::Read { op, .. }
            | Self::Write { op, .. }
            | Self::Sync { op, .. }
            | Self::Close { op, .. }
            | Self::Rename { op, .. }
            | Self::Remove { op, .. }
            | Self::List { op, .. } => *op,
        }
    }
}

/// The answer to one [`FileOp`].
#[derive(Debug)]
pub struct FileDone {
    /// The operation that this answers.
    pub op: OpId,
    /// What came of it.
    pub result: Result<FileAnswer, FileFault>,
}

/// What a successful operation brings back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAnswer {
    /// The file is open and has this size.
    Opened {
        /// Bytes in the file at the time of opening.
        size_bytes: u64,
    },
    /// The bytes that were read; shorter than asked only at the end of the file.
    Read {
        /// What was read.
        bytes: Vec<u8>,
    },
    /// All bytes are written (not yet durable).
    Written {
        /// The buffer of the request, for reuse.
        bytes: Vec<u8>,
    },
    /// Everything written before is durable.
    Synced,
    /// The file is closed.
    Closed,
    /// The new name is durable.
    Renamed,
    /// The file is gone, durably.
    Removed,
    /// The files found, sorted by path.
    Listed {
        /// One per regular file.
        files: Vec<FileEntry>,
    },
}

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Where it is.
    pub path: PathBuf,
    /// Its size when it was listed.
    pub size_bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// Why an operation failed: the operating system's answer and what was being done.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}")]
pub struct FileFault {
    /// What was being done, with the path: `open payments/a.csv`.
    pub action: String,
    /// The operating system's answer.
    pub source: io::Error,
}
