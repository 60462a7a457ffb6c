//! Where a record is: from its tag to its slot, eight bytes a record.
//!
//! ```text
//! tag, 32 bits   │ directory bits │ home within the segment │ rest │
//!
//! directory [ 0 0 1 2 ]      segments split in two when full (extendible hashing)
//!             │ │ │ └───► segment 2
//!             └─┴─│─────► segment 0
//!                 └─────► segment 1
//! ```
//!
//! Entries of a segment are in the order of their tags, probed linearly from the
//! tag's home, which is a line of eight; all eight tags of a line are compared at once. Growth and
//! splits move entries by their tags alone: no record is touched.
//!
//! A directory's entry is `segment address, homes, depth` (4, 2, 2 bytes): the line a search begins
//! with is known without a look at the segment. Directories are beside the budget, on the heap:
//! 8 bytes for 300 records or more.
//!
//! Two segments that were split and are nearly empty are joined again, in the place of one of them,
//! so that an index that was long once does not stay so; its directory does.
//!
//! Bound: an insertion moves at most the entries of one segment, [`SPLIT_LINES`] × 8, and now and
//! then copies the directory, 8 bytes for every 300 records or more. A removal joins a quarter of a
//! segment, rarely more than once. Tags that will not be told
//! apart, which uniform hashes do not give, make one segment longer instead.
//!
//! Invariant: entries of a segment are ascending, none lies before its home, no gap lies between an
//! entry and its home, and the last place is a gap.
//! Not here: records. What is at a slot, and whether it is the key's, the caller knows.

use super::budget::{Budget, Full};
use super::pages::{Address, u32_at};
use super::segment::{
    self, Branch, LINE, LINE_BYTES, LINES, SMALL_LINES, SPLIT_LINES, Segment, equal,
    filled_segment, free_segment, guess, line, new_segment, slot_of, tag_of,
};
use super::slots::Slots;
use crate::arena::CHUNK_BYTES;

/// log2 of the longest directory.
const DEPTH_MAX: u8 = (CHUNK_BYTES / size_of::<Branch>()).trailing_zeros() as u8;
const _: () = assert!(size_of::<Branch>() == 8);

/// From tag to slot, for the records of one section.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By the first bits of the tag; empty if there is nothing.
    directory: Box<[Branch]>,
    /// log2 of its length.
    depth: u8,
    segment_count: u32,
}

impl Index {
    /// The first slot under `tag` that `is_it`.
    #[inline]
    pub(super) fn find(
        &self,
        slots: &Slots,
        tag: u32,
        is_it: impl Fn(Address) -> bool,
    ) -> Option<Address> {
        let mut at = self.home(tag)?;
        loop {
            let line = line(slots, at);
            let mut equal = equal(line, tag);
            while let Some(i) = equal.next() {
                let slot = slot_of(line, i);
                if !slot.is_none() && is_it(slot) {
                    return Some(slot);
                }
            }
            if slot_of(line, LINE - 1).is_none() {
                return None;
            }
            at = at.offset(LINE_BYTES);
        }
    }

    /// The slot that is found by tag in the home line: rarely another key's, or none although there
    /// is one.
    #[inline]
    pub(super) fn guess(&self, slots: &Slots, tag: u32) -> Option<Address> {
        guess(line(slots, self.home(tag)?), tag)
    }

    /// Adds `slot` under `tag`. Answers how many entries were moved. When memory ran out,
    /// everything can still be found.
    pub(super) fn insert(
        &mut self,
        slots: &mut Slots,
        budget: &mut Budget,
        tag: u32,
        slot: Address,
    ) -> Result<usize, Full> {
        let mut moved = 0;
        if self.directory.is_empty() {
            let lines = SMALL_LINES[0];
            let segment = new_segment(slots, budget, lines)?;
            self.directory = [Branch { segment, homes: segment::homes(lines), depth: 0 }].into();
            self.segment_count = 1;
        }
        loop {
            let branch = self.branch(tag);
            let mut segment = Segment::of(slots, branch);
            if segment.len() < usize::from(branch.homes) * LINE * 3 / 4
                && let Some(pushed) = segment.insert(branch.home(tag), (tag, slot))
            {
                return Ok(moved + pushed);
            }
            moved += self.make_room(slots, budget, tag)?;
        }
    }

