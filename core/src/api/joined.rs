//! Joins of two keyed streams.
//!
//! `left.connect(right)`, then one of:
//!
//! - [`interval_join`](KeyedConnectedStreams::interval_join): records near each other in time
//! - [`window_join`](KeyedConnectedStreams::window_join): records that share a window
//! - [`co_group`](KeyedConnectedStreams::co_group): all records of a window, of both streams
//! - [`temporal_join`](KeyedConnectedStreams::temporal_join): the version as of a record's time
//!
//! What else a join is told follows it, as its name does: where late records go, exclusive bounds,
//! how long versions last; a trigger, an evictor and the allowed lateness of windows.

use std::time::Duration;

use crate::api::connected::{KeyedConnectedStreams, PairThen};
use crate::api::head::Head;
use crate::api::stream::{Appended, Stream};
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::operator::chain::{Chain, Stage, Then};
use crate::operator::join::{
    InnerJoin, IntervalJoin, LateJoin, LateSides, LeftOuterJoin, ProcessJoinFunction,
    TemporalFunction, TemporalJoin, TimeBound,
};
use crate::operator::side_output::OutputTag;
use crate::operator::window::{
    CoEvicted, CoGroupFunction, CoGrouped, GeneralWindows, Lateness, Pairs, WindowContents,
};
use crate::time::evictor::Evictor;
use crate::time::trigger::{AtEnd, Trigger};
use crate::time::window::WindowAssigner;

/// Makes the key of a record of either stream.
pub trait EitherKey<A, B, K>: Fn(&Either<A, B>) -> K + Clone + Send + 'static {}

impl<A, B, K, S: Fn(&Either<A, B>) -> K + Clone + Send + 'static> EitherKey<A, B, K> for S {}

/// The stream behind an interval join.
pub type IntervalJoined<'j, A, B, K, S, J> = PairThen<'j, A, B, IntervalJoin<K, A, B, S, J>>;

/// The stream behind a temporal join.
pub type TemporalJoined<'j, A, B, K, S, J> = PairThen<'j, A, B, TemporalJoin<K, A, B, S, J>>;

/// The stream behind windows of two streams.
pub type CoWindowed<'j, A, B, K, S, W, F> =
    PairThen<'j, A, B, GeneralWindows<K, S, W, AtEnd, CoGrouped<A, B, F>>>;

/// The stream behind windows of two streams with an evictor.
pub type Evicted<'j, H, C, K, S, W, G, A, B, E, F> =
    Appended<'j, H, C, GeneralWindows<K, S, W, G, CoEvicted<A, B, E, F>>>;

/// The key of a record of either stream, by the stream's own closure.
fn either_key<A, B, K>(
    keys: (impl Fn(&A) -> K + Clone + Send + 'static, impl Fn(&B) -> K + Clone + Send + 'static),
) -> impl EitherKey<A, B, K> {
    move |record| match record {
        Either::Left(record) => keys.0(record),
        Either::Right(record) => keys.1(record),
    }
}

impl<'j, A, B, K, SA, SB> KeyedConnectedStreams<'j, A, B, K, SA, SB>
where
    A: Record,
    B: Record,
    K: Key,
    SA: Fn(&A) -> K + Clone + Send + 'static,
    SB: Fn(&B) -> K + Clone + Send + 'static,
{
    /// Pairs a left record with the right records of its key from `lower` to `upper` of its event
    /// time, both included. The result's event time is the later of the two.
    pub fn interval_join<R, J>(
        self,
        lower: TimeBound,
        upper: TimeBound,
        join: J,
    ) -> IntervalJoined<'j, A, B, K, impl EitherKey<A, B, K>, J>
    where
        R: 'static,
        J: FnMut(&A, &B) -> R + Clone + Send + 'static,
    {
        let (key_of, late) = (either_key(self.keys), LateSides::default());
        let operator = IntervalJoin::new(lower.ms(), upper.ms(), key_of, join, late);
        self.streams.begin(true).then("interval_join", None, operator)
    }

    /// As [`KeyedConnectedStreams::interval_join`], with a function that may give any number of
    /// results for a pair, and write side outputs.
    pub fn interval_join_process<J>(
        self,
        lower: TimeBound,
        upper: TimeBound,
        name: impl Into<String>,
        function: J,
    ) -> IntervalJoined<'j, A, B, K, impl EitherKey<A, B, K>, J>
    where
        J: ProcessJoinFunction<A, B>,
    {
        let (key_of, late) = (either_key(self.keys), LateSides::default());
        let operator = IntervalJoin::new(lower.ms(), upper.ms(), key_of, function, late);
        self.streams.begin(true).then("interval_join", Some(name.into()), operator)
    }

    /// Joins each left record with the version of its key that the right stream had as of the
    /// record's event time: the latest right record at or before it. Left records without one are
    /// dropped.
    pub fn temporal_join<R, J>(
        self,
        join: J,
    ) -> TemporalJoined<'j, A, B, K, impl EitherKey<A, B, K>, InnerJoin<J>>
    where
        R: 'static,
        J: FnMut(A, &B) -> R + Clone + Send + 'static,
    {
        let operator =
            TemporalJoin::new(either_key(self.keys), InnerJoin(join), LateSides::default());
        self.streams.begin(true).then("temporal_join", None, operator)
    }

    /// As [`KeyedConnectedStreams::temporal_join`]; left records without a version are joined with
    /// `None`.
    pub fn temporal_left_join<R, J>(
        self,
        join: J,
    ) -> TemporalJoined<'j, A, B, K, impl EitherKey<A, B, K>, LeftOuterJoin<J>>
    where
        R: 'static,
        J: FnMut(A, Option<&B>) -> R + Clone + Send + 'static,
    {
        let operator =
            TemporalJoin::new(either_key(self.keys), LeftOuterJoin(join), LateSides::default());
        self.streams.begin(true).then("temporal_join", None, operator)
    }

    /// Joins every pair of records of a key that share a window.
    pub fn window_join<W, R, J>(
        self,
        windows: W,
        join: J,
    ) -> CoWindowed<'j, A, B, K, impl EitherKey<A, B, K>, W, Pairs<J>>
    where
        W: WindowAssigner<Either<A, B>>,
        R: 'static,
        J: FnMut(&A, &B) -> R + Clone + Send + 'static,
    {
        self.windows("window_join", windows, Pairs(join))
    }

    /// Hands the records that the two streams have in a window to a function:
    /// `|key, window, left, right| ...` with any number of results.
    pub fn co_group<W, F>(
        self,
        windows: W,
        function: F,
    ) -> CoWindowed<'j, A, B, K, impl EitherKey<A, B, K>, W, F>
    where
        W: WindowAssigner<Either<A, B>>,
        F: CoGroupFunction<K, A, B>,
    {
        self.windows("co_group", windows, function)
    }

    fn windows<W, F>(
        self,
        verb: &'static str,
        windows: W,
        function: F,
    ) -> CoWindowed<'j, A, B, K, impl EitherKey<A, B, K>, W, F>
    where
        W: WindowAssigner<Either<A, B>>,
        F: CoGroupFunction<K, A, B>,
    {
        let (trigger, contents) = (AtEnd(windows.domain()), CoGrouped::new(function));
        let key_of = either_key(self.keys);
        let operator = GeneralWindows::new(windows, trigger, key_of, contents, Lateness::default());
        self.streams.begin(true).then(verb, None, operator)
    }
}

