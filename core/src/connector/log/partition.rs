//! One partition while it is written: its records, its segments, and which of them may go.
//!
//! ```text
//! record ─► batch ──128 KiB, or a checkpoint──► segment being written ──full──► the next
//!                                               │
//! segments, the oldest first:  committed ... ── front ── ...
//! ```
//!
//! Only the front segment commits; the next is the front when all of it is committed. So segments
//! get their names in their order, and a reader that sees one may believe all before it.
//!
//! A segment ends with the checkpoint that finds it large enough, so what a checkpoint makes
//! visible is in one segment.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use millstream_storage::io::{FileOp, OpId};

use super::format::{BatchWriter, Head};
use super::name::{SegmentId, Stage};
use super::segment::{Answered, Segment};
use crate::data::element::CheckpointId;
use crate::operator::OperatorContext;

/// Bytes of a batch. Large enough that an operation's cost (5-20 µs) is small beside it.
pub(super) const BATCH_BYTES: usize = 128 << 10;

/// What all partitions of a log have in common.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) directory: PathBuf,
    pub(super) partition_count: u32,
    pub(super) segment_bytes: u64,
    pub(super) retain_bytes: Option<u64>,
    pub(super) retain_for: Option<Duration>,
    pub(super) format: &'static str,
}

/// Where a checkpoint ends: in a snapshot by partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct End {
    /// Number behind the last record.
    pub(super) offset: u64,
    /// The segment that has it, or had nothing yet.
    pub(super) segment: SegmentId,
    /// Bytes of the segment up to there.
    pub(super) bytes: u64,
}

/// A segment that is closed and part of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    /// When it was last written, processing time, ms since 1970.
    pub(super) written_ms: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    number: u32,
    generation: u32,
    /// The last segment that was made.
    last: Option<SegmentId>,
    /// Number of the next record that goes into a batch's head.
    next: u64,
    batch: BatchWriter,
    segments: VecDeque<Segment>,
    end: Option<End>,
    old: VecDeque<Old>,
    removing: Option<OpId>,
}

impl Partition {
    /// A partition whose next record has the number `next`, and whose segments are `old`. `end` is
    /// what a checkpoint said of it.
    pub(super) fn new(
        (number, generation): (u32, u32),
        next: u64,
        old: VecDeque<Old>,
        end: Option<End>,
    ) -> Self {
        let last = old.back().map(|old| old.id);
        Self {
            number,
            generation,
            last,
            next,
            batch: BatchWriter::default(),
            segments: VecDeque::new(),
            end,
            old,
            removing: None,
        }
    }

    /// Which one it is.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Where the last checkpoint ends, if it has anything.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Appends a record.
    pub(super) fn push(&mut self, event_time_ms: i64, record: &[u8]) {
        self.batch.push(event_time_ms, record);
    }

    /// Whether its batch is large enough to be written.
    pub(super) fn has_batch(&self) -> bool {
        BATCH_BYTES <= self.batch.bytes()
    }

    /// Writes that have not been answered.
    pub(super) fn write_count(&self) -> usize {
        self.segments.iter().map(Segment::write_count).sum()
    }

    /// Writes what there is.
    pub(super) fn flush(
        &mut self,
        layout: &Layout,
        spare: &mut Vec<Vec<u8>>,
        ctx: &OperatorContext<'_>,
    ) {
        if self.batch.record_count() == 0 {
            return;
        }
        let base = self.next;
        self.next += u64::from(self.batch.record_count());
        let (batch, last_time_ms) = self.batch.take(base, spare.pop().unwrap_or_default());
        let next = self.next;
        self.segment_at(base, layout, ctx).write(batch, (next, last_time_ms), ctx);
    }

    /// The segment to write to, which is made if need be, with record `base` as its first.
    fn segment_at(
        &mut self,
        base: u64,
        layout: &Layout,
        ctx: &OperatorContext<'_>,
    ) -> &mut Segment {
        if self.segments.back().is_none_or(Segment::is_full) {
            let id = SegmentId { partition: self.number, base, generation: self.generation };
            let head = Head {
                id,
                partition_count: layout.partition_count,
                previous: self.last,
                format: layout.format.to_string(),
            };
            self.last = Some(id);
            self.segments.push_back(Segment::create(&head, &layout.directory, ctx));
        }
        self.segments.back_mut().expect("it was just made")
    }

