//! [`AggregateFunction`]: many values in, one accumulator kept, one result out.

use std::marker::PhantomData;
use std::ops::AddAssign;

use crate::data::record::Record;

/// An aggregation that keeps one accumulator however many values it takes.
///
/// `merge` makes it fit for windows that merge (sessions) or share panes (sliding).
///
/// ```
/// use millstream::prelude::*;
///
/// #[derive(Clone)]
/// struct Mean;
///
/// impl AggregateFunction for Mean {
///     type In = f64;
///     type Accumulator = (f64, u64);
///     type Out = f64;
///
///     fn create(&self) -> (f64, u64) {
///         (0.0, 0)
///     }
///
///     fn add(&self, accumulator: &mut (f64, u64), value: f64) {
///         accumulator.0 += value;
///         accumulator.1 += 1;
///     }
///
///     fn merge(&self, accumulator: &mut (f64, u64), other: (f64, u64)) {
///         accumulator.0 += other.0;
///         accumulator.1 += other.1;
///     }
///
///     fn result(&self, accumulator: &(f64, u64)) -> f64 {
///         accumulator.0 / accumulator.1 as f64
///     }
/// }
/// ```
pub trait AggregateFunction: Clone + Send + 'static {
    /// What is aggregated.
    type In: Send + 'static;
    /// What is kept.
    type Accumulator: Record;
    /// What comes of it.
    type Out: 'static;

    /// The accumulator of no values.
    fn create(&self) -> Self::Accumulator;

    /// Adds one value.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::In);

    /// Adds all values that `other` has taken.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);

    /// The result of the values taken so far.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;
}

/// Sums what a closure takes from the values.
pub struct Sum<T, V, F> {
    value_of: F,
    types: PhantomData<fn(T) -> V>,
}

impl<T, V, F: Fn(&T) -> V> Sum<T, V, F> {
    /// Sums `value_of(value)`.
    pub fn of(value_of: F) -> Self {
        Self { value_of, types: PhantomData }
    }
}

impl<T, V, F: Clone> Clone for Sum<T, V, F> {
    fn clone(&self) -> Self {
        Self { value_of: self.value_of.clone(), types: PhantomData }
    }
}

impl<T, V, F> AggregateFunction for Sum<T, V, F>
where
    T: Send + 'static,
    V: Record + Default + AddAssign,
    F: Fn(&T) -> V + Clone + Send + 'static,
{
    type In = T;
    type Accumulator = V;
    type Out = V;

    fn create(&self) -> V {
        V::default()
    }

    #[inline]
    fn add(&self, accumulator: &mut V, value: T) {
        *accumulator += (self.value_of)(&value);
    }

    fn merge(&self, accumulator: &mut V, other: V) {
        *accumulator += other;
    }

    fn result(&self, accumulator: &V) -> V {
        accumulator.clone()
    }
}

/// Makes one record of two: a closure, or one of those here.
pub trait ReduceFunction<T>: Clone + Send + 'static {
    /// What came of the records so far, and another one.
    fn reduce(&self, reduced: T, value: T) -> T;
}

impl<T, F: Fn(T, T) -> T + Clone + Send + 'static> ReduceFunction<T> for F {
    #[inline]
    fn reduce(&self, reduced: T, value: T) -> T {
        self(reduced, value)
    }
}

/// Of two records the smaller one; of equals, the first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Smaller;

/// Of two records the larger one; of equals, the first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Larger;

impl<T: PartialOrd> ReduceFunction<T> for Smaller {
    #[inline]
    fn reduce(&self, reduced: T, value: T) -> T {
        if value < reduced { value } else { reduced }
    }
}

impl<T: PartialOrd> ReduceFunction<T> for Larger {
    #[inline]
    fn reduce(&self, reduced: T, value: T) -> T {
        if reduced < value { value } else { reduced }
    }
}

/// By what the closure `G` takes from them, of two records one: see [`Smaller`], [`Larger`].
#[derive(Debug)]
pub struct By<O, V, G> {
    value_of: G,
    types: PhantomData<fn() -> (O, V)>,
}

/// Of two records the one with the smaller value; of equals, the first.
pub type SmallerBy<V, G> = By<Smaller, V, G>;

/// Of two records the one with the larger value; of equals, the first.
pub type LargerBy<V, G> = By<Larger, V, G>;

impl<O, V, G> By<O, V, G> {
    /// Compares `value_of(record)`.
    pub fn of(value_of: G) -> Self {
        Self { value_of, types: PhantomData }
    }
}

impl<O, V, G: Clone> Clone for By<O, V, G> {
    fn clone(&self) -> Self {
        Self::of(self.value_of.clone())
    }
}

impl<T, V, G> ReduceFunction<T> for SmallerBy<V, G>
where
    V: PartialOrd + 'static,
    G: Fn(&T) -> V + Clone + Send + 'static,
{
    #[inline]
    fn reduce(&self, reduced: T, value: T) -> T {
        if (self.value_of)(&value) < (self.value_of)(&reduced) { value } else { reduced }
    }
}

impl<T, V, G> ReduceFunction<T> for LargerBy<V, G>
where
    V: PartialOrd + 'static,
    G: Fn(&T) -> V + Clone + Send + 'static,
{
    #[inline]
    fn reduce(&self, reduced: T, value: T) -> T {
        if (self.value_of)(&reduced) < (self.value_of)(&value) { value } else { reduced }
    }
}
