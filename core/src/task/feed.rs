//! Where a chain's rows come from.

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::element::{CheckpointId, Element};
use crate::error::Error;
use crate::exchange::channel::Returned;
use crate::graph::plan::ChannelPlan;
use crate::limits::STAGE_COUNT_MAX;
use crate::operator::{Chain, Output, TaskEnv};
use crate::state::snapshot::Snapshot;

/// What follows for the task from what its inputs have delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Due {
    /// The combined watermark (ms) rose.
    Watermark(i64),
    /// The barrier has arrived on every input: cut here.
    Barrier(CheckpointId),
    /// Nothing follows on any input; event time ends with it.
    End,
}

/// The inputs of a task: channels, or a source.
pub trait Feed: 'static {
    /// The rows that go into the chain.
    type Out: 'static;

    /// Prepares the feed; `name` is the chain's first operator.
    ///
    /// # Errors
    /// A source's that cannot be read.
    fn open(&mut self, name: &str, env: &TaskEnv) -> Result<(), Error>;

    /// Name of the source; empty if there is none.
    fn source_name(&self) -> &str;

    /// Begins a round, in which every input has its turn once and gives at most `row_limit` rows.
    fn begin_round(&mut self, row_limit: u32);

    /// Feeds rows of the next input in this round, and the control elements before them, until the
    /// input has given what it may, has nothing more, or something is due; then it is called again
    /// when that has been carried out. Emptied containers go into `returns`. `false` if there is
    /// nothing more in this round.
    fn feed<C: Chain<In = Self::Out>>(
        &mut self,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
        returns: &mut Vec<(ChannelPlan, Returned)>,
    ) -> bool;

    /// Takes what is due.
    fn pop_due(&mut self) -> Option<Due>;

    /// Whether something is due.
    fn has_due(&self) -> bool;

    /// Whether no input expects anything for now.
    fn is_idle(&self, env: &TaskEnv) -> bool;

    /// Whether something is due, or a round of [`Feed::feed`] would give something at `now_ms`.
    fn is_ready(&self, now_ms: i64) -> bool;

    /// The processing time (ms) at which [`Feed::feed`] will give something by itself.
    fn next_time_ms(&self) -> Option<i64>;

    /// An element arrived.
    fn on_element(&mut self, slot: usize, element: Element);

    /// An answer for the source.
    fn on_file_done(&mut self, done: FileDone, env: &TaskEnv);

    /// News for the source.
    fn on_socket_done(&mut self, done: SocketDone, env: &TaskEnv);

    /// A source ends as soon as it has handed on what it holds.
    fn drain(&mut self, env: &TaskEnv);

    /// A source takes nothing in any more, and does not end.
    fn halt(&mut self);

    /// A source sends a barrier next.
    fn trigger(&mut self, checkpoint: CheckpointId);

    /// Rows taken so far.
    fn row_count(&self) -> u64;

    /// Elements that arrived and were not taken.
    fn queued_count(&self) -> u64;

    /// The combined watermark (ms).
    fn watermark_ms(&self) -> i64;

    /// Appends a source's positions to `snapshot`.
    fn snapshot(&self, snapshot: &mut Snapshot, env: &TaskEnv);

    /// Gives a source its positions back, and a task of channels the rows that were in flight.
    ///
    /// # Errors
    /// The source's that cannot read them; if rows are not what the task reads.
    fn restore(&mut self, snapshot: &Snapshot, env: &TaskEnv) -> Result<(), Error>;

    /// Whether a barrier waits to be carried out.
    fn has_barrier(&self) -> bool;

    /// Whether `checkpoint`, which is the next to be cut, can be cut without waiting for more.
    fn can_cut(&self, checkpoint: CheckpointId) -> bool;

    /// `checkpoint` is being cut. Rows that the job began with and that were not taken go into
    /// `snapshot`; what comes before barriers that are still to come is kept for it.
    fn cut(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot);

    /// Whether everything has come that was before the barriers of `checkpoint`.
    fn is_recorded(&self, checkpoint: CheckpointId) -> bool;

    /// What was kept for `checkpoint` goes into `snapshot`.
    fn take_recorded(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot);
}

/// The stage index under which a source asks its file and socket operations: no operator of a chain
/// has it.
pub const SOURCE_STAGE: u16 = (STAGE_COUNT_MAX - 1) as u16;
