//! Streams whose records are grouped by key.
//!
//! A [`KeyedStream`] is a stream whose rows carry the hash of their key and are on the shard that
//! owns it, together with the closure that makes the key. What it does keeps state per key; and it
//! is a stream like any other: see [`AnyStream`].
//!
//! ```text
//! key_by ──hash──► shared: a chain that hands on ──forward──► window
//!                                                └─forward──► process     no second exchange
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::ops::AddAssign;

use rkyv::Archived;

use crate::api::any_stream::AnyStream;
use crate::api::connected::{
    ConnectedStreams, KeyedBroadcastStreams, KeyedConnectedStreams, broadcast_edges,
};
use crate::api::draft::PendingEdge;
use crate::api::head::{Head, RowsHead, ViewHead};
use crate::api::shared::SharedStream;
use crate::api::stream::{Appended, Stream};
use crate::api::triggered::{EvictingStream, TriggeredStream};
use crate::api::windowed::WindowedStream;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::operator::Operator;
use crate::operator::aggregate::{KeyedAggregate, KeyedReduce};
use crate::operator::chain::{Chain, Stage, Then};
use crate::operator::pass::Pass;
use crate::operator::process::{KeyedProcess, KeyedProcessFunction};
use crate::operator::side_output::OutputTag;
use crate::operator::view::Viewed;
use crate::state::aggregate::{
    AggregateFunction, Larger, LargerBy, ReduceFunction, Smaller, SmallerBy, Sum,
};
use crate::time::evictor::KeepCount;
use crate::time::trigger::{Count, Purging};
use crate::time::window::Global;

/// A stream grouped by keys `K`, which `F` makes.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedStream<'j, H, C, K, F> {
    pub(crate) stream: Stream<'j, H, C>,
    pub(crate) key: F,
    types: PhantomData<fn() -> K>,
}

/// The stream behind a rolling reduction by `R`.
type Reduced<'j, H, C, K, F, R> = Appended<'j, H, C, KeyedReduce<K, <C as Chain>::Out, F, R>>;

/// The stream behind a rolling aggregation by `A`.
type AggregatedBy<'j, H, C, K, F, A> = Appended<'j, H, C, KeyedAggregate<K, A, F>>;

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
    pub fn reduce<R>(self, reduce: R) -> Reduced<'j, H, C, K, F, R>
    where
        C::Out: Record,
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.reduce_by(reduce)
    }

    /// Keeps an accumulator per key; every record gives the result so far. Keys are kept for ever,
    /// as by [`KeyedStream::reduce`].
    pub fn aggregate<A>(self, function: A) -> AggregatedBy<'j, H, C, K, F, A>
    where
        C::Out: Send,
        A: AggregateFunction<In = C::Out>,
    {
        self.stream.then("aggregate", None, KeyedAggregate::new(self.key, function))
    }

    /// The sum so far of what `value` takes from the records of a key.
    pub fn sum<V, G>(self, value: G) -> AggregatedBy<'j, H, C, K, F, Sum<C::Out, V, G>>
    where
        C::Out: Send,
        V: Record + Default + AddAssign,
        G: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.aggregate(Sum::of(value))
    }

    /// The record so far of a key that has the least `value`; of several, the first.
    pub fn min_by<V, G>(self, value: G) -> Reduced<'j, H, C, K, F, SmallerBy<V, G>>
    where
        C::Out: Record,
        V: PartialOrd + 'static,
        G: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.reduce_by(SmallerBy::of(value))
    }

    /// The record so far of a key that has the greatest `value`; of several, the first.
    pub fn max_by<V, G>(self, value: G) -> Reduced<'j, H, C, K, F, LargerBy<V, G>>
    where
        C::Out: Record,
        V: PartialOrd + 'static,
        G: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.reduce_by(LargerBy::of(value))
    }

    /// The least record of a key so far.
    pub fn min(self) -> Reduced<'j, H, C, K, F, Smaller>
    where
        C::Out: Record + PartialOrd,
    {
        self.reduce_by(Smaller)
    }

    /// The greatest record of a key so far.
    pub fn max(self) -> Reduced<'j, H, C, K, F, Larger>
    where
        C::Out: Record + PartialOrd,
    {
        self.reduce_by(Larger)
    }

    fn reduce_by<R>(self, reduce: R) -> Reduced<'j, H, C, K, F, R>
    where
        C::Out: Record,
        R: ReduceFunction<C::Out>,
    {
        self.stream.then("reduce", None, KeyedReduce::new(self.key, reduce))
    }

    /// Lets any number of consumers read the stream by key. Ends the chain: consumers run in tasks
    /// of their own, on the same shards.
    pub fn shared(self) -> SharedKeyedStream<'j, C::Out, K, F>
    where
        C::Out: Record,
    {
        SharedKeyedStream { shared: self.stream.seal(), key: self.key, types: PhantomData }
    }

    /// A function of your own, with state and timers per key.
    pub fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> Appended<'j, H, C, KeyedProcess<K, C::Out, F, P>>
    where
        C::Out: Send,
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

    /// Windows of every `count` records of a key.
    ///
    /// What is left of fewer is kept for ever; a [`ProcessingTimeout`] around the trigger of a
    /// [`Global`] window ends that.
    ///
    /// [`ProcessingTimeout`]: crate::time::trigger::ProcessingTimeout
    pub fn count_window(
        self,
        count: u64,
    ) -> TriggeredStream<'j, H, C, K, F, Global, Purging<Count>> {
        TriggeredStream::new(self, Global, Purging::of(Count::of(count)))
    }

    /// Windows of the last `size` records of a key, one at every `slide`-th record.
    pub fn count_window_sliding(
        self,
        size: usize,
        slide: u64,
    ) -> EvictingStream<'j, H, C, K, F, Global, Count, KeepCount> {
        TriggeredStream::new(self, Global, Count::of(slide)).evictor(KeepCount::of(size))
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