    /// A checkpoint ends here.
    pub(super) fn seal(&mut self, layout: &Layout, ctx: &OperatorContext<'_>) {
        let sealed = self.end.map_or(0, |end| end.offset);
        let next = self.next;
        let Some(segment) = self.segments.back_mut().filter(|it| !it.is_full() && sealed < next)
        else {
            return;
        };
        segment.seal(None, ctx);
        self.end = Some(End { offset: next, segment: segment.id(), bytes: segment.bytes() });
        if layout.segment_bytes <= segment.bytes() {
            segment.fill();
        }
    }

    /// What the checkpoint that the job goes on from speaks of is not committed: a segment that
    /// begins behind it says that it is.
    pub(super) fn commit_again(&mut self, layout: &Layout, ctx: &OperatorContext<'_>) {
        let next = self.next;
        let segment = self.segment_at(next, layout, ctx);
        segment.seal(Some(CheckpointId(0)), ctx);
        self.end = Some(End { offset: next, segment: segment.id(), bytes: segment.bytes() });
    }

    /// The snapshot of `checkpoint` speaks of all that is sealed.
    pub(super) fn on_cut(&mut self, checkpoint: CheckpointId) {
        self.segments.iter_mut().for_each(|segment| segment.on_cut(checkpoint));
    }

    /// Whether everything is durable that the snapshot of `checkpoint` speaks of.
    pub(super) fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.segments.iter().all(|segment| segment.is_settled(checkpoint))
    }

    /// Whether something is being committed, or will be without anything happening before.
    pub(super) fn owes_commit(&self, completed: CheckpointId) -> bool {
        self.segments.iter().any(|segment| segment.owes_commit(completed))
    }

    /// Whether all that was written is committed, closed and cleared away.
    pub(super) fn is_at_rest(&self) -> bool {
        self.segments.is_empty() && self.batch.record_count() == 0 && self.removing.is_none()
    }

    /// Whether `op` removes a segment.
    pub(super) fn is_removing(&self, op: OpId) -> bool {
        self.removing == Some(op)
    }

    /// Whether an answer to `op` is for it.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.is_removing(op) || self.segments.iter().any(|it| it.is_waiting_for(op))
    }

    /// Commits what is due of the front segment, and closes it when it is full and committed.
    pub(super) fn commit(
        &mut self,
        layout: &Layout,
        completed: Option<CheckpointId>,
        ctx: &OperatorContext<'_>,
    ) {
        if let Some(front) = self.segments.front_mut() {
            front.commit(completed, ctx);
            if front.is_full() && front.is_committed() && !front.is_closing() {
                front.close(ctx);
            }
        }
        self.clear_away(layout, ctx);
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.fill();
        }
    }

    /// `op` has succeeded.
    pub(super) fn on_done(
        &mut self,
        op: OpId,
        layout: &Layout,
        completed: Option<CheckpointId>,
        ctx: &OperatorContext<'_>,
    ) {
        if self.is_removing(op) {
            self.removing = None;
            return self.clear_away(layout, ctx);
        }
        let index = self.segments.iter().position(|segment| segment.is_waiting_for(op));
        let index = index.expect("the caller has looked");
        match self.segments[index].on_done(op, ctx) {
            Answered::Nothing => {}
            Answered::MayCommit | Answered::Committed => self.commit(layout, completed, ctx),
            Answered::Closed => {
                assert_eq!(index, 0, "segments are closed in their order");
                let closed = self.segments.pop_front().expect("it was just found");
                let (id, bytes) = (closed.id(), closed.bytes());
                let written_ms = ctx.processing_time_ms();
                self.old.push_back(Old { id, bytes, written_ms });
                self.commit(layout, completed, ctx);
            }
        }
    }

    /// Removes the oldest segment if it may go: never the last one, nor the one before what is not
    /// committed.
    fn clear_away(&mut self, layout: &Layout, ctx: &OperatorContext<'_>) {
        let writing_bytes: u64 = self.segments.iter().map(Segment::bytes).sum();
        let old_bytes: u64 = self.old.iter().map(|old| old.bytes).sum();
        let Some(oldest) = self.old.front().filter(|_| 1 < self.old.len()) else { return };
        let left_bytes = writing_bytes + old_bytes - oldest.bytes;
        let is_much = layout.retain_bytes.is_some_and(|retain| retain <= left_bytes);
        let age_ms = ctx.processing_time_ms().saturating_sub(oldest.written_ms);
        let is_old = layout.retain_for.is_some_and(|it| it.as_millis() as i128 <= age_ms.into());
        if self.removing.is_none() && (is_much || is_old) {
            let path = layout.directory.join(oldest.id.name(Stage::Committed));
            self.old.pop_front();
            self.removing = Some(ctx.file(|op| FileOp::Remove { op, path }));
        }
    }
}
