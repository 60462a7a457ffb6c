//! What is guaranteed of every sink's output when a job goes on from a checkpoint, and why.
//!
//! ```text
//! sources before it ──all can read again──► does the sink commit with checkpoints?
//!        │ one cannot                            │ yes            │ no
//!        ▼                                       ▼                ▼
//!   records may be lost                    exactly once     at least once
//! ```
//!
//! State of operators has every record exactly once in any case that is not the first: barriers see
//! to that, whatever lies between source and sink.

use std::collections::BTreeSet;
use std::fmt;

use crate::graph::facts::Appearance;
use crate::graph::logical::{ChainId, LogicalGraph, Node, NodeKind};

/// How often the results of a record appear, over failures of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// Some may be missing, and others appear twice.
    MayBeLost,
    /// None is missing; some may appear twice.
    AtLeastOnce,
    /// Each once.
    ExactlyOnce,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MayBeLost => "records may be lost",
            Self::AtLeastOnce => "at least once",
            Self::ExactlyOnce => "exactly once",
        })
    }
}

/// What is guaranteed of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    /// Name of the sink.
    pub sink: String,
    /// How often results appear there.
    pub delivery: Delivery,
    /// Why, in words that go on from `because`.
    pub because: String,
}

impl LogicalGraph {
    /// What is guaranteed of every sink, in their order, if checkpoints are taken.
    pub fn guarantees(&self) -> Vec<Guarantee> {
        let sinks = self.nodes.iter().filter(|node| node.kind == NodeKind::Sink);
        sinks.map(|sink| self.guarantee(sink)).collect()
    }

    fn guarantee(&self, sink: &Node) -> Guarantee {
        let sources: Vec<&Node> = self.sources_before(sink.chain);
        let forgetful = sources.iter().filter_map(|source| {
            Some(format!("source {} {}", source.name, source.facts.cannot_replay?))
        });
        let forgetful: Vec<String> = forgetful.collect();
        let (delivery, because) = if !forgetful.is_empty() {
            (Delivery::MayBeLost, forgetful.join(", and "))
        } else if sink.facts.appearance == Appearance::WithCheckpoints {
            let what = "its sources go back to where the checkpoint is, and what it writes appears \
                        with a checkpoint";
            (Delivery::ExactlyOnce, what.to_string())
        } else {
            let what = "what it has written after a checkpoint is written again";
            (Delivery::AtLeastOnce, what.to_string())
        };
        Guarantee { sink: sink.name.clone(), delivery, because }
    }

    /// The sources whose records can reach a chain, in their order.
    fn sources_before(&self, chain: ChainId) -> Vec<&Node> {
        let (mut seen, mut open) = (BTreeSet::from([chain]), vec![chain]);
        while let Some(chain) = open.pop() {
            let before = self.edges_into(chain).map(|edge| self.node(edge.from).chain);
            open.extend(before.filter(|before| seen.insert(*before)));
        }
        self.sources().filter(|source| seen.contains(&source.chain)).collect()
    }

    /// Why the job cannot have every result exactly once: one sentence for each sink that does not.
    pub fn not_exactly_once(&self) -> Vec<String> {
        let others = self.guarantees().into_iter();
        let others = others.filter(|it| it.delivery != Delivery::ExactlyOnce);
        others
            .map(|Guarantee { sink, delivery, because }| {
                format!("{sink}: {delivery}, not exactly once, because {because}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::facts::Facts;
    use crate::graph::logical::Edge;
    use crate::graph::plan::Partitioner;

    /// Files and lines of a socket, each to a sink of its own and both to a third.
    fn graph() -> LogicalGraph {
        let mut graph = LogicalGraph::new("job");
        let mut source = |name: &str, cannot_replay| {
            let chain = graph.begin_chain(0);
            let facts = Facts { cannot_replay, ..Facts::default() };
            graph.add_node(chain, NodeKind::Source, "source", Some(name.to_string()), facts)
        };
        let files = source("files", None);
        let lines = source("lines", Some("is a socket"));
        let mut sink = |name: &str, appearance, from: &[_]| {
            let chain = graph.begin_chain(from.len() as u8);
            let facts = Facts { appearance, ..Facts::stateless() };
            graph.add_node(chain, NodeKind::Sink, "sink", Some(name.to_string()), facts);
            for (input_index, from) in (0..).zip(from) {
                let (from, partitioner) = (*from, Partitioner::Hash);
                graph.connect(Edge { from, tag: None, to: chain, input_index, partitioner });
            }
        };
        sink("committed", Appearance::WithCheckpoints, &[files]);
        sink("printed", Appearance::AtOnce, &[files]);
        sink("from-lines", Appearance::WithCheckpoints, &[lines]);
        sink("joined", Appearance::WithCheckpoints, &[files, lines]);
        graph
    }

    #[test]
    fn a_sink_is_as_good_as_it_and_all_sources_before_it() {
        let found = graph().guarantees().into_iter().map(|it| (it.sink, it.delivery));
        let expected = [
            ("committed", Delivery::ExactlyOnce),
            ("printed", Delivery::AtLeastOnce),
            ("from-lines", Delivery::MayBeLost),
            ("joined", Delivery::MayBeLost),
        ];
        let expected = expected.map(|(sink, delivery)| (sink.to_string(), delivery));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_not_exactly_once_is_told_with_its_reason() {
        let problems = graph().not_exactly_once();
        assert_eq!(problems.len(), 3);
        assert_eq!(
            problems[2],
            "joined: records may be lost, not exactly once, because source lines is a socket"
        );
    }
}
