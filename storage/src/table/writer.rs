//! Writing a table: sorted entries in, pieces of a file out.
//!
//! ```text
//! push ─► block builder ─► piece ─► full_piece() ─► FileOp::Write
//!              │ per block: fence, place, filter lines
//! finish() ─► Ending: next_piece() … None ─► meta()
//! ```
//!
//! A push costs its entry and, once a page is full, the sealing of a block; so a caller with a
//! budget counts the bytes it pushes and stops when they are used up. What is held in memory is one
//! piece, one block, and about 2 % of the file: index and filters.

use std::collections::VecDeque;

use super::block::{BlockBuilder, Shape};
use super::directory::Section;
use super::entry::{Entry, hash_of, key_group_of};
use super::filter::{self, LINE_BYTES};
use super::footer::{Extent, Footer, Part, TableId, TableMeta};
use super::index::IndexBuilder;
use super::range::key_group_of_hash;
use super::{BLOCK_BYTES_MAX, PAGE_BYTES, PIECE_BYTES};
use crate::key::StoredKey;

/// How values lie in their blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// One after the other.
    Packed,
    /// At multiples of 16 bytes, so that archives can be read in place.
    Aligned,
}

/// What is the same for all of a table.
#[derive(Debug, Clone, Copy)]
pub struct WriterConfig {
    /// The table's id, different from those of all tables of the job before it.
    pub id: TableId,
    /// Key groups of the job.
    pub key_group_count: u32,
    /// How values lie.
    pub values: Values,
}

/// Bytes of a table and where they go. Offset and length are multiples of [`PAGE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// First byte in the file.
    pub offset: u64,
    /// What to write there.
    pub bytes: Vec<u8>,
}

/// The entries of one key are larger than a block may be: merge its operands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entries of one key take {bytes} bytes, at most {BLOCK_BYTES_MAX} fit a block")]
pub struct KeyTooLarge {
    /// What they would take.
    pub bytes: usize,
}

/// Makes a table of sorted entries.
#[derive(Debug)]
pub struct Writer {
    config: WriterConfig,
    /// Entries of several key groups may be in one block.
    shares_blocks: bool,
    builder: BlockBuilder,
    index: IndexBuilder,
    sections: Vec<Section>,
    filters: Vec<u8>,
    /// The last key of the block before.
    last_key: Vec<u8>,
    output: Output,
    /// Of the blocks so far.
    blocks: crc32fast::Hasher,
    meta: TableMeta,
}

impl Writer {
    /// A writer of a table without entries.
    ///
    /// # Panics
    /// If there are no key groups, or more than 65,536.
    pub fn new(config: WriterConfig) -> Self {
        assert!((1..=1 << 16).contains(&config.key_group_count), "a key group has 16 bits");
        Self {
            config,
            shares_blocks: false,
            builder: BlockBuilder::new(config.values == Values::Aligned),
            index: IndexBuilder::default(),
            sections: Vec::new(),
            filters: Vec::new(),
            last_key: Vec::new(),
            output: Output::default(),
            blocks: crc32fast::Hasher::new(),
            meta: TableMeta::begin(config.id, config.key_group_count),
        }
    }

    /// Lets blocks have entries of several key groups: a table of few entries would have a page for
    /// each otherwise.
    #[must_use]
    pub fn sharing_blocks(self) -> Self {
        Self { shares_blocks: true, ..self }
    }

    /// Adds `entry`. [`Writer::full_piece`] is to be asked after it.
    ///
    /// # Errors
    /// If the entries of its key are larger than a block may be. The writer cannot go on.
    ///
    /// # Panics
    /// If the key is no stored key, not of the key group of its hash, or smaller than the last one,
    /// or if it is the same and newer: flush and merge have sorted input, so disorder is a bug.
    pub fn push(&mut self, entry: Entry<'_>) -> Result<(), KeyTooLarge> {
        self.check(&entry);
        let mut shape = self.builder.shape_with(&entry);
        if !self.has_room(&entry, &shape) {
            if self.builder.continues(&entry) {
                self.seal_front();
            } else {
                self.seal();
            }
            shape = self.builder.shape_with(&entry);
        }
        let bytes = self.builder.size(&shape);
        if BLOCK_BYTES_MAX < bytes {
            return Err(KeyTooLarge { bytes });
        }
        self.builder.push(&entry, shape);
        self.count(&entry);
        Ok(())
    }

