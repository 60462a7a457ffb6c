//! A frozen epoch on its way to a table.
//!
//! Section by section, in the order of stored keys: each block of the section's dirty list is
//! ordered by itself, then the blocks are merged. Between two slices records may change, move and
//! be removed: a list's entry names the version that its epoch left.

use std::collections::BTreeSet;

use super::budget::Budget;
use super::dirty::{self, DirtyList, Entry};
use super::pages::Address;
use super::record::{self, Header, Kind, flag};
use super::slots::Slots;
use super::{LISTS, SectionName, SpaceId, WriteBuffer, section_of};
use crate::table::Change;

/// A record of this many bytes takes as long as a step.
const STEP_BYTES: usize = 256;

/// How many records ahead of its turn one is asked for.
const AHEAD: usize = 8;

/// What is asked for of it: a record with a key and a value of some hundred bytes.
const AHEAD_BYTES: usize = 192;

/// The records that changed in one epoch, as they were at its end.
///
/// It has to be drained and [written](WriteBuffer::on_written): until then the write buffer keeps
/// what it is about.
#[derive(Debug)]
#[must_use = "a frozen epoch has to be written"]
pub struct Frozen {
    epoch: u32,
    /// The sections in which something changed, those that are still to come.
    sections: BTreeSet<SectionName>,
    /// The space of the one that is being handed out.
    space: SpaceId,
    /// What is not ordered yet of the section's list.
    unsorted: DirtyList,
    /// The others: a heap by the first record of each.
    heads: Vec<Head>,
    /// The stored key that is being handed out; begins with what the section's keys begin with.
    key: Vec<u8>,
}

/// A block that is being merged.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Of the next record.
    prefix: u32,
    block: Address,
    next: usize,
}

/// Bytes of key group, state id and window bucket in a stored key.
const SECTION_BYTES: usize = 12;

impl Frozen {
    pub(super) fn new(epoch: u32, sections: BTreeSet<SectionName>) -> Self {
        Self {
            epoch,
            sections,
            space: SpaceId(0),
            unsorted: DirtyList::default(),
            heads: Vec::new(),
            key: vec![0; SECTION_BYTES],
        }
    }

