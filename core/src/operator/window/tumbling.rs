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
//! Not here: windows that overlap (`sliding.rs`), triggers, evictors, sessions (`general.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::Row;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
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
    /// The slice of the last row.
    piece: Piece,
    /// By end (ms): fired completely, kept for records that are late but not too late.
    fired: BTreeMap<i64, KeyTable<K, A::Accumulator>>,
    /// The last window that is gone, emptied: the next one begins in its memory.
    spare: Option<KeyTable<K, A::Accumulator>>,
}

#[derive(Clone)]
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

    /// A row of a window that is due: it has fired, or is about to.
    #[cold]
    fn on_due_row(
        &mut self,
        end_ms: i64,
        row: Row<A::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let Row { hash64, value, .. } = row;
        let key = (self.key_of)(&value);
        let window = self.by.slices.window(end_ms);
        let aggregate = &self.aggregate;
        let function = &mut self.function;
        let mut emit = |of: (&K, u64), sum: &A::Accumulator| {
            emit_result(function, of, window, aggregate.result(sum), ctx, out);
        };
        let index = self.windows.binary_search_by_key(&end_ms, |open| open.end_ms);
        let (table, slot) = match index {
            Ok(index) => {
                let Open { table, cursor, early, .. } = &mut self.windows[index];
                let known = table.find(hash64, &key);
                if let Some(slot) = known
                    && *cursor <= slot.0
                    && !early.contains(&slot)
                {
                    emit((&key, hash64), table.value(slot));
                }
                let slot = known.unwrap_or_else(|| {
                    table.find_or_insert_with(hash64, key, || aggregate.create())
                });
                early.insert(slot);
                (table, slot)
            }
            Err(_) => {
                let hashes = self.hashes;
                let table = self.fired.entry(end_ms).or_insert_with(|| KeyTable::new(hashes));
                let slot = table.find_or_insert_with(hash64, key, || aggregate.create());
                (table, slot)
            }
        };
        aggregate.add(table.value_mut(slot), value);
        emit((table.key(slot), hash64), table.value(slot));
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
        if let Some(open) = self.windows.get(self.last) {
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
        let Some(Reading { time_ms, horizon_ms }) = self.clock.read(&row, ctx) else { return };
        let allowed_ms = self.lateness.allowed_ms();
        if !self.piece.contains(time_ms) {
            self.piece = self.by.slices.piece_at(time_ms);
        }
        let Some(end_ms) = self.piece.first_end_ms else {
            // Between two windows: nothing waits for it, but late is late.
            if time_ms + allowed_ms <= horizon_ms {
                self.lateness.put_aside(row, ctx);
            }
            return;
        };
        if end_ms - 1 <= horizon_ms {
            if end_ms - 1 + allowed_ms <= horizon_ms {
                self.lateness.put_aside(row, ctx);
            } else {
                self.on_due_row(end_ms, row, ctx, out);
            }
            return;
        }
        self.last = self.find(end_ms).unwrap_or_else(|index| {
            self.windows.insert(index, Open::new(end_ms, self.hashes, self.spare.take()));
            index
        });
        let key = (self.key_of)(&row.value);
        let table = &mut self.windows[self.last].table;
        let sum = table.get_or_insert_with(row.hash64, key, || self.aggregate.create());
        self.aggregate.add(sum, row.value);
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        match self.by.domain {
            TimeDomain::Event => self.fire(watermark_ms, ctx, out),
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

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
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

impl<K, S, A, F> Clone for TumblingWindows<K, S, A, F>
where
    K: Key,
    S: Clone,
    A: WindowAggregate,
    F: Clone,
{
    fn clone(&self) -> Self {
        Self {
            key_of: self.key_of.clone(),
            by: self.by.clone(),
            aggregate: self.aggregate.clone(),
            function: self.function.clone(),
            lateness: self.lateness,
            clock: self.clock,
            groups: self.groups,
            hashes: self.hashes,
            windows: self.windows.clone(),
            last: self.last,
            piece: self.piece,
            fired: self.fired.clone(),
            spare: None,
        }
    }
}
