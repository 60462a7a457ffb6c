//! Streams whose records are grouped by key.
//!
//! A [`KeyedStream`] is a stream whose rows carry the hash of their key and are on the shard that
//! owns it, together with the closure that makes the key. What it does keeps state per key.

use std::fmt;
use std::marker::PhantomData;

use rkyv::Archived;

use crate::api::any_stream::AnyStream;
use crate::api::connected::{
    ConnectedStreams, KeyedBroadcastStreams, KeyedConnectedStreams, broadcast_edges,
};
use crate::api::draft::PendingEdge;
use crate::api::head::{Head, RowsHead, ViewHead};
use crate::api::shared::SharedStream;
use crate::api::stream::{Appended, Stream};
use crate::api::windowed::WindowedStream;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::graph::Partitioner;
use crate::operator::Operator;
use crate::operator::aggregate::{KeyedAggregate, KeyedReduce};
use crate::operator::chain::{Chain, Stage, Then};
use crate::operator::pass::Pass;
use crate::operator::process::{KeyedProcess, KeyedProcessFunction};
use crate::operator::side_output::OutputTag;
use crate::operator::view::Viewed;
use crate::state::aggregate::AggregateFunction;

/// A stream grouped by keys `K`, which `F` makes.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedStream<'j, H, C, K, F> {
    pub(crate) stream: Stream<'j, H, C>,
    pub(crate) key: F,
    types: PhantomData<fn() -> K>,
}

impl<'j, H, C, K, F> KeyedStream<'j, H, C, K, F>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    F: Fn(&C::Out) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(stream: Stream<'j, H, C>, key: F) -> Self {
        Self { stream, key, types: PhantomData }
    }

    /// See [`Stream::parallelism`].
    pub fn parallelism(self, parallelism: u32) -> Self {
        Self { stream: self.stream.parallelism(parallelism), ..self }
    }

    /// Combines the records of a key pair by pair; every record gives what came of the key's
    /// records so far.
    ///
    /// Keys are kept for ever, unless [`Stream::ttl`] is called behind it.
    pub fn reduce<R>(self, reduce: R) -> Appended<'j, H, C, KeyedReduce<K, C::Out, F, R>>
    where
        C::Out: Record,
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.stream.then("reduce", None, KeyedReduce::new(self.key, reduce))
    }

    /// Keeps an accumulator per key; every record gives the result so far. Keys are kept for ever,
    /// as by [`KeyedStream::reduce`].
    pub fn aggregate<A>(self, function: A) -> Appended<'j, H, C, KeyedAggregate<K, A, F>>
    where
        A: AggregateFunction<In = C::Out>,
    {
        self.stream.then("aggregate", None, KeyedAggregate::new(self.key, function))
    }

    /// A function of your own, with state and timers per key.
    pub fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> Appended<'j, H, C, KeyedProcess<K, C::Out, F, P>>
    where
        P: KeyedProcessFunction<K, C::Out>,
    {
        self.stream.then("process", Some(name.into()), KeyedProcess::new(self.key, function))
    }

    /// Another stream with the same keys, as the second input of one operator.
    pub fn connect<H2, C2, F2>(
        self,
        other: KeyedStream<'j, H2, C2, K, F2>,
    ) -> KeyedConnectedStreams<'j, C::Out, C2::Out, K, F, F2>
    where
        C::Out: Record,
        H2: Head,
        C2: Chain<In = H2::Out, Out: Record> + Clone + Send,
        F2: Fn(&C2::Out) -> K + Clone + Send + 'static,
    {
        let job = self.stream.job;
        let keys = (self.key, other.key);
        let edges = [edges_of(self.stream), edges_of(other.stream)];
        KeyedConnectedStreams::new(ConnectedStreams::new(job, edges), keys)
    }

    /// A stream that every task gets all records of, as the second input of one operator: rules,
    /// limits, and whatever else all keys are to know.
    pub fn connect_broadcast<S>(self, other: S) -> KeyedBroadcastStreams<'j, C::Out, S::Out, K, F>
    where
        C::Out: Record,
        S: AnyStream<'j, Out: Record>,
    {
        let job = self.stream.job;
        let edges = [edges_of(self.stream), broadcast_edges(other.into_stream())];
        KeyedBroadcastStreams::new(ConnectedStreams::new(job, edges), self.key)
    }

    /// Cuts the records of each key into windows.
    pub fn window<W>(self, windows: W) -> WindowedStream<'j, H, C, K, F, W> {
        WindowedStream::new(self, windows)
    }

    /// An operator of your own that keeps state per key. Every task runs a clone of it.
    pub fn operator<O>(self, name: impl Into<String>, operator: O) -> Appended<'j, H, C, O>
    where
        O: Operator<In = C::Out> + Clone + Send,
    {
        self.stream.then("operator", Some(name.into()), operator)
    }
}

