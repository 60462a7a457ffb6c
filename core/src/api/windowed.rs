//! Keyed streams cut into windows.
//!
//! | windows | `reduce`, `aggregate` run on |
//! |---|---|
//! | [`Tumbling`] | [`TumblingWindows`]: one accumulator per key and window |
//! | [`Sliding`], [`Cumulative`] | [`SlidingWindows`]: slices that the windows share |
//! | [`Session`] | [`GeneralWindows`] |

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::api::head::Head;
use crate::api::keyed::KeyedStream;
use crate::api::stream::Appended;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::operator::Operator;
use crate::operator::chain::Chain;
use crate::operator::side_output::OutputTag;
use crate::operator::window::{
    Aggregate, Aggregated, EmitResult, GeneralWindows, Lateness, Reduce, SlicedBy, SlidingWindows,
    TumblingWindows, WindowAggregate, WindowFunction,
};
use crate::state::aggregate::{AggregateFunction, Larger, LargerBy, Smaller, SmallerBy, Sum};
use crate::time::trigger::AtEnd;
use crate::time::window::{Cumulative, DynamicSession, Session, Sliding, Tumbling, WindowAssigner};

/// A keyed stream cut into windows `W`.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct WindowedStream<'j, H, C: Chain, K, F, W> {
    pub(crate) keyed: KeyedStream<'j, H, C, K, F>,
    pub(crate) windows: W,
    pub(crate) lateness: Lateness<C::Out>,
}

/// Windows that can be aggregated without keeping their records: which operator does that.
pub trait AggregatingWindows<K, S, A: WindowAggregate, F>: 'static {
    /// The operator.
    type Operator: Operator<In = A::In> + Clone + Send;

    /// The operator for these windows.
    fn operator(
        self,
        key_of: S,
        aggregate: A,
        function: F,
        lateness: Lateness<A::In>,
    ) -> Self::Operator;
}

macro_rules! aggregating_windows {
    ($($windows:ident => $operator:ident),*) => {$(
        impl<K, S, A, F> AggregatingWindows<K, S, A, F> for $windows
        where
            K: Key,
            S: FnMut(&A::In) -> K + Clone + Send + 'static,
            A: WindowAggregate<Accumulator: Send>,
            F: WindowFunction<K, A::Out>,
        {
            type Operator = $operator<K, S, A, F>;

            fn operator(
                self,
                key_of: S,
                aggregate: A,
                function: F,
                lateness: Lateness<A::In>,
            ) -> Self::Operator {
                $operator::new(SlicedBy::new(self), key_of, aggregate, function, lateness)
            }
        }
    )*};
}

aggregating_windows! {
    Tumbling => TumblingWindows,
    Sliding => SlidingWindows,
    Cumulative => SlidingWindows
}

macro_rules! aggregating_sessions {
    ($($windows:ident $(<$gap:ident>)?),*) => {$(
        impl<K, S, A, F $(, $gap)?> AggregatingWindows<K, S, A, F> for $windows $(<$gap>)?
        where
            Self: WindowAssigner<A::In>,
            K: Key,
            S: FnMut(&A::In) -> K + Clone + Send + 'static,
            A: WindowAggregate<In: Clone, Accumulator: Send>,
            F: WindowFunction<K, A::Out>,
        {
            type Operator = GeneralWindows<K, S, Self, AtEnd, Aggregated<A, F>>;

            fn operator(
                self,
                key_of: S,
                aggregate: A,
                function: F,
                lateness: Lateness<A::In>,
            ) -> Self::Operator {
                let (trigger, contents) =
                    (AtEnd(self.domain), Aggregated::new(aggregate, function));
                GeneralWindows::new(self, trigger, key_of, contents, lateness)
            }
        }
    )*};
}

aggregating_sessions!(Session, DynamicSession<G>);

/// The operator that aggregates windows `W` of records that `S` makes keys `K` of.
type Aggregating<W, K, S, A, F> = <W as AggregatingWindows<K, S, A, F>>::Operator;

/// The stream behind windows `W` that reduce by `R` and make results by `F`.
type Reduced<'j, H, C, K, S, W, R, F> =
    Appended<'j, H, C, Aggregating<W, K, S, Reduce<<C as Chain>::Out, R>, F>>;

/// The stream behind windows `W` that sum what `G` takes from their records.
type Summed<'j, H, C, K, S, W, V, G> =
    AggregatedBy<'j, H, C, K, S, W, Sum<<C as Chain>::Out, V, G>, EmitResult>;

/// The stream behind windows `W` that aggregate by `A` and make results by `F`.
type AggregatedBy<'j, H, C, K, S, W, A, F> =
    Appended<'j, H, C, Aggregating<W, K, S, Aggregate<A>, F>>;

