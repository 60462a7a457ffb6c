//! Operators and how they are fused into chains.
//!
//! ```text
//! head ──row──► Stage<A> ──row──► Stage<B> ──row──► Stage<C> ──row──► tail (partitioner or sink)
//!      ─watermark────► a stage holds it until its own timers up to it have fired, then hands it on
//! ```
//!
//! An [`Operator`] turns rows into rows. A [`Chain`] is one or more operators composed
//! *statically*: `Then<Stage<A>, Stage<B>>` is a type of its own, so the whole chain of one record
//! is ordinary inlined code with no virtual call. Types are erased once, at the edge of the task.
//!
//! Everything is a function of its arguments: operators see the world through [`OperatorContext`]
//! and are tested with a context and a vector.
//!
//! Not here: state and timers of keyed operators (`state/`, `time/timer.rs`), channels (`task/`).

pub mod aggregate;
pub mod blocking;
pub mod chain;
pub mod co;
pub mod env;
pub mod join;
pub mod pass;
pub mod process;
pub mod side_output;
pub mod sink;
pub mod source;
mod spilling;
pub mod split_names;
pub mod stateless;
pub mod view;
mod waiting;
pub mod watermark;
pub mod window;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::row::{Origin, Row};
use crate::error::Error;
use crate::graph::Facts;
use crate::state::durable::Save;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

pub use chain::{Chain, Stage, Then};
pub use env::{OperatorContext, TaskEnv};
pub use sink::{Nothing, Sink};

/// Whether a piece of work is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Finished.
    Done,
    /// The budget of this turn, or an answer from outside, ran out first; call again with the same
    /// arguments.
    Pending,
}

/// Where rows go: the rest of the chain, and behind it the task's outputs.
pub trait Output<T> {
    /// Hands a row on. Returns when the rest of the chain has taken it.
    fn emit(&mut self, row: Row<T>);

    /// The task's environment, for the time and key of the row being processed.
    fn env(&self) -> &TaskEnv;

    /// Hands on a value caused by the row being processed: same event time, same key.
    fn collect(&mut self, value: T) {
        let row = self.env().row(value);
        self.emit(row);
    }

    /// Hands on a value with an event time (ms) of its own.
    fn collect_at(&mut self, value: T, event_time_ms: i64) {
        let row = Row { event_time_ms, ..self.env().row(value) };
        self.emit(row);
    }
}

