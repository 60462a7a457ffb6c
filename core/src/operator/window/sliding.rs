//! Windows that overlap, with an accumulator per slice: what a record costs does not depend on how
//! many windows cover it.
//!
//! A record is added to the slice that its time is in (`time/slices.rs`). When a window ends, every
//! key that has something in it is brought to that window and emits its sum: one merge for the
//! window and two for the slice, whatever the window's length (`panes.rs`). Which keys those are is
//! in the agenda: a key stands in it once, under the end of its next window.
//!
//! ```text
//! row ──► table: key ──► Panes { front, back, open slices }
//!                          │ due at the end of its next window
//! agenda:  10:00:01 ──► keys …      fired in this order, as far as the budget goes
//! ```
//!
//! A key that is due when a row of it comes is brought up to date first. So is one whose row is
//! behind the watermark: the row counts in all windows that have not fired, and with allowed
//! lateness those that have fire again.
//!
//! Not here: windows that do not overlap (`tumbling.rs`), anything but the default trigger
//! (`general.rs`).

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::Row;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::window::agenda::Agenda;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::panes::{NEVER_MS, Pane, Panes};
use crate::operator::window::stored::{self, Entry, KeyWriter, Place, StateName};
use crate::operator::window::{Clock, Lateness, Reading, SlicedBy, emit_result};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;
use crate::time::slices::Piece;
use crate::time::window::TimeDomain;

/// Aggregates every key over windows that overlap: sliding or cumulative.
#[derive(Clone)]
pub struct SlidingWindows<K, S, A: WindowAggregate, F> {
    key_of: S,
    work: Work<A, F>,
    clock: Clock,
    groups: KeyGroupCount,
    keys: KeyTable<K, Panes<A::Accumulator>>,
    agenda: Agenda,
    /// The slice of the last row.
    piece: Piece,
}

/// What firing needs besides the keys.
struct Work<A: WindowAggregate, F> {
    by: SlicedBy,
    aggregate: A,
    function: F,
    lateness: Lateness<A::In>,
    /// End (ms) of the window fired last, its first slice, and the one behind it: all keys fire the
    /// same window one after the other.
    span: (i64, i64, i64),
}

impl<A: WindowAggregate, F: Clone> Clone for Work<A, F> {
    fn clone(&self) -> Self {
        Self {
            by: self.by.clone(),
            aggregate: self.aggregate.clone(),
            function: self.function.clone(),
            lateness: self.lateness,
            span: self.span,
        }
    }
}

/// So many firings ahead a key's entries are asked for, and twice as many ahead its panes: a firing
/// takes some 20 ns, a line from memory 100.
const FIRE_AHEAD: usize = 4;

/// Slices whose merging costs about as much as a record does.
const MERGES_PER_UNIT: usize = 16;

impl<A: WindowAggregate, F> Work<A, F> {
    /// Fires the window that ends at `end_ms` for one key, and sets the next one.
    #[inline]
    fn fire<K>(
        &mut self,
        of: (&K, u64),
        panes: &mut Panes<A::Accumulator>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) where
        F: WindowFunction<K, A::Out>,
    {
        let slices = &self.by.slices;
        let end_ms = panes.fire_end_ms;
        if self.span.0 != end_ms {
            self.span = (end_ms, slices.first_slice(end_ms), slices.slice_behind(end_ms));
        }
        let (_, first, behind) = self.span;
        let keeps_history = self.lateness.allowed_ms() > 0;
        let (sum, merge_count) = panes.fire(first, behind, keeps_history, &self.aggregate);
        panes.fire_end_ms = self.next_end_ms(panes, end_ms);
        if merge_count > 0 {
            ctx.env().spend_more((merge_count / MERGES_PER_UNIT) as u32);
        }
        if let Some(sum) = sum {
            let result = self.aggregate.result(&sum);
            emit_result(&mut self.function, of, slices.window(end_ms), result, ctx, out);
        }
    }

    /// The end of the next window with something in it, after the one that ends at `end_ms`.
    #[inline]
    fn next_end_ms(&self, panes: &Panes<A::Accumulator>, end_ms: i64) -> i64 {
        let slices = &self.by.slices;
        let next_ms = slices.next_end_ms(end_ms);
        if panes.newest_closed().is_some_and(|newest| next_ms <= slices.last_end_ms(newest)) {
            return next_ms;
        }
        let open = panes.oldest_open().and_then(|oldest| slices.first_end_ms(oldest));
        open.unwrap_or(NEVER_MS)
    }

