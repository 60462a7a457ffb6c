//! The footer of a table, and its properties.
//!
//! ```text
//! properties: │ table id │ entries │ tombstones │ min sequence │ max sequence │ key group count │
//!             │  8 bytes │    8    │     8      │      8       │      8       │        8        │
//!             │ first key length │ first key │ last key length │ last key │
//!             │        4         │           │        4        │          │
//! ```

use std::ops::Range;

use super::bytes::{u32_at, u64_at};
use super::entry::{Change, Entry};
use super::error::Error;
use super::{PAGE_BYTES, range::HashRange};
use crate::io::FileId;

/// The first bytes of a footer. The ends of lines notice who takes the file for a text.
const MAGIC: [u8; 8] = *b"\x89MSTBL\r\n";

/// The version of the format: what is written, and the last that is read.
pub const VERSION: u32 = 1;

const CRC_AT: usize = PAGE_BYTES - 4;
const HEADER_BYTES: usize = 40;
const ROW_BYTES: usize = 24;

/// What a table has behind its blocks, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A filter for each block.
    Filters,
    /// The first hash of each block.
    Fences,
    /// Where each block is.
    Places,
    /// What tells blocks of one hash apart.
    Separators,
    /// What there is of each key group, state and window bucket.
    Directory,
    /// What there is to know of the table.
    Properties,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Filters,
        Self::Fences,
        Self::Places,
        Self::Separators,
        Self::Directory,
        Self::Properties,
    ];

    /// Whether it begins a page.
    pub(super) fn begins_page(self) -> bool {
        matches!(self, Self::Filters | Self::Fences)
    }

    /// What is wrong if its checksum is.
    pub(super) fn damage(self) -> &'static str {
        match self {
            Self::Filters => "the checksum of the filters is wrong",
            Self::Fences => "the checksum of the fences is wrong",
            Self::Places => "the checksum of the places is wrong",
            Self::Separators => "the checksum of the separators is wrong",
            Self::Directory => "the checksum of the directory is wrong",
            Self::Properties => "the checksum of the properties is wrong",
        }
    }
}

/// Where a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
}

impl Extent {
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}

/// Tells a table from all others of a job: given by the writer, stored in every checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

/// The footer of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) table: TableId,
    pub(super) length: u64,
    /// The checksum of all blocks.
    pub(super) blocks_crc: u32,
    /// In the order of [`Part::ALL`].
    pub(super) parts: [Extent; Part::ALL.len()],
}

impl Footer {
    /// Appends the last page of the table to `out`. Gives its checksum.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u32 {
        let mut page = MAGIC.to_vec();
        let used = HEADER_BYTES + self.parts.len() * ROW_BYTES;
        for number in [used as u32, VERSION] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.table.0, self.length] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.parts.len() as u32, self.blocks_crc] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        for extent in &self.parts {
            page.extend_from_slice(&extent.offset.to_le_bytes());
            page.extend_from_slice(&extent.len.to_le_bytes());
            page.extend_from_slice(&u64::from(extent.crc).to_le_bytes());
        }
        debug_assert_eq!(page.len(), used);
        page.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&page);
        out.extend_from_slice(&page);
        out.extend_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The footer in the last page of a file of `length` bytes, and its checksum.
    pub(super) fn decode(file: FileId, page: &[u8], length: u64) -> Result<(Self, u32), Error> {
        let offset = length - PAGE_BYTES as u64;
        let corrupt = |what| Err(Error::Corrupt { file, offset, what });
        if page.len() != PAGE_BYTES || page[..MAGIC.len()] != MAGIC {
            return corrupt("it does not end as a table does");
        }
        let crc = u32_at(page, CRC_AT);
        if crc != crc32fast::hash(&page[..CRC_AT]) {
            return corrupt("the checksum of the footer is wrong");
        }
        let found = u32_at(page, 12);
        if VERSION < found {
            return Err(Error::Version { file, found, newest: VERSION });
        }
        let used = HEADER_BYTES + Part::ALL.len() * ROW_BYTES;
        if found != VERSION
            || u32_at(page, 8) as usize != used
            || u32_at(page, 32) as usize != Part::ALL.len()
        {
            return corrupt("the footer is of no known form");
        }
        if u64_at(page, 24) != length {
            return corrupt("the file is not as long as its footer says");
        }
        let parts = std::array::from_fn(|index| {
            let row = HEADER_BYTES + index * ROW_BYTES;
            let [offset, len] = [row, row + 8].map(|at| u64_at(page, at));
            Extent { offset, len, crc: u32_at(page, row + 16) }
        });
        let (table, blocks_crc) = (TableId(u64_at(page, 16)), u32_at(page, 36));
        let footer = Self { table, length, blocks_crc, parts };
        if !footer.is_whole() {
            return corrupt("the sections do not fill the file");
        }
        Ok((footer, crc))
    }

    /// Whether the sections follow one another up to the footer.
    fn is_whole(&self) -> bool {
        let page = PAGE_BYTES as u64;
        let mut end = self.parts[0].offset;
        for (part, extent) in Part::ALL.into_iter().zip(&self.parts) {
            if self.length < end || self.length < extent.len {
                return false;
            }
            let begin = if part.begins_page() { end.next_multiple_of(page) } else { end };
            if extent.offset != begin {
                return false;
            }
            end = begin + extent.len;
        }
        end.next_multiple_of(page) + page == self.length
    }

    pub(super) fn part(&self, part: Part) -> &Extent {
        &self.parts[part as usize]
    }
}

