//! How the panes of a key leave memory, and how they come back.
//!
//! ```text
//! record:  end of the next window │ front │ back │ open │ sum of the back │ stragglers │ history
//! ```
//!
//! A key that is away keeps its slot: it is in the agenda.

use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::slot::Slot;
use crate::operator::OperatorContext;
use crate::operator::spilling::{self, READ_AHEAD};
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::panes::{NEVER_MS, Panes};
use crate::operator::window::sliding::SlidingWindows;
use crate::operator::window::sliding::saving::Part;
use crate::operator::window::stored::KeyWriter;
use crate::state::packed::{Damage, Packer, Unpacker, heap_bytes};
use crate::state::residents::{Belongings, Residents};
use crate::state::snapshot::SnapshotWriter;
use crate::time::slices::Slices;

/// What keys have.
pub(super) struct Leaving<'a, A> {
    pub(super) slices: &'a Slices,
    pub(super) aggregate: &'a A,
    groups: KeyGroupCount,
}

/// Whether a key that is due can have its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Rows of it come before, or it is being read.
    Wait,
    /// There was nothing left to do but to forget it.
    Over,
}

impl<A: WindowAggregate> Leaving<'_, A> {
    /// Bytes on the heap for the panes of a key, about.
    fn bytes_of(&self, panes: &Panes<A::Accumulator>) -> usize {
        let sum = panes.newest.as_ref().or(panes.entries.back()).map(|pane| &pane.sum);
        let each = sum.map_or(0, |sum| heap_bytes(self.aggregate.stored(sum)));
        panes.heap_bytes(each)
    }
}

impl<K: Key, A: WindowAggregate> Belongings<K, Panes<A::Accumulator>> for Leaving<'_, A> {
    fn create(&self) -> Panes<A::Accumulator> {
        Panes::default()
    }

    fn is_empty(&self, _slot: Slot, panes: &Panes<A::Accumulator>) -> bool {
        // One slice is in the slot, which stays.
        self.bytes_of(panes) == 0
    }

    fn pack(&self, _slot: Slot, panes: &Panes<A::Accumulator>, packer: &mut Packer) {
        packer.begin(panes.fire_end_ms);
        for part in Part::ALL {
            packer.begin_part(part as u16);
            panes.for_each(|of_part, slice, sum| {
                if of_part == part {
                    packer.stamp(slice);
                    packer.value(self.aggregate.stored(sum));
                }
            });
            packer.end_part();
        }
    }

    fn unpack(
        &mut self,
        _slot: Slot,
        panes: &mut Panes<A::Accumulator>,
        bytes: &[u8],
    ) -> Result<(), Damage> {
        let (mut unpacker, fire_end_ms) = Unpacker::new(bytes)?;
        panes.fire_end_ms = fire_end_ms;
        while let Some((number, mut entries)) = unpacker.next_part()? {
            let part = Part::ALL.get(usize::from(number));
            let part = *part.ok_or(Damage("it has a part that panes do not have"))?;
            while !entries.is_empty() {
                let slice = entries.stamp()?;
                panes.put_back(part, slice, self.aggregate.restored(entries.value()?));
            }
        }
        Ok(())
    }

    fn clear(&mut self, _slot: Slot, panes: &mut Panes<A::Accumulator>) {
        let (fire_end_ms, due_ms) = (panes.fire_end_ms, panes.due_ms);
        *panes = Panes::default();
        (panes.fire_end_ms, panes.due_ms) = (fire_end_ms, due_ms);
    }

    fn is_expected(&mut self, _slot: Slot, _hash64: u64, _panes: &Panes<A::Accumulator>) -> bool {
        true
    }

    fn heap_bytes(&self, _slot: Slot, panes: &Panes<A::Accumulator>) -> usize {
        self.bytes_of(panes)
    }

    fn save(
        &self,
        _slot: Slot,
        (hash64, key): (u64, &K),
        panes: &Panes<A::Accumulator>,
        writer: &mut SnapshotWriter<'_>,
    ) {
        self.save_panes(panes, &mut KeyWriter::new(writer, self.groups, hash64, key));
    }
}

impl<K, S, A, F> SlidingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Sees to it that a key that is due can have its turn.
    #[cold]
    pub(super) fn prepare(&mut self, slot: Slot, ctx: &OperatorContext<'_>) -> Turn {
        if self.parked.holds(self.keys.hash64(slot)) {
            return Turn::Wait;
        }
        if self.keys.is_cold(slot) && self.keys.value(slot).fire_end_ms == NEVER_MS {
            // Its windows have fired, and none will again.
            self.keys.forget(slot);
            return Turn::Over;
        }
        let next = (1..READ_AHEAD).map_while(|count| self.agenda.ahead(count));
        let next: Vec<Slot> = next.collect();
        let (keys, mut leaving) = self.split();
        let is_there = spilling::admit_slot(keys, slot, next.into_iter(), &mut leaving, ctx);
        if !is_there {
            return Turn::Wait;
        }
        self.keys.note_use(slot);
        Turn::Now
    }

    /// The key at `slot` is about to change.
    #[inline]
    pub(super) fn keep(&mut self, slot: Slot) {
        if self.keys.is_saving() {
            let (keys, leaving) = self.split();
            keys.keep(slot, &leaving);
        }
    }

    /// What the key at `slot` has may have changed.
    #[inline]
    pub(super) fn note_change(&mut self, slot: Slot) {
        let slices = &self.work.by.slices;
        let leaving = Leaving { slices, aggregate: &self.work.aggregate, groups: self.groups };
        self.keys.note_change(slot, |panes| leaving.bytes_of(panes));
    }

    /// While memory is short, some keys leave for a row or a window.
    #[inline]
    pub(super) fn make_room(&mut self, ctx: &OperatorContext<'_>) {
        let (keys, mut leaving) = self.split();
        spilling::make_room(keys, &mut leaving, ctx);
    }

    pub(super) fn leaving(&self) -> Leaving<'_, A> {
        let slices = &self.work.by.slices;
        Leaving { slices, aggregate: &self.work.aggregate, groups: self.groups }
    }

    #[inline]
    pub(super) fn split(&mut self) -> (&mut Residents<K, Panes<A::Accumulator>>, Leaving<'_, A>) {
        let slices = &self.work.by.slices;
        let leaving = Leaving { slices, aggregate: &self.work.aggregate, groups: self.groups };
        (&mut self.keys, leaving)
    }
}
