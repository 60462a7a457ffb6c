//! The job as it was written: operators, the chains they were fused into, and the edges between
//! chains.
//!
//! ```text
//! chain 0: payments ─► watermark ─► key_by      nodes of a chain follow each other by plain calls
//!                                     │ hash
//!                                     ▼
//! chain 1:                         velocity ─► filter ─► alerts
//!                                     ╎ "late" (side output)
//!                                     ▼ forward
//! chain 2:                         late-alerts
//! ```
//!
//! The builder fuses while it builds, so which operators make a chain is decided here and nowhere
//! else: an edge exists exactly where a user asked for an exchange, a second consumer, a side
//! output or a second input.
//!
//! Invariant: an edge leads from a chain to a chain that was begun later, so numbers are a
//! topological order.
//! Not here: whether the graph makes sense (`validate.rs`), tasks and channels (`physical.rs`).

use crate::graph::facts::Facts;
use crate::graph::plan::Partitioner;

/// Number of an operator, a source or a sink in the job, from 0 in the order they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Number of a chain in the job, from 0 in the order they were begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub u16);

/// The whole job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogicalGraph {
    /// The job's name.
    pub name: String,
    /// By [`NodeId`].
    pub nodes: Vec<Node>,
    /// By [`ChainId`].
    pub chains: Vec<Chain>,
    /// In the order they were made.
    pub edges: Vec<Edge>,
}

/// A source, an operator or a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// The chain that it is fused into.
    pub chain: ChainId,
    /// Where it stands.
    pub kind: NodeKind,
    /// What it does: `map`, `window`, `source`.
    pub verb: &'static str,
    /// For people, and in errors.
    pub name: String,
    /// A user gave the name; otherwise it was made from the verb.
    pub is_named: bool,
    /// What its state is found under after a change of the job, if a user gave one.
    pub uid: Option<String>,
    /// Every row that reaches it carries the hash of its key and is on the shard that owns it.
    pub has_keyed_input: bool,
    /// What it says about itself.
    pub facts: Facts,
}

/// Where a node stands in the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Rows come into the job.
    Source,
    /// Rows are turned into rows.
    Operator,
    /// Rows leave the job.
    Sink,
}

/// Operators fused into one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// In the order that a row passes them. Empty only while the job is being written.
    pub nodes: Vec<NodeId>,
    /// How many logical inputs it has: 0 with a source, 2 where two streams are connected.
    pub input_count: u8,
    /// How many tasks a user asked for; otherwise one on every shard.
    pub parallelism: Option<u32>,
    /// What becomes of the rows that leave its last operator.
    pub end: ChainEnd,
}

/// What becomes of the rows that leave a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEnd {
    /// Nothing yet: a mistake, once the job is complete.
    Dangling,
    /// They go to the chains behind it; there must be one, once the job is complete.
    Edges,
    /// None do: it ends in a sink, or a user discards them.
    Nothing,
}

/// From one chain to a chain behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The operator whose rows it carries: the last of its chain, unless there is a tag.
    pub from: NodeId,
    /// Which side output of `from`, and the type of its records; `None` is the main output.
    pub tag: Option<crate::graph::facts::SideOutputFact>,
    /// The chain that reads it.
    pub to: ChainId,
    /// Which logical input of that chain.
    pub input_index: u8,
    /// How rows pick a task there.
    pub partitioner: Partitioner,
}

impl LogicalGraph {
    /// An empty job.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Begins a chain without operators.
    ///
    /// # Panics
    /// If there are 65,535 chains already; the plan refuses far fewer.
    pub fn begin_chain(&mut self, input_count: u8) -> ChainId {
        let id = u16::try_from(self.chains.len()).expect("a job has fewer than 65,536 chains");
        let id = ChainId(id);
        let end = ChainEnd::Dangling;
        self.chains.push(Chain { nodes: Vec::new(), input_count, parallelism: None, end });
        id
    }