/// What a manifest has to know of a table: equal for the writer and for whoever opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// Which table.
    pub id: TableId,
    /// Bytes of the file.
    pub length: u64,
    /// The checksum of the footer, which has those of the blocks and of all sections.
    pub checksum: u32,
    /// Key groups of the job when it was written: with the hash, they give the key group.
    pub key_group_count: u32,
    /// How many entries it has.
    pub entry_count: u64,
    /// How many of them are tombstones.
    pub tombstone_count: u64,
    /// Smallest sequence; `u64::MAX` without entries.
    pub sequence_min: u64,
    /// Largest sequence; 0 without entries.
    pub sequence_max: u64,
    /// Smallest stored key; empty without entries.
    pub first_key: Vec<u8>,
    /// Largest stored key; empty without entries.
    pub last_key: Vec<u8>,
}

impl TableMeta {
    /// What is known before the first entry.
    pub(super) fn begin(id: TableId, key_group_count: u32) -> Self {
        Self {
            id,
            length: 0,
            checksum: 0,
            key_group_count,
            entry_count: 0,
            tombstone_count: 0,
            sequence_min: u64::MAX,
            sequence_max: 0,
            first_key: Vec::new(),
            last_key: Vec::new(),
        }
    }

    /// The range of key groups, first and last, whose hashes are in `hashes`.
    pub(super) fn key_groups(&self, hashes: HashRange) -> (u16, u16) {
        hashes.key_groups(self.key_group_count)
    }

    /// Counts `entry`, whose key is not smaller than those before it.
    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        if self.entry_count == 0 {
            self.first_key = entry.key.to_vec();
        }
        self.entry_count += 1;
        self.tombstone_count += u64::from(entry.change == Change::Tombstone);
        self.sequence_min = self.sequence_min.min(entry.sequence);
        self.sequence_max = self.sequence_max.max(entry.sequence);
    }

    /// The section of the properties.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [
            self.id.0,
            self.entry_count,
            self.tombstone_count,
            self.sequence_min,
            self.sequence_max,
            u64::from(self.key_group_count),
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for key in [&self.first_key, &self.last_key] {
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(key);
        }
        bytes
    }

    /// What the section `bytes` says of the table of `footer`, or `None` if it cannot be.
    pub(super) fn decode(bytes: &[u8], footer: &Footer, checksum: u32) -> Option<Self> {
        const NUMBERS_BYTES: usize = 48;
        let (numbers, rest) = bytes.split_at_checked(NUMBERS_BYTES)?;
        let (first_key, rest) = split_key(rest)?;
        let (last_key, rest) = split_key(rest)?;
        let key_group_count = u32::try_from(u64_at(numbers, 40)).ok()?;
        let is_sane = rest.is_empty()
            && u64_at(numbers, 0) == footer.table.0
            && (1..=1 << 16).contains(&key_group_count);
        is_sane.then(|| Self {
            id: footer.table,
            length: footer.length,
            checksum,
            key_group_count,
            entry_count: u64_at(numbers, 8),
            tombstone_count: u64_at(numbers, 16),
            sequence_min: u64_at(numbers, 24),
            sequence_max: u64_at(numbers, 32),
            first_key: first_key.to_vec(),
            last_key: last_key.to_vec(),
        })
    }
}

/// A key behind its length, and the rest.
fn split_key(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}