/// A keyed stream is a stream: what looks at one record at a time runs where the key is.
impl<'j, H, C, K, F> AnyStream<'j> for KeyedStream<'j, H, C, K, F>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
{
    type Out = C::Out;
    type Head = H;
    type Chain = C;

    fn into_stream(self) -> Stream<'j, H, C> {
        self.stream
    }
}

/// A keyed stream with any number of consumers, each of which finds the records on the shard that
/// owns their key: one exchange for all.
///
/// ```
/// # use millstream::prelude::*;
/// # let job = Job::new("job");
/// # let words = job.source("words", VecSource::from_vec(vec!["a".to_string()]));
/// let by_length = words.key_by(|word| word.len()).shared();
/// by_length.stream().count_window(3).reduce(|a, _| a).name("every third").discard();
/// by_length.stream().max_by(|word| word.clone()).name("last").discard();
/// # let plan = job.plan(2, 128).expect("no mistakes");
/// # assert_eq!(plan.graph.edges.len(), 3);
/// ```
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct SharedKeyedStream<'j, T, K, F> {
    shared: SharedStream<'j, T>,
    key: F,
    types: PhantomData<fn() -> K>,
}

impl<'j, T, K, F> SharedKeyedStream<'j, T, K, F>
where
    T: Record,
    K: Key,
    F: Fn(&T) -> K + Clone + Send + 'static,
{
    /// The stream for one more consumer.
    pub fn stream(&self) -> KeyedStream<'j, RowsHead<T>, Pass<T>, K, F> {
        let stream = Stream::pending(self.shared.job, vec![self.shared.edge], true);
        KeyedStream::new(stream, self.key.clone())
    }
}

impl<T, K, F> fmt::Debug for SharedKeyedStream<'_, T, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKeyedStream").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// What a chain reads that continues a keyed stream.
fn edges_of<H, C>(stream: Stream<'_, H, C>) -> Vec<PendingEdge>
where
    H: Head,
    C: Chain<In = H::Out, Out: Record> + Clone + Send,
{
    // Rows of a shared keyed stream are on their key's shard already.
    stream.into_edges()
}

impl<H, C, K, F> fmt::Debug for KeyedStream<'_, H, C, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}