    /// Appends an operator to a chain. Without a name it is called `verb`, and from the second of
    /// its kind on, named or not, `verb-2`, `verb-3`, ...
    pub fn add_node(
        &mut self,
        chain: ChainId,
        kind: NodeKind,
        verb: &'static str,
        name: Option<String>,
        facts: Facts,
    ) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a graph fits into memory"));
        let is_named = name.is_some();
        let name = name.unwrap_or_else(|| self.name_from(verb));
        self.chains[usize::from(chain.0)].nodes.push(id);
        let has_keyed_input = false;
        let uid = None;
        let node = Node { id, chain, kind, verb, name, is_named, uid, has_keyed_input, facts };
        self.nodes.push(node);
        id
    }

    /// Leads the rows of `from` (or its side output `tag`) to an input of the chain `to`.
    ///
    /// # Panics
    /// If `to` was begun before the chain of `from`, or has no such input.
    pub fn connect(&mut self, edge: Edge) {
        assert!(self.node(edge.from).chain < edge.to, "edges lead to later chains");
        assert!(edge.input_index < self.chain(edge.to).input_count, "no such input");
        self.edges.push(edge);
    }

    /// The node of that number.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node of that number, to complete it.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Which of its chain's nodes a node is.
    pub fn index_in_chain(&self, id: NodeId) -> u16 {
        let nodes = &self.chain(self.node(id).chain).nodes;
        let index = nodes.iter().position(|other| *other == id).expect("a node is in its chain");
        u16::try_from(index).expect("a chain has few nodes")
    }

    /// The chain of that number.
    pub fn chain(&self, id: ChainId) -> &Chain {
        &self.chains[usize::from(id.0)]
    }

    /// The chain of that number, to complete it.
    pub fn chain_mut(&mut self, id: ChainId) -> &mut Chain {
        &mut self.chains[usize::from(id.0)]
    }

    /// The chains' numbers, upstream first.
    pub fn chain_ids(&self) -> impl DoubleEndedIterator<Item = ChainId> + use<> {
        (0..self.chains.len() as u16).map(ChainId)
    }

    /// The sources, in order: a source's place here is its number in every row's origin.
    pub fn sources(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.kind == NodeKind::Source)
    }

    /// The edges that a chain reads, in order.
    pub fn edges_into(&self, chain: ChainId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == chain)
    }

    /// The edges that a chain writes, in order.
    pub fn edges_out_of(&self, chain: ChainId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| self.node(edge.from).chain == chain)
    }

    /// The operator's names in a chain, joined by ` -> `.
    pub fn chain_name(&self, chain: ChainId) -> String {
        let nodes = &self.chain(chain).nodes;
        nodes.iter().map(|id| self.node(*id).name.as_str()).collect::<Vec<_>>().join(" -> ")
    }

    fn name_from(&self, verb: &'static str) -> String {
        // Those that have been named since count, too: their number may be taken.
        match self.nodes.iter().filter(|node| node.verb == verb).count() {
            0 => verb.to_string(),
            before => format!("{verb}-{}", before + 1),
        }
    }
}

impl Node {
    /// What the node's state is found under: the uid if a user gave one, otherwise the name.
    pub fn uid(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_the_verb_and_stay_unique() {
        let mut graph = LogicalGraph::new("job");
        let chain = graph.begin_chain(0);
        for name in [None, None, Some("enrich".to_string()), None] {
            graph.add_node(chain, NodeKind::Operator, "map", name, Facts::stateless());
        }
        assert_eq!(graph.chain_name(chain), "map -> map-2 -> enrich -> map-4");
        let renamed = graph.node_mut(NodeId(0));
        (renamed.name, renamed.is_named) = ("parse".to_string(), true);
        graph.add_node(chain, NodeKind::Operator, "map", None, Facts::stateless());
        assert_eq!(graph.chain_name(chain), "parse -> map-2 -> enrich -> map-4 -> map-5");
    }
}
