//! Two streams of different records as the inputs of one operator.
//!
//! The operator takes [`Either`]: a row of the first stream is left, a row of the second is right.

use std::fmt;
use std::marker::PhantomData;

use crate::api::draft::PendingEdge;
use crate::api::head::{Head, PairHead};
use crate::api::job::Job;
use crate::api::stream::{Appended, Place, Stream};
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::graph::Partitioner;
use crate::operator::Operator;
use crate::operator::chain::Chain;
use crate::operator::co::{CoFlatMap, CoMap};
use crate::operator::pass::Pass;
use crate::operator::process::{
    BroadcastProcess, BroadcastProcessFunction, CoProcess, CoProcessFunction,
    KeyedBroadcastProcess, KeyedBroadcastProcessFunction, KeyedCoProcess, KeyedCoProcessFunction,
};

/// The stream behind two connected ones.
pub type PairStream<'j, A, B> = Stream<'j, PairHead<A, B>, Pass<Either<A, B>>>;

/// The stream behind two connected ones and operator `O`.
pub type PairThen<'j, A, B, O> = Appended<'j, PairHead<A, B>, Pass<Either<A, B>>, O>;

/// Two connected streams.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct ConnectedStreams<'j, A, B> {
    job: &'j Job,
    edges: [Vec<PendingEdge>; 2],
    records: PhantomData<fn() -> (A, B)>,
}

impl<'j, A: Record, B: Record> ConnectedStreams<'j, A, B> {
    pub(crate) fn new(job: &'j Job, edges: [Vec<PendingEdge>; 2]) -> Self {
        Self { job, edges, records: PhantomData }
    }

    /// One record in, one out, by a closure for each input.
    pub fn map<U, F, G>(self, first: F, second: G) -> PairThen<'j, A, B, CoMap<A, B, U, F, G>>
    where
        U: 'static,
        F: FnMut(A) -> U + Clone + Send + 'static,
        G: FnMut(B) -> U + Clone + Send + 'static,
    {
        self.begin(false).then("co_map", None, CoMap::new(first, second))
    }

    /// One record in, any number out, by a closure for each input.
    pub fn flat_map<I, F, G>(
        self,
        first: F,
        second: G,
    ) -> PairThen<'j, A, B, CoFlatMap<A, B, I, F, G>>
    where
        I: IntoIterator<Item: 'static> + 'static,
        F: FnMut(A) -> I + Clone + Send + 'static,
        G: FnMut(B) -> I + Clone + Send + 'static,
    {
        self.begin(false).then("co_flat_map", None, CoFlatMap::new(first, second))
    }

    /// An operator of your own with two inputs. Every task runs a clone of it.
    pub fn operator<O>(self, name: impl Into<String>, operator: O) -> PairThen<'j, A, B, O>
    where
        O: Operator<In = Either<A, B>> + Clone + Send,
    {
        self.begin(false).then("operator", Some(name.into()), operator)
    }

    /// A function of your own with two inputs.
    pub fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> PairThen<'j, A, B, CoProcess<A, B, P>>
    where
        P: CoProcessFunction<A, B>,
    {
        self.begin(false).then("process", Some(name.into()), CoProcess::new(function))
    }

    /// Begins the chain with two inputs.
    pub(crate) fn begin(self, is_keyed: bool) -> PairStream<'j, A, B> {
        let Self { job, edges, .. } = self;
        let place = Place::Chain(job.draft_mut().begin_chain(&edges));
        Stream { job, place, head: PairHead::default(), chain: Pass::default(), is_keyed }
    }
}

impl<A, B> fmt::Debug for ConnectedStreams<'_, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectedStreams").field("edges", &self.edges).finish_non_exhaustive()
    }
}

/// Two connected streams with the same keys `K`, which `SA` and `SB` make.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedConnectedStreams<'j, A, B, K, SA, SB> {
    pub(crate) streams: ConnectedStreams<'j, A, B>,
    pub(crate) keys: (SA, SB),
    key: PhantomData<fn() -> K>,
}

