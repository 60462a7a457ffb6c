//! How one task of a log's sink takes its partitions, and gives them back.
//!
//! ```text
//! Not ─► Locking ─► Listing ─► Recovering ─► Taken ─► Releasing ─► Released
//!        lock file  segments   step by step           lock file closed
//! ```
//!
//! Of a partition, *offset* being what the checkpoint says that the job goes on from (0 if it goes
//! on from none):
//!
//! ```text
//! .new                           nobody speaks of it: removed
//! .pending, begins at offset on  written after the checkpoint: removed
//! .pending, begins before it     the checkpoint speaks of its records: gets its name
//! the last with a name           its slot says how much is committed
//! ```
//!
//! If less is committed than the checkpoint has, a segment that begins there commits it again; if
//! more is, because the job goes on from an older checkpoint, records go on behind what is there.
//! Nothing that a reader may have seen ever changes.
//!
//! Not here: what is written then (`partition.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_storage::io::{FileAnswer, FileDone, FileEntry, FileId, FileOp, OpId, OpenMode};

use super::format::{DATA_AT, Head, Slot};
use super::name::{SegmentId, Stage};
use super::partition::{End, Layout, Old, Partition};
use super::{advice, damaged};
use crate::connector::file_error;
use crate::error::Error;
use crate::operator::OperatorContext;

/// The lock file of a log.
const LOCK_NAME: &str = ".lock";

/// How far a task is.
#[derive(Debug)]
pub(super) enum Take {
    Not,
    Locking { lock: FileId, op: OpId },
    Listing { lock: FileId, op: OpId },
    Recovering { lock: FileId, op: OpId, recovery: Recovery },
    Taken { lock: FileId },
    Releasing { op: OpId },
    Released,
}

/// What is left to be done until all partitions can be written to.
#[derive(Debug)]
pub(super) struct Recovery {
    steps: VecDeque<Step>,
    found: Vec<Found>,
}

/// A partition as it was found.
#[derive(Debug)]
struct Found {
    number: u32,
    generation: u32,
    old: VecDeque<Old>,
    end: Option<End>,
    /// Up to here it is committed.
    committed: u64,
}

#[derive(Debug)]
enum Step {
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    /// Opens the last segment of the partition at this index of `found`.
    Open(usize, PathBuf),
    Read(usize, FileId, PathBuf),
    Close(FileId),
}

impl Take {
    /// Asks for the lock.
    pub(super) fn begin(directory: &Path, ctx: &OperatorContext<'_>) -> Self {
        let (lock, op) = ctx.open_file(directory.join(LOCK_NAME), OpenMode::Lock);
        Self::Locking { lock, op }
    }

    /// Whether records may be written.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// Whether the log has been given back.
    pub(super) fn is_released(&self) -> bool {
        matches!(self, Self::Released)
    }

