//! Windows with a trigger or an evictor of their own.
//!
//! Everything here runs on [`GeneralWindows`]. A window with an evictor keeps its records, and
//! aggregates them when it fires.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::api::head::Head;
use crate::api::keyed::KeyedStream;
use crate::api::stream::Appended;
use crate::api::windowed::WindowedStream;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::operator::chain::Chain;
use crate::operator::side_output::OutputTag;
use crate::operator::window::{
    Aggregate, Aggregated, EmitResult, Folded, GeneralWindows, Lateness, Listed,
    ProcessWindowFunction, Reduce, WindowContents, WindowFunction,
};
use crate::state::aggregate::{AggregateFunction, Larger, LargerBy, Smaller, SmallerBy, Sum};
use crate::time::evictor::{Evictor, KeepAll};
use crate::time::trigger::{AtEnd, Trigger};
use crate::time::window::WindowAssigner;

/// A keyed stream cut into windows `W` that trigger `G` fires.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct TriggeredStream<'j, H, C: Chain, K, S, W, G> {
    keyed: KeyedStream<'j, H, C, K, S>,
    windows: W,
    trigger: G,
    lateness: Lateness<C::Out>,
}

/// As [`TriggeredStream`], with an evictor `E`.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct EvictingStream<'j, H, C: Chain, K, S, W, G, E> {
    stream: TriggeredStream<'j, H, C, K, S, W, G>,
    evictor: E,
}

/// The stream behind windows with contents `O`.
type Windowed<'j, H, C, K, S, W, G, O> = Appended<'j, H, C, GeneralWindows<K, S, W, G, O>>;

/// The stream behind windows that reduce by `R`.
type Reduced<'j, H, C, K, S, W, G, R, F> =
    Windowed<'j, H, C, K, S, W, G, Aggregated<Reduce<<C as Chain>::Out, R>, F>>;

/// The stream behind windows that aggregate by `A`.
type AggregatedBy<'j, H, C, K, S, W, G, A, F> =
    Windowed<'j, H, C, K, S, W, G, Aggregated<Aggregate<A>, F>>;

/// The stream behind windows whose records function `P` sees, as far as evictor `E` leaves them.
type Processed<'j, H, C, K, S, W, G, E, P> =
    Windowed<'j, H, C, K, S, W, G, Listed<<C as Chain>::Out, E, P>>;

/// The stream behind windows with evictor `E` whose records are reduced by `R` when they fire.
type EvictedReduced<'j, H, C, K, S, W, G, E, R, F> =
    Processed<'j, H, C, K, S, W, G, E, Folded<Reduce<<C as Chain>::Out, R>, F>>;

/// The stream behind windows with evictor `E` whose records are aggregated by `A` when they fire.
type EvictedAggregated<'j, H, C, K, S, W, G, E, A, F> =
    Processed<'j, H, C, K, S, W, G, E, Folded<Aggregate<A>, F>>;

/// The stream behind windows that sum what `F` takes from their records.
type Summed<'j, H, C, K, S, W, G, V, F> =
    AggregatedBy<'j, H, C, K, S, W, G, Sum<<C as Chain>::Out, V, F>, EmitResult>;

/// The same with evictor `E`.
type EvictedSummed<'j, H, C, K, S, W, G, E, V, F> =
    EvictedAggregated<'j, H, C, K, S, W, G, E, Sum<<C as Chain>::Out, V, F>, EmitResult>;

impl<'j, H, C, K, S, W> WindowedStream<'j, H, C, K, S, W>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    S: Fn(&C::Out) -> K + Clone + Send + 'static,
    W: WindowAssigner<C::Out>,
{
    /// Says when windows fire, instead of when they are over.
    pub fn trigger<G>(self, trigger: G) -> TriggeredStream<'j, H, C, K, S, W, G>
    where
        G: Trigger<C::Out>,
    {
        let Self { keyed, windows, lateness } = self;
        TriggeredStream { keyed, windows, trigger, lateness }
    }

    /// Takes records out of windows before or after their function sees them.
    pub fn evictor<E>(self, evictor: E) -> EvictingStream<'j, H, C, K, S, W, AtEnd, E>
    where
        E: Evictor<C::Out>,
    {
        let domain = self.windows.domain();
        self.trigger(AtEnd(domain)).evictor(evictor)
    }

    /// A function that sees all records of a window: `|key, window, records| ...`. All of them are
    /// kept until then; prefer `aggregate` where it can do the same.
    pub fn process<P>(self, function: P) -> Processed<'j, H, C, K, S, W, AtEnd, KeepAll, P>
    where
        C::Out: Record,
        P: ProcessWindowFunction<K, C::Out>,
    {
        let domain = self.windows.domain();
        self.trigger(AtEnd(domain)).process(function)
    }
}

