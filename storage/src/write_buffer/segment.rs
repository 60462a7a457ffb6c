//! A segment of an index: entries in the order of their tags, in lines of eight.
//!
//! ```text
//! │ header, 64 bytes │ line │ line │ … │ line │ line │      homes, then room for what is pushed on
//!
//! header  │ entries │ lines │ 0 │        line  │ 8 tags │ 8 slots │
//!         │ 4       │ 4     │   │              │ 32     │ 32      │
//! ```
//!
//! An entry without a slot is a gap; its tag says nothing.

use super::budget::{Budget, Full};
use super::pages::{Address, Part, set_u32_at, u32_at};
use super::slots::Slots;
use crate::arena::CHUNK_BYTES;

/// Entries compared at once.
pub(super) const LINE: usize = 8;
pub(super) const LINE_BYTES: usize = 64;

/// Lines of a segment, its header included, from which it splits instead of growing.
pub(super) const SPLIT_LINES: usize = 128;

/// Lines of the segments that are smaller.
pub(super) const SMALL_LINES: [usize; 5] = [3, 6, 12, 24, 48];

const LINES_MAX: usize = CHUNK_BYTES / LINE_BYTES;

/// An entry of the directory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Branch {
    pub(super) segment: Address,
    /// Lines that are somebody's home.
    pub(super) homes: u16,
    /// Bits of the tag that all entries of the segment share.
    pub(super) depth: u8,
}

impl Branch {
    #[inline]
    pub(super) fn home(self, tag: u32) -> usize {
        let place = tag << self.depth;
        ((u64::from(place) * u64::from(self.homes)) >> 32) as usize
    }

    /// Where the home of `tag` is.
    #[inline]
    pub(super) fn line(self, tag: u32) -> Address {
        self.segment.offset_by(LINE_BYTES, 1 + self.home(tag) as u32)
    }
}

/// Places of the numbers in a segment's header.
const LEN: usize = 0;
pub(super) const LINES: usize = 4;

/// Lines that are homes in a segment of so many: the others are its header and room for what the
/// last homes' entries are pushed beyond.
pub(super) fn homes(line_count: usize) -> u16 {
    (line_count - 2 - line_count / 32) as u16
}

/// The smallest number of lines of a segment that is not smaller than `line_count`.
pub(super) fn segment_lines(line_count: usize) -> usize {
    let small = SMALL_LINES.into_iter().find(|lines| line_count <= *lines);
    small.unwrap_or_else(|| line_count.max(SPLIT_LINES).next_power_of_two())
}

pub(super) fn new_segment(
    slots: &mut Slots,
    budget: &mut Budget,
    lines: usize,
) -> Result<Address, Full> {
    if LINES_MAX < lines {
        return Err(Full);
    }
    let at = slots.alloc(budget, Part::Index, lines * LINE_BYTES)?;
    let bytes = slots.bytes_mut(at, lines * LINE_BYTES);
    bytes.fill(0);
    set_u32_at(bytes, LINES, lines as u32);
    Ok(at)
}

pub(super) fn free_segment(slots: &mut Slots, budget: &mut Budget, segment: Address) {
    let lines = u32_at(slots.bytes(segment, LINE_BYTES), LINES) as usize;
    slots.free(budget, segment, lines * LINE_BYTES);
}

/// A segment of at least `line_count` lines with `entries`, which are in order.
pub(super) fn filled_segment(
    slots: &mut Slots,
    budget: &mut Budget,
    entries: &[(u32, Address)],
    depth: u8,
    line_count: usize,
) -> Result<Branch, Full> {
    let lines = segment_lines(line_count);
    let segment = new_segment(slots, budget, lines)?;
    let branch = Branch { segment, homes: homes(lines), depth };
    let mut filled = Segment::of(slots, branch);
    if filled.fill(entries, branch) {
        return Ok(branch);
    }
    free_segment(slots, budget, segment);
    filled_segment(slots, budget, entries, depth, lines + 1)
}

#[inline]
pub(super) fn line(slots: &Slots, at: Address) -> &[u8; LINE_BYTES] {
    slots.array(at)
}

#[inline]
pub(super) fn tag_of(line: &[u8; LINE_BYTES], i: usize) -> u32 {
    u32_at(line, 4 * i)
}

#[inline]
pub(super) fn slot_of(line: &[u8; LINE_BYTES], i: usize) -> Address {
    Address(u32_at(line, 4 * (LINE + i)))
}

/// The entries of a line whose tag is `tag`. Gaps have tags too.
#[inline]
pub(super) fn equal(line: &[u8; LINE_BYTES], tag: u32) -> Equal {
    // Compilers make two vector comparisons of it, unless a shift by 0 is different.
    let bit = |i: usize| u32::from(tag_of(line, i) == tag) << (i + 1);
    Equal((0..LINE).fold(0, |equal, i| equal | bit(i)))
}

