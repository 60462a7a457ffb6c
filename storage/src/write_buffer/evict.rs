//! How memory comes back: spaces that were dropped are swept, then clean records are evicted.
//!
//! The clock: a hand goes round over the lines of all indexes. A clean record that was used since
//! the hand last passed loses one of its at most three uses; one without uses is evicted, and its
//! section is no longer complete.

use super::budget::Budget;
use super::index::Position;
use super::record::{self, Header, flag};
use super::{LISTS, Space, SpaceId, WriteBuffer};

/// After this many rounds in which nothing was evicted, nothing can be.
const LAPS_MAX: u32 = 5;

/// Steps that a line of an index takes.
const LINE_STEPS: usize = 8;

/// What the clock's hand passes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spared {
    /// What was used since it last came by.
    Used,
    /// Nothing that is clean.
    Nothing,
}

/// Where the clock's hand is.
#[derive(Debug, Default)]
pub(super) struct Hand {
    space: usize,
    section: usize,
    position: Position,
    /// Rounds since something was evicted.
    laps: u32,
}

/// A space that was dropped, and how far it is swept.
#[derive(Debug)]
pub(super) struct Sweep {
    space: SpaceId,
    /// The epoch in which it was dropped: those before it still need it.
    epoch: u32,
    section: usize,
    position: Position,
}

impl Sweep {
    pub(super) fn new(space: SpaceId, epoch: u32) -> Self {
        Self { space, epoch, section: 0, position: Position::default() }
    }
}

impl WriteBuffer {
    /// Frees memory until `bytes` of it came back, or `steps` were taken (and what was begun is
    /// done): records of dropped spaces first, then clean ones that were not used lately. Answers
    /// how many bytes came back: if none, there is nothing but what is dirty or in use, or more
    /// steps are needed to get at it.
    pub fn evict(&mut self, budget: &mut Budget, bytes: usize, steps: usize) -> usize {
        self.evict_unless(Spared::Used, budget, bytes, steps)
    }

    /// The same, but for what is spared.
    pub(super) fn evict_unless(
        &mut self,
        spared: Spared,
        budget: &mut Budget,
        bytes: usize,
        steps: usize,
    ) -> usize {
        let used_bytes = self.used_bytes();
        let mut taken = 0;
        self.hand.laps = 0;
        while taken < steps && used_bytes - self.used_bytes() < bytes {
            if self.can_sweep() {
                taken += self.sweep(budget);
            } else if self.hand.laps < LAPS_MAX {
                taken += self.move_hand(budget, spared);
            } else {
                break;
            }
        }
        self.step_count += taken as u64;
        used_bytes - self.used_bytes()
    }

    /// Frees the records of spaces that were dropped, until about `steps` were taken. Whether there
    /// are more.
    pub fn sweep_dropped(&mut self, budget: &mut Budget, steps: usize) -> bool {
        let mut taken = 0;
        while taken < steps && self.can_sweep() {
            taken += self.sweep(budget);
        }
        self.step_count += taken as u64;
        self.can_sweep()
    }

    /// Whether no frozen epoch needs the space that was dropped first.
    fn can_sweep(&self) -> bool {
        self.dropped.front().is_some_and(|sweep| {
            self.frozen.iter().all(|frozen| frozen.is_drained || sweep.epoch <= frozen.epoch)
        })
    }

    /// Sweeps a block, a line or a segment.
    fn sweep(&mut self, budget: &mut Budget) -> usize {
        let sweep = self.dropped.front_mut().expect("there is something to sweep");
        let id = sweep.space.0;
        let space = self.spaces[id as usize].as_mut().expect("a swept space is held");
        let Some(section) = space.sections.get_mut(sweep.section) else {
            self.order.remove(&(space.state_id, space.window_bucket, sweep.space));
            self.spaces[id as usize] = None;
            self.vacant_ids.push(id);
            self.dropped.pop_front();
            return 1;
        };
        let list = &mut section.dirty[sweep.epoch as usize % LISTS];
        if let Some((block, _)) = list.pop_block(&self.slots) {
            super::dirty::free_block(&mut self.slots, budget, block);
            return 1;
        }
        match section.index.line_at(&self.slots, sweep.position) {
            Some((entries, next)) if !next.begins_segment() => {
                sweep.position = next;
                for (_, slot) in entries.into_iter().filter(|(_, slot)| !slot.is_none()) {
                    let header = Header::read(&self.slots, slot);
                    if self.written < header.epoch {
                        let epoch = header.epoch as usize % LISTS;
                        self.changed_bytes[epoch] -= header.slot_bytes();
                    }
                    self.free_record(budget, slot, &header);
                }
                LINE_STEPS
            }
            _ => {
                let position = sweep.position;
                match section.index.free_segment(&mut self.slots, budget, position) {
                    Some(next) => sweep.position = next,
                    None => {
                        sweep.section += 1;
                        sweep.position = Position::default();
                    }
                }
                1
            }
        }
    }

    /// Passes a line, or goes to the next section.
    fn move_hand(&mut self, budget: &mut Budget, spared: Spared) -> usize {
        let hand = &mut self.hand;
        let Some(space) = self.spaces.get(hand.space) else {
            *hand = Hand { laps: hand.laps + 1, ..Hand::default() };
            return 1;
        };
        let is_of_use = |space: &&Space| space.dropped_in.is_none() && 0 < space.record_count;
        let space = space.as_ref().filter(is_of_use);
        let Some(section) = space.and_then(|space| space.sections.get(hand.section)) else {
            *hand = Hand { space: hand.space + 1, laps: hand.laps, ..Hand::default() };
            return 1;
        };
        let Some((entries, next)) = section.index.line_at(&self.slots, hand.position) else {
            hand.section += 1;
            hand.position = Position::default();
            return 1;
        };
        hand.position = next;
        let slots = entries.into_iter().map(|(_, slot)| slot).filter(|slot| !slot.is_none());
        slots.clone().for_each(|slot| self.slots.prefetch(slot, record::HEADER_BYTES));
        for slot in slots {
            let header = Header::read(&self.slots, slot);
            if self.written < header.epoch {
                continue;
            }
            if spared == Spared::Used && header.has(flag::USES_MASK) {
                record::set_flags(&mut self.slots, slot, header.flags - flag::USES_ONE);
            } else {
                self.evict_record(budget, slot);
                self.hand.laps = 0;
            }
        }
        LINE_STEPS
    }
}
