//! Which accumulators leave memory when it is short, and how those of late rows come back.
//!
//! A hand goes over the slots of one window after the other. Windows that have fired go first: of
//! them only late rows will want something. Then comes the one that has most. If the keys that
//! leave it are not followed by others (rows go to another window), it is emptied as a whole, so
//! that the memory of its slots is given back and not only free.
//!
//! What a window has stays while it fires, and while a snapshot is made.

use std::collections::{BTreeMap, VecDeque};

use super::{Open, TumblingWindows};
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::operator::OperatorContext;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::partials::{Accumulators, Left};
use crate::state::table::KeyTable;

/// Accumulators that may leave when a batch ends: twice what most batches bring.
const BATCH_STEPS: u32 = 512;

/// Slots that may be looked at for one that leaves.
const LOOKS: u32 = 8;

/// A window is emptied when this part of its slots is free.
const FREE_DIVISOR: usize = 8;

/// Where the hand is.
#[derive(Debug, Default)]
pub(super) struct Hand {
    window: Option<Place>,
    slot: u32,
    /// The window is to be emptied, whether that is needed or not.
    empties: bool,
}

/// A window, by its end (ms).
#[derive(Debug, Clone, Copy)]
enum Place {
    Open(i64),
    Fired(i64),
}

impl Hand {
    /// The window that the hand is at: the same as before as long as there is something left of
    /// the round.
    fn window<'a, K: Key, V>(
        &mut self,
        windows: &'a mut VecDeque<Open<K, V>>,
        fired: &'a mut BTreeMap<i64, Accumulators<K, V>>,
    ) -> Option<(i64, &'a mut Accumulators<K, V>)> {
        let here = match self.window {
            None => None,
            Some(Place::Fired(end_ms)) => fired.get(&end_ms),
            Some(Place::Open(end_ms)) => {
                let found = windows.binary_search_by_key(&end_ms, |open| open.end_ms);
                let open = found.ok().map(|index| &windows[index]);
                open.filter(|open| open.may_leave()).map(|open| &open.sums)
            }
        };
        let here = here.filter(|sums| 0 < sums.mobile_count());
        let mut goes_on = here.is_some_and(|sums| self.slot < sums.table.slot_count());
        if !goes_on && self.empties && here.is_some() {
            // Others have come meanwhile.
            self.slot = 0;
            goes_on = true;
        }
        if !goes_on {
            let first = fired.iter().find(|(_, sums)| 0 < sums.mobile_count());
            let first = first.map(|(end_ms, _)| Place::Fired(*end_ms));
            let largest = || {
                let open = windows.iter().filter(|open| open.may_leave());
                let open = open.max_by_key(|open| open.sums.mobile_count())?;
                (0 < open.sums.mobile_count()).then_some(Place::Open(open.end_ms))
            };
            *self = Self { window: first.or_else(largest), slot: 0, empties: false };
        }
        let (end_ms, sums) = match self.window? {
            Place::Fired(end_ms) => (end_ms, fired.get_mut(&end_ms)?),
            Place::Open(end_ms) => {
                let index = windows.binary_search_by_key(&end_ms, |open| open.end_ms).ok()?;
                (end_ms, &mut windows[index].sums)
            }
        };
        if self.slot == 0 {
            sums.begin_round();
        }
        Some((end_ms, sums))
    }
}

impl<K, S, A, F> TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// A batch has ended: tells the shard's store what there is, and lets go what is too much.
    pub(super) fn settle(&mut self, ctx: &OperatorContext<'_>) {
        self.recharge(ctx);
        let Some(partials) = &mut self.partials else { return };
        if let Some(open) = self.windows.get(self.last) {
            partials.sample(&open.sums, &self.aggregate);
        }
        if partials.is_short() || self.hand.empties {
            self.let_go(BATCH_STEPS, ctx);
        }
    }

    /// Tells the shard's store how much is in memory now.
    pub(super) fn recharge(&mut self, ctx: &OperatorContext<'_>) {
        let (Some(partials), Some(store)) = (&mut self.partials, ctx.env().store.get()) else {
            return;
        };
        if let Some(open) = self.windows.get_mut(self.last) {
            partials.count(&mut open.sums);
        }
        partials.recharge(self.spare.as_ref().map_or(0, KeyTable::memory_bytes), store);
    }

    /// Lets up to `steps` accumulators go while too much is in memory.
    pub(super) fn let_go(&mut self, steps: u32, ctx: &OperatorContext<'_>) {
        if self.gathering.is_none()
            && let Err(error) = self.try_let_go(steps, ctx)
        {
            ctx.fail(error);
        }
    }

    fn try_let_go(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let Some(store) = ctx.env().store.get() else { return Ok(()) };
        let (mut looks, mut left) = (steps.saturating_mul(LOOKS), steps);
        while 0 < looks && 0 < left {
            looks -= 1;
            self.recharge(ctx);
            let Some(partials) = &mut self.partials else { break };
            if !partials.is_short() && !self.hand.empties {
                break;
            }
            if self.spare.take().is_some() {
                continue;
            }
            let Some((end_ms, sums)) = self.hand.window(&mut self.windows, &mut self.fired) else {
                break;
            };
            if !partials.is_short() && !self.hand.empties {
                // What was to be emptied is gone.
                break;
            }
            let slot = Slot(self.hand.slot);
            match partials.put_away(end_ms, sums, slot, &self.aggregate, store)? {
                Left::No => {}
                Left::Yes => left -= 1,
                Left::NoRoom => {
                    partials.note_full();
                    self.hand.empties = false;
                    break;
                }
            }
            self.hand.slot += 1;
            let slot_count = sums.table.slot_count() as usize;
            let free_count = slot_count - sums.table.len();
            self.hand.empties =
                0 < sums.mobile_count() && slot_count <= free_count.saturating_mul(FREE_DIVISOR);
            sums.shrink();
        }
        Ok(())
    }

    /// Sees to it that all that the key of a late row has in its window is in memory. `false` while
    /// windows whose keys have left memory are due before it: they fire first.
    pub(super) fn admit_late(
        &mut self,
        (hash64, key): (u64, &K),
        end_ms: i64,
        horizon_ms: i64,
        ctx: &OperatorContext<'_>,
    ) -> bool {
        let (Some(partials), Some(store)) = (&mut self.partials, ctx.env().store.get()) else {
            return true;
        };
        let mut due = self.windows.iter().take_while(|open| open.end_ms - 1 <= horizon_ms);
        if due.any(|open| open.sums.have_left()) {
            self.deferred.push(hash64);
            return false;
        }
        let Some(sums) = self.fired.get_mut(&end_ms) else { return true };
        partials.take_back(sums, (hash64, key), &self.aggregate, store).unwrap_or_else(|error| {
            ctx.fail(error);
            false
        })
    }
}
