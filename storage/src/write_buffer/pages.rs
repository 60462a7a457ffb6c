//! Runs of pages in chunks: a buddy system.
//!
//! ```text
//! chunk  │ 512 pages of 4 KiB                                   │  2 MiB, a huge page
//!        │ used (5)     │1│ 2  │ 8              │ 16 …            │
//! ```
//!
//! Free runs are of 2^n pages, each at a multiple of its length. A run of any number of pages is
//! the beginning of such a one; what is behind it is free again at once. A run that is given back
//! is merged with its free neighbours, and a chunk of which nothing is used goes back to the
//! budget. Every operation takes some ten steps or fewer, whatever there is.
//!
//! Free runs are linked through their own first bytes: next and previous page, 4 bytes each.
//!
//! A chunk has either records, which can be evicted, or what finds them, which cannot: so evicting
//! records makes chunks whole again. The last chunks of the budget are kept for the latter: of
//! records that are there the lists and indexes can become longer.

use super::budget::{Budget, Full};
use crate::arena::{Buffer, CHUNK_BYTES};
use crate::prefetch::prefetch_bytes;

/// A page is the unit of this file.
pub(super) const PAGE_BYTES: usize = 4096;

/// Pages of a chunk.
const PAGE_COUNT: u32 = (CHUNK_BYTES / PAGE_BYTES) as u32;

/// A free run of this order is a whole chunk.
pub(super) const ORDER_MAX: u32 = PAGE_COUNT.trailing_zeros();

/// Addresses are in units of this many bytes: what every allocation is aligned to.
pub(super) const UNIT_BYTES: usize = 16;

const UNITS_PER_CHUNK_LOG2: u32 = (CHUNK_BYTES / UNIT_BYTES).trailing_zeros();
pub(super) const UNITS_PER_PAGE_LOG2: u32 = (PAGE_BYTES / UNIT_BYTES).trailing_zeros();

/// Chunks that addresses can tell apart. Half of what 32 bits hold: a place of 8 bytes has an
/// address of 32 bits too.
pub(super) const CHUNK_COUNT_MAX: usize = 1 << (31 - UNITS_PER_CHUNK_LOG2);

/// The map's mark of the first page of a free run; its order is in the other bits.
const FREE: u8 = 0x80;

/// Those of the first page of a slab, and of another run in use.
const SLAB: u8 = 0x40;
const RUN: u8 = 0x20;

/// What a chunk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Records.
    Records,
    /// Indexes and dirty lists.
    Index,
}

const PARTS: usize = 2;

/// What begins at a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// A free run of so many pages.
    Free(u32),
    Slab,
    /// Another run that is in use.
    Run,
    /// It belongs to a run that begins before it.
    Nothing,
}

/// Where something is: chunk, and 16 bytes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub(super) struct Address(pub(super) u32);

impl Address {
    /// Of nothing.
    pub(super) const NONE: Self = Self(0);

    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// This many bytes, a multiple of 16, further on.
    #[inline]
    pub(super) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + (bytes / UNIT_BYTES) as u32)
    }

    /// So many times so many bytes, a multiple of 16, further on.
    #[inline]
    pub(super) fn offset_by(self, bytes: usize, times: u32) -> Self {
        Self(self.0 + times * (bytes / UNIT_BYTES) as u32)
    }
}

