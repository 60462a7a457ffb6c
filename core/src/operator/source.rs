//! Sources: where rows come from.
//!
//! A [`Source`] is a description that the plan holds and every task copies; a [`SourceReader`] is
//! one task's running half. A source consists of *splits* (a file, a byte range of one, a
//! partition, a connection), each read by exactly one task, each with positions that only grow.
//! Watermarks are made per split, because only within a split does the order mean anything.

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::error::Error;
use crate::graph::SideOutputFact;
use crate::operator::SplitEvent;
use crate::operator::env::OperatorContext;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// A source as the plan sees it.
pub trait Source: Clone + Send + 'static {
    /// The records it gives.
    type Out: 'static;
    /// One task's half.
    type Reader: SourceReader<Out = Self::Out>;

    /// Everything wrong with the description that can be seen without reading: one sentence each,
    /// saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// What it reads, for `explain`: `files payments/*.jsonl (JSON Lines)`.
    fn describe(&self) -> String;

    /// The side outputs that it may write: its dead letters.
    fn side_outputs(&self) -> Vec<SideOutputFact> {
        Vec::new()
    }

    /// Why a reader that goes on from a snapshot does not read everything that came after it; none
    /// if it does. In words that go on from the source's name: `is a connection, ..`.
    fn cannot_replay(&self) -> Option<&'static str> {
        None
    }

    /// Whether it ends by itself.
    fn is_bounded(&self) -> bool;

    /// A reader for one task. `ctx.env().task` says which splits are its own.
    ///
    /// # Errors
    /// Whatever makes it impossible to read; the job does not start.
    fn open(&self, ctx: &OperatorContext<'_>) -> Result<Self::Reader, Error>;
}

/// One task's half of a source.
pub trait SourceReader: 'static {
    /// The records it gives.
    type Out: 'static;

    /// Hands on rows until the budget is spent (`ctx.env().spend()` takes one unit a record),
    /// nothing is there, or everything has been read. Splits in `ctx.env().paused_splits` are
    /// left alone.
    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<Self::Out>,
    ) -> SourceStatus;

    /// An answer to a file operation that this reader asked for.
    fn on_file_done(&mut self, done: FileDone, ctx: &OperatorContext<'_>) {
        ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}")));
    }

    /// Something happened on a socket that this reader opened.
    fn on_socket_done(&mut self, done: SocketDone, ctx: &OperatorContext<'_>) {
        ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}")));
    }

    /// The source ends as if its input had. Answers whether the reader still holds records that its
    /// input would not give again: then it takes nothing more in, and is polled until it has ended.
    fn drain(&mut self, _ctx: &OperatorContext<'_>) -> bool {
        false
    }

    /// Writes the position of every split, and the splits not yet begun.
    fn snapshot(&self, _writer: &mut SnapshotWriter<'_>) {}

    /// Continues from the positions of a snapshot. Splits are state of their own: whatever number
    /// of tasks wrote the snapshot, each task takes those that are its own now.
    ///
    /// # Errors
    /// Damaged or foreign bytes.
    fn restore(
        &mut self,
        _reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// How a reader stands after [`SourceReader::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// The budget ended it; there is more at once.
    Ready,
    /// Nothing until an answer comes from outside, or until this processing time (ms since 1970).
    Waiting(Option<i64>),
    /// Nothing ever again.
    Ended,
}

/// Where a reader puts its rows.
pub trait SourceOutput<T> {
    /// Hands on record `position` (a byte offset or a number) of `split`. An event time (ms) comes
    /// with it where the source knows one; [`crate::data::row::NO_EVENT_TIME`] otherwise.
    fn emit(&mut self, split: u32, position: u64, event_time_ms: i64, value: T);

    /// Says what became of a split. A split begins with [`SplitEvent::Active`], before its first
    /// row.
    fn on_split(&mut self, event: SplitEvent);
}
