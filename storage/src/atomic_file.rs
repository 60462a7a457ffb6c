//! Replacing a file as a whole: whoever reads it, after a crash as well, finds the old or the new.
//!
//! ```text
//! create <path>.part ─► write, piece by piece ─► sync ─► close ─► rename to <path> ─► done
//!    │                    │                        │       │        │
//!    │                    └────────► close ◄───────┘       │        │
//!    └────────────────────────────────┴─► remove ◄─────────┴────────┘  failed
//! ```
//!
//! One operation at a time. The new name is durable when the rename is answered: see [`crate::io`].
//! A rename that fails may have happened or not; all other failures leave the old file.
//!
//! Beside the bytes it holds a copy of one piece.
//!
//! Not here: what is in the file.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::io::{FileAnswer, FileFault, FileId, FileOp, OpId, OpenMode};

/// Most bytes of one write.
const PIECE_BYTES: usize = 256 << 10;

/// A file that is to take the place of another, or of none.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    part_path: PathBuf,
    file: FileId,
    bytes: Vec<u8>,
    written_bytes: usize,
    stage: Stage,
    /// Whether the operation of the stage is not answered.
    is_asked: bool,
    /// Why it has failed.
    fault: Option<FileFault>,
}

/// Which operation is next, or is being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Create,
    Write,
    Sync,
    Close,
    Rename,
    /// Nothing comes of it any more.
    Remove,
    End,
}

impl AtomicFile {
    /// Lets `path` be a file with `bytes`. It is made beside it, as `<path>.part`, and is open as
    /// `file` meanwhile.
    pub fn new(path: PathBuf, file: FileId, bytes: Vec<u8>) -> Self {
        let mut part_path = OsString::from(&path);
        part_path.push(".part");
        Self {
            path,
            part_path: part_path.into(),
            file,
            bytes,
            written_bytes: 0,
            stage: Stage::Create,
            is_asked: false,
            fault: None,
        }
    }

    /// The next operation, under the number `op`; `None` while one is not answered, and at the end.
    pub fn next_op(&mut self, op: OpId) -> Option<FileOp> {
        if self.is_asked || self.stage == Stage::End {
            return None;
        }
        self.is_asked = true;
        let (file, path) = (self.file, self.part_path.clone());
        Some(match self.stage {
            Stage::Create => FileOp::Open { op, file, path, mode: OpenMode::Create },
            Stage::Write => {
                let piece = self.written_bytes..self.piece_end();
                let (offset, bytes) = (piece.start as u64, self.bytes[piece].to_vec());
                FileOp::Write { op, file, offset, bytes }
            }
            Stage::Sync => FileOp::Sync { op, file },
            Stage::Close => FileOp::Close { op, file },
            Stage::Rename => FileOp::Rename { op, from: path, to: self.path.clone() },
            Stage::Remove => FileOp::Remove { op, path },
            Stage::End => unreachable!("there was an operation left"),
        })
    }

    /// The operation is answered. At the end, whether the file is there.
    ///
    /// # Errors
    /// The end, and the file is not there: what has failed first.
    ///
    /// # Panics
    /// If nothing was asked for.
    pub fn on_done(
        &mut self,
        result: Result<FileAnswer, FileFault>,
    ) -> Result<Progress, FileFault> {
        assert!(self.is_asked, "what is answered was asked");
        self.is_asked = false;
        let has_failed = self.fault.is_some();
        self.stage = match (self.stage, result) {
            (Stage::Remove, _) => {
                self.stage = Stage::End;
                return Err(self.fault.take().expect("what has failed is removed"));
            }
            // Nothing is asked of it but to be closed.
            (Stage::Close, _) if has_failed => Stage::Remove,
            (Stage::Create | Stage::Close | Stage::Rename, Err(fault)) => {
                self.fault = Some(fault);
                Stage::Remove
            }
            (_, Err(fault)) => {
                self.fault = Some(fault);
                Stage::Close
            }
            (Stage::Create, Ok(_)) => self.next_write(),
            (Stage::Write, Ok(_)) => {
                self.written_bytes = self.piece_end();
                self.next_write()
            }
            (Stage::Sync, Ok(_)) => Stage::Close,
            (Stage::Close, Ok(_)) => Stage::Rename,
            (Stage::Rename, Ok(_)) => Stage::End,
            (Stage::End, _) => unreachable!("nothing is asked for at the end"),
        };
        Ok(if self.stage == Stage::End { Progress::Done } else { Progress::Op })
    }

    fn piece_end(&self) -> usize {
        self.bytes.len().min(self.written_bytes + PIECE_BYTES)
    }

    fn next_write(&self) -> Stage {
        if self.written_bytes < self.bytes.len() { Stage::Write } else { Stage::Sync }
    }
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The [next operation](AtomicFile::next_op).
    Op,
    /// Nothing: the file is there, durably.
    Done,
}
