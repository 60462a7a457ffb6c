//! Windows that do not overlap, with an accumulator per key: the fast path.
//!
//! ```text
//! windows  [12:00, 12:05) ── table: key ──► accumulator      fires in slot order, then moves on
//!          [12:05, 12:10) ── table
//! fired    [11:55, 12:00) ── table                           until its allowed lateness is over
//! ```
//!
//! A record costs one look-up in its window's table. Slots of a table are handed out in the order
//! of keys' first records and none is ever removed, so firing is a walk over `0..len` that may stop
//! anywhere: what lies before the cursor has fired. Then the whole table is dropped.
//!
//! A late row fires what its key still owes first; if that is much, the row waits
//! (`operator/waiting.rs`).
//!
//! Not here: windows that overlap (`sliding.rs`), triggers, evictors, sessions (`general.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::Row;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::waiting::WaitingRows;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::stored::{self, KeyWriter, Place, StateName};
use crate::operator::window::{Clock, Lateness, Reading, SlicedBy, emit_result};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;
use crate::time::slices::Piece;
use crate::time::window::TimeDomain;

/// Accumulators of windows whose key has not fired, and of those whose key has.
const OPEN: StateName = StateName("open", 0);
const FIRED: StateName = StateName("fired", 1);

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
    fired: BTreeMap<i64, KeyTable<K, A::Accumulator>>,
    /// The last window that is gone, emptied: the next one begins in its memory.
    spare: Option<KeyTable<K, A::Accumulator>>,
}

struct Open<K, V> {
    end_ms: i64,
    table: KeyTable<K, V>,
    /// Slots before this one have fired.
    cursor: u32,
    /// Slots behind the cursor that have fired already, because a late row came for them.
    early: BTreeSet<Slot>,
}

