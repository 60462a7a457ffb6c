//! What can be done with any stream.
//!
//! Names and meanings are those of Flink's `DataStream`. Operators that look at one record at a
//! time are fused with what is before them; `key_by`, `union`, `forward`, `rebalance`, `rescale`,
//! `broadcast`, `global`, `partition_by`, `connect` and `shared` end the chain.
//!
//! Not here: what needs a key (`keyed.rs`), names and side outputs (`stream.rs`).

use crate::api::connected::{BroadcastStreams, ConnectedStreams, broadcast_edges};
use crate::api::draft::PendingEdge;
use crate::api::head::{Head, RowsHead};
use crate::api::keyed::KeyedStream;
use crate::api::shared::{SharedStream, StreamEnd};
use crate::api::stream::{Appended, Stream};
use crate::api::triggered::TriggeredStream;
use crate::api::windowed::WindowedStream;
use crate::connector::format::Encode;
use crate::connector::log::sink::Route;
use crate::connector::{DiscardSink, LogSink};
use crate::data::key::Key;
use crate::data::record::Record;
use crate::graph::Partitioner;
use crate::operator::Operator;
use crate::operator::chain::Chain;
use crate::operator::pass::Pass;
use crate::operator::process::{Process, ProcessFunction};
use crate::operator::sink::Sink;
use crate::operator::stateless::{Filter, FlatMap, Inspect, KeyBy, Map, PartitionBy};
use crate::operator::watermark::{AssignWatermarks, HoldNothingBack};
use crate::time::strategy::{EventTimeOf, FromSource, IngestionTime, IntoWatermarkStrategy};
use crate::time::trigger::{Count, Purging};
use crate::time::window::Global;

/// The stream behind stream `S` and operator `O`.
pub type Behind<'j, S, O> =
    Appended<'j, <S as AnyStream<'j>>::Head, <S as AnyStream<'j>>::Chain, O>;

/// The stream behind an exchange of records `T`.
pub type Exchanged<'j, T> = Stream<'j, RowsHead<T>, Pass<T>>;

/// A stream of records `T` that all have one key.
type KeyedAlike<'j, T> = KeyedStream<'j, RowsHead<T>, Pass<T>, (), fn(&T)>;

/// A stream of records `T` cut into windows `W` in one task.
pub type AllWindowed<'j, T, W> = WindowedStream<'j, RowsHead<T>, Pass<T>, (), fn(&T), W>;

/// A stream of records `T` cut into windows of a number of records in one task.
pub type AllCounted<'j, T> =
    TriggeredStream<'j, RowsHead<T>, Pass<T>, (), fn(&T), Global, Purging<Count>>;

fn keyed_alike<'j, S>(stream: S) -> KeyedAlike<'j, S::Out>
where
    S: AnyStream<'j, Out: Record>,
{
    let key: fn(&S::Out) = |_| ();
    stream.key_by(key).parallelism(1)
}

