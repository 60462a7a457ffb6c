//! What becomes of a window when it fires.
//!
//! | function | gets |
//! |---|---|
//! | [`EmitResult`] | the result of the aggregation, and emits it as it is |
//! | [`WindowFunction`] | that result, the key and the window |
//! | [`ProcessWindowFunction`] | all records of the window, the key and the window |
//!
//! [`Folded`] makes a [`ProcessWindowFunction`] of an aggregation and a [`WindowFunction`].
//!
//! Closures `|key, window, result| ...` and `|key, window, records| ...` are functions with one
//! result per firing.

use crate::error::Error;
use crate::graph::SideOutputFacts;
use crate::operator::side_output::OutputTag;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::{OperatorContext, Output};
use crate::time::window::Window;

/// Makes results of the key, the window and what an aggregation gave.
pub trait WindowFunction<K, V>: Clone + Send + 'static {
    /// What it emits.
    type Out: 'static;

    /// The window has fired. Results go to `out`; [`Output::collect`] gives them the window's time.
    fn process(
        &mut self,
        key: &K,
        value: V,
        ctx: &WindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// Which side outputs it may write.
    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Any
    }
}

/// Emits what the aggregation gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmitResult;

impl<K, V: 'static> WindowFunction<K, V> for EmitResult {
    type Out = V;

    #[inline]
    fn process(&mut self, _key: &K, value: V, _ctx: &WindowContext<'_>, out: &mut impl Output<V>) {
        out.collect(value);
    }

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Only(Vec::new())
    }
}

impl<K, V, R, F> WindowFunction<K, V> for F
where
    R: 'static,
    F: FnMut(&K, &Window, V) -> R + Clone + Send + 'static,
{
    type Out = R;

    #[inline]
    fn process(&mut self, key: &K, value: V, ctx: &WindowContext<'_>, out: &mut impl Output<R>) {
        out.collect(self(key, &ctx.window(), value));
    }

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Only(Vec::new())
    }
}

/// Makes results of all records of a window.
pub trait ProcessWindowFunction<K, T>: Clone + Send + 'static {
    /// What it emits.
    type Out: 'static;

    /// The window has fired with `records`, in the order of their arrival. Results go to `out`;
    /// [`Output::collect`] gives them the window's time.
    fn process(
        &mut self,
        key: &K,
        records: &[T],
        ctx: &WindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// Which side outputs it may write.
    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Any
    }
}

impl<K, T, R, F> ProcessWindowFunction<K, T> for F
where
    R: 'static,
    F: FnMut(&K, &Window, &[T]) -> R + Clone + Send + 'static,
{
    type Out = R;

    fn process(
        &mut self,
        key: &K,
        records: &[T],
        ctx: &WindowContext<'_>,
        out: &mut impl Output<R>,
    ) {
        out.collect(self(key, &ctx.window(), records));
    }

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Only(Vec::new())
    }
}

/// Aggregates the records of a window when it fires, for windows that have to keep them. Nothing
/// comes of a window without records.
#[derive(Debug, Clone)]
pub struct Folded<A, F> {
    aggregate: A,
    function: F,
}

impl<A, F> Folded<A, F> {
    /// Hands what `aggregate` gives to `function`.
    pub fn new(aggregate: A, function: F) -> Self {
        Self { aggregate, function }
    }
}

impl<K, A, F> ProcessWindowFunction<K, A::In> for Folded<A, F>
where
    A: WindowAggregate<In: Clone>,
    F: WindowFunction<K, A::Out>,
{
    type Out = F::Out;

    fn process(
        &mut self,
        key: &K,
        records: &[A::In],
        ctx: &WindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        if records.is_empty() {
            return;
        }
        let mut accumulator = self.aggregate.create();
        for record in records {
            self.aggregate.add(&mut accumulator, record.clone());
        }
        self.function.process(key, self.aggregate.result(&accumulator), ctx, out);
    }

    fn side_outputs(&self) -> SideOutputFacts {
        self.function.side_outputs()
    }
}

/// What a window's function sees besides its contents.
#[derive(Debug, Clone, Copy)]
pub struct WindowContext<'a> {
    window: Window,
    operator: OperatorContext<'a>,
}

impl<'a> WindowContext<'a> {
    /// The context of `window` in an operator.
    pub fn new(window: Window, operator: OperatorContext<'a>) -> Self {
        Self { window, operator }
    }

    /// The window that fired.
    pub fn window(&self) -> Window {
        self.window
    }

    /// No record at or before this event time (ms) is still expected.
    pub fn watermark_ms(&self) -> i64 {
        self.operator.watermark_ms()
    }

    /// Processing time of this turn, ms since 1970.
    pub fn processing_time_ms(&self) -> i64 {
        self.operator.processing_time_ms()
    }

    /// Puts a value into a side output; it has the time and key of the window.
    pub fn side_output<T: 'static>(&self, tag: OutputTag<T>, value: T) {
        self.operator.side_output(tag, value);
    }

    /// Stops the job with `error`.
    pub fn fail(&self, error: Error) {
        self.operator.fail(error);
    }

    /// The operator's context.
    pub fn operator(&self) -> &OperatorContext<'a> {
        &self.operator
    }
}
