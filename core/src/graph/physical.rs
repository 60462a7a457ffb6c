//! The job as it runs: how many tasks a chain has, on which shards, and the channels between them.
//!
//! Task `i` of every chain runs on shard `i`, so a chain of parallelism `p` occupies shards `0..p`.
//! Parallelism is what a user asked for, at most one task per shard; without a wish, one on every
//! shard. Where everything arrives by [`Partitioner::Global`] there is a single one.
//!
//! ```text
//! channels of one edge, 2 tasks to 3 tasks:      of a forward edge, 3 to 3:   of a global edge:
//!            to 0      to 1      to 2
//! from 0    first+0   first+1   first+2          first+0  (0 to 0)            first+0 (0 to 0)
//! from 1    first+3   first+4   first+5          first+1  (1 to 1)            first+1 (1 to 0)
//! ```
//!
//! A rescale edge has as many channels as the wider end has tasks, numbered as these are.
//!
//! Invariants: a channel has one number, one writer and one reader, and both computed the number by
//! themselves; every task of a chain that is read into has an input.
//! Not here: mistakes (`validate.rs`); the graph must have none.

use crate::data::key_group::KeyGroupCount;
use crate::graph::logical::{ChainId, LogicalGraph, NodeId, NodeKind};
use crate::graph::plan::{
    ChannelId, ChannelPlan, Deal, InputPlan, OutputPlan, Partitioner, SidePlan, TaskPlan,
};

/// The whole job on a number of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalGraph {
    /// The job's name.
    pub job_name: String,
    /// Shards of the node.
    pub shard_count: u32,
    /// Key groups of the job.
    pub key_group_count: KeyGroupCount,
    /// By [`ChainId`].
    pub chains: Vec<PhysicalChain>,
    /// In the order of the logical graph.
    pub edges: Vec<PhysicalEdge>,
}

/// A chain with its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalChain {
    /// Names of the operators, joined by ` -> `.
    pub name: String,
    /// Uid of the first of them.
    pub uid: String,
    /// The operators.
    pub nodes: Vec<NodeId>,
    /// How many logical inputs it has.
    pub input_count: u8,
    /// How many tasks it has.
    pub parallelism: u32,
    /// Whether its rows must be on the shard that owns their key.
    pub is_keyed: bool,
    /// Number of the source, if the chain begins with one.
    pub source_index: Option<u32>,
}

/// An edge with its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalEdge {
    /// Who writes.
    pub from: ChainId,
    /// Name of the operator of `from` whose rows these are.
    pub operator: String,
    /// Who reads.
    pub to: ChainId,
    /// Which logical input of `to`.
    pub input_index: u8,
    /// Which side output of `from`; `None` is the main output.
    pub side: Option<SidePlan>,
    /// As asked for; but where a forward edge meets another parallelism, [`Partitioner::Hash`] if
    /// the reader expects its rows by key, [`Partitioner::Rebalance`] otherwise.
    pub partitioner: Partitioner,
    /// Number of its first channel.
    pub first_channel: ChannelId,
    /// How many channels it has.
    pub channel_count: u32,
}

impl PhysicalGraph {
    /// The tasks and channels of `logical` on `shard_count` shards.
    ///
    /// # Panics
    /// If there are no shards, or more channels than numbers for them; the plan refuses both.
    pub fn new(logical: &LogicalGraph, shard_count: u32, key_group_count: KeyGroupCount) -> Self {
        assert!(0 < shard_count && shard_count <= key_group_count.get(), "refused by the plan");
        let mut chains: Vec<PhysicalChain> = Vec::with_capacity(logical.chains.len());
        for id in logical.chain_ids() {
            chains.push(physical_chain(logical, id, shard_count));
        }
        let mut edges = Vec::with_capacity(logical.edges.len());
        let mut next_channel = 0_u64;
        for edge in &logical.edges {
            let from = logical.node(edge.from).chain;
            let (senders, receivers) = (tasks_of(&chains, from), tasks_of(&chains, edge.to));
            let partitioner = match edge.partitioner {
                Partitioner::Forward if senders == receivers => Partitioner::Forward,
                Partitioner::Forward if chains[usize::from(edge.to.0)].is_keyed => {
                    Partitioner::Hash
                }
                Partitioner::Forward => Partitioner::Rebalance,
                as_asked => as_asked,
            };
            let channel_count = channel_count(partitioner, senders, receivers);
            edges.push(PhysicalEdge {
                from,
                operator: logical.node(edge.from).name.clone(),
                to: edge.to,
                input_index: edge.input_index,
                side: edge.tag.map(|fact| side_plan(logical, edge.from, fact.tag)),
                partitioner,
                first_channel: ChannelId(next_channel as u32),
                channel_count: channel_count as u32,
            });
            next_channel += channel_count;
            assert!(u32::try_from(next_channel).is_ok(), "refused by the plan");
        }
        Self { job_name: logical.name.clone(), shard_count, key_group_count, chains, edges }
    }

