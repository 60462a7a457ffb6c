//! An open table, and views of it: where a key is, and what a block that was read says.

use std::ops::Range;
use std::sync::Arc;

use super::block::{Block, Layout};
use super::directory::Section;
use super::entry::{HASH_END, hash_of, section_of};
use super::error::Error;
use super::filter;
use super::footer::{Part, TableMeta};
use super::index::Index;
use super::range::HashRange;
use super::{BLOCK_BYTES_MAX, PAGE_BYTES};
use crate::io::FileId;

/// Bytes of a file that are to be read. Offset and length are multiples of [`PAGE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: usize,
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// It is not in the table.
    Absent,
    /// If it is in the table, it is in this block.
    Block(Want),
}

/// A table whose metadata is in memory.
#[derive(Debug)]
pub struct Table {
    pub(super) file: FileId,
    pub(super) meta: TableMeta,
    pub(super) sections: Vec<Section>,
    /// Metadata as it was read; the ranges are within it.
    pub(super) bytes: Vec<u8>,
    /// Empty if they were left.
    pub(super) filters: Range<usize>,
    pub(super) fences: Range<usize>,
    pub(super) places: Range<usize>,
    pub(super) separators: Range<usize>,
    /// The checksum of all blocks.
    pub(super) blocks_crc: u32,
    /// Where the blocks end in the file.
    pub(super) block_end: u64,
    /// Where the other parts are, in the order of [`Part::ALL`].
    pub(super) parts: [Range<u64>; Part::ALL.len()],
}

impl Table {
    /// The file it was opened from.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// What there is to know of it; the same that its writer gave.
    pub fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// What it has of each key group, state and window bucket, in the order of their stored keys.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// How many blocks it has. They begin at byte 0 and end with [`Table::block_bytes`].
    pub fn block_count(&self) -> u32 {
        self.index().block_count()
    }

    /// Bytes of the file that are blocks.
    pub fn block_bytes(&self) -> u64 {
        self.block_end
    }

    /// Where `part` is in the file.
    pub fn part(&self, part: Part) -> Range<u64> {
        self.parts[part as usize].clone()
    }

    /// Memory that it takes, in bytes.
    pub fn resident_bytes(&self) -> usize {
        self.bytes.capacity() + self.sections.capacity() * size_of::<Section>()
    }

    /// How much of it are filters: none if they were left.
    pub fn filter_bytes(&self) -> usize {
        self.filters.len()
    }

    /// The block of the stored key `key`, if the table may have it.
    ///
    /// # Errors
    /// If the index contradicts itself.
    ///
    /// # Panics
    /// If `key` is too short to be a stored key.
    pub fn locate(&self, key: &[u8]) -> Result<Located, Error> {
        let Ok(at) = self.sections.binary_search_by_key(&section_of(key), |row| row.prefix) else {
            return Ok(Located::Absent);
        };
        let (section, hash) = (&self.sections[at], hash_of(key));
        if hash < section.first_hash || section.last_hash < hash {
            return Ok(Located::Absent);
        }
        let block = self.find(section, hash, &key[HASH_END..])?;
        if !self.may_contain(block, hash)? {
            return Ok(Located::Absent);
        }
        self.place(block).map(Located::Block)
    }

    /// The block of `bytes`, which were read as `want` said.
    ///
    /// # Errors
    /// If they are not those that were written.
    pub fn block<'a>(&self, want: Want, bytes: &'a [u8]) -> Result<Block<'a>, Error> {
        if bytes.len() != want.len {
            return Err(self.corrupt(want.offset, "the file has become shorter"));
        }
        Ok(Block::new(bytes, self.verify(want.offset, bytes)?))
    }

    /// The layout of the block `bytes` that begins at `offset`.
    pub(super) fn verify(&self, offset: u64, bytes: &[u8]) -> Result<Layout, Error> {
        let page = (offset / PAGE_BYTES as u64) as u32;
        Layout::verify(bytes, self.meta.id, page).map_err(|what| self.corrupt(offset, what))
    }

    /// The block in which `hash` and `suffix` are, or would be, in `section`.
    pub(super) fn find(&self, section: &Section, hash: u64, suffix: &[u8]) -> Result<u32, Error> {
        self.index().find(section, hash, suffix).map_err(|what| self.index_corrupt(what))
    }

    /// Whether the filter of `block` lets `hash` pass.
    pub(super) fn may_contain(&self, block: u32, hash: u64) -> Result<bool, Error> {
        if self.filters.is_empty() {
            return Ok(true);
        }
        let filters = &self.bytes[self.filters.clone()];
        let lines = self.index().lines(block, filters).map_err(|what| self.index_corrupt(what))?;
        Ok(filter::may_contain(lines, hash))
    }

    /// Where `block` is.
    pub(super) fn place(&self, block: u32) -> Result<Want, Error> {
        let (offset, len) = self.index().place(block).map_err(|what| self.index_corrupt(what))?;
        debug_assert!(len <= BLOCK_BYTES_MAX);
        Ok(Want { offset, len })
    }

    pub(super) fn index(&self) -> Index<'_> {
        Index {
            fences: &self.bytes[self.fences.clone()],
            places: &self.bytes[self.places.clone()],
            separators: &self.bytes[self.separators.clone()],
        }
    }

    pub(super) fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { file: self.file, offset, what }
    }

    fn index_corrupt(&self, what: &'static str) -> Error {
        self.corrupt(self.block_end, what)
    }
}

/// A table, clipped to the hashes of its owner. The file is not touched: after a rescale two owners
/// have views of one table.
#[derive(Debug, Clone)]
pub struct View {
    table: Arc<Table>,
    hashes: HashRange,
}

impl View {
    /// The view of `table` that has only `hashes`.
    pub fn new(table: Arc<Table>, hashes: HashRange) -> Self {
        Self { table, hashes }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The hashes that it shows.
    pub fn hashes(&self) -> HashRange {
        self.hashes
    }

    /// The block of the stored key `key`, if the view may have it; read it by [`Table::block`].
    ///
    /// # Errors
    /// If the index contradicts itself.
    ///
    /// # Panics
    /// If `key` is too short to be a stored key.
    pub fn locate(&self, key: &[u8]) -> Result<Located, Error> {
        if self.hashes.contains(hash_of(key)) {
            self.table.locate(key)
        } else {
            Ok(Located::Absent)
        }
    }
}
