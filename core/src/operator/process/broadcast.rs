//! Functions with an input of which every task gets every record: rules, rates, switches.
//!
//! Only a broadcast record may write the broadcast states, and it sees nothing else that differs
//! from task to task; so they are the same on all tasks (see `state/broadcast.rs`).

use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::process::context::{FiredTimer, KeyedContext, ProcessContext, split, world};
use crate::operator::process::open::{Declarable, Declared, OpenContext};
use crate::operator::process::task::{FiringFunction, KeyedTask, Walk, WithBroadcast};
use crate::operator::process::unkeyed::UnkeyedTask;
use crate::operator::side_output::OutputTag;
use crate::operator::waiting::WaitingRows;
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::broadcast::{BroadcastScope, BroadcastScopeMut, BroadcastStates};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// What a function without keys sees while it processes a broadcast record.
#[derive(Debug)]
pub struct BroadcastContext<'a> {
    operator: OperatorContext<'a>,
    broadcast: &'a mut BroadcastStates,
}

impl BroadcastContext<'_> {
    world!();
}

/// What a function with keys sees while it processes a broadcast record.
#[derive(Debug)]
pub struct KeyedBroadcastContext<'a> {
    operator: OperatorContext<'a>,
    broadcast: &'a mut BroadcastStates,
    /// Whether all keys are to be walked over.
    applies: bool,
}

impl KeyedBroadcastContext<'_> {
    world!();

    /// After this call, and before any other record,
    /// [`apply_to_key`](KeyedBroadcastProcessFunction::apply_to_key) is called once for every key
    /// of the task that has state, in the order of the keys' hashes.
    ///
    /// However many keys there are, the task does so many of them in each of its turns that others
    /// are not kept waiting; the records behind the broadcast one wait, and so do barriers.
    pub fn apply_to_keyed_state(&mut self) {
        self.applies = true;
    }
}

macro_rules! broadcast_scope {
    ($context:ident) => {
        impl BroadcastScope for $context<'_> {
            fn broadcast(&self) -> &BroadcastStates {
                self.broadcast
            }
        }

        impl BroadcastScopeMut for $context<'_> {
            fn broadcast_mut(&mut self) -> &mut BroadcastStates {
                self.broadcast
            }
        }
    };
}

broadcast_scope!(BroadcastContext);
broadcast_scope!(KeyedBroadcastContext);