    /// Fires every window of one key that is due.
    fn catch_up<K>(
        &mut self,
        of: (&K, u64),
        panes: &mut Panes<A::Accumulator>,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) where
        F: WindowFunction<K, A::Out>,
    {
        while panes.fire_end_ms - 1 <= horizon_ms && panes.fire_end_ms != NEVER_MS {
            self.fire(of, panes, ctx, out);
        }
    }

    /// When the key has something to do next: to fire, or only to be forgotten.
    #[inline]
    fn due_ms(&self, panes: &Panes<A::Accumulator>) -> i64 {
        if panes.fire_end_ms != NEVER_MS {
            return panes.fire_end_ms - 1;
        }
        let newest = panes.history().next_back();
        newest.map_or(NEVER_MS, |pane| self.forget_ms(pane.slice))
    }

    /// When the last window that covers `slice` can fire no more.
    fn forget_ms(&self, slice: i64) -> i64 {
        self.by.slices.last_end_ms(slice) - 1 + self.lateness.allowed_ms()
    }

    #[inline]
    fn forget(&self, panes: &mut Panes<A::Accumulator>, horizon_ms: i64) {
        if self.lateness.allowed_ms() > 0 {
            let is_gone = |pane: &Pane<A::Accumulator>| self.forget_ms(pane.slice) <= horizon_ms;
            let history = panes.history_mut();
            while history.front().is_some_and(is_gone) {
                history.pop_front();
            }
        }
    }

    /// A row behind the clock, of a key that is up to date: adds it to what has not fired, and
    /// fires again what has and may.
    #[cold]
    fn on_closed_slice<K>(
        &mut self,
        of: (&K, u64),
        panes: &mut Panes<A::Accumulator>,
        late: (i64, A::In, i64),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) where
        F: WindowFunction<K, A::Out>,
    {
        let (slice, value, horizon_ms) = late;
        let slices = self.by.slices;
        let allowed_ms = self.lateness.allowed_ms();
        let next_ms = slices.end_after_ms(horizon_ms + 1);
        panes.evict(slices.first_slice(next_ms), &self.aggregate);
        let next_first = slices.first_slice(next_ms);
        panes.add_closed(slice, value, next_first, allowed_ms > 0, &self.aggregate);
        if next_ms <= slices.last_end_ms(slice) {
            panes.fire_end_ms = panes.fire_end_ms.min(next_ms);
        }
        if allowed_ms == 0 {
            return;
        }
        let oldest_ms = slices.end_after_ms(horizon_ms.saturating_sub(allowed_ms) + 1);
        let first_ms = slices.first_end_ms(slice).map_or(oldest_ms, |end_ms| end_ms.max(oldest_ms));
        let last_ms = slices.last_end_ms(slice).min(next_ms - 1);
        for (end_ms, sum) in panes.sums_around(slice, first_ms, last_ms, &slices, &self.aggregate) {
            let result = self.aggregate.result(&sum);
            emit_result(&mut self.function, of, slices.window(end_ms), result, ctx, out);
        }
    }
}