/// What can be said of the join that was added last.
impl<H, C, O> Stream<'_, H, Then<C, Stage<O>>>
where
    O: LateJoin,
{
    /// Left records that come too late to be joined go to a side output; without it they are
    /// dropped. They are counted in any case.
    pub fn left_late_output(self, tag: OutputTag<O::Left>) -> Self {
        self.set_up(|mut join| {
            join.late_mut().left = Some(tag);
            join
        })
    }

    /// The same for right records.
    pub fn right_late_output(self, tag: OutputTag<O::Right>) -> Self {
        self.set_up(|mut join| {
            join.late_mut().right = Some(tag);
            join
        })
    }
}

/// What can be said of an interval join that was added last.
impl<H, C, K, A, B, S, J> Stream<'_, H, Then<C, Stage<IntervalJoin<K, A, B, S, J>>>>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: ProcessJoinFunction<A, B>,
{
    /// Records exactly at the lower bound make no pair.
    pub fn lower_bound_exclusive(self) -> Self {
        self.set_up(IntervalJoin::without_lower_bound)
    }

    /// Records exactly at the upper bound make no pair.
    pub fn upper_bound_exclusive(self) -> Self {
        self.set_up(IntervalJoin::without_upper_bound)
    }
}

/// What can be said of a temporal join that was added last.
impl<H, C, K, A, B, S, J> Stream<'_, H, Then<C, Stage<TemporalJoin<K, A, B, S, J>>>>
where
    TemporalJoin<K, A, B, S, J>: LateJoin<Left = A, Right = B>,
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: TemporalFunction<A, B>,
{
    /// A version lasts this long after its event time: later left records are joined as if the key
    /// had none. Without it the last version of every key is kept for ever.
    pub fn version_ttl(self, ttl: Duration) -> Self {
        self.set_up(|join| join.with_version_ttl(ttl))
    }
}

/// What can be said of a join of windows that was added last.
impl<'j, H, C, K, S, W, G, O, A, B> Stream<'j, H, Then<C, Stage<GeneralWindows<K, S, W, G, O>>>>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    S: FnMut(&Either<A, B>) -> K + 'static,
    W: WindowAssigner<Either<A, B>>,
    G: Trigger<Either<A, B>>,
    O: WindowContents<K, In = Either<A, B>, Late = LateSides<A, B>>,
    A: Record,
    B: Record,
{
    /// See [`WindowedStream::allowed_lateness`](crate::api::WindowedStream::allowed_lateness).
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        self.set_up(|windows| windows.allowing_lateness(lateness))
    }

    /// See [`WindowedStream::trigger`](crate::api::WindowedStream::trigger). The trigger sees the
    /// records of both streams.
    pub fn trigger<T>(self, trigger: T) -> Appended<'j, H, C, GeneralWindows<K, S, W, T, O>>
    where
        T: Trigger<Either<A, B>>,
    {
        self.set_up(|windows| windows.with_trigger(trigger))
    }
}

/// What can be said of a join of windows without an evictor that was added last.
impl<'j, H, C, K, S, W, G, A, B, F>
    Stream<'j, H, Then<C, Stage<GeneralWindows<K, S, W, G, CoGrouped<A, B, F>>>>>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    S: FnMut(&Either<A, B>) -> K + 'static,
    W: WindowAssigner<Either<A, B>>,
    G: Trigger<Either<A, B>>,
    A: Record,
    B: Record,
    F: CoGroupFunction<K, A, B>,
{
    /// See [`WindowedStream::evictor`](crate::api::WindowedStream::evictor). The evictor sees the
    /// records of both streams in the order of their arrival.
    pub fn evictor<E>(self, evictor: E) -> Evicted<'j, H, C, K, S, W, G, A, B, E, F>
    where
        E: Evictor<Either<A, B>>,
    {
        self.set_up(|windows| windows.with_contents(|contents| contents.evicted_by(evictor)))
    }
}
