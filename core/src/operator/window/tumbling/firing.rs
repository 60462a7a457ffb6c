//! The firing of windows, in slices.
//!
//! ```text
//! partials of the window, in stored order, each merged with what the table has of its key
//!    │  all of them (none if nothing has left memory)
//!    ▼
//! slots of the table, but for those that have fired ──► the window is kept for late rows, or gone
//! ```
//!
//! While windows fire of which something has left memory, late rows are parked: what they need is
//! about to be read anyway. What is due later than they came waits for them.

use super::{Open, Stored, TumblingWindows};
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::waiting::WaitingRows;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::emit_result;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::partials::{Accumulators, Merged, Partials};
use crate::operator::{OperatorContext, Output, Progress};
use crate::state::shard_store::Seen;

impl<K, S, A, F> TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Fires the windows of one key that are due; `Pending` if there are more of them than are
    /// fired in one go.
    pub(super) fn catch_up(
        &mut self,
        (key, hash64): (&K, u64),
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        let mut left = INPUT_BUDGET_RECORDS;
        for open in self.windows.iter_mut().take_while(|open| open.end_ms - 1 <= horizon_ms) {
            ctx.env().spend_more(1);
            let Some(slot) = open.sums.table.find(hash64, key) else { continue };
            if open.mark_fired(slot) {
                let window = self.by.slices.window(open.end_ms);
                let result = self.aggregate.result(open.sums.table.value(slot));
                emit_result(&mut self.function, (key, hash64), window, result, ctx, out);
                left -= 1;
                if left == 0 {
                    return Progress::Pending;
                }
            }
        }
        Progress::Done
    }

    /// Fires what is due at `watermark_ms`, and what parked rows have come behind before that.
    pub(super) fn fire_event_time(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        loop {
            let first_ms = self.parked.first_behind_ms().unwrap_or(watermark_ms);
            let until_ms = first_ms.min(watermark_ms);
            if self.fire(until_ms, ctx, out) == Progress::Pending {
                return Progress::Pending;
            }
            for hash64 in std::mem::take(&mut self.deferred) {
                self.parked.on_read(hash64);
            }
            if self.take_parked(ctx, out) == Progress::Pending {
                return Progress::Pending;
            }
            if until_ms == watermark_ms {
                return Progress::Done;
            }
            if self.parked.first_behind_ms() == Some(until_ms) {
                return Progress::Pending;
            }
        }
    }

    /// Fires what is due at `horizon_ms` as far as the budget goes.
    pub(super) fn fire(
        &mut self,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        if self.gathering.is_some() {
            return Progress::Pending;
        }
        let allowed_ms = self.lateness.allowed_ms();
        while self.windows.front().is_some_and(|open| open.end_ms - 1 <= horizon_ms) {
            if self.fire_stored(ctx, out) == Progress::Pending
                || self.fire_first(ctx, out) == Progress::Pending
            {
                return Progress::Pending;
            }
            let done = self.windows.pop_front().expect("it was the first");
            self.last = self.last.saturating_sub(1);
            let Open { end_ms, mut sums, .. } = done;
            if horizon_ms < end_ms - 1 + allowed_ms {
                if let Some(partials) = &mut self.partials {
                    partials.count(&mut sums);
                }
                self.fired.insert(end_ms, sums);
            } else {
                self.forget(sums, ctx);
            }
        }
        while let Some(oldest) = self.fired.first_entry()
            && oldest.key() - 1 + allowed_ms <= horizon_ms
        {
            let sums = oldest.remove();
            self.forget(sums, ctx);
        }
        if let (Some(partials), Some(store)) = (&mut self.partials, ctx.env().store.get()) {
            partials.pass(horizon_ms.saturating_add(2).saturating_sub(allowed_ms), store);
        }
        Progress::Done
    }

    /// Fires what the table of the first window has.
    fn fire_first(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) -> Progress {
        let due = self.windows.front_mut().expect("a window is due");
        let window = self.by.slices.window(due.end_ms);
        while due.cursor < due.sums.table.slot_count() {
            let slot = Slot(due.cursor);
            if let Some((hash64, key, sum)) = due.sums.table.get_entry(slot)
                && (due.early.is_empty() || !due.early.remove(&slot))
            {
                if !ctx.env().spend() {
                    return Progress::Pending;
                }
                let result = self.aggregate.result(sum);
                emit_result(&mut self.function, (key, hash64), window, result, ctx, out);
            }
            due.cursor += 1;
        }
        Progress::Done
    }

    /// Fires what the store has of the first window.
    fn fire_stored(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress {
        let (Some(partials), Some(store)) = (&mut self.partials, ctx.env().store.get()) else {
            return Progress::Done;
        };
        let Open { end_ms, sums, early, stored, .. } =
            self.windows.front_mut().expect("a window is due");
        if matches!(stored, Stored::Unseen) {
            let Some(walk) = Partials::walk(sums, store) else { return Progress::Done };
            *stored = Stored::Walked(Box::new(walk));
        }
        let Stored::Walked(walk) = stored else { return Progress::Done };
        let window = self.by.slices.window(*end_ms);
        let is_kept = 0 < self.lateness.allowed_ms();
        loop {
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            match partials.next::<K, A>(walk, &self.aggregate, store) {
                Ok(Seen::Entry(Merged { hash64, key, mut sum })) => {
                    if let Some(slot) = sums.table.find(hash64, &key) {
                        let newer = if is_kept {
                            early.insert(slot);
                            sums.table.value(slot).clone()
                        } else {
                            sums.table.remove_slot(slot).1
                        };
                        self.aggregate.merge(&mut sum, newer);
                    }
                    let result = self.aggregate.result(&sum);
                    emit_result(&mut self.function, (&key, hash64), window, result, ctx, out);
                }
                Ok(Seen::Pending) => return Progress::Pending,
                Ok(Seen::Done) => {
                    *stored = Stored::Seen;
                    return Progress::Done;
                }
                Err(error) => {
                    ctx.fail(error);
                    return Progress::Pending;
                }
            }
        }
    }

    /// A window is gone.
    fn forget(&mut self, sums: Accumulators<K, A::Accumulator>, ctx: &OperatorContext<'_>) {
        let may_serve = match (&mut self.partials, ctx.env().store.get()) {
            (Some(partials), Some(store)) => partials.forget(&sums, store),
            _ => true,
        };
        if may_serve {
            self.spare = Some(sums.table.recycled());
        }
    }
}
