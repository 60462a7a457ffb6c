//! A job while it is being written: the graph, and how to make the tasks of each chain.
//!
//! A stream is a prototype with static types; *sealing* it erases them: what remains is a
//! [`ChainFactory`] beside the chain's entry in the graph. Everything else (names, uids, side
//! outputs that are read later) is looked up in the graph when a task is made, so that it may
//! change until the job is complete.

use std::sync::{Arc, Mutex, PoisonError};

use crate::api::head::Head;
use crate::data::record::Record;
use crate::error::Error;
use crate::exchange::outputs::Outputs;
use crate::graph::{
    ChainEnd, ChainId, Edge, Facts, LogicalGraph, NodeId, NodeKind, Partitioner, SideOutputFact,
    SideOutputFacts, TaskPlan, unmarked_sources,
};
use crate::operator::chain::{Chain, Label};
use crate::operator::side_output::{DEAD_LETTERS, OutputTag};
use crate::operator::sink::Nothing;
use crate::operator::{Operator, TaskEnv};
use crate::shard::panic::catch;
use crate::shard::program::TaskFactory;
use crate::task::end::{End, NoOutput, SideEnd, SideOf, side_end};
use crate::task::feed::SOURCE_STAGE;
use crate::task::{ChainTask, Task};

/// Makes the end of one side output of a task.
type SideFactory = Arc<dyn Fn(&TaskPlan, SideOf, &TaskEnv) -> Box<dyn SideEnd> + Send + Sync>;

/// Makes a task of a chain, given what its operators are called and which side outputs of which of
/// them are read.
type ChainFactory = Arc<dyn Fn(TaskPlan, Vec<Label>, &[(u16, SideFactory)]) -> Made + Send + Sync>;

/// A task, or what its operators' `Clone` did instead.
type Made = Result<Box<dyn Task>, Error>;

/// The job so far.
pub(crate) struct Draft {
    pub(crate) graph: LogicalGraph,
    /// By [`ChainId`].
    parts: Vec<Parts>,
    /// Every source so far ends by itself.
    pub(crate) is_bounded: bool,
}

/// What a chain's tasks are made of.
#[derive(Default)]
struct Parts {
    factory: Option<ChainFactory>,
    /// One for every tag of an operator that is read.
    sides: Vec<(NodeId, &'static str, SideFactory)>,
}

/// An edge whose reader has not begun yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingEdge {
    pub(crate) from: NodeId,
    pub(crate) tag: Option<SideOutputFact>,
    pub(crate) partitioner: Partitioner,
}

impl Draft {
    pub(crate) fn new(name: String) -> Self {
        Self { graph: LogicalGraph::new(name), parts: Vec::new(), is_bounded: true }
    }

    /// Begins a chain that reads `inputs`: none for a source, one list of edges for every input.
    pub(crate) fn begin_chain(&mut self, inputs: &[Vec<PendingEdge>]) -> ChainId {
        let to = self.graph.begin_chain(inputs.len() as u8);
        self.parts.push(Parts::default());
        for (input_index, edges) in inputs.iter().enumerate() {
            for PendingEdge { from, tag, partitioner } in edges.iter().copied() {
                let input_index = input_index as u8;
                self.graph.connect(Edge { from, tag, to, input_index, partitioner });
            }
        }
        to
    }

    /// Appends an operator to the plan.
    pub(crate) fn add_operator<O: Operator>(
        &mut self,
        chain: ChainId,
        verb: &'static str,
        name: Option<String>,
        operator: &O,
        is_keyed: bool,
    ) -> NodeId {
        let id = self.graph.add_node(chain, NodeKind::Operator, verb, name, operator.facts());
        self.graph.node_mut(id).has_keyed_input = is_keyed;
        id
    }

    /// The last operator of a chain; a chain without one gets a node that stands for it.
    pub(crate) fn last_node(&mut self, chain: ChainId) -> NodeId {
        match self.graph.chain(chain).nodes.last() {
            Some(last) => *last,
            None => {
                self.graph.add_node(chain, NodeKind::Operator, "pass", None, Facts::stateless())
            }
        }
    }

    /// Ends a chain: its rows go wherever edges lead them.
    pub(crate) fn seal<H, C>(&mut self, id: ChainId, head: H, chain: C)
    where
        H: Head,
        C: Chain<In = H::Out, Out: Record> + Clone + Send,
    {
        let end = |plan: &TaskPlan, stage_index| {
            let main = plan.outputs.iter().filter(|output| output.side.is_none());
            Outputs::<C::Out>::new(main, stage_index, plan.task_index, plan.key_group_count)
        };
        self.finish(id, ChainEnd::Edges, factory(head, chain, end));
    }

