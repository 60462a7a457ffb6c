//! What becomes of a window when it fires.
//!
//! | function | gets |
//! |---|---|
//! | [`EmitResult`] | the result of the aggregation, and emits it as it is |
//! | [`WindowFunction`] | that result, the key and the window |
//! | [`ProcessWindowFunction`] | all records of the window, the key and the window |
//!
//! Closures `|key, window, result| ...` and `|key, window, records| ...` are functions with one
//! result per firing.

use crate::graph::SideOutputFacts;
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

    /// The operator's context: watermark, processing time, side outputs.
    pub fn operator(&self) -> &OperatorContext<'a> {
        &self.operator
    }
}
