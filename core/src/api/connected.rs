//! Two streams of different records as the inputs of one operator.
//!
//! The operator takes [`Either`]: a row of the first stream is left, a row of the second is right.

use std::fmt;
use std::marker::PhantomData;

use crate::api::draft::PendingEdge;
use crate::api::head::PairHead;
use crate::api::job::Job;
use crate::api::stream::{Appended, Place, Stream};
use crate::data::either::Either;
use crate::data::record::Record;
use crate::operator::Operator;
use crate::operator::co::{CoFlatMap, CoMap};
use crate::operator::pass::Pass;

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

    /// Begins the chain with two inputs.
    fn begin(self, is_keyed: bool) -> PairStream<'j, A, B> {
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
