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
//! A key that is due when a row of it comes is brought up to date first; if that is much, the row
//! waits (`operator/waiting.rs`). So is one whose row is behind the watermark: the row counts in
//! all windows that have not fired, and with allowed lateness those that have fire again.
//!
//! When memory is short, keys that were not used lately leave it (`sliding/leaving.rs`). They keep
//! their place in the agenda; when a row comes or a window ends, they are read first.
//!
//! Not here: how one key fires (`sliding/work.rs`), snapshots (`sliding/saving.rs`); windows that
//! do not overlap (`tumbling.rs`), anything but the default trigger (`general.rs`).

mod leaving;
mod saving;
#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::{NO_EVENT_TIME, Row};
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::spilling;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::window::agenda::Agenda;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::panes::{NEVER_MS, Panes};
use crate::operator::window::stored;
use crate::operator::window::{Clock, Lateness, Reading, SlicedBy};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::durable::Save;
use crate::state::residents::{Belongings as _, Residents};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::time::slices::Piece;
use crate::time::window::TimeDomain;
use leaving::Turn;
use saving::{FIRE_END, Part};
use work::Work;

/// Aggregates every key over windows that overlap: sliding or cumulative.
pub struct SlidingWindows<K, S, A: WindowAggregate, F> {
    key_of: S,
    work: Work<A, F>,
    clock: Clock,
    groups: KeyGroupCount,
    keys: Residents<K, Panes<A::Accumulator>>,
    agenda: Agenda,
    /// The slice of the last row; none while rows wait, so that `on_row` need not ask.
    piece: Piece,
    waiting: VecDeque<(Row<A::In>, Reading)>,
    parked: Parked<(Row<A::In>, Reading)>,
    /// The watermark is not done, and will call again.
    is_pending: bool,
}

/// So many firings ahead a key's entries are asked for, and twice as many ahead its panes: a firing
/// takes some 20 ns, a line from memory 100.
const FIRE_AHEAD: usize = 4;

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
            work: Work::new(by, aggregate, function, lateness),
            piece: Piece::NONE,
            waiting: VecDeque::new(),
            parked: Parked::default(),
            is_pending: false,
            groups: KeyGroupCount::new(1).expect("in range"),
            keys: Residents::new(HashRange::ALL),
            agenda: Agenda::default(),
        }
    }

    /// Puts the key where it has something to do next, or forgets it if it has not.
    fn settle(&mut self, slot: Slot, horizon_ms: i64) {
        let panes = self.keys.value_mut(slot);
        self.work.forget(panes, horizon_ms);
        let due_ms = self.work.due_ms(panes);
        if due_ms == NEVER_MS {
            self.keys.forget(slot);
            return;
        }
        if due_ms != panes.due_ms {
            panes.due_ms = due_ms;
            self.agenda.push(due_ms, slot);
        }
        self.note_change(slot);
    }

    /// Takes the rows that wait, then fires what is due at `horizon_ms`, as far as the budget goes.
    fn take_waiting_and_fire(
        &mut self,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        match self.take_waiting(ctx, out) {
            Progress::Done => self.fire(horizon_ms, ctx, out),
            Progress::Pending => Progress::Pending,
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
            if self.keys.get_slot(slot).is_none_or(|panes| panes.due_ms != due_ms) {
                self.agenda.pop();
                continue;
            }
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            if self.keys.has_evicted() {
                match self.prepare(slot, ctx) {
                    Turn::Wait => return Progress::Pending,
                    Turn::Over => {
                        self.agenda.pop();
                        continue;
                    }
                    Turn::Now => {}
                }
            }
            self.keep(slot);
            let (hash64, key, panes) = self.keys.entry_mut(slot);
            if panes.fire_end_ms - 1 == due_ms {
                self.work.fire((key, hash64), panes, ctx, out);
            }
            self.work.forget(panes, horizon_ms);
            panes.due_ms = self.work.due_ms(panes);
            self.agenda.pop();
            match panes.due_ms {
                NEVER_MS => drop(self.keys.forget(slot)),
                due_ms => {
                    self.agenda.push(due_ms, slot);
                    self.note_change(slot);
                }
            }
            self.make_room(ctx);
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
        let Piece { slice, first_end_ms, last_end_ms, .. } = piece;
        // Between two windows nothing waits for the row, but late is late.
        let last_ms = first_end_ms.map_or(time_ms, |_| last_end_ms - 1);
        if last_ms + self.work.lateness.allowed_ms() <= horizon_ms {
            self.work.lateness.put_aside(row, ctx);
            return None;
        }
        let first_ms = first_end_ms?;
        let key = (self.key_of)(&row.value);
        let slot = self.keys.find_or_insert_with(row.hash64, key, Panes::default);
        self.keys.note_use(slot);
        self.keep(slot);
        let panes = self.keys.value_mut(slot);
        if panes.due_ms <= horizon_ms || first_ms - 1 <= horizon_ms {
            return self.take_odd((slot, slice), (row, reading), ctx, out);
        }
        panes.add_open(slice, row.value, &self.work.aggregate);
        if first_ms < panes.fire_end_ms {
            panes.fire_end_ms = first_ms;
            panes.due_ms = first_ms - 1;
            self.agenda.push(first_ms - 1, slot);
        }
        self.note_change(slot);
        self.make_room(ctx);
        None
    }

    /// [`SlidingWindows::take_in`] for a row that is not simply the next of its key: the key has
    /// windows to fire first, or the row is behind the clock.
    #[cold]
    fn take_odd(
        &mut self,
        (slot, slice): (Slot, i64),
        (row, reading): (Row<A::In>, Reading),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let horizon_ms = reading.horizon_ms;
        let (hash64, key, panes) = self.keys.entry_mut(slot);
        let of = (key, hash64);
        if self.work.catch_up(of, panes, horizon_ms, ctx, out) == Progress::Pending {
            self.settle(slot, horizon_ms);
            return Some((row, reading));
        }
        let first_ms = self.work.by.slices.first_end_ms(slice).unwrap_or(NEVER_MS);
        if horizon_ms < first_ms - 1 {
            panes.add_open(slice, row.value, &self.work.aggregate);
            panes.fire_end_ms = panes.fire_end_ms.min(first_ms);
        } else {
            self.work.on_closed_slice(of, panes, (slice, row.value, horizon_ms), ctx, out);
        }
        self.settle(slot, horizon_ms);
        None
    }
}

