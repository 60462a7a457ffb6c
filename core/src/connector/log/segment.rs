//! One segment while it is written: its name, what is durable of it, and what is committed.
//!
//! ```text
//! open, head ─► .new ─keep─► .pending ─────────────commit─► named ─────commit─► ...
//!                  batch, batch, seal, batch, batch, seal, batch, ...
//!                                 │ sync               │
//!                                 └► durable ──due──► slot, sync, (first time) the name
//! ```
//!
//! A *seal* is where a checkpoint ends. It is due when it is durable and the checkpoint is
//! complete; the last one that is due is committed, and those before it with it.
//!
//! Invariant: a slot never speaks of what is not durable or whose checkpoint is not complete, and a
//! segment gets its name only when a slot of it was written.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use millstream_storage::io::{FileId, FileOp, OpId, OpenMode};

use super::format::{DATA_AT, Head, Slot};
use super::name::{SegmentId, Stage};
use crate::data::element::CheckpointId;
use crate::data::row::NO_EVENT_TIME;
use crate::operator::OperatorContext;

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    id: SegmentId,
    directory: PathBuf,
    file: FileId,
    stage: Stage,
    /// Up to here records were given to it.
    end: u64,
    bytes: u64,
    last_time_ms: i64,
    seals: VecDeque<Seal>,
    /// Which of `seals`, counted from 1, are being committed.
    committing: usize,
    /// Of the last slot.
    sequence: u64,
    waiting: Vec<(OpId, What)>,
    /// Nothing more is written to it.
    is_full: bool,
}

/// Where a checkpoint ends.
#[derive(Debug, Clone, Copy)]
struct Seal {
    end: u64,
    bytes: u64,
    last_time_ms: i64,
    /// The first checkpoint that speaks of it.
    spoken: Option<CheckpointId>,
    is_durable: bool,
}

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Open,
    Keep,
    Write,
    Seal,
    Slot,
    SlotSync,
    Name,
    Close,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// Nothing is to be done.
    Nothing,
    /// Something may be due now.
    MayCommit,
    /// Something has been committed.
    Committed,
    /// The file is closed.
    Closed,
}

impl Segment {
    /// Makes it.
    pub(super) fn create(head: &Head, directory: &Path, ctx: &OperatorContext<'_>) -> Self {
        let (id, directory) = (head.id, directory.to_path_buf());
        let (file, op) = ctx.open_file(directory.join(id.name(Stage::New)), OpenMode::Create);
        let mut segment = Self {
            id,
            directory,
            file,
            stage: Stage::New,
            end: id.base,
            bytes: 0,
            last_time_ms: NO_EVENT_TIME,
            seals: VecDeque::new(),
            committing: 0,
            sequence: 1,
            waiting: vec![(op, What::Open)],
            is_full: false,
        };
        segment.append(head.encode(ctx.processing_time_ms()), ctx);
        debug_assert_eq!(segment.bytes, DATA_AT, "batches follow");
        segment
    }

    /// Which one it is.
    pub(super) fn id(&self) -> SegmentId {
        self.id
    }

    /// Bytes that it has been given.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes that have not been answered.
    pub(super) fn write_count(&self) -> usize {
        self.waiting.iter().filter(|(_, what)| *what == What::Write).count()
    }

