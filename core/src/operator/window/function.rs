//! What becomes of a window when it fires.
//!
//! | function | gets |
//! |---|---|
//! | [`EmitResult`] | the result of the aggregation, and emits it as it is |
//! | [`WindowFunction`] | that result, the key and the window |
//! | [`ProcessWindowFunction`] | all records of the window, the key, the window, and states |
//!
//! [`Folded`] makes a [`ProcessWindowFunction`] of an aggregation and a [`WindowFunction`].
//!
//! Closures `|key, window, result| ...` and `|key, window, records| ...` are functions with one
//! result per firing.

use crate::error::Error;
use crate::graph::SideOutputFacts;
use crate::operator::process::OpenContext;
use crate::operator::side_output::OutputTag;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::{OperatorContext, Output};
use crate::state::columns::StateColumns;
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

/// Makes results of all records of a window, with states of its own: of the window, and of the key
/// over all its windows.
///
/// ```
/// use std::time::Duration;
/// use millstream::prelude::*;
///
/// /// Tells by how much a shop's minute differs from its last one, once for each minute.
/// #[derive(Clone, Default)]
/// struct Trend {
///     sum: ValueState<i64>,
///     has_fired: ValueState<bool>,
/// }
///
/// impl ProcessWindowFunction<u32, (u32, i64)> for Trend {
///     type Out = (u32, i64);
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) {
///         self.sum = ctx.value("sum", Ttl::event_time(Duration::from_secs(3600)));
///         self.has_fired = ctx.value("fired", StateSpec::kept_until_cleared());
///     }
///
///     fn process(
///         &mut self,
///         shop: &u32,
///         payments: &[(u32, i64)],
///         ctx: &mut ProcessWindowContext<'_>,
///         out: &mut impl Output<Self::Out>,
///     ) {
///         if self.has_fired.get(ctx.window_state()).is_some() {
///             return;
///         }
///         self.has_fired.set(ctx.window_state(), true);
///         let sum = payments.iter().map(|payment| payment.1).sum();
///         let last = self.sum.get(ctx.global_state()).copied().unwrap_or_default();
///         self.sum.set(ctx.global_state(), sum);
///         out.collect((*shop, sum - last));
///     }
/// }
///
/// let job = Job::new("trends");
/// job.source("payments", GeneratorSource::new(100, |n| (n as u32 % 3, n as i64)))
///     .watermark(Monotonic::new(), |payment| payment.1 * 1_000)
///     .key_by(|payment| payment.0)
///     .window(Tumbling::new(Duration::from_secs(60)))
///     .allowed_lateness(Duration::from_secs(60))
///     .process(Trend::default())
///     .name("trend")
///     .sink("trends", DiscardSink::new());
/// job.simulate(2, &SimConfig::new(1))?.outcome?;
/// # Ok::<(), millstream::Error>(())
/// ```
pub trait ProcessWindowFunction<K, T>: Clone + Send + 'static {
    /// What it emits.
    type Out: 'static;

    /// Declares the states. Each is there twice: for every window, and for every key.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// The window has fired with `records`, in the order of their arrival. Results go to `out`;
    /// [`Output::collect`] gives them the window's time.
    fn process(
        &mut self,
        key: &K,
        records: &[T],
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// The window is gone: it has ended, and the allowed lateness is over. Its own states go right
    /// after; what the function keeps of it in the key's, it removes here.
    fn clear(&mut self, _key: &K, _ctx: &mut ProcessWindowContext<'_>) {}

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
        ctx: &mut ProcessWindowContext<'_>,
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
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        if records.is_empty() {
            return;
        }
        let mut accumulator = self.aggregate.create();
        for record in records {
            self.aggregate.add(&mut accumulator, record.clone());
        }
        self.function.process(key, self.aggregate.result(&accumulator), ctx.context(), out);
    }

    fn side_outputs(&self) -> SideOutputFacts {
        self.function.side_outputs()
    }
}

/// What the function of a window with all its records sees besides them.
#[derive(Debug)]
pub struct ProcessWindowContext<'a> {
    context: WindowContext<'a>,
    of_key: Option<&'a mut StateColumns>,
    of_window: Option<&'a mut StateColumns>,
}

impl<'a> ProcessWindowContext<'a> {
    pub(super) fn without_states(context: WindowContext<'a>) -> Self {
        Self { context, of_key: None, of_window: None }
    }

    /// With the states of the key, and of the window if it has any.
    pub(super) fn new(
        context: WindowContext<'a>,
        of_key: &'a mut StateColumns,
        of_window: Option<&'a mut StateColumns>,
    ) -> Self {
        Self { context, of_key: Some(of_key), of_window }
    }

    /// What functions without states see.
    pub fn context(&self) -> &WindowContext<'a> {
        &self.context
    }

    /// The states of this window of the key: what state handles take as their scope,
    /// `self.count.get(ctx.window_state())`. They go when the window does; those of the global
    /// window, which never ends, stay until they are cleared.
    ///
    /// # Panics
    /// If `open` has declared none; if windows merge, as sessions do: keep it by key.
    pub fn window_state(&mut self) -> &mut StateColumns {
        let has_any = self.of_key.is_some();
        self.of_window.as_deref_mut().unwrap_or_else(|| no_state(has_any))
    }

    /// The states of the key, whatever the window.
    ///
    /// # Panics
    /// If `open` has declared none.
    pub fn global_state(&mut self) -> &mut StateColumns {
        self.of_key.as_deref_mut().unwrap_or_else(|| no_state(false))
    }

    /// The window that fired.
    pub fn window(&self) -> Window {
        self.context.window()
    }

    /// See [`WindowContext::watermark_ms`].
    pub fn watermark_ms(&self) -> i64 {
        self.context.watermark_ms()
    }

    /// See [`WindowContext::processing_time_ms`].
    pub fn processing_time_ms(&self) -> i64 {
        self.context.processing_time_ms()
    }

    /// See [`WindowContext::side_output`].
    pub fn side_output<T: 'static>(&self, tag: OutputTag<T>, value: T) {
        self.context.side_output(tag, value);
    }

    /// See [`WindowContext::fail`].
    pub fn fail(&self, error: Error) {
        self.context.fail(error);
    }
}

#[cold]
fn no_state(merges: bool) -> ! {
    assert!(!merges, "windows that merge have no state of their own: use `global_state`");
    panic!("a state is used that this function's `open` has not declared")
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
