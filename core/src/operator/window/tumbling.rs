//! Windows that do not overlap, with an accumulator per key: the fast path.
//!
//! ```text
//! windows  [12:00, 12:05) ── table: key ──► accumulator      fires in slot order, then moves on
//!          [12:05, 12:10) ── table ─ ─ partials              what has left memory fires first
//! fired    [11:55, 12:00) ── table                           until its allowed lateness is over
//! ```
//!
//! A record costs one look-up in its window's table. Slots of a table are handed out in the order
//! of keys' first records and nobody takes a slot of a window that fires, so firing is a walk over
//! all slots that may stop anywhere: what lies before the cursor has fired. Then the whole table is
//! dropped.
//!
//! When memory is short, accumulators leave for the shard's store (`partials.rs`). Rows do not wait
//! for that: the next one of such a key begins a new accumulator. Only a late row, which asks for a
//! result, waits until all that its key has was read.
//!
//! A late row fires what its key still owes first; if that is much, the row waits
//! (`operator/waiting.rs`).
//!
//! Not here: windows that overlap (`sliding.rs`), triggers, evictors, sessions (`general.rs`).

mod firing;
mod leaving;
mod saving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::Row;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::partials::{Accumulators, Partials, Walk};
use crate::operator::window::{Clock, Lateness, Reading, SlicedBy, emit_result};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;
use crate::time::slices::Piece;
use crate::time::window::TimeDomain;
use leaving::Hand;
use saving::Gathering;

/// Aggregates every key over windows that do not overlap.
pub struct TumblingWindows<K, S, A: WindowAggregate, F> {
    key_of: S,
    by: SlicedBy,
    aggregate: A,
    function: F,
    lateness: Lateness<A::In>,
    clock: Clock,
    groups: KeyGroupCount,
    hashes: HashRange,
    /// By end; those that are due and have not fired completely are first.
    windows: VecDeque<Open<K, A::Accumulator>>,
    /// Index in `windows` of the last row's window.
    last: usize,
    /// The slice of the last row; none while rows wait, so that `on_row` need not ask.
    piece: Piece,
    waiting: VecDeque<(Row<A::In>, Reading)>,
    /// By end (ms): fired completely, kept for records that are late but not too late.
    fired: BTreeMap<i64, Accumulators<K, A::Accumulator>>,
    /// The last window that is gone, emptied: the next one begins in its memory.
    spare: Option<KeyTable<K, A::Accumulator>>,
    /// If accumulators may leave memory.
    partials: Option<Partials>,
    hand: Hand,
    /// Late rows whose key's accumulator is being read, or whose windows are.
    parked: Parked<(Row<A::In>, Reading)>,
    /// Hashes of parked rows that wait for windows which fire.
    deferred: Vec<u64>,
    /// While a snapshot is being made of what has left memory.
    gathering: Option<Gathering>,
}

struct Open<K, V> {
    end_ms: i64,
    sums: Accumulators<K, V>,
    /// How far what the store has of it has fired.
    stored: Stored,
    /// Slots before this one have fired.
    cursor: u32,
    /// Slots behind the cursor that have fired already, because a late row came for them, or with
    /// what the store has of their keys.
    early: BTreeSet<Slot>,
}

/// How far what the store has of a window has fired.
enum Stored {
    Unseen,
    Walked(Box<Walk>),
    Seen,
}

impl<K: Key, V> Open<K, V> {
    /// An open window, in the memory of an earlier one if there is `spare` memory.
    fn new(end_ms: i64, hashes: HashRange, spare: Option<KeyTable<K, V>>) -> Self {
        let sums = Accumulators::new(spare.unwrap_or_else(|| KeyTable::new(hashes)));
        Self { end_ms, sums, stored: Stored::Unseen, cursor: 0, early: BTreeSet::new() }
    }

    /// Whether accumulators may leave: none has fired.
    fn may_leave(&self) -> bool {
        self.cursor == 0 && self.early.is_empty() && matches!(self.stored, Stored::Unseen)
    }

    /// From now on the key at `slot` has fired. `false` if it had already.
    fn mark_fired(&mut self, slot: Slot) -> bool {
        self.cursor <= slot.0 && self.early.insert(slot)
    }
}

