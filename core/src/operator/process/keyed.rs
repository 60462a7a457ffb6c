//! [`KeyedProcessFunction`] and its operator.

use std::collections::VecDeque;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::process::context::{FiredTimer, KeyedContext, split};
use crate::operator::process::open::{Declarable, Declared, OpenContext};
use crate::operator::process::task::{FiringFunction, KeyedTask, OneInput};
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::durable::Save;
use crate::state::keyed::KeyedState;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// A function over the records of a keyed stream, with state and timers for each key.
///
/// ```
/// use millstream::prelude::*;
///
/// /// Counts the clicks of each session: what comes with at most 30 s in between.
/// #[derive(Clone, Default)]
/// struct CountPerSession {
///     clicks: ValueState<u64>,
///     ends_ms: ValueState<i64>,
/// }
///
/// impl KeyedProcessFunction<String, ()> for CountPerSession {
///     type Out = (String, u64);
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) {
///         self.clicks = ctx.value("clicks", StateSpec::kept_until_cleared());
///         self.ends_ms = ctx.value("ends", StateSpec::kept_until_cleared());
///     }
///
///     fn process(
///         &mut self,
///         _click: (),
///         ctx: &mut KeyedContext<'_, String>,
///         _out: &mut impl Output<Self::Out>,
///     ) {
///         self.clicks.update(ctx, |clicks| *clicks += 1);
///         let ends_ms = ctx.event_time_ms() + 30_000;
///         if let Some(before_ms) = self.ends_ms.take(ctx) {
///             ctx.delete_event_timer(before_ms);
///         }
///         self.ends_ms.set(ctx, ends_ms);
///         ctx.register_event_timer(ends_ms);
///     }
///
///     fn on_timer(
///         &mut self,
///         _timer: FiredTimer,
///         ctx: &mut KeyedContext<'_, String>,
///         out: &mut impl Output<Self::Out>,
///     ) {
///         self.ends_ms.clear(ctx);
///         if let Some(clicks) = self.clicks.take(ctx) {
///             out.collect((ctx.key().clone(), clicks));
///         }
///     }
/// }
/// ```
pub trait KeyedProcessFunction<K: Key, In>: Clone + Send + 'static {
    /// What comes out.
    type Out: 'static;

    /// Declares the states.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// Takes a record of the key `ctx.key()`.
    fn process(
        &mut self,
        value: In,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut impl Output<Self::Out>,
    );

    /// A timer of the key `ctx.key()` has come due.
    fn on_timer(
        &mut self,
        _timer: FiredTimer,
        _ctx: &mut KeyedContext<'_, K>,
        _out: &mut impl Output<Self::Out>,
    ) {
    }
}

/// A [`KeyedProcessFunction`] as an operator.
pub struct KeyedProcess<K, In, S, F> {
    key_of: S,
    function: F,
    /// From `open` on.
    task: Option<KeyedTask<K>>,
    waiting: VecDeque<Row<In>>,
    parked: Parked<Row<In>>,
}

const DECLARABLE: Declarable = Declarable { keyed: true, broadcast: false };

impl<K, In, S, F> KeyedProcess<K, In, S, F> {
    /// The operator around `function`, for records whose key is `key_of(record)`.
    pub fn new(key_of: S, function: F) -> Self {
        Self { key_of, function, task: None, waiting: VecDeque::new(), parked: Parked::default() }
    }
}

impl<K: Key, In, S, F> KeyedProcess<K, In, S, F> {
    /// Gives memory of expired entries back, but none that parked rows are to see.
    fn sweep(&mut self, ctx: &OperatorContext<'_>) {
        let task = KeyedTask::of(&mut self.task);
        task.recharge(ctx);
        if !self.parked.has_some_before(ctx.watermark_ms()) {
            task.sweep(ctx);
        }
    }

    /// What it keeps: how many keys, timers, expired entries. None before it is opened.
    pub fn state(&self) -> Option<&KeyedState<K>> {
        self.task.as_ref().map(KeyedTask::state)
    }
}

/// A clone has seen nothing.
impl<K, In, S: Clone, F: Clone> Clone for KeyedProcess<K, In, S, F> {
    fn clone(&self) -> Self {
        Self::new(self.key_of.clone(), self.function.clone())
    }
}

impl<K: Key, In, F: KeyedProcessFunction<K, In>> FiringFunction<K, OneInput<In>> for F {
    type Out = F::Out;

    fn fire(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut impl Output<F::Out>,
    ) {
        self.on_timer(timer, ctx, out);
    }
}