impl<K, S, A, F> SlidingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Aggregates the rows of each key (`key_of(record)`, hashed to the row's hash) over the
    /// windows of `by`, and hands the result to `function`.
    pub fn new(
        by: SlicedBy,
        key_of: S,
        aggregate: A,
        function: F,
        lateness: Lateness<A::In>,
    ) -> Self {
        Self {
            key_of,
            clock: Clock::new(by.domain),
            work: Work { by, aggregate, function, lateness, span: (NEVER_MS, 0, 0) },
            piece: Piece::NONE,
            groups: KeyGroupCount::new(1).expect("in range"),
            keys: KeyTable::new(HashRange::ALL),
            agenda: Agenda::default(),
        }
    }

    /// Puts the key where it has something to do next, or forgets it if it has not.
    fn settle(&mut self, slot: Slot, horizon_ms: i64) {
        let panes = self.keys.value_mut(slot);
        self.work.forget(panes, horizon_ms);
        let due_ms = self.work.due_ms(panes);
        if due_ms == NEVER_MS {
            self.keys.remove_slot(slot);
        } else if due_ms != panes.due_ms {
            panes.due_ms = due_ms;
            self.agenda.push(due_ms, slot);
        }
    }

    /// Fires what is due at `horizon_ms` as far as the budget goes.
    fn fire(
        &mut self,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        while let Some((due_ms, slot)) = self.agenda.first(horizon_ms) {
            self.look_ahead();
            let of_slot = self.keys.get_entry_mut(slot);
            let Some((hash64, key, panes)) = of_slot.filter(|(.., panes)| panes.due_ms == due_ms)
            else {
                self.agenda.pop();
                continue;
            };
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            if panes.fire_end_ms - 1 == due_ms {
                self.work.fire((key, hash64), panes, ctx, out);
            }
            self.work.forget(panes, horizon_ms);
            panes.due_ms = self.work.due_ms(panes);
            self.agenda.pop();
            match panes.due_ms {
                NEVER_MS => drop(self.keys.remove_slot(slot)),
                due_ms => self.agenda.push(due_ms, slot),
            }
        }
        Progress::Done
    }

    /// Asks for what the firings to come will read: the keys' panes, and the ends of the panes'
    /// entries, which lie somewhere else for every key.
    #[inline]
    fn look_ahead(&self) {
        if let Some(slot) = self.agenda.ahead(2 * FIRE_AHEAD) {
            self.keys.prefetch_slot(slot);
        }
        if let Some(panes) = self.agenda.ahead(FIRE_AHEAD).and_then(|slot| self.keys.get_slot(slot))
        {
            panes.prefetch();
        }
    }

    /// A row that is not simply the next of its key: the key has windows to fire first, or the row
    /// is behind the clock.
    #[cold]
    fn on_odd_row(
        &mut self,
        slot: Slot,
        slice: i64,
        value: A::In,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let (hash64, key, panes) = self.keys.entry_mut(slot);
        let of = (key, hash64);
        self.work.catch_up(of, panes, horizon_ms, ctx, out);
        let first_ms = self.work.by.slices.first_end_ms(slice).unwrap_or(NEVER_MS);
        if horizon_ms < first_ms - 1 {
            panes.add_open(slice, value, &self.work.aggregate);
            panes.fire_end_ms = panes.fire_end_ms.min(first_ms);
        } else {
            self.work.on_closed_slice(of, panes, (slice, value, horizon_ms), ctx, out);
        }
        self.settle(slot, horizon_ms);
    }
}

