//! Streams: what a job is written with.
//!
//! A [`Stream`] is a chain in the making. Every transformation appends a stage to its *type*, so
//! the finished chain is one static composition. An exchange (`key_by`, `rebalance`, ...) or a
//! second consumer (`shared`) ends the chain and begins the next:
//!
//! ```text
//! Stream<SourceHead<S>, Then<Then<Pass, Watermark>, KeyBy>>   ──key_by──►   chain 0, sealed
//!                                                                              │ hash
//! Stream<RowsHead<T>, Pass>                     pending: only an edge so far   ▼
//! Stream<RowsHead<T>, Then<Pass, Filter>>       chain 1 begins with its first operator
//! ```
//!
//! A pending chain begins late so that `a.union(b)`, `a.connect(b)` and `shared.rebalance()` need
//! no chain of their own.
//!
//! Not here: keyed streams (`keyed.rs`), what runs (`task/`).

use std::fmt;

use rkyv::Archived;

use crate::api::any_stream::AnyStream;
use crate::api::draft::PendingEdge;
use crate::api::head::{Head, RowsHead, SourceHead, ViewHead};
use crate::api::job::Job;
use crate::api::shared::{SharedStream, StreamEnd};
use crate::data::record::Record;
use crate::graph::{ChainId, NodeId, NodeKind, Partitioner};
use crate::operator::Operator;
use crate::operator::aggregate::Rolling;
use crate::operator::chain::{Chain, Stage, Then};
use crate::operator::pass::Pass;
use crate::operator::side_output::OutputTag;
use crate::operator::sink::Sink;
use crate::operator::source::Source;
use crate::operator::view::Viewed;
use crate::operator::window::WindowAggregate;
use crate::state::spec::Ttl;

/// A stream with one consumer: the operator that is called on it.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct Stream<'j, H, C> {
    pub(crate) job: &'j Job,
    pub(crate) place: Place,
    pub(crate) head: H,
    pub(crate) chain: C,
    /// Rows carry the hash of their key and are on the shard that owns it.
    pub(crate) is_keyed: bool,
}

/// The stream behind a chain `C` that begins with `H`, and operator `O`.
pub type Appended<'j, H, C, O> = Stream<'j, H, Then<C, Stage<O>>>;

/// The stream behind a closure `F` that reads records `T` in place and makes `U` of them.
pub type BehindView<'j, T, U, F> = Appended<'j, ViewHead<T, U, F>, Pass<U>, Viewed<U>>;

/// Where a stream's chain stands in the plan.
#[derive(Debug)]
pub(crate) enum Place {
    /// Not begun.
    Pending {
        /// What it will read.
        edges: Vec<PendingEdge>,
        /// How many tasks were asked for.
        parallelism: Option<u32>,
    },
    /// Begun.
    Chain(ChainId),
}

impl<'j, H, C> AnyStream<'j> for Stream<'j, H, C>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
{
    type Out = C::Out;
    type Head = H;
    type Chain = C;

    fn into_stream(self) -> Self {
        self
    }
}

impl<'j, T: Record> Stream<'j, RowsHead<T>, Pass<T>> {
    /// A chain that will read `edges` as its only input.
    pub(crate) fn pending(job: &'j Job, edges: Vec<PendingEdge>, is_keyed: bool) -> Self {
        let place = Place::Pending { edges, parallelism: None };
        Self { job, place, head: RowsHead::default(), chain: Pass::default(), is_keyed }
    }

    /// One record in, one out, read in place from the frame it came in: `f` sees `&Archived<T>`,
    /// and no `T` is made. Worth it for large records of which little is needed.
    ///
    /// It is also how an operator or a function of your own sees `&Archived<T>`: what it needs of a
    /// record is taken out here, and what stands behind is fused to it.
    pub fn map_view<U, F>(
        self,
        mut f: F,
    ) -> BehindView<'j, T, U, impl FnMut(&Archived<T>) -> Option<U> + Clone + Send + 'static>
    where
        U: 'static,
        F: FnMut(&Archived<T>) -> U + Clone + Send + 'static,
    {
        self.view("map_view", move |record: &Archived<T>| Some(f(record)))
    }

