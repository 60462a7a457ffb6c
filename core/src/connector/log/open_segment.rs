//! One segment while it is read: its head, how much of it is committed, and its bytes.
//!
//! ```text
//! open ─► head and slots ─► batches, piece by piece ─► slots again, as often as asked ─► ...
//! ```
//!
//! Not here: which segment is read, and up to which record (`partition_reader.rs`).

use std::path::{Path, PathBuf};

use millstream_storage::io::{FileAnswer, FileDone, FileId, FileOp, OpId, OpenMode};

use super::format::{BATCH_HEAD_BYTES, BatchHead, DATA_AT, Head, Slot, record_at};
use super::name::{SegmentId, Stage};
use super::{advice, damaged};
use crate::connector::byte_window::ByteWindow;
use crate::connector::file_error;
use crate::data::bytes::BadBytes;
use crate::error::Error;
use crate::operator::OperatorContext;

/// Bytes of one read: of two batches, which are decoded in a millisecond or so.
const PIECE_BYTES: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct OpenSegment {
    id: SegmentId,
    path: PathBuf,
    file: FileId,
    wait: Option<(OpId, Wait)>,
    /// None until they were read.
    head: Option<(Head, Slot)>,
    window: ByteWindow,
    /// The batch at the front of the window, if all of it is there and right.
    batch: Option<BatchHead>,
    /// Where in the window the record begins that was found last.
    record_at: usize,
    /// Where in the window the next record of `batch` begins.
    next_at: usize,
    /// Number of the next record in the file's order.
    next: u64,
    /// There is nothing behind the window: damage, if more is needed.
    has_ended: bool,
    /// Which was the next record when the last answer to [`OpenSegment::look_again`] was asked for.
    looked_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Open,
    Head,
    /// How much is committed, asked for before this record.
    Slots(u64),
    Piece,
}

/// Up to where a segment is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Number behind the last record.
    pub(super) end: u64,
    /// Bytes of the segment up to there, if they are known.
    pub(super) bytes: Option<u64>,
}

/// What is wanted of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Records before this number are passed over.
    pub(super) from: u64,
    /// Records with an event time (ms) before this one are passed over.
    pub(super) from_ms: i64,
    pub(super) limit: Limit,
}

/// What comes next in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The record that [`OpenSegment::record`] shows.
    Record,
    /// A read must be answered first.
    Wait,
    /// All records up to the limit have been handed on.
    End,
}

/// Whether a segment that could not be opened is there.
pub(super) enum Answered {
    Yes,
    /// It was removed since it was listed.
    Gone,
}

impl OpenSegment {
    /// Opens it.
    pub(super) fn open(id: SegmentId, directory: &Path, ctx: &OperatorContext<'_>) -> Self {
        let path = directory.join(id.name(Stage::Committed));
        let (file, op) = ctx.open_file(path.clone(), OpenMode::Read);
        Self {
            id,
            path,
            file,
            wait: Some((op, Wait::Open)),
            head: None,
            window: ByteWindow::at(DATA_AT),
            batch: None,
            record_at: BATCH_HEAD_BYTES,
            next_at: BATCH_HEAD_BYTES,
            next: id.base,
            has_ended: false,
            looked_at: None,
        }
    }

    /// Which one it is.
    pub(super) fn id(&self) -> SegmentId {
        self.id
    }

