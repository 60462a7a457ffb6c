//! The index: which block has a key, without reading any.
//!
//! A block's *fence* is the hash of its first entry. Within a section the fences ascend, and hashes
//! are uniform, so a fence is found where it ought to be. Where many entries share one hash, as
//! those of a map do, blocks are told apart by their *separators*.

use std::ops::Range;

use super::bytes::{u32_at, u64_at};
use super::directory::Section;
use super::entry::{HASH_END, hash_of};
use super::filter::LINE_BYTES;
use super::{BLOCK_BYTES_MAX, PAGE_BYTES};

const FENCE_BYTES: usize = 8;
const PLACE_BYTES: usize = 8;
const SEPARATOR_BYTES: usize = 8;
const COUNT_BYTES: usize = 4;

/// What is wrong with an index whose checksums are right.
const DAMAGE: &str = "the index contradicts itself";

/// An index that is being written.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    fences: Vec<u8>,
    places: Vec<u8>,
    separators: Vec<u8>,
    texts: Vec<u8>,
    block_count: u32,
}

/// The sections of an index, as they are written.
pub(super) struct EncodedIndex {
    pub(super) fences: Vec<u8>,
    pub(super) places: Vec<u8>,
    pub(super) separators: Vec<u8>,
}

impl IndexBuilder {
    pub(super) fn block_count(&self) -> u32 {
        self.block_count
    }

    /// Memory that it takes, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        let parts = [&self.fences, &self.places, &self.separators, &self.texts];
        parts.map(Vec::capacity).iter().sum()
    }

    /// Adds a block that begins with `first_key` at `page`; the lines of its filter begin at
    /// `line`. `last_key` is that of the block before.
    pub(super) fn push(&mut self, last_key: &[u8], first_key: &[u8], page: u32, line: u32) {
        self.fences.extend_from_slice(&hash_of(first_key).to_le_bytes());
        self.push_place(page, line);
        if last_key.get(..HASH_END) == Some(&first_key[..HASH_END]) {
            let (last, first) = (&last_key[HASH_END..], &first_key[HASH_END..]);
            let same = last.iter().zip(first).take_while(|(a, b)| a == b).count();
            self.texts.extend_from_slice(&first[..=same]);
            self.separators.extend_from_slice(&self.block_count.to_le_bytes());
            self.separators.extend_from_slice(&(self.texts.len() as u32).to_le_bytes());
        }
        self.block_count += 1;
    }

    fn push_place(&mut self, page: u32, line: u32) {
        self.places.extend_from_slice(&page.to_le_bytes());
        self.places.extend_from_slice(&line.to_le_bytes());
    }

    /// The whole index of a table whose blocks end at `page` and whose filters end at `line`.
    pub(super) fn finish(mut self, page: u32, line: u32) -> EncodedIndex {
        self.push_place(page, line);
        let count = (self.separators.len() / SEPARATOR_BYTES) as u32;
        let mut separators = count.to_le_bytes().to_vec();
        separators.append(&mut self.separators);
        separators.append(&mut self.texts);
        EncodedIndex { fences: self.fences, places: self.places, separators }
    }
}

/// How many blocks there are by the lengths of these sections, if they agree.
pub(super) fn block_count(fences: usize, places: usize) -> Option<u32> {
    let count = fences / FENCE_BYTES;
    let agree = fences.is_multiple_of(FENCE_BYTES) && places == (count + 1) * PLACE_BYTES;
    agree.then(|| u32::try_from(count).ok()).flatten()
}

/// An index that was read; its checksums are right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index<'a> {
    pub(super) fences: &'a [u8],
    pub(super) places: &'a [u8],
    pub(super) separators: &'a [u8],
}

