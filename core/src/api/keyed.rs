//! Streams whose records are grouped by key.
//!
//! A [`KeyedStream`] is a stream whose rows carry the hash of their key and are on the shard that
//! owns it, together with the closure that makes the key. What it does keeps state per key.

use std::fmt;
use std::marker::PhantomData;

use crate::api::head::Head;
use crate::api::stream::Stream;
use crate::data::key::Key;
use crate::operator::Operator;
use crate::operator::chain::{Chain, Stage, Then};

/// A stream grouped by keys `K`, which `F` makes.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedStream<'j, H, C, K, F> {
    stream: Stream<'j, H, C>,
    types: PhantomData<fn(F) -> K>,
}

impl<'j, H, C, K, F> KeyedStream<'j, H, C, K, F>
where
    H: Head,
    C: Chain<In = H::Out> + Clone + Send,
    K: Key,
    F: Fn(&C::Out) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(stream: Stream<'j, H, C>) -> Self {
        Self { stream, types: PhantomData }
    }

    /// See [`Stream::parallelism`].
    pub fn parallelism(self, parallelism: u32) -> Self {
        Self { stream: self.stream.parallelism(parallelism), ..self }
    }

    /// An operator of your own that keeps state per key. Every task runs a clone of it.
    pub fn operator<O>(
        self,
        name: impl Into<String>,
        operator: O,
    ) -> Stream<'j, H, Then<C, Stage<O>>>
    where
        O: Operator<In = C::Out> + Clone + Send,
    {
        self.stream.then("operator", Some(name.into()), operator)
    }
}

impl<H, C, K, F> fmt::Debug for KeyedStream<'_, H, C, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}
