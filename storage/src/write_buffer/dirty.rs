//! Dirty lists: the records of one section that changed in one epoch.
//!
//! ```text
//! list ──► block │ next │ count │ capacity │ 0 │ entries, 8 bytes │ order, 2 bytes │
//!          │     │ 4    │ 2     │ 2        │ 8 │ prefix, slot     │ each           │
//!          ▼
//!          block …        the first one is filled, the others are full
//! ```
//!
//! A record knows the place of its entry, so that it can leave the list (it died in the epoch in
//! which it was born), move, or be replaced by a copy of itself. A prefix is 32 bits of the hash
//! behind the key group: enough to order records, mostly without a look at them.
//!
//! Once its epoch is frozen nothing enters or leaves the list. The writer then orders each block by
//! itself ([`sort`]), a bounded piece of work, and merges the blocks; entries stay in their places,
//! only the order is written beside them.

use std::cmp::Ordering;

use super::budget::{Budget, Full};
use super::pages::{Address, Part, UNIT_BYTES, set_u32_at, u32_at};
use super::record::{self, Header};
use super::slots::Slots;

/// Sizes of blocks: a section with few changes has small ones.
const BLOCK_BYTES: [usize; 4] = [96, 256, 1008, 4096];

const HEADER_BYTES: usize = 16;
const NEXT: usize = 0;
const COUNTS: usize = 4;
const ENTRY_BYTES: usize = 8;
const ORDER_BYTES: usize = 2;

const fn capacity(block_bytes: usize) -> usize {
    (block_bytes - HEADER_BYTES) / (ENTRY_BYTES + ORDER_BYTES)
}

/// The records of a section that changed in `epoch`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DirtyList {
    pub(super) epoch: u32,
    /// The block that is being filled.
    pub(super) first: Address,
}

/// An entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The first bits of the hash behind the key group.
    pub(super) prefix: u32,
    pub(super) slot: Address,
}

impl DirtyList {
    /// Lets it be the list of `epoch`: those of earlier ones were drained.
    #[inline]
    pub(super) fn begin(&mut self, epoch: u32) {
        assert!(self.epoch == epoch || self.first.is_none(), "epoch {epoch} began too early");
        self.epoch = epoch;
    }

    /// Makes sure that the next entry finds room.
    #[inline]
    pub(super) fn reserve(&mut self, slots: &mut Slots, budget: &mut Budget) -> Result<(), Full> {
        let mut bytes = BLOCK_BYTES[0];
        if !self.first.is_none() {
            let Block { count, capacity: full, .. } = Block::at(slots, self.first);
            if count < full {
                return Ok(());
            }
            let larger = BLOCK_BYTES.into_iter().find(|bytes| full < capacity(*bytes));
            bytes = larger.unwrap_or(BLOCK_BYTES[3]);
        }
        let block = slots.alloc(budget, Part::Index, bytes)?;
        let next = std::mem::replace(&mut self.first, block);
        Block { next, count: 0, capacity: capacity(bytes) }.write(slots, block);
        Ok(())
    }

    /// Adds an entry, for which there is room, and answers its place.
    #[inline]
    pub(super) fn push(&mut self, slots: &mut Slots, entry: Entry) -> u32 {
        let mut block = Block::at(slots, self.first);
        assert!(block.count < block.capacity, "room was reserved");
        let place = place(self.first, block.count);
        block.count += 1;
        block.write(slots, self.first);
        set_entry(slots, place, entry);
        place
    }

    /// Takes the entry at `place` away; the last one moves there.
    pub(super) fn remove(&mut self, slots: &mut Slots, budget: &mut Budget, place: u32) {
        let mut first = self.first;
        let mut block = Block::at(slots, first);
        if block.count == 0 {
            // Room was reserved, and then there was none for the rest.
            slots.free(budget, first, block.bytes());
            (self.first, first) = (block.next, block.next);
            block = Block::at(slots, first);
        }
        block.count -= 1;
        block.write(slots, first);
        let last_place = self::place(first, block.count);
        if last_place != place {
            let last = entry(slots, last_place);
            set_entry(slots, place, last);
            record::set_dirty_at(slots, last.slot, place);
        }
        if block.count == 0 {
            self.first = block.next;
            slots.free(budget, first, block.bytes());
        }
    }

    /// Takes the first block off the list, with its place.
    pub(super) fn pop_block(&mut self, slots: &Slots) -> Option<(Address, Block)> {
        if self.first.is_none() {
            return None;
        }
        let block = Block::at(slots, self.first);
        Some((std::mem::replace(&mut self.first, block.next), block))
    }
}

/// A block's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) next: Address,
    pub(super) count: usize,
    capacity: usize,
}

impl Block {
    #[inline]
    pub(super) fn at(slots: &Slots, at: Address) -> Self {
        let bytes = slots.bytes(at, HEADER_BYTES);
        let counts = u32_at(bytes, COUNTS);
        Self {
            next: Address(u32_at(bytes, NEXT)),
            count: (counts & 0xffff) as usize,
            capacity: (counts >> 16) as usize,
        }
    }