/// What every stream can do.
pub trait AnyStream<'j>: Sized {
    /// Its records.
    type Out: 'static;
    /// How its chain begins.
    type Head: Head;
    /// Its chain so far.
    type Chain: Chain<In = <Self::Head as Head>::Out, Out = Self::Out> + Clone + Send;

    /// As a stream with one consumer.
    fn into_stream(self) -> Stream<'j, Self::Head, Self::Chain>;

    /// One record in, one record out.
    fn map<U, F>(self, f: F) -> Behind<'j, Self, Map<Self::Out, U, F>>
    where
        U: 'static,
        F: FnMut(Self::Out) -> U + Clone + Send + 'static,
    {
        self.into_stream().then("map", None, Map::new(f))
    }

    /// Keeps the records for which `f` holds.
    fn filter<F>(self, f: F) -> Behind<'j, Self, Filter<Self::Out, F>>
    where
        F: FnMut(&Self::Out) -> bool + Clone + Send + 'static,
    {
        self.into_stream().then("filter", None, Filter::new(f))
    }

    /// One record in, any number out.
    fn flat_map<I, F>(self, f: F) -> Behind<'j, Self, FlatMap<Self::Out, I, F>>
    where
        I: IntoIterator<Item: 'static> + 'static,
        F: FnMut(Self::Out) -> I + Clone + Send + 'static,
    {
        self.into_stream().then("flat_map", None, FlatMap::new(f))
    }

    /// Shows every record to `f` and hands it on.
    fn inspect<F>(self, f: F) -> Behind<'j, Self, Inspect<Self::Out, F>>
    where
        F: FnMut(&Self::Out) + Clone + Send + 'static,
    {
        self.into_stream().then("inspect", None, Inspect::new(f))
    }

    /// Says when each record happened (ms since 1970), and by that how far event time has come.
    ///
    /// Belongs directly behind the source, where every split still comes in its own order.
    fn watermark<S, F>(
        self,
        strategy: S,
        event_time_ms: F,
    ) -> Behind<'j, Self, AssignWatermarks<Self::Out, S::Generator, F>>
    where
        S: IntoWatermarkStrategy<Self::Out>,
        F: FnMut(&Self::Out) -> i64 + Clone + Send + 'static,
    {
        assign(self.into_stream(), strategy, event_time_ms)
    }

    /// The same with the event times that the source knows of its records.
    fn watermark_from_source<S>(
        self,
        strategy: S,
    ) -> Behind<'j, Self, AssignWatermarks<Self::Out, S::Generator, FromSource>>
    where
        S: IntoWatermarkStrategy<Self::Out>,
    {
        assign(self.into_stream(), strategy, FromSource)
    }

    /// Records happen when they are read. Belongs directly behind the source, as
    /// [`AnyStream::watermark`] does.
    fn ingestion_time(
        self,
    ) -> Behind<'j, Self, AssignWatermarks<Self::Out, IngestionTime, IngestionTime>> {
        assign(self.into_stream(), IngestionTime::new(), IngestionTime::new())
    }

    /// Records without a time of their own (rules, settings) that nobody's event time waits for.
    /// Belongs directly behind the source, as [`AnyStream::watermark`] does.
    fn hold_nothing_back(self) -> Behind<'j, Self, HoldNothingBack<Self::Out>> {
        let stream = self.into_stream();
        let name = stream.source_name().map(|source| format!("{source}-watermark"));
        stream.then("hold_nothing_back", name, HoldNothingBack::default())
    }

    /// A function of your own, with side outputs.
    fn process<P>(
        self,
        name: impl Into<String>,
        function: P,
    ) -> Behind<'j, Self, Process<Self::Out, P>>
    where
        P: ProcessFunction<Self::Out>,
    {
        self.into_stream().then("process", Some(name.into()), Process::new(function))
    }

    /// An operator of your own. Every task runs a clone of it.
    fn operator<O>(self, name: impl Into<String>, operator: O) -> Behind<'j, Self, O>
    where
        O: Operator<In = Self::Out> + Clone + Send,
    {
        self.into_stream().then("operator", Some(name.into()), operator)
    }

    /// Groups records by key: all records of a key go to the task that owns it.
    ///
    /// `key` is called again wherever the key itself is needed, so it should be cheap.
    fn key_by<K, F>(self, key: F) -> KeyedStream<'j, RowsHead<Self::Out>, Pass<Self::Out>, K, F>
    where
        Self::Out: Record,
        K: Key,
        F: Fn(&Self::Out) -> K + Clone + Send + 'static,
    {
        let sealed = self.into_stream().then("key_by", None, KeyBy::new(key.clone())).seal();
        let edge = PendingEdge { partitioner: Partitioner::Hash, ..sealed.edge };
        KeyedStream::new(Stream::pending(sealed.job, vec![edge], true), key)
    }

    /// Cuts all records, whatever their key, into windows. One task does it: it is
    /// [`AnyStream::key_by`] with one key for all, at parallelism 1.
    fn window_all<W>(self, windows: W) -> AllWindowed<'j, Self::Out, W>
    where
        Self::Out: Record,
    {
        keyed_alike(self).window(windows)
    }

    /// Windows of every `count` records, whatever their key; as [`AnyStream::window_all`].
    fn count_window_all(self, count: u64) -> AllCounted<'j, Self::Out>
    where
        Self::Out: Record,
    {
        keyed_alike(self).count_window(count)
    }

    /// The records of both streams, in no particular order.
    fn union<S>(self, other: S) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
        S: AnyStream<'j, Out = Self::Out>,
    {
        let stream = self.into_stream();
        let job = stream.job;
        let mut edges = stream.into_edges();
        edges.extend(other.into_stream().into_edges());
        Stream::pending(job, edges, false)
    }

    /// Ends the chain: what follows runs in tasks of its own, each of which takes the records of
    /// the task of its index. Between chains of different parallelism it is
    /// [`AnyStream::rebalance`].
    fn forward(self) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.into_stream().exchange(Partitioner::Forward)
    }

    /// Spreads records over all tasks, each in turn.
    fn rebalance(self) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.into_stream().exchange(Partitioner::Rebalance)
    }

    /// Spreads the records of each task over its own share of the tasks behind, each in turn: two
    /// tasks feed two of four each, four feed one of two in pairs. A task of the same shard is in
    /// every share, so less crosses between shards than by [`AnyStream::rebalance`]; the load is
    /// even if that of the tasks before is.
    ///
    /// ```
    /// use millstream::graph::ExplainFormat;
    /// use millstream::prelude::*;
    ///
    /// let job = Job::new("squares");
    /// job.source("numbers", GeneratorSource::new(1_000, |n| n))
    ///     .parallelism(2)
    ///     .rescale()
    ///     .map(|n| n * n)
    ///     .sink("squares", DiscardSink::new());
    /// let plan = job.explain(4, 128, ExplainFormat::Text);
    /// assert!(plan.contains("rescale, 4 channels"));
    /// ```
    fn rescale(self) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.into_stream().exchange(Partitioner::Rescale)
    }

    /// Spreads records over all tasks; what Flink does at random is done in turn here, so that a
    /// run can be repeated.
    fn shuffle(self) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.rebalance()
    }

    /// Gives every record to all tasks.
    fn broadcast(self) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.into_stream().exchange(Partitioner::Broadcast)
    }

    /// Gives all records to one task.
    fn global(self) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.into_stream().exchange(Partitioner::Global)
    }

    /// Gives a record to task `partition(record) % parallelism`.
    fn partition_by<F>(self, partition: F) -> Exchanged<'j, Self::Out>
    where
        Self::Out: Record,
        F: FnMut(&Self::Out) -> u64 + Clone + Send + 'static,
    {
        let stream = self.into_stream().then("partition_by", None, PartitionBy::new(partition));
        stream.exchange(Partitioner::Direct)
    }

    /// Two streams of different records as the inputs of one operator.
    fn connect<S>(self, other: S) -> ConnectedStreams<'j, Self::Out, S::Out>
    where
        Self::Out: Record,
        S: AnyStream<'j, Out: Record>,
    {
        let stream = self.into_stream();
        let job = stream.job;
        let edges = [stream.into_edges(), other.into_stream().into_edges()];
        ConnectedStreams::new(job, edges)
    }

    /// A stream that every task gets all records of, as the second input of one operator.
    fn connect_broadcast<S>(self, other: S) -> BroadcastStreams<'j, Self::Out, S::Out>
    where
        Self::Out: Record,
        S: AnyStream<'j, Out: Record>,
    {
        let stream = self.into_stream();
        let job = stream.job;
        let edges = [stream.into_edges(), broadcast_edges(other.into_stream())];
        BroadcastStreams::new(ConnectedStreams::new(job, edges))
    }

    /// Lets any number of consumers read the stream. Ends the chain: consumers run in tasks of
    /// their own.
    fn shared(self) -> SharedStream<'j, Self::Out>
    where
        Self::Out: Record,
    {
        self.into_stream().seal()
    }

    /// Ends the stream in a sink.
    fn sink<S>(self, name: impl Into<String>, sink: S) -> StreamEnd<'j>
    where
        S: Sink<In = Self::Out>,
    {
        self.into_stream().end("sink", Some(name.into()), sink)
    }

    /// Ends the stream in a log: each record goes to the task that writes its partition.
    fn log<E, R>(self, name: impl Into<String>, log: LogSink<E, R>) -> StreamEnd<'j>
    where
        Self::Out: Record,
        E: Encode<Record = Self::Out>,
        R: Route<Self::Out>,
    {
        let partition_count = log.partition_count();
        let (partition, writer) = log.into_parts();
        self.partition_by(partition).parallelism(partition_count).sink(name, writer)
    }

    /// Ends a stream that nobody needs: its side outputs may still be read.
    fn discard(self) -> StreamEnd<'j> {
        self.into_stream().end("discard", None, DiscardSink::new())
    }
}

/// Appends the operator that makes event time by `strategy` and `event_time_of`.
fn assign<H, C, S, F>(
    stream: Stream<'_, H, C>,
    strategy: S,
    event_time_of: F,
) -> Appended<'_, H, C, AssignWatermarks<C::Out, S::Generator, F>>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    S: IntoWatermarkStrategy<C::Out>,
    F: EventTimeOf<C::Out> + Clone + Send,
{
    let name = stream.source_name().map(|source| format!("{source}-watermark"));
    stream.then("watermark", name, AssignWatermarks::new(strategy.into_strategy(), event_time_of))
}