impl<K, In, S, F> WaitingRows for KeyedProcess<K, In, S, F>
where
    K: Key,
    In: 'static,
    S: Fn(&In) -> K + 'static,
    F: KeyedProcessFunction<K, In>,
{
    type Waiting = Row<In>;

    #[inline]
    fn waiting(&mut self) -> &mut VecDeque<Row<In>> {
        &mut self.waiting
    }

    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<Row<In>>> {
        Some(&mut self.parked)
    }

    #[inline]
    fn hash64_of(row: &Row<In>) -> u64 {
        row.hash64
    }

    #[inline]
    fn admit(&mut self, row: &Row<In>, ctx: &OperatorContext<'_>) -> bool {
        let task = KeyedTask::of(&mut self.task);
        !task.has_evicted() || task.admit(row.hash64, &(self.key_of)(&row.value), ctx)
    }

    #[inline]
    fn take(
        &mut self,
        row: Row<In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<Row<In>> {
        let key = (self.key_of)(&row.value);
        let task = KeyedTask::of(&mut self.task);
        let function = &mut self.function;
        if task.catch_up::<OneInput<In>, F>(&key, row.hash64, function, ctx, out)
            == Progress::Pending
        {
            return Some(row);
        }
        let (cause, value) = split(row);
        task.on_row::<OneInput<In>, F, _>(key, &cause, function, ctx, out, |function, ctx, out| {
            function.process(value, ctx, out);
        });
        None
    }
}

impl<K, In, S, F> Operator for KeyedProcess<K, In, S, F>
where
    K: Key,
    In: 'static,
    S: Fn(&In) -> K + 'static,
    F: KeyedProcessFunction<K, In>,
{
    type In = In;
    type Out = F::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let mut function = self.function.clone();
        Declared::collect(DECLARABLE, |ctx| function.open(ctx)).into_facts(DECLARABLE)
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let declared = Declared::collect(DECLARABLE, |ctx| self.function.open(ctx)).check(ctx)?;
        self.task = Some(KeyedTask::new(declared, ctx, true));
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        KeyedTask::of(&mut self.task).prefetch(ahead);
    }

    #[inline]
    fn on_row(&mut self, row: Row<In>, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) {
        self.take_or_wait(row, ctx, out);
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<F::Out>,
    ) -> Option<i64> {
        self.sweep(ctx);
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        if self.waiting.is_empty() {
            // Parked rows have a watermark of their own; those that come now are behind this one.
            KeyedTask::of(&mut self.task).begin(watermark_ms);
        }
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        let is_parked = |hash64| self.parked.holds(hash64);
        let (task, function) = (KeyedTask::of(&mut self.task), &mut self.function);
        let progress =
            task.on_watermark::<OneInput<In>, _>(watermark_ms, is_parked, function, ctx, out);
        self.sweep(ctx);
        let is_done = progress == Progress::Done && !self.parked.has_some_before(watermark_ms);
        if is_done { Progress::Done } else { Progress::Pending }
    }

    fn next_time_ms(&self) -> Option<i64> {
        // What is due is pending, and goes on with the rows that wait for it.
        let has_room = |task: &KeyedTask<K>| task.is_ready() && !task.has_due();
        let has_room = self.task.as_ref().is_some_and(has_room);
        if self.parked.wants_call(self.waiting.len(), has_room) {
            return Some(i64::MIN);
        }
        self.task.as_ref()?.next_time_ms()
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        let is_parked = |hash64| self.parked.holds(hash64);
        let task = KeyedTask::of(&mut self.task);
        let progress = task.on_time::<OneInput<In>, _>(is_parked, &mut self.function, ctx, out);
        self.sweep(ctx);
        progress
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending || !self.parked.is_empty() {
            return Progress::Pending;
        }
        let task = KeyedTask::of(&mut self.task);
        task.on_input_end::<OneInput<In>, _>(&mut self.function, ctx, out)
    }

    #[inline]
    fn is_ready(&self) -> bool {
        let has_room = self.task.as_ref().is_none_or(KeyedTask::is_ready);
        self.waiting.is_empty() && !self.parked.is_full() && has_room
    }

    fn on_state_read(
        &mut self,
        hash64: u64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.parked.on_read(hash64);
        // What is left for want of budget is taken when processing time calls.
        let _ = self.take_parked(ctx, out);
    }

    fn evict(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        KeyedTask::of(&mut self.task).evict(steps, ctx)
    }

    fn has_waiting_rows(&self) -> bool {
        !self.waiting.is_empty() || !self.parked.is_empty()
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if !self.waiting.is_empty() || !self.parked.is_empty() {
            return Progress::Pending;
        }
        KeyedTask::of(&mut self.task).gather(ctx)
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        KeyedTask::of(&mut self.task).on_cut(checkpoint, ctx);
    }

    fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        KeyedTask::of(&mut self.task).save(save, ctx)
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.task.as_ref().is_none_or(|task| task.is_saved(checkpoint))
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(self.waiting.is_empty(), "an operator that is not ready is not cut");
        if let Some(task) = &self.task {
            task.snapshot(writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        KeyedTask::of(&mut self.task).restore(reader, ctx)
    }
}