    /// Whether an answer to `op` is for it.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == op)
    }

    /// Whether nothing more is written to it.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Lets nothing more be written to it.
    pub(super) fn fill(&mut self) {
        self.is_full = true;
    }

    /// Whether all of it that was sealed is committed.
    pub(super) fn is_committed(&self) -> bool {
        self.seals.is_empty()
    }

    /// Appends a batch that ends before record `end`.
    pub(super) fn write(
        &mut self,
        batch: Vec<u8>,
        (end, last_time_ms): (u64, i64),
        ctx: &OperatorContext<'_>,
    ) {
        assert!(!self.is_full, "a full segment is not written to");
        (self.end, self.last_time_ms) = (end, self.last_time_ms.max(last_time_ms));
        self.append(batch, ctx);
    }

    fn append(&mut self, bytes: Vec<u8>, ctx: &OperatorContext<'_>) {
        let (file, offset) = (self.file, self.bytes);
        self.bytes += bytes.len() as u64;
        let op = ctx.file(|op| FileOp::Write { op, file, offset, bytes });
        self.waiting.push((op, What::Write));
    }

    /// A checkpoint ends here: makes everything durable. `spoken` is the checkpoint, if it is known
    /// already.
    pub(super) fn seal(&mut self, spoken: Option<CheckpointId>, ctx: &OperatorContext<'_>) {
        let Self { file, end, bytes, last_time_ms, .. } = *self;
        self.seals.push_back(Seal { end, bytes, last_time_ms, spoken, is_durable: false });
        let op = ctx.file(|op| FileOp::Sync { op, file });
        self.waiting.push((op, What::Seal));
    }

    /// `checkpoint` speaks of all seals that none has spoken of.
    pub(super) fn on_cut(&mut self, checkpoint: CheckpointId) {
        self.seals.iter_mut().for_each(|seal| seal.spoken = seal.spoken.or(Some(checkpoint)));
    }

    /// Whether everything is durable that `checkpoint` speaks of.
    pub(super) fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        let spoken = self.seals.iter().filter(|it| it.spoken.is_some_and(|by| by <= checkpoint));
        spoken.into_iter().all(|seal| seal.is_durable && Stage::Pending <= self.stage)
    }

    /// Whether a seal is to be committed without anything happening before, or is being committed.
    pub(super) fn owes_commit(&self, completed: CheckpointId) -> bool {
        0 < self.committing
            || self.seals.front().is_some_and(|it| it.spoken.is_some_and(|by| by <= completed))
    }

    /// Commits what is due: all seals that `completed` or an earlier checkpoint speaks of, or every
    /// one if there are no checkpoints.
    pub(super) fn commit(&mut self, completed: Option<CheckpointId>, ctx: &OperatorContext<'_>) {
        let is_due = |seal: &Seal| {
            let is_complete =
                completed.is_none_or(|completed| seal.spoken.is_some_and(|by| by <= completed));
            seal.is_durable && is_complete
        };
        let due_count = self.seals.iter().take_while(|seal| is_due(seal)).count();
        if due_count == 0 || 0 < self.committing || self.stage < Stage::Pending {
            return;
        }
        self.committing = due_count;
        self.sequence += 1;
        let Seal { end, bytes, last_time_ms, .. } = self.seals[due_count - 1];
        let committed_ms = ctx.processing_time_ms();
        let slot = Slot { sequence: self.sequence, end, bytes, last_time_ms, committed_ms };
        let (file, offset, bytes) = (self.file, slot.at(), slot.encode());
        let write = ctx.file(|op| FileOp::Write { op, file, offset, bytes });
        let sync = ctx.file(|op| FileOp::Sync { op, file });
        self.waiting.extend([(write, What::Slot), (sync, What::SlotSync)]);
    }

    /// `op` has succeeded.
    pub(super) fn on_done(&mut self, op: OpId, ctx: &OperatorContext<'_>) -> Answered {
        let index = self.waiting.iter().position(|(waiting, _)| *waiting == op);
        let (_, what) = self.waiting.remove(index.expect("an operation of this segment"));
        match what {
            What::Write | What::Slot => Answered::Nothing,
            What::Open => {
                self.rename(Stage::Pending, What::Keep, ctx);
                Answered::Nothing
            }
            What::Keep => {
                self.stage = Stage::Pending;
                Answered::MayCommit
            }
            What::Seal => {
                // Syncs of one file are answered in their order.
                let sealed = self.seals.iter_mut().find(|seal| !seal.is_durable);
                sealed.expect("its sync was asked for").is_durable = true;
                Answered::MayCommit
            }
            What::SlotSync if self.stage < Stage::Committed => {
                self.rename(Stage::Committed, What::Name, ctx);
                Answered::Nothing
            }
            What::SlotSync => self.committed(),
            What::Name => {
                self.stage = Stage::Committed;
                self.committed()
            }
            What::Close => Answered::Closed,
        }
    }

    fn committed(&mut self) -> Answered {
        self.seals.drain(..std::mem::take(&mut self.committing));
        Answered::Committed
    }

    fn rename(&mut self, to: Stage, what: What, ctx: &OperatorContext<'_>) {
        let path = |stage| self.directory.join(self.id.name(stage));
        let (from, to) = (path(self.stage), path(to));
        let op = ctx.file(|op| FileOp::Rename { op, from, to });
        self.waiting.push((op, what));
    }

    /// Whether it is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.waiting.iter().any(|(_, what)| *what == What::Close)
    }

    /// Closes it.
    pub(super) fn close(&mut self, ctx: &OperatorContext<'_>) {
        let file = self.file;
        let op = ctx.file(|op| FileOp::Close { op, file });
        self.waiting.push((op, What::Close));
    }
}
