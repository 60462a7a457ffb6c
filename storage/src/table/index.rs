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

    /// The first block of `blocks` whose fence is not below `hash`, or their end. Looks where it
    /// would be if the hashes were evenly spread, then doubles its steps.
    fn fences_below(&self, blocks: Range<u32>, hash: u64, section: &Section) -> u32 {
        let span = u128::from(section.last_hash - section.first_hash) + 1;
        let part = u128::from(hash.saturating_sub(section.first_hash));
        let all = u128::from(section.last_block - section.first_block + 1);
        let guess = u128::from(section.first_block) + part.min(span) * all / span;
        let guess = (guess as u32).clamp(blocks.start, blocks.end);
        let is_below = |block: u32| self.fence(block) < hash;
        let (mut low, mut high) = (blocks.start, blocks.end);
        let mut step = 1;
        if guess < blocks.end && is_below(guess) {
            low = guess + 1;
            while low < high {
                let probe = (guess + step).min(high - 1);
                if is_below(probe) {
                    low = probe + 1;
                    step = step.saturating_mul(2);
                } else {
                    high = probe;
                    break;
                }
            }
        } else {
            high = guess;
            while low < high {
                let probe = guess.saturating_sub(step).max(low);
                if is_below(probe) {
                    low = probe + 1;
                    break;
                }
                high = probe;
                step = step.saturating_mul(2);
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_below(middle) { low = middle + 1 } else { high = middle }
        }
        low
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