/// All memory of a write buffer.
#[derive(Debug)]
pub(super) struct Pages {
    /// By number; an empty buffer in the place of one that is gone. Number 0 is never used, so that
    /// no address is 0.
    chunks: Vec<Buffer>,
    /// By number, for each page what begins at it, and of which order if it is free.
    maps: Vec<[u8; PAGE_COUNT as usize]>,
    /// By number.
    parts: Vec<Part>,
    vacant_numbers: Vec<u32>,
    /// By part and order, the first page of the first free run; 0 if there is none.
    free: [[u32; ORDER_MAX as usize + 1]; PARTS],
    /// By part, pages of its chunks that are not in use.
    free_counts: [usize; PARTS],
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            chunks: vec![Buffer::heap(0)],
            maps: vec![[0; _]],
            parts: vec![Part::Index],
            vacant_numbers: Vec::new(),
            free: [[0; _]; _],
            free_counts: [0; _],
        }
    }

    /// Bytes of the runs in use.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.chunk_bytes() - self.free_counts.iter().sum::<usize>() * PAGE_BYTES
    }

    /// Bytes of the chunks taken from the budget.
    pub(super) fn chunk_bytes(&self) -> usize {
        (self.chunks.len() - 1 - self.vacant_numbers.len()) * CHUNK_BYTES
    }

    /// A run of `count` pages, at a multiple of the next power of two.
    ///
    /// # Panics
    /// If that is more than a chunk.
    pub(super) fn alloc(
        &mut self,
        budget: &mut Budget,
        part: Part,
        count: u32,
    ) -> Result<Address, Full> {
        let (page, order) = match self.find(part, count) {
            Some((page, order)) => {
                self.unlink(page, order);
                (page, order)
            }
            None => (self.add_chunk(budget, part)?, ORDER_MAX),
        };
        for (rest, order) in aligned(page + count, page + (1 << order)) {
            self.link(rest, order);
        }
        *self.mark(page) = RUN;
        self.free_counts[part as usize] -= count as usize;
        Ok(Address(page << UNITS_PER_PAGE_LOG2))
    }

    /// Whether a run of `count` pages would be found.
    pub(super) fn has_room(&self, budget: &Budget, part: Part, count: u32) -> bool {
        self.find(part, count).is_some() || self.may_add_chunk(budget, part)
    }

    /// The first free run of at least `count` pages, and its order.
    fn find(&self, part: Part, count: u32) -> Option<(u32, u32)> {
        assert!(0 < count && count <= PAGE_COUNT, "a run of {count} pages does not fit a chunk");
        let free = &self.free[part as usize];
        let order = (order_of(count)..=ORDER_MAX).find(|order| free[*order as usize] != 0)?;
        Some((free[order as usize], order))
    }

    /// Notes that the run at `start` is a slab.
    pub(super) fn set_slab(&mut self, start: Address) {
        *self.mark(start.0 >> UNITS_PER_PAGE_LOG2) = SLAB;
    }

    /// Takes back a run of `count` pages.
    pub(super) fn free(&mut self, budget: &mut Budget, start: Address, count: u32) {
        let page = start.0 >> UNITS_PER_PAGE_LOG2;
        assert!(start.0.is_multiple_of(1 << UNITS_PER_PAGE_LOG2));
        self.free_counts[self.part_of(start) as usize] += count as usize;
        *self.mark(page) = 0;
        for (part, order) in aligned(page, page + count) {
            self.release(budget, part, order);
        }
    }

    /// What the chunk of `start` is for.
    pub(super) fn part_of(&self, start: Address) -> Part {
        self.parts[locate(start).0]
    }

    /// How many pages there have ever been, from page 0 on.
    pub(super) fn page_count(&self) -> u32 {
        self.chunks.len() as u32 * PAGE_COUNT
    }

    /// What begins at `page`, in memory for records.
    pub(super) fn begins_at(&self, page: u32) -> Begins {
        let (chunk, of_chunk) = ((page / PAGE_COUNT) as usize, (page % PAGE_COUNT) as usize);
        if self.parts[chunk] != Part::Records {
            return Begins::Nothing;
        }
        match self.maps[chunk][of_chunk] {
            SLAB => Begins::Slab,
            RUN => Begins::Run,
            mark if mark & FREE != 0 => Begins::Free(1 << (mark & !FREE)),
            _ => Begins::Nothing,
        }
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub(super) fn bytes(&self, start: Address, len: usize) -> &[u8] {
        let (chunk, offset) = locate(start);
        &self.chunks[chunk].as_slice()[offset..offset + len]
    }

    /// All bytes of the chunk from `start` on.
    #[inline]
    pub(super) fn tail(&self, start: Address) -> &[u8] {
        let (chunk, offset) = locate(start);
        &self.chunks[chunk].as_slice()[offset..]
    }

    /// So many bytes from `start` on.
    #[inline]
    pub(super) fn array<const N: usize>(&self, start: Address) -> &[u8; N] {
        self.bytes(start, N).try_into().expect("the slice has this length")
    }

    /// All bytes of the chunk from `start` on, to be changed.
    #[inline]
    pub(super) fn tail_mut(&mut self, start: Address) -> &mut [u8] {
        let (chunk, offset) = locate(start);
        &mut self.chunks[chunk].as_mut_slice()[offset..]
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub(super) fn bytes_mut(&mut self, start: Address, len: usize) -> &mut [u8] {
        let (chunk, offset) = locate(start);
        &mut self.chunks[chunk].as_mut_slice()[offset..offset + len]
    }

    /// Asks for the lines of `len` bytes from `start` on, the first few of them.
    #[inline]
    pub(super) fn prefetch(&self, start: Address, len: usize) {
        let bytes = self.tail(start);
        prefetch_bytes(&bytes[..len.min(bytes.len())]);
    }

    /// Copies `len` bytes.
    pub(super) fn copy(&mut self, from: Address, to: Address, len: usize) {
        let ((from_chunk, from), (to_chunk, to)) = (locate(from), locate(to));
        if from_chunk == to_chunk {
            self.chunks[from_chunk].as_mut_slice().copy_within(from..from + len, to);
            return;
        }
        let chunks = self.chunks.get_disjoint_mut([from_chunk, to_chunk]);
        let [source, target] = chunks.expect("they differ and are there");
        let source = &source.as_slice()[from..from + len];
        target.as_mut_slice()[to..to + len].copy_from_slice(source);
    }

    /// Whether a chunk is left for `part`, and would leave enough for the other.
    fn may_add_chunk(&self, budget: &Budget, part: Part) -> bool {
        let left = budget.left_count() * PAGE_COUNT as usize;
        let kept = match part {
            Part::Records => budget.reserved_count() * PAGE_COUNT as usize,
            Part::Index => 0,
        };
        let wanted = (kept + PAGE_COUNT as usize).saturating_sub(self.free_counts[1]);
        (PAGE_COUNT as usize).max(wanted) <= left
    }

    fn add_chunk(&mut self, budget: &mut Budget, part: Part) -> Result<u32, Full> {
        if !self.may_add_chunk(budget, part) {
            return Err(Full);
        }
        let chunk = budget.take()?;
        let number = if let Some(number) = self.vacant_numbers.pop() {
            self.chunks[number as usize] = chunk;
            self.parts[number as usize] = part;
            number
        } else {
            assert!(self.chunks.len() < CHUNK_COUNT_MAX, "a budget has no more chunks");
            self.chunks.push(chunk);
            self.maps.push([0; _]);
            self.parts.push(part);
            self.chunks.len() as u32 - 1
        };
        self.free_counts[part as usize] += PAGE_COUNT as usize;
        Ok(number * PAGE_COUNT)
    }

    fn release(&mut self, budget: &mut Budget, mut page: u32, mut order: u32) {
        while order < ORDER_MAX {
            let buddy = page ^ (1 << order);
            if *self.mark(buddy) != FREE | order as u8 {
                self.link(page, order);
                return;
            }
            self.unlink(buddy, order);
            page &= !(1 << order);
            order += 1;
        }
        let number = page / PAGE_COUNT;
        self.free_counts[self.parts[number as usize] as usize] -= PAGE_COUNT as usize;
        budget.put(std::mem::replace(&mut self.chunks[number as usize], Buffer::heap(0)));
        self.vacant_numbers.push(number);
    }

    fn link(&mut self, page: u32, order: u32) {
        let next = std::mem::replace(self.first_free(page, order), page);
        self.set_links(page, [next, 0]);
        if next != 0 {
            let [after, _] = self.links(next);
            self.set_links(next, [after, page]);
        }
        *self.mark(page) = FREE | order as u8;
    }

    fn unlink(&mut self, page: u32, order: u32) {
        let [next, previous] = self.links(page);
        if previous == 0 {
            *self.first_free(page, order) = next;
        } else {
            let [_, before] = self.links(previous);
            self.set_links(previous, [next, before]);
        }
        if next != 0 {
            let [after, _] = self.links(next);
            self.set_links(next, [after, previous]);
        }
        *self.mark(page) = 0;
    }

    /// The first free run of an order, in the part of `page`.
    fn first_free(&mut self, page: u32, order: u32) -> &mut u32 {
        &mut self.free[self.parts[(page / PAGE_COUNT) as usize] as usize][order as usize]
    }

    fn mark(&mut self, page: u32) -> &mut u8 {
        &mut self.maps[(page / PAGE_COUNT) as usize][(page % PAGE_COUNT) as usize]
    }

    fn links(&self, page: u32) -> [u32; 2] {
        let bytes = self.bytes(Address(page << UNITS_PER_PAGE_LOG2), 8);
        [0, 4].map(|at| u32_at(bytes, at))
    }

    fn set_links(&mut self, page: u32, [next, previous]: [u32; 2]) {
        let bytes = self.bytes_mut(Address(page << UNITS_PER_PAGE_LOG2), 8);
        set_u32_at(bytes, 0, next);
        set_u32_at(bytes, 4, previous);
    }
}

#[inline]
fn locate(address: Address) -> (usize, usize) {
    let units = address.0 & ((1 << UNITS_PER_CHUNK_LOG2) - 1);
    ((address.0 >> UNITS_PER_CHUNK_LOG2) as usize, units as usize * UNIT_BYTES)
}

/// The order of the smallest free run that `count` pages fit into.
pub(super) fn order_of(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// The fewest runs of powers of two, each at a multiple of its length, that make up
/// `start..end`.
fn aligned(mut start: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
    std::iter::from_fn(move || {
        let order = start.trailing_zeros().min((end - start).checked_ilog2()?);
        let run = (start, order);
        start += 1 << order;
        Some(run)
    })
}

/// The number at byte `at`.
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Writes `value` at byte `at`.
#[inline]
pub(super) fn set_u32_at(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Runs never overlap, keep what is written to them, and leave nothing behind.
        #[test]
        fn runs_are_apart(script in prop::collection::vec((1..=PAGE_COUNT, any::<u16>()), 1..80)) {
            let mut budget = Budget::new(5 * CHUNK_BYTES);
            let mut pages = Pages::new();
            let mut runs: Vec<(Address, u32, u8)> = Vec::new();
            for (i, (count, pick)) in script.into_iter().enumerate() {
                let count = if pick % 3 == 0 { count } else { 1 + count % 20 };
                if pick % 5 < 2 && !runs.is_empty() {
                    let (start, count, mark) = runs.swap_remove(usize::from(pick) % runs.len());
                    let bytes = pages.bytes(start, count as usize * PAGE_BYTES);
                    prop_assert!(bytes.iter().all(|byte| *byte == mark));
                    pages.free(&mut budget, start, count);
                } else if let part = [Part::Records, Part::Index][usize::from(pick) / 5 % 2]
                    && let Ok(start) = pages.alloc(&mut budget, part, count) {
                    let mark = i as u8;
                    pages.bytes_mut(start, count as usize * PAGE_BYTES).fill(mark);
                    runs.push((start, count, mark));
                }
                let used: usize = runs.iter().map(|run| run.1 as usize * PAGE_BYTES).sum();
                prop_assert_eq!(pages.used_bytes(), used);
                prop_assert_eq!(pages.chunk_bytes(), budget.taken_bytes());
            }
            for (start, count, _) in runs {
                pages.free(&mut budget, start, count);
            }
            prop_assert_eq!((pages.used_bytes(), budget.taken_bytes()), (0, 0));
        }
    }

    #[test]
    fn a_freed_chunk_is_whole_again() {
        let mut budget = Budget::new(CHUNK_BYTES);
        let mut pages = Pages::new();
        let part = Part::Records;
        let runs = [5, 1, 100, 200].map(|count| (pages.alloc(&mut budget, part, count), count));
        assert_eq!(pages.alloc(&mut budget, part, PAGE_COUNT), Err(Full));
        for (start, count) in runs {
            pages.free(&mut budget, start.expect("306 of 512 pages"), count);
        }
        assert!(pages.alloc(&mut budget, Part::Index, PAGE_COUNT).is_ok());
    }

    /// Records leave a chunk for what finds them, however much they need.
    #[test]
    fn records_do_not_take_the_last_chunk() {
        let mut budget = Budget::new(4 * CHUNK_BYTES);
        let mut pages = Pages::new();
        let mut alloc = |part| pages.alloc(&mut budget, part, PAGE_COUNT / 2);
        let count = (0..9).take_while(|_| alloc(Part::Records).is_ok()).count();
        assert_eq!(count, 6);
        assert!(alloc(Part::Index).is_ok());
        assert_eq!(alloc(Part::Records), Err(Full));
        assert!(alloc(Part::Index).is_ok());
        assert_eq!(alloc(Part::Index), Err(Full));
    }
}
