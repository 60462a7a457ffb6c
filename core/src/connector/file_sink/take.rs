//! How one task of a file sink takes its directory, and gives it back.
//!
//! ```text
//! Not ──begin──► Locking ──► Listing ──► Removing ──► Taken ──release──► Releasing ──► Released
//!                lock file   what is     what is      number after the   lock file
//!                            there?      unfinished   highest there      closed
//! ```
//!
//! The lock file is one for the whole directory, and the tasks of a run hold it together. Only who
//! holds it may list, and only what the listing found is removed: so nobody's file is taken for a
//! leftover while it is being written, however many tasks either run has.
//!
//! Not here: the files themselves (`part.rs`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use millstream_storage::io::{FileAnswer, FileDone, FileEntry, FileId, FileOp, OpId, OpenMode};

use super::advice;
use crate::connector::file_error;
use crate::connector::file_source::IN_PROGRESS_SUFFIX;
use crate::error::Error;
use crate::operator::OperatorContext;

/// The lock file of a directory. Sources pass over names that begin with a dot.
const LOCK_NAME: &str = ".lock";

/// How far a task is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Take {
    Not,
    Locking { lock: FileId, op: OpId },
    Listing { lock: FileId, op: OpId },
    Removing { lock: FileId, ops: Vec<OpId>, number: u64 },
    Taken { lock: FileId, number: u64 },
    Releasing { op: OpId },
    Released,
}

impl Take {
    /// Asks for the lock.
    pub(super) fn begin(directory: &Path, ctx: &OperatorContext<'_>) -> Self {
        let (lock, op) = ctx.open_file(directory.join(LOCK_NAME), OpenMode::Lock);
        Self::Locking { lock, op }
    }

    /// Whether files may be written.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// Whether the directory has been given back.
    pub(super) fn is_released(&self) -> bool {
        *self == Self::Released
    }

    fn is_removing(&self) -> bool {
        matches!(self, Self::Removing { .. })
    }

    /// The number of the task's next file.
    pub(super) fn next_number(&mut self) -> u64 {
        let Self::Taken { number, .. } = self else { unreachable!("the directory is taken first") };
        *number += 1;
        *number - 1
    }

    /// Whether `op` is one of its operations.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        match self {
            Self::Locking { op: own, .. }
            | Self::Listing { op: own, .. }
            | Self::Releasing { op: own } => *own == op,
            Self::Removing { ops, .. } => ops.contains(&op),
            Self::Not | Self::Taken { .. } | Self::Released => false,
        }
    }

    /// The number of the task's next file, once it has the directory.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Taken { number, .. } => Some(*number),
            _ => None,
        }
    }

    /// An operation was answered. `left` are the unfinished files that a checkpoint speaks of, and
    /// no file may have a lower number than `number_min`.
    pub(super) fn on_done(
        &mut self,
        done: FileDone,
        directory: &Path,
        (left, number_min): (&BTreeSet<PathBuf>, u64),
        ctx: &OperatorContext<'_>,
    ) {
        let answer = match done.result {
            Ok(answer) => answer,
            Err(fault) if self.is_removing() && fault.source.kind() == io::ErrorKind::NotFound => {
                FileAnswer::Removed
            }
            Err(fault) => return ctx.fail(file_error(ctx, fault, advice)),
        };
        match (self, answer) {
            (state @ Self::Locking { .. }, FileAnswer::Opened { .. }) => state.list(directory, ctx),
            (state @ Self::Listing { .. }, FileAnswer::Listed { files }) => {
                state.remove_unfinished(&files, directory, (left, number_min), ctx);
            }
            (state @ Self::Removing { .. }, FileAnswer::Removed) => state.on_removed(done.op),
            (state @ Self::Releasing { .. }, FileAnswer::Closed) => *state = Self::Released,
            (_, answer) => {
                ctx.fail(Error::bug(ctx.name(), format!("an unexpected answer {answer:?}")));
            }
        }
    }

    fn list(&mut self, directory: &Path, ctx: &OperatorContext<'_>) {
        let Self::Locking { lock, .. } = *self else { unreachable!("the caller has looked") };
        let path = directory.to_owned();
        *self = Self::Listing { lock, op: ctx.file(|op| FileOp::ListDirectory { op, path }) };
    }

    fn remove_unfinished(
        &mut self,
        files: &[FileEntry],
        directory: &Path,
        (left, number_min): (&BTreeSet<PathBuf>, u64),
        ctx: &OperatorContext<'_>,
    ) {
        let Self::Listing { lock, .. } = *self else { unreachable!("the caller has looked") };
        let place = ctx.env().task;
        let names = files.iter().filter_map(|file| Some((&file.path, Name::of(&file.path)?)));
        let (mut number, mut leftovers) = (number_min, Vec::<PathBuf>::new());
        for (path, name) in names {
            let is_own = name.task_index == place.task_index;
            let is_nobodys = place.task_index == 0 && place.parallelism <= name.task_index;
            if is_own && (name.is_complete || left.contains(path)) {
                number = number.max(name.number + 1);
            } else if left.contains(path) {
                // It is to be renamed, by whoever it belongs to now.
            } else if !name.is_complete && (is_own || is_nobodys) {
                leftovers.push(path.clone());
            }
        }
        if leftovers.is_empty() {
            *self = Self::Taken { lock, number };
            return;
        }
        let (operator, count) = (ctx.name(), leftovers.len());
        let directory = directory.display();
        tracing::info!(operator, %directory, count, "removing what an earlier run left unfinished");
        let remove = |path| ctx.file(|op| FileOp::Remove { op, path });
        *self = Self::Removing { lock, ops: leftovers.into_iter().map(remove).collect(), number };
    }

    fn on_removed(&mut self, op: OpId) {
        let Self::Removing { lock, ops, number } = self else { unreachable!("just looked at") };
        ops.retain(|waiting| *waiting != op);
        if ops.is_empty() {
            *self = Self::Taken { lock: *lock, number: *number };
        }
    }

    /// Gives the directory back.
    pub(super) fn release(&mut self, ctx: &OperatorContext<'_>) {
        let Self::Taken { lock, .. } = *self else { unreachable!("the directory was taken") };
        *self = Self::Releasing { op: ctx.file(|op| FileOp::Close { op, file: lock }) };
    }
}

/// What the name of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) task_index: u32,
    number: u64,
    pub(super) is_complete: bool,
}

impl Name {
    /// None for a name that no sink gives.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let finished = name.strip_suffix(IN_PROGRESS_SUFFIX);
        let (task, rest) = finished.unwrap_or(name).strip_prefix("part-")?.split_once('-')?;
        let (number, _extension) = rest.split_once('.')?;
        let (task_index, number) = (task.parse().ok()?, number.parse().ok()?);
        Some(Self { task_index, number, is_complete: finished.is_none() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_file_it_is_and_whether_it_is_complete() {
        let name = |task_index, number, is_complete| Name { task_index, number, is_complete };
        let of = |name: &str| Name::of(Path::new(name));
        assert_eq!(of("out/part-00001-000007.jsonl"), Some(name(1, 7, true)));
        assert_eq!(of("part-00001-000007.jsonl.inprogress"), Some(name(1, 7, false)));
        for other in ["part-1", "part-x-1.csv", ".lock", "notes.txt.inprogress"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