impl<K, S, A, F> TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Aggregates the rows of each key (`key_of(record)`, hashed to the row's hash) over the
    /// windows of `by`, and hands the result to `function`.
    ///
    /// # Panics
    /// If windows of `by` overlap.
    pub fn new(
        by: SlicedBy,
        key_of: S,
        aggregate: A,
        function: F,
        lateness: Lateness<A::In>,
    ) -> Self {
        assert!(by.is_tumbling(), "{} overlap", by.detail);
        Self {
            clock: Clock::new(by.domain),
            key_of,
            by,
            aggregate,
            function,
            lateness,
            groups: KeyGroupCount::new(1).expect("in range"),
            hashes: HashRange::ALL,
            windows: VecDeque::new(),
            last: 0,
            piece: Piece::NONE,
            waiting: VecDeque::new(),
            fired: BTreeMap::new(),
            spare: None,
            partials: None,
            hand: Hand::default(),
            parked: Parked::default(),
            deferred: Vec::new(),
            gathering: None,
        }
    }

    /// Lets the window that ends at `end_ms` be the last row's.
    fn turn_to(&mut self, end_ms: i64) {
        if let (Some(partials), Some(open)) = (&mut self.partials, self.windows.get_mut(self.last))
        {
            partials.count(&mut open.sums);
        }
        let found = self.windows.binary_search_by_key(&end_ms, |open| open.end_ms);
        self.last = found.unwrap_or_else(|index| {
            self.windows.insert(index, Open::new(end_ms, self.hashes, self.spare.take()));
            index
        });
    }

    /// Takes a row of the slice `piece`; gives it back if it must wait. A late row is parked if
    /// what it needs is not in memory, unless it `is_admitted`.
    #[inline]
    fn take_in(
        &mut self,
        piece: Piece,
        (row, reading): (Row<A::In>, Reading),
        is_admitted: bool,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let Reading { time_ms, horizon_ms } = reading;
        let allowed_ms = self.lateness.allowed_ms();
        let Some(end_ms) = piece.first_end_ms else {
            // Between two windows: nothing waits for it, but late is late.
            if time_ms + allowed_ms <= horizon_ms {
                self.lateness.put_aside(row, ctx);
            }
            return None;
        };
        if end_ms - 1 <= horizon_ms {
            if end_ms - 1 + allowed_ms <= horizon_ms {
                self.lateness.put_aside(row, ctx);
                return None;
            }
            return self.take_due(end_ms, (row, reading), is_admitted, ctx, out);
        }
        if self.windows.get(self.last).is_none_or(|open| open.end_ms != end_ms) {
            self.turn_to(end_ms);
        }
        let key = (self.key_of)(&row.value);
        let table = &mut self.windows[self.last].sums.table;
        let sum = table.get_or_insert_with(row.hash64, key, || self.aggregate.create());
        self.aggregate.add(sum, row.value);
        None
    }

    /// [`TumblingWindows::take_in`] for a row of a window that is due: it has fired or is about to.
    #[cold]
    fn take_due(
        &mut self,
        end_ms: i64,
        row: (Row<A::In>, Reading),
        is_admitted: bool,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let (row, reading) = if is_admitted { row } else { self.park(row, ctx)? };
        let key = (self.key_of)(&row.value);
        if self.catch_up((&key, row.hash64), reading.horizon_ms, ctx, out) == Progress::Pending {
            return Some((row, reading));
        }
        let Row { hash64, value, .. } = row;
        let is_open = self.windows.binary_search_by_key(&end_ms, |open| open.end_ms).ok();
        let sums = match is_open {
            Some(index) => &mut self.windows[index].sums,
            None => {
                let new = || Accumulators::new(KeyTable::new(self.hashes));
                self.fired.entry(end_ms).or_insert_with(new)
            }
        };
        let table = &mut sums.table;
        let slot = table.find_or_insert_with(hash64, key, || self.aggregate.create());
        self.aggregate.add(table.value_mut(slot), value);
        let result = self.aggregate.result(table.value(slot));
        let (of, window) = ((table.key(slot), hash64), self.by.slices.window(end_ms));
        emit_result(&mut self.function, of, window, result, ctx, out);
        if let Some(partials) = &mut self.partials {
            partials.count(sums);
        }
        if let Some(index) = is_open {
            self.windows[index].mark_fired(slot);
        }
        None
    }
}