    /// The next piece of the file, if it is full.
    pub fn full_piece(&mut self) -> Option<Piece> {
        (PIECE_BYTES <= self.output.bytes.len()).then(|| self.output.take())
    }

    /// Memory of index, filters and directory so far, in bytes.
    pub fn resident_bytes(&self) -> usize {
        let sections = self.sections.capacity() * size_of::<Section>();
        self.index.resident_bytes() + self.filters.capacity() + sections
    }

    /// There are no more entries: what is left to write.
    pub fn finish(mut self) -> Ending {
        if !self.builder.is_empty() {
            self.meta.last_key = self.builder.last_key().unwrap_or_default().to_vec();
            self.seal();
        }
        let line_count = (self.filters.len() / LINE_BYTES) as u32;
        let index = self.index.finish(self.output.page(), line_count);
        let mut directory = Vec::new();
        self.sections.iter().for_each(|section| section.encode(&mut directory));
        let parts = [
            self.filters,
            index.fences,
            index.places,
            index.separators,
            directory,
            self.meta.encode(),
        ];
        Ending {
            output: self.output,
            blocks_crc: self.blocks.finalize(),
            parts: Part::ALL.into_iter().zip(parts).collect(),
            written_bytes: 0,
            extents: Vec::new(),
            hasher: crc32fast::Hasher::new(),
            meta: self.meta,
            is_complete: false,
        }
    }

    fn check(&self, entry: &Entry<'_>) {
        assert!(StoredKey::decode(entry.key).is_some(), "not a stored key");
        let key_group = key_group_of_hash(hash_of(entry.key), self.config.key_group_count);
        assert_eq!(key_group_of(entry.key), key_group, "a key group is that of its hash");
        let last_key = self.builder.last_key().unwrap_or(&self.last_key);
        let is_newer = self.builder.last_sequence().is_some_and(|last| last < entry.sequence);
        let is_sorted = if entry.key == last_key { !is_newer } else { last_key < entry.key };
        assert!(is_sorted, "entries come in the order of their keys, the newest of a key first");
    }

    /// Whether `entry`, which would give the block `shape`, belongs into it.
    fn has_room(&self, entry: &Entry<'_>, shape: &Shape) -> bool {
        let Some(last_key) = self.builder.last_key() else { return true };
        let is_one_key = self.builder.is_one_key() && last_key == entry.key;
        let fits = self.builder.size(shape) <= PAGE_BYTES;
        let may_share = self.shares_blocks || key_group_of(last_key) == key_group_of(entry.key);
        is_one_key || fits && may_share
    }

    /// Counts `entry`, which is in the builder.
    fn count(&mut self, entry: &Entry<'_>) {
        let block = self.index.block_count();
        match self.sections.last_mut().filter(|section| section.covers(entry.key)) {
            Some(section) => section.add(entry, block),
            None => {
                let mut section = Section::begin(entry, block);
                section.add(entry, block);
                self.sections.push(section);
            }
        }
        self.meta.add(entry);
    }

    /// Seals the block without the entries of its last key, which need one of their own.
    fn seal_front(&mut self) {
        let front = self.builder.split_off_last_key();
        let chain = std::mem::replace(&mut self.builder, front);
        let front_end = self.builder.last_key().unwrap_or_default().to_vec();
        self.seal();
        self.builder = chain;
        // The last section was thought to end in the block that is sealed now.
        let block = self.index.block_count();
        let section = self.sections.last_mut().expect("the chain is in a section");
        if !section.covers(&front_end) {
            section.first_block = block;
        }
        section.last_block = block;
    }

