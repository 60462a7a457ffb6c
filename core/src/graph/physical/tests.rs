//! Which tasks and channels come of which graph.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::graph::facts::Facts;
use crate::graph::logical::{ChainEnd, Edge};

/// A job of chains with one operator each; `edges` are `(from, to, partitioner)`.
fn job(wishes: &[Option<u32>], edges: &[(u16, u16, Partitioner)]) -> LogicalGraph {
    let mut graph = LogicalGraph::new("job");
    for (index, wish) in wishes.iter().enumerate() {
        let has_input = edges.iter().any(|(_, to, _)| usize::from(*to) == index);
        let chain = graph.begin_chain(u8::from(has_input));
        let kind = if has_input { NodeKind::Operator } else { NodeKind::Source };
        graph.add_node(chain, kind, "op", None, Facts::stateless());
        graph.chain_mut(chain).parallelism = *wish;
        graph.chain_mut(chain).end = ChainEnd::Edges;
    }
    for (from, to, partitioner) in edges {
        graph.connect(Edge {
            from: graph.chain(ChainId(*from)).nodes[0],
            tag: None,
            to: ChainId(*to),
            input_index: 0,
            partitioner: *partitioner,
        });
    }
    graph
}

fn on_shards(graph: &LogicalGraph, shard_count: u32) -> PhysicalGraph {
    PhysicalGraph::new(graph, shard_count, KeyGroupCount::new(1024).expect("in range"))
}

#[test]
fn parallelism_is_one_task_a_shard_unless_a_user_asks_for_fewer() {
    let graph = job(
        &[None, Some(2), Some(100), None],
        &[(0, 1, Partitioner::Hash), (1, 2, Partitioner::Hash), (2, 3, Partitioner::Global)],
    );
    let tasks: Vec<_> = on_shards(&graph, 4).chains.iter().map(|c| c.parallelism).collect();
    assert_eq!(tasks, [4, 2, 4, 1]);
}

#[test]
fn a_forward_edge_between_unequal_chains_rebalances() {
    let graph = job(&[None, Some(2)], &[(0, 1, Partitioner::Forward)]);
    assert_eq!(on_shards(&graph, 4).edges[0].partitioner, Partitioner::Rebalance);
    assert_eq!(on_shards(&graph, 2).edges[0].partitioner, Partitioner::Forward);
}

#[test]
fn sources_are_numbered_in_order() {
    let graph = job(&[None, None, None], &[(0, 2, Partitioner::Hash), (1, 2, Partitioner::Hash)]);
    let sources: Vec<_> = on_shards(&graph, 2).chains.iter().map(|c| c.source_index).collect();
    assert_eq!(sources, [Some(0), Some(1), None]);
}

#[test]
fn a_hash_edge_reaches_the_task_that_owns_the_key_group() {
    let graph = job(&[None, Some(3)], &[(0, 1, Partitioner::Hash)]);
    let plan = on_shards(&graph, 5).task_plan(ChainId(0), 4);
    let shards: Vec<_> = plan.outputs[0].channels.iter().map(|c| c.peer_shard).collect();
    assert_eq!(shards, [0, 1, 2], "in task order, so that a key group's task is an index");
}

#[test]
fn a_rescale_edge_gives_each_task_a_share_that_includes_its_own_shard() {
    let shares = |senders, receivers| {
        let graph = job(&[Some(senders), Some(receivers)], &[(0, 1, Partitioner::Rescale)]);
        let graph = on_shards(&graph, 5);
        let share = |sender| {
            let plan = graph.task_plan(ChainId(0), sender);
            plan.outputs[0].channels.iter().map(|c| c.peer_shard).collect::<Vec<_>>()
        };
        (0..senders).map(share).collect::<Vec<_>>()
    };
    assert_eq!(shares(2, 5), [vec![0, 2, 4], vec![1, 3]]);
    assert_eq!(shares(5, 2), [[0], [1], [0], [1], [0]]);
    assert_eq!(shares(3, 3), [[0], [1], [2]]);
}

fn any_partitioner() -> impl Strategy<Value = Partitioner> {
    prop_oneof![
        Just(Partitioner::Forward),
        Just(Partitioner::Hash),
        Just(Partitioner::Rebalance),
        Just(Partitioner::Rescale),
        Just(Partitioner::Broadcast),
        Just(Partitioner::Global),
        Just(Partitioner::Direct),
    ]
}

proptest! {
    /// Every channel has one writer and one reader, and each end names the other's shard. Numbers
    /// are used once, without gaps. Every task of a chain that reads anything has an input.
    #[test]
    fn channels_connect_two_tasks(
        wishes in proptest::collection::vec(proptest::option::of(1_u32..6), 2..6),
        edges in proptest::collection::vec((0_u16..5, 0_u16..5, any_partitioner()), 1..8),
        shard_count in 1_u32..6,
    ) {
        let chain_count = wishes.len() as u16;
        let edges: Vec<_> =
            edges.into_iter().filter(|(from, to, _)| from < to && *to < chain_count).collect();
        let graph = on_shards(&job(&wishes, &edges), shard_count);

        let (mut writers, mut readers) = (BTreeMap::new(), BTreeMap::new());
        for shard in 0..shard_count {
            for task in graph.task_plans(shard) {
                prop_assert_eq!(task.task_index, shard);
                let mut inputs = task.inputs.iter();
                prop_assert!(task.inputs.is_empty() || inputs.any(|i| !i.channels.is_empty()));
                for channel in task.outputs.iter().flat_map(|output| &output.channels) {
                    let ends = (shard, channel.peer_shard, channel.deal);
                    prop_assert_eq!(writers.insert(channel.channel, ends), None);
                }
                for channel in task.inputs.iter().flat_map(|input| &input.channels) {
                    let ends = (channel.peer_shard, shard, channel.deal);
                    prop_assert_eq!(readers.insert(channel.channel, ends), None);
                }
            }
        }
        prop_assert_eq!(&writers, &readers);
        let numbers: Vec<u32> = writers.keys().map(|channel| channel.0).collect();
        prop_assert_eq!(numbers, (0..graph.channel_count()).collect::<Vec<_>>());
    }

    /// The tasks of a keyed chain own all key groups, each exactly one.
    #[test]
    fn key_groups_are_covered(shard_count in 1_u32..40, wish in proptest::option::of(1_u32..50)) {
        let graph = on_shards(&job(&[None, wish], &[(0, 1, Partitioner::Hash)]), shard_count);
        let parallelism = graph.chain(ChainId(1)).parallelism;
        let mut next = 0;
        for task in 0..parallelism {
            let range = graph.key_group_count.range(task, parallelism);
            prop_assert_eq!(range.start, next);
            prop_assert!(!range.is_empty());
            next = range.end;
        }
        prop_assert_eq!(next, graph.key_group_count.get());
    }
}
