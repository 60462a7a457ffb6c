//! The directory: what a table has of each key group, state and window bucket.
//!
//! ```text
//! byte 0               12      16      20   24         32            40
//!      │ group, state, │ first │ last  │  0 │ entries  │ tombstones  │
//!      │ bucket        │ block │ block │    │          │             │
//! byte 40           48          56         64         72
//!      │ first hash │ last hash │ min time │ max time │
//! ```
//!
//! The first field is the beginning of the section's stored keys, big endian as there. Sections are
//! in its order; one may begin in the block in which the one before it ends.

use super::bytes::{array_at, i64_at, u32_at, u64_at};
use super::entry::{
    Change, Entry, SECTION_BYTES, given_time, hash_of, key_group_of, section_of, stored_time,
};

/// Bytes of a section in the file.
pub(super) const SECTION_ROW_BYTES: usize = 72;

/// What a table has of one key group, state and window bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Key group, state id and window bucket, as stored keys begin.
    pub prefix: [u8; 12],
    /// How many entries it has.
    pub entry_count: u64,
    /// How many of them are tombstones.
    pub tombstone_count: u64,
    /// Smallest hash.
    pub first_hash: u64,
    /// Largest hash.
    pub last_hash: u64,
    /// Earliest time (ms); `None`: no entry has one.
    pub time_min_ms: Option<i64>,
    /// Latest time (ms); `None`: an entry has none, and never expires.
    pub time_max_ms: Option<i64>,
    /// The block in which it begins.
    pub(super) first_block: u32,
    /// The block in which it ends.
    pub(super) last_block: u32,
}

impl Section {
    /// Its key group.
    pub fn key_group(&self) -> u16 {
        key_group_of(&self.prefix)
    }

    /// Its state id.
    pub fn state_id(&self) -> u16 {
        u16::from_be_bytes(array_at(&self.prefix, 2))
    }

    /// Whether the stored key `key` is of it.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix)
    }

    /// A section that begins with `entry`, in `block`.
    pub(super) fn begin(entry: &Entry<'_>, block: u32) -> Self {
        let hash = hash_of(entry.key);
        Self {
            prefix: section_of(entry.key),
            entry_count: 0,
            tombstone_count: 0,
            first_hash: hash,
            last_hash: hash,
            time_min_ms: entry.time_ms,
            time_max_ms: entry.time_ms,
            first_block: block,
            last_block: block,
        }
    }

    /// Counts `entry`, which is in `block`.
    pub(super) fn add(&mut self, entry: &Entry<'_>, block: u32) {
        self.entry_count += 1;
        self.tombstone_count += u64::from(entry.change == Change::Tombstone);
        self.last_hash = hash_of(entry.key);
        self.last_block = block;
        let stored = |time_ms| stored_time(time_ms);
        self.time_min_ms = given_time(stored(self.time_min_ms).min(stored(entry.time_ms)));
        self.time_max_ms = given_time(stored(self.time_max_ms).max(stored(entry.time_ms)));
    }

    /// Appends the section's row to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        for number in [self.first_block, self.last_block, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.entry_count, self.tombstone_count, self.first_hash, self.last_hash] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for time in [self.time_min_ms, self.time_max_ms] {
            out.extend_from_slice(&stored_time(time).to_le_bytes());
        }
    }

    fn decode(row: &[u8]) -> Self {
        Self {
            prefix: array_at::<SECTION_BYTES>(row, 0),
            first_block: u32_at(row, 12),
            last_block: u32_at(row, 16),
            entry_count: u64_at(row, 24),
            tombstone_count: u64_at(row, 32),
            first_hash: u64_at(row, 40),
            last_hash: u64_at(row, 48),
            time_min_ms: given_time(i64_at(row, 56)),
            time_max_ms: given_time(i64_at(row, 64)),
        }
    }
}

/// The sections in `bytes`, which together have all of `block_count` blocks; `None` if not.
pub(super) fn decode(bytes: &[u8], block_count: u32) -> Option<Vec<Section>> {
    let rows = bytes.chunks_exact(SECTION_ROW_BYTES);
    if !rows.remainder().is_empty() {
        return None;
    }
    let sections: Vec<Section> = rows.map(Section::decode).collect();
    let is_sane = |section: &Section| {
        section.first_block <= section.last_block
            && section.last_block < block_count
            && section.first_hash <= section.last_hash
    };
    let follows = |pair: &[Section]| {
        let [before, after] = pair else { return false };
        let is_shared = after.first_block == before.last_block;
        before.prefix < after.prefix && (is_shared || after.first_block == before.last_block + 1)
    };
    let begins = sections.first().map_or(0, |section| section.first_block) == 0;
    let block_end = sections.last().map_or(0, |section| u64::from(section.last_block) + 1);
    let is_whole = begins
        && block_end == u64::from(block_count)
        && sections.iter().all(is_sane)
        && sections.windows(2).all(follows);
    is_whole.then_some(sections)
}
