//! A block: entries of one key group, found by binary search. Its bytes are drawn in `table.rs`.
//!
//! Invariant: a [`Layout`] exists only for bytes whose checksum was right and in which every entry
//! lies; so the accessors need no further checks.

mod builder;

pub(super) use builder::{BlockBuilder, Shape};

use std::cmp::Ordering;
use std::ops::Range;

use super::bytes::{i64_at, u16_at, u32_at, u64_at};
use super::entry::{Change, Entry, KEY_BYTES_MIN, OPERAND, TOMBSTONE, VALUE, given_time};
use super::{BLOCK_BYTES_MAX, PAGE_BYTES, TableId};

const HEADER_BYTES: usize = 48;
const CRC_BYTES: usize = 4;

const FORM_FIXED: u8 = 1;
const FORM_VARIABLE: u8 = 2;

const FLAG_OWN_SEQUENCE: u8 = 1;
const FLAG_OWN_TIME: u8 = 2;
const FLAG_ALIGNED: u8 = 4;

/// Bytes before the suffix of an entry of form 2: kind and suffix length, value length.
const LENGTHS_BYTES: usize = 8;
const OFFSET_BYTES: usize = 4;

/// What aligned values begin at a multiple of.
const VALUE_ALIGNMENT_BYTES: usize = 16;

/// The suffix length is in the lower bits of a word, the kind in the upper ones.
const KIND_SHIFT: u32 = 28;

/// The checksum of a block: `bytes` is what follows the field for it.
fn checksum(table: TableId, page: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&table.0.to_le_bytes());
    hasher.update(&page.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// `at`, or the next place where a value may begin.
fn value_start(at: usize, is_aligned: bool) -> usize {
    if is_aligned { at.next_multiple_of(VALUE_ALIGNMENT_BYTES) } else { at }
}

/// The header of a block that was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    form: u8,
    flags: u8,
    sequence: u64,
    max_time: i64,
    count: usize,
    prefix_len: usize,
    stride: usize,
    suffix_len: usize,
    value_len: usize,
    kind: u8,
}

/// Where the parts of an entry are.
struct Place {
    /// Its own sequence and time, if it has them.
    own: usize,
    suffix: Range<usize>,
    value: Range<usize>,
    kind: u8,
}

impl Layout {
    /// Checks the block `bytes` of `table` that begins at `page`: its checksum, and that every
    /// entry lies within it.
    pub(super) fn verify(bytes: &[u8], table: TableId, page: u32) -> Result<Self, &'static str> {
        if bytes.len() < PAGE_BYTES || BLOCK_BYTES_MAX < bytes.len() {
            return Err("a block has an impossible length");
        }
        if u32_at(bytes, 0) != checksum(table, page, &bytes[CRC_BYTES..]) {
            return Err("the checksum of a block is wrong");
        }
        let layout = Self {
            form: bytes[4],
            flags: bytes[5],
            sequence: u64_at(bytes, 8),
            max_time: i64_at(bytes, 16),
            count: u32_at(bytes, 24) as usize,
            prefix_len: u32_at(bytes, 28) as usize,
            stride: u32_at(bytes, 32) as usize,
            suffix_len: u32_at(bytes, 36) as usize,
            value_len: u32_at(bytes, 40) as usize,
            kind: bytes[44],
        };
        layout.check_places(bytes).ok_or("an entry is not within its block")?;
        let prefix = layout.prefix(bytes);
        let key_group = u16_at(bytes, 6).to_be_bytes();
        // One with several key groups has less in common.
        let common_len = prefix.len().min(key_group.len());
        if prefix[..common_len] != key_group[..common_len] {
            return Err("a block holds keys of another key group");
        }
        Ok(layout)
    }

    fn check_places(&self, bytes: &[u8]) -> Option<()> {
        let lens = [self.prefix_len, self.stride, self.suffix_len, self.value_len];
        let is_sane = (1..=bytes.len()).contains(&self.count)
            && lens.iter().all(|len| *len <= bytes.len())
            && self.entries_start() <= bytes.len();
        if !is_sane {
            return None;
        }
        if self.form == FORM_FIXED {
            let first = self.place(bytes, 0);
            let last_start = self.entries_start() + (self.count - 1) * self.stride;
            let entry_bytes = first.value.end - self.entries_start();
            let is_regular = self.count == 1
                || entry_bytes <= self.stride
                    && value_start(self.stride, self.has(FLAG_ALIGNED)) == self.stride;
            let fits = is_regular && last_start + entry_bytes <= bytes.len();
            return (fits && self.is_entry(&first)).then_some(());
        }
        if self.form != FORM_VARIABLE {
            return None;
        }
        let offsets_start = bytes.len().checked_sub(self.count * OFFSET_BYTES)?;
        let mut end = self.entries_start();
        for index in 0..self.count {
            let start = u32_at(bytes, offsets_start + index * OFFSET_BYTES) as usize;
            if start < end || offsets_start < start + LENGTHS_BYTES {
                return None;
            }
            let place = self.place(bytes, index);
            end = place.value.end;
            if offsets_start < end || !self.is_entry(&place) {
                return None;
            }
        }
        Some(())
    }

    /// Whether the parts at `place` are a key and a change.
    fn is_entry(&self, place: &Place) -> bool {
        let has_kind = matches!(place.kind, VALUE | TOMBSTONE | OPERAND);
        let is_empty = place.value.is_empty();
        has_kind
            && (place.kind != TOMBSTONE || is_empty)
            && KEY_BYTES_MIN <= self.prefix_len + place.suffix.len()
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn own_bytes(&self) -> usize {
        8 * (usize::from(self.has(FLAG_OWN_SEQUENCE)) + usize::from(self.has(FLAG_OWN_TIME)))
    }

    fn prefix<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[HEADER_BYTES..HEADER_BYTES + self.prefix_len]
    }

    fn entries_start(&self) -> usize {
        value_start(HEADER_BYTES + self.prefix_len, self.has(FLAG_ALIGNED))
    }

    fn place(&self, bytes: &[u8], index: usize) -> Place {
        let (own, suffix_len, value_len, kind) = if self.form == FORM_FIXED {
            let own = self.entries_start() + index * self.stride;
            (own, self.suffix_len, self.value_len, self.kind)
        } else {
            let offset = bytes.len() - (self.count - index) * OFFSET_BYTES;
            let start = u32_at(bytes, offset) as usize;
            let word = u32_at(bytes, start);
            let suffix_len = (word & ((1 << KIND_SHIFT) - 1)) as usize;
            let value_len = u32_at(bytes, start + 4) as usize;
            (start + LENGTHS_BYTES, suffix_len, value_len, (word >> KIND_SHIFT) as u8)
        };
        let suffix_start = own + self.own_bytes();
        let suffix = suffix_start..suffix_start + suffix_len;
        let value_start = value_start(suffix.end, self.has(FLAG_ALIGNED));
        Place { own, suffix, value: value_start..value_start + value_len, kind }
    }
}

