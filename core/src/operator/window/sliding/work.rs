//! What firing needs besides the keys, and the firing of one key.

use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::panes::{NEVER_MS, Pane, Panes};
use crate::operator::window::{Lateness, SlicedBy, emit_result};
use crate::operator::{OperatorContext, Output, Progress};

/// See the module.
pub(super) struct Work<A: WindowAggregate, F> {
    pub(super) by: SlicedBy,
    pub(super) aggregate: A,
    pub(super) function: F,
    pub(super) lateness: Lateness<A::In>,
    /// End (ms) of the window fired last, its first slice, and the one behind it: all keys fire the
    /// same window one after the other.
    span: (i64, i64, i64),
}

/// Slices whose merging costs about as much as a record does.
const MERGES_PER_UNIT: usize = 16;

impl<A: WindowAggregate, F> Work<A, F> {
    pub(super) fn new(by: SlicedBy, aggregate: A, function: F, lateness: Lateness<A::In>) -> Self {
        Self { by, aggregate, function, lateness, span: (NEVER_MS, 0, 0) }
    }

    /// Fires the window that ends at `end_ms` for one key, and sets the next one.
    #[inline]
    pub(super) fn fire<K>(
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
        let (result, merge_count) = panes.fire(first, behind, keeps_history, &self.aggregate);
        panes.fire_end_ms = self.next_end_ms(panes, end_ms);
        if merge_count > 0 {
            ctx.env().spend_more((merge_count / MERGES_PER_UNIT) as u32);
        }
        if let Some(result) = result {
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

    /// Fires the windows of one key that are due; `Pending` if there are more of them than are
    /// fired in one go.
    pub(super) fn catch_up<K>(
        &mut self,
        of: (&K, u64),
        panes: &mut Panes<A::Accumulator>,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<F::Out>,
    ) -> Progress
    where
        F: WindowFunction<K, A::Out>,
    {
        let mut left = INPUT_BUDGET_RECORDS;
        while panes.fire_end_ms - 1 <= horizon_ms && panes.fire_end_ms != NEVER_MS {
            if left == 0 {
                return Progress::Pending;
            }
            left -= 1;
            ctx.env().spend_more(1);
            self.fire(of, panes, ctx, out);
        }
        Progress::Done
    }

    /// When the key has something to do next: to fire, or only to be forgotten.
    #[inline]
    pub(super) fn due_ms(&self, panes: &Panes<A::Accumulator>) -> i64 {
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
    pub(super) fn forget(&self, panes: &mut Panes<A::Accumulator>, horizon_ms: i64) {
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
    pub(super) fn on_closed_slice<K>(
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
            ctx.env().spend_more(1);
            let result = self.aggregate.result(&sum);
            emit_result(&mut self.function, of, slices.window(end_ms), result, ctx, out);
        }
    }
}
