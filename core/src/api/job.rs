//! The job: where a program begins and ends.
//!
//! ```
//! use millstream::prelude::*;
//!
//! let job = Job::new("word-lengths");
//! job.source("lines", VecSource::from_vec(vec!["to be", "or not"]))
//!     .flat_map(|line| line.split(' '))
//!     .map(|word| word.len())
//!     .sink("lengths", StdoutSink::text());
//! let plan = job.plan(2, 1024).expect("no mistakes");
//! assert_eq!(plan.graph.chains.len(), 1);
//! ```

use std::cell::{RefCell, RefMut};
use std::fmt;

use crate::api::draft::{Draft, PendingEdge};
use crate::api::head::SourceHead;
use crate::api::shared::SharedStream;
use crate::api::stream::{Place, Stream};
use crate::data::record::Record;
use crate::graph::{Facts, NodeId, NodeKind, Partitioner, SideOutputFacts};
use crate::operator::pass::Pass;
use crate::operator::side_output::OutputTag;
use crate::operator::source::Source;

/// A dataflow in the making.
pub struct Job {
    draft: RefCell<Draft>,
}

impl Job {
    /// A job without sources. The name is shown wherever the job is.
    pub fn new(name: impl Into<String>) -> Self {
        Self { draft: RefCell::new(Draft::new(name.into())) }
    }

    /// Adds a source under a name: in errors, in metrics, and for its positions.
    pub fn source<S: Source>(
        &self,
        name: impl Into<String>,
        source: S,
    ) -> Stream<'_, SourceHead<S>, Pass<S::Out>> {
        let facts = Facts {
            problems: source.problems(),
            cannot_replay: source.cannot_replay(),
            side_outputs: SideOutputFacts::Only(source.side_outputs()),
            ..Facts::default().detailed(source.describe())
        };
        let mut draft = self.draft_mut();
        let id = draft.begin_chain(&[]);
        draft.graph.add_node(id, NodeKind::Source, "source", Some(name.into()), facts);
        draft.is_bounded &= source.is_bounded();
        drop(draft);
        let (place, head) = (Place::Chain(id), SourceHead(source));
        Stream { job: self, place, head, chain: Pass::default(), is_keyed: false }
    }

    pub(crate) fn draft_mut(&self) -> RefMut<'_, Draft> {
        self.draft.borrow_mut()
    }

    pub(crate) fn set_name(&self, node: NodeId, name: String) {
        let mut draft = self.draft_mut();
        let node = draft.graph.node_mut(node);
        (node.name, node.is_named) = (name, true);
    }

    pub(crate) fn set_uid(&self, node: NodeId, uid: String) {
        self.draft_mut().graph.node_mut(node).uid = Some(uid);
    }

    pub(crate) fn set_parallelism(&self, node: NodeId, parallelism: u32) {
        let mut draft = self.draft_mut();
        let chain = draft.graph.node(node).chain;
        draft.graph.chain_mut(chain).parallelism = Some(parallelism);
    }

    pub(crate) fn read_side_output<T: Record>(
        &self,
        from: NodeId,
        tag: OutputTag<T>,
    ) -> SharedStream<'_, T> {
        self.draft_mut().read_side_output(from, tag);
        let (tag, partitioner) = (Some(tag.fact()), Partitioner::Forward);
        SharedStream::new(self, PendingEdge { from, tag, partitioner })
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.draft_mut().graph.name).finish_non_exhaustive()
    }
}