    /// Keeps the records for which `f` holds, read in place from the frame they came in: only those
    /// that are kept are made.
    pub fn filter_view<F>(
        self,
        mut f: F,
    ) -> BehindView<'j, T, T, impl FnMut(&Archived<T>) -> Option<T> + Clone + Send + 'static>
    where
        F: FnMut(&Archived<T>) -> bool + Clone + Send + 'static,
    {
        self.view("filter_view", move |record: &Archived<T>| {
            f(record).then(|| T::unarchive(record))
        })
    }

    fn view<U, F>(self, verb: &'static str, f: F) -> BehindView<'j, T, U, F>
    where
        U: 'static,
        F: FnMut(&Archived<T>) -> Option<U> + Clone + Send + 'static,
    {
        let Self { job, place, is_keyed, .. } = self;
        let head = ViewHead::new(f);
        let stream = Stream { job, place, head, chain: Pass::default(), is_keyed };
        stream.then(verb, None, Viewed::default())
    }
}

impl<'j, H, C> Stream<'j, H, C>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
{
    /// How many tasks the chain has that this stream belongs to: everything since the last
    /// exchange, and what will be fused to it. Without it there is one on every shard; more than
    /// there are shards means one on every shard, too.
    pub fn parallelism(mut self, parallelism: u32) -> Self {
        match &mut self.place {
            Place::Pending { parallelism: wish, .. } => *wish = Some(parallelism),
            Place::Chain(id) => {
                self.job.draft_mut().graph.chain_mut(*id).parallelism = Some(parallelism);
            }
        }
        self
    }

    /// Appends an operator.
    pub(crate) fn then<O>(
        mut self,
        verb: &'static str,
        name: Option<String>,
        operator: O,
    ) -> Appended<'j, H, C, O>
    where
        O: Operator<In = C::Out> + Clone + Send,
    {
        let id = self.begun();
        self.job.draft_mut().add_operator(id, verb, name, &operator, self.is_keyed);
        let Self { job, place, head, chain, is_keyed } = self;
        // Names come from the plan when a task is made.
        let second = Stage::new(operator, "", "");
        Stream { job, place, head, chain: Then { first: chain, second }, is_keyed }
    }

    /// The chain's number; begins it if that has not happened.
    fn begun(&mut self) -> ChainId {
        match &mut self.place {
            Place::Chain(id) => *id,
            Place::Pending { edges, parallelism } => {
                let mut draft = self.job.draft_mut();
                let id = draft.begin_chain(&[std::mem::take(edges)]);
                draft.graph.chain_mut(id).parallelism = *parallelism;
                self.place = Place::Chain(id);
                id
            }
        }
    }

    /// Ends the chain.
    pub(crate) fn seal(mut self) -> SharedStream<'j, C::Out>
    where
        C::Out: Record,
    {
        let id = self.begun();
        let Self { job, head, chain, .. } = self;
        let mut draft = job.draft_mut();
        let from = draft.last_node(id);
        draft.seal(id, head, chain);
        SharedStream::new(job, PendingEdge { from, tag: None, partitioner: Partitioner::Forward })
    }

    /// Ends the chain in an operator that gives nothing.
    pub(crate) fn end<S>(
        mut self,
        verb: &'static str,
        name: Option<String>,
        sink: S,
    ) -> StreamEnd<'j>
    where
        S: Sink<In = C::Out>,
    {
        let id = self.begun();
        let Self { job, head, chain, is_keyed, .. } = self;
        let mut draft = job.draft_mut();
        let node = draft.add_operator(id, verb, name, &sink, is_keyed);
        draft.graph.node_mut(node).kind = NodeKind::Sink;
        draft.seal_sink(id, head, Then { first: chain, second: Stage::new(sink, "", "") });
        StreamEnd::new(job, node)
    }

    /// What a chain behind this one reads. A chain that has not begun hands on what it would have
    /// read itself.
    pub(crate) fn into_edges(self) -> Vec<PendingEdge>
    where
        C::Out: Record,
    {
        match self.place {
            Place::Pending { edges, parallelism: None } => edges,
            _ => vec![self.seal().edge],
        }
    }

