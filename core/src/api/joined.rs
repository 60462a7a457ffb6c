//! Joins of two keyed streams.
//!
//! `left.connect(right)`, then one of:
//!
//! - [`interval_join`](KeyedConnectedStreams::interval_join): records near each other in time
//! - [`window_join`](KeyedConnectedStreams::window_join): records that share a window
//! - [`co_group`](KeyedConnectedStreams::co_group): all records of a window, of both streams
//! - [`temporal_join`](KeyedConnectedStreams::temporal_join): the version as of a record's time

use crate::api::connected::{KeyedConnectedStreams, PairThen};
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::operator::join::{InnerJoin, IntervalJoin, LeftOuterJoin, TemporalJoin};
use crate::operator::side_output::OutputTag;
use crate::operator::window::{CoGroupFunction, CoGrouped, GeneralWindows, Lateness, Pairs};
use crate::time::trigger::AtEnd;
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
    /// Left records that come too late to be joined go to a side output; those of window joins
    /// are dropped and counted.
    pub fn left_late_output(mut self, tag: OutputTag<A>) -> Self {
        self.late.left = Some(tag);
        self
    }

    /// The same for right records.
    pub fn right_late_output(mut self, tag: OutputTag<B>) -> Self {
        self.late.right = Some(tag);
        self
    }

    /// Pairs a left record of event time `t` with the right records of its key from
    /// `t + lower_ms` to `t + upper_ms`, both included. The result's event time is the later of
    /// the two.
    pub fn interval_join<R, J>(
        self,
        lower_ms: i64,
        upper_ms: i64,
        join: J,
    ) -> IntervalJoined<'j, A, B, K, impl EitherKey<A, B, K>, J>
    where
        R: 'static,
        J: FnMut(&A, &B) -> R + Clone + Send + 'static,
    {
        let problem = format!("from {lower_ms} to {upper_ms} ms is no interval: swap the bounds");
        let problem = (upper_ms < lower_ms).then_some(problem);
        let (lower_ms, upper_ms) = (lower_ms.min(upper_ms), lower_ms.max(upper_ms));
        let key_of = either_key(self.keys);
        let operator = IntervalJoin::new(lower_ms, upper_ms, key_of, join, self.late);
        self.streams.begin(true).then("interval_join", None, operator).with_problem(problem)
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
        let operator = TemporalJoin::new(either_key(self.keys), InnerJoin(join), self.late);
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
        let operator = TemporalJoin::new(either_key(self.keys), LeftOuterJoin(join), self.late);
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