    /// The chain of that number.
    pub fn chain(&self, id: ChainId) -> &PhysicalChain {
        &self.chains[usize::from(id.0)]
    }

    /// How many channels the job has.
    pub fn channel_count(&self) -> u32 {
        self.edges.iter().map(|edge| edge.channel_count).sum()
    }

    /// How many tasks the job has.
    pub fn task_count(&self) -> u32 {
        self.chains.iter().map(|chain| chain.parallelism).sum()
    }

    /// The tasks of one shard, upstream first.
    pub fn task_plans(&self, shard: u32) -> Vec<TaskPlan> {
        assert!(shard < self.shard_count, "shard {shard} of {}", self.shard_count);
        let chain_ids = (0..self.chains.len() as u16).map(ChainId);
        chain_ids
            .filter(|id| shard < self.chain(*id).parallelism)
            .map(|id| self.task_plan(id, shard))
            .collect()
    }

    /// Task `task_index` of the chain `id`.
    ///
    /// # Panics
    /// If the chain has no such task.
    pub fn task_plan(&self, id: ChainId, task_index: u32) -> TaskPlan {
        let chain = self.chain(id);
        assert!(task_index < chain.parallelism, "task {task_index} of {}", chain.parallelism);
        let inputs = (0..chain.input_count)
            .map(|input_index| {
                let edges =
                    self.edges.iter().filter(|e| e.to == id && e.input_index == input_index);
                InputPlan { channels: edges.flat_map(|e| self.receiving(e, task_index)).collect() }
            })
            .collect();
        let outputs = self.edges.iter().filter(|edge| edge.from == id);
        let outputs = outputs
            .map(|edge| OutputPlan {
                operator: edge.operator.clone(),
                side: edge.side,
                partitioner: edge.partitioner,
                to_uid: self.chain(edge.to).uid.clone(),
                to_input: edge.input_index,
                channels: self.sending(edge, task_index),
            })
            .collect();
        TaskPlan {
            chain_index: id.0,
            name: chain.name.clone(),
            uid: chain.uid.clone(),
            task_index,
            parallelism: chain.parallelism,
            key_group_count: self.key_group_count,
            is_keyed: chain.is_keyed,
            source_index: chain.source_index,
            inputs,
            outputs,
        }
    }

    /// The channels in which task `sender` writes `edge`, in order of the receiving tasks.
    fn sending(&self, edge: &PhysicalEdge, sender: u32) -> Vec<ChannelPlan> {
        let senders = self.chain(edge.from).parallelism;
        let receivers = self.chain(edge.to).parallelism;
        match edge.partitioner {
            Partitioner::Forward => vec![self.channel(edge, sender, sender, sender)],
            Partitioner::Global => vec![self.channel(edge, sender, 0, 0)],
            Partitioner::Rescale if receivers < senders => {
                vec![self.channel(edge, sender, sender % receivers, sender % receivers)]
            }
            Partitioner::Rescale => share(sender, senders, receivers)
                .map(|receiver| self.channel(edge, receiver, receiver, receiver))
                .collect(),
            _ => (0..receivers)
                .map(|to| self.channel(edge, sender * receivers + to, to, to))
                .collect(),
        }
    }

