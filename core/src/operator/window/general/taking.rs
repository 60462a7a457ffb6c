//! How the general operator takes a row: the clocks rise, what is due of its key fires, then the
//! row joins its windows.

use std::collections::VecDeque;

use crate::data::key::Key;
use crate::data::row::Row;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::window::contents::WindowContents;
use crate::operator::window::general::{Arrival, GeneralWindows};
use crate::operator::window::held::KeyWindows;
use crate::operator::{OperatorContext, Output, Progress};
use crate::time::trigger::Trigger;
use crate::time::window::{TimeDomain, WindowAssigner};

impl<K, S, W, G, C> WaitingRows for GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    type Waiting = (Option<Row<C::In>>, Arrival);

    fn waiting(&mut self) -> &mut VecDeque<(Option<Row<C::In>>, Arrival)> {
        &mut self.waiting
    }

    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<(Option<Row<C::In>>, Arrival)>> {
        Some(&mut self.parked)
    }

    #[inline]
    fn hash64_of((row, _): &(Option<Row<C::In>>, Arrival)) -> u64 {
        row.as_ref().map_or(0, |row| row.hash64)
    }

    #[inline]
    fn admit(
        &mut self,
        (row, _): &(Option<Row<C::In>>, Arrival),
        ctx: &OperatorContext<'_>,
    ) -> bool {
        let Some(row) = row.as_ref().filter(|_| self.has_evicted()) else { return true };
        let key = (self.key_of)(&row.value);
        self.admit_key((row.hash64, &key), ctx)
    }

    fn rise_for(
        &mut self,
        (_, arrival): &(Option<Row<C::In>>, Arrival),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        self.rise_to(*arrival, ctx, out)
    }

    fn take(
        &mut self,
        (row, arrival): (Option<Row<C::In>>, Arrival),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Option<(Option<Row<C::In>>, Arrival)> {
        let row = row?;
        let key = (self.key_of)(&row.value);
        let slot = self.keys.find_or_insert_with(row.hash64, key, KeyWindows::default);
        self.keys.note_use(slot);
        self.keep(slot);
        if self.catch_up(slot, ctx, out) == Progress::Pending {
            self.settle(slot);
            return Some((Some(row), arrival));
        }
        let (time_ms, horizon_ms) = match self.clock.domain {
            TimeDomain::Event => (row.event_time_ms, self.event_timers.horizon_ms()),
            TimeDomain::Processing => (self.clock.now_ms, self.clock.past_ms()),
        };
        let mut windows = std::mem::take(&mut self.windows);
        self.assigner.assign(&row.value, time_ms, &mut windows);
        if self.assigner.is_merging() {
            for window in &mut windows {
                *window = self.merge(slot, *window);
            }
        }
        let has_any = !windows.is_empty();
        windows.retain(|window| !self.is_late(*window, horizon_ms));
        let event_time_ms = row.event_time_ms;
        if let Some(last) = windows.pop() {
            for window in windows.drain(..) {
                self.add(slot, window, (row.value.clone(), event_time_ms), ctx, out);
            }
            self.add(slot, last, (row.value, event_time_ms), ctx, out);
        } else if has_any || time_ms.saturating_add(self.lateness.allowed_ms()) <= horizon_ms {
            self.lateness.put_aside(row, ctx);
        }
        windows.clear();
        self.windows = windows;
        self.settle(slot);
        self.make_room(ctx);
        None
    }
}