impl<'j, H, C, K, S, W> WindowedStream<'j, H, C, K, S, W>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    S: Fn(&C::Out) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(keyed: KeyedStream<'j, H, C, K, S>, windows: W) -> Self {
        Self { keyed, windows, lateness: Lateness::default() }
    }

    /// Windows stay for this long after they were complete, and fire again for every record that
    /// comes late. Default: not at all.
    ///
    /// Longer: fewer records are lost, more windows are kept.
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self { lateness: self.lateness.allow(lateness), ..self }
    }

    /// Records that come too late for all their windows go to a side output. Without it they are
    /// dropped; they are counted in any case.
    pub fn late_output(self, tag: OutputTag<C::Out>) -> Self {
        Self { lateness: self.lateness.to(tag), ..self }
    }

    /// Combines the records of a window pair by pair. `reduce` must not care about their order.
    pub fn reduce<R>(self, reduce: R) -> Reduced<'j, H, C, K, S, W, R, EmitResult>
    where
        C::Out: Record,
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
        W: AggregatingWindows<K, S, Reduce<C::Out, R>, EmitResult>,
    {
        self.then(Reduce::new(reduce), EmitResult)
    }

    /// As [`WindowedStream::reduce`]; a function makes results of what came of each window, its key
    /// and the window: `|key, window, reduced| ...`.
    pub fn reduce_with<R, F>(self, reduce: R, function: F) -> Reduced<'j, H, C, K, S, W, R, F>
    where
        C::Out: Record,
        R: Fn(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
        F: WindowFunction<K, C::Out>,
        W: AggregatingWindows<K, S, Reduce<C::Out, R>, F>,
    {
        self.then(Reduce::new(reduce), function)
    }

    /// Aggregates the records of each window.
    pub fn aggregate<A>(self, aggregate: A) -> AggregatedBy<'j, H, C, K, S, W, A, EmitResult>
    where
        A: AggregateFunction<In = C::Out>,
        W: AggregatingWindows<K, S, Aggregate<A>, EmitResult>,
    {
        self.then(Aggregate(aggregate), EmitResult)
    }

    /// As [`WindowedStream::aggregate`]; a function makes results of each aggregate, its key and
    /// the window: `|key, window, aggregate| ...`.
    pub fn aggregate_with<A, F>(
        self,
        aggregate: A,
        function: F,
    ) -> AggregatedBy<'j, H, C, K, S, W, A, F>
    where
        A: AggregateFunction<In = C::Out>,
        F: WindowFunction<K, A::Out>,
        W: AggregatingWindows<K, S, Aggregate<A>, F>,
    {
        self.then(Aggregate(aggregate), function)
    }

    /// The sum of what `value` takes from the records of a window.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream::prelude::*;
    ///
    /// let results = Collected::new();
    /// let job = Job::new("shops");
    /// let payments = [("baker", 5), ("smith", 9), ("baker", 2)];
    /// let payments = payments.map(|(shop, cents)| (1_000, (shop.to_string(), cents)));
    /// let payments = job
    ///     .source("payments", VecSource::timed(payments.to_vec()))
    ///     .watermark_from_source(Monotonic::new())
    ///     .key_by(|(shop, _)| shop.clone())
    ///     .shared();
    /// let minutes = || payments.stream().window(Tumbling::new(Duration::from_secs(60)));
    /// minutes().sum(|(_, cents): &(String, u64)| *cents).name("sum").sink("sums", results.sink());
    /// minutes().max_by(|(_, cents)| *cents).name("largest").discard();
    /// job.simulate(2, &SimConfig::new(1))?.outcome?;
    /// let mut sums = results.take_values();
    /// sums.sort_unstable();
    /// assert_eq!(sums, [7, 9]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn sum<V, G>(self, value: G) -> Summed<'j, H, C, K, S, W, V, G>
    where
        C::Out: Send,
        V: Record + Default + AddAssign,
        G: Fn(&C::Out) -> V + Clone + Send + 'static,
        W: AggregatingWindows<K, S, Aggregate<Sum<C::Out, V, G>>, EmitResult>,
    {
        self.aggregate(Sum::of(value))
    }

    /// The record of a window that has the least `value`; of several, the first (the first of the
    /// earliest slice where windows share slices).
    pub fn min_by<V, G>(self, value: G) -> Reduced<'j, H, C, K, S, W, SmallerBy<V, G>, EmitResult>
    where
        C::Out: Record,
        V: PartialOrd + 'static,
        G: Fn(&C::Out) -> V + Clone + Send + 'static,
        W: AggregatingWindows<K, S, Reduce<C::Out, SmallerBy<V, G>>, EmitResult>,
    {
        self.then(Reduce::new(SmallerBy::of(value)), EmitResult)
    }

    /// The record of a window that has the greatest `value`; of several, as
    /// [`WindowedStream::min_by`].
    pub fn max_by<V, G>(self, value: G) -> Reduced<'j, H, C, K, S, W, LargerBy<V, G>, EmitResult>
    where
        C::Out: Record,
        V: PartialOrd + 'static,
        G: Fn(&C::Out) -> V + Clone + Send + 'static,
        W: AggregatingWindows<K, S, Reduce<C::Out, LargerBy<V, G>>, EmitResult>,
    {
        self.then(Reduce::new(LargerBy::of(value)), EmitResult)
    }

    /// The least record of a window.
    pub fn min(self) -> Reduced<'j, H, C, K, S, W, Smaller, EmitResult>
    where
        C::Out: Record + PartialOrd,
        W: AggregatingWindows<K, S, Reduce<C::Out, Smaller>, EmitResult>,
    {
        self.then(Reduce::new(Smaller), EmitResult)
    }

    /// The greatest record of a window.
    pub fn max(self) -> Reduced<'j, H, C, K, S, W, Larger, EmitResult>
    where
        C::Out: Record + PartialOrd,
        W: AggregatingWindows<K, S, Reduce<C::Out, Larger>, EmitResult>,
    {
        self.then(Reduce::new(Larger), EmitResult)
    }

    fn then<A, F>(self, aggregate: A, function: F) -> Appended<'j, H, C, Aggregating<W, K, S, A, F>>
    where
        A: WindowAggregate<In = C::Out>,
        W: AggregatingWindows<K, S, A, F>,
    {
        let KeyedStream { stream, key, .. } = self.keyed;
        let operator = self.windows.operator(key, aggregate, function, self.lateness);
        stream.then("window", None, operator)
    }
}

impl<H, C: Chain, K, F, W> fmt::Debug for WindowedStream<'_, H, C, K, F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowedStream").field("keyed", &self.keyed).finish_non_exhaustive()
    }
}