impl<'j, H, C, K, S, W, G> TriggeredStream<'j, H, C, K, S, W, G>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    S: Fn(&C::Out) -> K + Clone + Send + 'static,
    W: WindowAssigner<C::Out>,
    G: Trigger<C::Out>,
{
    pub(crate) fn new(keyed: KeyedStream<'j, H, C, K, S>, windows: W, trigger: G) -> Self {
        Self { keyed, windows, trigger, lateness: Lateness::default() }
    }

    /// See [`WindowedStream::allowed_lateness`].
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self { lateness: self.lateness.allow(lateness), ..self }
    }

    /// See [`WindowedStream::late_output`].
    pub fn late_output(self, tag: OutputTag<C::Out>) -> Self {
        Self { lateness: self.lateness.to(tag), ..self }
    }

    /// See [`WindowedStream::evictor`].
    pub fn evictor<E>(self, evictor: E) -> EvictingStream<'j, H, C, K, S, W, G, E>
    where
        E: Evictor<C::Out>,
    {
        EvictingStream { stream: self, evictor }
    }

    /// See [`WindowedStream::reduce`].
    pub fn reduce<R>(self, reduce: R) -> Reduced<'j, H, C, K, S, W, G, R, EmitResult>
    where
        C::Out: Record,
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.reduce_with(reduce, EmitResult)
    }

    /// See [`WindowedStream::reduce_with`].
    pub fn reduce_with<R, F>(self, reduce: R, function: F) -> Reduced<'j, H, C, K, S, W, G, R, F>
    where
        C::Out: Record,
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
        F: WindowFunction<K, C::Out>,
    {
        self.then(Aggregated::new(Reduce::new(reduce), function))
    }

    /// See [`WindowedStream::aggregate`].
    pub fn aggregate<A>(self, aggregate: A) -> AggregatedBy<'j, H, C, K, S, W, G, A, EmitResult>
    where
        C::Out: Clone + Send,
        A: AggregateFunction<In = C::Out>,
    {
        self.aggregate_with(aggregate, EmitResult)
    }

    /// See [`WindowedStream::aggregate_with`].
    pub fn aggregate_with<A, F>(
        self,
        aggregate: A,
        function: F,
    ) -> AggregatedBy<'j, H, C, K, S, W, G, A, F>
    where
        C::Out: Clone + Send,
        A: AggregateFunction<In = C::Out>,
        F: WindowFunction<K, A::Out>,
    {
        self.then(Aggregated::new(Aggregate(aggregate), function))
    }

    /// See [`WindowedStream::sum`].
    pub fn sum<V, F>(self, value: F) -> Summed<'j, H, C, K, S, W, G, V, F>
    where
        C::Out: Clone + Send,
        V: Record + Default + AddAssign,
        F: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.aggregate(Sum::of(value))
    }

    /// See [`WindowedStream::min_by`].
    pub fn min_by<V, F>(
        self,
        value: F,
    ) -> Reduced<'j, H, C, K, S, W, G, SmallerBy<V, F>, EmitResult>
    where
        C::Out: Record,
        V: PartialOrd + 'static,
        F: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.then(Aggregated::new(Reduce::new(SmallerBy::of(value)), EmitResult))
    }

    /// See [`WindowedStream::max_by`].
    pub fn max_by<V, F>(self, value: F) -> Reduced<'j, H, C, K, S, W, G, LargerBy<V, F>, EmitResult>
    where
        C::Out: Record,
        V: PartialOrd + 'static,
        F: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.then(Aggregated::new(Reduce::new(LargerBy::of(value)), EmitResult))
    }

    /// See [`WindowedStream::min`].
    pub fn min(self) -> Reduced<'j, H, C, K, S, W, G, Smaller, EmitResult>
    where
        C::Out: Record + PartialOrd,
    {
        self.then(Aggregated::new(Reduce::new(Smaller), EmitResult))
    }

    /// See [`WindowedStream::max`].
    pub fn max(self) -> Reduced<'j, H, C, K, S, W, G, Larger, EmitResult>
    where
        C::Out: Record + PartialOrd,
    {
        self.then(Aggregated::new(Reduce::new(Larger), EmitResult))
    }

    /// See [`WindowedStream::process`].
    pub fn process<P>(self, function: P) -> Processed<'j, H, C, K, S, W, G, KeepAll, P>
    where
        C::Out: Record,
        P: ProcessWindowFunction<K, C::Out>,
    {
        self.then(Listed::new(KeepAll, function))
    }

    fn then<O>(self, contents: O) -> Windowed<'j, H, C, K, S, W, G, O>
    where
        C::Out: Send,
        O: WindowContents<K, In = C::Out, Late = Option<OutputTag<C::Out>>>,
    {
        let Self { keyed: KeyedStream { stream, key, .. }, windows, trigger, lateness } = self;
        let operator = GeneralWindows::new(windows, trigger, key, contents, lateness);
        stream.then("window", None, operator)
    }
}

