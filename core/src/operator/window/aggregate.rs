//! What a window keeps instead of its records: an accumulator.

use std::marker::PhantomData;

use crate::data::record::Record;
use crate::state::aggregate::{AggregateFunction, ReduceFunction};

/// An [`AggregateFunction`] or a reduction, as windows and rolling operators use it.
///
/// Windows that share slices add records in the order of slices, not of arrival: adding and merging
/// must be commutative and associative up to what the user accepts as equal (sums of floats may
/// differ in the last bits from those in another order; runs over the same input do not differ).
/// Tumbling windows keep the order of arrival, but merge what has left memory with what came after
/// it: there merging must be associative.
pub trait WindowAggregate: Clone + Send + 'static {
    /// What is aggregated.
    type In: Send + 'static;
    /// What is kept while the window is open.
    type Accumulator: Clone + 'static;
    /// The accumulator of at least one value as it is stored.
    type Stored: Record;
    /// What comes of it.
    type Out: 'static;

    /// The accumulator of no values.
    fn create(&self) -> Self::Accumulator;

    /// Adds one value.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::In);

    /// Adds all values that `other` has taken.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);

    /// The result of the values taken so far, of which there is one at least.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;

    /// How the accumulator of at least one value is stored.
    fn stored<'a>(&self, accumulator: &'a Self::Accumulator) -> &'a Self::Stored;

    /// The accumulator that was stored.
    fn restored(&self, stored: Self::Stored) -> Self::Accumulator;

    /// What is stored of one value.
    fn first(&self, value: Self::In) -> Self::Stored;

    /// Adds one value to what is stored of others: what is stored then.
    fn and(&self, stored: Self::Stored, value: Self::In) -> Self::Stored;

    /// The result of the values that something is stored of.
    fn result_of(&self, stored: &Self::Stored) -> Self::Out;
}

/// An [`AggregateFunction`] over a window.
#[derive(Debug, Clone)]
pub struct Aggregate<A>(pub A);

impl<A: AggregateFunction> WindowAggregate for Aggregate<A> {
    type In = A::In;
    type Accumulator = A::Accumulator;
    type Stored = A::Accumulator;
    type Out = A::Out;

    #[inline]
    fn create(&self) -> A::Accumulator {
        self.0.create()
    }

    #[inline]
    fn add(&self, accumulator: &mut A::Accumulator, value: A::In) {
        self.0.add(accumulator, value);
    }

    #[inline]
    fn merge(&self, accumulator: &mut A::Accumulator, other: A::Accumulator) {
        self.0.merge(accumulator, other);
    }

    #[inline]
    fn result(&self, accumulator: &A::Accumulator) -> A::Out {
        self.0.result(accumulator)
    }

    fn stored<'a>(&self, accumulator: &'a A::Accumulator) -> &'a A::Accumulator {
        accumulator
    }

    fn restored(&self, stored: A::Accumulator) -> A::Accumulator {
        stored
    }

    fn first(&self, value: A::In) -> A::Accumulator {
        let mut accumulator = self.0.create();
        self.0.add(&mut accumulator, value);
        accumulator
    }

    fn and(&self, mut stored: A::Accumulator, value: A::In) -> A::Accumulator {
        self.0.add(&mut stored, value);
        stored
    }

    fn result_of(&self, stored: &A::Accumulator) -> A::Out {
        self.0.result(stored)
    }
}

/// Combines the records of a window pair by pair.
pub struct Reduce<T, F> {
    f: F,
    record: PhantomData<fn(T)>,
}

impl<T, F: ReduceFunction<T>> Reduce<T, F> {
    /// Combines them by `f`.
    pub fn new(f: F) -> Self {
        Self { f, record: PhantomData }
    }
}

impl<T, F: Clone> Clone for Reduce<T, F> {
    fn clone(&self) -> Self {
        Self { f: self.f.clone(), record: PhantomData }
    }
}

impl<T: Record, F: ReduceFunction<T>> WindowAggregate for Reduce<T, F> {
    type In = T;
    /// `None` only until the first value is added.
    type Accumulator = Option<T>;
    type Stored = T;
    type Out = T;

    #[inline]
    fn create(&self) -> Option<T> {
        None
    }

    #[inline]
    fn add(&self, accumulator: &mut Option<T>, value: T) {
        *accumulator = Some(match accumulator.take() {
            Some(reduced) => self.f.reduce(reduced, value),
            None => value,
        });
    }

    #[inline]
    fn merge(&self, accumulator: &mut Option<T>, other: Option<T>) {
        if let Some(other) = other {
            self.add(accumulator, other);
        }
    }

    fn result(&self, accumulator: &Option<T>) -> T {
        self.stored(accumulator).clone()
    }

    fn stored<'a>(&self, accumulator: &'a Option<T>) -> &'a T {
        accumulator.as_ref().expect("a window without a value is not kept")
    }

    fn restored(&self, stored: T) -> Option<T> {
        Some(stored)
    }

    fn first(&self, value: T) -> T {
        value
    }

    fn and(&self, stored: T, value: T) -> T {
        self.f.reduce(stored, value)
    }

    fn result_of(&self, stored: &T) -> T {
        stored.clone()
    }
}
