//! What one task is told about its place in the job.
//!
//! ```text
//!            inputs[0].channels        outputs[0].channels (no side: the main output)
//!  task 0 ──ChannelId 4──►┐           ┌──ChannelId 9───► task 0 of the next chain
//!  task 1 ──ChannelId 6──►├── task ──►┤
//!                         │           └──ChannelId 10──► task 1 of the next chain
//!                         │           outputs[1].channels (side "late")
//! ```
//!
//! Every channel has exactly one writer and one reader, and both ends call it by the same
//! [`ChannelId`]. Task `i` of every chain runs on shard `i`, so a channel between tasks of one
//! index never leaves its shard.

use std::fmt;
use std::ops::Range;

use crate::data::key_group::KeyGroupCount;

/// One channel of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// One task: one parallel instance of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// Number of the chain in the physical graph; upstream chains have smaller numbers.
    pub chain_index: u16,
    /// Names of the fused operators, joined by ` -> `.
    pub name: String,
    /// Uid of the first of them: rows on their way to the task are kept under it.
    pub uid: String,
    /// Which task of the chain, and the shard that it runs on.
    pub task_index: u32,
    /// How many tasks the chain has.
    pub parallelism: u32,
    /// Key groups of the job.
    pub key_group_count: KeyGroupCount,
    /// Whether rows come by key: then the task owns key groups, and may keep state for their keys.
    pub is_keyed: bool,
    /// Number of the source, if the chain begins with one.
    pub source_index: Option<u32>,
    /// What it reads: none for a source, two for a chain that begins with two connected streams.
    pub inputs: Vec<InputPlan>,
    /// Where its rows go: one for every consumer of the main output, one for every consumer of a
    /// side output. None for a chain that ends in a sink.
    pub outputs: Vec<OutputPlan>,
}

impl TaskPlan {
    /// The key groups whose keys it may keep state for.
    pub fn key_groups(&self) -> Option<Range<u32>> {
        self.is_keyed.then(|| self.key_group_count.range(self.task_index, self.parallelism))
    }

    /// How many channels it reads.
    pub fn channel_count(&self) -> usize {
        self.inputs.iter().map(|input| input.channels.len()).sum()
    }
}

/// One logical input of a task. Streams that are united feed one input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputPlan {
    /// One for every task that may send here.
    pub channels: Vec<ChannelPlan>,
}

/// One output of a task to one consuming chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// Name of the operator whose rows these are.
    pub operator: String,
    /// The side output that it carries; `None` is the main output.
    pub side: Option<SidePlan>,
    /// How a row picks its channel.
    pub partitioner: Partitioner,
    /// Uid of the first operator of the consuming chain.
    pub to_uid: String,
    /// Which logical input of that chain.
    pub to_input: u8,
    /// In order of the receiving tasks: one for [`Partitioner::Forward`] and
    /// [`Partitioner::Global`], one for every task of its share for [`Partitioner::Rescale`],
    /// otherwise one for every task of the consuming chain.
    pub channels: Vec<ChannelPlan>,
}

/// A side output of one operator of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidePlan {
    /// Which of the chain's nodes writes it.
    pub node_index: u16,
    /// Its tag.
    pub tag: &'static str,
}

/// One end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelPlan {
    /// What both ends call it.
    pub channel: ChannelId,
    /// The shard of the other end; the task's own if the channel is local.
    pub peer_shard: u32,
    /// How its rows find their task if a checkpoint has them. None if none has: barriers stay
    /// behind all rows that every task gets, or tasks would go on from different ones.
    pub deal: Option<Deal>,
}

/// How rows that a checkpoint has on their way find their task, whatever the parallelism is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deal {
    /// To the task that owns the key group of the hash.
    KeyGroup,
    /// To task `hash64 % parallelism`.
    Direct,
    /// All of a channel together: to task `n % parallelism`, if they were on their way to task `n`.
    Task(u32),
}

impl Deal {
    /// Whether a row with `hash64` is for the task of `plan`.
    pub fn is_for(self, plan: &TaskPlan, hash64: u64) -> bool {
        let parallelism = plan.parallelism;
        let count = plan.key_group_count;
        plan.task_index
            == match self {
                Self::KeyGroup => count.task_index(count.of(hash64), parallelism),
                Self::Direct => (hash64 % u64::from(parallelism)) as u32,
                Self::Task(task) => task % parallelism,
            }
    }
}

/// How a row picks one of an output's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partitioner {
    /// To the task of the same index. Both chains have the same parallelism.
    Forward,
    /// `hash64` → key group → the task that owns it.
    Hash,
    /// To each task in turn.
    Rebalance,
    /// To each task of the sender's share in turn: of `n` senders, sender `i` feeds the tasks `i`,
    /// `i + n`, `i + 2n`, ...; of more senders than `m` tasks, sender `i` feeds task `i % m`.
    Rescale,
    /// To all tasks.
    Broadcast,
    /// To task 0.
    Global,
    /// To task `hash64 % parallelism`; an operator before it has set `hash64`.
    Direct,
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Hash => "hash",
            Self::Rebalance => "rebalance",
            Self::Rescale => "rescale",
            Self::Broadcast => "broadcast",
            Self::Global => "global",
            Self::Direct => "custom",
        })
    }
}
