//! File operations as values: what a shard asks of its disk, and what comes back.
//!
//! ```text
//! shard ──FileOp──► host: storage service, or simulated disk
//!       ◄─FileDone──
//! ```
//!
//! Every [`FileOp`] is answered by exactly one [`FileDone`] with the same [`OpId`]. Operations on
//! one file take effect, and are answered, in the order in which they were asked for (a host may
//! carry out neighbouring reads, or writes of disjoint ranges, at once); operations on different
//! files in any order. The requester chooses [`FileId`]s and may use one from the moment it has
//! asked for the file to be opened: an operation on a file whose opening failed fails as well. An
//! id is free again once its file is closed, or its opening has failed.
//!
//! Durability: a write is durable once a later [`FileOp::Sync`] of the same file has succeeded. A
//! name is durable once [`FileOp::Rename`], [`FileOp::Link`] or [`FileOp::Remove`] has succeeded:
//! the host syncs the directory before it answers. After a failed sync nothing that was written
//! since the last successful one may be trusted, whatever a later sync says.
//!
//! Not here: who carries the operations out (`runtime/` and `sim/` of the engine).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
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
    /// New or truncated file, through the page cache, written at any offset. Not for reading.
    Create,
    /// A lock file, made if need be. The requesters of one host may hold it together; no other host
    /// and no other process can, until all of them have closed it: the last one removes it. Opening
    /// fails with `WouldBlock` while somebody else holds it. Not for reading or writing.
    Lock,
    /// New or truncated file, direct I/O, written in multiples of [`DIRECT_ALIGNMENT_BYTES`]. Not
    /// for reading.
    CreateDirect,
}

impl OpenMode {
    /// Whether the page cache is bypassed.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::ReadDirect | Self::CreateDirect)
    }

    /// Whether a new file is made, or an old one emptied.
    pub fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateDirect)
    }

    /// Whether `len` bytes at `offset` may be read or written in this mode.
    pub fn accepts(self, offset: u64, len: usize) -> bool {
        let is_aligned = offset.is_multiple_of(DIRECT_ALIGNMENT_BYTES as u64)
            && len.is_multiple_of(DIRECT_ALIGNMENT_BYTES);
        !self.is_direct() || is_aligned
    }
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
    /// Gives the file `from` the name `to`, replacing it atomically, and syncs the directory.
    Rename {
        /// Answered under this number.
        op: OpId,
        /// Today's name.
        from: PathBuf,
        /// The name from now on, on the same file system.
        to: PathBuf,
    },
    /// Gives the file `from`, which nobody changes any more, another name, replacing what has that;
    /// makes the directories above it, and syncs them. On another file system it is copied.
    Link {
        /// Answered under this number.
        op: OpId,
        /// A name of it.
        from: PathBuf,
        /// The other name.
        to: PathBuf,
    },
    /// Removes `path` and syncs the directory.
    Remove {
        /// Answered under this number.
        op: OpId,
        /// What to remove.
        path: PathBuf,
    },
    /// Lists the regular files that `pattern` names; see [`crate::listing::list`].
    List {
        /// Answered under this number.
        op: OpId,
        /// A path, a directory (its files, not recursive) or a glob.
        pattern: String,
        /// Who else must be given the same answer.
        together: Option<Together>,
    },
    /// Lists the regular files in a directory; see [`crate::listing::list_directory`].
    ListDirectory {
        /// Answered under this number.
        op: OpId,
        /// Which directory.
        path: PathBuf,
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
            | Self::Link { op, .. }
            | Self::Remove { op, .. }
            | Self::List { op, .. }
            | Self::ListDirectory { op, .. } => *op,
        }
    }

    /// What is being done, in the words of a [`FileFault`]. `path` is where the operation's file
    /// is, if it is open.
    pub fn action(&self, path: Option<&Path>) -> String {
        let of = |verb: &str, file: &FileId| match path {
            Some(path) => format!("{verb} {}", path.display()),
            None => format!("{verb} file {file}, which is not open"),
        };
        match self {
            Self::Open { path, mode: OpenMode::Lock, .. } => format!("lock {}", path.display()),
            Self::Open { path, .. } => format!("open {}", path.display()),
            Self::Read { file, .. } => of("read", file),
            Self::Write { file, .. } => of("write", file),
            Self::Sync { file, .. } => of("sync", file),
            Self::Close { file, .. } => of("close", file),
            Self::Rename { from, to, .. } => {
                format!("rename {} to {}", from.display(), to.display())
            }
            Self::Link { from, to, .. } => {
                format!("link {} as {}", from.display(), to.display())
            }
            Self::Remove { path, .. } => format!("remove {}", path.display()),
            Self::List { pattern, .. } => format!("list {pattern}"),
            Self::ListDirectory { path, .. } => format!("list {}", path.display()),
        }
    }
}

/// Requesters that divide among themselves what a listing finds. Files may come and grow between
/// two listings, so the host lists once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Together {
    /// Names the group among all that list.
    pub group: u64,
    /// How many requesters will ask, each once, before the files are listed anew.
    pub requester_count: u32,
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
    /// The other name is durable.
    Linked,
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