impl<K, S, A, F> Operator for TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    type In = A::In;
    type Out = F::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        self.by.facts(&self.lateness, WindowFunction::<K, A::Out>::side_outputs(&self.function))
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.groups = ctx.env().task.key_group_count;
        self.hashes = ctx.env().task.hashes();
        self.partials = ctx.env().store.get().map(|store| {
            let chain_index = ctx.env().task.chain_index;
            Partials::new::<K, A::Accumulator>(store, chain_index, ctx.stage_index())
        });
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        if let Some(open) = self.windows.get_mut(self.last) {
            open.sums.table.prefetch(ahead);
        }
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<A::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let Some(reading) = self.clock.read(&row, ctx) else { return };
        if !self.piece.contains(reading.time_ms) {
            if !self.waiting.is_empty() {
                self.wait((row, reading), ctx);
                return;
            }
            self.piece = self.by.slices.piece_at(reading.time_ms);
        }
        if let Some(row) = self.take_in(self.piece, (row, reading), false, ctx, out) {
            self.piece = Piece::NONE;
            self.wait(row, ctx);
        }
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<F::Out>,
    ) -> Option<i64> {
        self.settle(ctx);
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        // Only rows of event time come late, and wait.
        let progress = match self.by.domain {
            TimeDomain::Event => match self.take_waiting(ctx, out) {
                Progress::Done => self.fire_event_time(watermark_ms, ctx, out),
                Progress::Pending => Progress::Pending,
            },
            TimeDomain::Processing => Progress::Done,
        };
        self.recharge(ctx);
        progress
    }

    fn next_time_ms(&self) -> Option<i64> {
        match self.by.domain {
            TimeDomain::Event => self.parked.has_read().then_some(i64::MIN),
            TimeDomain::Processing => self.windows.front().map(|open| open.end_ms),
        }
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        let progress = match self.by.domain {
            TimeDomain::Event => self.take_parked(ctx, out),
            TimeDomain::Processing => {
                let horizon_ms = self.clock.turn(ctx);
                self.fire(horizon_ms, ctx, out)
            }
        };
        self.recharge(ctx);
        progress
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        match self.by.domain {
            TimeDomain::Event => Progress::Done,
            TimeDomain::Processing => self.fire(i64::MAX, ctx, out),
        }
    }

    #[inline]
    fn is_ready(&self) -> bool {
        let is_full = self.partials.as_ref().is_some_and(Partials::is_full);
        self.waiting.is_empty() && !self.parked.is_full() && !is_full
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
        let was_ready = self.is_ready();
        self.let_go(steps, ctx);
        !was_ready && self.is_ready()
    }

    fn has_waiting_rows(&self) -> bool {
        !self.waiting.is_empty() || !self.parked.is_empty()
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if self.has_waiting_rows() { Progress::Pending } else { self.gather_partials(ctx) }
    }

    fn on_cut(&mut self, _checkpoint: CheckpointId, _ctx: &OperatorContext<'_>) {
        self.gathering = None;
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(!self.has_waiting_rows(), "an operator that is not ready is not cut");
        self.save(writer);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.load(reader, ctx)
    }
}

impl<K, S, A, F> WaitingRows for TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    type Waiting = (Row<A::In>, Reading);

    fn waiting(&mut self) -> &mut VecDeque<(Row<A::In>, Reading)> {
        &mut self.waiting
    }

    fn parked(&mut self) -> Option<&mut Parked<(Row<A::In>, Reading)>> {
        Some(&mut self.parked)
    }

    fn hash64_of((row, _): &(Row<A::In>, Reading)) -> u64 {
        row.hash64
    }

    fn admit(&mut self, (row, reading): &(Row<A::In>, Reading), ctx: &OperatorContext<'_>) -> bool {
        let Reading { time_ms, horizon_ms } = *reading;
        let Some(end_ms) = self.by.slices.piece_at(time_ms).first_end_ms else { return true };
        let allowed_ms = self.lateness.allowed_ms();
        // One that is in time, or too late, needs nothing.
        if horizon_ms < end_ms - 1 || end_ms - 1 + allowed_ms <= horizon_ms {
            return true;
        }
        let key = (self.key_of)(&row.value);
        self.admit_late((row.hash64, &key), end_ms, horizon_ms, ctx)
    }

    fn take(
        &mut self,
        row: (Row<A::In>, Reading),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let piece = self.by.slices.piece_at(row.1.time_ms);
        self.take_in(piece, row, true, ctx, out)
    }
}

/// A clone has seen nothing.
impl<K, S, A, F> Clone for TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + Clone + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    fn clone(&self) -> Self {
        let (by, key_of) = (self.by.clone(), self.key_of.clone());
        let (aggregate, function) = (self.aggregate.clone(), self.function.clone());
        Self::new(by, key_of, aggregate, function, self.lateness)
    }
}
