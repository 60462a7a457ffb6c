//! The engine room of all functions with keys: their state on one task, and the firing of timers.
//!
//! ```text
//! record ──► due timers of its key ──► process      even while a firing is being done in slices;
//!            if they are too many, the record waits (`operator/waiting.rs`)
//! watermark ──► due timers of all keys, by time and hash, as far as the budget goes; the rest next
//! broadcast record ──► due timers of all keys, as far as the budget goes; then it is processed
//! ```

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::row::{NO_EVENT_TIME, Row};
use crate::error::Error;
use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::process::context::{FiredTimer, KeyedContext};
use crate::operator::process::open::Declared;
use crate::operator::spilling::{self, EVICT_STEPS, READ_AHEAD, or_fail};
use crate::operator::{OperatorContext, Output, Progress};
use crate::state::broadcast::BroadcastStates;
use crate::state::durable::Save;
use crate::state::keyed::{KeyedState, TimerKind};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::StateTime;
use crate::state::table::Cursor;

/// A function that takes timers. `Inputs` tells the kinds of functions apart.
pub(super) trait FiringFunction<K: Key, Inputs> {
    /// What comes out.
    type Out;

    /// Takes a timer.
    fn fire(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut impl Output<Self::Out>,
    );
}

/// Records `In` come in.
pub(super) struct OneInput<In>(std::marker::PhantomData<In>);

/// Records `A` and `B` come in.
pub(super) struct TwoInputs<A, B>(std::marker::PhantomData<(A, B)>);

/// Records `In` come in, and `B` on all tasks.
pub(super) struct WithBroadcast<In, B>(std::marker::PhantomData<(In, B)>);

/// A walk over all keys that a broadcast record has asked for.
#[derive(Debug)]
pub(super) struct Walk {
    cause: Row<()>,
    cursor: Cursor,
}

impl Walk {
    /// Not begun, because of the broadcast record `cause`.
    pub(super) fn new(cause: Row<()>) -> Self {
        Self { cause, cursor: Cursor::default() }
    }
}

/// The state of a function with keys on one task.
#[derive(Debug)]
pub(super) struct KeyedTask<K> {
    keyed: KeyedState<K>,
    pub(super) broadcast: BroadcastStates,
    task_index: u32,
}

impl<K: Key> KeyedTask<K> {
    /// With the states that were declared. If the shard has a store and they `may_leave` memory,
    /// they do when it is short.
    pub(super) fn new(declared: Declared, ctx: &OperatorContext<'_>, may_leave: bool) -> Self {
        let Declared { columns, broadcast, .. } = declared;
        let task = ctx.env().task;
        let keyed = KeyedState::new(columns, task.key_group_count, task.key_groups());
        let keyed = if may_leave { spilling::open_states(keyed, ctx) } else { keyed };
        Self { keyed, broadcast, task_index: task.task_index }
    }

    /// The task of an operator that has been opened.
    #[inline]
    pub(super) fn of(opened: &mut Option<Self>) -> &mut Self {
        opened.as_mut().expect("an operator is opened before anything else")
    }

    pub(super) fn state(&self) -> &KeyedState<K> {
        &self.keyed
    }