    fn seal(&mut self) {
        let (page, line) = (self.output.page(), (self.filters.len() / LINE_BYTES) as u32);
        let first_key = self.builder.first_key().expect("only blocks with entries are sealed");
        self.index.push(&self.last_key, first_key, page, line);
        let hashes: Vec<u64> = self.builder.hashes().collect();
        filter::append(&hashes, &mut self.filters);
        self.last_key.clear();
        self.last_key.extend_from_slice(self.builder.last_key().unwrap_or_default());
        let begin = self.output.bytes.len();
        self.builder.seal(self.config.id, page, &mut self.output.bytes);
        self.blocks.update(&self.output.bytes[begin..]);
    }
}

/// Bytes on their way into the file.
#[derive(Debug, Default)]
struct Output {
    /// Where `bytes` go.
    offset: u64,
    bytes: Vec<u8>,
}

impl Output {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// The page at which the next block begins.
    fn page(&self) -> u32 {
        u32::try_from(self.end() / PAGE_BYTES as u64).expect("a table has less than 16 TiB")
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE_BYTES), 0);
    }

    /// What there is up to the last full page, at most a piece but for a larger block.
    fn take(&mut self) -> Piece {
        let offset = self.offset;
        let rest = self.bytes.split_off(self.bytes.len() / PAGE_BYTES * PAGE_BYTES);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        self.offset += bytes.len() as u64;
        Piece { offset, bytes }
    }
}

/// The end of a table: index, filters and footer, in pieces.
#[derive(Debug)]
pub struct Ending {
    output: Output,
    blocks_crc: u32,
    /// The sections that are not written yet.
    parts: VecDeque<(Part, Vec<u8>)>,
    /// Bytes of the first of them that are.
    written_bytes: usize,
    /// The sections that are.
    extents: Vec<Extent>,
    hasher: crc32fast::Hasher,
    meta: TableMeta,
    is_complete: bool,
}

impl Ending {
    /// The next piece of the file; `None` once it is complete.
    pub fn next_piece(&mut self) -> Option<Piece> {
        if self.is_complete {
            return None;
        }
        while self.output.bytes.len() < PIECE_BYTES {
            let Some((part, bytes)) = self.parts.front() else {
                self.end();
                return Some(self.output.take());
            };
            if self.written_bytes == 0 && part.begins_page() {
                self.output.pad();
            }
            let room = PIECE_BYTES - self.output.bytes.len();
            let slice_end = bytes.len().min(self.written_bytes + room);
            let slice = &bytes[self.written_bytes..slice_end];
            self.hasher.update(slice);
            self.output.bytes.extend_from_slice(slice);
            self.written_bytes = slice_end;
            if slice_end == bytes.len() {
                let len = bytes.len() as u64;
                let crc = std::mem::take(&mut self.hasher).finalize();
                self.extents.push(Extent { offset: self.output.end() - len, len, crc });
                self.parts.pop_front();
                self.written_bytes = 0;
            }
        }
        Some(self.output.take())
    }

    /// Memory of what is not written yet, in bytes.
    pub fn resident_bytes(&self) -> usize {
        self.parts.iter().map(|(_, bytes)| bytes.capacity()).sum()
    }

    /// What there is to know of the table.
    ///
    /// # Panics
    /// If there are pieces left.
    pub fn meta(self) -> TableMeta {
        assert!(self.is_complete, "the table is complete once its last piece is taken");
        self.meta
    }

    fn end(&mut self) {
        self.output.pad();
        self.meta.length = self.output.end() + PAGE_BYTES as u64;
        let extents = self.extents.as_slice().try_into();
        let footer = Footer {
            table: self.meta.id,
            length: self.meta.length,
            blocks_crc: self.blocks_crc,
            parts: extents.expect("every section was written"),
        };
        self.meta.checksum = footer.encode(&mut self.output.bytes);
        self.is_complete = true;
    }
}