impl<'j, H, C, K, S, W, G, E> EvictingStream<'j, H, C, K, S, W, G, E>
where
    H: Head,
    C: Chain<In = H::Out, Out: Record> + Clone + Send,
    K: Key,
    S: Fn(&C::Out) -> K + Clone + Send + 'static,
    W: WindowAssigner<C::Out>,
    G: Trigger<C::Out>,
    E: Evictor<C::Out>,
{
    /// See [`WindowedStream::allowed_lateness`].
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self { stream: self.stream.allowed_lateness(lateness), ..self }
    }

    /// See [`WindowedStream::late_output`].
    pub fn late_output(self, tag: OutputTag<C::Out>) -> Self {
        Self { stream: self.stream.late_output(tag), ..self }
    }

    /// See [`WindowedStream::trigger`].
    pub fn trigger<T>(self, trigger: T) -> EvictingStream<'j, H, C, K, S, W, T, E>
    where
        T: Trigger<C::Out>,
    {
        let TriggeredStream { keyed, windows, lateness, .. } = self.stream;
        let stream = TriggeredStream { keyed, windows, trigger, lateness };
        EvictingStream { stream, evictor: self.evictor }
    }

    /// See [`WindowedStream::reduce`].
    pub fn reduce<R>(self, reduce: R) -> EvictedReduced<'j, H, C, K, S, W, G, E, R, EmitResult>
    where
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.reduce_with(reduce, EmitResult)
    }

    /// See [`WindowedStream::reduce_with`].
    pub fn reduce_with<R, F>(
        self,
        reduce: R,
        function: F,
    ) -> EvictedReduced<'j, H, C, K, S, W, G, E, R, F>
    where
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
        F: WindowFunction<K, C::Out>,
    {
        self.process(Folded::new(Reduce::new(reduce), function))
    }

    /// See [`WindowedStream::aggregate`].
    pub fn aggregate<A>(
        self,
        aggregate: A,
    ) -> EvictedAggregated<'j, H, C, K, S, W, G, E, A, EmitResult>
    where
        A: AggregateFunction<In = C::Out>,
    {
        self.aggregate_with(aggregate, EmitResult)
    }

    /// See [`WindowedStream::aggregate_with`].
    pub fn aggregate_with<A, F>(
        self,
        aggregate: A,
        function: F,
    ) -> EvictedAggregated<'j, H, C, K, S, W, G, E, A, F>
    where
        A: AggregateFunction<In = C::Out>,
        F: WindowFunction<K, A::Out>,
    {
        self.process(Folded::new(Aggregate(aggregate), function))
    }

    /// See [`WindowedStream::sum`].
    pub fn sum<V, F>(self, value: F) -> EvictedSummed<'j, H, C, K, S, W, G, E, V, F>
    where
        V: Record + Default + AddAssign,
        F: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.aggregate(Sum::of(value))
    }

    /// See [`WindowedStream::min_by`].
    pub fn min_by<V, F>(
        self,
        value: F,
    ) -> EvictedReduced<'j, H, C, K, S, W, G, E, SmallerBy<V, F>, EmitResult>
    where
        V: PartialOrd + 'static,
        F: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.process(Folded::new(Reduce::new(SmallerBy::of(value)), EmitResult))
    }

    /// See [`WindowedStream::max_by`].
    pub fn max_by<V, F>(
        self,
        value: F,
    ) -> EvictedReduced<'j, H, C, K, S, W, G, E, LargerBy<V, F>, EmitResult>
    where
        V: PartialOrd + 'static,
        F: Fn(&C::Out) -> V + Clone + Send + 'static,
    {
        self.process(Folded::new(Reduce::new(LargerBy::of(value)), EmitResult))
    }

    /// See [`WindowedStream::min`].
    pub fn min(self) -> EvictedReduced<'j, H, C, K, S, W, G, E, Smaller, EmitResult>
    where
        C::Out: PartialOrd,
    {
        self.process(Folded::new(Reduce::new(Smaller), EmitResult))
    }

    /// See [`WindowedStream::max`].
    pub fn max(self) -> EvictedReduced<'j, H, C, K, S, W, G, E, Larger, EmitResult>
    where
        C::Out: PartialOrd,
    {
        self.process(Folded::new(Reduce::new(Larger), EmitResult))
    }

    /// See [`WindowedStream::process`].
    pub fn process<P>(self, function: P) -> Processed<'j, H, C, K, S, W, G, E, P>
    where
        P: ProcessWindowFunction<K, C::Out>,
    {
        self.stream.then(Listed::new(self.evictor, function))
    }
}

impl<H, C: Chain, K, S, W, G> fmt::Debug for TriggeredStream<'_, H, C, K, S, W, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TriggeredStream").field("keyed", &self.keyed).finish_non_exhaustive()
    }
}

impl<H, C: Chain, K, S, W, G, E> fmt::Debug for EvictingStream<'_, H, C, K, S, W, G, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}
