//! Rolling aggregation per key: every record gives the result so far.
//!
//! One lookup a record: the accumulator is changed in place. Without a time to live keys are kept
//! for ever, and the plan warns. When memory is short, keys that had no record lately leave it
//! (`state/residents.rs`), and the next record of such a key waits until it was read.
//!
//! Not here: aggregation of windows (`window/`), the accumulators of keys that live for ever
//! (`aggregate/accumulators.rs`).

mod accumulators;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::spilling;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::window::{Aggregate, Reduce, WindowAggregate};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::aggregate::{AggregateFunction, ReduceFunction};
use crate::state::columns::StateColumns;
use crate::state::durable::Save;
use crate::state::keyed::KeyedState;
use crate::state::residents::{Belongings as _, Residents};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::{StateSpec, StateTime, Ttl, TtlTime};
use crate::state::value::ValueState;
use accumulators::Accumulators;

/// The one state of each operator here.
const STATE: &str = "accumulators";

/// What it is called in a snapshot, with a time to live or without: an operator may gain one.
const STORED: &str = "state/accumulators";

/// Combines the records of a key pair by pair, and gives what came of it so far.
pub type KeyedReduce<K, T, F, R> = Rolling<K, Reduce<T, R>, F>;

/// Keeps an accumulator per key, and gives its result after every record.
pub type KeyedAggregate<K, A, F> = Rolling<K, Aggregate<A>, F>;

/// A rolling aggregation. See the module.
pub struct Rolling<K, A: WindowAggregate, F> {
    key_of: F,
    aggregate: A,
    ttl: Option<Ttl>,
    /// From `open` on.
    kept: Option<Kept<K, A>>,
    waiting: VecDeque<Row<A::In>>,
    parked: Parked<Row<A::In>>,
}

/// The accumulators of all keys of a task.
#[expect(clippy::large_enum_variant, reason = "one for each task, and looked at for each record")]
enum Kept<K, A: WindowAggregate> {
    /// No key is forgotten.
    ForEver(Residents<K, A::Accumulator>, KeyGroupCount),
    /// Each has a time to live.
    Mortal(Box<KeyedState<K>>, ValueState<A::Stored>),
}

impl<K, T, F, R: ReduceFunction<T>> KeyedReduce<K, T, F, R>
where
    Reduce<T, R>: WindowAggregate,
{
    /// `reduce(what came of the key's records so far, another one)`.
    pub fn new(key_of: F, reduce: R) -> Self {
        Self::of(key_of, Reduce::new(reduce), None)
    }
}

impl<K, A: AggregateFunction, F> KeyedAggregate<K, A, F> {
    /// Aggregates with `function`.
    pub fn new(key_of: F, function: A) -> Self {
        Self::of(key_of, Aggregate(function), None)
    }
}

impl<K, A: WindowAggregate, F> Rolling<K, A, F> {
    fn of(key_of: F, aggregate: A, ttl: Option<Ttl>) -> Self {
        let (waiting, parked) = (VecDeque::new(), Parked::default());
        Self { key_of, aggregate, ttl, kept: None, waiting, parked }
    }

    /// A key is forgotten when its last record is that old; another record begins anew.
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    #[inline]
    fn kept(&mut self) -> &mut Kept<K, A> {
        self.kept.as_mut().expect("an operator is opened before anything else")
    }
}