    /// Takes `slot`, which is there under `tag`, away.
    pub(super) fn remove(
        &mut self,
        slots: &mut Slots,
        budget: &mut Budget,
        tag: u32,
        slot: Address,
    ) {
        let branch = self.branch(tag);
        let mut segment = Segment::of(slots, branch);
        let place = segment.place_of(branch.home(tag), slot);
        segment.remove_at(place, branch);
        if segment.len() < usize::from(branch.homes) * LINE / 8 {
            self.shrink(slots, budget, tag);
        }
    }

    /// Lets the entry of `slot` under `tag` name `other`.
    pub(super) fn replace(&mut self, slots: &mut Slots, tag: u32, slot: Address, other: Address) {
        let branch = self.branch(tag);
        let mut segment = Segment::of(slots, branch);
        let place = segment.place_of(branch.home(tag), slot);
        segment.set(place, (tag, other));
    }

    /// The line in which `tag` is at home, if there is anything.
    #[inline]
    pub(super) fn home(&self, tag: u32) -> Option<Address> {
        self.directory.get(self.number(tag)).map(|branch| branch.line(tag))
    }

    /// The places of the line at `position`, gaps among them, and the position after it; `None` at
    /// the end. The walk sees every entry that stays where it is.
    pub(super) fn line_at(
        &self,
        slots: &Slots,
        position: Position,
    ) -> Option<([(u32, Address); LINE], Position)> {
        let Position { tag, line: number } = position;
        let branch = *self.directory.get(self.number(tag))?;
        let line_count = u32_at(slots.bytes(branch.segment, LINE_BYTES), LINES) as usize - 1;
        if number < line_count {
            let line = line(slots, branch.segment.offset((1 + number) * LINE_BYTES));
            let entries = std::array::from_fn(|i| (tag_of(line, i), slot_of(line, i)));
            return Some((entries, Position { tag, line: number + 1 }));
        }
        let first = tag & !span_mask(branch.depth);
        let tag = first.checked_add(span_mask(branch.depth))?.checked_add(1)?;
        Some(([(0, Address::NONE); LINE], Position { tag, line: 0 }))
    }

    /// Frees the segment of `position`, whose records are gone, and answers the position of the
    /// next; the directory goes with the last. Nothing can be found any more once this was begun.
    pub(super) fn free_segment(
        &mut self,
        slots: &mut Slots,
        budget: &mut Budget,
        position: Position,
    ) -> Option<Position> {
        let branch = *self.directory.get(self.number(position.tag))?;
        free_segment(slots, budget, branch.segment);
        let first = position.tag & !span_mask(branch.depth);
        let next = first.checked_add(span_mask(branch.depth)).and_then(|last| last.checked_add(1));
        if next.is_none() {
            *self = Self::default();
        }
        next.map(|tag| Position { tag, line: 0 })
    }

    /// Frees what the entries around `tag` do not need, now that they are few: two segments that
    /// were split become one again, and the last one goes when it is empty.
    #[cold]
    fn shrink(&mut self, slots: &mut Slots, budget: &mut Budget, tag: u32) {
        while self.join(slots, budget, tag) {}
        let branch = self.branch(tag);
        if branch.depth == 0 && Segment::of(slots, branch).len() == 0 {
            free_segment(slots, budget, branch.segment);
            *self = Self::default();
        }
    }

    /// Moves what is in the segment of `tag` and the one that it was split from into one of them,
    /// if that is then far from full.
    fn join(&mut self, slots: &mut Slots, budget: &mut Budget, tag: u32) -> bool {
        let depth = self.branch(tag).depth;
        let Some(bit) = 1_u32.checked_shl(32 - u32::from(depth)) else { return false };
        let [left, right] = [tag & !bit, tag | bit].map(|tag| self.branch(tag));
        if left.depth != right.depth {
            return false;
        }
        let [left_len, right_len] = [left, right].map(|branch| Segment::of(slots, branch).len());
        if usize::from(left.homes) * LINE / 4 < left_len + right_len {
            return false;
        }
        let mut entries = Segment::of(slots, left).entries();
        entries.extend(Segment::of(slots, right).entries());
        let joined = Branch { depth: depth - 1, ..left };
        if !Segment::of(slots, joined).refill(&entries, joined) {
            // They crowd at the end. Those that were there before still fit.
            let is_filled = Segment::of(slots, left).refill(&entries[..left_len], left);
            assert!(is_filled, "entries fit where they were");
            return false;
        }
        self.set_span(tag, joined);
        free_segment(slots, budget, right.segment);
        self.segment_count -= 1;
        true
    }

