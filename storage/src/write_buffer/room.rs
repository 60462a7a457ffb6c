//! Room for an allocation that found none.
//!
//! The clock evicts what was not used lately, from all over memory. That is room for more of what
//! there is already: a slot of a common size. But a slab is free when all its slots are, and pages
//! are a run when they lie together. So if the clock has not helped, a *region* is emptied: as many
//! pages, one after the other, as are needed, of which nothing is dirty.
//!
//! ```text
//! chunk  │ slab: clean, dirty, clean … │ slab: clean, clean … │ run of a clean record │ free │
//!                        │                   └────── emptied, used or not ──────────────┘
//!                        └ stays, and nothing is evicted from its slab
//! ```
//!
//! If there is no such region, the clock's hand spares nothing for a while. If that is no room
//! either, the need is *crowded out* until more is written: whoever asks again and again takes
//! nothing from the others meanwhile.
//!
//! Bound: two slices of the clock, a look at some thousand records, and a region.

use super::WriteBuffer;
use super::budget::Budget;
use super::evict::Spared;
use super::pages::{Address, ORDER_MAX};
use super::record::{Header, flag};
use super::slots::Need;

/// What the clock is to give back, and in how many steps.
const CLOCK_BYTES: usize = 64 << 10;
const CLOCK_STEPS: usize = 4096;

/// Most records and regions that are looked at for one that can be emptied.
const REGION_STEPS: usize = 1 << 15;

/// What is known of the memory that is needed.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The needs that found none since more was written, a bit each.
    crowded: u64,
    /// The region that is looked at next, in the smallest ones.
    hand: u32,
}

impl WriteBuffer {
    /// Evicts until there is room for what was refused last. False if there is none, as long as
    /// nothing more is written or dropped.
    pub fn make_room(&mut self, budget: &mut Budget) -> bool {
        let need = self.slots.refused();
        let is_crowded = self.room.crowded & need.bit() != 0;
        if !is_crowded && self.evict_for(budget, need, Spared::Used) {
            return true;
        }
        if self.empty_region(budget, need.order()) {
            return true;
        }
        if !is_crowded && self.evict_for(budget, need, Spared::Nothing) {
            return true;
        }
        if 0 < self.dirty_bytes() {
            self.room.crowded |= need.bit();
        }
        false
    }

    /// Evicts from all over memory. Whether that was of use for what is needed.
    fn evict_for(&mut self, budget: &mut Budget, need: Need, spared: Spared) -> bool {
        let evicted = self.evict_unless(spared, budget, CLOCK_BYTES, CLOCK_STEPS);
        0 < evicted && self.slots.has_room(budget, need)
    }

    /// Whether something found no room that a flush may make.
    pub fn is_crowded(&self) -> bool {
        self.room.crowded != 0
    }

    /// More is written: what was dirty can be evicted.
    pub(super) fn end_crowding(&mut self) {
        self.room.crowded = 0;
    }

    /// Gives a chunk of clean records back. False if every chunk has something else.
    pub fn empty_chunk(&mut self, budget: &mut Budget) -> bool {
        self.empty_region(budget, ORDER_MAX)
    }

    /// Empties a region of `1 << order` pages, of which nothing is dirty.
    fn empty_region(&mut self, budget: &mut Budget, order: u32) -> bool {
        let count = self.slots.region_count(order);
        let mut records = Vec::new();
        let mut steps = 0;
        for _ in 0..count {
            let region = (self.room.hand >> order) % count;
            self.room.hand = (region + 1) << order;
            records.clear();
            self.slots.records_in(region, order, &mut records);
            let stays = |slot: &Address| !self.can_be_evicted(*slot);
            let first = records.iter().position(stays);
            steps += 1 + first.unwrap_or(records.len());
            if first.is_none() && !records.is_empty() {
                for slot in records {
                    self.evict_record(budget, slot);
                }
                self.step_count += steps as u64;
                return true;
            }
            if REGION_STEPS <= steps {
                break;
            }
        }
        self.step_count += steps as u64;
        false
    }

    /// Whether tables have the record at `slot`, and the index.
    fn can_be_evicted(&self, slot: Address) -> bool {
        let header = Header::read(&self.slots, slot);
        let is_clean = header.epoch <= self.written && !header.has(flag::ASIDE);
        let is_open = || {
            let space = self.spaces[header.dirty_at as usize].as_ref();
            space.is_some_and(|space| space.dropped_in.is_none())
        };
        is_clean && is_open()
    }
}
