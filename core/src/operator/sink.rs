//! Sinks: operators that rows do not leave again.
//!
//! A sink is an [`Operator`] whose output type has no values, so that "nothing follows a sink" is
//! checked by the compiler. The plan holds a prototype; every task opens and runs a clone of it, so
//! a clone must be a sink that has not been opened, whatever the original has done.

use crate::operator::Operator;

/// What a sink gives: there is no value of this type.
pub type Nothing = std::convert::Infallible;

/// An operator that ends a stream. There is nothing to implement.
pub trait Sink: Operator<Out = Nothing> + Clone + Send {}

impl<O: Operator<Out = Nothing> + Clone + Send> Sink for O {}