    /// Which entry of the directory is that of `tag`.
    #[inline]
    fn number(&self, tag: u32) -> usize {
        // In 64 bits, because a directory of one has depth 0 and 32 is too far to shift.
        (u64::from(tag) >> (32 - self.depth)) as usize
    }

    fn branch(&self, tag: u32) -> Branch {
        self.directory[self.number(tag)]
    }

    /// Lets the directory's entries for `tag`'s first `branch.depth` bits be `branch`.
    fn set_span(&mut self, tag: u32, branch: Branch) {
        let first = self.number(tag & !span_mask(branch.depth));
        self.directory[first..][..1 << (self.depth - branch.depth)].fill(branch);
    }

    /// Makes the segment of `tag` longer, or two of it. Answers how many entries were moved.
    #[cold]
    fn make_room(
        &mut self,
        slots: &mut Slots,
        budget: &mut Budget,
        tag: u32,
    ) -> Result<usize, Full> {
        let branch = self.branch(tag);
        let old = Segment::of(slots, branch);
        let (line_count, entries) = (old.line_count(), old.entries());
        // Tags are uniform, so segments fill together and the directory stays short. Should they
        // not be, one segment grows beyond its bound rather than the directory without one.
        let lopsided = 64 + 8 * u64::from(self.segment_count) < 2_u64 << self.depth;
        let doubles = branch.depth == self.depth;
        if line_count < SPLIT_LINES || doubles && (lopsided || self.depth == DEPTH_MAX) {
            let longer = filled_segment(slots, budget, &entries, branch.depth, line_count + 1)?;
            self.set_span(tag, longer);
            free_segment(slots, budget, branch.segment);
            return Ok(entries.len());
        }
        if doubles {
            self.double();
        }
        let bit = 1 << (31 - branch.depth);
        let middle = entries.partition_point(|(tag, _)| tag & bit == 0);
        let depth = branch.depth + 1;
        let left = filled_segment(slots, budget, &entries[..middle], depth, SPLIT_LINES)?;
        let right = filled_segment(slots, budget, &entries[middle..], depth, SPLIT_LINES)
            .inspect_err(|_| free_segment(slots, budget, left.segment))?;
        self.set_span(tag & !bit, left);
        self.set_span(tag | bit, right);
        free_segment(slots, budget, branch.segment);
        self.segment_count += 1;
        Ok(entries.len())
    }

    /// A directory of twice the length.
    fn double(&mut self) {
        self.directory = self.directory.iter().flat_map(|branch| [*branch; 2]).collect();
        self.depth += 1;
    }
}

/// A place in a walk over all entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// A tag of the segment.
    tag: u32,
    /// Line of the segment.
    line: usize,
}

impl Position {
    /// Whether it is the first of a segment.
    pub(super) fn begins_segment(self) -> bool {
        self.line == 0
    }
}

