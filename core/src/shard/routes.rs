//! Which task of a shard an event is for: a look into a table, by number.
//!
//! Channels and chains are numbered from 0 across the whole job, so a table of a shard has holes
//! where those of other shards are: 20 bytes a channel (with 64 shards and ten exchanges, 0.8 MB).
//!
//! Not here: what a channel is (`graph/plan.rs`), who owns a request (`operator/env.rs`).

use std::collections::BTreeMap;

use millstream_net::io::{SocketDone, SocketId};

use crate::graph::plan::ChannelId;
use crate::task::Task;

/// The tasks of a shard, by what they read, write and are.
#[derive(Default)]
pub(super) struct Routes {
    /// Who reads a channel: task and slot.
    readers: Vec<Option<(u32, u32)>>,
    /// Who writes a channel.
    writers: Vec<Option<u32>>,
    /// Who is of a chain.
    chains: Vec<Option<u32>>,
    /// Listener of every accepted connection: the host chose the connection's id.
    accepted: BTreeMap<SocketId, SocketId>,
}

impl Routes {
    /// The routes of `tasks`, and how many of their output channels lead to other shards than
    /// `own_shard`.
    pub(super) fn new(own_shard: u32, tasks: &[Box<dyn Task>]) -> (Self, usize) {
        let mut routes = Self::default();
        let mut remote_count = 0;
        for (number, task) in (0..).zip(tasks) {
            let plan = task.plan();
            put(&mut routes.chains, usize::from(plan.chain_index), number);
            let inputs = plan.inputs.iter().flat_map(|input| &input.channels);
            for (slot, channel) in (0..).zip(inputs) {
                put(&mut routes.readers, channel.channel.0 as usize, (number, slot));
            }
            for channel in plan.outputs.iter().flat_map(|output| &output.channels) {
                put(&mut routes.writers, channel.channel.0 as usize, number);
                remote_count += usize::from(channel.peer_shard != own_shard);
            }
        }
        (routes, remote_count)
    }

    /// The task that reads `channel`, and which of its channels that is.
    pub(super) fn reader(&self, channel: ChannelId) -> (usize, usize) {
        let (number, slot) = at(&self.readers, channel.0 as usize);
        (number as usize, slot as usize)
    }

    /// The task that writes `channel`.
    pub(super) fn writer(&self, channel: ChannelId) -> usize {
        at(&self.writers, channel.0 as usize) as usize
    }

    /// The task of chain number `chain`.
    pub(super) fn chain(&self, chain: u16) -> usize {
        at(&self.chains, usize::from(chain)) as usize
    }

    /// The socket, opened by an operator, that `done` is about.
    pub(super) fn owner(&mut self, done: &SocketDone) -> SocketId {
        let socket = done.owner();
        let owner = self.accepted.get(&socket).copied().unwrap_or(socket);
        match done {
            SocketDone::Accepted { listener, socket, .. } => {
                self.accepted.insert(*socket, *listener);
            }
            SocketDone::Closed { socket } | SocketDone::Failed { socket, .. } => {
                self.accepted.remove(socket);
            }
            _ => {}
        }
        owner
    }
}

fn put<T: Clone>(table: &mut Vec<Option<T>>, index: usize, value: T) {
    if table.len() <= index {
        table.resize(index + 1, None);
    }
    assert!(table[index].replace(value).is_none(), "number {index} is given twice");
}

#[inline]
fn at<T: Copy>(table: &[Option<T>], index: usize) -> T {
    table[index].expect("only what is for this shard comes to it")
}