/// Indexes of entries in a line, as a bit for each from the second bit on: 1 if it is one of them.
#[derive(Debug)]
pub(super) struct Equal(u32);

impl Equal {
    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = (self.0.trailing_zeros() as usize - 1) % LINE;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

/// The slot found by tag in a line: rarely another key's, or none although there is one.
#[inline]
pub(super) fn guess(line: &[u8; LINE_BYTES], tag: u32) -> Option<Address> {
    let slot = slot_of(line, equal(line, tag).next()?);
    (!slot.is_none()).then_some(slot)
}

/// A segment's lines, to be changed; the first one is its header.
pub(super) struct Segment<'a>(&'a mut [[u8; LINE_BYTES]]);

impl<'a> Segment<'a> {
    pub(super) fn of(slots: &'a mut Slots, branch: Branch) -> Self {
        let lines = u32_at(slots.bytes(branch.segment, LINE_BYTES), LINES) as usize;
        Self(slots.bytes_mut(branch.segment, lines * LINE_BYTES).as_chunks_mut().0)
    }

    pub(super) fn len(&self) -> usize {
        u32_at(&self.0[0], LEN) as usize
    }

    pub(super) fn set_len(&mut self, len: usize) {
        set_u32_at(&mut self.0[0], LEN, len as u32);
    }

    pub(super) fn line_count(&self) -> usize {
        self.0.len()
    }

    /// Places for entries; the last one stays a gap.
    pub(super) fn place_count(&self) -> usize {
        (self.line_count() - 1) * LINE
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> (u32, Address) {
        let line = &self.0[1 + place / LINE];
        (tag_of(line, place % LINE), slot_of(line, place % LINE))
    }

    pub(super) fn set(&mut self, place: usize, (tag, slot): (u32, Address)) {
        let line = &mut self.0[1 + place / LINE];
        set_u32_at(line, 4 * (place % LINE), tag);
        set_u32_at(line, 4 * (LINE + place % LINE), slot.0);
    }

    pub(super) fn is_gap(&self, place: usize) -> bool {
        self.get(place).1.is_none()
    }

    pub(super) fn entries(&self) -> Vec<(u32, Address)> {
        let entries = (0..self.place_count()).map(|place| self.get(place));
        entries.filter(|(_, slot)| !slot.is_none()).collect()
    }

    /// Adds an entry and answers how many were pushed on, or `None`, and changes nothing, if the
    /// last place would no longer be a gap.
    pub(super) fn insert(&mut self, home: usize, entry: (u32, Address)) -> Option<usize> {
        let mut place = home * LINE;
        while !self.is_gap(place) && self.get(place).0 <= entry.0 {
            place += 1;
        }
        let mut gap = place;
        while !self.is_gap(gap) {
            gap += 1;
        }
        if gap + 1 == self.place_count() {
            return None;
        }
        for moved in (place..gap).rev() {
            self.set(moved + 1, self.get(moved));
        }
        self.set(place, entry);
        self.set_len(self.len() + 1);
        Some(gap - place)
    }

    /// Adds `entries`, in order, to an empty segment; false if they do not fit.
    pub(super) fn fill(&mut self, entries: &[(u32, Address)], branch: Branch) -> bool {
        let mut place = 0;
        for entry in entries {
            place = place.max(branch.home(entry.0) * LINE);
            if self.place_count() <= place + 1 {
                return false;
            }
            self.set(place, *entry);
            place += 1;
        }
        self.set_len(entries.len());
        true
    }

    /// Lets `entries`, in order, be all that is in it; false if they do not fit.
    pub(super) fn refill(&mut self, entries: &[(u32, Address)], branch: Branch) -> bool {
        self.0[1..].fill([0; LINE_BYTES]);
        self.fill(entries, branch)
    }

    pub(super) fn place_of(&self, home: usize, slot: Address) -> usize {
        let mut place = home * LINE;
        while self.get(place).1 != slot {
            assert!(!self.is_gap(place), "slot {slot:?} is not in the index");
            place += 1;
        }
        place
    }

    pub(super) fn remove_at(&mut self, mut place: usize, branch: Branch) {
        // Entries behind it move one closer, up to one that is where its home begins.
        loop {
            let next = self.get(place + 1);
            if next.1.is_none() || branch.home(next.0) * LINE == place + 1 {
                break;
            }
            self.set(place, next);
            place += 1;
        }
        self.set(place, (0, Address::NONE));
        self.set_len(self.len() - 1);
    }
}