impl<K: Key, A: WindowAggregate, F> Rolling<K, A, F> {
    /// Tells how much is in memory, and gives some memory of keys that have expired back, unless
    /// parked rows are to see them.
    fn sweep(&mut self, ctx: &OperatorContext<'_>) {
        match self.kept.as_mut() {
            None => {}
            Some(Kept::ForEver(keys, groups)) => {
                let accumulators = Accumulators::new(&self.aggregate, *groups);
                spilling::recharge(keys, &accumulators, ctx);
            }
            Some(Kept::Mortal(keyed, _)) => {
                spilling::recharge_states(keyed, ctx);
                let (watermark_ms, now_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
                if !self.parked.has_some_before(watermark_ms) {
                    keyed.sweep(StateTime::between_records(watermark_ms, now_ms));
                }
            }
        }
    }

    /// Whether there is room for what rows bring.
    #[inline]
    fn has_room(&self) -> bool {
        match &self.kept {
            None => true,
            Some(Kept::ForEver(keys, _)) => !keys.is_full(),
            Some(Kept::Mortal(keyed, _)) => !keyed.keys().is_full(),
        }
    }
}

/// A clone has seen nothing.
impl<K, A: WindowAggregate, F: Clone> Clone for Rolling<K, A, F> {
    fn clone(&self) -> Self {
        Self::of(self.key_of.clone(), self.aggregate.clone(), self.ttl)
    }
}

impl<K, A, F> WaitingRows for Rolling<K, A, F>
where
    K: Key,
    A: WindowAggregate,
    F: Fn(&A::In) -> K + 'static,
{
    type Waiting = Row<A::In>;

    #[inline]
    fn waiting(&mut self) -> &mut VecDeque<Row<A::In>> {
        &mut self.waiting
    }

    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<Row<A::In>>> {
        Some(&mut self.parked)
    }

    #[inline]
    fn hash64_of(row: &Row<A::In>) -> u64 {
        row.hash64
    }

    #[inline]
    fn admit(&mut self, row: &Row<A::In>, ctx: &OperatorContext<'_>) -> bool {
        let kept = self.kept.as_mut().expect("an operator is opened before anything else");
        match kept {
            Kept::ForEver(keys, groups) if keys.has_evicted() => {
                let mut accumulators = Accumulators::new(&self.aggregate, *groups);
                let key = (self.key_of)(&row.value);
                spilling::admit(keys, (row.hash64, &key), &mut accumulators, ctx)
            }
            Kept::Mortal(keyed, _) if keyed.keys().has_evicted() => {
                spilling::admit_states(keyed, (row.hash64, &(self.key_of)(&row.value)), ctx)
            }
            _ => true,
        }
    }

    #[inline]
    fn take(
        &mut self,
        row: Row<A::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) -> Option<Row<A::In>> {
        let key = (self.key_of)(&row.value);
        let (hash64, event_time_ms) = (row.hash64, row.event_time_ms);
        let kept = self.kept.as_mut().expect("an operator is opened before anything else");
        let aggregate = &self.aggregate;
        match kept {
            Kept::ForEver(keys, groups) => {
                let slot = keys.find_or_insert_with(hash64, key, || aggregate.create());
                keys.note_use(slot);
                let mut accumulators = Accumulators::new(aggregate, *groups);
                keys.keep(slot, &accumulators);
                let accumulator = keys.value_mut(slot);
                let row = row.map(|value| {
                    aggregate.add(accumulator, value);
                    aggregate.result(accumulator)
                });
                keys.note_change(slot, |accumulator| accumulators.bytes_of(accumulator));
                spilling::make_room(keys, &mut accumulators, ctx);
                out.emit(row);
            }
            Kept::Mortal(keyed, state) => {
                let (watermark_ms, now_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
                keyed.enter(hash64, key, StateTime::of_record(event_time_ms, watermark_ms, now_ms));
                let row = row.map(|value| {
                    let stored = state.fold(&mut **keyed, |stored| match stored {
                        Some(stored) => aggregate.and(stored, value),
                        None => aggregate.first(value),
                    });
                    aggregate.result_of(stored)
                });
                keyed.leave();
                if keyed.keys().is_short() {
                    spilling::evict_states(keyed, spilling::EVICT_STEPS, ctx);
                }
                out.emit(row);
            }
        }
        None
    }
}

impl<K, A, F> Operator for Rolling<K, A, F>
where
    K: Key,
    A: WindowAggregate,
    F: Fn(&A::In) -> K + 'static,
{
    type In = A::In;
    type Out = A::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let is_by_event_time = self.ttl.is_some_and(|ttl| ttl.time() == TtlTime::Event);
        Facts {
            detail: self.ttl.map_or(String::new(), |ttl| ttl.describe()),
            is_keyed: true,
            is_stateful: true,
            needs_watermarks: is_by_event_time.then_some("state with a time to live in event time"),
            unbounded_states: self.ttl.is_none().then(|| STATE.to_string()).into_iter().collect(),
            forgets_by: Some("give it a time to live with .ttl(..) behind it, or use windows"),
            ..Facts::stateless()
        }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let task = ctx.env().task;
        self.kept = Some(match self.ttl {
            None => Kept::ForEver(spilling::open(ctx), task.key_group_count),
            Some(ttl) => {
                let mut columns = StateColumns::default();
                let value = ValueState::declare(&mut columns, STATE, StateSpec::from(ttl));
                let keyed = KeyedState::new(columns, task.key_group_count, task.key_groups());
                let keyed = Box::new(spilling::open_states(keyed, ctx));
                Kept::Mortal(keyed, value.expect("the only state"))
            }
        });
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        match self.kept() {
            Kept::ForEver(keys, _) => keys.prefetch(ahead),
            Kept::Mortal(keyed, _) => keyed.prefetch(ahead),
        }
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<A::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) {
        self.take_or_wait(row, ctx, out);
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<A::Out>,
    ) -> Option<i64> {
        self.sweep(ctx);
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        self.sweep(ctx);
        // The results of rows that came before it go before it.
        let is_done = !self.parked.has_some_before(watermark_ms);
        if is_done { Progress::Done } else { Progress::Pending }
    }

    fn next_time_ms(&self) -> Option<i64> {
        if self.parked.wants_call(self.waiting.len(), self.has_room()) {
            return Some(i64::MIN);
        }
        match self.kept.as_ref()? {
            Kept::ForEver(..) => None,
            Kept::Mortal(keyed, _) => keyed.next_time_ms(),
        }
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<A::Out>) -> Progress {
        let progress = self.take_waiting(ctx, out);
        self.sweep(ctx);
        progress
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) -> Progress {
        let progress = self.take_waiting(ctx, out);
        if self.parked.is_empty() { progress } else { Progress::Pending }
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && !self.parked.is_full() && self.has_room()
    }

    fn on_state_read(
        &mut self,
        hash64: u64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) {
        self.parked.on_read(hash64);
        // What is left for want of budget is taken when processing time calls.
        let _ = self.take_parked(ctx, out);
    }

    fn evict(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        match self.kept.as_mut() {
            None => false,
            Some(Kept::ForEver(keys, groups)) => {
                let mut accumulators = Accumulators::new(&self.aggregate, *groups);
                spilling::evict(keys, steps, &mut accumulators, ctx)
            }
            Some(Kept::Mortal(keyed, _)) => spilling::evict_states(keyed, steps, ctx),
        }
    }

    fn has_waiting_rows(&self) -> bool {
        !self.waiting.is_empty() || !self.parked.is_empty()
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if self.has_waiting_rows() {
            return Progress::Pending;
        }
        match self.kept.as_mut() {
            None => Progress::Done,
            Some(Kept::ForEver(keys, groups)) => {
                let mut accumulators = Accumulators::new(&self.aggregate, *groups);
                spilling::gather(keys, &mut accumulators, ctx)
            }
            Some(Kept::Mortal(keyed, _)) => spilling::gather_states(keyed, ctx),
        }
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        match self.kept.as_mut() {
            None => {}
            Some(Kept::ForEver(keys, _)) => spilling::cut(keys, checkpoint, ctx),
            Some(Kept::Mortal(keyed, _)) => spilling::cut_states(keyed, checkpoint, ctx),
        }
    }

    fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        match self.kept.as_mut() {
            None => Progress::Done,
            Some(Kept::ForEver(keys, groups)) => {
                let accumulators = Accumulators::new(&self.aggregate, *groups);
                spilling::save(keys, save, &accumulators, ctx)
            }
            Some(Kept::Mortal(keyed, _)) => spilling::save_states(keyed, save, ctx),
        }
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        match &self.kept {
            None => true,
            Some(Kept::ForEver(keys, _)) => keys.is_saved(checkpoint),
            Some(Kept::Mortal(keyed, _)) => keyed.keys().is_saved(checkpoint),
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(!self.has_waiting_rows(), "an operator that is not ready is not cut");
        match &self.kept {
            None => {}
            Some(Kept::Mortal(keyed, _)) => keyed.snapshot(writer),
            Some(Kept::ForEver(keys, groups)) => {
                writer.declare("state", STATE);
                if keys.is_durable() {
                    return;
                }
                keys.save_cold(writer);
                let accumulators = Accumulators::new(&self.aggregate, *groups);
                for slot in keys.slots() {
                    let of = (keys.hash64(slot), keys.key(slot));
                    accumulators.save(slot, of, keys.value(slot), writer);
                }
            }
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let kept = self.kept.as_mut().expect("an operator is opened before anything else");
        match kept {
            Kept::Mortal(keyed, _) => {
                keyed.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())
            }
            Kept::ForEver(keys, groups) => {
                let key_groups = ctx.env().task.key_groups();
                let accumulators = Accumulators::new(&self.aggregate, *groups);
                for (stored, value) in reader.keyed_state::<A::Stored>(STORED, key_groups)? {
                    let key = reader.unarchive(STORED, stored.key)?;
                    let restored = || self.aggregate.restored(value);
                    let slot = keys.find_or_insert_with(stored.hash64, key, restored);
                    keys.note_change(slot, |restored| accumulators.bytes_of(restored));
                }
                Ok(())
            }
        }
    }
}