/// The keyed stream behind a closure `V` that reads records `T` in place and makes `U` of them.
pub type KeyedBehindView<'j, T, U, K, F, V> =
    KeyedStream<'j, ViewHead<T, U, V>, Then<Pass<U>, Stage<Viewed<U>>>, K, F>;

impl<'j, T, K, F> KeyedStream<'j, RowsHead<T>, Pass<T>, K, F>
where
    T: Record,
    K: Key,
    F: Fn(&T) -> K + Clone + Send + 'static,
{
    /// See [`Stream::map_view`]. Records stay with their keys: `key` says what the key of a record
    /// is from now on, and must give the one that it had.
    ///
    /// What stands behind, a window or a function of your own, gets what `f` took out of
    /// `&Archived<T>`: that is how it reads the exchange in place.
    ///
    /// ```
    /// use millstream::prelude::*;
    ///
    /// let job = Job::new("letters");
    /// let letters = |n: u64| (n % 3, "a long text of which little is needed".repeat(4));
    /// job.source("letters", GeneratorSource::new(9, letters))
    ///     .key_by(|(id, _)| *id)
    ///     .map_view(|letter| (letter.0.to_native(), letter.1.len()), |(id, _)| *id)
    ///     .reduce(|a, b| (a.0, a.1 + b.1))
    ///     .sink("lengths", DiscardSink::new());
    /// job.simulate(2, &SimConfig::new(1))?.outcome?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn map_view<U, V, G>(
        self,
        f: V,
        key: G,
    ) -> KeyedBehindView<
        'j,
        T,
        U,
        K,
        G,
        impl FnMut(&Archived<T>) -> Option<U> + Clone + Send + 'static,
    >
    where
        U: 'static,
        V: FnMut(&Archived<T>) -> U + Clone + Send + 'static,
        G: Fn(&U) -> K + Clone + Send + 'static,
    {
        KeyedStream::new(self.stream.map_view(f), key)
    }

    /// See [`Stream::filter_view`]. Records stay with their keys.
    pub fn filter_view<V>(
        self,
        f: V,
    ) -> KeyedBehindView<
        'j,
        T,
        T,
        K,
        F,
        impl FnMut(&Archived<T>) -> Option<T> + Clone + Send + 'static,
    >
    where
        V: FnMut(&Archived<T>) -> bool + Clone + Send + 'static,
    {
        KeyedStream::new(self.stream.filter_view(f), self.key)
    }
}

/// What can be said of the operator that was added last: see [`Stream::name`].
impl<'j, T, U, K, F, V> KeyedBehindView<'j, T, U, K, F, V>
where
    T: Record,
    U: 'static,
    V: FnMut(&Archived<T>) -> Option<U> + Clone + Send + 'static,
{
    /// See [`Stream::name`].
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { stream: self.stream.name(name), ..self }
    }

    /// See [`Stream::uid`].
    pub fn uid(self, uid: impl Into<String>) -> Self {
        Self { stream: self.stream.uid(uid), ..self }
    }

    /// See [`Stream::side_output`].
    pub fn side_output<R: Record>(&self, tag: OutputTag<R>) -> SharedStream<'j, R> {
        self.stream.side_output(tag)
    }
}

/// What a chain reads that continues a keyed stream.
fn edges_of<H, C>(stream: Stream<'_, H, C>) -> Vec<PendingEdge>
where
    H: Head,
    C: Chain<In = H::Out, Out: Record> + Clone + Send,
{
    // Where rows are on their key's shard already, hashing them again keeps them there.
    let edges = stream.into_edges().into_iter();
    edges.map(|edge| PendingEdge { partitioner: Partitioner::Hash, ..edge }).collect()
}

impl<H, C, K, F> fmt::Debug for KeyedStream<'_, H, C, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}