    /// Ends the chain; the next one is reached by `partitioner`.
    pub(crate) fn exchange(
        self,
        partitioner: Partitioner,
    ) -> Stream<'j, RowsHead<C::Out>, Pass<C::Out>>
    where
        C::Out: Record,
    {
        let job = self.job;
        let is_first = match &self.place {
            Place::Pending { edges, .. } => {
                edges.iter().all(|edge| edge.partitioner == Partitioner::Forward)
            }
            Place::Chain(_) => true,
        };
        let edges = if is_first { self.into_edges() } else { vec![self.seal().edge] };
        let edges = edges.into_iter().map(|edge| PendingEdge { partitioner, ..edge }).collect();
        Stream::pending(job, edges, false)
    }
}

impl<'j, H, C, O> Stream<'j, H, Then<C, Stage<O>>> {
    /// Sets the operator that was added last up in another way.
    pub(crate) fn set_up<P: Operator>(self, change: impl FnOnce(O) -> P) -> Appended<'j, H, C, P> {
        let node = self.node();
        let Self { job, place, head, chain: Then { first, second }, is_keyed } = self;
        let second = second.map(change);
        job.draft_mut().graph.node_mut(node).facts = second.operator().facts();
        Stream { job, place, head, chain: Then { first, second }, is_keyed }
    }
}

/// What can be said of the operator that was added last.
impl<'j, H, A, O> Stream<'j, H, Then<A, Stage<O>>>
where
    H: Head,
    O: Operator,
    Then<A, Stage<O>>: Chain<In = H::Out, Out = O::Out> + Clone + Send,
{
    /// Names the operator: in errors, in metrics, in `explain`, and for its state if it has no uid.
    pub fn name(self, name: impl Into<String>) -> Self {
        let node = self.node();
        self.job.set_name(node, name.into());
        self
    }

    /// What the operator's state is found under after a change of the job, instead of its name.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        let node = self.node();
        self.job.set_uid(node, uid.into());
        self
    }

    /// The side output `tag` of the operator. The stream itself goes on.
    pub fn side_output<T: Record>(&self, tag: OutputTag<T>) -> SharedStream<'j, T> {
        self.job.read_side_output(self.node(), tag)
    }
}

/// What can be said of a rolling aggregation that was added last.
impl<H, C, K, A, F> Stream<'_, H, Then<C, Stage<Rolling<K, A, F>>>>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    Rolling<K, A, F>: Operator<In = C::Out> + Clone + Send,
    A: WindowAggregate,
{
    /// A key is forgotten when its last record is that old; another record begins anew. Without it
    /// keys are kept for ever.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use millstream::prelude::*;
    /// # let job = Job::new("job");
    /// # let words = job.source("words", VecSource::from_vec(vec!["a".to_string()]));
    /// words
    ///     .key_by(|word| word.clone())
    ///     .reduce(|longest, word| if longest.len() < word.len() { word } else { longest })
    ///     .ttl(Ttl::processing_time(Duration::from_secs(86_400)))
    ///     .name("longest")
    ///     .sink("print", StdoutSink::text());
    /// # assert!(job.plan(1, 128).expect("no mistakes").warnings.is_empty());
    /// ```
    pub fn ttl(self, ttl: Ttl) -> Self {
        self.set_up(|operator| operator.with_ttl(ttl))
    }
}

/// What can be said of a source.
impl<'j, S: Source> Stream<'j, SourceHead<S>, Pass<S::Out>> {
    /// What the source's positions are found under after a change of the job, instead of its name.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        let node = self.node();
        self.job.set_uid(node, uid.into());
        self
    }

    /// The side output `tag` of the source: records that it could not read, for example. The stream
    /// itself goes on.
    pub fn side_output<T: Record>(&self, tag: OutputTag<T>) -> SharedStream<'j, T> {
        self.job.read_side_output(self.node(), tag)
    }
}

impl<H, C> Stream<'_, H, C> {
    /// The source that the chain begins with.
    pub(crate) fn source_name(&self) -> Option<String> {
        let Place::Chain(id) = &self.place else { return None };
        let graph = &self.job.draft_mut().graph;
        let first = graph.node(*graph.chain(*id).nodes.first()?);
        (first.kind == NodeKind::Source).then(|| first.name.clone())
    }

    /// The operator that was added last.
    fn node(&self) -> NodeId {
        match &self.place {
            Place::Chain(id) => self.job.draft_mut().last_node(*id),
            Place::Pending { .. } => unreachable!("a chain with an operator has begun"),
        }
    }
}

impl<H, C> fmt::Debug for Stream<'_, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("place", &self.place).finish_non_exhaustive()
    }
}