impl<K: Key, V> Open<K, V> {
    /// An open window, in the memory of an earlier one if there is `spare` memory.
    fn new(end_ms: i64, hashes: HashRange, spare: Option<KeyTable<K, V>>) -> Self {
        let table = spare.unwrap_or_else(|| KeyTable::new(hashes));
        Self { end_ms, table, cursor: 0, early: BTreeSet::new() }
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
        }
    }

    /// The index in `windows` of the window that ends at `end_ms`, or where it would be put.
    #[inline]
    fn find(&self, end_ms: i64) -> Result<usize, usize> {
        match self.windows.get(self.last) {
            Some(open) if open.end_ms == end_ms => Ok(self.last),
            _ => self.windows.binary_search_by_key(&end_ms, |open| open.end_ms),
        }
    }

    /// Takes a row of the slice `piece`; gives it back if it must wait.
    #[inline]
    fn take_in(
        &mut self,
        piece: Piece,
        (row, reading): (Row<A::In>, Reading),
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
            return self.take_due(end_ms, (row, reading), ctx, out);
        }
        self.last = self.find(end_ms).unwrap_or_else(|index| {
            self.windows.insert(index, Open::new(end_ms, self.hashes, self.spare.take()));
            index
        });
        let key = (self.key_of)(&row.value);
        let table = &mut self.windows[self.last].table;
        let sum = table.get_or_insert_with(row.hash64, key, || self.aggregate.create());
        self.aggregate.add(sum, row.value);
        None
    }

    /// [`TumblingWindows::take_in`] for a row of a window that is due: it has fired or is about to.
    #[cold]
    fn take_due(
        &mut self,
        end_ms: i64,
        (row, reading): (Row<A::In>, Reading),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let key = (self.key_of)(&row.value);
        if self.catch_up((&key, row.hash64), reading.horizon_ms, ctx, out) == Progress::Pending {
            return Some((row, reading));
        }
        let Row { hash64, value, .. } = row;
        let (table, is_open) = match self.windows.binary_search_by_key(&end_ms, |open| open.end_ms)
        {
            Ok(index) => (&mut self.windows[index].table, Some(index)),
            Err(_) => {
                let hashes = self.hashes;
                let fired = self.fired.entry(end_ms).or_insert_with(|| KeyTable::new(hashes));
                (fired, None)
            }
        };
        let slot = table.find_or_insert_with(hash64, key, || self.aggregate.create());
        self.aggregate.add(table.value_mut(slot), value);
        let result = self.aggregate.result(table.value(slot));
        let (of, window) = ((table.key(slot), hash64), self.by.slices.window(end_ms));
        emit_result(&mut self.function, of, window, result, ctx, out);
        if let Some(index) = is_open {
            self.windows[index].mark_fired(slot);
        }
        None
    }

    /// Fires the windows of one key that are due; `Pending` if there are more of them than are
    /// fired in one go.
    fn catch_up(
        &mut self,
        (key, hash64): (&K, u64),
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        let mut left = INPUT_BUDGET_RECORDS;
        for open in self.windows.iter_mut().take_while(|open| open.end_ms - 1 <= horizon_ms) {
            ctx.env().spend_more(1);
            let Some(slot) = open.table.find(hash64, key) else { continue };
            if open.mark_fired(slot) {
                let window = self.by.slices.window(open.end_ms);
                let result = self.aggregate.result(open.table.value(slot));
                emit_result(&mut self.function, (key, hash64), window, result, ctx, out);
                left -= 1;
                if left == 0 {
                    return Progress::Pending;
                }
            }
        }
        Progress::Done
    }

    /// Fires what is due at `horizon_ms` as far as the budget goes.
    fn fire(
        &mut self,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        let allowed_ms = self.lateness.allowed_ms();
        while let Some(due) = self.windows.front_mut().filter(|open| open.end_ms - 1 <= horizon_ms)
        {
            let window = self.by.slices.window(due.end_ms);
            while (due.cursor as usize) < due.table.len() {
                let slot = Slot(due.cursor);
                if due.early.is_empty() || !due.early.remove(&slot) {
                    if !ctx.env().spend() {
                        return Progress::Pending;
                    }
                    let of = (due.table.key(slot), due.table.hash64(slot));
                    let result = self.aggregate.result(due.table.value(slot));
                    emit_result(&mut self.function, of, window, result, ctx, out);
                }
                due.cursor += 1;
            }
            let done = self.windows.pop_front().expect("it was the first");
            self.last = self.last.saturating_sub(1);
            if horizon_ms < done.end_ms - 1 + allowed_ms {
                self.fired.insert(done.end_ms, done.table);
            } else {
                self.spare = Some(done.table.recycled());
            }
        }
        while let Some(oldest) = self.fired.first_entry()
            && oldest.key() - 1 + allowed_ms <= horizon_ms
        {
            self.spare = Some(oldest.remove().recycled());
        }
        Progress::Done
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
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        if let Some(open) = self.windows.get_mut(self.last) {
            open.table.prefetch(ahead);
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
        if let Some(row) = self.take_in(self.piece, (row, reading), ctx, out) {
            self.piece = Piece::NONE;
            self.wait(row, ctx);
        }
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        match self.by.domain {
            // Only rows of event time come late, and wait.
            TimeDomain::Event => match self.take_waiting(ctx, out) {
                Progress::Done => self.fire(watermark_ms, ctx, out),
                Progress::Pending => Progress::Pending,
            },
            TimeDomain::Processing => Progress::Done,
        }
    }

    fn next_time_ms(&self) -> Option<i64> {
        match self.by.domain {
            TimeDomain::Event => None,
            TimeDomain::Processing => self.windows.front().map(|open| open.end_ms),
        }
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        let horizon_ms = self.clock.turn(ctx);
        self.fire(horizon_ms, ctx, out)
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

    fn is_ready(&self) -> bool {
        self.waiting.is_empty()
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(self.waiting.is_empty(), "an operator that is not ready is not cut");
        let mut put = |state, end_ms, table: &KeyTable<K, A::Accumulator>, slot| {
            let (hash64, key) = (table.hash64(slot), table.key(slot));
            let place = Place { window_bucket: end_ms, ..Place::default() };
            let sum = self.aggregate.stored(table.value(slot));
            KeyWriter::new(writer, self.groups, hash64, key).put(state, place, sum);
        };
        for Open { end_ms, table, cursor, early } in &self.windows {
            for slot in table.slots() {
                let has_fired = slot.0 < *cursor || early.contains(&slot);
                put(if has_fired { FIRED } else { OPEN }, *end_ms, table, slot);
            }
        }
        for (end_ms, table) in &self.fired {
            table.slots().for_each(|slot| put(FIRED, *end_ms, table, slot));
        }
    }

    /// Windows that have fired are put among the others, all their keys early: the next firing
    /// sorts them out.
    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for state in [OPEN, FIRED] {
            for entry in stored::read::<K, A::Stored>(reader, state, ctx)? {
                let end_ms = entry.window_bucket;
                let index = self.find(end_ms).unwrap_or_else(|index| {
                    self.windows.insert(index, Open::new(end_ms, self.hashes, self.spare.take()));
                    index
                });
                let open = &mut self.windows[index];
                let restored = || self.aggregate.restored(entry.value);
                let slot = open.table.find_or_insert_with(entry.hash64, entry.key, restored);
                if state.1 == FIRED.1 {
                    open.early.insert(slot);
                }
            }
        }
        Ok(())
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

    fn take(
        &mut self,
        row: (Row<A::In>, Reading),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let piece = self.by.slices.piece_at(row.1.time_ms);
        self.take_in(piece, row, ctx, out)
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