    /// Ends a chain that ends in a sink.
    pub(crate) fn seal_sink<H, C>(&mut self, id: ChainId, head: H, chain: C)
    where
        H: Head,
        C: Chain<In = H::Out, Out = Nothing> + Clone + Send,
    {
        self.finish(id, ChainEnd::Nothing, factory(head, chain, |_, _| NoOutput));
    }

    fn finish(&mut self, id: ChainId, end: ChainEnd, factory: ChainFactory) {
        let parts = &mut self.parts[usize::from(id.0)];
        assert!(parts.factory.is_none(), "a stream is used once");
        parts.factory = Some(factory);
        self.graph.chain_mut(id).end = end;
    }

    /// Somebody reads side output `tag` of the operator `from`.
    pub(crate) fn read_side_output<T: Record>(&mut self, from: NodeId, tag: OutputTag<T>) {
        let node = self.graph.node_mut(from);
        let chain = node.chain;
        // The engine puts rows there that cannot leave, whatever the operator itself writes.
        if tag.fact() == DEAD_LETTERS.fact()
            && let SideOutputFacts::Only(written) = &mut node.facts.side_outputs
            && !written.contains(&tag.fact())
        {
            written.push(tag.fact());
        }
        let sides = &mut self.parts[usize::from(chain.0)].sides;
        if sides.iter().all(|(node, name, _)| (*node, *name) != (from, tag.name())) {
            let make: SideFactory = Arc::new(move |plan, of, env| side_end(plan, of, tag, env));
            sides.push((from, tag.name(), make));
        }
    }

    /// How to make the tasks of every chain, by its number. The plan has been checked, so every
    /// chain is sealed.
    pub(crate) fn factories(&self) -> Vec<TaskFactory> {
        let unmarked = unmarked_sources(&self.graph);
        self.graph.chain_ids().map(|id| self.task_factory(id, &unmarked)).collect()
    }

    fn task_factory(&self, id: ChainId, unmarked: &[Option<String>]) -> TaskFactory {
        let parts = &self.parts[usize::from(id.0)];
        let factory = parts.factory.clone().expect("checked: the chain is not dangling");
        let sides = parts.sides.iter();
        let sides: Vec<(u16, SideFactory)> =
            sides.map(|(node, _, side)| (self.graph.index_in_chain(*node), side.clone())).collect();
        let nodes = self.graph.chain(id).nodes.iter().map(|node| self.graph.node(*node));
        let labels: Vec<Label> = nodes
            .map(|node| Label {
                name: node.name.clone(),
                uid: node.uid().to_string(),
                unmarked: unmarked[node.id.0 as usize].clone(),
            })
            .collect();
        Arc::new(move |plan| factory(plan, labels.clone(), &sides))
    }
}

/// Erases the types of a chain. The prototype is behind a lock because tasks are made by several
/// threads at once; it need not be `Sync` for that.
fn factory<H, C, E>(
    head: H,
    chain: C,
    end: impl Fn(&TaskPlan, u16) -> E + Send + Sync + 'static,
) -> ChainFactory
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    E: End<C::Out>,
{
    let prototype = Mutex::new((head, chain));
    Arc::new(move |plan, labels, sides| {
        let (head, mut chain) = copy(&prototype, &plan)?;
        let node_count = labels.len();
        let mut labels = labels.into_iter();
        let feed = head.feed(&plan, &mut labels);
        // A source is a node, but no stage.
        let head_count = (node_count - labels.len()) as u16;
        chain.label(&mut labels);
        let stage_of = |node_index: u16| node_index.checked_sub(head_count).unwrap_or(SOURCE_STAGE);
        let end = end(&plan, stage_of(node_count as u16 - 1));
        let sides = |plan: &TaskPlan, env: &TaskEnv| {
            let make = |(node_index, make): &(u16, SideFactory)| {
                let (node_index, stage_index) = (*node_index, stage_of(*node_index));
                make(plan, SideOf { node_index, stage_index }, env)
            };
            sides.iter().map(make).collect::<Vec<_>>()
        };
        Ok(Box::new(ChainTask::new(plan, feed, chain, end, sides)))
    })
}

/// A copy of a task's operators, made by their own `Clone`.
fn copy<P: Clone>(prototype: &Mutex<P>, plan: &TaskPlan) -> Result<P, Error> {
    // Who panicked while copying has only read it.
    let copied = catch(|| prototype.lock().unwrap_or_else(PoisonError::into_inner).clone());
    copied.map_err(|message| Error::Panicked {
        operator: plan.name.clone(),
        origin: "the start, while it was copied for a shard (its Clone)".to_string(),
        message,
    })
}