impl<'j, A, B, K, SA, SB> KeyedConnectedStreams<'j, A, B, K, SA, SB>
where
    A: Record,
    B: Record,
    K: Key,
    SA: Fn(&A) -> K + Clone + Send + 'static,
    SB: Fn(&B) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(streams: ConnectedStreams<'j, A, B>, keys: (SA, SB)) -> Self {
        Self { streams, keys, key: PhantomData }
    }

    /// A function of your own with two inputs, and state and timers per key.
    pub fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> PairThen<'j, A, B, KeyedCoProcess<K, A, B, SA, SB, P>>
    where
        P: KeyedCoProcessFunction<K, A, B>,
    {
        let operator = KeyedCoProcess::new(self.keys.0, self.keys.1, function);
        self.streams.begin(true).then("process", Some(name.into()), operator)
    }

    /// An operator of your own with two inputs that keeps state per key. Every task runs a clone.
    pub fn operator<O>(self, name: impl Into<String>, operator: O) -> PairThen<'j, A, B, O>
    where
        O: Operator<In = Either<A, B>> + Clone + Send,
    {
        self.streams.begin(true).then("operator", Some(name.into()), operator)
    }
}

/// A keyed stream and one that every task gets all records of.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedBroadcastStreams<'j, A, B, K, S> {
    streams: ConnectedStreams<'j, A, B>,
    key: S,
    types: PhantomData<fn() -> K>,
}

impl<'j, A, B, K, S> KeyedBroadcastStreams<'j, A, B, K, S>
where
    A: Record,
    B: Record,
    K: Key,
    S: Fn(&A) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(streams: ConnectedStreams<'j, A, B>, key: S) -> Self {
        Self { streams, key, types: PhantomData }
    }

    /// A function of your own: the broadcast records change a state that every key reads.
    pub fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> PairThen<'j, A, B, KeyedBroadcastProcess<K, A, B, S, P>>
    where
        P: KeyedBroadcastProcessFunction<K, A, B>,
    {
        let operator = KeyedBroadcastProcess::new(self.key, function);
        self.streams.begin(true).then("process", Some(name.into()), operator)
    }
}

/// A stream, and one that every task gets all records of.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct BroadcastStreams<'j, A, B>(ConnectedStreams<'j, A, B>);

impl<'j, A: Record, B: Record> BroadcastStreams<'j, A, B> {
    pub(crate) fn new(streams: ConnectedStreams<'j, A, B>) -> Self {
        Self(streams)
    }

    /// A function of your own: the broadcast records change a state that every record sees.
    pub fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> PairThen<'j, A, B, BroadcastProcess<A, B, P>>
    where
        P: BroadcastProcessFunction<A, B>,
    {
        self.0.begin(false).then("process", Some(name.into()), BroadcastProcess::new(function))
    }
}

/// What a chain reads of which every task gets all records.
pub(crate) fn broadcast_edges<H, C>(stream: Stream<'_, H, C>) -> Vec<PendingEdge>
where
    H: Head,
    C: Chain<In = H::Out, Out: Record> + Clone + Send,
{
    // Rows that are to be broadcast need no other exchange before.
    let edges = stream.into_edges().into_iter();
    edges.map(|edge| PendingEdge { partitioner: Partitioner::Broadcast, ..edge }).collect()
}

impl<A, B, K, SA, SB> fmt::Debug for KeyedConnectedStreams<'_, A, B, K, SA, SB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedConnectedStreams").field(&self.streams).finish()
    }
}

impl<A, B, K, S> fmt::Debug for KeyedBroadcastStreams<'_, A, B, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedBroadcastStreams").field(&self.streams).finish()
    }
}

impl<A, B> fmt::Debug for BroadcastStreams<'_, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BroadcastStreams").field(&self.0).finish()
    }
}