/// A function over a keyed stream and a broadcast one, with state and timers for each key.
///
/// ```
/// use millstream::prelude::*;
///
/// /// Tells of every card whose payments come above the limit that holds at the moment, be it that
/// /// it pays or that the limit sinks.
/// #[derive(Clone, Default)]
/// struct AboveLimit {
///     limits: BroadcastState<(), u64>,
///     spent: ValueState<u64>,
/// }
///
/// impl AboveLimit {
///     fn judge(&self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<u32>) {
///         let spent = self.spent.get(ctx).copied().unwrap_or_default();
///         if self.limits.get(ctx, &()).is_some_and(|limit| *limit < spent) {
///             self.spent.clear(ctx);
///             out.collect(*ctx.key());
///         }
///     }
/// }
///
/// impl KeyedBroadcastProcessFunction<u32, u64, u64> for AboveLimit {
///     type Out = u32;
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) {
///         self.limits = ctx.broadcast("limits");
///         self.spent = ctx.value("spent", StateSpec::kept_until_cleared());
///     }
///
///     fn process(
///         &mut self,
///         amount: u64,
///         ctx: &mut KeyedContext<'_, u32>,
///         out: &mut impl Output<u32>,
///     ) {
///         self.spent.update(ctx, |spent| *spent += amount);
///         self.judge(ctx, out);
///     }
///
///     fn process_broadcast(
///         &mut self,
///         limit: u64,
///         ctx: &mut KeyedBroadcastContext<'_>,
///         _out: &mut impl Output<u32>,
///     ) {
///         self.limits.put(ctx, (), limit);
///         ctx.apply_to_keyed_state();
///     }
///
///     fn apply_to_key(&mut self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<u32>) {
///         self.judge(ctx, out);
///     }
/// }
/// ```
pub trait KeyedBroadcastProcessFunction<K: Key, In, B>: Clone + Send + 'static {
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

    /// Takes a broadcast record, after all timers that were due when it came. It must do the same
    /// on every task.
    fn process_broadcast(
        &mut self,
        value: B,
        ctx: &mut KeyedBroadcastContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// A broadcast record has asked for it by
    /// [`apply_to_keyed_state`](KeyedBroadcastContext::apply_to_keyed_state), and the key
    /// `ctx.key()` has state. What it needs of the record is in broadcast state, or in a field of
    /// the function that no other call changes.
    fn apply_to_key(&mut self, _ctx: &mut KeyedContext<'_, K>, _out: &mut impl Output<Self::Out>) {}

    /// A timer of the key `ctx.key()` has come due.
    fn on_timer(
        &mut self,
        _timer: FiredTimer,
        _ctx: &mut KeyedContext<'_, K>,
        _out: &mut impl Output<Self::Out>,
    ) {
    }
}

/// A [`KeyedBroadcastProcessFunction`] as an operator: the keyed stream is the left input, the
/// broadcast one the right.
pub struct KeyedBroadcastProcess<K, In, B, S, F> {
    key_of: S,
    function: F,
    /// From `open` on.
    task: Option<KeyedTask<K>>,
    waiting: VecDeque<Row<Either<In, B>>>,
    /// A walk over all keys that has not come to its end: before all rows that wait.
    walk: Option<Walk>,
}

const KEYED: Declarable = Declarable { keyed: true, broadcast: true };
const UNKEYED: Declarable = Declarable { keyed: false, broadcast: true };

impl<K, In, B, S, F> KeyedBroadcastProcess<K, In, B, S, F> {
    /// The operator around `function`, for records whose key is `key_of(record)`.
    pub fn new(key_of: S, function: F) -> Self {
        Self { key_of, function, task: None, waiting: VecDeque::new(), walk: None }
    }
}

/// A clone has seen nothing.
impl<K, In, B, S: Clone, F: Clone> Clone for KeyedBroadcastProcess<K, In, B, S, F> {
    fn clone(&self) -> Self {
        Self::new(self.key_of.clone(), self.function.clone())
    }
}

impl<K, In, B, F> FiringFunction<K, WithBroadcast<In, B>> for F
where
    K: Key,
    F: KeyedBroadcastProcessFunction<K, In, B>,
{
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

impl<K, In, B, S, F> WaitingRows for KeyedBroadcastProcess<K, In, B, S, F>
where
    K: Key,
    In: 'static,
    B: 'static,
    S: Fn(&In) -> K + 'static,
    F: KeyedBroadcastProcessFunction<K, In, B>,
{
    type Waiting = Row<Either<In, B>>;

    #[inline]
    fn waiting(&mut self) -> &mut VecDeque<Row<Either<In, B>>> {
        &mut self.waiting
    }

    #[inline]
    fn go_on(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        let task = KeyedTask::of(&mut self.task);
        let function = &mut self.function;
        if let Some(walk) = &mut self.walk {
            let apply = |function: &mut F, ctx: &mut KeyedContext<'_, K>, out: &mut _| {
                function.apply_to_key(ctx, out);
            };
            if task.go_on::<WithBroadcast<In, B>, F, _>(walk, function, ctx, out, apply)
                == Progress::Pending
            {
                return Progress::Pending;
            }
            self.walk = None;
        }
        match self.waiting.front() {
            Some(Row { value: Either::Right(_), .. }) => {
                task.catch_up_all::<WithBroadcast<In, B>, F>(function, ctx, out)
            }
            _ => Progress::Done,
        }
    }

    #[inline]
    fn take(
        &mut self,
        row: Row<Either<In, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<Row<Either<In, B>>> {
        let task = KeyedTask::of(&mut self.task);
        let function = &mut self.function;
        let key = match &row.value {
            Either::Left(value) => Some((self.key_of)(value)),
            Either::Right(_) => None,
        };
        let progress = match &key {
            Some(key) => {
                task.catch_up::<WithBroadcast<In, B>, F>(key, row.hash64, function, ctx, out)
            }
            None => task.catch_up_all::<WithBroadcast<In, B>, F>(function, ctx, out),
        };
        if progress == Progress::Pending {
            return Some(row);
        }
        let (cause, value) = split(row);
        match (value, key) {
            (Either::Left(value), Some(key)) => task.on_row::<WithBroadcast<In, B>, F, _>(
                key,
                &cause,
                function,
                ctx,
                out,
                |function, ctx, out| function.process(value, ctx, out),
            ),
            (Either::Right(value), _) => {
                let outer = ctx.env().enter_row(&cause);
                let broadcast = &mut task.broadcast;
                let mut context =
                    KeyedBroadcastContext { operator: *ctx, broadcast, applies: false };
                function.process_broadcast(value, &mut context, out);
                let applies = context.applies;
                ctx.env().leave(outer);
                self.walk = applies.then(|| Walk::new(cause));
                if self.go_on(ctx, out) == Progress::Pending {
                    // As behind a row that waits.
                    ctx.env().set_budget(0);
                }
            }
            (Either::Left(_), None) => unreachable!("a keyed record has a key"),
        }
        None
    }
}

impl<K, In, B, S, F> Operator for KeyedBroadcastProcess<K, In, B, S, F>
where
    K: Key,
    In: 'static,
    B: 'static,
    S: Fn(&In) -> K + 'static,
    F: KeyedBroadcastProcessFunction<K, In, B>,
{
    type In = Either<In, B>;
    type Out = F::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let mut function = self.function.clone();
        Declared::collect(KEYED, |ctx| function.open(ctx)).into_facts(KEYED)
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let declared = Declared::collect(KEYED, |ctx| self.function.open(ctx)).check(ctx)?;
        self.task = Some(KeyedTask::new(declared, ctx, false));
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        KeyedTask::of(&mut self.task).prefetch(ahead);
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<Either<In, B>>,
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
        KeyedTask::of(&mut self.task).sweep(ctx);
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        let task = KeyedTask::of(&mut self.task);
        let progress = task.on_watermark::<WithBroadcast<In, B>, _>(
            watermark_ms,
            |_| false,
            &mut self.function,
            ctx,
            out,
        );
        task.sweep(ctx);
        progress
    }

    /// At once while rows wait.
    fn next_time_ms(&self) -> Option<i64> {
        if !self.is_ready() {
            return Some(i64::MIN);
        }
        self.task.as_ref()?.next_time_ms()
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        let task = KeyedTask::of(&mut self.task);
        let progress =
            task.on_time::<WithBroadcast<In, B>, _>(|_| false, &mut self.function, ctx, out);
        task.sweep(ctx);
        progress
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        let task = KeyedTask::of(&mut self.task);
        task.on_input_end::<WithBroadcast<In, B>, _>(&mut self.function, ctx, out)
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && self.walk.is_none()
    }

    fn has_waiting_rows(&self) -> bool {
        !self.is_ready()
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(self.is_ready(), "an operator that is not ready is not cut");
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

/// A function over a stream and a broadcast one.
pub trait BroadcastProcessFunction<In, B>: Clone + Send + 'static {
    /// What comes out.
    type Out: 'static;

    /// Declares the states.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// Takes a record.
    fn process(
        &mut self,
        value: In,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// Takes a broadcast record. It must do the same on every task.
    fn process_broadcast(
        &mut self,
        value: B,
        ctx: &mut BroadcastContext<'_>,
        out: &mut impl Output<Self::Out>,
    );
}

/// A [`BroadcastProcessFunction`] as an operator: the broadcast stream is the right input.
pub struct BroadcastProcess<In, B, F> {
    function: F,
    /// From `open` on.
    task: Option<UnkeyedTask>,
    records: PhantomData<fn(In, B)>,
}

impl<In, B, F> BroadcastProcess<In, B, F> {
    /// The operator around `function`.
    pub fn new(function: F) -> Self {
        Self { function, task: None, records: PhantomData }
    }
}

/// A clone has seen nothing.
impl<In, B, F: Clone> Clone for BroadcastProcess<In, B, F> {
    fn clone(&self) -> Self {
        Self::new(self.function.clone())
    }
}

impl<In, B, F> Operator for BroadcastProcess<In, B, F>
where
    In: 'static,
    B: 'static,
    F: BroadcastProcessFunction<In, B>,
{
    type In = Either<In, B>;
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
        row: Row<Either<In, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let (cause, value) = split(row);
        let task = UnkeyedTask::of(&mut self.task);
        let function = &mut self.function;
        match value {
            Either::Left(value) => {
                task.run(&cause, ctx, out, |ctx, out| function.process(value, ctx, out));
            }
            Either::Right(value) => {
                let outer = ctx.env().enter_row(&cause);
                let broadcast = &mut task.broadcast;
                let mut context = BroadcastContext { operator: *ctx, broadcast };
                function.process_broadcast(value, &mut context, out);
                ctx.env().leave(outer);
            }
        }
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
