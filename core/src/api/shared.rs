//! Where a chain ends: shared by several consumers, or in a sink.

use std::fmt;
use std::marker::PhantomData;

use rkyv::Archived;

use crate::api::any_stream::AnyStream;
use crate::api::draft::PendingEdge;
use crate::api::head::RowsHead;
use crate::api::job::Job;
use crate::api::stream::{BehindView, Stream};
use crate::data::record::Record;
use crate::graph::NodeId;
use crate::operator::pass::Pass;
use crate::operator::side_output::OutputTag;

/// A stream with any number of consumers. Copy it as often as it is needed.
///
/// ```
/// # use millstream::prelude::*;
/// # fn split(numbers: SharedStream<'_, u64>) {
/// let even = numbers.filter(|n| n % 2 == 0);
/// let odd = numbers.filter(|n| n % 2 == 1);
/// # even.discard(); odd.discard();
/// # }
/// ```
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct SharedStream<'j, T> {
    pub(crate) job: &'j Job,
    pub(crate) edge: PendingEdge,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for SharedStream<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedStream<'_, T> {}

impl<'j, T: Record> SharedStream<'j, T> {
    pub(crate) fn new(job: &'j Job, edge: PendingEdge) -> Self {
        Self { job, edge, record: PhantomData }
    }

    /// Another side output of the operator that the stream comes from.
    pub fn side_output<U: Record>(self, tag: OutputTag<U>) -> SharedStream<'j, U> {
        self.job.read_side_output(self.edge.from, tag)
    }

    /// See [`Stream::map_view`].
    pub fn map_view<U, F>(
        self,
        f: F,
    ) -> BehindView<'j, T, U, impl FnMut(&Archived<T>) -> Option<U> + Clone + Send + 'static>
    where
        U: 'static,
        F: FnMut(&Archived<T>) -> U + Clone + Send + 'static,
    {
        self.into_stream().map_view(f)
    }

    /// See [`Stream::filter_view`].
    pub fn filter_view<F>(
        self,
        f: F,
    ) -> BehindView<'j, T, T, impl FnMut(&Archived<T>) -> Option<T> + Clone + Send + 'static>
    where
        F: FnMut(&Archived<T>) -> bool + Clone + Send + 'static,
    {
        self.into_stream().filter_view(f)
    }
}

impl<'j, T: Record> AnyStream<'j> for SharedStream<'j, T> {
    type Out = T;
    type Head = RowsHead<T>;
    type Chain = Pass<T>;

    fn into_stream(self) -> Stream<'j, RowsHead<T>, Pass<T>> {
        Stream::pending(self.job, vec![self.edge], false)
    }
}

impl<T> fmt::Debug for SharedStream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStream").field("edge", &self.edge).finish_non_exhaustive()
    }
}

/// The end of a stream.
#[derive(Clone, Copy)]
pub struct StreamEnd<'j> {
    job: &'j Job,
    node: NodeId,
}

impl<'j> StreamEnd<'j> {
    pub(crate) fn new(job: &'j Job, node: NodeId) -> Self {
        Self { job, node }
    }

    /// What the sink's state is found under, instead of its name.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        self.job.draft_mut().graph.node_mut(self.node).uid = Some(uid.into());
        self
    }

    /// See [`Stream::parallelism`].
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.job.set_parallelism(self.node, parallelism);
        self
    }

    /// A side output of the sink: records that it refuses, for example.
    pub fn side_output<U: Record>(self, tag: OutputTag<U>) -> SharedStream<'j, U> {
        self.job.read_side_output(self.node, tag)
    }
}

impl fmt::Debug for StreamEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEnd").field("node", &self.node).finish_non_exhaustive()
    }
}
