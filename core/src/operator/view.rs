//! The operator behind a closure that reads records in place.
//!
//! The closure runs where a batch is opened, before there is a row that a stage could be given. In
//! the chain this operator stands for it: it has the name, the uid and the side outputs.

use std::fmt;
use std::marker::PhantomData;

use crate::data::row::Row;
use crate::graph::Facts;
use crate::operator::{Operator, OperatorContext, Output};

/// Hands on what the closure has made.
pub struct Viewed<T>(PhantomData<fn(T) -> T>);

impl<T> Default for Viewed<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Viewed<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for Viewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Viewed")
    }
}

impl<T: 'static> Operator for Viewed<T> {
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        out.emit(row);
    }
}