    #[inline]
    fn write(self, slots: &mut Slots, at: Address) {
        let bytes = slots.bytes_mut(at, HEADER_BYTES);
        set_u32_at(bytes, NEXT, self.next.0);
        set_u32_at(bytes, COUNTS, self.count as u32 | (self.capacity as u32) << 16);
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.capacity * (ENTRY_BYTES + ORDER_BYTES)
    }
}

/// Frees a block that is on no list.
pub(super) fn free_block(slots: &mut Slots, budget: &mut Budget, at: Address) {
    let bytes = Block::at(slots, at).bytes();
    slots.free(budget, at, bytes);
}

/// Orders the entries of a block by their stored keys.
pub(super) fn sort(slots: &mut Slots, at: Address) {
    let block = Block::at(slots, at);
    let read = |i| (entry(slots, place(at, i)), i);
    let mut order: Vec<(Entry, usize)> = (0..block.count).map(read).collect();
    order.sort_unstable_by(|(a, _), (b, _)| compare(slots, *a, *b));
    let first = HEADER_BYTES + block.capacity * ENTRY_BYTES;
    let bytes = &mut slots.bytes_mut(at, block.bytes())[first..];
    for (number, (_, i)) in bytes.chunks_exact_mut(ORDER_BYTES).zip(order) {
        number.copy_from_slice(&(i as u16).to_le_bytes());
    }
}

/// The `i`th entry of a block in the order that [`sort`] gave it.
pub(super) fn sorted_entry(slots: &Slots, at: Address, i: usize) -> Entry {
    let block = Block::at(slots, at);
    let number = HEADER_BYTES + block.capacity * ENTRY_BYTES + i * ORDER_BYTES;
    let bytes = &slots.bytes(at, block.bytes())[number..];
    entry(slots, place(at, usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))))
}

/// Orders two records of a section as their stored keys are ordered.
pub(super) fn compare(slots: &Slots, a: Entry, b: Entry) -> Ordering {
    a.prefix.cmp(&b.prefix).then_with(|| {
        let [a, b] = [a, b].map(|entry| {
            let header = Header::read(slots, entry.slot);
            (header.hash, record::key_of(slots, entry.slot, &header))
        });
        a.cmp(&b)
    })
}

/// Lets the entry at `place` name another slot of the same record.
pub(super) fn set_slot(slots: &mut Slots, place: u32, slot: Address) {
    let Entry { prefix, .. } = entry(slots, place);
    set_entry(slots, place, Entry { prefix, slot });
}

/// Where a block's `i`th entry is, in units of 8 bytes.
fn place(block: Address, i: usize) -> u32 {
    block.0 * (UNIT_BYTES / ENTRY_BYTES) as u32 + (HEADER_BYTES / ENTRY_BYTES + i) as u32
}

/// The 16 bytes that an entry is in, and where it is in them.
fn halves(place: u32) -> (Address, usize) {
    (Address(place / 2), place as usize % 2 * ENTRY_BYTES)
}

fn entry(slots: &Slots, place: u32) -> Entry {
    let (at, half) = halves(place);
    let bytes = slots.bytes(at, UNIT_BYTES);
    Entry { prefix: u32_at(bytes, half), slot: Address(u32_at(bytes, half + 4)) }
}

fn set_entry(slots: &mut Slots, place: u32, entry: Entry) {
    let (at, half) = halves(place);
    let bytes = slots.bytes_mut(at, UNIT_BYTES);
    set_u32_at(bytes, half, entry.prefix);
    set_u32_at(bytes, half + 4, entry.slot.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::CHUNK_BYTES;

    /// Room that was reserved and not used is not taken for an entry.
    #[test]
    fn an_entry_leaves_a_list_with_an_empty_block() {
        let (mut budget, mut slots) = (Budget::new(2 * CHUNK_BYTES), Slots::new());
        let mut list = DirtyList::default();
        let count = capacity(BLOCK_BYTES[0]);
        let records: Vec<Address> = (0..count)
            .map(|i| {
                let header = Header::new(i as u64, 0, 0);
                let bytes = header.slot_bytes();
                let slot = slots.alloc(&mut budget, Part::Records, bytes).expect("enough memory");
                header.write(&mut slots, slot);
                list.reserve(&mut slots, &mut budget).expect("enough memory");
                let place = list.push(&mut slots, Entry { prefix: i as u32, slot });
                record::set_dirty_at(&mut slots, slot, place);
                slot
            })
            .collect();
        list.reserve(&mut slots, &mut budget).expect("enough memory");
        for left in (0..count).rev() {
            let header = Header::read(&slots, records[0]);
            assert_eq!(entry(&slots, header.dirty_at).slot, records[0]);
            let leaves = records[left];
            let place = Header::read(&slots, leaves).dirty_at;
            list.remove(&mut slots, &mut budget, place);
        }
        assert!(list.first.is_none());
    }
}