/// One transformation. All methods but [`Operator::on_row`] have defaults that suit an operator
/// without state, timers or I/O.
///
/// Order of calls: `open`, then `restore` if there is a snapshot, then rows, watermarks and time in
/// any order; at the end `on_input_end`, the final watermark and `on_end`, each until it is done.
/// Operators of a chain are opened from last to first.
pub trait Operator: 'static {
    /// What comes in.
    type In: 'static;
    /// What goes out.
    type Out: 'static;

    /// Whether the row given to [`Operator::on_row`] must be the one being processed, which gives
    /// time and key to what [`Output::collect`] and [`OperatorContext::side_output`] take. An
    /// operator that uses neither there, or enters rows by itself, says `false` and saves a
    /// nanosecond or two a row.
    const ENTERS_ROWS: bool = true;

    /// What the plan must know about it; asked once, of the prototype.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Prepares the operator, on the shard that will run it.
    ///
    /// # Errors
    /// Whatever makes it impossible to run; the job does not start.
    fn open(&mut self, _ctx: &OperatorContext<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The keys of rows to come: a keyed operator asks for the memory of their state, so that it
    /// is there when they come. Changes nothing that can be observed.
    fn prefetch(&mut self, _ahead: Ahead<'_>) {}

    /// Takes one row.
    fn on_row(
        &mut self,
        row: Row<Self::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// The rows that were there have been processed; a turn goes on elsewhere. Also called, without
    /// rows, after [`Operator::on_time`] and [`Operator::on_split`]. Answers the watermark (ms) to
    /// send on, if this operator makes watermarks and its own has risen.
    fn on_batch_end(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) -> Option<i64> {
        None
    }

    /// Event time has reached `watermark_ms` (also `ctx.watermark_ms()`): fires what is due, as far
    /// as the budget goes. Called again with the same watermark, or a later one, while it answers
    /// [`Progress::Pending`]; rows may come in between, and for a key with timers due those fire
    /// before the row is processed. The watermark goes on down the chain once this is done.
    fn on_watermark(
        &mut self,
        _watermark_ms: i64,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) -> Progress {
        Progress::Done
    }

    /// The earliest processing time (ms since 1970) at which [`Operator::on_time`] wants a call.
    fn next_time_ms(&self) -> Option<i64> {
        None
    }

    /// Processing time has reached what [`Operator::next_time_ms`] asked for; the time is
    /// `ctx.processing_time_ms()`.
    fn on_time(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) -> Progress {
        Progress::Done
    }

    /// Whether it can take a row now. A sink whose writes lag answers `false`; the task then leaves
    /// its inputs alone, and backpressure does the rest.
    fn is_ready(&self) -> bool {
        true
    }

    /// The state of a key with this hash, which the operator asked the shard's store for, was read.
    fn on_state_read(
        &mut self,
        _hash64: u64,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) {
    }

    /// The shard's memory is short: lets state of up to `steps` keys go to its store. Whether it
    /// took no rows for want of room and does again.
    fn evict(&mut self, _steps: u32, _ctx: &OperatorContext<'_>) -> bool {
        false
    }

    /// Whether it holds rows that it has not taken.
    fn has_waiting_rows(&self) -> bool {
        false
    }

    /// An answer to a file operation that this operator asked for.
    fn on_file_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) {
        ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}")));
    }

    /// Something happened on a socket that this operator opened.
    fn on_socket_done(
        &mut self,
        done: SocketDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) {
        ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}")));
    }

    /// A split of the task's source began, became idle, or ended. Only in the source's own chain.
    fn on_split(&mut self, _event: SplitEvent, _ctx: &OperatorContext<'_>) {}

    /// No row will follow, and event time is about to end with the final watermark. Whatever waits
    /// for processing time happens now: afterwards its results would be late for everybody. Called
    /// again while it answers [`Progress::Pending`].
    fn on_input_end(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) -> Progress {
        Progress::Done
    }

    /// No row will follow; the final watermark has been handled, so results have no place any more.
    /// Flushes, and answers [`Progress::Pending`] until everything is where it belongs.
    fn on_end(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) -> Progress {
        Progress::Done
    }

    /// A barrier has come: sees to it that [`Operator::snapshot`] can write everything, also while
    /// the operator [is not ready](Operator::is_ready), for barriers may overtake rows. No row
    /// comes while it answers [`Progress::Pending`]; called again until all operators of the task
    /// are done, then the snapshot is taken, and [`Operator::on_cut`] called.
    fn gather(&mut self, _ctx: &OperatorContext<'_>) -> Progress {
        Progress::Done
    }

    /// The snapshot of `checkpoint` has been taken.
    fn on_cut(&mut self, _checkpoint: CheckpointId, _ctx: &OperatorContext<'_>) {}

    /// Writes some of what has changed before the last cut, and is in no snapshot, to the durable
    /// store of the shard: what there was at the cut. Called again and again while it answers
    /// [`Progress::Pending`]; the checkpoint [is not settled](Operator::is_settled) before.
    fn save(&mut self, _save: Save, _ctx: &OperatorContext<'_>) -> Progress {
        Progress::Done
    }

    /// Whether everything is durable that the snapshot of `checkpoint` speaks of: until then the
    /// task's part of it is held back.
    fn is_settled(&self, _checkpoint: CheckpointId) -> bool {
        true
    }

    /// `checkpoint` is complete: a restart goes on from it or from a later one. What was written
    /// before it is committed now. Asked for by [`OperatorContext::want_checkpoint`], told of every
    /// one that is complete, of some only by a later one.
    fn on_completed(&mut self, _checkpoint: CheckpointId, _ctx: &OperatorContext<'_>) {}

    /// Whether something is being committed.
    fn owes_commit(&self) -> bool {
        false
    }

    /// Writes everything that [`Operator::restore`] needs to continue from here.
    fn snapshot(&self, _writer: &mut SnapshotWriter<'_>) {}

    /// Continues from a snapshot; called between `open` and the first row, on an operator that owns
    /// a possibly different range of keys than the one that wrote it.
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

/// What happens to a split, as far as watermarks care.
///
/// Between two splits that are read one after the other the watermark must not run ahead: the next
/// split is announced as active before the last one is said to have finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitEvent {
    /// It will deliver rows (again).
    Active(u32),
    /// It has delivered all there is for now: evidence, not a guess. A task that has no split at
    /// all to read for now says so once with a number that it will not use otherwise.
    Idle(u32),
    /// It will never deliver another row.
    Finished(u32),
}

/// The one row a test, a timer or a source begins with.
impl<T> From<T> for Row<T> {
    fn from(value: T) -> Self {
        Row::new(value, crate::data::row::NO_EVENT_TIME, Origin::NONE)
    }
}
