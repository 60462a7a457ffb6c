//! Everything that can happen to a shard, and everything it can ask of the world.
//!
//! Two closed sets: whatever can ever wake the program is one `match`.

use std::path::PathBuf;
use std::time::Duration;

use millstream_net::io::{SocketDone, SocketOp};
use millstream_storage::io::{FileDone, FileOp, OpId};

use crate::checkpoint::{Order, WrittenPart};
use crate::data::element::CheckpointId;
use crate::data::row::Origin;
use crate::error::Error;
use crate::exchange::descriptor::Descriptor;
use crate::operator::blocking::BlockingCall;
use crate::operator::env::SplitName;
use crate::shard::metrics::ShardStatus;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The disk answered, or standard output did, or a call was made.
    File(FileDone),
    /// Something happened on a socket.
    Socket(SocketDone),
    /// Another shard sent something.
    Peer {
        /// Which shard.
        from: u32,
        /// What.
        descriptor: Descriptor,
    },
    /// The node wants something.
    Command(Command),
}

/// Something the node wants of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// End the sources, process what is under way, end.
    Drain,
    /// Sources take nothing in any more, and do not end: the job stops with the next checkpoint.
    Halt,
    /// Cut a checkpoint: sources send its barrier, every task has its part in it, the latest when
    /// it ends, and the shard writes all of them into a file of this directory: answered by
    /// [`Report::Part`] or [`Report::CheckpointFailed`]. After so long, if ever, barriers wait for
    /// no more rows.
    Trigger(CheckpointId, PathBuf, Option<Duration>),
    /// Write this manifest at this path, durably: answered by [`Report::ManifestWritten`] or
    /// [`Report::CheckpointFailed`].
    Commit(CheckpointId, PathBuf, Vec<u8>),
    /// The checkpoint is complete: commit what was written before it. Answered by
    /// [`Report::Settled`].
    Completed(CheckpointId),
    /// Nothing more is wanted of the checkpoint.
    GiveUp(CheckpointId),
    /// Remove these files of a checkpoint, one after the other, until one cannot be removed. If all
    /// are: [`Report::Removed`].
    Remove(CheckpointId, Vec<PathBuf>),
    /// No file names tables for the sake of this checkpoint any more.
    Release(CheckpointId),
    /// Say how you stand: answered by [`Report::Status`].
    Status,
}

/// A command, and whose it is.
#[derive(Debug)]
pub enum Addressed {
    /// All shards are told.
    All(Command),
    /// The first one is.
    First(Command),
}

impl Command {
    /// What the coordinator orders, as shards understand it.
    pub fn of(order: Order) -> Addressed {
        match order {
            Order::Trigger(checkpoint, directory, unaligned_after) => {
                Addressed::All(Self::Trigger(checkpoint, directory, unaligned_after))
            }
            Order::Commit(checkpoint, path, bytes) => {
                Addressed::First(Self::Commit(checkpoint, path, bytes))
            }
            Order::Completed(checkpoint) => Addressed::All(Self::Completed(checkpoint)),
            Order::GiveUp(checkpoint, _) => Addressed::All(Self::GiveUp(checkpoint)),
            Order::Remove(checkpoint, paths) => Addressed::First(Self::Remove(checkpoint, paths)),
            Order::Release(checkpoint) => Addressed::All(Self::Release(checkpoint)),
        }
    }
}

/// Something that is wanted.
#[derive(Debug)]
pub enum Effect {
    /// Of the disk.
    File(FileOp),
    /// Of the network.
    Socket(SocketOp),
    /// Of standard output: to be written. Answered by [`Event::File`], as a write to a file is.
    Print {
        /// Answered under this number.
        op: OpId,
        /// Whole lines.
        lines: Vec<u8>,
    },
    /// Of a thread that may wait: to be made, behind the calls of the same operator and task.
    /// Answered by [`Event::File`], as a write to a file is.
    Call {
        /// Answered under this number.
        op: OpId,
        /// What it is.
        call: BlockingCall,
    },
    /// Of another shard.
    Send {
        /// Which shard.
        to: u32,
        /// What it is told.
        descriptor: Descriptor,
    },
    /// Of the node: to be told.
    Report(Box<Report>),
}

impl Effect {
    pub(crate) fn report(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}

/// Something a shard tells its node.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "reports are rare, and boxed where they travel")]
pub enum Report {
    /// All tasks have ended; nothing more will be asked. Sent once.
    Finished,
    /// The job must stop. Sent once; the shard does nothing afterwards.
    Failed {
        /// Why.
        error: Error,
        /// The record that it is about, or none.
        origin: Origin,
    },
    /// Turns took longer than they may. Sent every now and then, for people.
    Stalled {
        /// How long the last of them took, nanoseconds.
        turn_ns: u64,
        /// Which task is slow, by its operators' names. None if none is when it runs alone: then
        /// the system has given the core to somebody else.
        task: Option<String>,
        /// How many so far.
        stall_count: u64,
    },
    /// A source has begun to read a split.
    SplitNamed {
        /// The source's number.
        source: u32,
        /// The split's number and name.
        split: SplitName,
    },
    /// What its tasks had is in a file, durably.
    Part {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Where, and what is in it.
        part: WrittenPart,
    },
    /// A manifest is durable.
    ManifestWritten(CheckpointId),
    /// A part or a manifest cannot be written.
    CheckpointFailed {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Why not.
        reason: String,
    },
    /// The files of a checkpoint that were to be removed are.
    Removed(CheckpointId),
    /// Everything that was written before the checkpoint is committed.
    Settled(CheckpointId),
    /// An operator ends only with a checkpoint that is triggered from now on.
    CheckpointWanted,
    /// The answer to [`Command::Status`].
    Status(ShardStatus),
}