    /// The channels in which task `receiver` reads `edge`, in order of the sending tasks.
    fn receiving(&self, edge: &PhysicalEdge, receiver: u32) -> Vec<ChannelPlan> {
        let senders = 0..self.chain(edge.from).parallelism;
        let receivers = self.chain(edge.to).parallelism;
        match edge.partitioner {
            Partitioner::Forward => vec![self.channel(edge, receiver, receiver, receiver)],
            Partitioner::Global if receiver == 0 => {
                senders.map(|from| self.channel(edge, from, from, receiver)).collect()
            }
            Partitioner::Global => Vec::new(),
            Partitioner::Rescale if receivers < senders.end => {
                share(receiver, receivers, senders.end)
                    .map(|sender| self.channel(edge, sender, sender, receiver))
                    .collect()
            }
            Partitioner::Rescale => {
                vec![self.channel(edge, receiver, receiver % senders.end, receiver)]
            }
            _ => senders
                .map(|from| self.channel(edge, from * receivers + receiver, from, receiver))
                .collect(),
        }
    }

    /// Channel number `offset` of `edge`, whose other end is task `peer`, to task `receiver`.
    fn channel(&self, edge: &PhysicalEdge, offset: u32, peer: u32, receiver: u32) -> ChannelPlan {
        assert!(offset < edge.channel_count, "channel {offset} of {}", edge.channel_count);
        let is_keyed = self.chain(edge.from).is_keyed || self.chain(edge.to).is_keyed;
        let deal = match edge.partitioner {
            Partitioner::Broadcast => None,
            Partitioner::Hash => Some(Deal::KeyGroup),
            // Where the rows behind them come from as well, and so in their order.
            Partitioner::Forward if is_keyed => Some(Deal::KeyGroup),
            Partitioner::Direct => Some(Deal::Direct),
            _ => Some(Deal::Task(receiver)),
        };
        ChannelPlan { channel: ChannelId(edge.first_channel.0 + offset), peer_shard: peer, deal }
    }
}

fn physical_chain(logical: &LogicalGraph, id: ChainId, shard_count: u32) -> PhysicalChain {
    let chain = logical.chain(id);
    let mut inputs = logical.edges_into(id).peekable();
    let is_single =
        inputs.peek().is_some() && inputs.all(|edge| edge.partitioner == Partitioner::Global);
    let wish = if is_single { 1 } else { chain.parallelism.unwrap_or(shard_count) };
    let source = chain.nodes.first().filter(|n| logical.node(**n).kind == NodeKind::Source);
    let source_index = source.map(|source| {
        let before = logical.sources().take_while(|node| node.id != *source);
        before.count() as u32
    });
    PhysicalChain {
        name: logical.chain_name(id),
        uid: chain.nodes.first().map(|n| logical.node(*n).uid().to_string()).unwrap_or_default(),
        nodes: chain.nodes.clone(),
        input_count: chain.input_count,
        parallelism: wish.clamp(1, shard_count),
        is_keyed: chain.nodes.first().is_some_and(|first| logical.node(*first).has_keyed_input),
        source_index,
    }
}

fn side_plan(logical: &LogicalGraph, from: NodeId, tag: &'static str) -> SidePlan {
    SidePlan { node_index: logical.index_in_chain(from), tag }
}

fn tasks_of(chains: &[PhysicalChain], id: ChainId) -> u32 {
    chains[usize::from(id.0)].parallelism
}

fn channel_count(partitioner: Partitioner, senders: u32, receivers: u32) -> u64 {
    match partitioner {
        Partitioner::Forward | Partitioner::Global => u64::from(senders),
        Partitioner::Rescale => u64::from(senders.max(receivers)),
        _ => u64::from(senders) * u64::from(receivers),
    }
}

/// The tasks, of `count`, that task `index` of the `few` at the other end shares with no other.
fn share(index: u32, few: u32, count: u32) -> impl Iterator<Item = u32> {
    (index..count).step_by(few as usize)
}

#[cfg(test)]
mod tests;
