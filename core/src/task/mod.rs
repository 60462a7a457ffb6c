//! A task: one parallel instance of a chain, with its inputs and outputs.
//!
//! ```text
//! channels ──► Feed (ChannelFeed or SourceFeed) ──row──► Chain ──row──► End (Outputs or NoOutput)
//!               one element at a time, fair              static          main output, side outputs
//! ```
//!
//! The shard sees a task as a [`Task`]: types are erased here, and a virtual call moves a batch.
//! Inside, everything is static.
//!
//! Not here: when a task's turn comes (`shard/`), what its operators do (`operator/`).

pub mod align;
pub mod chain_task;
pub mod channel_feed;
pub mod decode;
pub mod end;
pub mod feed;
mod incoming;
pub mod recorder;
pub mod replay;
pub mod source_feed;
#[cfg(test)]
mod tests;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::element::{CheckpointId, Element};
use crate::error::Error;
use crate::exchange::channel::{Outbox, Returned};
use crate::graph::plan::{ChannelId, ChannelPlan, TaskPlan};
use crate::operator::TaskEnv;
use crate::state::snapshot::Snapshot;

pub use chain_task::ChainTask;

/// A task as its shard drives it.
pub trait Task {
    /// Its place in the job.
    fn plan(&self) -> &TaskPlan;

    /// What its operators see and ask.
    fn env(&self) -> &TaskEnv;

    /// Name of its source; empty if channels are its input.
    fn source_name(&self) -> &str;

    /// Names of its operators, first to last.
    fn operator_names(&self) -> &[String];

    /// Prepares the operators.
    ///
    /// # Errors
    /// The first operator's that cannot run.
    fn open(&mut self) -> Result<(), Error>;

    /// An element arrived in input channel `slot`: the channels of the plan's inputs, counted
    /// through.
    fn on_element(&mut self, slot: usize, element: Element);

    /// An output channel's receiver gave a container back.
    fn on_returned(&mut self, channel: ChannelId, returned: Returned, outbox: &mut Outbox);

    /// An answer for the operator at `stage_index`.
    fn on_file_done(&mut self, stage_index: u16, done: FileDone);

    /// News for the operator at `stage_index`.
    fn on_socket_done(&mut self, stage_index: u16, done: SocketDone);

    /// The shard's memory is short: every operator looks for up to `steps` keys whose state can go
    /// to the shard's store. Whether an operator that took no rows for want of room does again.
    fn relieve(&mut self, steps: u32) -> bool;

    /// A source ends as if its input had; other tasks go on until their inputs end.
    fn drain(&mut self);

    /// A source takes nothing in any more, and does not end.
    fn halt(&mut self);

    /// Cut `checkpoint`, which is above those before: a source sends its barrier as soon as it can,
    /// other tasks await it. A task that ends without it reports its last state as its part then;
    /// one that has ended does so at once, into `mail`.
    fn trigger(&mut self, checkpoint: CheckpointId, mail: &mut TaskMail);

    /// `checkpoint`, which was triggered, waits for rows no longer: it is cut as soon as its
    /// barrier is known, and so are those before it, and the barrier overtakes the rows before it.
    fn unalign(&mut self, checkpoint: CheckpointId);

    /// `checkpoint` is complete: operators commit what they wrote before it.
    fn on_completed(&mut self, checkpoint: CheckpointId);

    /// Whether an operator is committing something.
    fn owes_commit(&self) -> bool;

    /// Works for one turn: pieces of at most `row_limit` rows from each input that has any.
    fn turn(&mut self, row_limit: u32, mail: &mut TaskMail) -> Activity;

    /// How it stands.
    fn status(&self) -> TaskStatus;

    /// Gives every operator its state back, after `open` and before the first turn.
    ///
    /// # Errors
    /// The first operator's that cannot read it.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error>;
}

/// What leaves a task in a turn.
#[derive(Debug)]
pub struct TaskMail {
    /// Elements for other tasks.
    pub outbox: Outbox,
    /// Emptied containers for the senders.
    pub returns: Vec<(ChannelPlan, Returned)>,
    /// Its parts of checkpoints whose barriers have passed and of which all is durable, and those
    /// of a task that has ended.
    pub parts: Vec<TaskPart>,
}

/// What a task has in a checkpoint.
#[derive(Debug)]
pub struct TaskPart {
    /// In which.
    pub checkpoint: CheckpointId,
    /// Its state, and rows in flight.
    pub snapshot: Snapshot,
    /// How long its barrier waited for the cut, nanoseconds.
    pub alignment_ns: u64,
}

/// What a task will do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It has more to do at once.
    Busy,
    /// It has input, but an output is full or a sink lags; nothing until something arrives, or
    /// until this processing time (ms since 1970).
    Blocked(Option<i64>),
    /// Nothing until something arrives, or until this processing time (ms since 1970).
    Idle(Option<i64>),
    /// Nothing ever again.
    Finished,
}

/// How a task stands, for metrics and for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TaskStatus {
    /// Rows taken.
    pub records_in: u64,
    /// Rows given, on all outputs.
    pub records_out: u64,
    /// Rows that came after their time and were dropped or put aside.
    pub late_records: u64,
    /// Records that could not be read and went to the dead-letter output.
    pub dead_letters: u64,
    /// Combined watermark of its inputs (ms); of its splits, for a source.
    pub watermark_ms: i64,
    /// Elements that arrived and were not taken yet.
    pub queued_elements: u64,
    /// Bytes, as frames, of rows given that have not left or that receivers have not read. *Is
    /// memory in flight bounded?*
    pub output_bytes: u64,
    /// Most batches that have waited for a credit in one channel after a turn. *Does its code give
    /// many rows for one?*
    pub waiting_batches_max: u64,
    /// Whether it has ended.
    pub is_finished: bool,
}
