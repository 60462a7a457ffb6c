//! How a chain begins: a source, one input, two inputs, or one input read in place.
//!
//! A head is the prototype of a task's [`Feed`], as a chain of stages is the prototype of its
//! operators: the plan holds it, and every task gets a clone.

use std::marker::PhantomData;

use rkyv::Archived;

use crate::data::either::Either;
use crate::data::record::Record;
use crate::graph::TaskPlan;
use crate::operator::chain::Label;
use crate::operator::source::Source;
use crate::task::channel_feed::ChannelFeed;
use crate::task::decode::{Pair, Single, View};
use crate::task::feed::Feed;
use crate::task::source_feed::SourceFeed;

/// The prototype of a task's inputs.
pub trait Head: Clone + Send + 'static {
    /// The rows that go into the chain.
    type Out: 'static;
    /// The inputs of one task.
    type Feed: Feed<Out = Self::Out>;

    /// The inputs of the task of `plan`. A head that is a node of the plan takes its label.
    fn feed(self, plan: &TaskPlan, labels: &mut std::vec::IntoIter<Label>) -> Self::Feed;
}

/// A chain that begins with a source.
#[derive(Debug, Clone)]
pub struct SourceHead<S>(pub(crate) S);

impl<S: Source> Head for SourceHead<S> {
    type Out = S::Out;
    type Feed = SourceFeed<S>;

    fn feed(self, plan: &TaskPlan, labels: &mut std::vec::IntoIter<Label>) -> SourceFeed<S> {
        let Label { name, uid, .. } = labels.next().expect("a source is a node of the plan");
        let index = plan.source_index.expect("the plan numbers every source");
        SourceFeed::new(self.0, name, uid, index)
    }
}

/// A chain with one input.
pub struct RowsHead<T>(PhantomData<fn() -> T>);

impl<T> Default for RowsHead<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for RowsHead<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T: Record> Head for RowsHead<T> {
    type Out = T;
    type Feed = ChannelFeed<Single<T>>;

    fn feed(self, plan: &TaskPlan, _labels: &mut std::vec::IntoIter<Label>) -> Self::Feed {
        ChannelFeed::new(plan, Single::default())
    }
}

/// A chain with two inputs.
pub struct PairHead<A, B>(PhantomData<fn() -> (A, B)>);

impl<A, B> Default for PairHead<A, B> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A, B> Clone for PairHead<A, B> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<A: Record, B: Record> Head for PairHead<A, B> {
    type Out = Either<A, B>;
    type Feed = ChannelFeed<Pair<A, B>>;

    fn feed(self, plan: &TaskPlan, _labels: &mut std::vec::IntoIter<Label>) -> Self::Feed {
        ChannelFeed::new(plan, Pair::default())
    }
}

/// A chain with one input whose rows a closure reads in place. The chain's first operator is a
/// [`Viewed`](crate::operator::view::Viewed), to which the closure belongs.
pub struct ViewHead<T, U, F> {
    f: F,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> ViewHead<T, U, F> {
    pub(crate) fn new(f: F) -> Self {
        Self { f, types: PhantomData }
    }
}

impl<T, U, F: Clone> Clone for ViewHead<T, U, F> {
    fn clone(&self) -> Self {
        Self::new(self.f.clone())
    }
}

impl<T, U, F> Head for ViewHead<T, U, F>
where
    T: Record,
    U: 'static,
    F: FnMut(&Archived<T>) -> Option<U> + Clone + Send + 'static,
{
    type Out = U;
    type Feed = ChannelFeed<View<T, U, F>>;

    fn feed(self, plan: &TaskPlan, _labels: &mut std::vec::IntoIter<Label>) -> Self::Feed {
        ChannelFeed::new(plan, View::new(self.f))
    }
}
