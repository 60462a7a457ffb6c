//! [`AggregateFunction`]: many values in, one accumulator kept, one result out.

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
    type In: 'static;
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