    /// What it says of itself, once that was read.
    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref().map(|(head, _)| head)
    }

    /// How much of it was committed when that was read last.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.head.as_ref().map(|(_, slot)| *slot)
    }

    /// Whether `op` is one of its operations.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.wait.is_some_and(|(waiting, _)| waiting == op)
    }

    /// What it waits for, if it does: the answer does not matter once it is closed.
    pub(super) fn waiting(&self) -> Option<OpId> {
        self.wait.map(|(op, _)| op)
    }

    /// Asks how much of it is committed now.
    pub(super) fn look_again(&mut self, ctx: &OperatorContext<'_>) {
        if self.wait.is_none() {
            self.read(0, DATA_AT, Wait::Slots(self.next), ctx);
        }
    }

    /// Whether it was looked at when all had been read that it has.
    pub(super) fn is_evident(&self) -> bool {
        self.looked_at == Some(self.next)
    }

    /// Passes over all that is committed.
    pub(super) fn pass_committed(&mut self) {
        let slot = self.slot().expect("its head was read");
        self.next = slot.end;
        self.window = ByteWindow::at(slot.bytes);
    }

    /// Closes it.
    pub(super) fn close(&self, ctx: &OperatorContext<'_>) -> OpId {
        let file = self.file;
        ctx.file(|op| FileOp::Close { op, file })
    }

    fn read(&mut self, offset: u64, len: u64, wait: Wait, ctx: &OperatorContext<'_>) {
        let (file, len) = (self.file, len as usize);
        let op = ctx.file(|op| FileOp::Read { op, file, offset, len });
        self.wait = Some((op, wait));
    }

    /// One of its operations was answered.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub(super) fn on_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
    ) -> Result<Answered, Error> {
        let (_, wait) = self.wait.take().expect("the caller has looked");
        let answer = match done.result {
            Ok(answer) => answer,
            Err(fault) if wait == Wait::Open && super::is_gone(&fault) => {
                return Ok(Answered::Gone);
            }
            Err(fault) => return Err(file_error(ctx, fault, advice)),
        };
        match (wait, answer) {
            (Wait::Open, FileAnswer::Opened { .. }) => self.read(0, DATA_AT, Wait::Head, ctx),
            (Wait::Head | Wait::Slots(_), FileAnswer::Read { bytes }) => {
                let head = Head::decode(&bytes).map_err(|bad| self.damaged(0, bad))?;
                let slot = Slot::newest(&bytes).map_err(|bad| self.damaged(0, bad))?;
                if head.id != self.id {
                    let bad = BadBytes { at: 0, what: "it is another segment than its name says" };
                    return Err(self.damaged(0, bad));
                }
                self.head = Some((head, slot));
                if let Wait::Slots(next) = wait {
                    self.looked_at = Some(next);
                }
            }
            (Wait::Piece, FileAnswer::Read { bytes }) => {
                self.has_ended = bytes.is_empty();
                self.window.end().extend_from_slice(&bytes);
            }
            (_, answer) => {
                return Err(Error::bug(ctx.name(), format!("{wait:?} was answered by {answer:?}")));
            }
        }
        Ok(Answered::Yes)
    }

    fn damaged(&self, offset: u64, bad: BadBytes) -> Error {
        damaged(&self.path, offset, bad)
    }

    /// Goes on to the next record that is wished for. Asks for what must be read.
    ///
    /// # Errors
    /// If it is damaged.
    pub(super) fn next(&mut self, wish: Wish, ctx: &OperatorContext<'_>) -> Result<Next, Error> {
        while self.next < wish.limit.end {
            let Some(batch) = self.batch else {
                if !self.find_batch(wish, ctx)? {
                    return Ok(Next::Wait);
                }
                continue;
            };
            if batch.end() == self.next {
                self.drop_batch(batch, wish.limit, ctx);
                continue;
            }
            let (at, position) = (self.next_at, self.window.position());
            let (event_time_ms, _, next_at) = record_at(&self.window.rest()[..batch.bytes], at)
                .map_err(|bad| damaged(&self.path, position, bad))?;
            (self.record_at, self.next_at) = (at, next_at);
            self.next += 1;
            if wish.from < self.next && wish.from_ms <= event_time_ms {
                return Ok(Next::Record);
            }
        }
        if let Some(batch) = self.batch {
            self.drop_batch(batch, wish.limit, ctx);
        }
        Ok(Next::End)
    }

    /// The record that was found last: its number, its event time (ms) and its bytes.
    pub(super) fn record(&self) -> (u64, i64, &[u8]) {
        let found = record_at(self.window.rest(), self.record_at);
        let (event_time_ms, bytes, _) = found.expect("it was found there");
        (self.next - 1, event_time_ms, bytes)
    }

    fn drop_batch(&mut self, batch: BatchHead, limit: Limit, ctx: &OperatorContext<'_>) {
        self.window.consume(batch.bytes);
        self.batch = None;
        self.read_ahead(limit, ctx);
    }

    /// Brings the next batch that is wished for to the front of the window; whether it is there.
    fn find_batch(&mut self, wish: Wish, ctx: &OperatorContext<'_>) -> Result<bool, Error> {
        let at = self.window.position();
        if self.window.rest().len() < BATCH_HEAD_BYTES {
            return self.need_more(wish.limit, ctx);
        }
        let rest = self.window.rest();
        let head = BatchHead::decode(rest).map_err(|bad| self.damaged(at, bad))?;
        if head.base != self.next || head.end() <= head.base || wish.limit.end < head.end() {
            let bad = BadBytes { at: 8, what: "its records are not those that are expected" };
            return Err(self.damaged(at, bad));
        }
        if head.end() <= wish.from || head.last_time_ms < wish.from_ms {
            if head.bytes <= rest.len() {
                self.window.consume(head.bytes);
            } else if self.wait.is_none() {
                self.window = ByteWindow::at(at + head.bytes as u64);
            } else {
                // What is being read belongs to the window as it is.
                return Ok(false);
            }
            self.next = head.end();
            return Ok(true);
        }
        if rest.len() < head.bytes {
            return self.need_more(wish.limit, ctx);
        }
        head.check(&rest[..head.bytes]).map_err(|bad| self.damaged(at, bad))?;
        (self.batch, self.next_at) = (Some(head), BATCH_HEAD_BYTES);
        self.read_ahead(wish.limit, ctx);
        Ok(true)
    }

    /// The next batch is not all there.
    fn need_more(&mut self, limit: Limit, ctx: &OperatorContext<'_>) -> Result<bool, Error> {
        if self.has_ended {
            let at = self.window.position() + self.window.rest().len() as u64;
            let bad = BadBytes { at: 0, what: "it ends within what is committed" };
            return Err(self.damaged(at, bad));
        }
        self.read_ahead(limit, ctx);
        Ok(false)
    }

    /// Asks for the next piece, unless there is enough, or nothing more.
    fn read_ahead(&mut self, limit: Limit, ctx: &OperatorContext<'_>) {
        let there = self.window.rest().len() as u64;
        let needed = match (self.batch, BatchHead::decode(self.window.rest())) {
            (None, Ok(head)) => PIECE_BYTES.max(head.bytes as u64),
            _ => PIECE_BYTES,
        };
        let from = self.window.position() + there;
        let left = limit.bytes.map_or(PIECE_BYTES, |bytes| bytes.saturating_sub(from));
        if self.wait.is_none() && !self.has_ended && there < needed && 0 < left {
            self.read(from, left.min(PIECE_BYTES), Wait::Piece, ctx);
        }
    }
}