    /// Whether `op` is one of its operations.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        match self {
            Self::Locking { op: own, .. }
            | Self::Listing { op: own, .. }
            | Self::Recovering { op: own, .. }
            | Self::Releasing { op: own } => *own == op,
            Self::Not | Self::Taken { .. } | Self::Released => false,
        }
    }

    /// Gives the log back.
    pub(super) fn release(&mut self, ctx: &OperatorContext<'_>) {
        let Self::Taken { lock } = *self else { unreachable!("the log was taken") };
        *self = Self::Releasing { op: ctx.file(|op| FileOp::Close { op, file: lock }) };
    }

    /// An operation was answered. The partitions, once all can be written to; `ends` is what the
    /// checkpoint says of those that are the task's.
    pub(super) fn on_done(
        &mut self,
        done: FileDone,
        layout: &Layout,
        ends: &BTreeMap<u32, End>,
        ctx: &OperatorContext<'_>,
    ) -> Option<Vec<Partition>> {
        let result = self.answered(done, layout, ends, ctx);
        match result {
            Ok(partitions) => partitions,
            Err(error) => {
                ctx.fail(error);
                None
            }
        }
    }

    fn answered(
        &mut self,
        done: FileDone,
        layout: &Layout,
        ends: &BTreeMap<u32, End>,
        ctx: &OperatorContext<'_>,
    ) -> Result<Option<Vec<Partition>>, Error> {
        let is_gone = |step: &Step, fault: &io::Error| {
            matches!(step, Step::Remove(_)) && fault.kind() == io::ErrorKind::NotFound
        };
        let answer = match (done.result, &*self) {
            (Ok(answer), _) => answer,
            (Err(fault), Self::Recovering { recovery, .. })
                if is_gone(&recovery.steps[0], &fault.source) =>
            {
                FileAnswer::Removed
            }
            (Err(fault), _) => return Err(file_error(ctx, fault, advice)),
        };
        match (self, answer) {
            (state @ Self::Locking { .. }, FileAnswer::Opened { .. }) => {
                let Self::Locking { lock, .. } = *state else { unreachable!("just looked at") };
                let path = layout.directory.clone();
                let op = ctx.file(|op| FileOp::ListDirectory { op, path });
                *state = Self::Listing { lock, op };
                Ok(None)
            }
            (state @ Self::Listing { .. }, FileAnswer::Listed { files }) => {
                let Self::Listing { lock, .. } = *state else { unreachable!("just looked at") };
                let recovery = Recovery::plan(&files, layout, ends, ctx)?;
                Ok(state.go_on(lock, recovery, layout, ctx))
            }
            (state @ Self::Releasing { .. }, FileAnswer::Closed) => {
                *state = Self::Released;
                Ok(None)
            }
            (state @ Self::Recovering { .. }, answer) => {
                let Self::Recovering { lock, op, mut recovery } =
                    std::mem::replace(state, Self::Not)
                else {
                    unreachable!("just looked at")
                };
                recovery.on_done(op, answer, layout, ctx)?;
                Ok(state.go_on(lock, recovery, layout, ctx))
            }
            (_, answer) => Err(Error::bug(ctx.name(), format!("an unexpected answer {answer:?}"))),
        }
    }

    fn go_on(
        &mut self,
        lock: FileId,
        recovery: Recovery,
        layout: &Layout,
        ctx: &OperatorContext<'_>,
    ) -> Option<Vec<Partition>> {
        if let Some(op) = recovery.ask(ctx) {
            *self = Self::Recovering { lock, op, recovery };
            return None;
        }
        *self = Self::Taken { lock };
        Some(recovery.found.into_iter().map(|found| found.partition(layout, ctx)).collect())
    }
}

impl Recovery {
    /// What is to be done with the files that there are.
    fn plan(
        files: &[FileEntry],
        layout: &Layout,
        ends: &BTreeMap<u32, End>,
        ctx: &OperatorContext<'_>,
    ) -> Result<Self, Error> {
        let place = ctx.env().task;
        let mut by_partition: BTreeMap<u32, Vec<(SegmentId, Stage, &FileEntry)>> = BTreeMap::new();
        for file in files {
            if let Some((id, stage)) = SegmentId::of(&file.path) {
                by_partition.entry(id.partition).or_default().push((id, stage, file));
            }
        }
        let mut recovery = Self { steps: VecDeque::new(), found: Vec::new() };
        let own = place.task_index..layout.partition_count;
        for number in own.step_by(place.parallelism as usize) {
            let segments = by_partition.remove(&number).unwrap_or_default();
            let end = ends.get(&number).copied();
            recovery.plan_partition(number, segments, end, layout)?;
        }
        let leftovers = recovery.steps.iter().filter(|it| matches!(it, Step::Remove(_))).count();
        if 0 < leftovers {
            let (operator, directory) = (ctx.name(), layout.directory.display());
            let what = "removing what no checkpoint speaks of";
            tracing::info!(operator, %directory, leftovers, "{what}");
        }
        Ok(recovery)
    }

    fn plan_partition(
        &mut self,
        number: u32,
        mut segments: Vec<(SegmentId, Stage, &FileEntry)>,
        end: Option<End>,
        layout: &Layout,
    ) -> Result<(), Error> {
        segments.sort_unstable_by_key(|(id, stage, _)| (*id, *stage));
        let offset = end.map_or(0, |end| end.offset);
        let generation = segments.iter().map(|(id, ..)| id.generation + 1).max().unwrap_or(1);
        let (mut old, mut last) = (VecDeque::new(), None);
        for (id, stage, file) in segments {
            let path = file.path.clone();
            match stage {
                Stage::Pending if id.base < offset => {
                    let named = layout.directory.join(id.name(Stage::Committed));
                    self.steps.push_back(Step::Rename(path, named));
                }
                Stage::New | Stage::Pending => {
                    self.steps.push_back(Step::Remove(path));
                    continue;
                }
                Stage::Committed => last = Some(path),
            }
            old.push_back(Old { id, bytes: file.size_bytes, written_ms: ms_of(file.modified) });
        }
        if let Some(end) = end {
            check_end(end, &old, layout)?;
        }
        if let Some(path) = last {
            self.steps.push_back(Step::Open(self.found.len(), path));
        }
        self.found.push(Found { number, generation, old, end, committed: 0 });
        Ok(())
    }

