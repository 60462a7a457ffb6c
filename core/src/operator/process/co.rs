//! Functions with two inputs.

use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::process::context::{FiredTimer, KeyedContext, ProcessContext, split};
use crate::operator::process::open::{Declarable, Declared, OpenContext};
use crate::operator::process::task::{FiringFunction, KeyedTask, TwoInputs};
use crate::operator::process::unkeyed::UnkeyedTask;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::durable::Save;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// A function over two streams keyed by the same key, with state and timers for each key that
/// records of both inputs see.
///
/// ```
/// use millstream::prelude::*;
///
/// /// Adds to each payment (id, amount) the limit of its card.
/// #[derive(Clone, Default)]
/// struct WithLimit {
///     limit: ValueState<u64>,
/// }
///
/// impl KeyedCoProcessFunction<u32, (u32, u64), u64> for WithLimit {
///     type Out = (u32, u64, u64);
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) {
///         self.limit = ctx.value("limit", StateSpec::kept_until_cleared());
///     }
///
///     fn process_left(
///         &mut self,
///         payment: (u32, u64),
///         ctx: &mut KeyedContext<'_, u32>,
///         out: &mut impl Output<Self::Out>,
///     ) {
///         let limit = self.limit.get(ctx).copied().unwrap_or(0);
///         out.collect((payment.0, payment.1, limit));
///     }
///
///     fn process_right(
///         &mut self,
///         limit: u64,
///         ctx: &mut KeyedContext<'_, u32>,
///         _out: &mut impl Output<Self::Out>,
///     ) {
///         self.limit.set(ctx, limit);
///     }
/// }
/// ```
pub trait KeyedCoProcessFunction<K: Key, A, B>: Clone + Send + 'static {
    /// What comes out.
    type Out: 'static;

    /// Declares the states.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// Takes a record of the first input, of the key `ctx.key()`.
    fn process_left(
        &mut self,
        value: A,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut impl Output<Self::Out>,
    );

    /// Takes a record of the second input, of the key `ctx.key()`.
    fn process_right(
        &mut self,
        value: B,
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

/// A [`KeyedCoProcessFunction`] as an operator.
pub struct KeyedCoProcess<K, A, B, SA, SB, F> {
    left_key_of: SA,
    right_key_of: SB,
    function: F,
    /// From `open` on.
    task: Option<KeyedTask<K>>,
    waiting: VecDeque<Row<Either<A, B>>>,
    parked: Parked<Row<Either<A, B>>>,
}

const KEYED: Declarable = Declarable { keyed: true, broadcast: false };
const UNKEYED: Declarable = Declarable { keyed: false, broadcast: false };

impl<K, A, B, SA, SB, F> KeyedCoProcess<K, A, B, SA, SB, F> {
    /// The operator around `function`, for records whose keys are `left_key_of(record)` in the
    /// first input and `right_key_of(record)` in the second.
    pub fn new(left_key_of: SA, right_key_of: SB, function: F) -> Self {
        Self {
            left_key_of,
            right_key_of,
            function,
            task: None,
            waiting: VecDeque::new(),
            parked: Parked::default(),
        }
    }
}

impl<K: Key, A, B, SA, SB, F> KeyedCoProcess<K, A, B, SA, SB, F> {
    /// Gives memory of expired entries back, but none that parked rows are to see.
    fn sweep(&mut self, ctx: &OperatorContext<'_>) {
        let task = KeyedTask::of(&mut self.task);
        task.recharge(ctx);
        if !self.parked.has_some_before(ctx.watermark_ms()) {
            task.sweep(ctx);
        }
    }
}

/// A clone has seen nothing.
impl<K, A, B, SA: Clone, SB: Clone, F: Clone> Clone for KeyedCoProcess<K, A, B, SA, SB, F> {
    fn clone(&self) -> Self {
        Self::new(self.left_key_of.clone(), self.right_key_of.clone(), self.function.clone())
    }
}

impl<K: Key, A, B, F: KeyedCoProcessFunction<K, A, B>> FiringFunction<K, TwoInputs<A, B>> for F {
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

impl<K, A, B, SA, SB, F> WaitingRows for KeyedCoProcess<K, A, B, SA, SB, F>
where
    K: Key,
    A: 'static,
    B: 'static,
    SA: Fn(&A) -> K + 'static,
    SB: Fn(&B) -> K + 'static,
    F: KeyedCoProcessFunction<K, A, B>,
{
    type Waiting = Row<Either<A, B>>;

    #[inline]
    fn waiting(&mut self) -> &mut VecDeque<Row<Either<A, B>>> {
        &mut self.waiting
    }

    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<Row<Either<A, B>>>> {
        Some(&mut self.parked)
    }

    #[inline]
    fn hash64_of(row: &Row<Either<A, B>>) -> u64 {
        row.hash64
    }

    #[inline]
    fn admit(&mut self, row: &Row<Either<A, B>>, ctx: &OperatorContext<'_>) -> bool {
        let task = KeyedTask::of(&mut self.task);
        if !task.has_evicted() {
            return true;
        }
        let key = match &row.value {
            Either::Left(value) => (self.left_key_of)(value),
            Either::Right(value) => (self.right_key_of)(value),
        };
        task.admit(row.hash64, &key, ctx)
    }

    #[inline]
    fn take(
        &mut self,
        row: Row<Either<A, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<Row<Either<A, B>>> {
        let key = match &row.value {
            Either::Left(value) => (self.left_key_of)(value),
            Either::Right(value) => (self.right_key_of)(value),
        };
        let task = KeyedTask::of(&mut self.task);
        let function = &mut self.function;
        if task.catch_up::<TwoInputs<A, B>, F>(&key, row.hash64, function, ctx, out)
            == Progress::Pending
        {
            return Some(row);
        }
        let (cause, value) = split(row);
        task.on_row::<TwoInputs<A, B>, F, _>(
            key,
            &cause,
            function,
            ctx,
            out,
            |function, ctx, out| match value {
                Either::Left(value) => function.process_left(value, ctx, out),
                Either::Right(value) => function.process_right(value, ctx, out),
            },
        );
        None
    }
}

impl<K, A, B, SA, SB, F> Operator for KeyedCoProcess<K, A, B, SA, SB, F>
where
    K: Key,
    A: 'static,
    B: 'static,
    SA: Fn(&A) -> K + 'static,
    SB: Fn(&B) -> K + 'static,
    F: KeyedCoProcessFunction<K, A, B>,
{
    type In = Either<A, B>;
    type Out = F::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let mut function = self.function.clone();
        Declared::collect(KEYED, |ctx| function.open(ctx)).into_facts(KEYED)
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let declared = Declared::collect(KEYED, |ctx| self.function.open(ctx)).check(ctx)?;
        self.task = Some(KeyedTask::new(declared, ctx, true));
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        KeyedTask::of(&mut self.task).prefetch(ahead);
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<Either<A, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
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
            task.on_watermark::<TwoInputs<A, B>, _>(watermark_ms, is_parked, function, ctx, out);
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
        let progress = task.on_time::<TwoInputs<A, B>, _>(is_parked, &mut self.function, ctx, out);
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
        task.on_input_end::<TwoInputs<A, B>, _>(&mut self.function, ctx, out)
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

/// A function over two streams, with side outputs and, if it declares any, lists that belong to no
/// key.
pub trait CoProcessFunction<A, B>: Clone + Send + 'static {
    /// What comes out.
    type Out: 'static;

    /// Declares the lists.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// Takes a record of the first input.
    fn process_left(
        &mut self,
        value: A,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// Takes a record of the second input.
    fn process_right(
        &mut self,
        value: B,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    );
}

/// A [`CoProcessFunction`] as an operator.
pub struct CoProcess<A, B, F> {
    function: F,
    /// From `open` on.
    task: Option<UnkeyedTask>,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, F> CoProcess<A, B, F> {
    /// The operator around `function`.
    pub fn new(function: F) -> Self {
        Self { function, task: None, records: PhantomData }
    }
}

/// A clone has seen nothing.
impl<A, B, F: Clone> Clone for CoProcess<A, B, F> {
    fn clone(&self) -> Self {
        Self::new(self.function.clone())
    }
}

impl<A, B, F> Operator for CoProcess<A, B, F>
where
    A: 'static,
    B: 'static,
    F: CoProcessFunction<A, B>,
{
    type In = Either<A, B>;
    type Out = F::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let mut function = self.function.clone();
        Declared::collect(UNKEYED, |ctx| function.open(ctx)).into_facts(UNKEYED)
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let declared = Declared::collect(UNKEYED, |ctx| self.function.open(ctx)).check(ctx)?;
        self.task = Some(UnkeyedTask::new(declared, ctx));
        Ok(())
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<Either<A, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let (cause, value) = split(row);
        UnkeyedTask::of(&mut self.task).run(&cause, ctx, out, |ctx, out| match value {
            Either::Left(value) => self.function.process_left(value, ctx, out),
            Either::Right(value) => self.function.process_right(value, ctx, out),
        });
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        if let Some(task) = &self.task {
            task.snapshot(writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        UnkeyedTask::of(&mut self.task).restore(reader)
    }
}