/// The bytes of a block, checked.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> Block<'a> {
    /// The block whose layout is known from these very bytes.
    pub(super) fn new(bytes: &'a [u8], layout: Layout) -> Self {
        Self { bytes, layout }
    }

    /// How many entries it has.
    pub(super) fn count(&self) -> usize {
        self.layout.count
    }

    /// The entries of `key`, the newest first; none if it is not there.
    ///
    /// All that a table has of a key is in one block, the one that
    /// [`Table::locate`](super::Table::locate) names.
    pub fn search(&self, key: &'a [u8]) -> Chain<'a> {
        Chain { block: *self, key, index: self.lower_bound(key) }
    }

    /// The first entry whose key is not smaller than `key`; the count if there is none.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        let prefix = self.layout.prefix(self.bytes);
        let Some(suffix) = key.strip_prefix(prefix) else {
            return if key < prefix { 0 } else { self.count() };
        };
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.suffix(middle).cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        low
    }

    /// Makes `key` the stored key of entry `index`.
    pub(super) fn copy_key(&self, index: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.layout.prefix(self.bytes));
        key.extend_from_slice(self.suffix(index));
    }

    /// Entry `index`, whose key is `key`.
    pub(super) fn entry(&self, index: usize, key: &'a [u8]) -> Entry<'a> {
        let layout = &self.layout;
        let Place { mut own, value, kind, .. } = layout.place(self.bytes, index);
        let mut sequence = layout.sequence;
        if layout.has(FLAG_OWN_SEQUENCE) {
            sequence = u64_at(self.bytes, own);
            own += 8;
        }
        let is_own = layout.has(FLAG_OWN_TIME);
        let time = if is_own { i64_at(self.bytes, own) } else { layout.max_time };
        let change = Change::of(kind, &self.bytes[value]);
        Entry { key, change, sequence, time_ms: given_time(time) }
    }

    fn suffix(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.layout.place(self.bytes, index).suffix]
    }
}

/// The entries of one key in one block, the newest first.
#[derive(Debug, Clone)]
pub struct Chain<'a> {
    block: Block<'a>,
    key: &'a [u8],
    index: usize,
}

impl<'a> Iterator for Chain<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let Self { block, key, index } = self;
        let suffix = key.strip_prefix(block.layout.prefix(block.bytes))?;
        if *index == block.count() || block.suffix(*index) != suffix {
            return None;
        }
        *index += 1;
        Some(block.entry(*index - 1, key))
    }
}