    /// Asks for the first step, if there is one.
    fn ask(&self, ctx: &OperatorContext<'_>) -> Option<OpId> {
        Some(match self.steps.front()? {
            Step::Remove(path) => ctx.file(|op| FileOp::Remove { op, path: path.clone() }),
            Step::Rename(from, to) => {
                ctx.file(|op| FileOp::Rename { op, from: from.clone(), to: to.clone() })
            }
            Step::Open(_, path) => {
                // The operation's number is the file's.
                let (_, op) = ctx.open_file(path.clone(), OpenMode::Read);
                op
            }
            Step::Read(_, file, _) => {
                let (file, len) = (*file, DATA_AT as usize);
                ctx.file(|op| FileOp::Read { op, file, offset: 0, len })
            }
            Step::Close(file) => ctx.file(|op| FileOp::Close { op, file: *file }),
        })
    }

    /// The first step is done.
    fn on_done(
        &mut self,
        op: OpId,
        answer: FileAnswer,
        layout: &Layout,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let step = self.steps.pop_front().expect("its answer has come");
        match (step, answer) {
            (Step::Open(index, path), FileAnswer::Opened { .. }) => {
                self.steps.push_front(Step::Read(index, FileId(op.0), path));
            }
            (Step::Read(index, file, path), FileAnswer::Read { bytes }) => {
                let head = Head::decode(&bytes).map_err(|bad| damaged(&path, 0, bad))?;
                let slot = Slot::newest(&bytes).map_err(|bad| damaged(&path, 0, bad))?;
                check_head(&head, layout, ctx)?;
                self.found[index].committed = slot.end;
                self.steps.push_front(Step::Close(file));
            }
            (Step::Remove(_), FileAnswer::Removed)
            | (Step::Rename(..), FileAnswer::Renamed)
            | (Step::Close(_), FileAnswer::Closed) => {}
            (step, answer) => {
                return Err(Error::bug(ctx.name(), format!("{step:?} was answered by {answer:?}")));
            }
        }
        Ok(())
    }
}

impl Found {
    fn partition(self, layout: &Layout, ctx: &OperatorContext<'_>) -> Partition {
        let Self { number, generation, old, end, committed } = self;
        let offset = end.map_or(0, |end| end.offset);
        let next = offset.max(committed);
        let mut partition = Partition::new((number, generation), next, old, end);
        if committed < offset {
            partition.commit_again(layout, ctx);
        } else if offset < committed && end.is_some() {
            let (operator, records) = (ctx.name(), committed - offset);
            tracing::warn!(
                operator,
                partition = number,
                records,
                "the log has records from after the checkpoint; they appear again behind them"
            );
        }
        partition
    }
}

/// Whether the records are there that a checkpoint speaks of.
fn check_end(end: End, old: &VecDeque<Old>, layout: &Layout) -> Result<(), Error> {
    let found = old.iter().find(|old| old.id == end.segment).map(|old| old.bytes);
    // What is older than all that is there may have been removed by its age, with all before it.
    let is_removed = old.front().is_some_and(|oldest| end.segment < oldest.id);
    let reason = match found {
        Some(bytes) if end.bytes <= bytes => return Ok(()),
        None if is_removed => return Ok(()),
        Some(bytes) => format!("it has {bytes} bytes, not {} or more", end.bytes),
        None => "it is not there".to_string(),
    };
    let path = layout.directory.join(end.segment.name(Stage::Committed));
    let what = format!("{}, which the checkpoint speaks of,", path.display());
    Err(Error::Corrupt { what, offset: 0, reason })
}

/// Whether a segment is of a log like the one to be written.
fn check_head(head: &Head, layout: &Layout, ctx: &OperatorContext<'_>) -> Result<(), Error> {
    let mut problems = Vec::new();
    let (name, directory) = (ctx.name(), layout.directory.display());
    if head.partition_count != layout.partition_count {
        problems.push(format!(
            "{name}: the log {directory} has {} partitions, not {}: call .partitions({0}), or write \
             to another directory",
            head.partition_count, layout.partition_count
        ));
    }
    if head.format != layout.format {
        problems.push(format!(
            "{name}: the records of the log {directory} are {}, not {}: write to another directory",
            head.format, layout.format
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Plan { problems }) }
}

fn ms_of(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