impl<'a> Index<'a> {
    /// The block in which `hash` and then `suffix` are, or would be, in `section`. `suffix` is what
    /// follows the hash in a stored key, or the beginning of it.
    pub(super) fn find(
        &self,
        section: &Section,
        hash: u64,
        suffix: &[u8],
    ) -> Result<u32, &'static str> {
        let inner = section.first_block + 1..section.last_block + 1;
        let equal_start = self.fences_below(inner.clone(), hash, section);
        let mut equal_end = equal_start;
        if equal_start < inner.end && self.fence(equal_start) == hash {
            // Blocks with one fence are few, but for maps with many entries.
            equal_end = match hash.checked_add(1) {
                Some(next) => self.fences_below(equal_start..inner.end, next, section),
                None => inner.end,
            };
        }
        let before = equal_start - 1;
        if equal_start == equal_end {
            return Ok(before);
        }
        let separated = self.separated(equal_start..equal_end)?;
        // All but the first begin with the hash that the block before them ends with.
        let is_first_separated = separated.len() == (equal_end - equal_start) as usize;
        if !is_first_separated && separated.len() + 1 != (equal_end - equal_start) as usize {
            return Err(DAMAGE);
        }
        let start = if is_first_separated { before } else { equal_start };
        let (mut low, mut high) = (separated.start, separated.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.text(middle)? <= suffix { low = middle + 1 } else { high = middle }
        }
        Ok(start + (low - separated.start) as u32)
    }

    /// The first block of `blocks`, which are of `section`, whose fence is not below `hash`; or
    /// their end.
    fn fences_below(&self, blocks: Range<u32>, hash: u64, section: &Section) -> u32 {
        let all = f64::from(section.last_block - section.first_block + 1);
        let span = (section.last_hash - section.first_hash) as f64 + 1.0;
        let offset = hash.saturating_sub(section.first_hash) as f64 * (all / span);
        let guess = section.first_block.saturating_add(offset as u32);
        lower_bound(blocks, hash, guess, all / span, |block| self.fence(block))
    }

    /// Where `block` is in the file, and how long it is.
    pub(super) fn place(&self, block: u32) -> Result<(u64, usize), &'static str> {
        let (page, end) = (self.page(block), self.page(block + 1));
        let page_count = end.checked_sub(page).filter(|count| 0 < *count).ok_or(DAMAGE)? as usize;
        if BLOCK_BYTES_MAX / PAGE_BYTES < page_count || self.page_end() < end {
            return Err(DAMAGE);
        }
        Ok((u64::from(page) * PAGE_BYTES as u64, page_count * PAGE_BYTES))
    }

    /// The lines of `block` within `filters`.
    pub(super) fn lines<'f>(
        &self,
        block: u32,
        filters: &'f [u8],
    ) -> Result<&'f [u8], &'static str> {
        let [line, end] =
            [block, block + 1].map(|at| u32_at(self.places, at as usize * PLACE_BYTES + 4));
        filters.get(line as usize * LINE_BYTES..end as usize * LINE_BYTES).ok_or(DAMAGE)
    }

    pub(super) fn block_count(&self) -> u32 {
        (self.fences.len() / FENCE_BYTES) as u32
    }

    /// Where the blocks end, in pages.
    pub(super) fn page_end(&self) -> u32 {
        u32_at(self.places, self.places.len() - PLACE_BYTES)
    }

    fn page(&self, block: u32) -> u32 {
        u32_at(self.places, block as usize * PLACE_BYTES)
    }

    fn fence(&self, block: u32) -> u64 {
        u64_at(self.fences, block as usize * FENCE_BYTES)
    }

    /// The separators of `blocks`.
    fn separated(&self, blocks: Range<u32>) -> Result<Range<usize>, &'static str> {
        let count = self.separators.get(..COUNT_BYTES).map(|bytes| u32_at(bytes, 0) as usize);
        let rows = count
            .and_then(|count| self.separators.get(COUNT_BYTES..)?.get(..count * SEPARATOR_BYTES))
            .ok_or(DAMAGE)?;
        let (rows, _) = rows.as_chunks::<SEPARATOR_BYTES>();
        let start = rows.partition_point(|row| u32_at(row, 0) < blocks.start);
        let end = rows.partition_point(|row| u32_at(row, 0) < blocks.end);
        if end < start { Err(DAMAGE) } else { Ok(start..end) }
    }

    /// The text of separator `index`.
    fn text(&self, index: usize) -> Result<&'a [u8], &'static str> {
        let row = |index: usize| COUNT_BYTES + index * SEPARATOR_BYTES;
        let start = match index.checked_sub(1) {
            Some(before) => u32_at(self.separators, row(before) + 4) as usize,
            None => 0,
        };
        let end = u32_at(self.separators, row(index) + 4) as usize;
        let count = u32_at(self.separators, 0) as usize;
        self.separators.get(row(count)..).and_then(|texts| texts.get(start..end)).ok_or(DAMAGE)
    }
}