    /// Which epoch it is: they count from 1.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn into_epoch(self) -> u32 {
        self.epoch
    }

    /// Hands the next records to `emit`, each with its whole stored key, in ascending order. A
    /// record takes a step, or more if it is long; ordering takes one for each record, looking at
    /// a section takes one. Stops after `steps`, with what was begun then. False when all were
    /// handed out.
    pub fn next(
        &mut self,
        buffer: &mut WriteBuffer,
        budget: &mut Budget,
        steps: usize,
        mut emit: impl FnMut(&[u8], Change<'_>),
    ) -> bool {
        let mut taken = 0;
        while taken < steps {
            if let Some((at, block)) = self.unsorted.pop_block(&buffer.slots) {
                self.add_head(buffer, budget, at, block.count);
                taken += 1 + block.count;
            } else if let Some(head) = self.heads.first().copied() {
                taken += self.emit_first(buffer, budget, head, &mut emit);
            } else if self.next_section(buffer) {
                taken += 1;
            } else {
                let is_it = |in_flight: &&mut super::InFlight| in_flight.epoch == self.epoch;
                let in_flight = buffer.frozen.iter_mut().find(is_it);
                in_flight.expect("a frozen epoch is written once").is_drained = true;
                break;
            }
        }
        buffer.step_count += taken as u64;
        steps <= taken
    }

    /// Goes to the next section, unless there is none, and takes the epoch's list from it.
    fn next_section(&mut self, buffer: &mut WriteBuffer) -> bool {
        let Some((number, name)) = self.sections.pop_first() else { return false };
        let (state_id, window_bucket, space) = name;
        // What was dropped in the epoch may even be swept.
        let is_it = |space: &super::Space| space.dropped_in.is_none_or(|epoch| self.epoch < epoch);
        if !buffer.order.contains(&name) || !is_it(buffer.space(space)) {
            return true;
        }
        self.space = space;
        let section = section_of(&mut buffer.spaces, space, number);
        let list = &mut section.dirty[self.epoch as usize % LISTS];
        if list.epoch == self.epoch {
            self.unsorted = std::mem::take(list);
            let key_group = buffer.key_groups.start as u16 + number as u16;
            let window_bucket = window_bucket as u64 ^ 1 << 63;
            self.key.clear();
            self.key.extend_from_slice(&key_group.to_be_bytes());
            self.key.extend_from_slice(&state_id.to_be_bytes());
            self.key.extend_from_slice(&window_bucket.to_be_bytes());
        }
        true
    }

    /// Orders a block, and lets it take part in the merge.
    fn add_head(
        &mut self,
        buffer: &mut WriteBuffer,
        budget: &mut Budget,
        block: Address,
        count: usize,
    ) {
        if count == 0 {
            dirty::free_block(&mut buffer.slots, budget, block);
            return;
        }
        dirty::sort(&mut buffer.slots, block);
        let prefix = dirty::sorted_entry(&buffer.slots, block, 0).prefix;
        self.heads.push(Head { prefix, block, next: 0 });
        let mut child = self.heads.len() - 1;
        while 0 < child {
            let parent = (child - 1) / 2;
            if !is_before(&buffer.slots, self.heads[child], self.heads[parent]) {
                break;
            }
            self.heads.swap(child, parent);
            child = parent;
        }
    }

    /// Hands out the next record, which is that of `head`. Answers how many steps that took.
    fn emit_first(
        &mut self,
        buffer: &mut WriteBuffer,
        budget: &mut Budget,
        head: Head,
        emit: &mut impl FnMut(&[u8], Change<'_>),
    ) -> usize {
        let Entry { slot, .. } = dirty::sorted_entry(&buffer.slots, head.block, head.next);
        let header = Header::read(&buffer.slots, slot);
        assert_eq!(header.epoch, self.epoch, "a frozen list names what its epoch left");
        self.key.truncate(SECTION_BYTES);
        self.key.extend_from_slice(&header.hash.to_be_bytes());
        self.key.extend_from_slice(record::key_of(&buffer.slots, slot, &header));
        let value = record::value_of(&buffer.slots, slot, &header);
        let change = match header.kind() {
            Kind::Value => Change::Value(value),
            Kind::Tombstone => Change::Tombstone,
            Kind::Operands => Change::Operand(value),
        };
        emit(&self.key, change);
        if header.has(flag::ASIDE) && !header.has(flag::CHAINED) {
            buffer.slots.free(budget, slot, header.slot_bytes());
        } else {
            record::set_flags(&mut buffer.slots, slot, header.flags | flag::EMITTED);
            record::set_dirty_at(&mut buffer.slots, slot, self.space.0);
        }
        self.advance(buffer, budget);
        1 + header.bytes() / STEP_BYTES
    }

    /// Lets the first head be at its next record, or go, and restores the heap.
    fn advance(&mut self, buffer: &mut WriteBuffer, budget: &mut Budget) {
        let head = &mut self.heads[0];
        head.next += 1;
        let count = dirty::Block::at(&buffer.slots, head.block).count;
        if head.next < count {
            head.prefix = dirty::sorted_entry(&buffer.slots, head.block, head.next).prefix;
            if head.next + AHEAD < count {
                let ahead = dirty::sorted_entry(&buffer.slots, head.block, head.next + AHEAD);
                buffer.slots.prefetch(ahead.slot, AHEAD_BYTES);
            }
        } else {
            dirty::free_block(&mut buffer.slots, budget, head.block);
            self.heads.swap_remove(0);
        }
        let mut parent = 0;
        loop {
            let children = 2 * parent + 1..(2 * parent + 3).min(self.heads.len());
            let heads = &self.heads;
            let first = children
                .reduce(|a, b| if is_before(&buffer.slots, heads[b], heads[a]) { b } else { a });
            match first {
                Some(child) if is_before(&buffer.slots, heads[child], heads[parent]) => {
                    self.heads.swap(child, parent);
                    parent = child;
                }
                _ => break,
            }
        }
    }
}

fn is_before(slots: &Slots, a: Head, b: Head) -> bool {
    let by_prefix = a.prefix.cmp(&b.prefix);
    let order = by_prefix.then_with(|| {
        let [a, b] = [a, b].map(|head| dirty::sorted_entry(slots, head.block, head.next));
        dirty::compare(slots, a, b)
    });
    order.is_lt()
}
