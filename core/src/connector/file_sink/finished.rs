//! Files of a task that are finished and have not their names yet.
//!
//! ```text
//! finished ──cut n──► spoken of by checkpoint n ──n or a later one is complete──► renamed
//!    │                                                      ▲
//!    └── snapshot: name and length ──restart──► left ───────┘ at once
//! ```
//!
//! A file that a snapshot speaks of is found by the run that goes on from it under the name of what
//! is kept, or it has got its own before. Whoever holds the file's task index now renames it; with
//! fewer tasks than before, those that are too many are dealt out. Numbers of files go on where
//! they were, whatever became of the files, and a snapshot is about one directory.
//!
//! Invariant: a file is renamed only when everything in it is durable and a complete checkpoint
//! speaks of it, or there are no checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use millstream_storage::io::{FileEntry, OpId};

use super::part::{Part, Step, kept};
use super::take::Name;
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::operator::OperatorContext;

/// What names in a snapshot begin with: a file's own follows.
pub(super) const UNCOMMITTED: &str = "uncommitted/";

/// A task's index follows: the number of its next file.
pub(super) const NUMBER: &str = "number/";

/// A task's index follows: where it writes.
pub(super) const DIRECTORY: &str = "directory/";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Finished {
    parts: Vec<(Part, Spoken)>,
    /// The newest checkpoint that is complete.
    completed: CheckpointId,
    /// Names under which all files are kept that the snapshot speaks of, of other tasks' too.
    left: BTreeSet<PathBuf>,
    /// By the index of a task that there was, and whose files are this one's now: the number of its
    /// next file.
    numbers: BTreeMap<u32, u64>,
}

/// Which checkpoints speak of a file: this and all later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Of(CheckpointId),
    /// None so far.
    Not,
}

impl Spoken {
    fn is_by(self, checkpoint: CheckpointId) -> bool {
        matches!(self, Self::Of(first) if first <= checkpoint)
    }
}

impl Finished {
    /// A file has been finished.
    pub(super) fn push(&mut self, part: Part) {
        self.parts.push((part, Spoken::Not));
    }

    /// Whether all have their names.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many are not durable yet.
    pub(super) fn unwritten_count(&self) -> usize {
        self.parts.iter().filter(|(part, _)| !part.is_whole(false)).count()
    }

    /// What is to be renamed now.
    pub(super) fn due(&mut self, has_checkpoints: bool) -> impl Iterator<Item = &mut Part> {
        let completed = self.completed;
        let due = self.parts.iter_mut().filter(move |(part, spoken)| {
            let may_appear = !has_checkpoints || spoken.is_by(completed);
            may_appear && part.is_whole(has_checkpoints) && !part.is_renaming()
        });
        due.map(|(part, _)| part)
    }

    /// What is to be kept now, if it is not to be renamed at once.
    pub(super) fn written(&mut self) -> impl Iterator<Item = &mut Part> {
        self.parts.iter_mut().map(|(part, _)| part).filter(|part| part.is_written())
    }

    /// `op` has succeeded; none if it is of none of these files.
    pub(super) fn on_done(&mut self, op: OpId) -> Option<Step> {
        let index = self.parts.iter().position(|(part, _)| part.is_waiting_for(op))?;
        let step = self.parts[index].0.on_done(op);
        if step == Step::Complete {
            self.parts.remove(index);
        }
        Some(step)
    }

    /// The snapshot of `checkpoint` speaks of all there are.
    pub(super) fn on_cut(&mut self, checkpoint: CheckpointId) {
        for (_, spoken) in self.parts.iter_mut().filter(|(_, spoken)| *spoken == Spoken::Not) {
            *spoken = Spoken::Of(checkpoint);
        }
    }

    /// Whether all is durable that the snapshot of `checkpoint` speaks of.
    pub(super) fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        !self.parts.iter().any(|(part, spoken)| spoken.is_by(checkpoint) && !part.is_whole(true))
    }

    /// `checkpoint` is complete.
    pub(super) fn on_completed(&mut self, checkpoint: CheckpointId) {
        self.completed = self.completed.max(checkpoint);
    }

    /// Whether one is being renamed, or will be without anything happening before.
    pub(super) fn owes_commit(&self) -> bool {
        self.parts.iter().any(|(part, spoken)| part.is_renaming() || spoken.is_by(self.completed))
    }

    /// The names that they will have, and their lengths in bytes.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, u64)> {
        self.parts.iter().map(|(part, _)| {
            let name = part.path().file_name().and_then(|name| name.to_str());
            (name.expect("a sink names its files in ASCII"), part.written_bytes())
        })
    }

    /// A snapshot speaks of a file of `directory`.
    ///
    /// # Errors
    /// If it is not called as files of a sink are.
    pub(super) fn restore(
        &mut self,
        directory: &Path,
        name: &str,
        bytes: u64,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let path = directory.join(name);
        let Some(Name { task_index, is_complete: true, .. }) = Name::of(Path::new(name)) else {
            let what = format!("the state of operator {}", ctx.name());
            let reason = format!("{name:?} is no name of a sink's file");
            return Err(Error::Corrupt { what, offset: 0, reason });
        };
        self.left.insert(kept(&path));
        let place = ctx.env().task;
        if task_index % place.parallelism == place.task_index {
            // Of the checkpoint that the job goes on from, or an earlier one.
            let spoken = Spoken::Of(CheckpointId(0));
            self.parts.push((Part::left(path, bytes), spoken));
        }
        Ok(())
    }

    /// A task had come to this number.
    pub(super) fn restore_number(&mut self, task_index: u32, number: u64) {
        self.numbers.insert(task_index, number);
    }

    /// The numbers that tasks had come to, this one to `own` at least.
    pub(super) fn numbers(&self, (task_index, own): (u32, u64)) -> BTreeMap<u32, u64> {
        let mut numbers = self.numbers.clone();
        let number = numbers.entry(task_index).or_default();
        *number = own.max(*number);
        numbers
    }

    /// The lowest number that the next file of a task may have.
    pub(super) fn number_min(&self, task_index: u32) -> u64 {
        self.numbers.get(&task_index).copied().unwrap_or(0)
    }

    /// Names under which the files are kept that the snapshot speaks of.
    pub(super) fn left(&self) -> &BTreeSet<PathBuf> {
        &self.left
    }

    /// Looks for the files that the snapshot speaks of among those that there are. What is not kept
    /// any more has got its name, durably, whoever may have taken it away since.
    ///
    /// # Errors
    /// If one is not as long as it was.
    pub(super) fn find_left(&mut self, files: &[FileEntry]) -> Result<(), Error> {
        let mut problem = None;
        self.parts.retain(|(part, _)| {
            let (path, bytes) = (kept(part.path()), part.written_bytes());
            let Some(found) = files.iter().find(|file| file.path == path) else { return false };
            if found.size_bytes != bytes {
                let reason = format!("it has {} bytes, not {bytes}", found.size_bytes);
                problem.get_or_insert((path, reason));
            }
            true
        });
        let Some((path, reason)) = problem else { return Ok(()) };
        let what = format!("{}, which the checkpoint speaks of,", path.display());
        Err(Error::Corrupt { what, offset: 0, reason })
    }
}