    #[inline]
    pub(super) fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.keyed.prefetch(ahead);
    }

    pub(super) fn next_time_ms(&self) -> Option<i64> {
        self.keyed.next_time_ms()
    }

    /// Sees to it that the states of `key` are in memory; `false` while they are being read.
    #[inline]
    pub(super) fn admit(&mut self, hash64: u64, key: &K, ctx: &OperatorContext<'_>) -> bool {
        spilling::admit_states(&mut self.keyed, (hash64, key), ctx)
    }

    /// Whether states have left memory: until then, all rows can be taken.
    #[inline]
    pub(super) fn has_evicted(&self) -> bool {
        self.keyed.keys().has_evicted()
    }

    /// Whether timers are due.
    pub(super) fn has_due(&self) -> bool {
        TimerKind::ALL.iter().any(|kind| self.keyed.timers(*kind).has_due())
    }

    /// Whether it can take rows: not while states that are to leave memory find no room.
    pub(super) fn is_ready(&self) -> bool {
        !self.keyed.keys().is_full()
    }

    /// Lets states of up to `steps` keys leave memory. Whether there was no room for rows, and is
    /// now.
    pub(super) fn evict(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        spilling::evict_states(&mut self.keyed, steps, ctx)
    }

    /// Fires the due timers of `key`, before a record of it; `Pending` if there are more of them
    /// than are fired in one go.
    #[inline]
    pub(super) fn catch_up<I, F: FiringFunction<K, I>>(
        &mut self,
        key: &K,
        hash64: u64,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        let mut left = INPUT_BUDGET_RECORDS;
        for kind in TimerKind::ALL {
            if self.keyed.timers(kind).has_due() {
                let of = (key, hash64);
                if self.fire_of_key(kind, of, &mut left, function, ctx, out) == Progress::Pending {
                    return Progress::Pending;
                }
            }
        }
        Progress::Done
    }

    /// Fires the due timers of all keys, before a record that all of them see, as far as the budget
    /// goes.
    pub(super) fn catch_up_all<I, F: FiringFunction<K, I>>(
        &mut self,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        for kind in TimerKind::ALL {
            if self.fire(kind, |_| false, function, ctx, out) == Progress::Pending {
                return Progress::Pending;
            }
        }
        Progress::Done
    }

    /// Processes a record of `key`, which has caught up, with `process`.
    #[inline]
    pub(super) fn on_row<I, F: FiringFunction<K, I>, O: Output<F::Out>>(
        &mut self,
        key: K,
        cause: &Row<()>,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut O,
        process: impl FnOnce(&mut F, &mut KeyedContext<'_, K>, &mut O),
    ) {
        let (watermark_ms, processing_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
        let now = StateTime::of_record(cause.event_time_ms, watermark_ms, processing_ms);
        self.keyed.enter(cause.hash64, key, now);
        let outer = ctx.env().enter_row(cause);
        self.run(None, ctx, out, |context, out| process(function, context, out));
        ctx.env().leave(outer);
        if self.keyed.keys().is_short() {
            self.evict(EVICT_STEPS, ctx);
        }
    }

    /// Goes on with a walk over the keys that have state: `process` is called once for each, as far
    /// as the budget goes. All keys have caught up, and what `process` registers is not due yet.
    pub(super) fn go_on<I, F: FiringFunction<K, I>, O: Output<F::Out>>(
        &mut self,
        walk: &mut Walk,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut O,
        process: impl Fn(&mut F, &mut KeyedContext<'_, K>, &mut O),
    ) -> Progress {
        let (watermark_ms, processing_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
        let now = StateTime::of_record(walk.cause.event_time_ms, watermark_ms, processing_ms);
        while ctx.env().spend() {
            let Some(slot) = self.keyed.next_key(&mut walk.cursor) else { return Progress::Done };
            let (_, hash64) = self.keyed.key_at(slot);
            self.keyed.enter_slot(slot, now);
            if !self.keyed.shows_any() {
                self.keyed.leave();
                continue;
            }
            let outer = ctx.env().enter_row(&Row { hash64, ..walk.cause });
            self.run(None, ctx, out, |context, out| process(function, context, out));
            ctx.env().leave(outer);
        }
        Progress::Pending
    }

    /// From now on what is registered for up to `watermark_ms` is due.
    pub(super) fn begin(&mut self, watermark_ms: i64) {
        let timers = self.keyed.timers_mut(TimerKind::Event);
        if timers.horizon_ms() < watermark_ms {
            timers.begin(watermark_ms);
        }
    }

    /// Event time has reached `watermark_ms`. What is due of a key comes behind the rows of it that
    /// are parked.
    pub(super) fn on_watermark<I, F: FiringFunction<K, I>>(
        &mut self,
        watermark_ms: i64,
        is_parked: impl Fn(u64) -> bool,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        self.begin(watermark_ms);
        self.fire(TimerKind::Event, is_parked, function, ctx, out)
    }

    /// Processing time has reached what [`KeyedTask::next_time_ms`] asked for.
    pub(super) fn on_time<I, F: FiringFunction<K, I>>(
        &mut self,
        is_parked: impl Fn(u64) -> bool,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        let timers = self.keyed.timers_mut(TimerKind::Processing);
        if !timers.has_due() {
            // The clock of a machine may be set back; what was due stays due.
            timers.begin(timers.horizon_ms().max(ctx.processing_time_ms()));
        }
        self.fire(TimerKind::Processing, is_parked, function, ctx, out)
    }

    /// No record will follow: processing-time timers fire now, each of them once, whatever time
    /// they were registered for.
    pub(super) fn on_input_end<I, F: FiringFunction<K, I>>(
        &mut self,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        self.keyed.end_processing_time();
        self.fire(TimerKind::Processing, |_| false, function, ctx, out)
    }

    /// Tells the shard's store how much is in memory.
    pub(super) fn recharge(&mut self, ctx: &OperatorContext<'_>) {
        spilling::recharge_states(&mut self.keyed, ctx);
    }

    /// Gives some memory of expired entries back, unless timers are due that may still see them.
    pub(super) fn sweep(&mut self, ctx: &OperatorContext<'_>) {
        if !self.keyed.timers(TimerKind::Event).has_due() {
            let (watermark_ms, processing_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
            self.keyed.sweep(StateTime::between_records(watermark_ms, processing_ms));
        }
    }

    /// Sees to it that the snapshot has what is not in memory.
    pub(super) fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        spilling::gather_states(&mut self.keyed, ctx)
    }

    pub(super) fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        spilling::cut_states(&mut self.keyed, checkpoint, ctx);
    }

    /// Writes some of what has changed.
    pub(super) fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        spilling::save_states(&mut self.keyed, save, ctx)
    }

    /// Whether all is written that `checkpoint` gets.
    pub(super) fn is_saved(&self, checkpoint: CheckpointId) -> bool {
        self.keyed.keys().is_saved(checkpoint)
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.keyed.snapshot(writer);
        self.broadcast.snapshot(self.task_index, writer);
    }

    pub(super) fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.keyed.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())?;
        self.broadcast.restore(reader)
    }

    /// Fires what is due, as far as the budget goes, and until there is a key whose rows are parked
    /// or whose states are not in memory.
    fn fire<I, F: FiringFunction<K, I>>(
        &mut self,
        kind: TimerKind,
        is_parked: impl Fn(u64) -> bool,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        while self.keyed.timers(kind).has_due() {
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            if self.keyed.keys().has_evicted() && !self.can_fire(kind, &is_parked, ctx) {
                return Progress::Pending;
            }
            let Some((slot, time_ms)) = self.keyed.pop_due(kind) else { continue };
            let timer = FiredTimer { time_ms, kind };
            let now = now_of(timer, ctx);
            let (key, hash64) = self.keyed.key_at(slot);
            if kind == TimerKind::Processing && self.keyed.timers(TimerKind::Event).has_due() {
                // What happened before goes first, and may be the last thing to keep the slot.
                let key = key.clone();
                let (of, mut all) = ((&key, hash64), u32::MAX);
                let _ = self.fire_of_key(TimerKind::Event, of, &mut all, function, ctx, out);
                self.keyed.enter_again(hash64, key, now);
            } else {
                self.keyed.enter_slot(slot, now);
            }
            self.fire_entered(timer, hash64, function, ctx, out);
        }
        Progress::Done
    }

    /// Whether the key whose turn it is can have it.
    #[cold]
    fn can_fire(
        &mut self,
        kind: TimerKind,
        is_parked: impl Fn(u64) -> bool,
        ctx: &OperatorContext<'_>,
    ) -> bool {
        let Some(store) = ctx.env().store.get() else { return true };
        let Some(slot) = self.keyed.timers(kind).next_due() else { return true };
        let (_, hash64) = self.keyed.key_at(slot);
        if is_parked(hash64) {
            return false;
        }
        if or_fail(self.keyed.admit_slot(slot, store), ctx) {
            return true;
        }
        for count in 1..READ_AHEAD {
            let Some((slot, _)) = self.keyed.timers(kind).ahead(count) else { break };
            or_fail(self.keyed.admit_slot(slot, store), ctx);
        }
        false
    }

    /// Fires the due timers of one key out of turn, at most `left`; `Pending` when that many have
    /// fired.
    #[cold]
    fn fire_of_key<I, F: FiringFunction<K, I>>(
        &mut self,
        kind: TimerKind,
        (key, hash64): (&K, u64),
        left: &mut u32,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        // A row that was parked comes before what was not due when it came.
        let until_ms = match kind {
            TimerKind::Event => ctx.watermark_ms(),
            TimerKind::Processing => i64::MAX,
        };
        // A key that has fired its last timer and keeps nothing else has no slot any more.
        while let Some(slot) = self.keyed.find(hash64, key)
            && let Some(time_ms) = self.keyed.pop_due_of(kind, slot, until_ms)
        {
            let timer = FiredTimer { time_ms, kind };
            self.keyed.enter_slot(slot, now_of(timer, ctx));
            self.fire_entered(timer, hash64, function, ctx, out);
            ctx.env().spend_more(1);
            *left -= 1;
            if *left == 0 {
                return Progress::Pending;
            }
        }
        Progress::Done
    }

    /// Fires a timer of the key that was entered.
    fn fire_entered<I, F: FiringFunction<K, I>>(
        &mut self,
        timer: FiredTimer,
        hash64: u64,
        function: &mut F,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let event_time_ms = match timer.kind {
            TimerKind::Event => timer.time_ms,
            TimerKind::Processing => NO_EVENT_TIME,
        };
        let outer = ctx.env().enter_time(event_time_ms, hash64);
        self.run(Some(timer.kind), ctx, out, |context, out| function.fire(timer, context, out));
        ctx.env().leave(outer);
    }

    /// Runs user code for the key that was entered, and leaves it.
    #[inline]
    fn run<O>(
        &mut self,
        firing: Option<TimerKind>,
        ctx: &OperatorContext<'_>,
        out: &mut O,
        user_code: impl FnOnce(&mut KeyedContext<'_, K>, &mut O),
    ) {
        let mut context = KeyedContext {
            operator: *ctx,
            keyed: &mut self.keyed,
            broadcast: &self.broadcast,
            firing,
        };
        user_code(&mut context, out);
        self.keyed.leave();
    }
}

/// The time at which a timer sees the states of its key.
fn now_of(timer: FiredTimer, ctx: &OperatorContext<'_>) -> StateTime {
    let processing_ms = ctx.processing_time_ms();
    match timer.kind {
        TimerKind::Event => StateTime::of_event_timer(timer.time_ms, processing_ms),
        TimerKind::Processing => StateTime::between_records(ctx.watermark_ms(), processing_ms),
    }
}