/// The bits of a tag beyond the first `depth`.
fn span_mask(depth: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(depth)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn walk(index: &Index, slots: &Slots) -> Vec<(u32, Address)> {
        let (mut all, mut position) = (Vec::new(), Position::default());
        while let Some((entries, next)) = index.line_at(slots, position) {
            all.extend(entries.into_iter().filter(|(_, slot)| !slot.is_none()));
            position = next;
        }
        all
    }

    fn free_all(index: &mut Index, slots: &mut Slots, budget: &mut Budget) {
        let mut position = Some(Position::default());
        while let Some(at) = position {
            position = index.free_segment(slots, budget, at);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever comes and goes, with tags that are spread, clustered or equal: everything is
        /// found, a walk sees it in the order of tags, and nothing is left behind.
        #[test]
        fn everything_is_found(
            script in prop::collection::vec((any::<u32>(), 0_u8..10), 1..1500),
            shift in prop::sample::select(vec![0, 4, 20, 31]),
        ) {
            let (mut budget, mut slots) = (Budget::new(8 * CHUNK_BYTES), Slots::new());
            let mut index = Index::default();
            let mut model: BTreeSet<(u32, Address)> = BTreeSet::new();
            for (i, (random, action)) in script.into_iter().enumerate() {
                let tag = random >> shift;
                let slot = Address(i as u32 + 1);
                let picked = model.range((tag, Address::NONE)..).next().copied();
                match (action, picked) {
                    (0..3, Some((tag, slot))) => {
                        index.remove(&mut slots, &mut budget, tag, slot);
                        model.remove(&(tag, slot));
                    }
                    (3, Some((tag, old))) => {
                        index.replace(&mut slots, tag, old, slot);
                        model.remove(&(tag, old));
                        model.insert((tag, slot));
                    }
                    _ => {
                        index.insert(&mut slots, &mut budget, tag, slot).expect("enough memory");
                        model.insert((tag, slot));
                    }
                }
            }
            for (tag, slot) in &model {
                let find = |slot| index.find(&slots, *tag, |other| other == slot);
                prop_assert_eq!(find(*slot), Some(*slot));
                prop_assert_eq!(find(Address(u32::MAX)), None);
            }
            let all = walk(&index, &slots);
            prop_assert!(all.is_sorted_by_key(|(tag, _)| *tag));
            let all: BTreeSet<_> = all.into_iter().collect();
            prop_assert_eq!(&all, &model);
            // Those that are left go one by one, or all at once.
            if model.len().is_multiple_of(2) {
                for (tag, slot) in &model {
                    index.remove(&mut slots, &mut budget, *tag, *slot);
                }
            } else {
                free_all(&mut index, &mut slots, &mut budget);
            }
            prop_assert_eq!((slots.used_bytes(), budget.taken_bytes()), (0, 0));
        }
    }

    /// An insertion moves no more than a segment, however many there are.
    #[test]
    fn growth_is_in_small_steps() {
        let (mut budget, mut slots) = (Budget::new(16 * CHUNK_BYTES), Slots::new());
        let mut index = Index::default();
        for i in 1..=300_000_u32 {
            let tag = i.wrapping_mul(0x9e37_79b9);
            let moved = index.insert(&mut slots, &mut budget, tag, Address(i));
            assert!(moved.expect("enough memory") < 2 * SPLIT_LINES * LINE);
        }
        assert!(slots.used_bytes() < 300_000 * 18, "{} bytes", slots.used_bytes());
        let guessed = (1..=300_000_u32)
            .filter(|i| index.guess(&slots, i.wrapping_mul(0x9e37_79b9)) == Some(Address(*i)));
        assert!(280_000 < guessed.count());
    }

    /// An index that was long once takes what its entries take now.
    #[test]
    fn what_is_nearly_empty_is_joined() {
        let (mut budget, mut slots) = (Budget::new(16 * CHUNK_BYTES), Slots::new());
        let mut index = Index::default();
        let tag = |i: u32| i.wrapping_mul(0x9e37_79b9);
        let (count, left) = (300_000, 1000);
        for i in 1..=count {
            index.insert(&mut slots, &mut budget, tag(i), Address(i)).expect("enough memory");
        }
        for i in left + 1..=count {
            index.remove(&mut slots, &mut budget, tag(i), Address(i));
        }
        assert!(slots.used_bytes() < 200 * left as usize, "{} bytes", slots.used_bytes());
        for i in 1..=left {
            let found = index.find(&slots, tag(i), |slot| slot == Address(i));
            assert_eq!(found, Some(Address(i)));
        }
        for i in left + 1..=count {
            index.insert(&mut slots, &mut budget, tag(i), Address(i)).expect("enough memory");
        }
        assert!(slots.used_bytes() < count as usize * 20, "it grows again as it did before");
    }

    /// Tags that cannot be told apart make a segment longer, and all are found.
    #[test]
    fn equal_tags_make_a_segment_longer() {
        let (mut budget, mut slots) = (Budget::new(CHUNK_BYTES), Slots::new());
        let mut index = Index::default();
        for i in 1..2000 {
            index.insert(&mut slots, &mut budget, 7, Address(i)).expect("enough memory");
        }
        assert_eq!(walk(&index, &slots).len(), 1999);
    }

    /// An insertion that finds no memory takes nothing away.
    #[test]
    fn a_full_budget_loses_nothing() {
        let (mut budget, mut slots) = (Budget::new(CHUNK_BYTES), Slots::new());
        let mut index = Index::default();
        let tag = |i: u32| i.wrapping_mul(0x9e37_79b9);
        let mut insert = |i| index.insert(&mut slots, &mut budget, tag(i), Address(i)).is_ok();
        let count = (1..CHUNK_BYTES as u32).take_while(|i| insert(*i)).count() as u32;
        assert!(50_000 < count);
        for i in 1..=count {
            assert!(index.find(&slots, tag(i), |slot| slot == Address(i)).is_some());
        }
    }
}