impl<K, S, A, F> WaitingRows for SlidingWindows<K, S, A, F>
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

    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<(Row<A::In>, Reading)>> {
        Some(&mut self.parked)
    }

    #[inline]
    fn hash64_of((row, _): &(Row<A::In>, Reading)) -> u64 {
        row.hash64
    }

    fn admit(&mut self, (row, _): &(Row<A::In>, Reading), ctx: &OperatorContext<'_>) -> bool {
        if !self.keys.has_evicted() {
            return true;
        }
        let key = (self.key_of)(&row.value);
        let (keys, mut leaving) = self.split();
        spilling::admit(keys, (row.hash64, &key), &mut leaving, ctx)
    }

    fn take(
        &mut self,
        row: (Row<A::In>, Reading),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Option<(Row<A::In>, Reading)> {
        let piece = self.work.by.slices.piece_at(row.1.time_ms);
        self.take_in(piece, row, ctx, out)
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
        self.keys = spilling::open(ctx);
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
        let Some(reading) = self.clock.read(&row, ctx) else { return };
        if self.keys.has_evicted() {
            self.take_or_wait((row, reading), ctx, out);
            return;
        }
        if !self.piece.contains(reading.time_ms) {
            if !self.waiting.is_empty() {
                self.wait((row, reading), ctx);
                return;
            }
            self.piece = self.work.by.slices.piece_at(reading.time_ms);
        }
        if let Some(row) = self.take_in(self.piece, (row, reading), ctx, out) {
            self.piece = Piece::NONE;
            self.wait(row, ctx);
        }
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<F::Out>,
    ) -> Option<i64> {
        let (keys, leaving) = self.split();
        spilling::recharge(keys, &leaving, ctx);
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        self.is_pending = true;
        let progress = match self.work.by.domain {
            TimeDomain::Event => self.take_waiting_and_fire(watermark_ms, ctx, out),
            TimeDomain::Processing => Progress::Done,
        };
        self.is_pending =
            progress == Progress::Pending || self.parked.has_some_before(watermark_ms);
        if self.is_pending { Progress::Pending } else { Progress::Done }
    }

    fn next_time_ms(&self) -> Option<i64> {
        let is_by_watermark = self.work.by.domain == TimeDomain::Event;
        let must_wait = self.keys.is_full() || self.is_pending && is_by_watermark;
        if self.parked.wants_call(self.waiting.len(), !must_wait) {
            // The clock may have been set back since they came.
            return Some(NO_EVENT_TIME);
        }
        let due_ms = self.agenda.next_ms().filter(|_| !is_by_watermark);
        due_ms.map(|due_ms| due_ms + 1)
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        match self.work.by.domain {
            TimeDomain::Event => self.take_waiting(ctx, out),
            TimeDomain::Processing => {
                let horizon_ms = self.clock.turn(ctx);
                self.take_waiting_and_fire(horizon_ms, ctx, out)
            }
        }
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending || !self.parked.is_empty() {
            return Progress::Pending;
        }
        match self.work.by.domain {
            TimeDomain::Event => Progress::Done,
            TimeDomain::Processing => self.fire(NEVER_MS - 1, ctx, out),
        }
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && !self.parked.is_full() && !self.keys.is_full()
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
        let (keys, mut leaving) = self.split();
        spilling::evict(keys, steps, &mut leaving, ctx)
    }

    fn has_waiting_rows(&self) -> bool {
        !self.waiting.is_empty() || !self.parked.is_empty()
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if self.has_waiting_rows() {
            return Progress::Pending;
        }
        let (keys, mut leaving) = self.split();
        spilling::gather(keys, &mut leaving, ctx)
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        spilling::cut(&mut self.keys, checkpoint, ctx);
    }

    fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        let (keys, leaving) = self.split();
        spilling::save(keys, save, &leaving, ctx)
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.keys.is_saved(checkpoint)
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(!self.has_waiting_rows(), "an operator that is not ready is not cut");
        if self.keys.is_durable() {
            return;
        }
        self.keys.save_cold(writer);
        for slot in self.keys.slots().filter(|slot| !self.keys.is_cold(*slot)) {
            let of = (self.keys.hash64(slot), self.keys.key(slot));
            self.leaving().save(slot, of, self.keys.value(slot), writer);
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
            self.note_change(slot);
        }
        Ok(())
    }
}

/// A clone has seen nothing.
impl<K, S, A, F> Clone for SlidingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + Clone + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    fn clone(&self) -> Self {
        let Work { by, aggregate, function, lateness, .. } = &self.work;
        let (by, key_of) = (by.clone(), self.key_of.clone());
        Self::new(by, key_of, aggregate.clone(), function.clone(), *lateness)
    }
}