/// So often a guess is corrected by how far off its fence is.
const CORRECTION_COUNT: usize = 3;

/// The first block of `blocks` whose fence is not below `hash`, or their end; `guess` is where it
/// may be, and `blocks_per_hash` how many there are between two hashes on average.
///
/// A guess over `n` evenly spread hashes is some `√n` blocks off. The fence there tells by how
/// much, and the next guess is off by the root of that; after a few of them the place is near, and
/// is found in steps that double. Whatever the hashes are, it takes no more than about twice the
/// looks of a binary search.
fn lower_bound(
    blocks: Range<u32>,
    hash: u64,
    guess: u32,
    blocks_per_hash: f64,
    mut fence: impl FnMut(u32) -> u64,
) -> u32 {
    if blocks.is_empty() {
        return blocks.end;
    }
    let last = blocks.end - 1;
    let mut guess = guess.clamp(blocks.start, last);
    let mut found = fence(guess);
    for _ in 0..CORRECTION_COUNT {
        let correction = (hash.abs_diff(found) as f64 * blocks_per_hash) as u32;
        let next = if found < hash {
            guess.saturating_add(correction).min(last)
        } else {
            guess.saturating_sub(correction).max(blocks.start)
        };
        if next == guess {
            break;
        }
        guess = next;
        found = fence(guess);
    }
    let (mut low, mut high) = (blocks.start, blocks.end);
    let mut step = 1_u32;
    if found < hash {
        low = guess + 1;
        while low < high {
            let probe = guess.saturating_add(step).min(high - 1);
            if hash <= fence(probe) {
                high = probe;
                break;
            }
            low = probe + 1;
            step = step.saturating_mul(2);
        }
    } else {
        high = guess;
        while low < high {
            let probe = guess.saturating_sub(step).max(low);
            if fence(probe) < hash {
                low = probe + 1;
                break;
            }
            high = probe;
            step = step.saturating_mul(2);
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if fence(middle) < hash { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bound of `hash` among `fences` and how many of them were looked at.
    fn find(fences: &[u64], hash: u64) -> (u32, usize) {
        let (first, last) = (fences[0], fences[fences.len() - 1]);
        let per_hash = fences.len() as f64 / ((last - first) as f64 + 1.0);
        let guess = (hash.saturating_sub(first) as f64 * per_hash) as u32;
        let mut looks = 0;
        let found = lower_bound(0..fences.len() as u32, hash, guess, per_hash, |block| {
            looks += 1;
            fences[block as usize]
        });
        (found, looks)
    }

    fn check(fences: &[u64], hash: u64) -> usize {
        let (found, looks) = find(fences, hash);
        assert_eq!(found as usize, fences.partition_point(|fence| *fence < hash));
        looks
    }

    proptest! {
        #[test]
        fn it_is_the_bound_that_a_binary_search_finds(
            mut fences in prop::collection::vec(
                prop_oneof![any::<u64>(), 0_u64..20, Just(u64::MAX)], 1..300,
            ),
            hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..20], 20),
        ) {
            fences.sort_unstable();
            for hash in hashes.iter().chain(&fences) {
                let looks = check(&fences, *hash);
                prop_assert!(looks <= 2 * 9 + CORRECTION_COUNT + 2, "{looks} looks");
            }
        }
    }

    #[test]
    fn few_looks_find_a_hash_among_many() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state ^ (state >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let mut fences: Vec<u64> = (0..200_000).map(|_| random()).collect();
        fences.sort_unstable();
        let looks: usize = (0..1000).map(|_| check(&fences, random())).sum();
        assert!(looks < 7 * 1000, "{looks} looks for 1,000 hashes; a binary search takes 18 each");
    }
}
