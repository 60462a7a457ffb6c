//! The smallest sinks: a closure for every value, and nothing at all.

use std::marker::PhantomData;

use crate::data::row::Row;
use crate::graph::{Appearance, Facts};
use crate::operator::{Nothing, Operator, OperatorContext, Output};

/// Calls a closure with every value. Each task has a clone of it.
pub struct ForEachSink<T, F> {
    f: F,
    record: PhantomData<fn(T)>,
}

impl<T, F> ForEachSink<T, F> {
    /// A sink around `f`.
    pub fn new(f: F) -> Self {
        Self { f, record: PhantomData }
    }
}

impl<T, F: Clone> Clone for ForEachSink<T, F> {
    fn clone(&self) -> Self {
        Self::new(self.f.clone())
    }
}

impl<T: 'static, F: FnMut(T) + 'static> Operator for ForEachSink<T, F> {
    type In = T;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) {
        (self.f)(row.value);
    }
}

/// Drops every value: for measurements, and for the output that is not of interest.
pub struct DiscardSink<T> {
    record: PhantomData<fn(T)>,
}

impl<T> Default for DiscardSink<T> {
    fn default() -> Self {
        Self { record: PhantomData }
    }
}

impl<T> Clone for DiscardSink<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> DiscardSink<T> {
    /// A sink that drops everything.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<T: 'static> Operator for DiscardSink<T> {
    type In = T;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts { appearance: Appearance::WithCheckpoints, ..Facts::stateless() }
    }

    fn on_row(&mut self, _: Row<T>, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) {}
}