impl<K, S, A, F> Operator for SlidingWindows<K, S, A, F>
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
        let side_outputs = WindowFunction::<K, A::Out>::side_outputs(&self.work.function);
        self.work.by.facts(&self.work.lateness, side_outputs)
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.groups = ctx.env().task.key_group_count;
        self.keys = KeyTable::new(ctx.env().task.hashes());
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.keys.prefetch(ahead);
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<A::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        let Some(Reading { time_ms, horizon_ms }) = self.clock.read(&row, ctx) else { return };
        if !self.piece.contains(time_ms) {
            self.piece = self.work.by.slices.piece_at(time_ms);
        }
        let Piece { slice, first_end_ms, last_end_ms, .. } = self.piece;
        // Between two windows nothing waits for the row, but late is late.
        let last_ms = first_end_ms.map_or(time_ms, |_| last_end_ms - 1);
        if last_ms + self.work.lateness.allowed_ms() <= horizon_ms {
            self.work.lateness.put_aside(row, ctx);
            return;
        }
        let Some(first_ms) = first_end_ms else { return };
        let key = (self.key_of)(&row.value);
        let slot = self.keys.find_or_insert_with(row.hash64, key, Panes::default);
        let panes = self.keys.value_mut(slot);
        if panes.due_ms <= horizon_ms || first_ms - 1 <= horizon_ms {
            self.on_odd_row(slot, slice, row.value, horizon_ms, ctx, out);
            return;
        }
        panes.add_open(slice, row.value, &self.work.aggregate);
        if first_ms < panes.fire_end_ms {
            panes.fire_end_ms = first_ms;
            panes.due_ms = first_ms - 1;
            self.agenda.push(first_ms - 1, slot);
        }
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        match self.work.by.domain {
            TimeDomain::Event => self.fire(watermark_ms, ctx, out),
            TimeDomain::Processing => Progress::Done,
        }
    }

    fn next_time_ms(&self) -> Option<i64> {
        match self.work.by.domain {
            TimeDomain::Event => None,
            TimeDomain::Processing => self.agenda.next_ms().map(|due_ms| due_ms + 1),
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
        match self.work.by.domain {
            TimeDomain::Event => Progress::Done,
            TimeDomain::Processing => self.fire(NEVER_MS - 1, ctx, out),
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for slot in self.keys.slots() {
            let (hash64, key, panes) =
                (self.keys.hash64(slot), self.keys.key(slot), self.keys.value(slot));
            self.save(&mut KeyWriter::new(writer, self.groups, hash64, key), panes);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for part in Part::ALL {
            for entry in stored::read::<K, A::Stored>(reader, part.state(), ctx)? {
                self.load(part, entry, ctx)?;
            }
        }
        for entry in stored::read::<K, i64>(reader, FIRE_END, ctx)? {
            let slot = self.keys.find(entry.hash64, &entry.key);
            let slot = slot.ok_or_else(|| {
                stored::damaged(FIRE_END, ctx, &"a key has a next window and nothing in it")
            })?;
            let panes = self.keys.value_mut(slot);
            panes.fire_end_ms = entry.value;
            panes.due_ms = self.work.due_ms(panes);
            self.agenda.push(panes.due_ms, slot);
        }
        Ok(())
    }
}

/// End of the key's next window, ms. Read last.
const FIRE_END: StateName = StateName("fire_end", 0);

/// Where in a key's panes a sum belongs. Front and back are kept as they are: the order in which
/// sums of floats were added up survives a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Front,
    Back,
    Open,
    BackSum,
    Straggler,
    History,
}

impl Part {
    /// In the order in which they are restored.
    const ALL: [Self; 6] =
        [Self::Front, Self::Back, Self::Open, Self::BackSum, Self::Straggler, Self::History];

    fn state(self) -> StateName {
        match self {
            Self::Front => StateName("front", 1),
            Self::Back => StateName("back", 2),
            Self::Open => StateName("open", 3),
            Self::BackSum => StateName("back_sum", 4),
            Self::Straggler => StateName("straggler", 5),
            Self::History => StateName("history", 6),
        }
    }
}

impl<K, S, A, F> SlidingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Writes the panes of one key. A slice's bucket is the end of the last window that covers it.
    fn save(&self, writer: &mut KeyWriter<'_, '_>, panes: &Panes<A::Accumulator>) {
        let slices = &self.work.by.slices;
        let mut put = |part: Part, slice, sum| {
            let map_key = stored::ordered(slice);
            let window_bucket = slices.last_end_ms(slice);
            let place = Place { window_bucket, map_key: &map_key, ..Place::default() };
            writer.put(part.state(), place, self.work.aggregate.stored(sum));
        };
        let closed_len = panes.front_len + panes.back_len;
        for (index, pane) in panes.entries.iter().chain(&panes.newest).enumerate() {
            let part = match index {
                _ if index < panes.front_len => Part::Front,
                _ if index < closed_len => Part::Back,
                _ => Part::Open,
            };
            put(part, pane.slice, &pane.sum);
        }
        if let (Some(sum), Some(newest)) = (&panes.back_sum, panes.newest_closed()) {
            put(Part::BackSum, newest, sum);
        }
        panes.stragglers().for_each(|pane| put(Part::Straggler, pane.slice, &pane.sum));
        panes.history().for_each(|pane| put(Part::History, pane.slice, &pane.sum));
        writer.put(FIRE_END, Place::default(), &panes.fire_end_ms);
    }

    fn load(
        &mut self,
        part: Part,
        entry: Entry<'_, K, A::Stored>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let slice = stored::from_ordered(entry.map_key)
            .ok_or_else(|| stored::damaged(part.state(), ctx, &"no slice in the key"))?;
        let sum = self.work.aggregate.restored(entry.value);
        let panes = self.keys.get_or_insert_with(entry.hash64, entry.key, Panes::default);
        match part {
            Part::Front => panes.front_len += 1,
            Part::Back => panes.back_len += 1,
            Part::Open => {}
            Part::BackSum => {
                panes.back_sum = Some(sum);
                return Ok(());
            }
            Part::Straggler => {
                panes.restore_straggler(Pane { slice, sum });
                return Ok(());
            }
            Part::History => {
                panes.history_mut().push_back(Pane { slice, sum });
                return Ok(());
            }
        }
        panes.entries.push_back(Pane { slice, sum });
        Ok(())
    }
}
